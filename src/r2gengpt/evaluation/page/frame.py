"""The frame of every page: templates, style, the hashes that allow it, and the file. Knows nothing of what is shown."""

import base64
import functools
import hashlib
import statistics
from importlib import resources

from jinja2 import Environment
from markupsafe import Markup

from r2gengpt.evaluation.page import findings as finding_tables
from r2gengpt.evaluation.page import plots
from r2gengpt.evaluation.page import scores as tables
from r2gengpt.report import by_verdict, chance
from r2gengpt.text.html import templates


def rendered(template: str, *, title: str, script: str = "", **values: object) -> str:
    """A page that needs no other file and opens no network.

    Args:
        template: its file's name; it extends frame.html.
        title: its heading, and its window's.
        script: name of the file of its script; empty: it has none.
        **values: what the template shows.
    """
    style, code = _part("page.css"), _part(script) if script else ""
    own = {"style": Markup(style), "style_hash": _digest(style), "script": Markup(code), "script_hash": _digest(code)}
    return _environment().get_template(template).render(title=title, **own, **values)


@functools.cache
def _environment() -> Environment:
    """The templates with what they may call: names and numbers in words, tables of the scores, plots."""
    environment = templates("r2gengpt.evaluation.page")
    for word in (tables.label, tables.number, tables.percent, tables.interval, tables.measured, chance, by_verdict):
        environment.filters[word.__name__] = word
    environment.filters["median"] = statistics.median
    environment.globals |= {"tables": tables, "plots": plots, "finding_tables": finding_tables}
    return environment


@functools.cache
def _part(name: str) -> str:
    return resources.files("r2gengpt.evaluation.page").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """The source by which a content security policy allows this very text of a style or script element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
