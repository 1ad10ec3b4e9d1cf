"""`r2gengpt prepare guard`: a model and its films to the film guard beside its weights. Parses no flag."""

from pathlib import Path

from r2gengpt.config import DataConfig
from r2gengpt.errors import InputError
from r2gengpt.locate import ModelChoice


def prepare_guard(
    *, model: str, annotation: str, base_dir: str, output: str | None, films: int, changed: int, seed: int
) -> str:
    """Write the guard; gives what was written, in a line.

    Raises:
        InputError: no such model or annotation, a model without a finding head, films that cannot be read, too few.
    """
    for name, value in (("films", films), ("changed", changed)):
        if value < 1:
            raise InputError("must be at least 1", field=name, value=value, limit=1)
    if seed < 0:
        raise InputError("must be at least 0", field="seed", value=seed, limit=0)
    from r2gengpt.confidence.film_guard import GUARD, write_guard
    from r2gengpt.report import NO_HEAD
    from r2gengpt.reporter import Reporter
    from r2gengpt.training.data import read_splits
    from r2gengpt.training.guarding import Sample, guard_of

    splits = read_splits(DataConfig(annotation=annotation, base_dir=base_dir), reports=False)
    reporter = Reporter.load(ModelChoice(name=model))
    if not reporter.tells_findings:
        raise InputError(NO_HEAD, field="model", value=model)
    guard = guard_of(reporter.built, splits, Sample(films, changed, seed))
    path = Path(output) if output else reporter.directory / GUARD
    write_guard(path, guard)
    return f"{min(films, len(splits['train']))} train, {min(films, len(splits['val']))} val films: {path}"
