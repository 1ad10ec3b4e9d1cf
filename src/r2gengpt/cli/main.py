"""The command line: `r2gengpt COMMAND …`. Parses and hands over; no logic of its own, no heavy import up here."""

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from r2gengpt.cli.console import clean, take_any_text
from r2gengpt.errors import InputError, RunError, Stopped
from r2gengpt.text.written import shown
from r2gengpt.version import __version__

COMMANDS = {
    "train": "train a model on an annotation file",
    "test": "score a model on a test split: predictions, scores, report page",
    "audit": "whether a model reads the film: answers to changed films and words, a verdict per finding",
    "generate": "write a report for the images of one study",
    "batch": "reports of a whole archive, on this machine or a Ray cluster; goes on where it was ended",
    "score": "score a file of predictions (no model needed)",
    "compare": "two files of predictions: differences of scores, with intervals and p",
    "label": "what reports say of CheXpert's 14 observations, as a file of labels",
    "results": "scores of several tests side by side, published figures beside those measured alike",
    "prepare": "raw IU X-ray or MIMIC-CXR release to annotation.json",
    "convert": "original R2GenGPT .pth checkpoint to ours",
    "serve": "the model behind HTTP: OpenAI's chat completions, reports of uploaded studies",
    "review": "what readers made of drafts: acceptance, corrections, drift, as a page",
    "keys": "API keys of serve, each with its roles: made, listed, removed",
    "audit-log": "whether the audit log of serve, listen and the like is as it was written",
    "listen": "films in by DICOM C-STORE, a report of each study back to the archive",
    "dicomweb": "one study from a DICOMweb server, its report back to it",
    "worklist": "work items of a DICOM worklist (UPS-RS): claimed, drafted, stored, completed",
    "export": "trained checkpoint to one plain Hugging Face directory",
    "quantize": "a language model once into 8 or 4 bits",
    "plan": "parameters and memory of a model, from its configuration alone",
    "pull": "fetch the embedded default model into the cache",
    "doctor": "what is installed here, what will be slow and why, and the command that mends it",
    "completion": "a script by which a shell completes commands, flags and files",
}
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What the system answers where nothing more can be written."""
NO_WAY = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM)
"""What it answers to a path that the user gave and nobody can follow."""


def usage() -> str:
    """The help text of the program."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            f"r2gengpt {__version__}: radiology reports from chest X-rays. Drafts for research, not for diagnosis.",
            "",
            "usage: r2gengpt COMMAND [flags]        r2gengpt help COMMAND",
            "",
            *lines,
        ]
    )


def module_of(command: str) -> str:
    """The module of a command."""
    return f"r2gengpt.cli.commands.{command.replace('-', '_')}"


def asked_by_help(words: Sequence[str]) -> list[str]:
    """`help COMMAND [all|WORD]` as `COMMAND --help [all|WORD]`; `help prepare KIND` as `prepare KIND --help`.

    >>> asked_by_help(["train", "lora"]), asked_by_help(["prepare", "films"])
    (['train', '--help', 'lora'], ['prepare', 'films', '--help'])
    """
    named = 2 if words[0] == "prepare" else 1
    return [*words[:named], "--help", *words[named:]]


def say(command: str, message: str) -> None:
    """The one line a failed command ends with, on stderr; a progress bar that still stands there is closed first."""
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    for bar in list(getattr(bars, "_instances", ())):
        bar.close()
    print(f"r2gengpt {command}: {clean(message)}", file=sys.stderr)


def run(command: str, argv: Sequence[str]) -> int:
    """Run one command and turn its errors into exit codes: 0 done, 2 the user's input is wrong, 1 our fault."""
    take_any_text()
    try:
        module = importlib.import_module(module_of(command))
        module.main(list(argv))
        print(end="", flush=True)  # what is printed has gone out, or an error says so; without stdout nothing has
    except InputError as error:
        say(command, error.line)
        return 2
    except RunError as error:
        say(command, error.line)
        return 1
    except UnicodeEncodeError as error:
        if error.object == shown(error.object):
            raise
        say(command, f"{error.object[:200]}: is not UTF-8, and what takes it here needs that: rename it")
        return 2
    except (MemoryError, RuntimeError) as error:
        from r2gengpt.cli.memory import is_out_of_memory, what_to_try

        if not is_out_of_memory(error):
            raise
        say(command, f"out of memory; try in this order: {what_to_try(command, argv)}")
        return 1
    except Stopped as stopped:
        say(command, str(stopped))
        return 130
    except KeyboardInterrupt:
        say(command, "stopped")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in (*NO_ROOM, *NO_WAY):
            raise
        say(command, f"{error.filename or 'a file that was to be written'}: {error.strerror}")
        return 2 if error.errno in NO_WAY else 1
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the `r2gengpt` program."""
    take_any_text()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) > 1 and arguments[0] == "help":
        arguments = asked_by_help(arguments[1:])
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        raise SystemExit(0 if arguments else 2)
    if arguments[0] == "--version":
        print(__version__)
        raise SystemExit(0)
    command, *rest = arguments
    if command not in COMMANDS:
        from r2gengpt.options import nearest

        print(f"r2gengpt: unknown command {command}{nearest(command, COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: whole files only, exit code 130
    raise SystemExit(run(command, rest))
