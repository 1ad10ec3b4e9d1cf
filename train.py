"""The original's command: `python train.py …` is `r2gengpt train …`."""

import sys

from r2gengpt.cli.main import main

main(["train", *sys.argv[1:]])
