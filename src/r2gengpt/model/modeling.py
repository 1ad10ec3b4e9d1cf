"""R2GenGPT as a Hugging Face model: vision encoder → projector → language model. No downloads, no training loop."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
)
from transformers.modeling_outputs import ModelOutput

from r2gengpt.model.configuration import R2GenGPTConfig, patch_grid
from r2gengpt.model.loss import chunked_loss, head_is_last, learnt_rows
from r2gengpt.model.projector import Projector, mean_over_views
from r2gengpt.text.alignment import IGNORE


@dataclass
class R2GenGPTOutput(ModelOutput):  # type: ignore[misc]  # the library is untyped
    """What `forward` gives: `loss` (), float32; `logits` (B, K, vocabulary) of the last K positions."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Any = None


def patch_features(output: Any, vision_config: Any, pixels: Tensor) -> Tensor:
    """The patches of the encoder's last layer, (K, N, E): class and register tokens in front are left out.

    Raises:
        ValueError: fewer features than the image has patches.
    """
    features: Tensor = output.last_hidden_state
    if features.ndim == 4:
        return features.flatten(2).transpose(1, 2)
    expected = patch_grid(vision_config, pixels.shape[-2]) * patch_grid(vision_config, pixels.shape[-1])
    found = features.shape[1]
    if found < expected:
        raise ValueError(
            f"vision encoder gave {found} features for {expected} patches of a {pixels.shape[-1]}-pixel image"
        )
    return features[:, found - expected :]


