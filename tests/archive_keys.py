"""Certificates that the tests of TLS make by `openssl`, each time anew. No test stands here."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OPENSSL = shutil.which("openssl")
NEEDS_OPENSSL = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def run_openssl(*words: str | Path) -> None:
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *map(str, words)], check=True, capture_output=True)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path

    @property
    def words(self) -> list[str]:
        """As dcmtk's tools take it."""
        return [str(self.key), str(self.cert)]


class Keys:
    """A certificate authority, what it has signed, and a stranger with the same names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.ca = self._authority("ca")
        self.other_ca = self._authority("other-ca")
        self.server, self.client = self.signed("server"), self.signed("client")
        self.stranger = self.signed("stranger", by=self.other_ca)

    def _authority(self, name: str) -> Pair:
        made = self._pair(name)
        run_openssl("req", "-x509", *CURVE, "-nodes", "-days", "2", "-keyout", made.key, "-out", made.cert,
                    "-subj", f"/CN={name}")  # fmt: skip
        return made

    def _pair(self, name: str) -> Pair:
        return Pair(self.directory / f"{name}.pem", self.directory / f"{name}.key")

    def signed(self, name: str, by: Pair | None = None, days: int = 2, names: str = "IP:127.0.0.1") -> Pair:
        made, by, request, more = self._pair(name), by or self.ca, self.directory / "csr", self.directory / "more"
        run_openssl("req", "-new", *CURVE, "-nodes", "-keyout", made.key, "-out", request, "-subj", f"/CN={name}")
        more.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
        run_openssl("x509", "-req", "-in", request, "-CA", by.cert, "-CAkey", by.key, "-CAcreateserial",
                    "-days", str(days), "-extfile", more, "-out", made.cert)  # fmt: skip
        made.key.chmod(0o600)
        return made

    def settings(self, pair: Pair | None = None, **more: Any) -> dict[str, Any]:
        """Of a listener with this certificate."""
        pair = pair or self.server
        return {"tls_cert": str(pair.cert), "tls_key": str(pair.key), "tls_ca": str(self.ca.cert), **more}

    def context(self, pair: Pair | None) -> ssl.SSLContext:
        """Of a caller with this certificate, or none."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(self.ca.cert)
        if pair is not None:
            made.load_cert_chain(pair.cert, pair.key)
        return made
