"""Scoring conventions by name: what happens to both texts before any metric sees them. No metric here.

The same predictions differ by a factor of two in BLEU-4 between conventions, so each one has a name and a version and
leaves a `Signature`. Texts come out with words joined by single spaces, except under `r2gengpt` (see there); under
`ptb` a word may hold no-break spaces.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from r2gengpt.errors import InputError
from r2gengpt.metrics.ptb.tokenizer import ptb
from r2gengpt.metrics.records import Signature
from r2gengpt.text.cleaning import CLEANERS, clean_r2gengpt

Edit = Callable[[str], str]
UNKNOWN = "<unk>"
R2GEN_LIMITS = {"iu_xray": (3, 59), "mimic_cxr": (10, 99)}
"""Data set → (times a training word must occur, reference words kept): 60 and 100 ids, the start symbol being one."""
_WORDS = re.compile(r"[^\W_]+(?:['’.,/-][^\W_]+)*|_+|[^\w\s]")


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
        raise InputError("no such file, or no tokenizer.json in that directory", field="tokenizer", value=path)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for every fault of the file
        raise InputError(f"not a tokenizer: {error}", field="tokenizer", value=file) from None

    def cut(text: str) -> str:
        return str(tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids[:max_length]))

    return cut, f"{max_length}of{tokenizer.get_vocab_size()}"


@dataclass(frozen=True)
class Protocol:
    """A convention; `version` rises when its rules change, so that old scores are not mixed with new ones."""

    name: str
    version: int
    description: str


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Protocol("clean", 1, "R2Gen's cleaner of the data set, whole references"),
            Protocol("r2gen", 1, "as clean, rare training words to <unk>, references cut at 59 / 99 words"),
            Protocol("r2gengpt", 1, "R2GenGPT's cleaner, references cut at max_length tokens of the model"),
            Protocol("ptb", 1, "coco-caption's Penn Treebank tokenizer, whole references"),
            Protocol("raw", 1, "texts as they are, split at white space"),
        )
    }
)


@dataclass(frozen=True)
class BoundProtocol:
    """A protocol bound to a data set.

    `hypothesis` edits a generated text, `report` a human one as if it had been generated (for baselines), `reference`
    a human one as the reference it is scored against.
    """

    signature: Signature
    hypothesis: Edit
    report: Edit
    reference: Edit


def join_words(text: str) -> str:
    """Words joined by single spaces, so that ROUGE-L's split at each space sees no empty words."""
    return " ".join(text.split())


def split_punctuation(text: str) -> str:
    """Lower case, punctuation as words of its own: the tokens of `clean` where a data set has no cleaner (`plain`).

    >>> split_punctuation("No X-ray sign of T1/T2 fracture, 3.5 cm.")
    'no x-ray sign of t1/t2 fracture , 3.5 cm .'
    """
    return " ".join(_WORDS.findall(text.lower()))


def bind(
    protocol: Protocol,
    dataset: str,
    *,
    train: Sequence[str] | None = None,
    truncate: Edit | None = None,
    truncate_name: str = "model-tokens",
) -> BoundProtocol:
    """Make the rules of a protocol for a data set.

    Args:
        protocol: one of `PROTOCOLS`.
        dataset: iu_xray, mimic_cxr or plain.
        train: reports of the train split as the annotation has them (`r2gen` counts its words).
        truncate: a text decoded from its first max_length tokens of the model's tokenizer (`r2gengpt`).
        truncate_name: length and tokenizer of `truncate`, for the signature.

    Raises:
        InputError: unknown data set, or something that the protocol needs is missing.
    """
    if dataset not in CLEANERS:
        raise InputError(f"choose from {', '.join(CLEANERS)}", field="dataset", value=dataset)
    if protocol.name == "raw":
        return _same(Signature("raw", "none", "ws", "none", "none", protocol.version), join_words)
    if protocol.name == "clean":
        tokens, edit = ("punct", split_punctuation) if dataset == "plain" else ("ws", _cleaner(dataset))
        return _same(Signature("clean", dataset, tokens, "none", "none", protocol.version), edit)
    if protocol.name == "r2gen":
        return _r2gen(protocol, dataset, train)
    if protocol.name == "r2gengpt":
        return _r2gengpt(protocol, dataset, truncate, truncate_name)
    return _same(Signature("ptb", "none", "ptb3.4.1", "none", "none", protocol.version), ptb)


def _same(signature: Signature, edit: Edit) -> BoundProtocol:
    return BoundProtocol(signature, edit, edit, edit)


def _cleaner(dataset: str) -> Edit:
    clean = CLEANERS[dataset]
    return lambda text: join_words(clean(text))


def vocabulary(reports: Iterable[str], times: int) -> frozenset[str]:
    """The words that occur at least `times` times in cleaned reports."""
    counts = Counter(word for report in reports for word in report.split())
    return frozenset(word for word, count in counts.items() if count >= times)


def _r2gen(protocol: Protocol, dataset: str, train: Sequence[str] | None) -> BoundProtocol:
    """Both texts over the training vocabulary, references cut. Source: R2Gen, modules/tokenizers.py, datasets.py."""
    if dataset not in R2GEN_LIMITS:
        raise InputError(
            f"has no rules for `dataset` {dataset}, only for {', '.join(R2GEN_LIMITS)}", field="protocol", value="r2gen"
        )
    if not train:
        raise InputError(
            "needs `train`, the annotation file whose train reports are its vocabulary", field="protocol", value="r2gen"
        )
    times, length = R2GEN_LIMITS[dataset]
    clean = _cleaner(dataset)
    known = vocabulary(map(clean, train), times)

    def over_vocabulary(text: str) -> str:
        return " ".join(word if word in known else UNKNOWN for word in clean(text).split())

    def cut(text: str) -> str:
        return " ".join(over_vocabulary(text).split()[:length])

    signature = Signature("r2gen", dataset, "ws", f"{length}w", f"lt{times}of{len(known)}", protocol.version)
    return BoundProtocol(signature, over_vocabulary, over_vocabulary, cut)


def _r2gengpt(protocol: Protocol, dataset: str, truncate: Edit | None, truncate_name: str) -> BoundProtocol:
    """Hypotheses as generated, references through the model's tokenizer and back.

    The original cleans no hypothesis and joins no words, so a double space that its cleaner leaves counts as an empty
    word in ROUGE-L; both are kept. Source: R2GenGPT, models/R2GenGPT.py, validation_step and decode.
    """
    if truncate is None:
        raise InputError(
            "needs the model's tokenizer (`tokenizer`) and `max_length` to cut its references",
            field="protocol",
            value="r2gengpt",
        )

    def report(text: str) -> str:
        return clean_r2gengpt(text, dataset).strip()

    def cut(text: str) -> str:
        return truncate(report(text)).strip()

    signature = Signature("r2gengpt", dataset, "ws", truncate_name, "none", protocol.version)
    return BoundProtocol(signature, str.strip, report, cut)
