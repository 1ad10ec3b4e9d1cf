"""The one error a user causes. Not for faults of ours: those keep their tracebacks."""


class InputError(ValueError):
    """The user's input is wrong: one line that names the value, the limit and the flag. The program exits with 2."""


class RunError(RuntimeError):
    """The run cannot go on, and it is not the input's form that is wrong: one line, exit code 1."""
