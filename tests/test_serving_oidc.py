"""Bearer tokens: which let in, with which roles; which are refused and why; and what a provider that is out changes."""

import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from oidc_parts import AUDIENCE, KEYS, LocalIssuer, ec_key, key_for, local_issuer, rsa_key
from r2gengpt.cli.main import run
from r2gengpt.errors import InputError
from r2gengpt.serving.app import create_app
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.identity import KEYS_VARIABLE, Identity
from r2gengpt.serving.issuer import (
    ALGORITHMS,
    DISCOVERY,
    FRESH,
    KEPT,
    MOST_BYTES,
    PAUSE,
    Issuer,
    IssuerOut,
    fetcher,
    usable_keys,
)
from r2gengpt.serving.server import warn_if_open
from r2gengpt.serving.tokens import Tokens
from r2gengpt.settings import ServeConfig

MODELS, REPORTS, NUMBERS = "/v1/models", "/v1/reports", "/metrics"


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with local_issuer() as one:
        yield one


def config(issuer: LocalIssuer, **more: Any) -> ServeConfig:
    return ServeConfig(**{"oidc_issuer": issuer.url, "oidc_audience": AUDIENCE, **more})


def client_for(issuer: LocalIssuer, **more: Any) -> TestClient:
    """A client of a server whose model is not there: who is let in gets 503 from its routes."""
    return TestClient(create_app(Generator(1, 1), config(issuer, **more)), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def client(issuer: LocalIssuer) -> Iterator[TestClient]:
    with client_for(issuer) as one:
        yield one


def ask(client: TestClient, token: str, path: str = MODELS) -> Any:
    method = "POST" if path == REPORTS else "GET"
    return client.request(method, path, headers={"Authorization": f"Bearer {token}"})


def is_let_in(client: TestClient, token: str) -> bool:
    got = ask(client, token)
    assert got.status_code in (401, 503)
    return got.status_code == 503 and got.json()["error"]["message"] == "the model is being loaded"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_of_each_algorithm_lets_in(issuer: LocalIssuer, client: TestClient, algorithm: str) -> None:
    assert is_let_in(client, issuer.token(algorithm=algorithm))


@pytest.mark.parametrize(
    ("roles", "statuses"),
    [
        (["report"], (503, 503, 403)),
        (["read"], (503, 403, 200)),
        (["admin"], (503, 503, 200)),
        (["report", "read", "of the hospital's own"], (503, 503, 200)),
        ([], (403, 403, 403)),
        (["root"], (403, 403, 403)),
    ],
)
def test_roles_of_a_token_are_those_of_its_claim(
    issuer: LocalIssuer, client: TestClient, roles: list[str], statuses: tuple[int, ...]
) -> None:
    token = issuer.token(roles)
    assert tuple(ask(client, token, path).status_code for path in (MODELS, REPORTS, NUMBERS)) == statuses


@pytest.mark.parametrize(
    ("claim", "values", "is_in"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["report"]}}, True),
        ("https://hospital.example/roles", {"https://hospital.example/roles": "read report"}, True),
        ("scope", {"scope": "openid report"}, True),
        ("groups", {"groups": [{"report": 1}, 7, None, "report"]}, True),
        ("groups", {"groups": {"report": True}}, False),
        ("groups.deeper.still", {"groups": ["report"]}, False),
        ("groups", {"roles": ["report"]}, False),
    ],
)
def test_the_claim_of_roles_is_named_by_the_setting(
    issuer: LocalIssuer, claim: str, values: dict[str, Any], is_in: bool
) -> None:
    with client_for(issuer, oidc_role_claim=claim) as client:
        assert ask(client, issuer.token([], **values), REPORTS).status_code == (503 if is_in else 403)


