"""A process that answers hostile requests one by one and prints what each cost in memory. No test stands here."""

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

CHAT, REPORTS = "/v1/chat/completions", "/v1/reports"
JSON, FORM = "application/json", "multipart/form-data; boundary=x"
SIZE = 2 * 2**20


def chat(content: bytes, more: bytes = b"") -> bytes:
    return b'{"model":"best","messages":[{"role":"user","content":' + content + b"}]" + more + b"}"


def filled(unit: bytes, size: int = SIZE) -> bytes:
    """So many units with commas that they are `size` bytes."""
    return b",".join([unit] * (size // (len(unit) + 1)))


def image(data: bytes) -> bytes:
    return chat(b'[{"type":"image_url","image_url":{"url":"data:image/png;base64,' + data + b'"}}]')


def part(headers: bytes, data: bytes = b"") -> bytes:
    return b"--x\r\n" + headers + b"\r\n\r\n" + data + b"\r\n"


def bodies() -> dict[str, tuple[str, str, bytes]]:
    """Name → path, content type and body."""
    field, file = (
        b'Content-Disposition: form-data; name="indication"',
        b'Content-Disposition: form-data; name="images"; filename="a"',
    )
    texts = {
        "parts without anything": chat(b"[" + filled(b"{}") + b"]"),
        "parts of text": chat(b"[" + filled(b'{"type":"text","text":""}') + b"]"),
        "parts of images": chat(b"[" + filled(b'{"type":"image_url","image_url":"data:,"}') + b"]"),
        "lists": b"[" + filled(b"[]") + b"]",
        "depth": b"[" * SIZE,
        "depth of objects": b'{"a":' * (SIZE // 5),
        "messages": b'{"messages":[' + filled(b'{"role":"system"}') + b"]}",
        "numbers": chat(b"[" + filled(b"1") + b"]"),
        "a number": chat(b"[]", b',"seed":' + b"9" * SIZE),
        "a broken number": chat(b"[]", b',"tools":[' + b"9" * (SIZE // 16) + b"]"),
        "keys": b"{" + b",".join(b'"%d":1' % number for number in range(SIZE // 12)) + b"}",
        "metadata": chat(b"[]", b',"metadata":{' + b",".join(b'"%d":""' % at for at in range(SIZE // 12)) + b"}"),
        "tools": chat(b"[]", b',"tools":[' + filled(b'{"a":[]}') + b"]"),
        "a text": chat(b'"' + b"a" * SIZE + b'"'),
        "a text with one wide sign": chat(b'"' + b"a" * SIZE + "😀".encode() + b'"'),
        "a text of escapes": chat(b'"' + b"\\u00e9" * (SIZE // 6) + b'"'),
        "wide texts": chat(b"[" + filled(b'{"type":"text","text":"' + b"a" * 60_000 + "😀".encode() + b'"}') + b"]"),
        "a key": b'{"' + b"k" * SIZE + b'":1}',
        "keys of some length": b"{" + filled(b'"' + b"k" * 1000 + b'":1') + b"}",
        "quotes": b'"' * SIZE,
        "escaped quotes": chat(b'"' + b'\\"' * (SIZE // 2) + b'"'),
        "blanks": b" " * SIZE,
        "an image that is none": image(b"A" * SIZE),
        "an image in lines": image((b"A" * 76 + b"\\r\\n") * (SIZE // 80)),
        "an image of escapes": image(b"\\u0041" * (SIZE // 6)),
        "an image of percent signs": image(b"%41" * (SIZE // 3)),
        "an image that is not base64": image(b"*" * SIZE),
        "just as many messages": b'{"messages":[' + filled(b'{"role":"system"}', 35_000) + b"]}",
        "just as many images": chat(b"[" + filled(b'{"type":"image_url","image_url":"data:,"}', 60_000) + b"]"),
        "just as many lists": chat(b"[]", b',"tools":[' + filled(b"[]", 9_000) + b"]"),
        "just as many keys": chat(b"[]", b',"metadata":{' + b",".join(b'"%d":""' % at for at in range(3_300)) + b"}"),
        "just as much besides images": b'{"messages":['
        + filled(b'"' + b"a" * 60_000 + "😀".encode() + b'"', 2**18)
        + b"]}",
        "an open image": image(b"A" * SIZE)[:-6],
    }
    forms = {
        "files": part(file) * (SIZE // 80) + b"--x--\r\n",
        "fields": part(field) * (SIZE // 70) + b"--x--\r\n",
        "headers": part(field + b"\r\n" + b"a: b\r\n" * (SIZE // 6) + b"c: d"),
        "a header": part(field + b"\r\na: " + b"b" * SIZE),
        "a long name": part(field + b'; a="' + b"b" * SIZE + b'"'),
        "options": part(field + b";a=b" * (SIZE // 4)),
        "a field": part(field, b"a" * SIZE) + b"--x--\r\n",
        "a wide field": part(field, b"a" * 2**20 + "😀".encode()) + b"--x--\r\n",
        "a file": part(file, b"a" * SIZE) + b"--x--\r\n",
        "half ends": part(file, b"\r\n--" * (SIZE // 4)) + b"--x--\r\n",
        "returns": part(file, b"\r" * SIZE) + b"--x--\r\n",
        "no part": b"a" * SIZE,
        "nothing but ends": b"--x--\r\n" * (SIZE // 7),
    }
    return {name: (CHAT, JSON, body) for name, body in texts.items()} | {
        f"form: {name}": (REPORTS, FORM, body) for name, body in forms.items()
    }


def status_kb(name: str) -> int:
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(f"{name}:")]
    return int(line.split()[1])


def ask(app: Any, path: str, kind: str, body: bytes, step: int) -> int:
    """Send a request in pieces; its status."""
    sent: list[Any] = []

    async def run() -> None:
        places = iter(range(0, len(body), step))

        async def receive() -> dict[str, Any]:
            at = next(places, None)
            if at is None:
                await asyncio.Event().wait()
            assert at is not None
            return {"type": "http.request", "body": body[at : at + step], "more_body": at + step < len(body)}

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", kind.encode())],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        await app(scope, receive, send)

    asyncio.run(run())
    return int(sent[0]["status"])


def main(checkpoint: str) -> None:
    """Print name, bytes of the body, status, and KiB of memory at the request's height above those before it."""
    from r2gengpt.cli.console import return_large_blocks
    from r2gengpt.locate import ModelChoice
    from r2gengpt.reporter import Reporter
    from r2gengpt.serving.app import create_app
    from r2gengpt.settings import ServeConfig
    from serving_parts import film, generator_of

    return_large_blocks()
    settings = ServeConfig()
    app = create_app(generator_of(Reporter.load(ModelChoice(checkpoint, accelerator="cpu")), settings), settings)
    good = image(base64.b64encode(film()))
    assert ask(app, CHAT, JSON, good, 2**16) == 200
    assert (
        ask(app, REPORTS, FORM, part(b'Content-Disposition: form-data; name="images"', b"a") + b"--x--\r\n", 99) == 400
    )
    for name, (path, kind, body) in bodies().items():
        for step in (2**16, *((7,) if len(body) < 2**17 else ())):
            costs = []
            for _ in range(2):  # the less counts: what a request is the first to use, the next one finds there
                Path("/proc/self/clear_refs").write_text("5")
                before = status_kb("VmRSS")
                status = ask(app, path, kind, body, step)
                costs.append(status_kb("VmHWM") - before)
            print(json.dumps([name, len(body), status, min(costs)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
