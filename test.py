"""The original's command: `python test.py …` is `r2gengpt test …`."""

import sys

from r2gengpt.cli.main import main

main(["test", *sys.argv[1:]])
