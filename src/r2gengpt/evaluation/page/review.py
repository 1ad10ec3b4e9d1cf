"""A review of verdicts as one self-contained HTML file, in the style of the report page. Counts nothing itself.

The page has counts, names of models and devices, and no text, film or identifier.
"""

from datetime import UTC, datetime
from pathlib import Path

from markupsafe import Markup

from r2gengpt.errors import InputError
from r2gengpt.evaluation.page import review_tables
from r2gengpt.evaluation.page.page import _digest, _environment, _part
from r2gengpt.files import whole_file
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
    style = _part("page.css")
    page = _environment().get_template("review.html").render(
        title=TITLE,
        style=Markup(style),
        style_hash=_digest(style),
        review=review,
        tables=review_tables,
        limits=drift,
        fewest=groups.FEWEST,
        provenance=_provenance(review, place),
    )  # fmt: skip
    try:
        with whole_file(path) as temporary:
            temporary.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="output", value=path) from None


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
