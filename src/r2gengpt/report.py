"""A generated report as a record: its text, its sentences, what it asserts, the forms it leaves in. No model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from r2gengpt.errors import InputError
from r2gengpt.text.observations import LIKELY, NOT_ASSESSED, POSSIBLE, UNLIKELY
from r2gengpt.text.written import json_text, noted_json

if TYPE_CHECKING:
    from r2gengpt.confidence.maps import Evidence
    from r2gengpt.films.film import FilmStudy

NO_HEAD = "has no finding head: train one with `findings_head` True"
"""Why a model tells no findings."""
SUSPECTED = "suspected"
"""What stands for `LIKELY` where a probability is below one half."""


@dataclass(frozen=True)
class Sentence:
    """One sentence of a generated report, and how far it can be relied on.

    `tokens` counts the tokens that its text comes from, and `logprob` is their mean natural-log probability under the
    model's own distribution (before penalties). `agreement` is the share of the reports that beam search ended with
    that say this sentence (None: no beams), `confidence` the calibrated probability that a reference supports it (None:
    not calibrated); `needs_review` marks a sentence below `abstain_below`, or one that the film contradicts, and
    `reason` says which. `source` is the training study that a sentence was taken from (empty: it was written).
    """

    text: str
    tokens: int
    logprob: float
    agreement: float | None = None
    confidence: float | None = None
    needs_review: bool = False
    reason: str = ""
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; an empty `reason` or `source` is left out."""
        return {name: value for name, value in asdict(self).items() if value != "" or name == "text"}


