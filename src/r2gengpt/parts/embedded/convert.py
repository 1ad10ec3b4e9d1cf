"""The embedded parts' weight files (ONNX, GGUF) to Hugging Face directories. Not where the files come from.

Only tensors are read: no code of the packages that carry the files is imported, and nothing of the graph is executed.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2gengpt.errors import InputError

Tensors = dict[str, NDArray[np.float32]]

_PREFIX = "backbone."
_MATMUL = re.compile(r"^/backbone/(encoder/.+)/MatMul$")
_HEAD_WIDTH = 64
"""Width of one attention head in every DINOv2 size (S, B, L, g)."""


def _needs(package: str) -> InputError:
    return InputError(f"converting the embedded model needs {package}: pip install {package}")


def dinov2_tensors(onnx_file: Path) -> Tensors:
    """The weights of the `backbone` of an exported graph, under the names of the hub's DINOv2 checkpoints.

    Three kinds of initializers make them up. Those named `backbone.*` keep their name. The exporter folded each linear
    layer's transposed weight into a constant `onnx::MatMul_<number>`: the node that reads it carries the layer's path.
    The position embedding was folded into two constants, one for the class token and one for the patches.

    Returns:
        Name → float32 array. `embeddings.mask_token`, which only pre-training uses and the graph lacks, is zero.

    Raises:
        InputError: the `onnx` package is missing.
        ValueError: the graph has no such position constants.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise _needs("onnx") from None
    graph = onnx.load(str(onnx_file)).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    tensors = {name.removeprefix(_PREFIX): value for name, value in constants.items() if name.startswith(_PREFIX)}
    for node in graph.node:
        layer = _MATMUL.match(node.name) if node.op_type == "MatMul" else None
        if layer and node.input[1] in constants:
            tensors[f"{layer[1].replace('/', '.')}.weight"] = constants[node.input[1]].T
    tensors["embeddings.position_embeddings"] = _positions(constants)
    tensors["embeddings.mask_token"] = np.zeros((1, tensors["embeddings.cls_token"].shape[-1]), np.float32)
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in sorted(tensors.items())}


def _positions(constants: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """(1, 1+N, E): the class token's constant before the patches' one."""
    found = [
        [value for name, value in constants.items() if name.startswith(prefix) and value.ndim == 3]
        for prefix in ("onnx::Concat_", "onnx::Reshape_")
    ]
    if [len(values) for values in found] != [1, 1]:
        raise ValueError(f"position constants of class token and patches: found {[len(v) for v in found]}, need [1, 1]")
    return np.concatenate([found[0][0], found[1][0]], axis=1)


def dinov2_config(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """`config.json` of a `Dinov2Model`, its sizes read from the shapes of the weights."""
    width, channels, patch, _ = tensors["embeddings.patch_embeddings.projection.weight"].shape
    side = round((tensors["embeddings.position_embeddings"].shape[1] - 1) ** 0.5)
    layers = sum(name.endswith("norm1.weight") for name in tensors)
    return {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "dtype": "float32",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // _HEAD_WIDTH,
        "mlp_ratio": tensors["encoder.layer.0.mlp.fc1.bias"].shape[0] // width,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": side * patch,
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "qkv_bias": True,
    }


PREPROCESSOR = {
    "image_processor_type": "ViTImageProcessorPil",
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
"""224×224, bicubic, ImageNet statistics. The package pads to a square and DINOv2's own processor cuts the middle out;
a chest film is scaled to the square instead, so that neither costophrenic angles nor resolution are lost."""


def convert_dinov2(onnx_file: Path, directory: Path) -> None:
    """Write `config.json`, `model.safetensors` (float32) and `preprocessor_config.json` of a `Dinov2Model`.

    Args:
        onnx_file: graph with the encoder's weights.
        directory: existing empty directory.
    """
    from safetensors.numpy import save_file

    tensors = dinov2_tensors(onnx_file)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    _write_json(directory / "config.json", dinov2_config(tensors))
    _write_json(directory / "preprocessor_config.json", PREPROCESSOR)


def convert_gguf(gguf_file: Path, directory: Path) -> None:
    """Write a causal language model's directory with its tokenizer.

    The 4-bit weights are dequantised and stored as bfloat16: half the bytes of float32, and SmolLM2's loss on
    radiology text differs in the fourth digit only (4.5696 against 4.5699 a token).

    Raises:
        InputError: the `gguf` package is missing.
        ValueError: the file lacks a weight or has one too many.
    """
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise _needs("gguf") from None
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf_file.parent), "gguf_file": gguf_file.name}
    model, loading = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16, output_loading_info=True)
    if loading["missing_keys"] or loading["unexpected_keys"]:
        raise ValueError(f"{gguf_file.name}: {loading}")
    tied = model.config.tie_word_embeddings
    weights = {name: value for name, value in model.state_dict().items() if not (tied and name == "lm_head.weight")}
    halves = {name: value.contiguous() for name, value in weights.items()}
    save_file(halves, directory / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": "bfloat16"}
    dropped = ("quantization_config", "_name_or_path", "_model_name_or_path")
    _write_json(directory / "config.json", {key: value for key, value in config.items() if key not in dropped})
    model.generation_config.save_pretrained(directory)
    AutoTokenizer.from_pretrained(**source).save_pretrained(directory)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
