"""The command line: `r2gengpt COMMAND …`. Parses and hands over; no logic of its own, no heavy import up here."""

import importlib
import os
import sys
from collections.abc import Sequence

from r2gengpt import __version__
from r2gengpt.errors import InputError, RunError

COMMANDS = {
    "train": "train a model on an annotation file",
    "test": "score a model on a test split: predictions, scores, report page",
    "generate": "write a report for the images of one study",
    "score": "score a file of predictions (no model needed)",
    "prepare": "raw IU X-ray or MIMIC-CXR release to annotation.json",
    "convert": "original R2GenGPT .pth checkpoint to ours",
    "export": "trained checkpoint to one plain Hugging Face directory",
    "plan": "parameters and memory of a model, from its configuration alone",
    "pull": "fetch the embedded default model into the cache",
}


def usage() -> str:
    """The help text of the program."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            f"r2gengpt {__version__}: radiology reports from chest X-rays. Drafts for research, not for diagnosis.",
            "",
            "usage: r2gengpt COMMAND [flags]        r2gengpt COMMAND --help",
            "",
            *lines,
        ]
    )


def say(command: str, message: str) -> None:
    """The one line a failed command ends with, on stderr; a progress bar that still stands there is closed first."""
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    for bar in list(getattr(bars, "_instances", ())):
        bar.close()
    print(f"r2gengpt {command}: {' '.join(message.split())}", file=sys.stderr)


SAVERS = {
    "train": "--batch_size 1 --accumulate_grad_batches 6 (the same step, less at once), --quantization nf4 "
    "--llm_use_lora True (frozen weights in 4 bits), --max_length 60 (shorter reports learnt)",
    "test": "--test_batch_size 1, --beam_size 1 (one beam's cache), --quantization nf4 (weights in 4 bits)",
    "generate": "--beam_size 1 (one beam's cache), --quantization nf4 (weights in 4 bits), --dtype bfloat16",
}
"""What saves memory, the mildest first, by command."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, PyTorch's CPU allocator or a GPU said that memory is at an end; told by name and words."""
    words = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(phrase in words for phrase in ("out of memory", "not enough memory", "can't allocate memory"))
    )


def run(command: str, argv: Sequence[str]) -> int:
    """Run one command and turn its errors into exit codes: 0 done, 2 the user's input is wrong, 1 our fault."""
    try:
        module = importlib.import_module(f"r2gengpt.cli.{command}")
        module.main(list(argv))
    except InputError as error:
        say(command, str(error))
        return 2
    except RunError as error:
        say(command, str(error))
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        say(command, f"out of memory; try in this order: {SAVERS.get(command, SAVERS['test'])}")
        return 1
    except KeyboardInterrupt:
        say(command, "stopped")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the `r2gengpt` program."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        raise SystemExit(0 if arguments else 2)
    if arguments[0] == "--version":
        print(__version__)
        raise SystemExit(0)
    command, *rest = arguments
    if command not in COMMANDS:
        from r2gengpt.cli.bridge import nearest

        print(f"r2gengpt: unknown command {command}{nearest(command, COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(run(command, rest))
