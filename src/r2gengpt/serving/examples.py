"""The example films that come with the package, and what is known of each. No request is read here."""

import re
from dataclasses import dataclass, field
from importlib.resources import files

from r2gengpt.text.written import json_text

KINDS = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg"}
CREDITS = "CREDITS.md"
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|<?https?://\S+")
_ITEM = re.compile(r"[-*]\s+(.*)")


@dataclass(frozen=True)
class ExampleFilm:
    """One film: its file, what it is called on the page, what CREDITS.md tells of it."""

    name: str
    title: str
    caption: str
    kind: str
    data: bytes = field(repr=False)


def example_films() -> list[ExampleFilm]:
    """All films of the package by name; none where the package was installed without them."""
    folder = files("r2gengpt").joinpath("examples")
    if not folder.is_dir():
        return []
    names = sorted(item.name for item in folder.iterdir() if item.name.rpartition(".")[2].lower() in KINDS)
    known = captions(credits_text(), names)
    return [
        ExampleFilm(
            name=name,
            title=title_of(name, number),
            caption=known.get(name, ""),
            kind=KINDS[name.rpartition(".")[2].lower()],
            data=folder.joinpath(name).read_bytes(),
        )
        for number, name in enumerate(names, 1)
    ]


def credits_text() -> str:
    """Where the films come from, as Markdown; empty where that is not told."""
    file = files("r2gengpt").joinpath("examples", CREDITS)
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def examples_json(films: list[ExampleFilm]) -> str:
    """The list as the page reads it."""
    rows = [{"name": film.name, "title": film.title, "caption": film.caption} for film in films]
    return json_text({"films": rows, "credits": prose(credits_text())})


def title_of(name: str, number: int) -> str:
    """What a film is called: its name in words, or its number where the name is a code.

    >>> title_of("opacities-both-sides.jpg", 2), title_of("006f3a8a.png", 1)
    ('Opacities both sides', 'Example 1')
    """
    words = re.split(r"[-_ ]+", name.rpartition(".")[0])
    return f"Example {number}" if any(re.search(r"\d", word) for word in words) else " ".join(words).capitalize()


def captions(credit: str, names: list[str]) -> dict[str, str]:
    """What a Markdown text tells of each file: the other cells of its row, or the rest of its list item.

    >>> captions("| file | projection |\\n|---|---|\\n| a.png | pa |\\n\\n- `b.png`: a child", ["a.png", "b.png"])
    {'a.png': 'projection: pa', 'b.png': 'a child'}
    """
    found: dict[str, str] = {}
    head: list[str] = []
    for line in map(str.strip, credit.splitlines()):
        if line.startswith("|"):
            cells = [plain(cell) for cell in line.strip("|").split("|")]
            head = head or cells
            if name := _named(cells, names):
                stem = name.rpartition(".")[0]
                pairs = zip(head, cells, strict=False)
                parts = [f"{title}: {cell}" if title else cell for title, cell in pairs if cell not in ("", name, stem)]
                found[name] = "; ".join(parts)
            continue
        head = []
        if item := _ITEM.match(line):
            text = plain(item[1])
            name = next((name for name in names if text.startswith(name)), "")
            if name:
                found[name] = text.removeprefix(name).strip(" :,.;-–—")
    return found


def _named(cells: list[str], names: list[str]) -> str:
    """The file that a row is of: named whole or without its ending; or ""."""
    return next((name for name in names if name in cells or name.rpartition(".")[0] in cells), "")


def plain(text: str) -> str:
    """A piece of Markdown as words, links without their addresses.

    >>> plain(" `a.png` by [**NIH**](https://example.org) ")
    'a.png by NIH'
    """
    return re.sub(r"[`*]", "", _LINK.sub(lambda found: found[1] or "", text)).strip()


def prose(credit: str) -> list[str]:
    """The paragraphs of a Markdown text, without headings, tables and lists."""
    parts = re.split(r"\n\s*\n", credit)
    return [
        " ".join(plain(part).split()) for part in parts if part.strip() and not re.match(r"\s*[#|]|\s*[-*]\s", part)
    ]
