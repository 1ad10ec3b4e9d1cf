"""Raw releases to annotation files. Downloads nothing."""
