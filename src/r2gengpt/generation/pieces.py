"""A report's text in pieces while its tokens come, by a tokenizer alone. Chooses no token, needs no PyTorch."""

from collections.abc import Callable

from r2gengpt.generation.sentences import TokenWords, report_text


class TextPieces:
    """Hands out whole words; the pieces together are the report's text.

    A word is whole once the next one has begun. White space goes out with the word behind it, so that none is left to
    be taken away at the end.

    Args:
        words: knows the tokens.
        on_text: gets each piece.
    """

    def __init__(self, words: TokenWords, on_text: Callable[[str], None]) -> None:
        self.words, self.on_text = words, on_text
        self.ids: list[int] = []
        self.given = ""

    def show(self, token: int) -> None:
        """One token more."""
        self.ids.append(token)
        text = report_text(self.words, self.ids)
        last = len(text.split()[-1]) if text.split() else 0
        self._give(text[: len(text) - last].rstrip())

    def end(self) -> None:
        """No token comes any more: the last word is whole."""
        self._give(report_text(self.words, self.ids))

    def _give(self, text: str) -> None:
        """Hand out what is new of a text."""
        if len(text) > len(self.given):
            piece, self.given = text[len(self.given) :], text
            self.on_text(piece)
