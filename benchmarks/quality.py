"""What kinds of weights cost in quality: the embedded model (real weights) in each of them. Prints JSON; no speeds.

Loss a token of its language model on the val reports of --texts (IU X-ray's, which it was not trained on); the share of
places at which the most likely next token is float32's; and, with --annotation, BLEU-4, ROUGE-L and CIDEr-D of its
reports of the test split, as `r2gengpt test --model embedded` writes them, and how many texts are float32's.
With --lm_model the language model of that name is read instead, as it comes, and no report is written.
Run: python benchmarks/quality.py --texts iu_xray/annotation.json [--annotation FILE --base_dir DIR] > quality.json
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from training import versions

from r2gengpt.data.annotation import read_annotation
from r2gengpt.evaluation.run import Evaluation, predict_studies
from r2gengpt.locate import ModelChoice
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.score import score
from r2gengpt.options import Override
from r2gengpt.parts.int8 import to_int8
from r2gengpt.parts.loading import load_language
from r2gengpt.reporter import Reporter
from r2gengpt.settings import PlacementConfig

KINDS = ("float32", "bfloat16", "int8", "nf4", "w8a8")
LONGEST = 128
"""Tokens of a report that are read."""


def load(kind: str) -> Reporter:
    """The embedded model with weights of a kind, on the CPU, in eval mode."""
    quantization = "none" if kind in ("float32", "bfloat16") else kind
    dtype = "bfloat16" if kind == "bfloat16" else "float32"
    placement = Override(PlacementConfig, {"quantization": quantization, "dtype": dtype})
    return Reporter.load(ModelChoice(placement=placement, accelerator="cpu"))


def load_alone(name: str, kind: str) -> tuple[Any, Any]:
    """A language model as it comes, with weights of a kind, and its tokenizer."""
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    where = PlacementConfig(quantization="none" if kind in ("float32", "bfloat16") else kind)
    language_model, tokenizer = load_language(name, where, dtype)
    if kind == "w8a8":
        to_int8(language_model)
        language_model.float()
    return language_model.eval(), tokenizer


def parts_of(reporter: Reporter) -> tuple[Any, Any]:
    """Its language model and tokenizer."""
    return reporter.built.model.language_model, reporter.built.processor.tokenizer


@torch.no_grad()
def read(language_model: Any, tokenizer: Any, reports: list[str]) -> tuple[float, int, list[Tensor]]:
    """Loss of all tokens, their number, and the most likely token at each place of each report, (T,)."""
    loss, count, likely = 0.0, 0, []
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    for report in reports:
        ids = torch.tensor([start, *tokenizer(report, add_special_tokens=False).input_ids])[:LONGEST]
        logits = language_model(ids[None]).logits[0].float()
        loss += torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="sum").item()
        count += len(ids) - 1
        likely.append(logits.argmax(-1))
    return loss, count, likely


def write(reporter: Reporter, options: argparse.Namespace) -> tuple[dict[str, float], dict[str, str]]:
    """Scores and texts of the test split."""
    studies = read_annotation(options.annotation, options.base_dir, ("test",))["test"]
    dataset = reporter.stored.dataset
    texts = {one.id: one.text for one in predict_studies(reporter, Evaluation(studies, (), dataset, 1))}
    references = {study.id: [study.report] for study in studies}
    found = score(texts, references, PROTOCOLS["clean"], dataset=dataset, resamples=0)
    return {name: round(found.metrics[name].value, 4) for name in ("bleu_4", "rouge_l", "cider")}, texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="annotation file whose reports are read")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"), help="its split (val)")
    parser.add_argument(
        "--lm_model", help="a language model to read them, as embedded:gemma3-270m (the embedded model)"
    )
    parser.add_argument("--reports", type=int, default=100, help="how many of them (100)")
    parser.add_argument("--annotation", type=Path, help="annotation file of the embedded model's own set")
    parser.add_argument("--base_dir", type=Path, help="its images")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, help="kinds of weights (all)")
    options = parser.parse_args()
    reports = [study["report"] for study in json.loads(options.texts.read_text())[options.split]][: options.reports]
    results: dict[str, dict[str, Any]] = {}
    whole: tuple[list[Tensor], dict[str, str]] = ([], {})
    for kind in ["float32", *(kind for kind in options.kinds if kind != "float32")]:
        reporter = None if options.lm_model else load(kind)
        parts = load_alone(options.lm_model, kind) if reporter is None else parts_of(reporter)
        loss, count, likely = read(*parts, reports)
        found: dict[str, Any] = {
            "loss": round(loss / count, 4),
            "perplexity": round(math.exp(loss / count), 2),
            "tokens": count,
        }
        scores, texts = write(reporter, options) if reporter and options.annotation else ({}, {})
        whole = (likely, texts) if kind == "float32" else whole
        same = sum(int((a == b).sum()) for a, b in zip(likely, whole[0], strict=True))
        found["same_next_token"] = round(same / sum(map(len, likely)), 4)
        if texts:
            found |= {**scores, "studies": len(texts), "same_texts": sum(texts[key] == whole[1][key] for key in texts)}
        results[kind] = found
        print(kind, found, file=sys.stderr)
        del reporter, parts
    setting = {
        "model": options.lm_model or "embedded",
        "split": options.split,
        "reports": len(reports),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    print(
        json.dumps({"benchmark": "quality", "setting": setting, "versions": versions(), "results": results}, indent=1)
    )


if __name__ == "__main__":
    main()
