"""A report as it was written, and what is to be told of it: confidence, doubts, marks for review. Changes no word."""

from collections.abc import Sequence

from r2gengpt.confidence.calibration import Calibration, with_confidence
from r2gengpt.confidence.changes import without_prior
from r2gengpt.confidence.contradictions import reviewed
from r2gengpt.confidence.film_doubts import doubted
from r2gengpt.films.facts import FilmFacts
from r2gengpt.report import Report


def judged(
    report: Report, calibration: Calibration | None, abstain_below: float | None, facts: Sequence[FilmFacts] = ()
) -> Report:
    """A report with confidence in its sentences, marks on those that need review, and doubts about its films.

    Args:
        report: as it was written.
        calibration: of the model that wrote it; None: there is none.
        abstain_below: sentences less sure than this are marked.
        facts: of its films, where they are known.
    """
    sure = with_confidence(doubted(report, facts), calibration, abstain_below)
    return without_prior(reviewed(sure))
