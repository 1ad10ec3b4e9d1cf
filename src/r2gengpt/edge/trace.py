"""A PyTorch model's two halves as OpenVINO graphs: views to image tokens, embeddings to logits. Weights stay whole.

The language model keeps the keys and values of earlier passes as the graph's own state. Each pass names for every row
which row of the last pass it continues, so that one prompt serves all beams and a beam search moves no cache itself.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from r2gengpt.confidence.film_guard import GRID
from r2gengpt.edge.graphs import ASKED
from r2gengpt.edge.runtime import openvino
from r2gengpt.generation.tree import layer_masks
from r2gengpt.model import R2GenGPTForConditionalGeneration
from r2gengpt.model.vision import regional_means, view_features

PAST = 3
"""Positions in the example cache that the language model is traced with."""


class GivenCache(Cache):  # type: ignore[misc]  # the library is untyped
    """Keys and values of earlier passes, (B, groups, L, C) each, key and value of a layer in turn; grows by a pass."""

    def __init__(self, past: tuple[Tensor, ...]) -> None:
        super().__init__(layers=[])
        self.stored = list(past)

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Called by each layer with (B, groups, Q, C); gives all that it attends to."""
        for place, new in ((2 * layer_idx, key_states), (2 * layer_idx + 1, value_states)):
            self.stored[place] = torch.cat([self.stored[place], new], 2)
        return self.stored[2 * layer_idx], self.stored[2 * layer_idx + 1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Not told: every pass brings its own positions and masks."""
        return 0


class LanguageStep(nn.Module):
    """One pass of a language model: logits of the last position, and the grown cache."""

    def __init__(self, language_model: Any) -> None:
        super().__init__()
        self.language_model = language_model

    def forward(self, embeds: Tensor, positions: Tensor, seen: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Logits, then keys and values.

        Args:
            embeds: (B, Q, D), float32.
            positions: (1, Q), int64, of this pass.
            seen: (1, L + Q), int64, positions of all keys.
            *past: (B, groups, L, C), key and value of each layer in turn.

        Returns:
            (B, vocabulary), float32, and the cache as `past`, by Q longer.
        """
        cache = GivenCache(past)
        mask = seen[:, None, None, :] <= positions[:, None, :, None]
        output = self.language_model(
            inputs_embeds=embeds,
            attention_mask=layer_masks(self.language_model.config, mask, positions, seen),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float(), *cache.stored


class ImageTokens(nn.Module):
    """The views of one study, (V, 3, H, W), float32, to its image tokens, (N, D) (V · N with concat)."""

    def __init__(self, model: R2GenGPTForConditionalGeneration) -> None:
        super().__init__()
        self.config, self.vision_tower, self.projector = model.config, model.vision_tower, model.projector

    def forward(self, pixels: Tensor) -> Tensor:
        """As `encode_views` and `image_tokens` of the model, for one study."""
        return self.tokens(self.features(pixels), pixels.shape[0])

    def features(self, pixels: Tensor) -> Tensor:
        """Of views (K, 3, H, W), (K, N, E)."""
        output = self.vision_tower(pixels)
        return view_features(output, self.config.vision_config, pixels, global_only=self.config.global_only)

    def tokens(self, features: Tensor, views: int) -> Tensor:
        """Of the features of so many views."""
        if self.config.fusion == "mean":
            features = features.sum(0, keepdim=True) / views
        tokens: Tensor = self.projector(features)
        return tokens.flatten(0, 1)


class TokensAndFindings(ImageTokens):
    """`ImageTokens`, the head's logits (O,), the mean of films and mirrored films, and regions' means (V, F)."""

    def __init__(self, model: R2GenGPTForConditionalGeneration) -> None:
        super().__init__(model)
        self.head: Any = model.finding_head

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]  # two outputs more
        """As `confidence.looking`, for one study; both passes of the encoder are one of 2 V views."""
        features = self.features(torch.cat([pixels, pixels.flip(-1)]))
        patches = self.head.norm(features).reshape(2, -1, features.shape[-1])
        logits = self.head.read(patches, torch.ones(patches.shape[:2], dtype=torch.bool))
        here = features.reshape(2, -1, *features.shape[1:])[0]
        return self.tokens(here, pixels.shape[0]), logits.mean(0), regional_means(here, GRID)


@torch.no_grad()
def to_graph(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """A module's computation on an example as an OpenVINO model; sizes that the module reads off its inputs stay open.

    The frontend is asked itself: `openvino.convert_model` would report the use to OpenVINO's makers. What need not be
    worked out at each start is worked out now.
    """
    openvino(**ASKED)
    from openvino._offline_transformations import apply_moc_transformations
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: that checks of shapes are taken as they came out
        traced = torch.jit.trace(module.eval(), example, strict=False, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced, example_input=example)
    frontend = FrontEndManager().load_by_framework("pytorch")
    graph = frontend.convert(frontend.load(decoder))
    apply_moc_transformations(graph, cf=True)
    return graph


@torch.no_grad()
def cache_sizes(language_model: Any) -> list[tuple[int, int]]:
    """Groups and channels of keys and values of each layer in turn."""
    weight = language_model.get_input_embeddings().weight
    output = language_model(inputs_embeds=weight.new_zeros(1, 1, weight.shape[1]), use_cache=True)
    tensors = [tensor for layer in output.past_key_values.layers for tensor in (layer.keys, layer.values)]
    return [(int(tensor.shape[1]), int(tensor.shape[3])) for tensor in tensors]


def language_graph(language_model: Any, sizes: Sequence[tuple[int, int]]) -> Any:
    """The graph of `LanguageStep`; its cache comes in and goes out."""
    width = language_model.get_input_embeddings().weight.shape[1]
    past = [torch.zeros(2, groups, PAST, channels) for groups, channels in sizes]
    positions = torch.arange(PAST, PAST + 2)[None]
    return to_graph(
        LanguageStep(language_model), (torch.zeros(2, 2, width), positions, torch.arange(PAST + 2)[None], *past)
    )


def vision_graph(model: R2GenGPTForConditionalGeneration) -> Any:
    """The graph of `ImageTokens`, with the findings where there is a head; the number of views stays open."""
    size = model.config.image_size
    module = ImageTokens(model) if model.finding_head is None else TokensAndFindings(model)
    return to_graph(module, (torch.zeros(2, 3, size, size),))


def packable_names(language_model: Any) -> set[str]:
    """Names of the constants of `language_graph` that are weights of linear layers: not the head's, nor LoRA's own."""
    head = language_model.get_output_embeddings()
    return {
        f"self.language_model.{name}.weight"
        for name, layer in language_model.named_modules()
        if isinstance(layer, nn.Linear) and layer is not head and "lora_" not in name
    }
