"""A language model served by vLLM, asked with a prompt's embeddings over HTTP. Starts no server, reads no image.

Source: vLLM's documentation, "Prompt Embedding Inputs": `prompt_embeds` of the Completions API holds a tensor
(tokens, width) as `torch.save` writes it, in base64; the server needs `--enable-prompt-embeds`.
"""

import base64
import io
import json
import urllib.error
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import torch
from torch import Tensor

from r2gengpt.errors import InputError, RunError, one_line
from r2gengpt.generation.beams import Rules, Written
from r2gengpt.generation.engine import Prompt
from r2gengpt.generation.served import InferenceEngine
from r2gengpt.posting import MOST_BYTES, WORDS_KEPT, message_in, posted

FIELD = "lm_endpoint"
REFUSALS = (400, 404, 413, 422)
"""Statuses by which a server refuses what we send."""


@dataclass(frozen=True)
class VLLM(InferenceEngine):
    """A language model behind vLLM's Completions API.

    Attributes:
        url: up to and with its version, as http://host:8000/v1.
        table: the embedding table, by which an opening's tokens go into the prompt.
        timeout: seconds that an answer may take.
    """

    url: str
    table: torch.nn.Module
    timeout: float = 120.0
    name = "vllm"
    scores_opening = False

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError("must be like http://host:8000/v1", field=FIELD, value=self.url)

    @staticmethod
    def check(rules: Rules) -> None:
        """Refuse what vLLM does otherwise: it draws by other numbers, and knows no text of a prompt of embeddings."""
        only = {"beam_size": 1, "do_sample": False, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
        for name, value in only.items():
            if (asked := getattr(rules, name)) != value:
                raise InputError(f"with vLLM only {value}", field=name, value=asked)

    def write(self, prompt: Prompt, rules: Rules, show: Callable[[int], object] | None) -> Written:
        """As `InferenceEngine.write`: the opening stands in the prompt, and its log-probabilities are 0."""
        opening = list(prompt.opening)
        written = Written(opening, [0.0] * len(opening))
        if len(opening) < rules.max_new_tokens:
            ids, logprobs = self._asked(body_of(self._embeds(prompt), rules, len(opening)))
            written = Written([*opening, *ids], [*written.logprobs, *logprobs])
        for token in written.ids if show is not None else ():
            assert show is not None
            show(token)
        return written

    @torch.no_grad()
    def _embeds(self, prompt: Prompt) -> Tensor:
        """The prompt's embeddings and those of its opening (P, D)."""
        ids = torch.tensor(prompt.opening, dtype=torch.long, device=prompt.embeds.device)
        embeds: Tensor = torch.cat([prompt.embeds, self.table(ids).to(prompt.embeds)])
        return embeds

    def _asked(self, body: bytes) -> tuple[list[int], list[float]]:
        """New tokens and their log-probabilities.

        Raises:
            InputError: the server refuses the request.
            RunError: it cannot be reached, fails, or its answer cannot be read.
        """
        try:
            return tokens_in(posted(f"{self.url.rstrip('/')}/completions", body, timeout=self.timeout))
        except urllib.error.HTTPError as error:
            with error:
                said = f"{error.code}: {message_in(error.read(MOST_BYTES))}"
            if error.code in REFUSALS:
                words = f"refuses the request ({said}); does vLLM take prompt embeddings?"
                raise InputError(words, field=FIELD, value=self.url) from None
            raise RunError(f"`{FIELD}` {self.url}: answers with status {said}") from None
        except (OSError, HTTPException) as error:
            reason = one_line(str(getattr(error, "reason", error)))[:WORDS_KEPT]
            raise RunError(f"`{FIELD}` {self.url}: cannot be reached: {reason}") from None
        except ValueError as error:
            raise RunError(f"`{FIELD}` {self.url}: {one_line(str(error))[:WORDS_KEPT]}") from None


def body_of(embeds: Tensor, rules: Rules, begun: int) -> bytes:
    """The request for a greedy text: what the server would else take from the model's generation_config.json is given.

    Args:
        embeds: (P, D), in float32, bfloat16 or float16.
        rules: as `VLLM.check` lets them through.
        begun: how many tokens of the report stand in the prompt.
    """
    fields: dict[str, Any] = {
        "prompt_embeds": encoded(embeds),
        "max_tokens": rules.max_new_tokens - begun,
        "min_tokens": max(0, rules.min_new_tokens - begun),
        "stop_token_ids": [rules.end],
        "temperature": 0.0,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        "logprobs": 0,
        "return_token_ids": True,
        "skip_special_tokens": False,
    }
    return json.dumps(fields).encode()


def encoded(embeds: Tensor) -> str:
    """A tensor as `torch.save` writes it, in base64; a view is copied, so that nothing around it is sent."""
    out = io.BytesIO()
    torch.save(embeds.detach().cpu().clone(), out)
    return base64.b64encode(out.getvalue()).decode("ascii")


def tokens_in(body: bytes) -> tuple[list[int], list[float]]:
    """New tokens and their log-probabilities in a completion.

    Raises:
        ValueError: it is none, or without tokens.
    """
    try:
        choice = json.loads(body)["choices"][0]
        ids, logprobs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise ValueError("answers with no completion that has token_ids and logprobs (vLLM 0.11 or newer)") from None
    if not (numbers(ids, int) and numbers(logprobs, (int, float)) and len(ids) == len(logprobs) > 0):
        raise ValueError("answers with a completion whose token_ids and logprobs are no numbers of one length")
    return [int(token) for token in ids], [float(value) for value in logprobs]


def numbers(values: object, kind: type | tuple[type, ...]) -> bool:
    """Whether it is a list of numbers of a kind."""
    return isinstance(values, Sequence) and all(isinstance(value, kind) for value in values)
