"""The review of a store's verdicts, read from its address. Keeps and changes no verdict."""

from contextlib import closing

from r2gengpt.errors import RunError
from r2gengpt.settings import VerdictsConfig
from r2gengpt.verdicts.address import opened_store, reason_of, shown_address
from r2gengpt.verdicts.review.review import Review, review


def stored_review(config: VerdictsConfig) -> Review:
    """Read all verdicts of the store, and review them.

    Raises:
        InputError: there is no such store, or the reference period is wrong.
        RunError: the database failed meanwhile.
    """
    store = opened_store(config.verdicts, is_read=True)
    from sqlalchemy.exc import SQLAlchemyError

    with closing(store):
        try:
            return review(store.history(), config)
        except SQLAlchemyError as error:
            raise RunError(f"`verdicts` {shown_address(config.verdicts)}: {reason_of(error)}") from None
