"""Forward passes over studies whose beams share one growing store of keys and values. No token is chosen here.

A study's store holds its prompt once, then one column a beam and step. A beam's text is a path through those columns,
so choosing other beams changes a mask and moves no keys or values.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, Cache

ATTENTION = "r2gengpt_tree"
STEP = 64
"""Columns that the store grows by, times beams."""


def tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention whose grouped heads read the stored keys and values where they lie, without a copy for each group.

    Args:
        module: the layer, unused.
        query: (B, heads, Q, C).
        key: (B, groups, L, C), as the value.
        value: (B, groups, L, C).
        attention_mask: (B, 1, Q, L), bool.
        scaling: of the products; None: C to the power of -½.
        dropout: unused: decoding runs in eval mode.
        **kwargs: what the library hands to every attention.

    Returns:
        (B, Q, heads, C), and None for the weights.
    """
    batch, heads, queries, channels = query.shape
    groups = key.shape[1]
    folded = query.reshape(batch, groups, heads // groups * queries, channels)
    mask = attention_mask.repeat(1, 1, heads // groups, 1) if heads != groups else attention_mask
    output = functional.scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scaling)
    return output.reshape(batch, heads, queries, channels).transpose(1, 2), None


ALONE = threading.RLock()
"""Held while a model attends otherwise than its configuration says, which no pass of another thread may meet."""


@contextmanager
def tree_attention_on(language_model: Any) -> Iterator[None]:
    """Let the language model attend by `tree_attention` inside the block, in which no other thread has its pass."""
    AttentionInterface.register(ATTENTION, tree_attention)
    config = language_model.config
    with ALONE:
        kept = config._attn_implementation
        config._attn_implementation = ATTENTION
        try:
            yield
        finally:
            config._attn_implementation = kept


class TreeCache(Cache):  # type: ignore[misc]  # the library is untyped
    """Keys and values of `slots` studies, (slots, groups, columns, C) a layer; grows as columns are asked for.

    `rows` and `columns` say where the next forward pass writes; `width` how many columns it reads.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(layers=[])
        self.slots, self.reserved = slots, 0
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.rows = torch.arange(0)
        self.columns = torch.zeros(0, 0, dtype=torch.long)
        self.width = 0
        self.prefilling = False
        self.layer: tuple[Tensor, Tensor] | None = None

    def aim(self, rows: Tensor, columns: Tensor, width: int, *, prefilling: bool = False) -> None:
        """Set where the next pass writes, (B,) and (B, Q), and that it reads `width` columns.

        While `prefilling` a pass sees its own keys and values only.
        """
        self.rows, self.columns, self.width, self.prefilling = rows, columns, width, prefilling

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Called by each layer with (B, groups, Q, C); gives what it attends to.

        `layer` holds the keys and values of the layer that is run, where not its number but that shall tell.
        """
        if self.layer is not None:
            return tuple(
                self._put(store, new) for store, new in zip(self.layer, (key_states, value_states), strict=True)
            )
        if layer_idx == len(self.keys):
            self.keys.append(self._room(key_states))
            self.values.append(self._room(value_states))
        seen = []
        for store, new in ((self.keys, key_states), (self.values, value_states)):
            if store[layer_idx].shape[2] < self.width:
                store[layer_idx] = self._room(new, store[layer_idx])
            seen.append(self._put(store[layer_idx], new))
        return (key_states, value_states) if self.prefilling else tuple(seen)

    def _put(self, store: Tensor, new: Tensor) -> Tensor:
        """Write what a layer has made, and give what the studies of the pass hold."""
        store[self.rows[:, None], :, self.columns] = new.transpose(1, 2).to(store.dtype)
        return store[: len(self.rows), :, : self.width]

    def _room(self, like: Tensor, old: Tensor | None = None) -> Tensor:
        """An empty store for `width` columns and some more, with the old one's content."""
        columns = self.width + STEP * (1 if old is None else max(1, old.shape[2] // (2 * STEP)))
        columns = self.reserved or columns
        new = like.new_zeros(self.slots, like.shape[1], columns, like.shape[3])
        if old is not None:
            new[:, :, : old.shape[2]] = old
        return new

    def reserve(self, columns: int) -> None:
        """Have at least so many columns, also those of layers that were not asked for yet."""
        self.reserved = columns
        for store in (self.keys, self.values):
            store[:] = [self._room(old, old) for old in store]

    @property
    def nbytes(self) -> int:
        """What is held."""
        return sum(store.nbytes for store in (*self.keys, *self.values))

    def move(self, source: int, target: int) -> None:
        """Put one slot's content where another's was."""
        for store in (*self.keys, *self.values):
            store[target] = store[source]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Not told: every pass brings its own positions and masks."""
        return 0


def layer_masks(config: Any, mask: Tensor, positions: Tensor, seen: Tensor) -> Any:
    """The mask as a language model takes it: one for all layers, or one for each kind of layer (Gemma 3).

    Layers with a sliding window do not see keys that lie that many positions back or more.

    Args:
        config: of the language model.
        mask: (B, 1, Q, L), bool.
        positions: (B, Q), of the queries.
        seen: (B, L), positions of the keys.
    """
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if window is None or (kinds and "sliding_attention" not in kinds):
        return mask
    sliding = mask & (positions[:, None, :, None] - seen[:, None, None, :] < window)
    return {"full_attention": mask, "sliding_attention": sliding} if kinds else sliding


class Tree:
    """Studies in `slots` places of one store: each prompt is run once, then one pass a step over all of them.

    `sees` (slots, K, columns) tells which columns each beam's text is made of, `at` (slots, columns) at which positions
    their tokens stand. Without beams a token's column is its position, and neither is needed.
    """

    def __init__(self, language_model: Any, slots: int, beams: int) -> None:
        self.language_model, self.slots, self.beams = language_model, slots, beams
        self.device = language_model.get_input_embeddings().weight.device
        self.cache = TreeCache(slots)
        self.sees = torch.zeros(slots, beams, 0, dtype=torch.bool, device=self.device)
        self.at = torch.zeros(slots, 0, dtype=torch.long, device=self.device)

    def begin(self, first: int, prompts: Sequence[Tensor]) -> Tensor:
        """Run new prompts, (P, D) each, into the places from `first` on: the logits after them, (S, vocabulary)."""
        count = len(prompts)
        rows = torch.arange(first, first + count, device=self.device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        width = max(map(len, prompts))
        positions = torch.arange(width, device=self.device).expand(count, width)
        if self.beams > 1:
            self._widen(width)
            self.sees[rows] = False
            self.sees[rows, :, :width] = (positions < lengths[:, None])[:, None]
            self.at[rows, :width] = positions
        self.cache.aim(rows, positions, width, prefilling=True)
        embeds = torch.nn.utils.rnn.pad_sequence(list(prompts), batch_first=True)
        # padded positions on the right see what a token there would; nothing reads what comes of them
        causal = torch.ones(width, width, dtype=torch.bool, device=self.device).tril().expand(count, 1, width, width)
        ends, where = torch.unique(lengths - 1, return_inverse=True)
        logits = self._pass(embeds, causal, positions, positions, ends)
        return logits[torch.arange(count, device=self.device), where]

    def read(self, tokens: Sequence[Sequence[int]], prompts: Sequence[int], steps: Sequence[int]) -> Tensor:
        """One pass over the last tokens of all beams, or without beams over the last token and its draft.

        What is not kept of a draft lies in columns that the next pass writes before it sees them.

        Args:
            tokens: (S, Q) ids.
            prompts: how many tokens each study's prompt has.
            steps: how many new tokens each study has, without its draft.

        Returns:
            Logits after each token, (S, Q, vocabulary), float32.
        """
        inputs = self._inputs(tokens, prompts, steps)
        width = max(row[0] for row in inputs) + len(tokens[0])
        self._widen(width)
        return self._read(torch.tensor(inputs, device=self.device), width)

    def _inputs(self, tokens: Sequence[Sequence[int]], prompts: Sequence[int], steps: Sequence[int]) -> list[list[int]]:
        """What `_read` takes of each study."""
        lengths = [prompt + step - 1 for prompt, step in zip(prompts, steps, strict=True)]
        starts = [prompt + (step - 1) * self.beams for prompt, step in zip(prompts, steps, strict=True)]
        return [[start, length, *ids] for start, length, ids in zip(starts, lengths, tokens, strict=True)]

    def _read(self, inputs: Tensor, width: int) -> Tensor:
        """The pass of `read`, all of it on the device.

        Args:
            inputs: (S, 2 + Q), int64: the first column that is written, the last token's position, and the tokens.
            width: how many columns are read.
        """
        count, queries = inputs.shape[0], inputs.shape[1] - 2
        columns = inputs[:, :1] + torch.arange(queries, device=self.device)
        if self.beams == 1:
            positions, at = columns, torch.arange(width, device=self.device).expand(count, width)
            mask = at[:, None, None] <= columns[:, None, :, None]
        else:
            positions = inputs[:, 1:2].expand(count, queries)
            mask, at = self._branch(columns, positions, width)
        self.cache.aim(torch.arange(count, device=self.device), columns, width)
        embeds = self.language_model.get_input_embeddings()(inputs[:, 2:])
        return self._pass(embeds, mask, positions, at, 0)

    def _branch(self, columns: Tensor, positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Let each beam see its own new column (S, K): what each sees (S, 1, K, width), and where tokens stand."""
        count = len(columns)
        own = torch.eye(self.beams, dtype=torch.bool, device=self.device).expand(count, -1, -1)
        self.sees[:count].scatter_(2, columns[:, None].expand(-1, self.beams, -1), own)
        self.at[:count].scatter_(1, columns, positions)
        return self.sees[:count, None, :, :width], self.at[:count, :width]

    def follow(self, first: int, origins: Sequence[Sequence[int]]) -> None:
        """Let each beam of the studies from `first` on be a continuation of another one, (S, K)."""
        rows = self.sees[first : first + len(origins)]
        index = torch.tensor(origins, device=self.device)[:, :, None].expand_as(rows)
        self.sees[first : first + len(origins)] = rows.gather(1, index)

    def move(self, source: int, target: int) -> None:
        """Put one study's columns where another's were."""
        self.cache.move(source, target)
        self.sees[target], self.at[target] = self.sees[source], self.at[source]

    def _pass(self, embeds: Tensor, mask: Tensor, positions: Tensor, seen: Tensor, keep: Any) -> Tensor:
        with tree_attention_on(self.language_model):
            output = self.language_model(
                inputs_embeds=embeds,
                attention_mask=layer_masks(self.language_model.config, mask, positions, seen),
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=keep,
            )
        logits: Tensor = output.logits
        return logits.float()

    def _widen(self, width: int) -> None:
        """Room for `width` columns in `sees` and `at`, which texts without beams do not need."""
        missing = width - self.sees.shape[2] if self.beams > 1 else 0
        if missing > 0:
            more = missing + STEP * self.beams
            self.sees = torch.cat([self.sees, self.sees.new_zeros(*self.sees.shape[:2], more)], 2)
            self.at = torch.cat([self.at, self.at.new_zeros(self.slots, more)], 1)
