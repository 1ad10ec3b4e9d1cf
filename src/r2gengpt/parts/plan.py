"""What a model costs in parameters and bytes, from the configurations of its parts. Loads no weights, allocates none.

All of it is built on torch's meta device, whose tensors have a shape and no memory. Bytes of one training step are

    weights + gradients (4 a trained parameter) + AdamW's moments (8 of them) + activations + logits + scratch

where *activations* are the tensors that autograd keeps for the backward pass, noted while the model's own forward
runs on the meta device (scaled dot-product attention as its fused kernels keep it: query, key, value, output and one
float32 a row; bitsandbytes' 8-bit layers keep their inputs too), *logits* are three float32 tensors of (studies,
report positions + 1, vocabulary): what the head gives, its softmax, its gradient, and *scratch* is one quantized
layer's matrix in the arithmetic's type, which bitsandbytes makes for each product and frees. LoRA is float32, its
products too (no autocast).
With gradient checkpointing the language model keeps each layer's input and one layer's share. Generation is

    weights + scratch + the larger of the cache (keys and values of all beams at full length) and the logits of all new
    tokens, from which log-probabilities are taken once the cache is gone

A finding head that is trained alone has no language model beside it: its weights are never loaded.

Left out: the vision encoder's and the prompt's passes in generation, casts of mixed precision, allocator, kernels.
Python and the libraries stand apart as `process`: what this very process holds. Prompts are taken as one token every
four characters; sliding windows as full.

Against measured peaks: docs/benchmarks.md.
"""

import math
import resource
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.model.vision import view_features
from r2gengpt.parts.assemble import HERE, freeze_seeing
from r2gengpt.parts.meta import hold_in, kept_bytes, linear_shape, meta_model
from r2gengpt.settings import PlacementConfig
from r2gengpt.text.prompt import fill_template

QUANTIZED = ("int8", "nf4", "nf4 double")
FORMS = ("float32", "bfloat16", *QUANTIZED)


@dataclass(frozen=True)
class ModePlan:
    """Bytes with the language model's weights in one form."""

    name: str
    weights: int
    gradients: int
    moments: int
    activations: int
    logits: int
    scratch: int
    kv_cache: int
    new_logits: int

    @property
    def training(self) -> int:
        """A training step: everything but the cache."""
        return self.weights + self.gradients + self.moments + self.activations + self.logits + self.scratch

    @property
    def generation(self) -> int:
        """Beam search at its last token, or the pass over all new tokens after it."""
        return self.weights + self.scratch + max(self.kv_cache, self.new_logits)


@dataclass(frozen=True)
class MemoryPlan:
    """Counts of parameters, positions of one study (whole, with logits), bytes of logits on all of them, the modes.

    `process` is what Python and the libraries hold in main memory besides, in this process.
    """

    parameters: int
    trained: int
    positions: int
    logit_positions: int
    logits_everywhere: int
    process: int
    modes: tuple[ModePlan, ...]


def quantized_bytes(rows: int, columns: int, form: str) -> int:
    """Bytes of a linear layer's weights in 8 or 4 bits with their constants.

    int8 has a float32 scale a row (LLM.int8(), arXiv 2208.07339). nf4 has one a block of 64 weights, which double
    quantization makes one byte, with a float32 scale a block of 256 of them (QLoRA, arXiv 2305.14314).
    """
    count = rows * columns
    if form == "int8":
        return count + 4 * rows
    blocks = math.ceil(count / 64)
    constants = 4 * blocks if form == "nf4" else blocks + 4 * math.ceil(blocks / 256)
    return math.ceil(count / 2) + constants


