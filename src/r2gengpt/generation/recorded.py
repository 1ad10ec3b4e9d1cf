"""Passes recorded as CUDA graphs: the GPU then goes from kernel to kernel without waiting for Python.

A recorded pass has fixed shapes. So studies are filled up to a power of two, columns to one, and the store has all of
its columns from the start. Greedy texts stay on the device: a pass chooses the tokens that the next one reads.
Source: NVIDIA, "CUDA Graphs", and `torch.cuda.graphs`.
"""

import logging
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from r2gengpt.generation.beams import Rules
from r2gengpt.generation.compiled import compiled_layers
from r2gengpt.generation.scores import next_tokens, ruled
from r2gengpt.generation.tree import STEP, Tree

log = logging.getLogger("r2gengpt.generation")
LEAST_COLUMNS = 128
"""Recorded passes read no fewer: a pass over so few costs what its weights cost."""
DRAFT = 16
"""Columns beside those of a report, for the longest draft."""
KEPT_BYTES = 1 << 30
"""A larger store is given back after its run; a smaller one waits, with its recorded passes, for the next run."""
AHEAD = 2
"""Up to so many studies the next pass is begun before the host has seen the tokens of this one: few end at a pass."""

COMPILED_TOKENS = 4
"""Passes over more tokens are not compiled: there the weights' products, not what is between them, take the time."""

_kept: "weakref.WeakKeyDictionary[nn.Module, RecordedTree]" = weakref.WeakKeyDictionary()


def tree_for(language_model: Any, slots: int, rules: Rules, *, compiled: bool = False) -> Tree:
    """The forward passes of a run: on a CUDA device recorded ones, those of an earlier run if they fit.

    Args:
        language_model: in eval mode.
        slots: studies at once.
        rules: how many beams a study has, how many new tokens, and how they are chosen.
        compiled: recorded passes are of layers that are compiled first.
    """
    if not recordable(language_model):
        return Tree(language_model, slots, rules.beam_size)
    kept = _kept.pop(language_model, None)
    if kept is not None and kept.fits(language_model, slots, rules, compiled):
        kept.language_model = language_model
        return kept
    return RecordedTree(language_model, slots, rules, compiled=compiled)


def keep(language_model: Any, tree: Tree) -> None:
    """Let the next run with this language model take a tree whose run has ended."""
    if isinstance(tree, RecordedTree) and tree.recording and tree.cache.nbytes <= KEPT_BYTES:
        tree.language_model = None  # a dictionary with weak keys must not hold its key
        _kept[language_model] = tree


def recordable(language_model: Any) -> bool:
    """Whether passes of a language model can be recorded: on one CUDA device, without autocast (it keeps casts)."""
    device = language_model.get_input_embeddings().weight.device
    spread = getattr(language_model, "hf_device_map", None) is not None
    return device.type == "cuda" and not spread and not torch.is_autocast_enabled("cuda")


def addresses(language_model: nn.Module) -> tuple[int, ...]:
    """Where the weights lie, as a recorded pass knows them, and whether adapters are merged into them."""
    merged = [len(getattr(module, "merged_adapters", ())) for module in language_model.modules()]
    return (*(p.data_ptr() for p in language_model.parameters()), *merged)


class Recorded:
    """A pass whose inputs and results lie in place; `body` is run twice for what only a first pass makes."""

    def __init__(self, tree: "RecordedTree", body: Callable[[], Tensor], compiled: bool) -> None:
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with compiled_layers(tree.language_model, tree.cache) if compiled else nullcontext():
            with torch.cuda.stream(aside):
                for _ in range(2):
                    body()
            torch.cuda.current_stream().wait_stream(aside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=tree.pool, capture_error_mode="thread_local"):
                self.result = body()
        tree.pool = self.graph.pool()

    def __call__(self) -> Tensor:
        """Run it on what lies in place now; the result is overwritten by the next run."""
        self.graph.replay()
        return self.result


