"""R2GenGPT as a Hugging Face model: vision encoder → projector → language model. No downloads, no training loop."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, GenerationMixin, LogitsProcessorList, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from r2gengpt.model.configuration import R2GenGPTConfig
from r2gengpt.model.earlier import NOW, TimeMarks, mean_of_studies
from r2gengpt.model.findings import FindingHead
from r2gengpt.model.loss import chunked_loss, head_is_last, learnt_rows, learnt_tail, report_loss
from r2gengpt.model.projector import FeatureNorm, Projector, mean_over_views
from r2gengpt.model.repetition import take_repetition_rules
from r2gengpt.model.served import ServedLanguageModel
from r2gengpt.model.vision import encoder_width, full_mask, present_views, view_features
from r2gengpt.text.alignment import IGNORE


class R2GenGPTForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Chest X-ray views and a prompt in, report out."""

    config_class = R2GenGPTConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    _keep_in_fp32_modules_strict = {"vision_tower", "projector", "finding_head", "time_marks"}  # noqa: RUF012 - the library's form
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
        self.language_model = _language_model(config) if language_model is None else language_model
        self.projector = Projector(
            encoder_width(config.vision_config),
            config.text_config.hidden_size,
            norm_in=_feature_norm(config),
            pooled_side=config.pooled_side,
        )
        self.finding_head = (
            FindingHead(encoder_width(config.vision_config), config.observations) if config.observations else None
        )
        self.time_marks = TimeMarks(config.text_config.hidden_size) if config.prior_study else None
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
        pixels = present_views(pixel_values, view_mask).to(self.vision_tower.dtype)
        output = self.vision_tower(pixels)
        return view_features(output, self.config.vision_config, pixels, global_only=self.config.global_only)

    def finding_logits(self, features: Tensor, view_mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """What the finding head makes of features, (B, O), float32. It looks at no earlier study.

        Args:
            features: (K, N, E) from `encode_views`.
            view_mask: (B, V), bool.
            marks: (B, V), int64, see `earlier`; None: no view is of an earlier study.

        Raises:
            ValueError: the model has no finding head.
        """
        if self.finding_head is None:
            raise ValueError("this model has no finding head")
        if marks is not None:
            features, view_mask = features[marks[view_mask] == NOW], view_mask & (marks == NOW)
        logits: Tensor = self.finding_head(features, view_mask)
        return logits

    def image_tokens(self, features: Tensor, view_mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """Image tokens in the order of their placeholders, (total, D).

        Args:
            features: (K, N, E) from `encode_views`.
            view_mask: (B, V), bool.
            marks: (B, V), int64, see `earlier`; None: no view is of an earlier study.

        Raises:
            ValueError: there is an earlier study, and the model has no time marks.
        """
        if marks is None:
            if self.config.fusion == "mean":
                features = mean_over_views(features, view_mask)
            tokens: Tensor = self.projector(features)
            return tokens.flatten(0, 1)
        if self.time_marks is None:
            raise ValueError("this model was trained without earlier studies")
        if self.config.fusion == "mean":
            features, since = mean_of_studies(features, view_mask, marks)
        else:
            since = marks[view_mask]
        marked: Tensor = self.time_marks(self.projector(features), since)
        return marked.flatten(0, 1)

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
        marks: Tensor | None = None,
    ) -> Tensor:
        """`embed` from pixels or from features of an earlier `encode_views`, (B, T, D)."""
        if features is None:
            if pixel_values is None:
                raise ValueError("pixel_values or features is needed")
            view_mask = full_mask(pixel_values) if view_mask is None else view_mask
            features = self.encode_views(pixel_values, view_mask)
        elif view_mask is None:
            raise ValueError("features needs view_mask")
        return self.embed(input_ids, self.image_tokens(features, view_mask, marks))

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        view_mask: Tensor | None = None,
        features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        token_weights: Tensor | None = None,
        marks: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (B, K, vocabulary) of the last K positions, and the loss (), float32, where labels are given.

        Args:
            input_ids: (B, T), int64, with image placeholders.
            pixel_values: (B, V, 3, H, W), float.
            view_mask: (B, V), bool.
            features: (K, N, E) instead of pixel_values.
            attention_mask: (B, T), 1 where a token is.
            labels: (B, T), int64, not shifted; logits are then computed from the first learnt position on only.
            inputs_embeds: (B, T, D) instead of all of the above but the mask.
            token_weights: (B, T), how much each label counts in the loss; None: all alike.
            marks: (B, V), int64, which views are of an earlier study, see `earlier`; None: none.
            **kwargs: handed to the language model.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("input_ids or inputs_embeds is needed")
            inputs_embeds = self.embed_inputs(input_ids, pixel_values, view_mask, features, marks)
        if labels is not None:
            labels = learnt_tail(labels)
            kwargs["logits_to_keep"] = labels.shape[1]
        output = self.language_model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs)
        if token_weights is not None and labels is not None:
            token_weights = token_weights[:, -labels.shape[1] :]
        loss = None if labels is None else report_loss(output.logits, labels, token_weights)
        return CausalLMOutputWithPast(loss=loss, logits=output.logits, past_key_values=output.past_key_values)

    def loss(
        self,
        input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        view_mask: Tensor | None = None,
        features: Tensor | None = None,
        token_weights: Tensor | None = None,
        marks: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The loss of `forward`, (), float32, without its logits: those of learnt tokens only, a chunk at a time.

        Language models that do something to their logits after the head take `forward` itself. Arguments as there.
        """
        embeds = self.embed_inputs(input_ids, pixel_values, view_mask, features, marks)
        if self._head_is_last is None:
            self._head_is_last = head_is_last(self.language_model)
        if not self._head_is_last:
            # not `self(…)`: fsdp gathers weights around the outermost call, and would give them away after this one
            loss: Tensor = self.forward(
                inputs_embeds=embeds,
                attention_mask=attention_mask,
                labels=labels,
                token_weights=token_weights,
                **kwargs,
            ).loss
            return loss
        inner = self.language_model.base_model
        hidden = inner(inputs_embeds=embeds, attention_mask=attention_mask, **kwargs).last_hidden_state
        weights = None if token_weights is None else token_weights[:, 1:][labels[:, 1:] != IGNORE]
        return chunked_loss(*learnt_rows(hidden, labels), self.get_output_embeddings(), weights=weights)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        view_mask: Tensor | None = None,
        features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        marks: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """New tokens only, (B · returned, T_new), by the language model's own `generate`.

        The prompt goes in as embeddings, so penalties count generated tokens only, as in the original.
        Prompts of a batch are padded on the left. Arguments as in `forward`, the rest as in `GenerationMixin.generate`.
        """
        if input_ids is None:
            raise ValueError("input_ids is needed")
        embeds = self.embed_inputs(input_ids, pixel_values, view_mask, features, marks)
        settings = copy.deepcopy(kwargs.pop("generation_config", None) or self.generation_config)
        rest = settings.update(**kwargs)
        rest["logits_processor"] = LogitsProcessorList(
            [*take_repetition_rules(settings), *rest.get("logits_processor", ())]
        )
        return self.language_model.generate(
            inputs_embeds=embeds, attention_mask=attention_mask, generation_config=settings, **rest
        )


def _feature_norm(config: R2GenGPTConfig) -> FeatureNorm | None:
    """What standardises the encoder's features, where the configuration asks for it."""
    if config.feature_norm == "none":
        return None
    return FeatureNorm(
        encoder_width(config.vision_config), config.patches if config.feature_norm == "position" else None
    )


def _language_model(config: R2GenGPTConfig) -> Any:
    """A language model with new weights, or its embedding table where another program runs it."""
    if config.served:
        return ServedLanguageModel(config.text_config)
    return AutoModelForCausalLM.from_config(config.text_config)
