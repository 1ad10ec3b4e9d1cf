"""Bearer tokens of an OpenID provider (JWT): whose they are, and which roles they give. Fetches nothing itself.

Checked are the signature, by a key that the provider lists, and `iss`, `aud`, `exp`, `nbf`, `iat` and `sub`.
Source: RFC 7519; RFC 8725 (algorithms are ours to choose, never the token's); RFC 9068 (type).
"""

import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import Any

from r2gengpt.errors import InputError, installing, one_line
from r2gengpt.serving.access import Caller
from r2gengpt.serving.failures import ApiError
from r2gengpt.serving.issuer import ALGORITHMS, Issuer, IssuerOut, WrongIssuer, check_url, fetcher
from r2gengpt.serving.keys import ROLES
from r2gengpt.settings import ServeConfig

LEEWAY = 30
"""Seconds that two clocks may differ by."""
LONGEST_HEADER, LONGEST_NAME = 4096, 200
TYPES = ("jwt", "at+jwt", "application/at+jwt")
"""What a token may call itself, if it does: not a logout token, nor a proof of possession."""
OF_CLAIM = {"iss": "it is of another issuer", "aud": "it is for another audience", "nbf": "it is not valid yet",
            "iat": "it was issued in the future", "sub": "it names nobody", "exp": "its end is no time"}  # fmt: skip


class TokenRefused(Exception):
    """A token lets nobody in: one line why."""


def issuer_of(settings: ServeConfig) -> Issuer:
    """The provider that the settings name.

    Raises:
        InputError: joserfc is not installed, it is no address of https, or the file of certificates cannot be used.
    """
    try:
        check_url(str(settings.oidc_issuer))
    except ValueError as error:
        raise InputError(str(error), field="oidc_issuer", value=settings.oidc_issuer) from None
    if importlib.util.find_spec("joserfc") is None:
        raise InputError(f"needs joserfc: {installing('oidc')}", field="oidc_issuer", value=settings.oidc_issuer)
    return Issuer(str(settings.oidc_issuer), fetcher(settings.oidc_ca_file))


def roles_in(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """The roles that a claim holds, in a list or between blanks; others than this server's count for nothing.

    Args:
        claims: of a token.
        name: of the claim; where there is none of this name, a path of names with dots between them.

    >>> sorted(roles_in({"realm_access": {"roles": ["report", "offline"]}}, "realm_access.roles"))
    ['report']
    >>> sorted(roles_in({"https://a.example/roles": "read admin"}, "https://a.example/roles"))
    ['admin', 'read']
    """
    found: Any = claims.get(name)
    if found is None:
        found = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    claimed = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
    return frozenset(role for role in ROLES if role in claimed)


class Tokens:
    """What checks tokens.

    Args:
        settings: issuer, audience, and the claim of roles.
        issuer: whose keys; None: that of the settings.
        now: seconds since 1970.
    """

    def __init__(
        self, settings: ServeConfig, issuer: Issuer | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.issuer = issuer or issuer_of(settings)
        self.audience, self.role_claim, self.now = str(settings.oidc_audience), settings.oidc_role_claim, now

    async def caller(self, token: str) -> Caller | ApiError:
        """Whose a token is, or why it lets nobody in."""
        try:
            claims = await self.claims(token)
        except TokenRefused as error:
            challenge = f'Bearer error="invalid_token", error_description="{error}"'
            return ApiError(401, f"Authorization: the token is refused: {error}", "invalid_token",
                            {"Connection": "close", "WWW-Authenticate": challenge})  # fmt: skip
        except IssuerOut:
            words = "tokens cannot be checked now, as their issuer does not answer"
            return ApiError(503, words, None, {"Connection": "close", "Retry-After": "10"})
        name = one_line(claims["sub"])[:LONGEST_NAME]
        return Caller(name, roles_in(claims, self.role_claim), "token", self.issuer.url)

    async def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token that is right.

        Raises:
            TokenRefused: it is not.
            IssuerOut: that cannot be known.
        """
        from joserfc import errors, jws, jwt

        registry = jws.JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
        registry.max_header_length = LONGEST_HEADER
        try:
            header = jws.extract_compact(token.encode(), registry=registry).headers()
        except Exception:  # a parser over bytes of strangers: anything may come
            raise TokenRefused("it is no signed token (JWT)") from None
        kid, algorithm = header.get("kid"), header.get("alg")
        if algorithm not in ALGORITHMS:
            raise TokenRefused(f"it must be signed with one of {', '.join(ALGORITHMS)}")
        if str(header.get("typ", "JWT")).lower() not in TYPES or not isinstance(kid, str | None):
            raise TokenRefused("it is no token of access")
        key = await self.issuer.key(kid)
        if key is None or (key.alg or algorithm) != algorithm:
            raise TokenRefused("it is signed with a key that its issuer does not list")
        try:
            claims = jwt.decode(token, key, registry=registry).claims
            self._check(claims)
        except errors.ExpiredTokenError:
            raise TokenRefused("it has expired") from None
        except (errors.InvalidClaimError, errors.MissingClaimError) as error:
            is_missing = isinstance(error, errors.MissingClaimError)
            raise TokenRefused(f"it has no {error.claim}" if is_missing else OF_CLAIM[str(error.claim)]) from None
        except Exception:  # of the library, from a stranger's bytes: nobody is let in by it
            raise TokenRefused("its signature is not right") from None
        return claims

    def check_issuer(self) -> str:
        """Ask the provider for its keys once; why that did not succeed, or "": then they are asked for again.

        Raises:
            InputError: another provider is there than the settings name.
        """
        try:
            self.issuer.fetch_keys()
        except WrongIssuer as error:
            raise InputError(str(error), field="oidc_issuer", value=self.issuer.url) from None
        except IssuerOut as error:
            return str(error)
        return ""

    def _check(self, claims: dict[str, Any]) -> None:
        """Refuse claims that are not for this server now; raises errors of joserfc."""
        from joserfc.jwt import JWTClaimsRegistry

        needed: dict[str, Any] = {
            "iss": {"essential": True, "value": self.issuer.url},
            "aud": {"essential": True, "value": self.audience},
            "exp": {"essential": True},
            "sub": {"essential": True},
        }
        JWTClaimsRegistry(now=int(self.now()), leeway=LEEWAY, **needed).validate(claims)
