"""What stands in a model for a language model that another program runs: its embedding table. Writes no token."""

from typing import Any

from torch import Tensor, nn

from r2gengpt.errors import InputError


class ServedLanguageModel(nn.Module):
    """The embedding table of a language model whose layers lie elsewhere.

    Attributes:
        config: of the language model.
        embeddings: (vocabulary, D); a family's own scale is in the rows.
        writer: what writes with the layers, a `generation.served.InferenceEngine`; None until one is put there.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.writer: object | None = None

    def get_input_embeddings(self) -> nn.Embedding:
        """The table."""
        return self.embeddings

    def get_output_embeddings(self) -> None:
        """None: the head lies elsewhere."""

    def forward(self, *_args: Tensor, **_settings: object) -> Tensor:
        """Refuse.

        Raises:
            InputError: always, as there are no layers.
        """
        raise InputError(f"the language model ({self.config.model_type}) is run by another program, which only writes")

    def generate(self, **_settings: object) -> Tensor:
        """Refuse, as `forward`."""
        return self.forward()
