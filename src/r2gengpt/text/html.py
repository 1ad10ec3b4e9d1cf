"""HTML from templates: every value is escaped, a missing name is an error. Writes no file, holds no template."""

import functools
import html
import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from r2gengpt.text.written import named

_UNSEEN = "\x00-\x08\x0b-\x1f\ud800-\udfff"
"""Control characters but tab and line feed, and half surrogates: no HTML may hold them."""
_LEFT_OUT, _CHANGED = re.compile(f"[{_UNSEEN}]"), re.compile(f"[{_UNSEEN}&<>\"']")


def escaped(value: object) -> object:
    """A text as it can stand in HTML, also in a quoted attribute; numbers and markup as they are.

    >>> escaped('<b> & "c"\\x00')
    Markup('&lt;b&gt; &amp; &quot;c&quot;')
    """
    if isinstance(value, Markup) or not isinstance(value, str) or not _CHANGED.search(value):
        return value
    return Markup(html.escape(_LEFT_OUT.sub("", named(value)), quote=True))


@functools.cache
def templates(package: str) -> Environment:
    """The templates in a package's own folder."""
    return Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
    )
