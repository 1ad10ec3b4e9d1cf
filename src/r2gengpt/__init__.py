"""Radiology reports from chest X-rays with any open language model. Imports neither torch nor transformers."""

__version__ = "0.1.0"
