"""One growing store of keys and values, shared by a study's beams: who may see what is told by masks. No decoding.

A study's store holds its prompt once, then one column a beam and step. A beam's text is a path through those columns,
so choosing other beams changes a mask and moves no keys or values.
"""

from collections.abc import Iterator
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


@contextmanager
def tree_attention_on(language_model: Any) -> Iterator[None]:
    """Let the language model attend by `tree_attention` inside the block."""
    AttentionInterface.register(ATTENTION, tree_attention)
    config = language_model.config
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
        self.slots = slots
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.rows = torch.arange(0)
        self.columns = torch.zeros(0, 0, dtype=torch.long)
        self.width = 0
        self.prefilling = False

    def aim(self, rows: Tensor, columns: Tensor, width: int, *, prefilling: bool = False) -> None:
        """Set where the next pass writes, (B,) and (B, Q), and that it reads `width` columns.

        While `prefilling` a pass sees its own keys and values only.
        """
        self.rows, self.columns, self.width, self.prefilling = rows, columns, width, prefilling

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Called by each layer with (B, groups, Q, C); gives what it attends to."""
        if layer_idx == len(self.keys):
            self.keys.append(self._room(key_states))
            self.values.append(self._room(value_states))
        for store, new in ((self.keys, key_states), (self.values, value_states)):
            if store[layer_idx].shape[2] < self.width:
                store[layer_idx] = self._room(new, store[layer_idx])
            store[layer_idx][self.rows[:, None], :, self.columns] = new.transpose(1, 2).to(store[layer_idx].dtype)
        if self.prefilling:
            return key_states, value_states
        count = len(self.rows)
        return self.keys[layer_idx][:count, :, : self.width], self.values[layer_idx][:count, :, : self.width]

    def _room(self, like: Tensor, old: Tensor | None = None) -> Tensor:
        """An empty store for `width` columns and some more, with the old one's content."""
        columns = self.width + STEP * (1 if old is None else max(1, old.shape[2] // (2 * STEP)))
        new = like.new_zeros(self.slots, like.shape[1], columns, like.shape[3])
        if old is not None:
            new[:, :, : old.shape[2]] = old
        return new

    def move(self, source: int, target: int) -> None:
        """Put one slot's content where another's was."""
        for store in (*self.keys, *self.values):
            store[target] = store[source]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Not told: every pass brings its own positions and masks."""
        return 0


def prompt_mask(lengths: Tensor, width: int) -> Tensor:
    """Causal masks of prompts padded on the right, (B,) lengths → (B, 1, width, width), bool.

    A padded position sees what a token there would; nothing reads what comes of it.
    """
    causal = torch.ones(width, width, dtype=torch.bool, device=lengths.device).tril()
    return causal.expand(len(lengths), 1, width, width)


def windowed(mask: Tensor, positions: Tensor, seen: Tensor, window: int) -> Tensor:
    """The mask without keys that lie `window` positions back or more.

    Args:
        mask: (B, 1, Q, L), bool.
        positions: (B, Q), of the queries.
        seen: (B, L), positions of the keys.
        window: as the library's sliding windows count.
    """
    return mask & (positions[:, None, :, None] - seen[:, None, None, :] < window)


def layer_masks(config: Any, mask: Tensor, positions: Tensor, seen: Tensor) -> Any:
    """The mask as a language model takes it: one for all layers, or one for each kind of layer (Gemma 3)."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if window is None or (kinds and "sliding_attention" not in kinds):
        return mask
    sliding = windowed(mask, positions, seen, window)
    if not kinds:
        return sliding
    return {"full_attention": mask, "sliding_attention": sliding}
