"""From names and settings to a model: the only room that loads pretrained weights. No loops."""

from r2gengpt.build.model import HERE, Built, build_model, load_directory, native_precision
from r2gengpt.build.parts import load_image_processor, settled
from r2gengpt.build.placement import place

__all__ = [
    "HERE",
    "Built",
    "build_model",
    "load_directory",
    "load_image_processor",
    "native_precision",
    "place",
    "settled",
]