@dataclass(frozen=True)
class Finding:
    """What the films of a study show of one observation, by the model's finding head.

    Attributes:
        name: the observation's own name, as Pleural Effusion.
        probability: calibrated on the validation split.
        interval: 95 %, of the calibration; not of the film.
        verdict: `LIKELY`, `POSSIBLE`, `UNLIKELY` or `NOT_ASSESSED`.
    """

    name: str
    probability: float
    interval: tuple[float, float]
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; probabilities to 4 places."""
        interval = [round(bound, 4) for bound in self.interval]
        return {
            "name": self.name,
            "probability": round(self.probability, 4),
            "interval": interval,
            "verdict": self.verdict,
        }

    @property
    def word(self) -> str:
        """The verdict as people read it: what is told from chance and still rare is suspected, not likely.

        >>> Finding("Edema", 0.14, (0.1, 0.2), LIKELY).word, Finding("Edema", 0.6, (0.5, 0.7), LIKELY).word
        ('suspected', 'likely')
        """
        return SUSPECTED if self.verdict == LIKELY and self.probability < 0.5 else self.verdict

    @property
    def in_short(self) -> str:
        """As a part of a line.

        >>> Finding("Pleural Effusion", 0.914, (0.85, 0.95), LIKELY).in_short
        'pleural effusion likely (.91)'
        """
        return f"{plain_name(self.name)} {self.word} ({chance(self.probability)})"

    @property
    def in_full(self) -> str:
        """As a line of its own.

        >>> Finding("Pleural Effusion", 0.914, (0.85, 0.95), LIKELY).in_full
        'Pleural Effusion: likely (probability 0.91, 95 % interval 0.85 to 0.95)'
        """
        low, high = self.interval
        numbers = f"probability {self.probability:.2f}, 95 % interval {low:.2f} to {high:.2f}"
        return f"{self.name}: {self.word} ({numbers})"


@dataclass(frozen=True)
class Doubt:
    """Why a film may be none that the model can read.

    Attributes:
        film: its place in the study, from 1.
        kind: of `confidence.film_guard`.
        words: what it looks like; they go on after the film's name.
        refused: it is far enough from chest films to be refused, where such films are.
    """

    film: int
    kind: str
    words: str
    refused: bool = False

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"film": self.film, "kind": self.kind, "reason": self.words}

    @property
    def line(self) -> str:
        """As a line of its own.

        >>> Doubt(2, "inverted", "looks inverted").line
        'film 2 looks inverted'
        """
        return f"film {self.film} {self.words}"


def plain_name(observation: str) -> str:
    """An observation's name within a sentence; "no finding possible" could be read two ways.

    >>> plain_name("Lung Opacity"), plain_name("No Finding"), plain_name("AP View")
    ('lung opacity', 'normal film', 'AP view')
    """
    if observation == "No Finding":
        return "normal film"
    return " ".join(word if word.isupper() else word.lower() for word in observation.split())


def chance(probability: float) -> str:
    """A probability within a sentence; one that rounds to 0 or 1 is neither.

    >>> chance(0.914), chance(0.999), chance(0.001)
    ('.91', '>.99', '<.01')
    """
    rounded = f"{probability:.2f}"
    return {"0.00": "<.01", "1.00": ">.99"}.get(rounded, rounded.removeprefix("0"))


class Writer(Protocol):
    """What wrote a report, and can say more of it; `Reporter` is one."""

    def explain(self, report: "Report") -> "Evidence":
        """Maps of the image tokens that each sentence rests on."""

    def record(self, report: "Report") -> dict[str, Any]:
        """What the report was made with and from."""

    def document(self, report: "Report", form: str) -> bytes:
        """The report in one of `clinical.documents.forms.FORMS`."""


@dataclass(frozen=True)
class Report:
    """One generated report.

    Attributes:
        id: of its study.
        text: what the model wrote.
        reference: the study's own report, empty where none is known.
        tokens: new tokens, the end token included.
        logprob: their mean natural-log probability under the model's own distribution (before penalties).
        finish: "stop" (end token) or "length".
        patient: whose study it is, empty where that is not known.
        sentences: in the order of the text.
        findings: what the films show, by the model's finding head; empty where it has none.
        doubts: which films may be none that the model can read.
        review: why the report as a whole needs review: doubts about films, what the text leaves out, a line each.
        note: what is doubtful about whose images these are.
        token_ids: its new tokens, the end token included; empty where it was composed, or read from a file.
        token_logprobs: natural-log probability of each under the model's own distribution.
        compared: whether it was written beside an earlier study.
        instruction: what its prompt asked for; None: the model's own instruction.
        study: the films that it is of; None for a report that was read from a file.
        prior: the films of the patient's study before that the model was given; None: there were none.
        prior_days: how many days before that was, where it is known.
        reporter: what wrote it; None likewise, and for a copy or a pickled report: a model does not travel with it.
    """

    id: str
    text: str
    reference: str = ""
    tokens: int = 0
    logprob: float = 0.0
    finish: str = "stop"
    patient: str = ""
    sentences: tuple[Sentence, ...] = ()
    findings: tuple[Finding, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    review: tuple[str, ...] = ()
    note: str = ""
    compared: bool = False
    token_ids: tuple[int, ...] = field(default=(), repr=False, compare=False)
    token_logprobs: tuple[float, ...] = field(default=(), repr=False, compare=False)
    instruction: str | None = field(default=None, repr=False, compare=False)
    study: "FilmStudy | None" = field(default=None, repr=False, compare=False)
    prior: "FilmStudy | None" = field(default=None, repr=False, compare=False)
    prior_days: float | None = field(default=None, repr=False, compare=False)
    reporter: Writer | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return self.text

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "reporter": None}

    @property
    def asserted(self) -> dict[str, str]:
        """What the text says of each observation that it mentions: positive, uncertain or negative.

        By the rule labeller (CheXpert's 14 observations). It reads the text alone; what the film shows is `findings`.
        """
        from r2gengpt.metrics.labels.reading import asserted

        return asserted(self.text)

    def evidence(self) -> "Evidence":
        """Maps of the image tokens that each sentence rests on, by the model that wrote the report.

        Raises:
            InputError: the report was read from a file, or its model has no maps.
        """
        return self._writer().explain(self)

    def to_json(self) -> str:
        """The report with what it was made with and from, as one JSON object."""
        return json_text(self._writer().record(self), indent=1, ascii_only=True)

    def to_fhir(self) -> str:
        """The report as a FHIR R4 transaction bundle, in JSON.

        Raises:
            InputError: the films are no DICOM, or a package of the extra `fhir` is missing.
        """
        return self._writer().document(self, "fhir").decode()

    def to_sr(self) -> bytes:
        """The report as a DICOM Basic Text structured report, a whole file.

        Raises:
            InputError: the films are no DICOM, or a package of the extra `dicom` is missing.
        """
        return self._writer().document(self, "sr")

    def to_measurement_sr(self) -> bytes:
        """The report as a DICOM measurement report (TID 1500): coded findings, evidence as regions, a whole file.

        Raises:
            InputError: as `to_sr`.
        """
        return self._writer().document(self, "measurement-sr")

    def to_secondary_capture(self) -> bytes:
        """The report as a DICOM secondary capture image of its text, a whole file, for viewers that show no SR.

        Raises:
            InputError: as `to_sr`.
        """
        return self._writer().document(self, "secondary-capture")

    def to_prediction(self) -> dict[str, Any]:
        """The record as it stands in predictions.jsonl."""
        sentences = [sentence.to_json() for sentence in self.sentences]
        record: Mapping[str, Any] = {
            "id": self.id,
            "prediction": self.text,
            "reference": self.reference,
            "tokens": self.tokens,
            "logprob": self.logprob,
            "finish": self.finish,
        }
        patient = {"patient": self.patient} if self.patient else {}
        return {**record, **patient, "sentences": sentences, **film_json(self)}

    def _writer(self) -> Writer:
        if self.reporter is None:
            raise InputError(f"report {self.id}: was read from a file, or is a copy, so no model can tell more of it")
        return self.reporter


def films_of(report: Report) -> "FilmStudy":
    """The films that a report is of.

    Raises:
        InputError: it was read from a file.
    """
    if report.study is None:
        raise InputError(f"report {report.id}: was read from a file, its films are not known")
    return report.study


def written_json(report: Report) -> dict[str, Any]:
    """A report with its films' names, as a part of its record."""
    study = films_of(report)
    return {
        **noted_json(report.note),
        "report": report.text,
        "tokens": report.tokens,
        "logprob": report.logprob,
        "finish": report.finish,
        "sentences": [sentence.to_json() for sentence in report.sentences],
        **film_json(report),
        "images": [film.name for film in study.films],
        "views": list(study.views),
    }


def film_json(report: Report, name: str = "findings") -> dict[str, Any]:
    """What the films show and why the report needs review, as a part of a JSON object; nothing where there is nothing.

    Args:
        report: which.
        name: of the findings.
    """
    parts = {
        name: [finding.to_json() for finding in report.findings],
        "doubts": [doubt.to_json() for doubt in report.doubts],
        "review": list(report.review),
    }
    return {key: value for key, value in parts.items() if value}


def review_lines(report: Report) -> tuple[str, ...]:
    """Why a report needs review: of each sentence that has a reason, then of the report as a whole."""
    marked = [one for one in report.sentences if one.needs_review and one.reason]
    return (*(f'"{one.text}" {one.reason}' for one in marked), *report.review)


def film_lines(report: Report) -> tuple[str, ...]:
    """What stands below a report's text: what the films show, and why it needs review. Empty where there is neither.

    >>> film_lines(Report("1", "Clear.", findings=(Finding("Edema", 0.91, (0.8, 0.95), LIKELY),), review=("left out",)))
    ('Film shows: edema likely (.91)', 'Needs review: left out')
    """
    shown = [finding.in_short for finding in by_verdict(report.findings) if finding.verdict in (LIKELY, POSSIBLE)]
    film = [f"Film shows: {', '.join(shown) or 'nothing that is likely or possible'}"] if report.findings else []
    return (*film, *(f"Needs review: {line}" for line in review_lines(report)))


def by_verdict(findings: Sequence[Finding]) -> list[Finding]:
    """Findings with the likely ones first, then by verdict; of one verdict in their own order."""
    order = (LIKELY, POSSIBLE, UNLIKELY, NOT_ASSESSED)
    return sorted(findings, key=lambda finding: order.index(finding.verdict))
