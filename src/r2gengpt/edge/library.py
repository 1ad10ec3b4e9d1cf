"""OpenVINO brought in without its usage reports. Nothing is computed here."""

import importlib
import importlib.util
import sys
from typing import Any

from r2gengpt.errors import InputError

REPORTER = "openvino_telemetry"
"""The package that tells OpenVINO's makers of every import; where it cannot be imported they put a silent stub."""


def openvino(flag: str) -> Any:
    """The library, its usage reports switched off: nothing of a hospital's machine is told to anybody.

    Args:
        flag: what asked for it, for the error.

    Raises:
        InputError: it is not installed.
    """
    if "openvino" not in sys.modules and importlib.util.find_spec("openvino") is None:
        raise InputError(f"{flag}: needs openvino (pip install 'r2gengpt[openvino]')")
    sys.modules.setdefault(REPORTER, None)  # type: ignore[arg-type]  # None: an import of it fails
    return importlib.import_module("openvino")