def b64(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hs256(token: str, secret: bytes, **header: Any) -> str:
    """The claims of a token, signed with a shared secret."""
    text = f"{b64({'alg': 'HS256', 'typ': 'JWT', **header})}.{token.split('.')[1]}"
    return f"{text}.{b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def refused(client: TestClient, token: str) -> str:
    """Why a token is refused."""
    got = ask(client, token)
    error = got.json()["error"]
    assert (got.status_code, error["code"], error["type"]) == (401, "invalid_token", "authentication_error"), error
    words = str(error["message"]).removeprefix("Authorization: the token is refused: ")
    assert got.headers["www-authenticate"] == f'Bearer error="invalid_token", error_description="{words}"'
    assert words.isprintable()
    return words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exp": timedelta(seconds=-40)}, "it has expired"),
        ({"exp": None}, "it has no exp"),
        ({"exp": "tomorrow"}, "its end is no time"),
        ({"nbf": timedelta(seconds=300)}, "it is not valid yet"),
        ({"iat": timedelta(seconds=300)}, "it was issued in the future"),
        ({"iss": "https://login.example"}, "it is of another issuer"),
        ({"iss": None}, "it has no iss"),
        ({"aud": "another"}, "it is for another audience"),
        ({"aud": ["another", "r2gengpt2"]}, "it is for another audience"),
        ({"aud": []}, "it is for another audience"),
        ({"aud": None}, "it has no aud"),
        ({"sub": None}, "it has no sub"),
        ({"sub": 7}, "it names nobody"),
        ({"header": {"typ": "logout+jwt"}}, "it is no token of access"),
        ({"header": {"kid": "of nobody"}}, "it is signed with a key that its issuer does not list"),
        ({"header": {"kid": None}}, "it is signed with a key that its issuer does not list"),
        ({"key": rsa_key("stranger")}, "it is signed with a key that its issuer does not list"),
        ({"key": rsa_key("stranger"), "header": {"kid": "first"}}, "its signature is not right"),
        ({"algorithm": "ES256", "header": {"kid": "first"}}, "its signature is not right"),
    ],
)
def test_a_token_that_is_not_right_is_refused_in_one_line(
    issuer: LocalIssuer, client: TestClient, changes: dict[str, Any], words: str
) -> None:
    now = int(time.time())
    times = {
        name: now + round(after.total_seconds()) for name, after in changes.items() if isinstance(after, timedelta)
    }
    assert refused(client, issuer.token(**changes | times)) == words


def test_clocks_may_differ_by_thirty_seconds(issuer: LocalIssuer, client: TestClient) -> None:
    now = int(time.time())
    assert is_let_in(client, issuer.token(exp=now - 20))
    assert is_let_in(client, issuer.token(nbf=now + 20, iat=now + 20))
    assert is_let_in(client, issuer.token(aud=["another", AUDIENCE]))


def test_no_token_chooses_its_own_algorithm(issuer: LocalIssuer, client: TestClient) -> None:
    token = issuer.token()
    _, claims, signature = token.split(".")
    words = f"it must be signed with one of {', '.join(ALGORITHMS)}"
    for name in ("none", "None", "NONE", "", "EdDSA", "HS256", "ES256K", ["RS256"], None):
        header = {"alg": name, "kid": "first", "typ": "JWT"}
        assert refused(client, f"{b64(header)}.{claims}.{signature}") in (words, "it is no signed token (JWT)")
        assert not is_let_in(client, f"{b64(header)}.{claims}.")
    public = rsa_key("first")
    for secret in (public.as_pem(private=False), public.as_der(private=False), json.dumps(public.as_dict()).encode()):
        assert refused(client, hs256(token, secret, kid="first")) == words
    own = rsa_key("stranger").as_dict(private=False)
    forged = issuer.token(key=rsa_key("stranger"), header={"kid": "first", "jwk": own, "jku": "http://127.0.0.1:1/"})
    assert refused(client, forged) == "its signature is not right"
    text = f"{b64({'alg': 'RS256', 'kid': 'first', 'crit': ['exp'], 'exp': 1})}.{claims}".encode()
    critical = rsa_key("first").private_key.sign(text, PKCS1v15(), SHA256())
    assert refused(client, f"{text.decode()}.{b64(critical)}") == "its signature is not right", "what it must know"


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_mutated_token_lets_in(issuer: LocalIssuer, client: TestClient, data: st.DataObject) -> None:
    whole = issuer.token(algorithm=data.draw(st.sampled_from(["RS256", "ES256", "PS384"])), exp=2**33, iat=1)
    token = whole
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(token) - 1))
        more = data.draw(st.text(alphabet="AZaz09-_.=[{", max_size=3))
        token = token[:at] + more + token[at + data.draw(st.integers(0, 3)) :]
    parts = token.split(".")
    if len(parts) == 3 and [same_bytes(*pair) for pair in zip(parts, whole.split("."), strict=True)] == [True] * 3:
        return  # the last sign of base64 has bits that mean nothing
    assert not is_let_in(client, token)


