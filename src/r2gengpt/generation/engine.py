"""The fast decoder: a study's prompt once for all its beams, no cache copies, studies leave and join as they end.

It gives what `generate` gives, token for token in float32 (tests/test_engine.py), for the architectures of `SERVED`.
Text, files and images are other rooms'.
"""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from r2gengpt.config import DecodeConfig
from r2gengpt.errors import InputError
from r2gengpt.generation.beams import Row, Rules, Written
from r2gengpt.generation.recorded import RecordedTree, keep, tree_for
from r2gengpt.generation.scores import candidates, next_tokens
from r2gengpt.generation.speculate import Drafter
from r2gengpt.model.served import ServedLanguageModel

log = logging.getLogger("r2gengpt.generation")
_logged: set[str] = set()
COMPILED = "compiled"
SERVED = ("stablelm", "llama", "gpt_neox", "gemma3_text", "qwen2", "qwen3", "glm", "mistral", "phi3")
"""`model_type` of the language models whose attention can be replaced, each held equal to the library by a test."""


def unserved(language_model: Any) -> str | None:
    """Why the engine cannot decode with this language model; None where it can."""
    kind = language_model.config.model_type
    if isinstance(language_model, ServedLanguageModel):
        return f"{kind} run by another program"
    if kind not in SERVED:
        return f"language models of type {kind}"
    places = set((getattr(language_model, "hf_device_map", None) or {}).values())
    if len(places) > 1 or "disk" in places:
        return "language models spread over devices or disk"
    return None


def uncompiled(language_model: Any) -> str | None:
    """Why the layers of this language model are not compiled; None where they can be."""
    device = language_model.get_input_embeddings().weight.device.type
    if device != "cuda":
        return f"the layers are compiled on CUDA devices only, and this one lies on {device}"
    form = getattr(language_model, "quantization_method", None)
    return None if form is None else f"weights quantized by {form} cannot be compiled"


def use_engine(language_model: Any, decode: DecodeConfig) -> bool:
    """Whether the engine decodes: where it can, unless `engine` hf; where it cannot, that is said once a kind.

    Raises:
        InputError: `engine` fast, compiled or `speculate` of a language model that the engine cannot serve; compiled
            elsewhere than on a CUDA device, or of quantized weights.
    """
    if decode.engine == "hf" and not isinstance(language_model, ServedLanguageModel):
        return False
    reason = unserved(language_model)
    if decode.engine == COMPILED and reason is None:
        reason = uncompiled(language_model)
        if reason is not None:
            raise InputError(reason, field="engine", value=COMPILED)
    if reason is None:
        return True
    if isinstance(language_model, ServedLanguageModel):
        check_unasked(decode)
        return False
    if decode.engine in ("fast", COMPILED) or decode.speculate:
        field, value = ("speculate", "True") if decode.speculate else ("engine", decode.engine)
        raise InputError(f"{reason} are decoded by hf only", field=field, value=value)
    if reason not in _logged:
        _logged.add(reason)
        log.info("%s are decoded by transformers' generate", reason)
    return False


def check_unasked(decode: DecodeConfig) -> None:
    """Refuse an engine of ours for a language model that another program runs.

    Raises:
        InputError: one is asked for, or drafts are.
    """
    words = "another program runs the language model; leave it out"
    if decode.engine != "auto":
        raise InputError(words, field="engine", value=decode.engine)
    if decode.speculate:
        raise InputError(words, field="speculate", value=True)


@dataclass(frozen=True)
class Prompt:
    """What a report is continued from: `embeds` (P, D) without padding; `tag` comes back with the result.

    `opening` are the tokens that the report begins with, whatever the language model would choose.
    """

    tag: Any
    embeds: Tensor
    seed: int = 0
    opening: tuple[int, ...] = ()


END = object()
"""Comes when there are no more prompts."""


@dataclass(frozen=True)
class Begun:
    """A study that is being written: the tokens of its prompt, its text so far, and what draws its tokens."""

    tag: Any
    prompt: int
    row: Row
    generator: torch.Generator


