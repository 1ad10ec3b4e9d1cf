"""An edge directory that writes reports: the face of `Reporter`, without PyTorch. Makes no maps, draws no tokens."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from r2gengpt.base_reporter import BaseReporter
from r2gengpt.confidence.findings import Check, Sight
from r2gengpt.confidence.maps import Evidence
from r2gengpt.confidence.review import CALIBRATION, calibration_beside
from r2gengpt.config import PRIOR, DecodeConfig
from r2gengpt.edge.record import view_pixels
from r2gengpt.edge.runtime import Edge, EdgeTokenizer, Watch, check_decoding
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.facts import facts_in
from r2gengpt.films.film import FilmStudy, Pixels
from r2gengpt.films.regions import Region
from r2gengpt.generation.beams import decodings
from r2gengpt.generation.sentences import TextPieces
from r2gengpt.locate import ModelChoice
from r2gengpt.options import Override
from r2gengpt.provenance import Origin, file_sha256, part_name
from r2gengpt.report import Report, written_json
from r2gengpt.settings import REFUSE
from r2gengpt.text.context import NO_CONTEXT, Context, instruction_for
from r2gengpt.version import __version__


@dataclass(frozen=True, kw_only=True)
class EdgeReporter(BaseReporter):
    """A model as OpenVINO graphs, and how it writes; see `Reporter`.

    Attributes:
        edge: the graphs.
        torch: gives the same model in PyTorch, loaded at the first call, for what graphs have not: maps, a context, an
            earlier study. None: these are refused.
    """

    edge: Edge
    torch: Callable[[], BaseReporter] | None = None

    @classmethod
    def load(cls, choice: ModelChoice, *, frugal: bool = True) -> "EdgeReporter":
        """The model of an edge directory.

        Args:
            choice: which one.
            frugal: as `Edge` has it; False also makes its graphs ready, for many studies.

        Raises:
            InputError: no such directory, a damaged one, or settings that the runtime has not.
        """
        for name, value in {**choice.model.values, **choice.placement.values}.items():
            raise InputError("an edge directory is a whole model, its parts are settled", field=name, value=value)
        if choice.retrieves:
            raise InputError("`runtime` openvino writes by its language model", field="writer", value="retrieve")
        if choice.accelerator not in ("auto", "cpu"):
            raise InputError("`runtime` openvino runs on cpu", field="accelerator", value=choice.accelerator)
        edge = Edge(Path(choice.name), frugal=frugal)
        stored = Override(DecodeConfig, asdict(edge.record.decode))
        both = decodings(stored, choice.decode, choice.preset, dataset="plain", directory=edge.directory)
        check_decoding(both.whole)
        calibration = calibration_beside(edge.directory, both.whole, choice.abstain_below)
        if not frugal:
            edge.compile()
        return cls(
            name=choice.alias or edge.directory.name,
            edge=edge,
            decode=both.whole,
            streamed=both.streamed,
            calibration=calibration,
            abstain_below=choice.abstain_below,
            refuses=choice.film_guard == REFUSE,
        )

    @property
    def directory(self) -> Path:
        """Of the export."""
        return self.edge.directory

    @property
    def side(self) -> int:
        """What films are reduced for, in pixels."""
        return self.edge.record.film.decoded

    @property
    def words(self) -> EdgeTokenizer:
        """What knows its tokens."""
        return self.edge.words

    @property
    def instruction(self) -> str:
        """What its prompt asks for, as far as the export tells; else empty."""
        return self.edge.record.hint.instruction if self.edge.record.hint else ""

    @property
    def context_fields(self) -> tuple[str, ...]:
        """What of a study's context stands in its prompt: nothing, the prompt is settled."""
        return ()

    def instruction_for(self, context: Context, headers: Sequence[DicomHeader | None] = ()) -> str | None:
        """As `Reporter.instruction_for`, for what tells that the words have no effect."""
        return instruction_for(context, self.instruction)

    @property
    def part_names(self) -> tuple[str, str]:
        """The encoder's name and the language model's, without their directories."""
        source = self.edge.record.source
        return part_name(source["vision_model"]), part_name(source["lm_model"])

    @property
    def composes(self) -> bool:
        """Whether its reports are composed of training sentences."""
        return False

    @property
    def tells_findings(self) -> bool:
        """Whether it has a finding head."""
        return bool(self.edge.scales)

    @property
    def written_by(self) -> Mapping[str, str | None]:
        """What wrote, besides what `origin` tells: a part of a record."""
        return {"runtime": "openvino", "weights": self.edge.record.weights}

    @cached_property
    def origin(self) -> Origin:
        """What all its reports were made with; its hash is of the graphs, see `documents_sha256`."""
        source = self.edge.record.source
        vision_model, lm_model = self.part_names
        return Origin(
            vision_model=vision_model,
            lm_model=lm_model,
            model_sha256=self.documents_sha256,
            delta_sha256=source.get("delta_sha256"),
            calibration_sha256=file_sha256(self.directory / CALIBRATION),
            versions={
                "r2gengpt": __version__,
                "openvino": self.edge.version,
                "python": platform.python_version(),
            },
        )

    @property
    def no_text(self) -> str:
        """Why words beside the films do not reach its reports."""
        return "`runtime` openvino has one prompt, settled when it was exported"

    def write(
        self,
        studies: Iterable[FilmStudy],
        on_text: Callable[[str], None] | None = None,
        context: Context = NO_CONTEXT,
        prior: FilmStudy | None = None,
    ) -> Iterator[Report]:
        """The report of each study, in order.

        Raises:
            InputError: there is a context and no PyTorch beside, prompt and report do not fit into the language model,
                or a film shows no chest and such are refused.
        """
        if self.torch is not None and (context.present or prior is not None):
            yield from self.torch().write(studies, on_text, context, prior)
            return
        if context.present:
            name = context.present[0]
            raise InputError(self.no_text, field=name, value=getattr(context, name))
        if prior is not None:
            raise InputError(self.no_text, field=PRIOR)
        for study in studies:
            pixels = self.pixels(study.pictures)
            facts = facts_in(study)
            check = self.check_for(study, facts)
            if on_text is None:
                report, _ = self.draft(pixels, self.decode, check=check)
            else:
                report, _ = self.stream(pixels, on_text, check)
            yield replace(self.judged(report, facts), id=study.id, note=study.note, study=study, reporter=self)

    def pixels(self, pictures: Sequence[Image.Image]) -> Pixels:
        """The views of one study, (V, 3, H, W), float32."""
        return view_pixels(pictures, self.edge.record.film)

    def draft(
        self, pixels: Pixels, decode: DecodeConfig, watch: Watch | None = None, check: Check | None = None
    ) -> tuple[Report, int]:
        """What the model writes, not yet judged, and how many tokens its prompt had.

        Args:
            pixels: (V, 3, H, W), of one study.
            decode: how, lengths and penalties resolved.
            watch: gets each token; True ends a report of one beam.
            check: gets the doubts about the films before anything is written, and may refuse them.
        """
        seen = self.edge.see(pixels)
        if check is not None:
            check(seen.sight.doubts)
        return self.edge.written(seen, decode, watch)

    def stream(self, pixels: Pixels, on_text: Callable[[str], None], check: Check | None = None) -> tuple[Report, int]:
        """`draft` by one beam; `on_text` gets its words as they come."""
        pieces = TextPieces(self.words, on_text)

        def watch(token: int) -> bool:
            pieces.show(token)
            return False

        found = self.draft(pixels, self.streamed, watch, check)
        pieces.end()
        return found

    def sight_of(self, study: FilmStudy, check: Check | None) -> Sight:
        """As `Reporter.sight_of`."""
        sight = self.edge.look(study.pictures).sight
        if check is not None:
            check(sight.doubts)
        return sight

    def explain(self, report: Report, method: str | None = None) -> Evidence:
        """Maps of what each sentence of a report rests on, by PyTorch; see `Reporter.explain`.

        Raises:
            InputError: PyTorch is not beside, or the model has no such maps.
        """
        if self.torch is not None:
            return self.torch().explain(report, method)
        raise InputError("needs PyTorch, `runtime` openvino has no maps", field="evidence", value=report.id)

    def regions(self, report: Report) -> tuple[Region, ...]:
        """The areas that a report's sentences rest on: none without PyTorch beside; see `Reporter.regions`."""
        return () if self.torch is None else self.torch().regions(report)

    def record(self, report: Report) -> dict[str, Any]:
        """A report with what it was made with and from, ready for JSON."""
        source = self.edge.record.source
        return {
            **written_json(report),
            "model": self.name,
            "vision_model": source["vision_model"],
            "lm_model": source["lm_model"],
            "version": __version__,
            "runtime": "openvino",
            "weights": self.edge.record.weights,
            "made_from": source,
        }

    @cached_property
    def documents_sha256(self) -> str:
        """A name for these very weights: SHA-256 over what they were made from and the hashes of all files."""
        content = json.dumps([self.edge.record.source, self.edge.record.files], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()
