"""Report cleaners of the two papers' data sets, reproduced rule by rule. Not a tokenizer, and no text improvement.

Published scores depend on these rules, slips included, so none of them is corrected here:

- only the first few list numbers vanish ("1. " to "5. "), wherever they stand: "at T1. The" becomes "at TThe";
- runs collapse by a fixed number of halvings, so 9 dots (IU X-ray) or 65 blanks (MIMIC-CXR) leave two;
- a sentence that becomes empty is kept, which leaves " .  ." in the output, and an empty report becomes " .";
- the punctuation class of R2Gen holds the range ":" to "[", so ":;<=>?@[" vanish; "-" does not, nor do "|~`#$";
- punctuation goes after the ends were stripped, so a sentence may keep a space at either end.

What the originals do to "__" first has no effect, as every "_" vanishes with the punctuation: it is left out.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

Rule = tuple[str, str]

_NUMBERS: tuple[Rule, ...] = (
    ("1. ", ""),
    *((f". {n}. ", ". ") for n in (2, 3, 4, 5)),
    *((f" {n}. ", ". ") for n in (2, 3, 4, 5)),
)
_IU_XRAY: tuple[Rule, ...] = (*[("..", ".")] * 3, *_NUMBERS)
_MIMIC_CXR: tuple[Rule, ...] = (("\n", " "), *[("  ", " ")] * 6, *[("..", ".")] * 8, *_NUMBERS)
_R2GENGPT_MIMIC_CXR: tuple[Rule, ...] = (*_MIMIC_CXR, (":", " :"))

_QUOTES = str.maketrans("", "", "\"/\\'")
_PUNCTUATION = re.compile(r"[.,?;*!%^&_+():-\[\]{}]")
_PUNCTUATION_BUT_COLON = re.compile(r"[.,?;*!%^&_+()\[\]{}]")


def _clean(report: str, rules: tuple[Rule, ...], punctuation: re.Pattern[str]) -> str:
    """Apply the rules in order, lower the case, drop punctuation in each sentence, join the sentences by " . "."""
    for old, new in rules:
        report = report.replace(old, new)
    sentences = report.strip().lower().split(". ")
    return " . ".join(punctuation.sub("", s.translate(_QUOTES).strip().lower()) for s in sentences) + " ."


def clean_iu_xray(report: str) -> str:
    """Clean a report as R2Gen does for IU X-ray.

    >>> clean_iu_xray("1. The heart is normal. 2. Lungs are clear (see CT).")
    'the heart is normal . lungs are clear see ct .'

    Source: R2Gen, modules/tokenizers.py, clean_report_iu_xray.
    """
    return _clean(report, _IU_XRAY, _PUNCTUATION)


def clean_mimic_cxr(report: str) -> str:
    r"""Clean a report as R2Gen does for MIMIC-CXR: as for IU X-ray, and newlines, blanks and `___` marks collapse.

    >>> clean_mimic_cxr("Tube in place.\n No pneumothorax:  none seen by ___.")
    'tube in place . no pneumothorax none seen by  .'

    Source: R2Gen, modules/tokenizers.py, clean_report_mimic_cxr.
    """
    return _clean(report, _MIMIC_CXR, _PUNCTUATION)


def clean_plain(report: str) -> str:
    """Collapse white space and keep everything else."""
    return " ".join(report.split())


CLEANERS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"iu_xray": clean_iu_xray, "mimic_cxr": clean_mimic_cxr, "plain": clean_plain}
)
"""Data set name → the cleaner of its reports."""


def clean_r2gengpt(report: str, dataset: str) -> str:
    """Clean a report as the original R2GenGPT does.

    Equal to R2Gen's cleaner on IU X-ray. On MIMIC-CXR a colon is kept as a token of its own (" :"), and so are the
    characters "<=>?@" and "[" less the two that its class names ("?" and "["). `plain` is ours: white space only.

    Raises:
        KeyError: no such data set.

    Source: R2GenGPT, dataset/data_helper.py, FieldParser.clean_report.
    """
    if dataset == "mimic_cxr":
        return _clean(report, _R2GENGPT_MIMIC_CXR, _PUNCTUATION_BUT_COLON)
    return CLEANERS[dataset](report)
