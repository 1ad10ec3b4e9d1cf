"""A model of the configured size without weights, and what its forward pass keeps in memory. Adds nothing up."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, GlmForCausalLM
from transformers.pytorch_utils import Conv1D

from r2gengpt.build.chatglm import glm_config, is_chatglm
from r2gengpt.build.embedded import resolve
from r2gengpt.build.model import joined_config, mark_trained
from r2gengpt.build.parts import UNREADABLE, load_config, load_part, processor_image_size, why_unreadable
from r2gengpt.config import ModelConfig
from r2gengpt.errors import InputError
from r2gengpt.model import R2GenGPTForConditionalGeneration


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


def _from_config(loader: Any, part: Any, name: str, flag: str, *, trust_remote_code: bool) -> Any:
    """`from_config` on the meta device whose failure is one line that names the flag.

    Raises:
        InputError: no such architecture, or sizes that it refuses.
    """
    try:
        with torch.device("meta"):
            return loader.from_config(part, dtype=torch.float32, trust_remote_code=trust_remote_code)
    except UNREADABLE as error:
        reason = why_unreadable(error, flag, trust_remote_code, "cannot be built from its configuration")
        raise InputError(f"{flag} {name}: {reason}") from error


def meta_language(lm_model: str, *, trust_remote_code: bool = False) -> Any:
    """The language model in float32 on the meta device.

    Raises:
        InputError: no configuration there, or not of a causal language model.
    """
    name, flag, remote = resolve(lm_model), "--lm_model", trust_remote_code
    if is_chatglm(Path(name)):
        raw = json.loads((Path(name) / "config.json").read_text(encoding="utf-8"))
        with torch.device("meta"):
            return GlmForCausalLM(glm_config(raw, f"{flag} {name}"))
    part = load_config(name, flag, trust_remote_code=remote)
    return _from_config(AutoModelForCausalLM, part, name, flag, trust_remote_code=remote)


def meta_vision(vision_model: str, *, trust_remote_code: bool = False) -> tuple[Any, int]:
    """The vision encoder on the meta device, and the side of its images (without an image processor, its own)."""
    name, flag, remote = resolve(vision_model), "--vision_model", trust_remote_code
    part = load_config(name, flag, trust_remote_code=remote)
    part = getattr(part, "vision_config", None) or part
    tower = _from_config(AutoModel, part, name, flag, trust_remote_code=remote)
    if Path(name).is_dir() and not (Path(name) / "preprocessor_config.json").is_file():
        size = getattr(part, "image_size", 224)
        return tower, int(size if isinstance(size, int) else size[0])
    return tower, processor_image_size(load_part(AutoImageProcessor, name, flag, trust_remote_code=remote), name)


def linear_layers(language_model: Any) -> list[nn.Module]:
    """The layers that quantization takes: all linear ones but the head."""
    head = language_model.get_output_embeddings()
    return [m for m in language_model.modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]


def linear_shape(layer: Any) -> tuple[int, int]:
    """(out, in)."""
    rows, columns = int(layer.weight.shape[0]), int(layer.weight.shape[1])
    return (columns, rows) if isinstance(layer, Conv1D) else (rows, columns)


def meta_model(config: ModelConfig, *, trust_remote_code: bool = False) -> tuple[Any, list[nn.Module]]:
    """The joined model on the meta device, trained parameters marked, and its language model's `linear_layers`.

    Raises:
        InputError: a part has no configuration, or the parts do not fit.
    """
    language_model = meta_language(config.lm_model, trust_remote_code=trust_remote_code)
    tower, size = meta_vision(config.vision_model, trust_remote_code=trust_remote_code)
    model_config = joined_config(config, tower, language_model, size)
    linears = linear_layers(language_model)
    with torch.device("meta"):
        mark_trained(config, tower, language_model)
        model = R2GenGPTForConditionalGeneration(model_config, tower, language_model)
    tower.train(not config.vision_is_frozen)
    language_model.train(config.llm_use_lora)
    return model, linears


def hold_in(language_model: Any, dtype: torch.dtype) -> None:
    """The language model's own weights in a type; LoRA stays float32, as `add_lora` makes it."""
    language_model.to(dtype)
    for name, parameter in language_model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
