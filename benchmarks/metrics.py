"""Time to score and compare 590 and 3,858 studies, against pycocoevalcap where it is installed. JSON to stdout.

Texts are made up of a report's usual words in sentences of usual length; no data set is read.
Run: python benchmarks/metrics.py [--repeats 3]
"""

import argparse
import importlib.metadata
import json
import os
import platform
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from r2gengpt import __version__
from r2gengpt.metrics.compare import compare as compare_systems
from r2gengpt.metrics.measure import FAMILIES, MetricChoice, measure, scores_of
from r2gengpt.metrics.protocols import PROTOCOLS, bind
from r2gengpt.metrics.ptb.tokenizer import ptb
from r2gengpt.metrics.score import score

SIZES = (590, 3858)
CHOICE = MetricChoice(FAMILIES, {})
"""BLEU, ROUGE-L and CIDEr-D: what pycocoevalcap computes too without Java."""
TEXT = """
the heart is normal in size lungs are clear no pleural effusion or pneumothorax focal consolidation mild small left
right lower lobe opacity mediastinum within limits degenerative changes of spine acute bony abnormality catheter tip
superior vena cava stable cardiomegaly pulmonary edema interstitial markings atelectasis unchanged from prior study
"""


def reports(studies: int, seed: int) -> list[str]:
    """Made-up reports of three to seven sentences; common words are common."""
    rng, words = random.Random(seed), TEXT.split()
    weights = [1 / (rank + 1) for rank in range(len(words))]

    def sentence() -> str:
        return " ".join(rng.choices(words, weights, k=rng.randrange(4, 12))) + " ."

    return [" ".join(sentence() for _ in range(rng.randrange(3, 8))) for _ in range(studies)]


def best(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """The shortest time in seconds of several runs, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


def coco_caption() -> Callable[[list[str], list[str]], np.ndarray] | None:
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError:
        return None

    def run(hypotheses: list[str], references: list[str]) -> np.ndarray:
        wanted = {i: [text] for i, text in enumerate(references)}
        given = {i: [text] for i, text in enumerate(hypotheses)}
        bleu, _ = Bleu(4).compute_score(wanted, given, verbose=0)
        return np.array([*bleu, Rouge().compute_score(wanted, given)[0], Cider().compute_score(wanted, given)[0]])

    return run


def compare(studies: int, repeats: int) -> dict[str, Any]:
    hypotheses, references, train = (reports(studies, seed) for seed in (1, 2, 3))
    ours, values = best(
        lambda: scores_of(measure(hypotheses, [[text] for text in references]).sum(axis=0), studies), repeats
    )
    texts = {str(i): text for i, text in enumerate(hypotheses)}
    wanted = {str(i): [text] for i, text in enumerate(references)}
    whole, _ = best(
        lambda: score(texts, wanted, PROTOCOLS["clean"], dataset="iu_xray", train=train, choice=CHOICE), repeats
    )
    patients = {study: str(int(study) // 2) for study in texts}
    other = {str(i): text for i, text in enumerate(train)}
    rules = bind(PROTOCOLS["clean"], "iu_xray")
    compared, _ = best(lambda: compare_systems(texts, other, wanted, rules, choice=CHOICE, patients=patients), repeats)
    row: dict[str, Any] = {
        "studies": studies,
        "words_a_report": sum(len(text.split()) for text in references) / studies,
        "metrics_s": ours,
        "with_4_baselines_and_1000_resamples_s": whole,
        "compare_1000_resamples_and_1000_swaps_by_patient_s": compared,
    }
    tokenized, _ = best(lambda: [ptb(text) for text in (*hypotheses, *references)], repeats)
    row |= {"ptb_s": tokenized, "ptb_words_a_second": round(2 * studies * row["words_a_report"] / tokenized)}
    if (theirs := coco_caption()) is not None:
        seconds, expected = best(lambda: theirs(hypotheses, references), repeats)
        row |= {
            "pycocoevalcap_s": seconds,
            "times_faster": seconds / ours,
            "largest_difference": float(np.abs(values - expected).max()),
        }
        if shutil.which("java") is not None:
            java, words = best(lambda: [coco_words(texts) for texts in (hypotheses, references)], repeats)
            row |= {
                "pycocoevalcap_with_its_tokenizer_s": seconds + java,
                "times_faster_with_tokenizers": (seconds + java) / (ours + tokenized),
                "texts_tokenized_differently": sum(
                    ptb(text) != found
                    for texts, several in zip((hypotheses, references), words, strict=True)
                    for text, found in zip(texts, several, strict=True)
                ),
            }
    return row


def coco_words(texts: list[str]) -> list[str]:
    """Texts as pycocoevalcap's tokenizer makes them; its report on stderr is dropped."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    kept = os.dup(2)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 2)
        try:
            found = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    return [found[i][0] for i in range(len(texts))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    versions = {"r2gengpt": __version__, "python": platform.python_version(), "numpy": np.__version__}
    if coco_caption() is not None:
        versions["pycocoevalcap"] = importlib.metadata.version("pycocoevalcap")
    rows = [compare(studies, repeats) for studies in SIZES]
    json.dump({"versions": versions, "machine": platform.machine(), "results": rows}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
