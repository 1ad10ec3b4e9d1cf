"""Standard input's CycloneDX to a file, without the directory that the program was installed from."""

import json
import sys
from pathlib import Path


def main() -> None:
    """Write the bill of materials."""
    bill = json.load(sys.stdin)
    for component in (bill["metadata"]["component"], *bill["components"]):
        references = component.get("externalReferences", [])
        component["externalReferences"] = [one for one in references if not one["url"].startswith("file:")]
    Path(sys.argv[1]).write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
