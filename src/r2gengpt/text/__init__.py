"""Report cleaning, sections, prompt and token alignment: pure functions on strings and ids. No images, no models."""
