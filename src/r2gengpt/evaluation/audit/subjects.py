"""Who is audited: a model of ours, or whoever answers as one. Changes no film and judges no answer."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from r2gengpt.config import DecodeConfig
from r2gengpt.films.film import FilmStudy
from r2gengpt.provenance import Origin
from r2gengpt.report import Report
from r2gengpt.text.context import NO_CONTEXT, Context


@dataclass(frozen=True)
class Answered:
    """What came back for one question.

    Attributes:
        text: the report.
        findings: finding → its probability and its verdict in words, of a model with a finding head.
        refused: why there is no report; empty: there is one.
    """

    text: str
    findings: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    refused: str = ""


class Subject(Protocol):
    """Whoever writes reports of films."""

    @property
    def name(self) -> str:
        """As the page calls it."""

    @property
    def side(self) -> int | None:
        """The side in pixels that films are reduced for; None: they stay as they are."""

    @property
    def no_text(self) -> str:
        """Why words beside the films do not reach it; empty where they do."""

    def identity(self) -> dict[str, str]:
        """What tells it from another one: answers of two are never mixed."""

    def answer(self, films: FilmStudy, context: str) -> Answered:
        """The report of films, with words beside them where there are any."""


class ReportWriter(Protocol):
    """A loaded model, whichever runtime it is for."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def side(self) -> int: ...  # noqa: D102

    @property
    def decode(self) -> DecodeConfig: ...  # noqa: D102

    @property
    def no_text(self) -> str: ...  # noqa: D102

    @property
    def origin(self) -> Origin: ...  # noqa: D102

    def write(  # noqa: D102
        self,
        studies: Iterable[FilmStudy],
        on_text: Any = None,
        context: Context = NO_CONTEXT,
        prior: FilmStudy | None = None,
    ) -> Iterator[Report]: ...


@dataclass(frozen=True)
class ModelSubject:
    """A loaded model."""

    reporter: ReportWriter

    @property
    def name(self) -> str:
        """Of the model, as its reports call it."""
        return self.reporter.name

    @property
    def side(self) -> int | None:
        """What its films are reduced for."""
        return self.reporter.side

    @property
    def no_text(self) -> str:
        """Why it takes no words."""
        return self.reporter.no_text

    def identity(self) -> dict[str, str]:
        """Its name, its weights and how it writes."""
        return {
            "model": self.name,
            "model_sha256": self.reporter.origin.model_sha256 or "not told",
            "decoding": json.dumps(asdict(self.reporter.decode), sort_keys=True),
        }

    def answer(self, films: FilmStudy, context: str) -> Answered:
        """Its report, and what its finding head sees; of what shows no chest too, as blank films do not.

        Raises:
            InputError: it cannot write.
        """
        films = replace(films, choice=replace(films.choice, force=True))
        (report,) = self.reporter.write([films], context=Context(indication=context))
        return Answered(report.text, {one.name: (one.probability, one.verdict) for one in report.findings})
