"""`listen` as a process without a model, for tests that kill it. Run as a program; no test stands here.

Usage: archive_child.py SETTINGS.json [N]: with N it kills itself just before its N-th durable operation (a file brought
to the disk, renamed or removed, a transaction of the ledger) or, from the last on, never.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from archive_parts import stand_in_for
from r2gengpt.auditlog.log import opened_log
from r2gengpt.clinical.archive.ledger import Ledger
from r2gengpt.clinical.archive.loop import Write
from r2gengpt.clinical.archive.run import FindOrder, listen, peer_of
from r2gengpt.clinical.archive.web import connect
from r2gengpt.clinical.hl7.book import OrderBook
from r2gengpt.settings import ListenConfig, MllpConfig


def kill_before(last: int) -> None:
    """Make every durable operation of this process count, and the last one not happen."""
    counted = [0]

    def counting(operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted_operation(*args: Any, **kwargs: Any) -> Any:
            counted[0] += 1
            if counted[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return counted_operation

    os.fsync = counting(os.fsync)  # type: ignore[assignment]
    for name in ("replace", "unlink"):
        setattr(Path, name, counting(getattr(Path, name)))
    for name in (
        "add",
        "add_aside",
        "set_film_aside",
        "begin",
        "set_reported",
        "set_answered",
        "set_sent",
        "set_study_aside",
    ):
        setattr(Ledger, name, counting(getattr(Ledger, name)))
    setattr(OrderBook, "take", counting(OrderBook.take))  # noqa: B010  # as the others are


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("r2gengpt").setLevel(logging.INFO)
    raw: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    raw = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    directory = raw.pop("audit_log", None)
    ours = {f.name for f in fields(MllpConfig)}
    mllp = MllpConfig(**{key: value for key, value in raw.items() if key in ours})
    settings = ListenConfig(**{key: value for key, value in raw.items() if key not in ours})
    if len(sys.argv) > 2:
        kill_before(int(sys.argv[2]))
    send = peer_of(settings, connect)

    def load(find: FindOrder) -> Write:
        return partial(stand_in_for, find, None if mllp.mllp is None else mllp.mllp_receiver, forms=settings.format)

    audit = None if directory is None else opened_log(directory, "listen", [settings.ae_title])
    listen(settings, send, load, lambda port, orders: print(port, orders or 0, flush=True), mllp, audit)


if __name__ == "__main__":
    main()
