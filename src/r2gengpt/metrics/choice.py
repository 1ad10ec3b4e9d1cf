"""Which families of metrics a score has, and why others are missing. Measures nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r2gengpt.metrics.families import Family
from r2gengpt.metrics.labels.family import LABELS, NOT_ASKED, NOT_INSTALLED
from r2gengpt.metrics.labels.reading import is_available
from r2gengpt.metrics.measure import FAMILIES


@dataclass(frozen=True)
class Choice:
    """Families to measure, and name → reason for each metric that cannot be measured here."""

    families: tuple[Family, ...]
    not_available: Mapping[str, str]


def choose(*, labels: bool = False, meteor: str = "none", clinical: Sequence[str] = ()) -> Choice:
    """What can be measured here. One that needs something more is added here, or named with why not.

    Args:
        labels: clinical labels too; the first text takes seconds, because spaCy is imported.
        meteor: one of `config.METEOR_NAMES`: `jar` is METEOR 1.5 as pycocoevalcap runs it (Java, some seconds to
            start), exact_stem a metric without Java, synonyms and paraphrases under its own name.
        clinical: of `clinical_models.NAMES`, each of which loads a model at the first text.
    """
    added, missing = _meteor(meteor)
    families = [*FAMILIES, *added]
    for name in clinical:
        from r2gengpt.metrics.clinical_models import clinical_family

        if isinstance(family := clinical_family(name), str):
            missing[name] = family
        else:
            families.append(family)
    if labels and is_available():
        families.append(LABELS)
    else:
        missing["clinical"] = NOT_INSTALLED if labels else NOT_ASKED
    return Choice(tuple(families), missing)


def _meteor(kind: str) -> tuple[tuple[Family, ...], dict[str, str]]:
    """The family of METEOR, or why there is none."""
    if kind == "none":
        return (), {"meteor": "not asked for (--meteor jar)"}
    if kind == "exact_stem":
        from r2gengpt.metrics.meteor_python import NAME, exact_stem_family

        family, missing = exact_stem_family(), {"meteor": "not asked for (--meteor jar)"}
        return ((), {**missing, NAME: family}) if isinstance(family, str) else ((family,), missing)
    from r2gengpt.metrics import meteor_jar
    from r2gengpt.metrics.meteor import meteor_family

    place = meteor_jar.find()
    if isinstance(place, str):
        return (), {"meteor": place}
    return (meteor_family("meteor", lambda pairs: meteor_jar.shared(place).rows(pairs)),), {}
