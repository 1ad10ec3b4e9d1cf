"""The Hugging Face trio: configuration, processor and model, known to the Auto classes. No downloads, no training."""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from r2gengpt.model.configuration import R2GenGPTConfig
from r2gengpt.model.modeling import R2GenGPTForConditionalGeneration
from r2gengpt.model.processing import R2GenGPTProcessor

AutoConfig.register("r2gengpt", R2GenGPTConfig, exist_ok=True)
AutoProcessor.register(R2GenGPTConfig, R2GenGPTProcessor, exist_ok=True)
AutoModelForImageTextToText.register(R2GenGPTConfig, R2GenGPTForConditionalGeneration, exist_ok=True)

__all__ = ["R2GenGPTConfig", "R2GenGPTForConditionalGeneration", "R2GenGPTProcessor"]
