"""ChatGLM2 and ChatGLM3 checkpoints in transformers' own classes. None of a checkpoint's code runs."""
