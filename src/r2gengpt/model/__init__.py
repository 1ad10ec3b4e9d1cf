"""The Hugging Face trio: configuration, processor and model. No downloads, no training."""