def same_bytes(one: str, other: str) -> bool:
    try:
        return base64.urlsafe_b64decode(one + "==") == base64.urlsafe_b64decode(other + "==")
    except ValueError:
        return False


@pytest.mark.parametrize("token", ["a.b.c", "..", "e30.e30.e30", f"{b64(b'[' * 5000)}.e30.", "a.b.c.d.e", "é.b.c"])
def test_what_is_no_token_is_refused(client: TestClient, token: str) -> None:
    got = client.get(MODELS, headers=[(b"authorization", f"Bearer {token}".encode())])
    assert got.status_code == 401
    assert got.headers["www-authenticate"].startswith("Bearer")


def test_keys_and_tokens_stand_beside_each_other(issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, "a.key.with-two-dots-in-it")
    with client_for(issuer) as client:
        assert is_let_in(client, "a.key.with-two-dots-in-it")
        assert is_let_in(client, issuer.token())
        assert ask(client, "a.key.of-nobody-at-all").status_code == 401


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A server's check of tokens with a clock that is set by hand."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.clock = Clock()
        self.issuer = Issuer(issuer.url, fetcher(None), self.clock)
        self.tokens = Tokens(config(issuer), self.issuer)

    async def status(self, token: str) -> int:
        found = await self.tokens.caller(token)
        return getattr(found, "status", 200)

    def settle(self) -> None:
        """Wait for what is fetched in the background."""
        self.issuer._pool.submit(lambda: None).result(30)


def run_in_loop(work: Any) -> None:
    import asyncio

    asyncio.run(work)


def test_a_new_key_counts_from_its_first_token_on_and_an_old_one_until_it_is_fetched_again() -> None:
    async def work(issuer: LocalIssuer) -> None:
        watched = Watched(issuer)
        old, new = issuer.token(), issuer.token(key=rsa_key("second"))
        assert await watched.status(old) == 200
        assert issuer.asked == [DISCOVERY, KEYS]
        issuer.publish(rsa_key("second"))
        assert await watched.status(new) == 401, "just fetched: no token makes us fetch again at once"
        assert await watched.status(old) == 200
        watched.clock.now += PAUSE
        assert await watched.status(new) == 200
        assert await watched.status(old) == 401, "the provider lists it no more"
        assert issuer.asked == [DISCOVERY, KEYS] * 2

    with local_issuer() as issuer:
        run_in_loop(work(issuer))


def test_keys_are_fetched_again_in_the_background() -> None:
    async def work(issuer: LocalIssuer) -> None:
        watched = Watched(issuer)
        old = issuer.token()
        assert await watched.status(old) == 200
        issuer.publish(rsa_key("second"))
        watched.clock.now += FRESH + 1
        assert await watched.status(old) == 200, "nobody waits for it"
        watched.settle()
        assert await watched.status(old) == 401

    with local_issuer() as issuer:
        run_in_loop(work(issuer))


