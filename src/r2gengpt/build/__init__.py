"""From names and settings to a model: the only room that loads pretrained weights. No loops."""

from r2gengpt.build.model import Built, build_model, load_directory, native_precision, settled

__all__ = ["Built", "build_model", "load_directory", "native_precision", "settled"]
