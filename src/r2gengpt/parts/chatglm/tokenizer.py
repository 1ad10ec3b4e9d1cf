"""ChatGLM's SentencePiece `tokenizer.model` as a fast tokenizer. No weights, and no other family's tokenizer."""

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AddedToken, PreTrainedTokenizerFast

from r2gengpt.errors import InputError, installing

SPECIAL = (
    *("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
)
"""Tokens that stand after the SentencePiece vocabulary, in this order; they are in no file."""

BPE = 2
UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6
"""Numbers of SentencePiece's model types and kinds of pieces. Source: sentencepiece_model.proto."""


def chatglm_tokenizer(file: Path, source: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a ChatGLM2 or ChatGLM3 checkpoint.

    `tokenizer(text)` puts `[gMASK] sop` ahead of the text; `sop` is its beginning-of-text token, `</s>` its end token
    and `<unk>` its padding.

    Args:
        file: SentencePiece model of type BPE.
        source: flag and directory, for the error.

    Raises:
        InputError: no such file, no SentencePiece BPE model, or the packages that read it are not installed.
    """
    proto = _read(file, source)
    tokenizer = _sentencepiece_bpe(proto)
    special = [piece.piece for piece in proto.pieces if piece.type in (UNKNOWN, CONTROL)]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (*special, *SPECIAL)])
    ids = [(text, tokenizer.token_to_id(text)) for text in ("[gMASK]", "sop")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[gMASK] sop $A", special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="sop",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _read(file: Path, source: str) -> Any:
    if not file.is_file():
        raise InputError(f"{source}: no {file.name} there")
    if not all(importlib.util.find_spec(package) for package in ("sentencepiece", "google", "google.protobuf")):
        raise InputError(f"{source}: ChatGLM needs sentencepiece and protobuf ({installing('chatglm')})")
    proto: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2").ModelProto()
    unreadable = importlib.import_module("google.protobuf.message").DecodeError
    try:
        proto.ParseFromString(file.read_bytes())
    except unreadable as error:
        raise InputError(f"{source}: {file.name} is no SentencePiece model") from error
    if proto.trainer_spec.model_type != BPE or len(proto.pieces) < 3 or proto.pieces[2].piece != "</s>":
        raise InputError(f"{source}: {file.name} is no SentencePiece BPE model whose id 2 is </s>")
    return proto


def _sentencepiece_bpe(proto: Any) -> Tokenizer:
    """The same pieces, merged in the same order, on text normalized in the same way."""
    symbols = [piece.piece for piece in proto.pieces if piece.type == USER_DEFINED]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece.piece: index for index, piece in enumerate(proto.pieces)},
            merges=_merges(proto),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=proto.trainer_spec.byte_fallback,
            ignore_merges=bool(symbols),
        )
    )
    tokenizer.normalizer = _normalizer(proto.normalizer_spec)
    if symbols:  # each is a token wherever it stands; the longest wins
        choice = "|".join(re.escape(text) for text in sorted(symbols, key=len, reverse=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(choice), "isolated")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _normalizer(spec: Any) -> normalizers.Normalizer:
    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex("^ +| +$"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])


def _merges(proto: Any) -> list[tuple[str, str]]:
    """Pairs of ordinary pieces that make a piece, the best score first: SentencePiece merges by score alone."""
    scores = {p.piece: p.score for p in proto.pieces if p.type not in (UNKNOWN, CONTROL, USER_DEFINED, BYTE)}
    found = [
        (-score, piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    return [(left, right) for _, left, right in sorted(found)]