def test_tokens_of_unknown_keys_make_the_provider_be_asked_seldom() -> None:
    async def work(issuer: LocalIssuer) -> None:
        watched = Watched(issuer)
        for number in range(50):
            watched.clock.now += 1
            assert await watched.status(issuer.token(header={"kid": f"k{number}"})) == 401
        assert issuer.asked.count(KEYS) <= 50 / PAUSE + 1

    with local_issuer() as issuer:
        run_in_loop(work(issuer))


def test_a_provider_that_is_out_lets_nobody_in_and_keeps_out_nobody_whose_key_is_known() -> None:
    async def work(issuer: LocalIssuer) -> None:
        watched = Watched(issuer)
        good, strange = issuer.token(), issuer.token(key=rsa_key("stranger"))
        issuer.status = 500
        assert await watched.status(good) == 503, "nothing is known yet"
        watched.clock.now += PAUSE
        issuer.status = 200
        assert await watched.status(good) == 200
        issuer.status = 500
        for _ in range(3):
            watched.clock.now += FRESH + 1
            assert (await watched.status(good), await watched.status(strange)) == (200, 401)
            watched.settle()
        watched.clock.now += KEPT
        assert (await watched.status(good), await watched.status(strange)) == (503, 503), "keys are too old to count"
        issuer.status = 200
        watched.clock.now += PAUSE
        assert (await watched.status(good), await watched.status(strange)) == (200, 401)

    with local_issuer() as issuer:
        run_in_loop(work(issuer))


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (DISCOVERY, b"<html>", "its configuration is no JSON"),
        (DISCOVERY, b"[" * 10**5, "its configuration is no JSON"),
        (DISCOVERY, b"[]", "its configuration is no JSON object"),
        (KEYS, b"{}", "its document of keys has no list of keys"),
        (KEYS, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}]}', "it lists no key"),
        (KEYS, b" " * (MOST_BYTES + 1), f"it sends more than {MOST_BYTES} bytes"),
        (KEYS, None, "it answers with status 404"),
    ],
)
def test_documents_that_cannot_be_used_are_refused_in_one_line(path: str, body: bytes | None, words: str) -> None:
    with local_issuer() as issuer:
        if body is None:
            del issuer.documents[path]
        else:
            issuer.documents[path] = body
        why = Tokens(config(issuer)).check_issuer()
        assert why.startswith(words)
        assert why.isprintable()


def test_a_redirect_is_not_followed_and_silence_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with local_issuer() as issuer:
        issuer.status = 302
        assert Tokens(config(issuer)).check_issuer() == "it answers with status 302"
        assert issuer.asked == [DISCOVERY]
    assert Tokens(config(issuer)).check_issuer() == "[Errno 111] Connection refused"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"issuer": "https://login.example"}, "its configuration names the issuer https://login.example"),
        ({"jwks_uri": "http://login.example/keys"}, r"the address of its keys \(jwks_uri\) must begin with https://"),
        ({"jwks_uri": "file:///etc/passwd"}, r"the address of its keys \(jwks_uri\) must be an address"),
        ({"jwks_uri": None}, r"the address of its keys \(jwks_uri\) must be an address"),
    ],
)
def test_another_provider_than_the_settings_name_is_an_error_at_the_start(changes: dict[str, Any], words: str) -> None:
    with local_issuer() as issuer:
        issuer.configure(**changes)
        settings = config(issuer)
        with pytest.raises(InputError, match=f"oidc_issuer {issuer.url}: {words}"):
            warn_if_open(settings, Identity(settings))


def test_a_provider_that_is_out_at_the_start_is_warned_of_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with local_issuer() as issuer:
        issuer.status = 503
        settings = config(issuer, host="0.0.0.0")
        warn_if_open(settings, Identity(settings))
        assert caplog.messages == [
            f"`oidc_issuer` {issuer.url}: its keys cannot be fetched (it answers with status 503): "
            "no token counts until then"
        ]