class Engine:
    """Studies in `slots` places, all beams of all studies in one forward pass a step.

    Args:
        language_model: one that is not `unserved`, in eval mode.
        rules: how tokens are chosen.
        slots: studies at once.
        on_tokens: called with (tag, token) as each is final; True ends that study. Only without beams.
        drafter: guesses the next tokens, so that a pass may give several; only greedily and without beams.
        unwanted: asked with each study's tag before each pass, whether nobody waits for it any more: it leaves then.
        compiled: on a CUDA device the layers are compiled at the first pass.
    """

    def __init__(
        self,
        language_model: Any,
        rules: Rules,
        slots: int,
        on_tokens: Callable[[Any, int], bool | None] | None = None,
        drafter: Drafter | None = None,
        unwanted: Callable[[Any], bool] | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        assert drafter is None or (rules.beam_size == 1 and not rules.do_sample)
        self.language_model, self.rules, self.slots = language_model, rules, slots
        self.on_tokens, self.drafter, self.unwanted = on_tokens, drafter, unwanted
        self.tree = tree_for(language_model, slots, rules, compiled=compiled)
        self.studies: list[Begun] = []
        self.more = True

    @torch.no_grad()
    def run(self, prompts: Iterator[Prompt | None]) -> Generator[Written, None, None]:
        """Reports in the order in which they are finished; a prompt is asked for when a place is free.

        None from `prompts` means: nobody just now, ask again after the next pass. It may come only while studies are
        being written.
        """
        self.more = True
        while self.more or self.studies:
            # 1. Studies that nobody waits for leave, and others take the free places.
            self._let_go()
            joining = self._arrived(prompts)
            # 2. Prefill: each new prompt is run once, and gives the first token of all its beams.
            if joining:
                first = len(self.studies)
                logits = self.tree.begin(first, [prompt.embeds for prompt in joining])
                self.studies += [self._begun(prompt) for prompt in joining]
                self._choose(logits[:, None], first)
                yield from self._hand_out()
            # 3. One pass over the last tokens, and one token more for each beam, or several by a draft.
            opened = all(study.row.settled is None for study in self.studies)
            if self.studies and self.drafter is not None and opened:
                self._speculate(self.drafter)
            elif self.studies and isinstance(self.tree, RecordedTree) and self.rules.is_greedy and opened:
                self._follow(self.tree)
            elif self.studies:
                self._choose(self._forward(), 0)
            # 4. What is finished leaves.
            yield from self._hand_out()
        keep(self.language_model, self.tree)

    def _arrived(self, prompts: Iterator[Prompt | None]) -> list[Prompt]:
        """New prompts for the free places, as far as they are there; `more` tells whether others may come."""
        found: list[Prompt] = []
        while self.more and len(self.studies) + len(found) < self.slots:
            prompt = next(prompts, END)
            self.more = prompt is not END
            if not isinstance(prompt, Prompt):
                break
            found.append(prompt)
        return found

    def _begun(self, prompt: Prompt) -> Begun:
        generator = torch.Generator(self.tree.device).manual_seed(prompt.seed)
        return Begun(prompt.tag, len(prompt.embeds), Row(self.rules, prompt.opening), generator)

    def _forward(self) -> Tensor:
        """One pass over the last tokens of all beams; gives the logits after them, (S, K, vocabulary)."""
        last = [[beam.ids[-1] for beam in study.row.running] for study in self.studies]
        return self._read(last)

    def _read(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        return self.tree.read(tokens, [s.prompt for s in self.studies], [s.row.step for s in self.studies])

    def _choose(self, logits: Tensor, first: int) -> None:
        """Give each beam of the studies from `first` on its next token; logits (S, K or 1, vocabulary)."""
        studies = self.studies[first:]
        rows, generators = [study.row for study in studies], [study.generator for study in studies]
        texts = [beam.ids for row in rows for beam in row.running]
        settled = [row.settled for row in rows for _ in row.running]
        if self.rules.beam_size == 1:
            tokens, logprobs = next_tokens(self.rules, logits[:, 0], texts, generators, settled)
            for study, token, logprob in zip(studies, tokens, logprobs, strict=True):
                self._add(study, [token], [logprob])
            return
        totals = torch.tensor([[float(beam.score) for beam in row.running] for row in rows], device=logits.device)
        found = candidates(self.rules, logits.expand(*totals.shape, -1), texts, totals, generators, settled)
        self.tree.follow(first, [row.advance(one) for row, one in zip(rows, found, strict=True)])

    def _add(self, study: Begun, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        """Tokens that a study without beams gains; who listens gets each, and may end the study."""
        for token, logprob in zip(tokens, logprobs, strict=True):
            study.row.add(token, logprob)
            if self.on_tokens is not None and self.on_tokens(study.tag, token):
                study.row.through = True
                return

    def _follow(self, tree: RecordedTree) -> None:
        """Give each study without beams the token that its recorded pass has chosen."""
        texts = [study.row.running[0].ids for study in self.studies]
        tokens, logprobs = tree.greedy.next(texts, [study.prompt for study in self.studies])
        for study, token, logprob in zip(self.studies, tokens, logprobs, strict=True):
            self._add(study, [token], [logprob])

    def _speculate(self, drafter: Drafter) -> None:
        """Let the model read a draft in each study, and keep what it would have written."""
        texts = [study.row.running[0].ids for study in self.studies]
        gained = drafter.gain(texts, self.rules, self._read)
        for study, (tokens, logprobs) in zip(self.studies, gained, strict=True):
            self._add(study, tokens, logprobs)

    def _hand_out(self) -> Iterator[Written]:
        """Give what is finished, and close the gaps."""
        finished = [slot for slot, study in enumerate(self.studies) if study.row.through]
        for slot in finished:
            written = self.studies[slot].row.written(self.studies[slot].tag)
            if self.drafter is not None:
                self.drafter.earlier.add(written.ids)
            yield written
        for slot in reversed(finished):
            self._leave(slot)

    def _let_go(self) -> None:
        """Free the places of studies that nobody waits for."""
        if self.unwanted is not None:
            for slot in [s for s, study in enumerate(self.studies) if self.unwanted(study.tag)][::-1]:
                self._leave(slot)

    def _leave(self, slot: int) -> None:
        """Free a place; the last study moves into it."""
        last = self.studies.pop()
        if slot != len(self.studies):
            self.studies[slot] = last
            self.tree.move(len(self.studies), slot)
