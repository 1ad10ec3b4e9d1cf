"""The fast decoder: a study's prompt once for all its beams, no cache copies, studies leave and join as they end.

It gives what `generate` gives, token for token in float32 (tests/test_engine.py), for the architectures of `SERVED`.
Text, files and images are other rooms'.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from r2gengpt.generation.beams import BeamRules, Beams
from r2gengpt.generation.scores import Rules
from r2gengpt.generation.speculate import Drafter, accepted_tokens, chosen
from r2gengpt.generation.tree import TreeCache, layer_masks, prompt_mask, tree_attention_on

SERVED = ("stablelm", "llama", "gpt_neox", "gemma3_text", "qwen2", "qwen3", "glm", "mistral", "phi3")
"""`model_type` of the language models whose attention can be replaced, each held equal to the library by a test."""


def unserved(language_model: Any) -> str | None:
    """Why the engine cannot decode with this language model; None where it can."""
    kind = language_model.config.model_type
    if kind not in SERVED:
        return f"language models of type {kind}"
    places = set((getattr(language_model, "hf_device_map", None) or {}).values())
    if len(places) > 1 or "disk" in places:
        return "language models spread over devices or disk"
    return None


@dataclass(frozen=True)
class Prompt:
    """What a report is continued from: `embeds` (P, D) without padding; `tag` comes back with the result."""

    tag: Any
    embeds: Tensor
    seed: int = 0


@dataclass(frozen=True)
class Written:
    """A finished report: new token ids, the end token included if it was written, and their log-probabilities.

    `beams` are the ids of all reports that beam search ended with, this one first; empty without beams.
    """

    tag: Any
    ids: list[int]
    logprobs: list[float]
    beams: tuple[list[int], ...] = ()


@dataclass(frozen=True)
class EngineRules:
    """How tokens are chosen, for the engine's whole life."""

    scores: Rules
    longest: int
    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False

    def beam_rules(self) -> BeamRules:
        """The part that beam search needs."""
        return BeamRules(
            end=self.scores.end,
            longest=self.longest,
            length_penalty=self.length_penalty,
            early_stopping=self.early_stopping,
            beams=self.beams,
        )


