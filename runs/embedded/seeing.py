"""Writes a checkpoint of what sees in another one: the encoder's LoRA and the finding head, without any writer.

python runs/embedded/seeing.py --model save/reports --output save/seeing
"""

import argparse
import json
import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from r2gengpt.checkpoint_files import CONFIG, DELTA
from r2gengpt.files import whole_directory

SEEING = ("vision_tower.", "finding_head.")
WRITING = {"llm_use_lora": False, "findings_hint": False, "findings_only": True}


def main() -> None:
    """Keep these tensors, and the settings that fit them."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint with a finding head")
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    args = parser.parse_args()
    with safe_open(args.model / DELTA, "pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys() if name.startswith(SEEING)}  # noqa: SIM118
        told = file.metadata()
    settings = json.loads((args.model / CONFIG).read_text(encoding="utf-8")) | WRITING
    settings.pop("opening", None)
    with whole_directory(args.output) as target:
        save_file(kept, target / DELTA, told)
        (target / CONFIG).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        for file_name in ("findings.json", "processor_config.json"):
            shutil.copy(args.model / file_name, target)
    print(f"{len(kept)} tensors: {args.output}")


if __name__ == "__main__":
    main()
