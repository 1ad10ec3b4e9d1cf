"""Who asks: an Authorization header to a caller with roles, and what a caller may not do. Answers nothing."""

import hmac
import os
from collections.abc import Sequence
from pathlib import Path

from r2gengpt.errors import InputError
from r2gengpt.serving.access import ANYBODY, OPEN, Caller, Wanted
from r2gengpt.serving.failures import ApiError
from r2gengpt.serving.keys import ADMIN, READ, REPORT, KeyFile
from r2gengpt.serving.tokens import Tokens
from r2gengpt.settings import ServeConfig

KEYS_VARIABLE = "R2GENGPT_API_KEYS"
SHORTEST_KEY = 16
LONGEST_TOKEN = 16_384
"""Characters of a credential; longer ones are nobody's."""
CLOSE = {"Connection": "close"}
OF_PLAIN_KEYS = frozenset({READ, REPORT})
"""What a key without roles may do: all that is no operator's."""


def read_keys(settings: ServeConfig) -> tuple[bytes, ...]:
    """The API keys of `api_key_file`, else of the environment; none where neither is set.

    Raises:
        InputError: no such file, no key in it, or a key that is too short, or has signs that clients send variously.
    """
    if settings.api_key_file is not None:
        source = f"`api_key_file` {settings.api_key_file}"
        try:
            lines = Path(settings.api_key_file).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"{source}: {getattr(error, 'strerror', None) or 'is no text'}") from None
    else:
        source, lines = KEYS_VARIABLE, os.environ.get(KEYS_VARIABLE, "").replace(",", "\n").split()
        if KEYS_VARIABLE not in os.environ:
            return ()
    texts = [key for key in map(str.strip, lines) if key and not key.startswith("#")]
    if not texts:
        raise InputError(f"{source}: holds no key")
    if not all(key.isascii() and key.isprintable() for key in texts):
        raise InputError(f"{source}: a key has signs besides printable ASCII, which not every client can send")
    keys = tuple(key.encode() for key in texts)
    if (shortest := min(map(len, keys))) < SHORTEST_KEY:
        raise InputError(f"{source}: a key has {shortest} characters: at least {SHORTEST_KEY}")
    return keys


def credential_of(authorization: str) -> str:
    """What an Authorization header holds in the scheme Bearer; "" where it holds nothing."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def place_of_key(key: str, keys: Sequence[bytes]) -> int | None:
    """Which of the keys this is; each is compared whole."""
    found = None
    for at, known in enumerate(keys):
        if hmac.compare_digest(key.encode(), known):
            found = at
    return found


class Identity:
    """Who may ask this server.

    Attributes:
        plain: keys without roles.
        keys: keys with roles.
        tokens: checks tokens of an OpenID provider.
        asks: the server asks for a key or a token at all.
        has_roles: some callers may do less than others, so that operators' routes are theirs.

    Raises:
        InputError: a file of keys or certificates cannot be used, or a package is missing.
    """

    def __init__(self, settings: ServeConfig) -> None:
        self.plain = read_keys(settings)
        self.keys = None if settings.api_keys is None else KeyFile(Path(settings.api_keys))
        self.tokens = None if settings.oidc_issuer is None else Tokens(settings)
        self.has_roles = self.keys is not None or self.tokens is not None
        self.asks = bool(self.plain) or self.has_roles

    async def caller(self, authorization: str) -> Caller | ApiError:
        """Who sends this header; or what is answered where it is nobody that is known."""
        if not self.asks:
            return ANYBODY
        key = credential_of(authorization)
        if not key or len(key) > LONGEST_TOKEN:
            return not_known()
        if (at := place_of_key(key, self.plain)) is not None:
            return Caller(f"key {at + 1}", OF_PLAIN_KEYS, "key")
        if self.keys is not None and (entry := self.keys.find(key)) is not None:
            return Caller(entry.name, frozenset(entry.roles), "key")
        if self.tokens is not None and key.count(".") == 2:
            return await self.tokens.caller(key)
        return not_known()

    def needs_nobody(self, wanted: Wanted, path: str) -> bool:
        """Whether a request comes in whoever asks: the server has no keys, or the route is open."""
        is_open = wanted.roles == OPEN or (not self.has_roles and not path.startswith("/v1/"))
        return not self.asks or (is_open and wanted.roles is not None)


def not_known() -> ApiError:
    """Nobody that is known asks."""
    words = "Authorization: needs one of this server's keys"
    return ApiError(401, words, "invalid_api_key", {**CLOSE, "WWW-Authenticate": "Bearer"})


def not_allowed(caller: Caller, roles: frozenset[str]) -> ApiError:
    """A caller asks for what its roles do not hold."""
    has, needs = ", ".join(sorted(caller.roles)) or "none", " or ".join(sorted(roles))
    words = f"Authorization: this address is for {needs}, and the roles of this {caller.how} are: {has}"
    return ApiError(403, words, "insufficient_permissions", CLOSE)


def is_operator(caller: Caller | None) -> bool:
    """Whether a caller may use routes that the table has not."""
    return caller is not None and ADMIN in caller.roles
