"""Why a name could not be had from the model hub, in a line that says what to do. Asks the hub for nothing itself."""

from collections.abc import Iterator

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

LOCAL = "a local directory works too"


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from or after, the outermost first (transformers wraps the hub's errors)."""
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__ or following.__context__


def hub_reason(error: BaseException, name: str) -> str | None:
    """What stands between the user and a hub name, and what to do about it; None where it is not the hub's doing.

    Args:
        error: what `from_pretrained` raised.
        name: a hub name, no directory.
    """
    found = {kind: cause for cause in causes(error) for kind in type(cause).__mro__}
    if GatedRepoError in found:  # a RepositoryNotFoundError too, so it comes first
        return _gated(name)
    if RepositoryNotFoundError in found:
        return (
            f"the hub {constants.ENDPOINT} has no model of this name, or it is private: check the name, or set "
            f"HF_TOKEN to the token of an account that may read it; {LOCAL}"
        )
    if (answer := found.get(HfHubHTTPError)) is not None:  # the library says of this too that there is no connection
        status = answer.response.status_code  # type: ignore[attr-defined]  # found is typed by the base class
        return (
            f"the hub {constants.ENDPOINT} answered with error {status}: try again later, or name a mirror in "
            f"HF_ENDPOINT; {LOCAL}"
        )
    if LocalEntryNotFoundError in found or OfflineModeIsEnabled in found:
        return _offline() if constants.is_offline_mode() else _unreachable()
    if constants.is_offline_mode() and "Can't load" in str(error):  # image processors drop the cause
        return _offline()
    return None


def _gated(name: str) -> str:
    page = f"{constants.ENDPOINT}/{name}"
    if get_token() is None:
        return (
            f"its licence must be accepted on the hub first ({page}), then set HF_TOKEN to a token of that account; "
            f"{LOCAL}"
        )
    return (
        f"the account of your token (HF_TOKEN) has not been let in: accept the licence on {page} and wait for the "
        f"owner's consent if it asks for it; {LOCAL}"
    )


def _offline() -> str:
    return (
        f"is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE keeps the library off the network: unset "
        f"it, or set HF_HOME to where the cache is; {LOCAL}"
    )


def _unreachable() -> str:
    return (
        f"the hub {constants.ENDPOINT} cannot be reached, and the cache {constants.HF_HUB_CACHE} does not hold it: "
        f"check the network, name a mirror in HF_ENDPOINT, or set HF_HOME to where the cache is; {LOCAL}"
    )
