"""One JSON request over HTTP to a server that was named. Follows no redirect, retries nothing."""

import json
import urllib.request
from http.client import HTTPMessage
from typing import IO

from r2gengpt.errors import one_line

MOST_BYTES = 4 * 2**20
"""Of an answer."""
WORDS_KEPT = 160
"""Characters of what a server says of an error."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: films and keys go to the host that was named, or nowhere."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """None: the redirect becomes an error with its status."""
        return


def posted(url: str, body: bytes, *, key: str = "", timeout: float) -> bytes:
    """The body of the answer to a JSON request.

    Args:
        url: http or https.
        body: JSON.
        key: sent as a bearer token; empty: none.
        timeout: seconds that an answer may take.

    Raises:
        OSError: no answer, or one with another status than success (`urllib.error.HTTPError`).
        ValueError: it is larger than `MOST_BYTES`.
    """
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, data=body, headers=headers)
    with urllib.request.build_opener(NoRedirect).open(request, timeout=timeout) as response:
        found: bytes = response.read(MOST_BYTES + 1)
    if len(found) > MOST_BYTES:
        raise ValueError(f"answers with more than {MOST_BYTES} bytes")
    return found


def message_in(body: bytes) -> str:
    """What an error's body says, in one line; nothing where it is no JSON of OpenAI's form."""
    try:
        found = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = ""
    return one_line(str(found))[:WORDS_KEPT]
