"""Checkpoints of the original R2GenGPT: read without running what they name, written as ours. No original code."""
