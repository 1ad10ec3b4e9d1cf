"""An edge directory that writes reports: the face of `Reporter`, without PyTorch. Has no maps and no streams."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from r2gengpt.clinical.documents.draft import images_to_send
from r2gengpt.clinical.documents.forms import check_form, check_patient, formed
from r2gengpt.confidence.calibration import Calibration, calibration_beside, marked_text, with_confidence
from r2gengpt.confidence.contradictions import reviewed
from r2gengpt.confidence.maps import Evidence
from r2gengpt.config import DecodeConfig
from r2gengpt.edge.runtime import Edge, check_decoding
from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.films.film import FilmStudy
from r2gengpt.films.reader import PLAIN
from r2gengpt.films.sources import study_of
from r2gengpt.generation.decoding import decodings
from r2gengpt.locate import ModelChoice
from r2gengpt.options import Override
from r2gengpt.report import NO_HEAD, Finding, Report, film_json, films_of
from r2gengpt.text.written import noted_json
from r2gengpt.version import __version__


@dataclass(frozen=True)
class EdgeReporter:
    """A model as OpenVINO graphs, and how it writes; see `Reporter`."""

    edge: Edge
    decode: DecodeConfig
    calibration: Calibration | None = None
    abstain_below: float | None = None

    @classmethod
    def load(cls, choice: ModelChoice) -> "EdgeReporter":
        """The model of an edge directory.

        Raises:
            InputError: no such directory, a damaged one, or settings that the runtime has not.
        """
        for name, value in {**choice.model.values, **choice.placement.values}.items():
            raise InputError("an edge directory is a whole model, its parts are settled", field=name, value=value)
        if choice.retrieves:
            raise InputError("`runtime` openvino writes by its language model", field="writer", value="retrieve")
        if choice.accelerator not in ("auto", "cpu"):
            raise InputError("`runtime` openvino runs on cpu", field="accelerator", value=choice.accelerator)
        edge = Edge(Path(choice.name), frugal=True)
        stored = Override(DecodeConfig, asdict(edge.record.decode))
        decode = decodings(stored, choice.decode, choice.preset, dataset="plain", directory=edge.directory).whole
        check_decoding(decode)
        return cls(edge, decode, calibration_beside(edge.directory, decode, choice.abstain_below), choice.abstain_below)

    @property
    def name(self) -> str:
        """Of the model, as its reports call it."""
        return self.edge.directory.name

    @property
    def side(self) -> int:
        """What films are reduced for, in pixels."""
        return self.edge.record.film.decoded

    @property
    def no_text(self) -> str:
        """Why words beside the films do not reach its reports."""
        return "`runtime` openvino has one prompt, settled when it was exported"

    @property
    def fingerprint(self) -> str:
        """A name for its very weights."""
        return self.digest

    def write(
        self,
        studies: Iterable[FilmStudy],
        on_text: Callable[[str], None] | None = None,
        indication: str = "",
    ) -> Iterator[Report]:
        """The report of each study, in order.

        Raises:
            InputError: a stream or an indication is asked for, or prompt and report do not fit into the language model.
        """
        if indication:
            raise InputError(self.no_text, field="indication", value=indication)
        if on_text is not None:
            words = "`runtime` openvino prints a report when it is whole; leave it out"
            raise InputError(words, field="stream", value=True)
        for study in studies:
            report = self.edge.report(study.id, study.pictures, self.decode)
            report = reviewed(with_confidence(report, self.calibration, self.abstain_below))
            yield replace(report, note=study.note, study=study, reporter=self)

    def report(
        self, images: Iterable[object], *, on_text: Callable[[str], None] | None = None, choice: DicomChoice = PLAIN
    ) -> Report:
        """The report of one study; see `Reporter.report`."""
        (report,) = self.write([study_of(images, choice, self.side)], on_text)
        return report

    def findings(self, images: Iterable[object], *, choice: DicomChoice = PLAIN) -> tuple[Finding, ...]:
        """What the films of one study show, without a report; see `Reporter.findings`."""
        if not self.edge.scales:
            raise InputError(NO_HEAD, field="model", value=self.name)
        return self.edge.look(study_of(images, choice, self.side).pictures).findings

    def explain(self, report: Report, method: str | None = None) -> Evidence:
        """Refused: maps need PyTorch."""
        raise InputError("needs PyTorch, `runtime` openvino has no maps", field="evidence", value=report.id)

    def record(self, report: Report) -> dict[str, Any]:
        """A report with what it was made with and from, ready for JSON."""
        source = self.edge.record.source
        return {
            **noted_json(report.note),
            "report": report.text,
            "tokens": report.tokens,
            "logprob": report.logprob,
            "finish": report.finish,
            "sentences": [sentence.to_json() for sentence in report.sentences],
            **film_json(report),
            "images": [film.name for film in films_of(report).films],
            "views": list(films_of(report).views),
            "model": self.name,
            "vision_model": source["vision_model"],
            "lm_model": source["lm_model"],
            "version": __version__,
            "runtime": "openvino",
            "weights": self.edge.record.weights,
            "made_from": source,
        }

    def document(self, report: Report, form: str) -> bytes:
        """A report of DICOM films as fhir, hl7, sr or pdf, under the model's name and hash."""
        study = films_of(report)
        check_form(form, field="format", value=form)
        names = [film.name for film in study.films]
        check_patient(form, images_to_send(names, study.headers, field="format", value=form), field="format")
        return formed(form, report, marked_text(report), study.headers, self.name, self.digest)

    @cached_property
    def digest(self) -> str:
        """A name for these very weights: SHA-256 over what they were made from and the hashes of all files."""
        content = json.dumps([self.edge.record.source, self.edge.record.files], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()