def report_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the learnt tokens.

    Args:
        logits: (B, K, vocabulary), position i predicts the token at i + 1.
        labels: (B, K), int64, not shifted, IGNORE where nothing is learnt.

    Returns:
        (), float32.
    """
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORE)


class R2GenGPTForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Chest X-ray views and a prompt in, report out."""

    config_class = R2GenGPTConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    _keep_in_fp32_modules_strict = {"vision_tower", "projector"}  # noqa: RUF012 - the library's form
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012 - the library's form

    def __init__(
        self, config: R2GenGPTConfig, vision_tower: PreTrainedModel | None = None, language_model: Any = None
    ) -> None:
        """Take ready parts, or make them with new weights from the configuration."""
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config) if vision_tower is None else vision_tower
        self.language_model = (
            AutoModelForCausalLM.from_config(config.text_config) if language_model is None else language_model
        )
        self.projector = Projector(
            encoder_width(config.vision_config),
            config.text_config.hidden_size,
            standardize=config.feature_norm == "standardize",
            pooled_side=config.pooled_side,
        )
        self._head_is_last: bool | None = None  # looked up at the first `loss`
        if vision_tower is None or language_model is None:
            self.post_init()
        else:  # the parts are loaded: only the projector is new
            self.projector.apply(self._init_weights)
            self.all_tied_weights_keys = self.get_expanded_tied_weights_keys(all_submodels=True)

    def get_input_embeddings(self) -> Any:
        """The language model's embedding."""
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        """The language model's head."""
        return self.language_model.get_output_embeddings()

    def encode_views(self, pixel_values: Tensor, view_mask: Tensor | None = None) -> Tensor:
        """Features of the present views, (K, N, E), study by study.

        Args:
            pixel_values: (B, V, 3, H, W), float.
            view_mask: (B, V), True where a view is there; None where all are.

        Raises:
            ValueError: shapes that do not fit, with both shapes; a study without any view.
        """
        if pixel_values.ndim != 5:
            raise ValueError(f"pixel_values has shape {tuple(pixel_values.shape)}, must be (studies, views, 3, H, W)")
        view_mask = full_mask(pixel_values) if view_mask is None else view_mask
        if view_mask.shape != pixel_values.shape[:2]:
            raise ValueError(
                f"view_mask has shape {tuple(view_mask.shape)}, pixel_values {tuple(pixel_values.shape)}: studies and "
                "views must agree"
            )
        if not bool(view_mask.any(1).all()):
            raise ValueError(f"study {int((~view_mask.any(1)).nonzero()[0])} of the batch has no view")
        pixels = pixel_values[view_mask].to(self.vision_tower.dtype)
        output = self.vision_tower(pixels)
        if not self.config.global_only:
            return patch_features(output, self.config.vision_config, pixels)
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            raise ValueError(f"global_only: {self.config.vision_config.model_type} gives no pooled feature")
        return pooled.flatten(1).unsqueeze(1)  # type: ignore[no-any-return]

    def image_tokens(self, features: Tensor, view_mask: Tensor) -> Tensor:
        """Image tokens in the order of their placeholders, (total, D).

        Args:
            features: (K, N, E) from `encode_views`.
            view_mask: (B, V), bool.
        """
        if self.config.fusion == "mean":
            features = mean_over_views(features, view_mask)
        tokens: Tensor = self.projector(features)
        return tokens.flatten(0, 1)

    def embed(self, input_ids: Tensor, image_tokens: Tensor) -> Tensor:
        """Embeddings of the ids with the image tokens in place of the placeholders.

        Args:
            input_ids: (B, T), int64.
            image_tokens: (total, D).

        Returns:
            (B, T, D) in the language model's dtype.

        Raises:
            ValueError: more or fewer placeholders than image tokens, with both counts.
        """
        placeholders = input_ids == self.config.image_token_id
        found = int(placeholders.sum())
        if found != len(image_tokens):
            raise ValueError(f"prompt holds {found} image placeholders for {len(image_tokens)} image tokens")
        embeds: Tensor = self.get_input_embeddings()(input_ids.masked_fill(placeholders, 0))
        placeholders = placeholders.unsqueeze(-1).to(embeds.device)  # another device where the layers are spread
        return embeds.masked_scatter(placeholders, image_tokens.to(embeds))

    def embed_inputs(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None,
        view_mask: Tensor | None,
        features: Tensor | None,
    ) -> Tensor:
        """`embed` from pixels or from features of an earlier `encode_views`, (B, T, D)."""
        if features is None:
            if pixel_values is None:
                raise ValueError("pixel_values or features is needed")
            view_mask = full_mask(pixel_values) if view_mask is None else view_mask
            features = self.encode_views(pixel_values, view_mask)
        elif view_mask is None:
            raise ValueError("features needs view_mask")
        return self.embed(input_ids, self.image_tokens(features, view_mask))

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        view_mask: Tensor | None = None,
        features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> R2GenGPTOutput:
        """Logits, and the loss where labels are given.

        Args:
            input_ids: (B, T), int64, with image placeholders.
            pixel_values: (B, V, 3, H, W), float.
            view_mask: (B, V), bool.
            features: (K, N, E) instead of pixel_values.
            attention_mask: (B, T), 1 where a token is.
            labels: (B, T), int64, not shifted; logits are then computed from the first learnt position on only.
            inputs_embeds: (B, T, D) instead of all of the above but the mask.
            **kwargs: handed to the language model.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("input_ids or inputs_embeds is needed")
            inputs_embeds = self.embed_inputs(input_ids, pixel_values, view_mask, features)
        if labels is not None:
            learnt = (labels != IGNORE).any(0).nonzero()
            if not len(learnt):
                raise ValueError("labels hold no learnt token")
            keep = labels.shape[1] - max(int(learnt[0]) - 1, 0)
            kwargs["logits_to_keep"] = keep
            labels = labels[:, -keep:]
        output = self.language_model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs)
        loss = None if labels is None else report_loss(output.logits, labels)
        return R2GenGPTOutput(loss=loss, logits=output.logits, past_key_values=output.past_key_values)

    def loss(
        self,
        input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        view_mask: Tensor | None = None,
        features: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The loss of `forward`, (), float32, without its logits: those of learnt tokens only, a chunk at a time.

        Language models that do something to their logits after the head take `forward` itself. Arguments as there.
        """
        embeds = self.embed_inputs(input_ids, pixel_values, view_mask, features)
        if self._head_is_last is None:
            self._head_is_last = head_is_last(self.language_model)
        if not self._head_is_last:
            # not `self(…)`: fsdp gathers weights around the outermost call, and would give them away after this one
            output = self.forward(inputs_embeds=embeds, attention_mask=attention_mask, labels=labels, **kwargs)
            assert output.loss is not None
            return output.loss
        inner = self.language_model.base_model
        hidden = inner(inputs_embeds=embeds, attention_mask=attention_mask, **kwargs).last_hidden_state
        return chunked_loss(*learnt_rows(hidden, labels), self.get_output_embeddings())

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        view_mask: Tensor | None = None,
        features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """New tokens only, (B · returned, T_new), by the language model's own `generate`.

        The prompt goes in as embeddings, so penalties count generated tokens only, as in the original.
        Prompts of a batch are padded on the left. Arguments as in `forward`, the rest as in `GenerationMixin.generate`.
        """
        if input_ids is None:
            raise ValueError("input_ids is needed")
        embeds = self.embed_inputs(input_ids, pixel_values, view_mask, features)
        settings = copy.deepcopy(kwargs.pop("generation_config", None) or self.generation_config)
        rest = settings.update(**kwargs)
        rest["logits_processor"] = LogitsProcessorList(
            [*take_repetition_rules(settings), *rest.get("logits_processor", ())]
        )
        return self.language_model.generate(
            inputs_embeds=embeds, attention_mask=attention_mask, generation_config=settings, **rest
        )


def take_repetition_rules(settings: GenerationConfig) -> list[LogitsProcessor]:
    """The repetition penalty and the n-gram rule as processors of new tokens; they are switched off in `settings`.

    The library's own penalty takes a prompt's padding for padding of the new tokens where prompts are embeddings, and
    so lets a padded row repeat its first words.
    """
    rules: list[LogitsProcessor] = []
    if settings.repetition_penalty is not None and settings.repetition_penalty != 1.0:
        rules.append(RepetitionPenaltyLogitsProcessor(float(settings.repetition_penalty)))
        settings.repetition_penalty = 1.0
    if settings.no_repeat_ngram_size:
        rules.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size))
        settings.no_repeat_ngram_size = 0
    return rules


def full_mask(pixel_values: Tensor) -> Tensor:
    """All views are there: (B, V), bool."""
    return torch.ones(pixel_values.shape[:2], dtype=torch.bool, device=pixel_values.device)


def encoder_width(vision_config: Any) -> int:
    """E: width of the encoder's last layer (Swin's `hidden_size` is that of its last stage)."""
    sizes = getattr(vision_config, "hidden_sizes", None)
    return int(sizes[-1] if sizes else vision_config.hidden_size)