def process_bytes() -> int:
    """Main memory that this process holds now, or held at most where the system says only that."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def _vision_kept(model: Any, studies: int, views: int, *, reports: bool) -> int:
    """Bytes that the encoder, the finding head and, for reports, the projector keep for their backward passes."""
    config, size, head = model.config, model.config.image_size, model.finding_head

    def forward() -> None:
        pixels = torch.empty(studies * views, 3, size, size, device="meta")
        output = model.vision_tower(pixels)
        features = view_features(output, config.vision_config, pixels, global_only=config.global_only)
        if reports:
            model.projector(features)
        if head is not None:
            patches = head.norm(features.float()).reshape(studies, -1, features.shape[-1])
            head.read(patches, torch.ones(patches.shape[:2], dtype=torch.bool, device="meta"))

    return kept_bytes(model, forward)


def _language_kept(
    language_model: Any, studies: int, positions: int, keep: int, checkpointing: bool, inputs_of: Sequence[nn.Module]
) -> int:
    """Bytes that the language model keeps for its backward pass, logits left out."""
    embedding = language_model.get_input_embeddings().weight
    shape = (studies, positions, embedding.shape[1])
    embeds = torch.empty(shape, dtype=embedding.dtype, device="meta", requires_grad=True)
    mask = torch.empty(studies, 1, positions, positions, dtype=torch.bool, device="meta")
    inputs = {"inputs_embeds": embeds, "attention_mask": mask, "use_cache": False, "logits_to_keep": keep}
    kept = kept_bytes(language_model, lambda: language_model(**inputs), inputs_of)
    layers = int(language_model.config.get_text_config().num_hidden_layers)
    return layers * embeds.nbytes + kept // layers if checkpointing else kept


@torch.no_grad()
def cache_bytes(language_model: Any) -> int:
    """Bytes of keys and values of one token in all layers."""
    embedding = language_model.get_input_embeddings().weight
    embeds = torch.empty(1, 1, embedding.shape[1], dtype=embedding.dtype, device="meta")
    mask = torch.empty(1, 1, 1, 1, dtype=torch.bool, device="meta")
    cache = language_model(inputs_embeds=embeds, attention_mask=mask, use_cache=True).past_key_values
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def plan(
    config: ModelConfig,
    data: DataConfig,
    decode: DecodeConfig,
    train: TrainConfig,
    where: PlacementConfig = HERE,
    *,
    views: int = 1,
) -> MemoryPlan:
    """Parameters and bytes of training (`batch_size`) and generation (`test_batch_size`, `beam_size`), by mode.

    Args:
        config: the parts, what is trained.
        data: studies a batch, report tokens learnt.
        decode: beams and new tokens.
        train: what stays as it is, and whether the language model's activations are computed twice. With
            `findings_only` there is one mode, without the language model, and nothing is generated.
        where: every form of weights is planned, beside 8 and 4 bits the rest in bfloat16, or in float32 where `dtype`
            says so.
        views: images a study.

    Raises:
        InputError: as `meta_model`, or features that do not fit.
    """
    if train.findings_only:
        config = replace(config, llm_use_lora=False)
    model, linears = meta_model(config, trust_remote_code=where.trust_remote_code)
    language_model = model.language_model
    if train.freeze_seeing or train.stage == "reinforce":
        freeze_seeing(model)
    if train.findings_only:
        model.projector.requires_grad_(False)
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in language_model.parameters() if not p.requires_grad)
    vision = _vision_kept(model, data.batch_size, views, reports=not train.findings_only)
    if train.findings_only:
        mode = ModePlan("float32", 4 * (total - frozen), 4 * trained, 8 * trained, vision, 0, 0, 0, 0)
        return MemoryPlan(total, trained, 0, 0, 0, process_bytes(), (mode,))
    text = "".join(fill_template(config.instruction))
    prompt = math.ceil(len(text) / 4) + model.config.tokens_per_view * (views if config.fusion == "concat" else 1)
    positions, keep = prompt + data.report_tokens, data.report_tokens + 1
    new = decode.for_dataset(data.dataset).max_new_tokens or 0
    words = int(language_model.get_output_embeddings().weight.shape[0])
    logits = 12 * data.batch_size * words
    shapes = [linear_shape(layer) for layer in linears]
    modes = []
    beside = QUANTIZED if where.dtype == "float32" else ()  # arithmetic in float32: so are embedding and head
    halves = ("bfloat16", *(() if beside else QUANTIZED))
    for dtype, forms in ((torch.float32, ("float32", *beside)), (torch.bfloat16, halves)):
        hold_in(language_model, dtype)
        cache = cache_bytes(language_model) * (prompt + new) * decode.beam_size * data.test_batch_size
        new_logits = (dtype.itemsize + 8) * data.test_batch_size * (new + 1) * words  # as given, in float32, exponents
        for form in forms:
            sizes = data.batch_size, positions, keep, train.gradient_checkpointing
            kept = _language_kept(language_model, *sizes, linears if form == "int8" else ())
            weights, scratch = 4 * (total - frozen) + dtype.itemsize * frozen, 0
            if form in QUANTIZED:
                full = [dtype.itemsize * math.prod(shape) for shape in shapes]
                weights += sum(quantized_bytes(*shape, form) for shape in shapes) - sum(full)
                scratch = max(full)
            summands = (4 * trained, 8 * trained, vision + kept, logits * keep, scratch, cache, new_logits)
            modes.append(ModePlan(form, weights, *summands))
    modes.sort(key=lambda mode: FORMS.index(mode.name))
    return MemoryPlan(total, trained, positions, keep, logits * positions, process_bytes(), tuple(modes))
