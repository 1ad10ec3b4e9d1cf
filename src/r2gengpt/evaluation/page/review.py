"""A review of verdicts as one self-contained HTML file, in the style of the report page. Counts nothing itself.

The page has counts, names of models and devices, and no text, film or identifier.
"""

from datetime import UTC, datetime
from pathlib import Path

from r2gengpt.evaluation.page import review_tables
from r2gengpt.evaluation.page.frame import rendered
from r2gengpt.files import write_whole
from r2gengpt.verdicts.review import drift, groups
from r2gengpt.verdicts.review.review import Review
from r2gengpt.version import __version__

TITLE = "Readers’ verdicts on drafts"


def write_review_page(path: Path, review: Review, place: str) -> None:
    """Write the page, whole or not at all.

    Args:
        path: the file.
        review: what stands on it.
        place: of the store, as it may be shown.

    Raises:
        InputError: the file cannot be written.
    """
    page = rendered(
        "review.html",
        title=TITLE,
        review=review,
        tables=review_tables,
        limits=drift,
        fewest=groups.FEWEST,
        provenance=_provenance(review, place),
    )
    write_whole(path, page, "output")


def _provenance(review: Review, place: str) -> dict[str, str]:
    """What the page says of its making."""
    found = review.judged
    models = ", ".join(dict.fromkeys(draft.model for draft in found.drafts)) or "none"
    return {
        "store": place,
        "verdicts": f"{found.verdicts} kept, the newest of a draft counts; {found.withdrawn} drafts were taken back",
        "models": models,
        "texts read by": ", ".join(found.labelers) or "nothing",
        "reference period": review_tables.period_words(review.reference),
        "recent": review_tables.period_words(review.recent),
        "not compared, as no draft has it": ", ".join(review.unknown) or "nothing",
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, r2gengpt {__version__}",
    }