class Engine:
    """Studies in `slots` places, all beams of all studies in one forward pass a step.

    Args:
        language_model: one that is not `unserved`, in eval mode.
        rules: how tokens are chosen.
        slots: studies at once.
        on_tokens: called with (tag, token) as each is final; only without beams.
        drafter: guesses the next tokens, so that a pass may give several; only greedily and without beams.
        unwanted: asked with each study's tag before each pass, whether nobody waits for it any more: it leaves then.
    """

    def __init__(
        self,
        language_model: Any,
        rules: EngineRules,
        slots: int,
        on_tokens: Callable[[Any, int], None] | None = None,
        drafter: Drafter | None = None,
        unwanted: Callable[[Any], bool] | None = None,
    ) -> None:
        assert drafter is None or (rules.beams == 1 and not rules.scores.do_sample)
        self.drafter = drafter
        self.language_model = language_model
        self.rules = rules
        self.slots = slots
        self.on_tokens = on_tokens
        self.unwanted = unwanted
        self.device = language_model.get_input_embeddings().weight.device
        self.config = language_model.config
        self.cache = TreeCache(slots)
        self.prompts: list[Prompt] = []
        self.generators: list[torch.Generator] = []
        self.steps = torch.zeros(0, dtype=torch.long, device=self.device)
        self.lengths = torch.zeros(0, dtype=torch.long, device=self.device)
        self.state = Beams.start(0, rules.beams, rules.longest, self.device)
        self.last = torch.zeros(0, rules.beams, dtype=torch.long, device=self.device)
        self.sees = torch.zeros(slots, rules.beams, 0, dtype=torch.bool, device=self.device)
        self.places = torch.zeros(slots, 0, dtype=torch.long, device=self.device)

    @torch.no_grad()
    def run(self, prompts: Iterator[Prompt | None]) -> Generator[Written, None, None]:
        """Reports in the order in which they are finished; a prompt is asked for when a place is free.

        None from `prompts` means: nobody just now, ask again after the next pass. It may come only while studies are
        being written.
        """
        more = True
        with tree_attention_on(self.language_model):
            while more or self.prompts:
                self._let_go()
                joining: list[Prompt] = []
                while more and len(self.prompts) + len(joining) < self.slots:
                    try:
                        prompt = next(prompts)
                    except StopIteration:
                        more = False
                        break
                    if prompt is None:
                        break
                    joining.append(prompt)
                if joining:
                    logits = self._join(joining)
                    yield from self._advance(logits, len(self.prompts) - len(joining))
                if self.prompts and self.drafter is not None:
                    yield from self._hand_out(self._speculate(self.drafter), 0)
                elif self.prompts:
                    yield from self._advance(self._forward(), 0)

    def _let_go(self) -> None:
        """Free the places of studies that nobody waits for."""
        if self.unwanted is not None:
            for slot in [s for s, prompt in enumerate(self.prompts) if self.unwanted(prompt.tag)][::-1]:
                self._leave(slot)

    def _columns(self) -> Tensor:
        """Where each study's next tokens are kept: (S, K)."""
        start = self.lengths + self.steps * self.rules.beams - self.rules.beams
        return start[:, None] + torch.arange(self.rules.beams, device=self.device)

    def _join(self, joining: list[Prompt]) -> Tensor:
        """Run new prompts once each; gives the logits after them, (new, 1, vocabulary)."""
        first = len(self.prompts)
        rows = torch.arange(first, first + len(joining), device=self.device)
        lengths = torch.tensor([len(prompt.embeds) for prompt in joining], device=self.device)
        width = int(lengths.max())
        embeds = torch.nn.utils.rnn.pad_sequence([prompt.embeds for prompt in joining], batch_first=True)
        positions = torch.arange(width, device=self.device).expand(len(joining), width)
        self._widen(width)
        self.sees[rows] = False
        self.sees[rows, :, :width] = (positions < lengths[:, None])[:, None]
        self.places[rows, :width] = positions
        self.cache.aim(rows, positions, width, prefilling=True)
        mask = prompt_mask(lengths, width)
        ends, where = torch.unique(lengths - 1, return_inverse=True)
        logits = self._pass(embeds, mask, positions, positions, ends)
        self.prompts += joining
        self.generators += [torch.Generator(self.device).manual_seed(prompt.seed) for prompt in joining]
        self.lengths = torch.cat([self.lengths, lengths])
        self.steps = torch.cat([self.steps, torch.zeros_like(lengths)])
        self.last = torch.cat([self.last, self.last.new_zeros(len(joining), self.rules.beams)])
        self.state = self.state.join(Beams.start(len(joining), self.rules.beams, self.rules.longest, self.device))
        return logits[torch.arange(len(joining), device=self.device), where][:, None]

    def _forward(self) -> Tensor:
        """One pass over the last tokens of all beams; gives the logits after them, (S, K, vocabulary)."""
        count, columns = len(self.prompts), self._columns()
        width = int(columns.max()) + 1
        self._widen(width)
        positions = (self.lengths + self.steps - 1)[:, None].expand(count, self.rules.beams)
        self.sees[:count].scatter_(2, columns[:, None].expand(-1, self.rules.beams, -1), self._own(count))
        self.places[:count].scatter_(1, columns, positions)
        self.cache.aim(torch.arange(count, device=self.device), columns, width)
        embeds = self.language_model.get_input_embeddings()(self.last)
        return self._pass(embeds, self.sees[:count, None, :, :width], positions, self.places[:count, :width], 0)

    def _own(self, count: int) -> Tensor:
        """Of the columns of this step each beam sees its own: (count, K, K), bool."""
        return torch.eye(self.rules.beams, dtype=torch.bool, device=self.device).expand(count, -1, -1)

    def _pass(self, embeds: Tensor, mask: Tensor, positions: Tensor, seen: Tensor, keep: Any) -> Tensor:
        output = self.language_model(
            inputs_embeds=embeds,
            attention_mask=layer_masks(self.config, mask, positions, seen),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        logits: Tensor = output.logits
        return logits.float()

    def _widen(self, width: int) -> None:
        """Room for `width` columns in the books that say who sees what."""
        missing = width - self.sees.shape[2]
        if missing > 0:
            more = missing + 64 * self.rules.beams
            self.sees = torch.cat([self.sees, self.sees.new_zeros(*self.sees.shape[:2], more)], 2)
            self.places = torch.cat([self.places, self.places.new_zeros(self.slots, more)], 1)

    def _advance(self, logits: Tensor, first: int) -> Iterator[Written]:
        """Choose the next tokens of the studies from `first` on, hand out what is finished and close the gaps."""
        index = torch.arange(first, len(self.prompts), device=self.device)
        state, steps = self.state.rows(index), self.steps[index]
        logits = logits.expand(-1, self.rules.beams, -1)
        choose = self._choose_beams if self.rules.beams > 1 else self._choose_one
        after, ids, origin, through = choose(state, logits, steps, self.generators[first:])
        self.sees[index] = self.sees[index].gather(1, origin[:, :, None].expand(-1, -1, self.sees.shape[2]))
        self.state = self.state.rows(torch.arange(first, device=self.device)).join(after)
        self.steps[index] += 1
        self.last[index] = ids
        yield from self._hand_out(through, first)

    def _hand_out(self, through: Tensor, first: int) -> Iterator[Written]:
        """Give what is finished of the studies from `first` on and close the gaps; `through` (S,), bool."""
        finished = (through.nonzero()[:, 0] + first).tolist()
        for slot in finished:
            written = self._written(slot)
            if self.drafter is not None:
                self.drafter.earlier.add(written.ids)
            yield written
        for slot in reversed(finished):
            self._leave(slot)

    def _choose_one(
        self, state: Beams, logits: Tensor, steps: Tensor, generators: list[torch.Generator]
    ) -> tuple[Beams, Tensor, Tensor, Tensor]:
        """Greedy or drawn: the state after it, the tokens (S, 1), which beam each continues, who is through (S,)."""
        rules = self.rules.scores
        logits = logits[:, 0]
        history = state.tokens[:, 0, : int(steps.max())]
        scores = rules.apply(logits.clone(), history, steps)
        if rules.do_sample:
            shares = scores.softmax(-1)
            ids = torch.cat([torch.multinomial(s, 1, generator=g) for s, g in zip(shares, generators, strict=True)])
        else:
            ids = scores.argmax(-1)
        rows = torch.arange(len(ids))
        state.tokens[rows, 0, steps] = ids
        state.logprobs[rows, 0, steps] = logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(-1)
        through = (ids == rules.end) | (steps + 1 >= self.rules.longest)
        state.done_tokens, state.done_logprobs, state.done_length = state.tokens, state.logprobs, (steps + 1)[:, None]
        self._show(self.prompts[-len(ids) :], ids[:, None].tolist())
        return state, ids[:, None], torch.zeros_like(ids)[:, None], through

    def _show(self, prompts: list[Prompt], rows: list[list[int]]) -> None:
        """Tell the listener what each study gained."""
        if self.on_tokens is not None:
            for prompt, row in zip(prompts, rows, strict=True):
                for token in row:
                    self.on_tokens(prompt.tag, token)

    def _speculate(self, drafter: Drafter) -> Tensor:
        """Let the model read a draft in each study and keep what it would have written; which are through (S,)."""
        state, longest, end = self.state, self.rules.longest, self.rules.scores.end
        steps = self.steps.tolist()
        written = [row[:step] for row, step in zip(state.tokens[:, 0].tolist(), steps, strict=True)]
        drafts = drafter.draft(written, [longest - step - 1 for step in steps])
        queries = 1 + max(map(len, drafts))
        padded = [draft + [end] * (queries - 1 - len(draft)) for draft in drafts]
        chain = torch.cat([self.last, self.last.new_tensor(padded).view(len(drafts), queries - 1)], 1)
        logits = self._read(chain)
        places = self.steps[:, None] + torch.arange(queries, device=self.device)
        tokens = torch.nn.functional.pad(state.tokens[:, 0], (0, queries)).scatter(1, places - 1, chain)
        choice = chosen(self.rules.scores, logits, tokens, self.steps)
        gained = accepted_tokens(choice, drafts, end)
        counts = torch.tensor([len(row) for row in gained], device=self.device)
        own = logits.gather(2, choice[:, :, None])[:, :, 0] - logits.logsumexp(-1)
        for slot, (row, step) in enumerate(zip(gained, steps, strict=True)):
            state.tokens[slot, 0, step : step + len(row)] = choice[slot, : len(row)]
            state.logprobs[slot, 0, step : step + len(row)] = own[slot, : len(row)]
        self.steps = self.steps + counts
        self.last = choice.gather(1, counts[:, None] - 1)
        state.done_tokens, state.done_logprobs, state.done_length = state.tokens, state.logprobs, self.steps[:, None]
        drafter.learn(sum(map(len, gained)) - len(gained), len(gained))
        self._show(self.prompts, gained)
        return (self.last[:, 0] == end) | (self.steps >= longest)

    def _read(self, chain: Tensor) -> Tensor:
        """One pass over tokens (S, Q), each study's last one first; gives the logits after them, (S, Q, vocabulary).

        Without beams a token's column is its position. What is not kept of a chain lies in columns that the next
        chain writes before it sees them.
        """
        count, queries = chain.shape
        columns = (self.lengths + self.steps - 1)[:, None] + torch.arange(queries, device=self.device)
        width = int(columns.max()) + 1
        places = torch.arange(width, device=self.device).expand(count, width)
        self.cache.aim(torch.arange(count, device=self.device), columns, width)
        mask = places[:, None, None] <= columns[:, None, :, None]
        return self._pass(self.language_model.get_input_embeddings()(chain), mask, columns, places, 0)

    def _choose_beams(
        self, state: Beams, logits: Tensor, steps: Tensor, generators: list[torch.Generator]
    ) -> tuple[Beams, Tensor, Tensor, Tensor]:
        """As `_choose_one`, with K beams a study."""
        rules = self.rules.scores
        own = logits.log_softmax(-1)
        history = state.tokens[:, :, : int(steps.max())].flatten(0, 1)
        scores = rules.apply(own.flatten(0, 1).clone(), history, steps.repeat_interleave(self.rules.beams))
        scores = scores.view(own.shape)
        drawn = generators if rules.do_sample else None
        after, origin, through = self.rules.beam_rules().step(state, scores, own, steps, drawn)
        ids = after.tokens.gather(2, steps[:, None, None].expand(-1, self.rules.beams, 1))[:, :, 0]
        return after, ids, origin, through

    def _written(self, slot: int) -> Written:
        state = self.state
        lengths, real = state.done_length[slot].tolist(), state.ended[slot].tolist()
        rows = [row[:length] for row, length in zip(state.done_tokens[slot].tolist(), lengths, strict=True)]
        beams = [row for row, is_real in zip(rows, real, strict=True) if is_real] if self.rules.beams > 1 else []
        logprobs = state.done_logprobs[slot, 0, : lengths[0]].tolist()
        return Written(self.prompts[slot].tag, rows[0], logprobs, tuple(beams))

    def _leave(self, slot: int) -> None:
        """Free a place; the last study moves into it."""
        last = len(self.prompts) - 1
        order = torch.arange(last, device=self.device)
        if slot != last:
            order[slot] = last
            self.cache.move(last, slot)
            self.sees[slot], self.places[slot] = self.sees[last], self.places[last]
            self.prompts[slot], self.generators[slot] = self.prompts[last], self.generators[last]
        self.prompts.pop()
        self.generators.pop()
        self.steps, self.lengths, self.last = self.steps[order], self.lengths[order], self.last[order]
        self.state = self.state.rows(order)
