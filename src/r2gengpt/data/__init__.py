"""From annotation files and images to batches of tensors. No Lightning, no models."""
