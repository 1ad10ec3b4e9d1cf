"""The program's version. Nothing else."""

__version__ = "0.1.0"