def test_of_a_providers_keys_those_are_read_that_sign_and_are_long_enough() -> None:
    short = {**rsa_key("first").as_dict(private=False), "n": rsa_key("first").as_dict()["n"][:171], "kid": "short"}
    listed = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {**rsa_key("first").as_dict(private=False), "kid": "enc", "use": "enc"},
        {**rsa_key("first").as_dict(private=False), "kid": "hs", "alg": "HS256"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": 7},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "ed"},
        short,
        "no key",
        {**rsa_key("first").as_dict(private=True), "kid": "with its private part", "use": "sig", "alg": "PS256"},
        ec_key("ec").as_dict(private=False),
    ]
    found = usable_keys({"keys": listed})
    assert sorted(found) == ["ec", "with its private part"]
    assert not any(key.is_private for key in found.values())


def test_a_key_that_is_for_one_algorithm_signs_no_token_of_another() -> None:
    with local_issuer() as issuer, client_for(issuer) as client:
        listed = {**rsa_key("first").as_dict(private=False), "alg": "PS256"}
        issuer.documents[KEYS] = json.dumps({"keys": [listed]}).encode()
        assert is_let_in(client, issuer.token(algorithm="PS256"))
        assert is_let_in(client, issuer.token(algorithm="PS256", header={"kid": None})), "there is one key only"
        assert refused(client, issuer.token(algorithm="RS256")).endswith("does not list")


def why_unusable(document: dict[str, Any]) -> str:
    try:
        return "" if usable_keys(document) else "without a key"
    except IssuerOut as error:
        return str(error)


def test_mutated_documents_of_keys_are_whole_or_refused_in_one_line() -> None:
    draw = random.Random(7)
    whole = json.dumps({"keys": [rsa_key("first").as_dict(private=False), key_for("ES256").as_dict(private=False)]})
    for _ in range(300):
        text = bytearray(whole.encode())
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(text))
            text[at : at + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
        try:
            document = json.loads(bytes(text))
        except ValueError:
            continue
        if isinstance(document, dict) and (words := why_unusable(document)):
            assert words.isprintable()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"oidc_issuer": "https://login.example"}, "`oidc_issuer` and `oidc_audience` belong together"),
        ({"oidc_audience": "r2gengpt"}, "`oidc_issuer` and `oidc_audience` belong together"),
        ({"oidc_ca_file": "ca.pem"}, "`oidc_ca_file` has an effect with `oidc_issuer` only"),
        ({"oidc_issuer": "https://login.example", "oidc_audience": " "}, "tokens for anybody would count"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as error:
        ServeConfig(**values)
    assert words in error.value.line


@pytest.mark.parametrize(
    ("issuer", "words"),
    [
        ("http://login.example", "must begin with https://, unless it is this machine's"),
        ("login.example", "must be an address like https://login.example/realms/hospital"),
        ("https://me:secret@login.example", "must be an address like"),
        ("ftp://login.example", "must be an address like"),
    ],
)
def test_an_issuer_that_keys_cannot_come_from_safely_is_refused(
    issuer: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=words):
        Identity(ServeConfig(oidc_issuer=issuer, oidc_audience="a"))


def test_a_file_of_certificates_that_is_none_is_refused_in_one_line(tmp_path: Any) -> None:
    (tmp_path / "ca.pem").write_text("none")
    for name, words in (("ca.pem", "holds no certificates"), ("gone.pem", "No such file")):
        with pytest.raises(InputError, match=f"oidc_ca_file .*{name}: {words}"):
            fetcher(str(tmp_path / name))


def test_without_joserfc_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, issuer: LocalIssuer) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"oidc_issuer http.*: needs joserfc: pip install '\.\[oidc\]'"):
        Identity(config(issuer))


def test_a_command_line_with_half_of_it_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", ["--oidc_issuer", "https://login.example"]) == 2
    assert "--oidc_issuer and --oidc_audience belong together" in capsys.readouterr().err
