"""Lists the tests that `make test` leaves to `make test-slow`, from what a whole run took. No test stands here.

    make test-all PYTEST="--durations=0 --durations-min=0.3" > build/durations.txt
    python tests/slow.py build/durations.txt --seconds 2 > tests/slow.txt

A test stands in the list with all its parameters: its seconds are those of all of them together.
"""

import argparse
import re
from collections import defaultdict
from pathlib import Path

LIST = Path(__file__).with_suffix(".txt")
LINE = re.compile(r"^([\d.]+)s (?:call|setup|teardown)\s+tests/([\w/]+\.py::\w+)", re.MULTILINE)


def slow_tests() -> frozenset[str]:
    """The list as it is kept: FILE::NAME."""
    return frozenset(LIST.read_text(encoding="utf-8").split())


def measured(text: str) -> dict[str, float]:
    """FILE::NAME → seconds, from what pytest prints of durations."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for took, name in LINE.findall(text):
        seconds[name] += float(took)
    return dict(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("durations", type=Path, help="what pytest printed")
    parser.add_argument("--seconds", type=float, default=2.0, help="tests that take longer are listed (2)")
    args = parser.parse_args()
    seconds = measured(args.durations.read_text(encoding="utf-8"))
    print("\n".join(sorted(name for name, took in seconds.items() if took > args.seconds)))


if __name__ == "__main__":
    main()
