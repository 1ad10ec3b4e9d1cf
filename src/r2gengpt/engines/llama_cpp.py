"""A GGUF file of ours run by llama.cpp in this process, from embeddings to tokens. No text, no images, no server.

llama.cpp's server, Ollama and LM Studio take tokens and pictures, and no embeddings; the library's C API takes them
(`llama_batch.embd`). The binding is `llama-cpp-py-sync`, whose declarations are read from llama.cpp's header.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r2gengpt.errors import InputError, RunError
from r2gengpt.generation.beams import Row, Rules, Written
from r2gengpt.generation.engine import Prompt
from r2gengpt.generation.scores import next_tokens
from r2gengpt.generation.served import InferenceEngine

PACKAGE = "llama-cpp-py-sync"
LIBRARY = "LLAMA_CPP_LIB"
"""Names another library than the package's own, of the same build of llama.cpp."""
ROUND = 256
"""Positions of a context are a multiple of it."""
_silent: list[object] = []
"""The library's log callback, which must live as long as the library."""


def binding() -> tuple[Any, Any]:
    """llama.cpp's declarations and its library, by cffi; its log is not shown.

    Raises:
        InputError: the package is missing, or its library does not load here.
    """
    try:
        from llama_cpp_py_sync._cffi_bindings import get_ffi, get_lib
    except ImportError:
        raise InputError(f"this model's language model is run by llama.cpp: pip install {PACKAGE}") from None
    ffi, own = get_ffi(), os.environ.get(LIBRARY)
    try:
        library = ffi.dlopen(own) if own else get_lib()
    except (OSError, RuntimeError) as error:
        words = f"llama.cpp's library does not load: {error} ({LIBRARY} names another one)"
        raise InputError(" ".join(words.split())) from None
    if not _silent:
        _silent.append(ffi.callback("ggml_log_callback", lambda *_: None))
        library.llama_log_set(_silent[0], ffi.NULL)
        library.llama_backend_init()
    return ffi, library


class LlamaCpp(InferenceEngine):
    """A language model in llama.cpp; its cache is in float32, one study at a time."""

    name = "llama.cpp"
    scores_opening = True

    def __init__(self, path: Path) -> None:
        """Map the file.

        Args:
            path: of `engines.gguf`.

        Raises:
            InputError: no llama.cpp here, or a file that it does not take.
        """
        self._ffi, self._library = binding()
        found = self._library.llama_model_load_from_file(os.fsencode(path), self._library.llama_model_default_params())
        if found == self._ffi.NULL:
            raise InputError(f"llama.cpp does not load {path}")
        self._model = self._ffi.gc(found, self._library.llama_model_free)
        self._words = self._library.llama_vocab_n_tokens(self._library.llama_model_get_vocab(self._model))
        self._context: Any = None

    @staticmethod
    def check(rules: Rules) -> None:
        """Refuse beams: each token is chosen by our rules, of one text."""
        if rules.beam_size != 1:
            raise InputError("with llama.cpp only 1", field="beam_size", value=rules.beam_size)

    def write(self, prompt: Prompt, rules: Rules, show: Callable[[int], object] | None) -> Written:
        """As `InferenceEngine.write`."""
        row, generator = Row(rules, prompt.opening), torch.Generator().manual_seed(prompt.seed)
        self._start(len(prompt.embeds) + rules.max_new_tokens)
        logits = self._read_embeddings(prompt.embeds)
        while not row.through:
            settled = row.settled
            (token,), (logprob,) = next_tokens(rules, logits, [row.running[0].ids], [generator], [settled])
            row.add(token, logprob)
            if show is not None:
                show(token)
            if not row.through:
                logits = self._read_token(token, len(prompt.embeds) + row.step - 1)
        return row.written()

    def _start(self, positions: int) -> None:
        """An empty cache of at least so many positions."""
        wanted = -(-positions // ROUND) * ROUND
        if self._context is not None and self._library.llama_n_ctx(self._context) >= wanted:
            self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)
            return
        settings = self._library.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = wanted
        settings.n_threads = settings.n_threads_batch = torch.get_num_threads()
        settings.flash_attn_type = self._library.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it rounds queries to float16
        settings.type_k = settings.type_v = self._library.GGML_TYPE_F32
        self._context = None  # the old cache goes before the new one comes
        found = self._library.llama_init_from_model(self._model, settings)
        if found == self._ffi.NULL:
            raise RunError(f"llama.cpp makes no context of {wanted} positions")
        self._context = self._ffi.gc(found, partial(_free, self._library, self._model))

    def _read_embeddings(self, embeds: Tensor) -> Tensor:
        """The logits (1, vocabulary) after a prompt (P, D)."""
        rows = np.ascontiguousarray(embeds.detach().float().cpu().numpy())
        batch = self._batch(len(rows), rows.shape[1])
        self._ffi.memmove(batch.embd, self._ffi.from_buffer(rows), rows.nbytes)
        return self._decode(batch, range(len(rows)))

    def _read_token(self, token: int, position: int) -> Tensor:
        """The logits (1, vocabulary) after one token more."""
        batch = self._batch(1, 0)
        batch.token[0] = token
        return self._decode(batch, range(position, position + 1))

    def _batch(self, tokens: int, width: int) -> Any:
        """Room for so many embeddings of a width, or for tokens where it is 0."""
        batch = self._library.llama_batch_init(tokens, width, 1)
        batch.n_tokens = tokens
        return batch

    def _decode(self, batch: Any, positions: range) -> Tensor:
        for place, position in enumerate(positions):
            batch.pos[place], batch.n_seq_id[place], batch.seq_id[place][0] = position, 1, 0
            batch.logits[place] = place == len(positions) - 1
        code = self._library.llama_decode(self._context, batch)
        self._library.llama_batch_free(batch)
        if code != 0:
            raise RunError(f"llama.cpp decodes nothing: code {code}")
        row = self._ffi.buffer(self._library.llama_get_logits_ith(self._context, -1), 4 * self._words)
        return torch.frombuffer(bytearray(row), dtype=torch.float32)[None]


def _free(library: Any, _model: Any, context: Any) -> None:
    """Free a context; its model, which this holds, goes after it."""
    library.llama_free(context)
