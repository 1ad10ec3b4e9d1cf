"""Radiology reports from chest X-rays with any open language model. Importing this imports neither torch nor transformers."""

__version__ = "0.1.0"