class RecordedTree(Tree):
    """A tree whose passes over last tokens are recorded, one for each number of studies, of tokens and of columns.

    The logits that `read` gives are overwritten by the next pass. A language model whose pass cannot be recorded (one
    that asks the GPU for a value) is read as by `Tree`, and that is said once.
    """

    def __init__(self, language_model: Any, slots: int, rules: Rules, *, compiled: bool = False) -> None:
        super().__init__(language_model, slots, rules.beam_size)
        self.rules, self.compiled = rules, compiled
        self.weights = addresses(language_model)
        self.inference = torch.is_inference_mode_enabled()
        self.recording = True
        self.passes: dict[tuple[str, int, int, int], Recorded] = {}
        self.inputs: dict[tuple[int, int], Tensor] = {}
        self.greedy = GreedyTexts(self)
        self.pool: Any = None

    def fits(self, language_model: nn.Module, slots: int, rules: Rules, compiled: bool) -> bool:
        """Whether another run can take the recorded passes; what inference mode has made changes within it alone."""
        mode = torch.is_inference_mode_enabled()
        same = (self.slots, self.rules, self.compiled, self.inference) == (slots, rules, compiled, mode)
        return same and self.weights == addresses(language_model)

    def begin(self, first: int, prompts: Sequence[Tensor]) -> Tensor:
        """As `Tree.begin`; makes room for the whole reports too."""
        columns = max(map(len, prompts)) + self.beams * self.rules.max_new_tokens + DRAFT
        if columns > self.cache.reserved:
            self.passes.clear()
            self.cache.reserve(-(-columns // STEP) * STEP)
            self._widen(self.cache.reserved)
        self.greedy.forget()  # a text of one that has left may have lain where a new one's lies
        return super().begin(first, prompts)

    def read(self, tokens: Sequence[Sequence[int]], prompts: Sequence[int], steps: Sequence[int]) -> Tensor:
        """As `Tree.read`, by a recorded pass."""
        count, queries = len(tokens), len(tokens[0])
        rows = self.rows(count)
        inputs = self._inputs(tokens, prompts, steps)
        # places that no study has write to their own first column, which the next prompt there overwrites
        filled = torch.tensor([*inputs, *[[0] * (2 + queries)] * (rows - count)])
        place = self.inputs.setdefault((rows, queries), filled.to(self.device))
        place.copy_(filled)
        columns = self.columns(max(row[0] for row in inputs) + queries)
        found = self.recorded(("read", rows, queries, columns), lambda: self._read(place, columns))
        return super().read(tokens, prompts, steps) if found is None else found()[:count]

    def rows(self, studies: int) -> int:
        """How many places a pass over so many studies has."""
        return min(power_of_two(studies), self.slots)

    def columns(self, width: int) -> int:
        """How many columns a pass reads that needs so many."""
        return min(max(power_of_two(width), LEAST_COLUMNS), self.cache.reserved)

    def recorded(self, key: tuple[str, int, int, int], body: Callable[[], Tensor]) -> Recorded | None:
        """The pass of that name and those sizes, recorded where it is not yet; None where it cannot be."""
        if self.recording and key not in self.passes:
            try:
                self.passes[key] = Recorded(self, body, self.compiled and key[1] * key[2] <= COMPILED_TOKENS)
            except RuntimeError as error:
                log.info("passes are not recorded as CUDA graphs: %s", str(error).splitlines()[0])
                self.recording = False
        return self.passes[key] if self.recording else None


class GreedyTexts:
    """Greedy texts without beams that stay on the device: what a pass chooses, the next one reads.

    `state` (slots, 4), int64: the column that is written next, how many new tokens there are, the last token, and
    whether the place is a study's. `found` (slots, 2), float64: the token, and its log-probability under the model.
    """

    def __init__(self, tree: RecordedTree) -> None:
        slots, device = tree.slots, tree.device
        self.tree = weakref.proxy(tree)
        self.state = torch.zeros(slots, 4, dtype=torch.long, device=device)
        self.history = torch.zeros(slots, tree.rules.max_new_tokens, dtype=torch.long, device=device)
        self.found = torch.zeros(slots, 2, dtype=torch.float64, device=device)
        self.standing: tuple[tuple[int, int], ...] = ()
        self.begun: tuple[tuple[tuple[int, int], ...], Tensor, Any] | None = None

    def next(self, texts: Sequence[list[int]], prompts: Sequence[int]) -> tuple[list[int], list[float]]:
        """The next token of each study and its log-probability.

        Args:
            texts: the new tokens of each study so far, one at least; the same lists from pass to pass.
            prompts: how many tokens each study's prompt has.
        """
        now = tuple((id(text), len(text)) for text in texts)
        begun = self.begun if self.begun is not None and self.begun[0] == now else self._pass(now, texts, prompts)
        if begun is None:
            logits = self.tree.read([text[-1:] for text in texts], prompts, [len(text) for text in texts])
            return next_tokens(self.tree.rules, logits[:, 0], texts, ())
        _, place, event = begun
        self.begun = None
        more = max(map(len, texts)) + 2 <= self.tree.rules.max_new_tokens
        if len(texts) <= AHEAD and more:
            after = tuple((name, length + 1) for name, length in now)
            self.begun = self._pass(after, texts, prompts)
        if event is not None:
            event.synchronize()
        ids, logprobs = place.T.tolist()
        return [int(token) for token in ids], logprobs

    def forget(self) -> None:
        """Know of no text any more: what is on the device is put there anew."""
        self.standing, self.begun = (), None

    def _pass(
        self, now: tuple[tuple[int, int], ...], texts: Sequence[list[int]], prompts: Sequence[int]
    ) -> tuple[tuple[tuple[int, int], ...], Tensor, Any] | None:
        """Begin the pass after texts of those lengths: where its results will be, and when; None: not recorded."""
        count, rows = len(now), self.tree.rows(len(now))
        width = max(prompt + length for prompt, (_, length) in zip(prompts, now, strict=True))
        key = "greedy", rows, 1, self.tree.columns(width)
        if self.standing != now:
            self._load(texts, prompts)
        if key not in self.tree.passes:
            kept = self.state.clone(), self.history.clone()
            if self.tree.recorded(key, lambda: self._step(rows, key[3])) is None:
                return None
            self.state.copy_(kept[0])  # recording has gone on from them
            self.history.copy_(kept[1])
        self.tree.passes[key]()
        self.standing = tuple((name, length + 1) for name, length in now)
        if self.found.device.type == "cpu":
            return now, self.found[:count].clone(), None
        place = torch.empty(count, 2, dtype=torch.float64, pin_memory=True)
        place.copy_(self.found[:count], non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return now, place, event

    def _load(self, texts: Sequence[list[int]], prompts: Sequence[int]) -> None:
        """Put the texts where the passes read them."""
        spare = self.state.shape[0] - len(texts)
        rows = [[p + len(t) - 1, len(t), t[-1], 1] for t, p in zip(texts, prompts, strict=True)]
        self.state.copy_(torch.tensor([*rows, *[[0] * 4] * spare]))
        most = self.history.shape[1]
        self.history.copy_(torch.tensor([*([*t, *[0] * (most - len(t))] for t in texts), *[[0] * most] * spare]))

    def _step(self, rows: int, width: int) -> Tensor:
        """One pass, and the choice of its tokens."""
        state, history = self.state[:rows], self.history[:rows]
        at, step = state[:, :1], state[:, 1]
        logits = self.tree._read(torch.cat([at, at, state[:, 2:3]], 1), width)[:, 0]
        ids = ruled(self.tree.rules, logits.clone(), history, step).argmax(-1)
        self.found[:rows, 0] = ids
        self.found[:rows, 1] = logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(-1)
        history.scatter_(1, step[:, None].clamp_max(history.shape[1] - 1), ids[:, None])
        state[:, :2] += state[:, 3:]
        state[:, 2] = ids
        return self.found


def power_of_two(number: int) -> int:
    """The smallest power of two that is no smaller.

    >>> [power_of_two(number) for number in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (number - 1).bit_length()
