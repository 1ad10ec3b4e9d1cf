"""Where the predictions of a test lie, and by which convention they were scored. Scores nothing."""

import json
from dataclasses import dataclass
from pathlib import Path

from r2gengpt.errors import InputError
from r2gengpt.metrics.records import Signature


@dataclass(frozen=True)
class Results:
    """A file of predictions, what messages call it, and the signature of the scores beside it, where there are any."""

    name: str
    predictions: Path
    signature: Signature | None = None


def scores_in(path: Path, split: str) -> Path | None:
    """The scores.json that a path names: the file, its directory, or a run with results of the split; None: none."""
    tried = [path] if path.is_file() else [path / "scores.json", path / f"results-{split}" / "scores.json"]
    return next((file for file in tried if file.is_file()), None)


def locate_results(path: Path, name: str, split: str | None) -> Results:
    """What a path names: predictions, or a scores.json, as `scores_in` finds it, that has predictions.jsonl beside it.

    Args:
        path: the file or directory.
        name: what messages call it.
        split: whose results are meant of a run; None: test.

    Raises:
        InputError: a directory without scores.json, a signature that cannot be read, or no predictions beside it.
    """
    of_run = split or "test"
    file = scores_in(path, of_run) if path.is_dir() else path
    if file is None:
        raise InputError(f"{name} {path}: has no scores.json, nor has results-{of_run} in it")
    if file.suffix != ".json":
        return Results(name, path)
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{name} {file}: {error.strerror}") from None
    except (OSError, ValueError, RecursionError):  # the reader of predictions says what is wrong with it
        return Results(name, file)
    if not (isinstance(content, dict) and isinstance(content.get("metrics"), dict) and "signature" in content):
        return Results(name, file)
    beside = file.with_name("predictions.jsonl")
    if not beside.is_file():
        raise InputError(f"{name} {file}: scores are compared by their texts, and no predictions.jsonl lies beside it")
    return Results(name, beside, Signature.parse(str(content["signature"]), f"{name} {file}"))
