"""A model behind an OpenAI-compatible server, asked over HTTP. Retries nothing and keeps nothing."""

import base64
import io
import json
import urllib.error
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from PIL import Image

from r2gengpt.errors import InputError, RunError, one_line
from r2gengpt.evaluation.audit.subjects import Answered
from r2gengpt.films.film import FilmStudy
from r2gengpt.posting import MOST_BYTES, WORDS_KEPT, message_in, posted
from r2gengpt.text.context import Context, instruction_for

SIDE = 512
"""Films are sent at a whole fraction of their scale, the shorter side still at least twice this."""
REFUSALS = (400, 413, 415, 422)
"""Statuses by which a server refuses this very film or these words."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server.

    Attributes:
        url: up to and with its version, as http://host:8000/v1.
        model: its name there.
        prompt: what it is asked for.
        key: sent as a bearer token; empty: none.
        timeout: seconds that an answer may take.
    """

    url: str
    model: str
    prompt: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError("must be like http://host:8000/v1", field="endpoint", value=self.url)

    @property
    def name(self) -> str:
        """The model's name there."""
        return self.model

    @property
    def side(self) -> int | None:
        """What films are reduced for."""
        return SIDE

    @property
    def no_text(self) -> str:
        """Empty: a message takes words."""
        return ""

    def identity(self) -> dict[str, str]:
        """Where it is, its name there, and what it is asked for."""
        return {"endpoint": self.url, "model": self.model, "prompt": self.prompt}

    def answer(self, films: FilmStudy, context: str) -> Answered:
        """Its report, or that it refuses these films.

        Raises:
            InputError: it takes no key of ours, or has no such model or address.
            RunError: it cannot be reached in time, fails, or its answer cannot be read.
        """
        try:
            return Answered(report_in(self._posted(self.body(films, context))))
        except urllib.error.HTTPError as error:
            with error:
                return Answered("", refused=self.refusal(error))
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            words = "no answer in time (`endpoint_timeout`)" if isinstance(reason, TimeoutError) else str(reason)
            raise RunError(f"`endpoint` {self.url}: cannot be reached: {one_line(words)[:WORDS_KEPT]}") from None
        except ValueError as error:
            raise RunError(f"`endpoint` {self.url}: {one_line(str(error))[:WORDS_KEPT]}") from None

    def body(self, films: FilmStudy, context: str) -> bytes:
        """The request: words first, then each view as a PNG in a data URL."""
        words: dict[str, Any] = {"type": "text", "text": instruction_for(Context(context), self.prompt) or self.prompt}
        views = [{"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in films.pictures]
        message = {"role": "user", "content": [words, *views]}
        return json.dumps({"model": self.model, "temperature": 0, "messages": [message]}).encode()

    def _posted(self, body: bytes) -> bytes:
        url = f"{self.url.rstrip('/')}/chat/completions"
        return posted(url, body, key=self.key, timeout=self.timeout)

    def refusal(self, error: urllib.error.HTTPError) -> str:
        """What a server says that refuses these films.

        Raises:
            InputError: it refuses us whatever we send.
            RunError: it fails.
        """
        if error.code in REFUSALS:
            return f"{error.code}: {message_in(error.read(MOST_BYTES))}"
        if error.code in (401, 403):
            raise InputError(f"refuses the key ({error.code}): `endpoint_key`", field="endpoint", value=self.url)
        if error.code == 404:
            words = f"has no such address or no model {self.model} (404)"
            raise InputError(words, field="endpoint", value=self.url)
        raise RunError(f"`endpoint` {self.url}: answers with status {error.code}; started again, the audit goes on")


def data_url(picture: Image.Image) -> str:
    """A picture as a PNG in a data URL."""
    out = io.BytesIO()
    picture.convert("L").save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def report_in(body: bytes) -> str:
    """The text of a chat completion.

    Raises:
        ValueError: it is none.
    """
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise ValueError("answers with no chat completion") from None
    if not isinstance(text, str):
        raise ValueError("answers with a chat completion without a text")
    return text
