"""What a reporter does whatever runs its model: one study in, one report out, its findings, its documents."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from r2gengpt.clinical.documents.forms import FORMS, check_films, check_form, formed
from r2gengpt.confidence.findings import Check, Sight, check_shows_chest
from r2gengpt.confidence.maps import Evidence
from r2gengpt.confidence.review import Calibration, judged, marked_text
from r2gengpt.config import DecodeConfig
from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.facts import FilmFacts, facts_in
from r2gengpt.films.film import FilmStudy
from r2gengpt.films.reader import PLAIN
from r2gengpt.films.regions import Region
from r2gengpt.films.sources import prior_of, study_of
from r2gengpt.generation.sentences import TokenWords, token_pieces, token_text
from r2gengpt.generation.stopping import Listener, stopped
from r2gengpt.report import NO_HEAD, Finding, Report, films_of
from r2gengpt.settings import NO_HASH
from r2gengpt.text.context import NO_CONTEXT, Context, check_context


@dataclass(frozen=True, kw_only=True)
class BaseReporter(ABC):
    """A loaded model that writes reports, and how it writes them.

    Attributes:
        name: of the model, as its reports call it.
        decode: how a whole report is decoded, lengths and penalties resolved.
        streamed: the same of a report that is streamed.
        calibration: what its sentences' confidence is computed by; None: they have none.
        abstain_below: sentences less sure than this are marked.
        refuses: a film that shows no chest is refused, unless `force` asks for it.
    """

    name: str
    decode: DecodeConfig
    streamed: DecodeConfig
    calibration: Calibration | None = None
    abstain_below: float | None = None
    refuses: bool = False

    def named(self, name: str) -> Self:
        """The same model under another name."""
        return replace(self, name=name)

    @property
    @abstractmethod
    def side(self) -> int:
        """What films are reduced for, in pixels."""

    @property
    @abstractmethod
    def words(self) -> TokenWords:
        """What knows its tokens."""

    @property
    @abstractmethod
    def context_fields(self) -> tuple[str, ...]:
        """What of a study's context it was trained to find in its prompt."""

    @property
    @abstractmethod
    def tells_findings(self) -> bool:
        """Whether it has a finding head."""

    @property
    @abstractmethod
    def documents_sha256(self) -> str | None:
        """The hash of the model, by which its documents' identifiers differ from another one's; None: it has none."""

    @abstractmethod
    def write(
        self,
        studies: Iterable[FilmStudy],
        on_text: Callable[[str], None] | None = None,
        context: Context = NO_CONTEXT,
        prior: FilmStudy | None = None,
    ) -> Iterator[Report]:
        """The report of each study, in order."""

    @abstractmethod
    def sight_of(self, study: FilmStudy, check: Check | None) -> Sight:
        """What the model sees on a study's films; `check` gets the doubts about them."""

    @abstractmethod
    def explain(self, report: Report, method: str | None = None) -> Evidence:
        """Maps of what each sentence of a report rests on."""

    @abstractmethod
    def regions(self, report: Report) -> tuple[Region, ...]:
        """The areas of its DICOM films that a report's sentences rest on."""

    def report(
        self,
        images: Iterable[object],
        *,
        on_text: Callable[[str], None] | None = None,
        choice: DicomChoice = PLAIN,
        context: Context = NO_CONTEXT,
        prior: Iterable[object] = (),
    ) -> Report:
        """The report of one study.

        Args:
            images: its views: paths, bytes, Pillow images, numpy arrays (H, W) or (H, W, 3), or pydicom data sets.
            on_text: gets the text as it is written, piece by piece.
            choice: what is asked of DICOM.
            context: what is known of it beside, see `write`.
            prior: the views of the patient's study before, as `images`; its report is a part of `context`.

        Raises:
            InputError: an image cannot be read, or they are not of one study.
        """
        check_context(context)
        films = prior_of(prior, choice, self.side)
        (report,) = self.write([study_of(images, choice, self.side)], on_text, context, films)
        return report

    def findings(self, images: Iterable[object], *, choice: DicomChoice = PLAIN) -> tuple[Finding, ...]:
        """What the films of one study show, without a report.

        Args:
            images: as `report` takes them.
            choice: what is asked of DICOM.

        Raises:
            InputError: the model has no finding head, an image cannot be read, or they are not of one study; or a film
                is far from all chest films.
        """
        return self.sight(images, choice=choice).findings

    def sight(self, images: Iterable[object], *, choice: DicomChoice = PLAIN) -> Sight:
        """`findings`, with the doubts about the films."""
        if not self.tells_findings:
            raise InputError(NO_HEAD, field="model", value=self.name)
        study = study_of(images, choice, self.side)
        facts = facts_in(study)
        return self.sight_of(study, self.check_for(study, facts)).with_facts(facts)

    def check_for(self, study: FilmStudy, facts: Sequence[FilmFacts]) -> Check | None:
        """What refuses a study's films by the doubts about them; None where nothing does."""
        return partial(check_shows_chest, facts=facts) if self.refuses and not study.choice.force else None

    def judged(self, report: Report, facts: Sequence[FilmFacts] = ()) -> Report:
        """A report with confidence in its sentences, marks on those that need review, and doubts about its films.

        Args:
            report: as it was written.
            facts: of its films, where they are known.
        """
        return judged(report, self.calibration, self.abstain_below, facts)

    def listener(self, stops: Sequence[str], on_text: Callable[[str], None] | None) -> Listener:
        """What hears a report's tokens as they come; `on_text` gets its words up to the first of the strings."""
        return Listener(self.words, stops, on_text)

    def stopped(self, report: Report, stops: Sequence[str]) -> Report:
        """A report up to the first of some strings, as if it had ended there."""
        return stopped(report, self.words, stops)

    def token_pieces(self, report: Report) -> list[tuple[int, str]]:
        """The tokens that a report's text comes from, each as its place and the text that it adds."""
        return token_pieces(self.words, report)

    def token_text(self, before: Sequence[int], token: int) -> str:
        """The text that a token adds to those before it."""
        return token_text(self.words, before, token)

    def document(self, report: Report, form: str) -> bytes:
        """A report of DICOM films in one of `forms.FORMS`, under the model's name and hash.

        Raises:
            InputError: films that it cannot refer to, or weights on disk, so that the model has no hash.
        """
        study = films_of(report)
        check_form(form, field="format", value=form)
        check_films(form, study)
        digest = self.documents_sha256
        if digest is None:  # drafts of two models would have the same identifiers
            raise InputError(NO_HASH, field="format", value=form)
        regions = self.regions(report) if FORMS[form].regions else ()
        return formed(form, report, marked_text(report), study.headers, self.name, digest, regions)
