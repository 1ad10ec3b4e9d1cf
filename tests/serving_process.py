"""`r2gengpt serve` as a process of its own. No test stands here."""

import re
import subprocess
import sys
import threading

from serving_parts import LONG


class Process:
    """`r2gengpt serve` with these flags, after some code of the test, from its first line to its end."""

    def __init__(self, *flags: str, before: str = "") -> None:
        code = f"{before}\nfrom r2gengpt.cli.main import main; main()"
        command = [sys.executable, "-c", code, "serve", "--port", "0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.stderr: list[str] = []
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.stderr.append(line)
            if line == "ready\n":
                self.ready.set()

    @property
    def address(self) -> str:
        assert self.process.stdout is not None
        return re.findall(r"http://\S+", self.process.stdout.readline())[0]

    def end(self, seconds: float) -> int:
        code = self.process.wait(seconds)
        self.reader.join(LONG)
        return code

    def close(self) -> None:
        self.process.kill()
        self.end(LONG)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
