"""A loaded model that writes reports: what every command and Python itself use. Names no flag, writes no file."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from r2gengpt.base_reporter import BaseReporter
from r2gengpt.checkpoint_files import SENTENCES, check_writes, tells_findings_only
from r2gengpt.confidence.finding_maps import MapMaker
from r2gengpt.confidence.findings import Check, Sight
from r2gengpt.confidence.looking import Looker
from r2gengpt.confidence.maps import Evidence
from r2gengpt.confidence.review import calibration_beside
from r2gengpt.config import PRIOR, DataConfig, DecodeConfig, Stored
from r2gengpt.data.batches import Batch, Example, prompt_batch
from r2gengpt.data.features.filling import Features, cached_features, encoding
from r2gengpt.data.study import Study
from r2gengpt.engines.attach import check_scores, written_elsewhere
from r2gengpt.errors import InputError
from r2gengpt.films.context import context_of, since
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.facts import facts_in
from r2gengpt.films.film import FilmStudy, Pixels
from r2gengpt.films.regions import Region
from r2gengpt.generation.composition import Composer
from r2gengpt.generation.decode import predict, stream
from r2gengpt.generation.likeliest import likeliest_tokens
from r2gengpt.generation.sentences import PlaceInText
from r2gengpt.generation.speculate import Drafter, drafter_for
from r2gengpt.generation.suffixes import SuffixIndex
from r2gengpt.generation.tree import ALONE
from r2gengpt.generation.turns import Turns
from r2gengpt.loaded import composer_of, index_of, loaded, looker_of, tell_unused
from r2gengpt.locate import Located, ModelChoice, TrainTexts, locate
from r2gengpt.model.earlier import NOW, span_of
from r2gengpt.model.processing import R2GenGPTProcessor, ViewMaker, decoded_size, pad_views
from r2gengpt.parts.assemble import Built
from r2gengpt.parts.loading import load_image_processor
from r2gengpt.parts.placement import place
from r2gengpt.provenance import Origin, file_sha256, origin_of, part_name
from r2gengpt.report import Report, films_of, written_json
from r2gengpt.settings import REFUSE
from r2gengpt.text.context import NO_CONTEXT, UNTRAINED, Context
from r2gengpt.version import __version__

log = logging.getLogger("r2gengpt.generation")
NEVER_TRAINED = ("language_model.", "projector.")
"""Parts of a model that tells findings alone: without weights, or with new ones each time."""


@dataclass(frozen=True, kw_only=True)
class Reporter(BaseReporter):
    """A model in PyTorch, and how it writes.

    Attributes:
        built: the model in eval mode, on its device, and its processor.
        stored: how it was made.
        directory: of its checkpoint, or its original file.
        index: of the training reports, which drafts are taken from; None: no drafts.
        looker: its finding head at work; None: it has none.
        composer: what writes in place of the language model; None: the language model writes.
    """

    built: Built
    stored: Stored
    directory: Path
    index: SuffixIndex | None = None
    looker: Looker | None = None
    composer: Composer | None = None

    @classmethod
    def load(cls, choice: ModelChoice) -> "Reporter":
        """The model of a choice, ready to write.

        Raises:
            InputError: no model there, settings that contradict it, or parts that cannot be loaded.
        """
        return cls.of(locate(choice))

    @classmethod
    def of(
        cls,
        located: Located,
        *,
        device: torch.device | None = None,
        texts: TrainTexts | None = None,
    ) -> "Reporter":
        """A model that was located, ready to write.

        Args:
            located: the model.
            device: where it is to be; None: by the choice's accelerator.
            texts: what drafts are taken from where no index lies beside the weights.

        Raises:
            InputError: as `load`.
        """
        choice = located.choice
        device = torch.device(choice.device()) if device is None else device
        built, stored = loaded(located)
        retrieves = choice.retrieves
        if retrieves:
            tell_unused(choice)
        both = located.decodings(stored)
        check_scores(built.model.language_model, choice.abstain_below)
        calibration = None if retrieves else calibration_beside(located.directory, both.whole, choice.abstain_below)
        looker = looker_of(built, located)
        if tells_findings_only(stored):  # its language model has no weights to place
            built.model.vision_tower.to(device)
            if built.model.finding_head is not None:
                built.model.finding_head.to(device)
        else:
            place(built.model, device, choice.where.quantization)
        return cls(
            name=located.name,
            built=built,
            stored=stored,
            directory=located.directory,
            decode=both.whole,
            streamed=both.streamed,
            calibration=calibration,
            abstain_below=choice.abstain_below,
            refuses=choice.film_guard == REFUSE,
            index=index_of(built, located.directory, texts) if both.whole.speculate else None,
            looker=looker,
            composer=composer_of(looker, located.directory) if retrieves else None,
        )

    @staticmethod
    def view_maker(located: Located) -> ViewMaker:
        """What makes the model's pixels of films, without any weights: for processes that only read films.

        Raises:
            InputError: it cannot be loaded.
        """
        name, remote = str(located.stored.model.values["vision_model"]), located.choice.where.trust_remote_code
        return ViewMaker(load_image_processor(name, trust_remote_code=remote, whole=located.whole))

    @cached_property
    def origin(self) -> Origin:
        """What all its reports were made with: parts, hashes and versions."""
        left_out = NEVER_TRAINED if tells_findings_only(self.stored) else ()
        beside = "".join(f"{name} {value}\n" for name, value in self.written_by.items()).encode()
        return origin_of(self.built.model, self.stored, self.directory, beside=beside, left_out=left_out)

    @cached_property
    def written_by(self) -> Mapping[str, str | None]:
        """Who wrote, where it was not the language model: a part of a record."""
        if self.composer is None:
            return written_elsewhere(self.built.model.language_model, self.directory)
        return {"writer": "retrieve", "sentences_sha256": file_sha256(self.directory / SENTENCES)}

    @property
    def no_text(self) -> str:
        """Why words beside the films do not reach its reports; empty where they do."""
        return "" if self.composer is None else "`writer` retrieve reads no prompt"

    @property
    def instruction(self) -> str:
        """What its prompt asks for."""
        return str(self.built.processor.instruction)

    @property
    def words(self) -> R2GenGPTProcessor:
        """What knows its tokens."""
        return self.built.processor

    def count_tokens(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self.built.processor.encode_text(text))

    @property
    def assessed(self) -> tuple[bool, ...]:
        """Of each observation, whether its finding head tells it from chance; none without a head."""
        return () if self.looker is None else tuple(scale.assessed for scale in self.looker.scales)

    @property
    def hints(self) -> bool:
        """Whether its prompts hold what its finding head tells."""
        return self.looker is not None and self.looker.hints

    def with_hints(self, hints: Mapping[str, str]) -> "Reporter":
        """The same model; prompts of these studies, by id, hold these hints in place of its finding head's own."""
        return self if self.looker is None else replace(self, looker=replace(self.looker, hint_overrides=hints))

    @property
    def composes(self) -> bool:
        """Whether its reports are composed of training sentences."""
        return self.composer is not None

    @property
    def tells_findings(self) -> bool:
        """Whether it has a finding head."""
        return self.looker is not None

    @property
    def part_names(self) -> tuple[str, str]:
        """The encoder's name and the language model's, without their directories."""
        values = self.stored.model.values
        return part_name(values["vision_model"]), part_name(values["lm_model"])

    @property
    def side(self) -> int:
        """What films are reduced for: the pixels of the longer side of the encoder's input."""
        return decoded_size(self.built.processor)

    def pixels(self, pictures: Sequence[Image.Image]) -> Pixels:
        """The views of one study, (V, 3, H, W), float32."""
        values: Pixels = self.built.processor.pixels(pictures).numpy()
        return values

    @property
    def context_fields(self) -> tuple[str, ...]:
        """What of a study's context it was trained to find in its prompt; none: nothing."""
        return tuple(self.built.processor.context_fields)

    def instruction_for(self, context: Context, headers: Sequence[DicomHeader | None] = ()) -> str | None:
        """What the prompt of a study asks for; None: the model's own instruction.

        Args:
            context: what is known of the study.
            headers: of its films, which tell what the context leaves open to a model that was trained with one.

        Raises:
            InputError: a field of the context can be no part of this model's prompt; one of the headers is left out.
        """
        if self.context_fields:
            known = context_of(headers)
            context = context.over(known.only([name for name in self.context_fields if self._fits(known, name)]))
        return self.built.processor.instruction_for(context)

    def _fits(self, known: Context, name: str) -> bool:
        """Whether a field that headers tell can stand in the prompt: nobody typed it, so it holds up no report."""
        try:
            self.built.processor.instruction_for(known.only([name]))
        except InputError as error:
            log.warning("of a film's header, left out: %s", error)
            return False
        return True

    def batch(
        self,
        pixels: Tensor,
        instruction: str | None = None,
        name: str = "study",
        *,
        earlier: Tensor | None = None,
        context: Context = NO_CONTEXT,
    ) -> Batch:
        """One study as the model takes it.

        Args:
            pixels: (V, 3, H, W), float32, as the processor makes them.
            instruction: what the prompt asks for; None: the model's own.
            name: the study's id.
            earlier: the films of an earlier study, as `pixels`; None: there are none.
            context: tells of that study.

        Raises:
            InputError: an instruction that can be no prompt of this model.
        """
        count = 0 if earlier is None else len(earlier)
        values, mask = pad_views([pixels if earlier is None else torch.cat([pixels, earlier])])
        marks = torch.tensor([[NOW] * len(pixels) + [span_of(context.prior_days)] * count]) if count else None
        ids = torch.tensor([self.built.processor.prompt_row(len(pixels), instruction, count)])
        asked = (instruction,) if instruction is not None else ()
        compared = self.built.processor.reads_prior and (count > 0 or bool(context.prior))
        return Batch((name,), ("",), ids, torch.ones_like(ids), values, mask,
                     instructions=asked, marks=marks, compared=(compared,))  # fmt: skip

    def encode(self, pixels: Tensor) -> Tensor:
        """The vision encoder's features of images (K, 3, H, W): (K, N, E), float32, on the CPU."""
        return encoding(self.built.model, self.built.model.device, None)(pixels)

    def features(self, data: DataConfig, studies: Sequence[Study], device: torch.device) -> Features:
        """The features of all films of studies from `data.feature_cache`, those that are missing built first.

        Raises:
            InputError: the directory cannot be written to or has no room, or an image cannot be read.
        """
        assert data.feature_cache is not None
        where, threads = (data.feature_cache, data.feature_cache_dtype), max(1, data.num_workers)
        return cached_features(*where, self.built.model, self.built.processor, studies, device=device, threads=threads)

    def prompts(self, examples: Sequence[Example]) -> Batch:
        """Several studies as the model takes them."""
        return prompt_batch(examples, self.built.processor)

    def write(
        self,
        studies: Iterable[FilmStudy],
        on_text: Callable[[str], None] | None = None,
        context: Context = NO_CONTEXT,
        prior: FilmStudy | None = None,
    ) -> Iterator[Report]:
        """The report of each study, in order.

        Args:
            studies: their films.
            on_text: gets the text as it is written; then reports are decoded as `streamed`.
            context: what is known of them beside, for the prompt. A model that was trained with context takes what is
                left open from DICOM headers; another one takes an indication alone.
            prior: the films of the patient's study before, for a model that was trained with such. Where the context
                does not tell how many days before, their headers do.

        Raises:
            InputError: prompt and report do not fit into the language model, the films before are another patient's, or
                a film shows no chest and such are refused.
        """
        self.check_writes()
        self.tell_unread(context, prior)
        reads, processor = self.built.processor.reads_prior, self.built.processor
        earlier = processor.pixels(prior.pictures) if prior is not None and reads else None
        for study in studies:
            full_context = context if prior is None else since(context, study.headers, prior.headers)
            instruction = self.instruction_for(full_context, study.headers)
            pixels = processor.pixels(study.pictures)
            batch = self.batch(pixels, instruction, study.id, earlier=earlier, context=full_context)
            facts = facts_in(study)
            check = self.check_for(study, facts)
            if on_text is None:
                (report,) = self.predict([batch], check=check)
            else:
                report = self.stream(batch, self.streamed, on_text, check)
            report = self.judged(report, facts)
            report = replace(report, note=study.note, instruction=instruction, study=study, reporter=self)
            yield report if earlier is None else replace(report, prior=prior, prior_days=full_context.prior_days)

    def tell_unread(self, context: Context, prior: FilmStudy | None = None) -> None:
        """Log what has no effect of a context and an earlier study's films, as the model was trained without it."""
        present = dict.fromkeys((*context.present, *((PRIOR,) if prior is not None else ())))
        unread = [name for name in present if name not in (self.context_fields or UNTRAINED)]
        if unread:
            log.warning("no effect, %s was trained without: %s", self.name, ", ".join(f"`{name}`" for name in unread))

    def predict(
        self, batches: Iterable[Batch], decode: DecodeConfig | None = None, *, check: Check | None = None
    ) -> Iterator[Report]:
        """The reports of batches of prompts, in order.

        Args:
            batches: the prompts, padded on the left.
            decode: how; None: as whole reports are decoded.
            check: gets the doubts about each study's films before its report is written, and may refuse it.

        Raises:
            InputError: prompt and report do not fit into the language model, or `check` refuses.
        """
        self.check_writes()
        if self.composer is not None:
            return self._retrieved(self.composer, batches, check)
        seen: list[Sight] = []

        def looked() -> Iterator[Batch]:
            for batch in batches:
                batch, sights = self.look(batch, check)
                seen.extend(sights)
                yield batch

        found = predict(self.built.model, self.built.processor, looked(), decode or self.decode, self.drafter)
        return (self.judged(seen[place].on(report)) for place, report in enumerate(found))

    def stream(
        self, batch: Batch, decode: DecodeConfig, on_text: Callable[[str], None], check: Check | None = None
    ) -> Report:
        """The report of a prompt, its text handed out as it is written; `check` as in `predict`.

        Raises:
            InputError: more than one study, beam search, or `check` refuses.
        """
        if self.composer is not None:
            (report,) = self._retrieved(self.composer, [batch], check)
            on_text(report.text)
            return report
        batch, (sight,) = self.look(batch, check)
        written = stream(self.built.model, self.built.processor, batch, decode, on_text, self.drafter)
        return self.judged(sight.on(written))

    def _retrieved(self, composer: Composer, batches: Iterable[Batch], check: Check | None) -> Iterator[Report]:
        """The reports of batches of films, composed of training sentences."""
        for batch in batches:
            for at, sight in enumerate(self.look(batch, check)[1]):
                made = composer.report(sight.findings, sight.logits, batch.ids[at], batch.references[at])
                yield self.judged(sight.on(made))

    def look(self, batch: Batch, check: Check | None = None) -> tuple[Batch, list[Sight]]:
        """What the finding head sees on each study's films, and the prompts with it; as they are without a head.

        Raises:
            InputError: `check` refuses a study, by the doubts about its films.
        """
        if self.looker is None:
            return batch, [Sight(compared=compared) for compared in batch.compared]
        looked, sights = self.looker.look(batch)
        if check is not None:
            for sight in sights:
                check(sight.doubts)
        return looked, sights

    def sight_of(self, study: FilmStudy, check: Check | None) -> Sight:
        """What the finding head sees on a study's films.

        Raises:
            InputError: `check` refuses.
        """
        _, (sight,) = self.look(self.batch(self.built.processor.pixels(study.pictures), name=study.id), check)
        return sight

    def check_writes(self) -> None:
        """Refuse to write with a head that was trained alone, unless by retrieval.

        Raises:
            InputError: so it is.
        """
        if self.composer is None:
            check_writes(self.stored, self.name, "model")

    @cached_property
    def turns(self) -> Turns:
        """Its decoding of studies that come while others are being written."""
        return Turns(self.built.model, self.built.processor, composes=self.composes)

    def likeliest(self, batch: Batch, report: Report, count: int) -> tuple[PlaceInText, ...]:
        """The likeliest tokens at each place of a report, so many, by the model's own distribution."""
        return likeliest_tokens(self.built.model, self.look(batch)[0], report.token_ids, count)

    @cached_property
    def maps(self) -> MapMaker:
        """What makes maps of what its sentences rest on."""
        head_alone = self.name if tells_findings_only(self.stored) else ""
        return MapMaker(self.built.model, self.built.processor, self.looker, head_alone)

    def explain(self, report: Report, method: str | None = None) -> Evidence:
        """Maps of the image tokens that each sentence of a report rests on; its text need not be this model's.

        Args:
            report: with its films.
            method: findings, occlusion or gradient; None: findings, or without a head the quicker of the others.

        Raises:
            InputError: the model has no such maps.
        """
        self.maps.check(method)
        processor, study = self.built.processor, films_of(report)
        earlier = None if report.prior is None else processor.pixels(report.prior.pictures)
        pixels, context = processor.pixels(study.pictures), Context(prior_days=report.prior_days)
        batch = self.batch(pixels, report.instruction, study.id, earlier=earlier, context=context)
        with ALONE:
            return self.maps.of(batch, report.text, method)

    def record(self, report: Report) -> dict[str, Any]:
        """A report with what it was made with and from, ready for JSON."""
        parts = self.stored.model.values
        return {
            **written_json(report),
            "model": self.name,
            "vision_model": parts["vision_model"],
            "lm_model": parts["lm_model"],
            "version": __version__,
            **self.written_by,
        }

    @property
    def documents_sha256(self) -> str | None:
        """Of its weights; None where they are on disk."""
        return self.origin.model_sha256

    def regions(self, report: Report) -> tuple[Region, ...]:
        """The areas of its DICOM films that a report's sentences rest on; none where nothing is evidence.

        Args:
            report: with its films.
        """
        try:
            self.maps.check()
        except InputError as error:  # a document without areas is whole all the same
            log.info("no regions: %s", error)
            return ()
        evidence = self.explain(report)
        return self.regions_in(evidence, films_of(report).headers, films_of(report).choice.frame)

    def regions_in(
        self, evidence: Evidence, headers: Sequence[DicomHeader | None], frame: int | None = None
    ) -> tuple[Region, ...]:
        """The areas that maps mark.

        Args:
            evidence: the maps.
            headers: of the films; without one, a film's size in pixels is not known, and there is no area.
            frame: that was read of films of several.
        """
        known = [header for header in headers if header is not None]
        if len(known) < len(headers):
            return ()
        frames = [frame if header.frames > 1 else None for header in known]
        return self.maps.regions(evidence, [header.size for header in known], frames)

    @cached_property
    def drafter(self) -> Drafter | None:
        """What guesses the next tokens, with an index."""
        return None if self.index is None else drafter_for(self.built.model.language_model, self.index)

    def log_drafts(self) -> None:
        """Log how many of the drafted tokens were right; nothing without drafts."""
        if self.drafter is not None:
            self.drafter.log()
