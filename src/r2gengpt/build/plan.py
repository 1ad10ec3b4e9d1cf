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

Left out: the vision encoder's and the prompt's passes in generation, casts of mixed precision, allocator, kernels.
Python and the libraries stand apart as `process`: what this very process holds. Prompts are taken as one token every
four characters; sliding windows as full.

Against measured peaks: docs/guide.md, section 5.
"""

import json
import math
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForCausalLM, GlmForCausalLM
from transformers.pytorch_utils import Conv1D

from r2gengpt.build.chatglm import glm_config, is_chatglm
from r2gengpt.build.embedded import resolve
from r2gengpt.build.model import UNREADABLE, load_part, mark_trained, pooled_side, processor_image_size
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.model import R2GenGPTConfig, R2GenGPTForConditionalGeneration
from r2gengpt.model.modeling import patch_features
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
class Plan:
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


class _Attention(torch.autograd.Function):
    """Stands for a fused attention kernel: keeps what it keeps, computes nothing."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output


class _FusedAttention(TorchFunctionMode):
    """On the meta device attention would fall back on its plain form, which keeps all (T, T) weights."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            return _Attention.apply(*args[:3])  # type: ignore[no-untyped-call]  # torch's apply has no types
        return func(*args, **(kwargs or {}))


def kept_bytes(model: nn.Module, forward: Callable[[], Any], inputs_of: Sequence[nn.Module] = ()) -> int:
    """Bytes that autograd keeps for the backward pass of `forward`, the model's own tensors left out.

    The inputs of the modules in `inputs_of` are kept too.
    """
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that its identity is not given to another
        return tensor

    hooks = [module.register_forward_pre_hook(lambda _, inputs: (note(inputs[0]), None)[1]) for module in inputs_of]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), _FusedAttention():
        forward()
    for hook in hooks:
        hook.remove()
    return sum(storage.nbytes() for storage in kept.values())


def _from_config(loader: Any, part: Any, name: str, flag: str, **options: Any) -> Any:
    """`from_config` on the meta device whose failure is one line that names the flag.

    Raises:
        InputError: no such architecture, or sizes that it refuses.
    """
    try:
        with torch.device("meta"):
            return loader.from_config(part, dtype=torch.float32, **options)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:250]
        raise InputError(f"{flag} {name}: cannot be built from its configuration: {reason}") from error


def meta_language(config: ModelConfig) -> Any:
    """The language model in float32 on the meta device.

    Raises:
        InputError: no configuration there, or not of a causal language model.
    """
    name, flag, remote = resolve(config.lm_model), "--lm_model", config.trust_remote_code
    if is_chatglm(Path(name)):
        raw = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
        with torch.device("meta"):
            return GlmForCausalLM(glm_config(raw, f"{flag} {name}"))
    part = load_part(AutoConfig, name, flag, trust_remote_code=remote)
    return _from_config(AutoModelForCausalLM, part, name, flag, trust_remote_code=remote)


def meta_vision(config: ModelConfig) -> tuple[Any, int]:
    """The vision encoder on the meta device, and the side of its images (without an image processor, its own)."""
    name, flag, remote = resolve(config.vision_model), "--vision_model", config.trust_remote_code
    part = load_part(AutoConfig, name, flag, trust_remote_code=remote)
    part = getattr(part, "vision_config", None) or part
    tower = _from_config(AutoModel, part, name, flag, trust_remote_code=remote)
    if Path(name).is_dir() and not (Path(name) / "preprocessor_config.json").is_file():
        size = getattr(part, "image_size", 224)
        return tower, int(size if isinstance(size, int) else size[0])
    return tower, processor_image_size(load_part(AutoImageProcessor, name, flag, trust_remote_code=remote), name)


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


def linear_layers(language_model: Any) -> list[nn.Module]:
    """The layers that quantization takes: all linear ones but the head."""
    head = language_model.get_output_embeddings()
    return [m for m in language_model.modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]


def linear_shape(layer: Any) -> tuple[int, int]:
    """(out, in)."""
    rows, columns = int(layer.weight.shape[0]), int(layer.weight.shape[1])
    return (columns, rows) if isinstance(layer, Conv1D) else (rows, columns)


def process_bytes() -> int:
    """Main memory that this process holds now, or held at most where the system says only that."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def _vision_kept(model: Any, studies: int, views: int, size: int) -> int:
    """Bytes that the encoder and the projector keep for their backward passes."""

    def forward() -> None:
        pixels = torch.empty(studies * views, 3, size, size, device="meta")
        output = model.vision_tower(pixels)
        if model.config.global_only:
            features = output.pooler_output.flatten(1).unsqueeze(1)
        else:
            features = patch_features(output, model.config.vision_config, pixels)
        model.projector(features)

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


def meta_model(config: ModelConfig) -> tuple[Any, list[nn.Module]]:
    """The joined model on the meta device, trained parameters marked, and its language model's `linear_layers`.

    Raises:
        InputError: a part has no configuration, or the parts do not fit.
    """
    language_model, (tower, size) = meta_language(config), meta_vision(config)
    model_config = R2GenGPTConfig(
        vision_config=tower.config,
        text_config=language_model.config,
        image_size=size,
        global_only=config.global_only,
        fusion=config.fusion,
        pooled_side=pooled_side(config, tower.config, size),
        feature_norm=config.feature_norm,
    )
    linears = linear_layers(language_model)
    with torch.device("meta"):
        mark_trained(config, tower, language_model)
        model = R2GenGPTForConditionalGeneration(model_config, tower, language_model)
    tower.train(not config.vision_is_frozen)
    language_model.train(config.llm_use_lora)
    return model, linears


def _hold_in(language_model: Any, dtype: torch.dtype) -> None:
    """The language model's own weights in a type; LoRA stays float32, as `add_lora` makes it."""
    language_model.to(dtype)
    for name, parameter in language_model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()


def plan(config: ModelConfig, data: DataConfig, decode: DecodeConfig, train: TrainConfig, *, views: int = 1) -> Plan:
    """Parameters and bytes of training (`batch_size`) and generation (`test_batch_size`, `beam_size`), by mode.

    Args:
        config: the parts, what is trained; every form of weights is planned, beside 8 and 4 bits the rest in bfloat16,
            or in float32 where `dtype` says so.
        data: studies a batch, report tokens learnt.
        decode: beams and new tokens.
        train: whether the language model's activations are computed twice.
        views: images a study.

    Raises:
        InputError: as `meta_model`.
    """
    model, linears = meta_model(config)
    language_model = model.language_model
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in language_model.parameters() if not p.requires_grad)
    text = "".join(fill_template(config.instruction))
    prompt = math.ceil(len(text) / 4) + model.config.tokens_per_view * (views if config.fusion == "concat" else 1)
    positions, keep = prompt + data.report_tokens, data.report_tokens + 1
    new = decode.for_dataset(data.dataset).max_new_tokens or 0
    words = int(language_model.get_output_embeddings().weight.shape[0])
    logits = 12 * data.batch_size * words
    vision = _vision_kept(model, data.batch_size, views, model.config.image_size)
    shapes = [linear_shape(layer) for layer in linears]
    modes = []
    beside = QUANTIZED if config.dtype == "float32" else ()  # arithmetic in float32: so are embedding and head
    halves = ("bfloat16", *(() if beside else QUANTIZED))
    for dtype, forms in ((torch.float32, ("float32", *beside)), (torch.bfloat16, halves)):
        _hold_in(language_model, dtype)
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
    return Plan(total, trained, positions, keep, logits * positions, process_bytes(), tuple(modes))
