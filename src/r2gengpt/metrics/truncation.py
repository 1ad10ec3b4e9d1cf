"""References as the original R2GenGPT scored them: through the first tokens of a tokenizer and back. No torch."""

from pathlib import Path

from r2gengpt.errors import InputError
from r2gengpt.metrics.protocols import Edit


def truncation(path: Path, max_length: int) -> tuple[Edit, str]:
    """A function that keeps a text's first `max_length` tokens, and its name for signatures.

    Args:
        path: a tokenizer.json, or a model directory with one.
        max_length: tokens to keep; the end token, which the original appended first, only counts where it fits.

    Raises:
        InputError: no such file, or not a tokenizer.
    """
    from tokenizers import Tokenizer

    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"--tokenizer {path}: no such file, or no tokenizer.json in that directory")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for every fault of the file
        raise InputError(f"--tokenizer {file}: not a tokenizer: {error}") from None

    def cut(text: str) -> str:
        return str(tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids[:max_length]))

    return cut, f"{max_length}of{tokenizer.get_vocab_size()}"
