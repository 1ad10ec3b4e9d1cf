"""A hub that has not, gives not or is not there: one line that names the flag, the name and what to set."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from transformers import AutoConfig, AutoImageProcessor

from r2gengpt.errors import InputError
from r2gengpt.parts import hub
from r2gengpt.parts.loading import load_part

NAME = "meta-llama/Llama-2-7b-hf"


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """A hub on this machine that answers everything with an error, as the real one marks it; gives its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


ANSWERS = {
    "gated": (401, "GatedRepo", "", ("its licence must be accepted on the hub first (", f"/{NAME})", "set HF_TOKEN")),
    "gated, with a token": (403, "GatedRepo", "hf_mine", ("the account of your token (HF_TOKEN) has not been let in",)),
    "absent": (401, "RepoNotFound", "", ("has no model of this name, or it is private: check the name", "HF_TOKEN")),
    "broken": (418, "", "", ("answered with error 418: try again later", "HF_ENDPOINT")),
}
"""What a hub may answer: status, its word for the error, our token, parts of the line that the user sees."""


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_of_the_hub_becomes_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own errors from a real answer, wrapped as the library wraps them."""
    status, code, token, parts = ANSWERS[kind]
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with answering(status, code) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        with pytest.raises(InputError) as error:
            load_part(AutoConfig, NAME, "lm_model")
    line = str(error.value)
    assert line.startswith(f"lm_model {NAME}: ")
    for part in (*parts, address, "a local directory works too"):
        assert part in line


@pytest.mark.parametrize("loader", [AutoConfig, AutoImageProcessor])
def test_offline_the_cache_and_the_switch_are_named(loader: Any) -> None:
    """The image processor's own error tells nothing of the network."""
    assert constants.is_offline_mode()
    with pytest.raises(InputError) as error:
        load_part(loader, NAME, "lm_model")
    assert str(error.value) == (
        f"lm_model {NAME}: is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE keeps the library off "
        "the network: unset it, or set HF_HOME to where the cache is; a local directory works too"
    )


def test_a_hub_that_cannot_be_reached_is_named_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the library's offline error in place of the 23 seconds of tries that it makes on a real network."""

    class Loader:
        @staticmethod
        def from_pretrained(name: str, **_: object) -> None:
            AutoConfig.from_pretrained(name)

    monkeypatch.setattr(hub.constants, "is_offline_mode", lambda: False)
    with pytest.raises(InputError) as error:
        load_part(Loader, NAME, "lm_model")
    line = str(error.value)
    assert line.startswith(f"lm_model {NAME}: the hub {constants.ENDPOINT} cannot be reached, and the cache ")
    for word in ("HF_ENDPOINT", "HF_HOME", "a local directory works too"):
        assert word in line


def test_an_error_that_is_not_the_hubs_keeps_its_own_words(tmp_path: Path) -> None:
    assert hub.hub_reason(ValueError("layers must be positive"), NAME) is None
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be loaded: "):
        load_part(AutoConfig, str(tmp_path), "lm_model")
