"""What a request may cost in memory: three times its own size, whatever is in it. Decoded films have their own cap."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import serving_memory
from r2gengpt.serving.bodies import DEEPEST, MOST_MARKS, MOST_REST, take_apart
from r2gengpt.serving.failures import ApiError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SMALL = 6 * 2**20
"""Bytes that a request may cost besides: pages of code that it is the first to use, the allocator's own steps."""


def test_no_request_costs_more_than_three_times_its_size(tiny_checkpoint: Path) -> None:
    command = [sys.executable, serving_memory.__file__, str(tiny_checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    assert {name for name, *_ in rows} == set(serving_memory.bodies())
    for name, size, status, kib in rows:
        assert status in (400, 413), name
        assert kib * 1024 <= 3 * size + (SMALL if size < serving_memory.SIZE // 2 else 0), (name, size, kib)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[" * (DEEPEST + 1), f"{DEEPEST} levels deep"),
        (b"[" + b"{}," * (MOST_MARKS // 2), f"{MOST_MARKS} brackets"),
        (b'""' * (MOST_MARKS + 1), f"{MOST_MARKS} brackets"),
        (b"1" * (MOST_REST + 1), f"at most {MOST_REST}"),
    ],
)
def test_a_body_beyond_a_bound_is_refused_before_it_is_parsed(body: bytes, words: str) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        take_apart(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_brackets_within_texts_are_no_depth_and_strings_come_back_whole() -> None:
    text = '[{"' * 50 + "\\"
    image = "data:image/png;base64," + "/+é\n" * 1000
    apart = take_apart(json.dumps({"text": text, "image": image, "other": "x" * 70_000}).encode())
    rest = json.loads(apart.rest)
    assert (rest["text"], len(apart.rest) < 1000) == (text, True)
    assert b"".join(apart.pieces(rest["image"])).decode() == image
    assert b"".join(apart.pieces(rest["other"])) == b"x" * 70_000
    assert b"".join(apart.pieces(rest["text"])).decode() == text


@pytest.mark.parametrize("text", ["\0long:", "\0long:7", "\0long:-1", "\0long:x"])
def test_a_mark_that_a_client_made_up_stands_for_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="no such string"):
        list(take_apart(b"{}").pieces(text))


@pytest.mark.parametrize("content", [b"\\u00", b"\\uzzzz", b"\\x", b"\xff", b"\n", b"\\ud800"])
def test_a_long_string_that_is_none_of_json_is_refused(content: bytes) -> None:
    apart = take_apart(b'["' + b"a" * 2**17 + content + b'"]')
    assert len(apart.long) == 1
    with pytest.raises(ValueError):
        list(apart.pieces("\0long:0"))
