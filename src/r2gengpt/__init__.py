"""Radiology reports from chest X-rays with any open language model. Imports neither torch nor transformers.

>>> import r2gengpt
>>> report = r2gengpt.load("embedded").report(["frontal.png"])  # doctest: +SKIP
>>> print(report)  # doctest: +SKIP

Drafts for research, not for diagnosis.
"""

from typing import TYPE_CHECKING

from r2gengpt.version import __version__

__all__ = ["Context", "InputError", "Report", "RunError", "__version__", "compare", "load", "score"]
_HOMES = {
    "Context": "text.context",
    "InputError": "errors",
    "RunError": "errors",
    "Report": "report",
    "compare": "scoring",
    "load": "opening",
    "score": "scoring",
}
"""Public name → the module that has it, which is imported when it is first asked for."""

if TYPE_CHECKING:
    from r2gengpt.errors import InputError, RunError
    from r2gengpt.opening import load
    from r2gengpt.report import Report
    from r2gengpt.scoring import compare, score
    from r2gengpt.text.context import Context


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'r2gengpt' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"r2gengpt.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
