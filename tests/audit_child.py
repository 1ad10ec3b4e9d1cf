"""A process that adds to an audit log and is ended within a write, for tests. Run as a program; no test stands here.

Usage: audit_child.py DIR NAME COUNT [BYTES]: adds COUNT records; each is printed when it is on the disk. With BYTES it
kills itself as soon as it has written so many bytes of records, in the middle of one if it comes so.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from r2gengpt.auditlog.codes import own_code
from r2gengpt.auditlog.events import NOBODY, accessed
from r2gengpt.auditlog.log import AuditLog


def kill_after(most: int) -> None:
    """End this process once so many bytes were written to files that are added to."""
    left, write = [most], os.write

    def counted(handle: int, data: Any, /) -> int:
        if handle > 2 and len(data) >= left[0]:
            write(handle, data[: left[0]])
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= len(data) if handle > 2 else 0
        return write(handle, data)

    os.write = counted


def main() -> None:
    directory, name, count = sys.argv[1:4]
    log = AuditLog(Path(directory), name)
    if len(sys.argv) > 4:
        kill_after(int(sys.argv[4]))
    for number in range(int(count)):
        log.append(accessed(log.process, None, NOBODY, own_code(f"{name}-{number}", "of a test")))
        print(f"{name}-{number}", flush=True)


if __name__ == "__main__":
    main()
