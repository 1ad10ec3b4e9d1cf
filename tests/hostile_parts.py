"""Model directories whose files ask for Python code of their own: it leaves a marker where it runs. No test here."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CODE = """
open({marker!r}, "w").close()
from transformers import AutoConfig
class Evil:
    model_type = "evil"
    @classmethod
    def from_pretrained(cls, *a, **k): return cls()
    def __init__(self, *a, **k): pass
"""
HUB_KERNEL = "somebody/attention"


class Opens:
    """A pickled call of `open`, which makes the marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file, which is made where it is not there."""
    stored = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**stored, **changes}))


def with_code(directory: Path, marker: Path) -> None:
    """The code that each of the files below names, as a module, a package and what `generate` would load."""
    code = CODE.format(marker=str(marker))
    (directory / "custom_generate").mkdir()
    for name in ("evil.py", "configuration_evil.py", "custom_generate/generate.py"):
        (directory / name).write_text(code)


AUTO = {
    name: f"evil.{name}"
    for name in ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoProcessor")
}
Spoil = Callable[[Path, Path], None]


def only_pickled(directory: Path, marker: Path) -> None:
    for file in directory.glob("*.safetensors"):
        file.unlink()
    torch.save({"weight": Opens(marker)}, directory / "pytorch_model.bin")


def elsewhere(directory: Path, marker: Path) -> None:
    """An adapter that sends the library to a second directory with code."""
    other = Path(shutil.copytree(directory, directory.parent / f"{directory.name}-base"))
    edit(other / "config.json", model_type="evil", auto_map=AUTO)
    values = {"base_model_name_or_path": str(other), "peft_type": "LORA", "task_type": "CAUSAL_LM"}
    mapping = {"base_model_class": "Evil", "parent_library": "evil"}
    edit(directory / "adapter_config.json", **values, auto_mapping=mapping)


def own_generate(directory: Path, _: Path) -> None:
    edit(directory / "generation_config.json", custom_generate=str(directory), trust_remote_code=True)


CONFIGS: dict[str, Spoil] = {
    "an architecture of its own": lambda at, _: edit(at / "config.json", model_type="evil", auto_map=AUTO),
    "a known architecture": lambda at, _: edit(at / "config.json", auto_map=AUTO),
    "code of another repository": lambda at, _: edit(
        at / "config.json", model_type="evil", auto_map={name: f"{at}--{code}" for name, code in AUTO.items()}
    ),
    "no model_type": lambda at, _: edit(at / "config.json", model_type=None, auto_map=AUTO),
    "a kernel of the hub": lambda at, _: edit(at / "config.json", attn_implementation=HUB_KERNEL),
    "the same by its inner name": lambda at, _: edit(at / "config.json", _attn_implementation=HUB_KERNEL),
    "a flag of its own": lambda at, _: edit(at / "config.json", trust_remote_code=True, auto_map=AUTO),
    "custom_generate": own_generate,
    "pickled weights": only_pickled,
    "an adapter of another model": elsewhere,
}
VISION: dict[str, Spoil] = {
    **CONFIGS,
    "an image processor of its own": lambda at, _: edit(
        at / "preprocessor_config.json", image_processor_type="Evil", auto_map={"AutoImageProcessor": "evil.Evil"}
    ),
    "a known image processor": lambda at, _: edit(
        at / "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.Evil"}
    ),
    "a processor around it": lambda at, _: edit(
        at / "processor_config.json",
        processor_class="Evil",
        auto_map=AUTO,
        image_processor={"image_processor_type": "Evil", "auto_map": {"AutoImageProcessor": "evil.Evil"}},
    ),
    "a nested encoder": lambda at, _: edit(
        at / "config.json", model_type="clip", vision_config={"model_type": "evil", "auto_map": AUTO}, auto_map=AUTO
    ),
}
LANGUAGE: dict[str, Spoil] = {
    **CONFIGS,
    "a tokenizer of its own": lambda at, _: edit(
        at / "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    ),
    "a known tokenizer": lambda at, _: edit(
        at / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    ),
    "a chat template": lambda at, marker: edit(
        at / "tokenizer_config.json",
        chat_template="{{ cycler.__init__.__globals__.os.open('" + str(marker) + "', 66) }}<ImageHere>{instruction}",
    ),
    "a quantizer": lambda at, _: edit(
        at / "config.json", quantization_config={"quant_method": "evil", "modules": "evil"}, auto_map=AUTO
    ),
}
WHOLE: dict[str, Spoil] = {
    "the model": lambda at, _: edit(at / "config.json", auto_map=AUTO, trust_remote_code=True),
    "its encoder": lambda at, _: nested(at, "vision_config"),
    "its language model": lambda at, _: nested(at, "text_config"),
    "a kernel for the encoder": lambda at, _: nested_kernel(at, "vision_config"),
    "a kernel for the language model": lambda at, _: nested_kernel(at, "text_config"),
    "the processor": lambda at, _: edit(at / "processor_config.json", auto_map=AUTO),
    "a processor of its own": lambda at, _: edit(at / "processor_config.json", processor_class="Evil", auto_map=AUTO),
    "an image processor": lambda at, _: edit(
        at / "processor_config.json",
        image_processor={"image_processor_type": "Evil", "auto_map": {"AutoImageProcessor": "evil.Evil"}},
    ),
    "a tokenizer": lambda at, _: edit(
        at / "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil", None]}
    ),
    "custom_generate": own_generate,
    "pickled weights": only_pickled,
}


def nested(directory: Path, part: str) -> None:
    stored = json.loads((directory / "config.json").read_text())
    edit(directory / "config.json", **{part: {**stored[part], "model_type": "evil", "auto_map": AUTO}})


def nested_kernel(directory: Path, part: str) -> None:
    stored = json.loads((directory / "config.json").read_text())
    edit(directory / "config.json", **{part: {**stored[part], "attn_implementation": HUB_KERNEL}})


def spoilt(source: Path, target: Path, marker: Path, spoil: Spoil) -> Path:
    """A copy of a model directory with code beside it and files that ask for it."""
    shutil.copytree(source, target)
    with_code(target, marker)
    spoil(target, marker)
    return target
