"""BLEU, ROUGE-L and CIDEr-D are coco-caption's: against stored values, and against it where installed."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from metrics_corpus import HYPOTHESES, REFERENCES
from r2gengpt.metrics import baselines
from r2gengpt.metrics.measure import measure, scores_of
from r2gengpt.metrics.protocols import PROTOCOLS, BoundProtocol, bind, truncation

GOLDEN = json.loads(Path(__file__).with_name("data").joinpath("metrics_golden.json").read_text(encoding="utf-8"))
TOLERANCE = 1e-9
"""Sums are taken in another order than coco-caption's; differences seen are below 1e-14."""

Texts = Sequence[str]


def corpus_scores(hypotheses: Texts, references: Sequence[Texts]) -> np.ndarray:
    return scores_of(measure(hypotheses, references).sum(axis=0), len(hypotheses))


def coco_caption(hypotheses: Texts, references: Sequence[Texts]) -> tuple[np.ndarray, np.ndarray]:
    """Corpus scores (6,) and scores of studies (S, 6) by pycocoevalcap."""
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="needs the extra `metrics`")
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    wanted = {i: list(texts) for i, texts in enumerate(references)}
    given = {i: [text] for i, text in enumerate(hypotheses)}
    b, bs = bleu.Bleu(4).compute_score(wanted, given, verbose=0)
    r, rs = Rouge().compute_score(wanted, given)
    c, cs = Cider().compute_score(wanted, given)
    return np.array([*b, r, c]), np.array([*bs, rs, cs]).T


def iu_xray() -> tuple[list[str], list[str]]:
    """Train and test reports."""
    path = Path(os.environ["R2GENGPT_SHARED"], "iu_xray", "annotation.json")
    splits = json.loads(path.read_text(encoding="utf-8"))
    return [s["report"] for s in splits["train"]], [s["report"] for s in splits["test"]]


needs_iu_xray = pytest.mark.skipif(
    "R2GENGPT_SHARED" not in os.environ, reason="needs the IU X-ray annotation (CC BY-NC-ND)"
)


@pytest.mark.parametrize("name", HYPOTHESES)
def test_corpus_scores_are_those_stored_from_coco_caption(name: str) -> None:
    np.testing.assert_allclose(
        corpus_scores(HYPOTHESES[name], REFERENCES), GOLDEN["made_up"][name], rtol=0, atol=TOLERANCE
    )


def test_scores_of_each_study_are_those_stored_from_coco_caption() -> None:
    ours = scores_of(measure(HYPOTHESES["rotated"], REFERENCES), 1)
    np.testing.assert_allclose(ours, GOLDEN["made_up_studies_of_rotated"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", HYPOTHESES)
def test_scores_equal_coco_captions_where_it_is_installed(name: str) -> None:
    whole, each = coco_caption(HYPOTHESES[name], REFERENCES)
    measured = measure(HYPOTHESES[name], REFERENCES)
    np.testing.assert_allclose(scores_of(measured.sum(axis=0), len(REFERENCES)), whole, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(scores_of(measured, 1), each, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("seed", range(60))
def test_scores_of_random_words_equal_coco_captions(seed: int) -> None:
    rng = random.Random(seed)
    studies, words = rng.choice([1, 2, 3, 10, 40]), rng.choice([1, 2, 5, 50])

    def text(shortest: int) -> str:
        return " ".join(f"w{rng.randrange(words)}" for _ in range(rng.randrange(shortest, 14)))

    hypotheses = [text(0) for _ in range(studies)]
    references = [[text(1) for _ in range(rng.choice([1, 1, 2, 4]))] for _ in range(studies)]
    whole, each = coco_caption(hypotheses, references)
    measured = measure(hypotheses, references)
    np.testing.assert_allclose(scores_of(measured.sum(axis=0), studies), whole, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(scores_of(measured, 1), each, rtol=0, atol=TOLERANCE)


def iu_xray_texts(protocol: str) -> tuple[list[str], list[str], BoundProtocol]:
    """Train reports and test references in a protocol's form, and its rules."""
    train, test = iu_xray()
    cut, name = truncation(Path(os.environ["R2GENGPT_SHARED"], "tokenizers", "gpt_neox_20b"), 60)
    rules = bind(PROTOCOLS[protocol], "iu_xray", train=train, truncate=cut, truncate_name=name)
    return [rules.report(text) for text in train], [rules.reference(text) for text in test], rules


def prediction_sets(reports: Sequence[str], wanted: Sequence[str], rules: BoundProtocol) -> dict[str, list[str]]:
    """What a model may write for the studies of `wanted`, good and bad."""
    rng = random.Random(1)
    return {
        "constant": [rules.report(baselines.CONSTANT_REPORT)] * len(wanted),
        "random": rng.choices(reports, k=len(wanted)),
        "shuffled words": [" ".join(rng.sample(text.split(), len(text.split()))) for text in wanted],
        "empty": [""] * len(wanted),
        "some empty": [text if i % 3 else "" for i, text in enumerate(wanted)],
        "unicode": [rules.hypothesis(text.replace("the", "thé ≥ 5\u00a0cm 肺")) for text in wanted],
        "duplicates": [wanted[i % 5] for i in range(len(wanted))],
        "twice": [f"{text} {text}" for text in wanted],
        "identical": list(wanted),
    }


@needs_iu_xray
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_baselines_on_the_iu_xray_test_split_are_those_stored_from_coco_caption(protocol: str) -> None:
    reports, wanted, rules = iu_xray_texts(protocol)
    systems = {
        "constant": [rules.report(baselines.CONSTANT_REPORT)] * 590,
        "most_frequent": [baselines.most_frequent(reports)] * 590,
        "random_train": [reports[i] for i in baselines.random_places(len(reports), 590, 0)],
    }
    for name, texts in systems.items():
        scores = corpus_scores(texts, [[text] for text in wanted])
        np.testing.assert_allclose(scores, GOLDEN["iu_xray"][protocol][name][:6], rtol=0, atol=TOLERANCE, err_msg=name)


@needs_iu_xray
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scores_on_the_iu_xray_test_split_equal_coco_captions(protocol: str) -> None:
    reports, wanted, rules = iu_xray_texts(protocol)
    references = [[text] for text in wanted]
    for name, hypotheses in prediction_sets(reports, wanted, rules).items():
        whole, each = coco_caption(hypotheses, references)
        measured = measure(hypotheses, references)
        np.testing.assert_allclose(
            scores_of(measured.sum(axis=0), len(wanted)), whole, rtol=0, atol=TOLERANCE, err_msg=name
        )
        np.testing.assert_allclose(scores_of(measured, 1), each, rtol=0, atol=TOLERANCE, err_msg=name)


@needs_iu_xray
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_study_of_iu_xray_scores_as_coco_caption_scores_it(protocol: str) -> None:
    reports, wanted, _ = iu_xray_texts(protocol)
    for hypothesis in (wanted[0], reports[0], ""):
        whole, _ = coco_caption([hypothesis], [[wanted[0]]])
        scores = corpus_scores([hypothesis], [[wanted[0]]])
        np.testing.assert_allclose(scores, whole, rtol=0, atol=TOLERANCE)
