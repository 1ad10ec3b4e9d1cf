"""A model of the configured size without weights, and what its forward pass keeps in memory. Adds nothing up."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import AutoImageProcessor, AutoModel
from transformers.pytorch_utils import Conv1D

from r2gengpt.config import ModelConfig
from r2gengpt.model import R2GenGPTForConditionalGeneration
from r2gengpt.parts.assemble import joined_config, mark_trained
from r2gengpt.parts.embedded.cache import resolve
from r2gengpt.parts.loading import from_config, load_config, load_part, meta_language, processor_image_size, resized


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


def meta_vision(config: ModelConfig, *, trust_remote_code: bool = False) -> tuple[Any, int]:
    """The vision encoder on the meta device, and the side of its images: `image_size`, or its own.

    Raises:
        InputError: no configuration there, or views of that size cannot be taken.
    """
    name, field, remote = resolve(config.vision_model), "vision_model", trust_remote_code
    part = load_config(name, field, trust_remote_code=remote)
    part = getattr(part, "vision_config", None) or part
    tower = from_config(AutoModel, part, name, field, trust_remote_code=remote)
    if Path(name).is_dir() and not (Path(name) / "preprocessor_config.json").is_file():
        size = getattr(part, "image_size", 224)
        return tower, int(size if isinstance(size, int) else size[0])
    image_processor = resized(load_part(AutoImageProcessor, name, field, trust_remote_code=remote), part, config)
    return tower, processor_image_size(image_processor, name)


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
    tower, size = meta_vision(config, trust_remote_code=trust_remote_code)
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
