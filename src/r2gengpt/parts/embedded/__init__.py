"""The embedded default model's two parts: fetched, verified, converted. Not the delta that joins them."""
