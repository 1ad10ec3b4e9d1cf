"""An OpenID provider on this machine, its keys and its tokens, for tests. No test stands here."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwk, jws, jwt

from r2gengpt.serving.issuer import ALGORITHMS, DISCOVERY

AUDIENCE = "r2gengpt"
KEYS = "/keys"
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


@cache
def rsa_key(kid: str) -> jwk.RSAKey:
    """A key of this name, made once for all tests."""
    return jwk.RSAKey.generate_key(2048, {"kid": kid})


@cache
def ec_key(kid: str, curve: str = "P-256") -> jwk.ECKey:
    return jwk.ECKey.generate_key(curve, {"kid": kid})


def key_for(algorithm: str, kid: str = "first") -> Any:
    """A key that signs by an algorithm."""
    return ec_key(f"{kid}-{algorithm}", CURVES[algorithm]) if algorithm in CURVES else rsa_key(kid)


class LocalIssuer:
    """What an OpenID provider answers, and how often it was asked.

    Attributes:
        documents: path → body, which tests may change; a callable is called for its body.
        status: of every answer.
        asked: paths, in their order.
    """

    def __init__(self) -> None:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                found = issuer.documents.get(self.path)
                body = found() if callable(found) else found
                status = issuer.status if body is not None else 404
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", issuer.url + KEYS)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *words: Any) -> None:
                """No lines."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.asked: list[str] = []
        self.status = 200
        self.documents: dict[str, bytes | Callable[[], bytes]] = {}
        self.configure()
        self.publish(*(key_for(algorithm) for algorithm in ALGORITHMS))
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def configure(self, **changes: Any) -> None:
        """What its configuration says."""
        configuration = {"issuer": self.url, "jwks_uri": self.url + KEYS, **changes}
        self.documents[DISCOVERY] = json.dumps(configuration).encode()

    def publish(self, *keys: Any) -> None:
        """List these keys, and no others."""
        unique = {key.kid: key.as_dict(private=False) for key in keys}
        self.documents[KEYS] = json.dumps({"keys": list(unique.values())}).encode()

    def token(
        self,
        roles: Any = ("report",),
        /,
        *,
        algorithm: str = "RS256",
        key: Any = None,
        header: Any = None,
        **claims: Any,
    ) -> str:
        """A token that is right but for what is changed; a claim that is None is left out."""
        key = key or key_for(algorithm)
        now = int(time.time())
        values = {"iss": self.url, "aud": AUDIENCE, "sub": "reader", "iat": now, "exp": now + 300, "roles": list(roles)}
        said = {name: value for name, value in {**values, **claims}.items() if value is not None}
        named = {"alg": algorithm, "kid": key.kid, "typ": "JWT", **(header or {})}
        named = {name: value for name, value in named.items() if value is not None}
        registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
        return jwt.encode(named, said, key, registry=registry)


@contextmanager
def local_issuer() -> Iterator[LocalIssuer]:
    one = LocalIssuer()
    try:
        yield one
    finally:
        one.close()
