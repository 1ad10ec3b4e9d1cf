"""Metrics by models through RadEval: a stand-in of its interface, and words where it is missing."""

import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from r2gengpt.cli.commands.score import CLINICAL_NAMES
from r2gengpt.cli.main import run
from r2gengpt.errors import InputError, RunError
from r2gengpt.metrics import clinical_models
from r2gengpt.metrics.clinical_models import (
    CHEXBERT,
    MEANS,
    NAMES,
    RADCLIQ,
    SRRBERT,
    chexbert_labels,
    clinical_family,
)
from r2gengpt.metrics.measure import choose, measure, metric_names
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.score import Scores, score

TARGETS = [f"label {i}" for i in range(9)] + ["Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Effusion"]
CALLS: list[tuple[str, list[str], list[str]]] = []


class Labeler:
    """Finds a label where its name occurs, and calls it uncertain after "maybe"."""

    TOP5, TARGET_NAMES = TARGETS[-5:], TARGETS

    def get_labels(self, reports: list[str], mode: str = "rrg") -> list[list[int]]:
        doubted = -1 if mode == "classification" else 1
        return [[int(label in r) * (doubted if f"maybe {label}" in r else 1) for label in TARGETS] for r in reports]


class Leaves:
    """Finds leaf 0 of SRR-BERT's 163 where a sentence has an "a", leaf 1 where it has a "b"."""

    def __call__(self, sentences: list[str]) -> tuple[np.ndarray, list[list[str]]]:
        found = np.zeros((len(sentences), 163), dtype=int)
        found[:, 0], found[:, 1] = ["a" in one for one in sentences], ["b" in one for one in sentences]
        return found, []


class RadEval:
    """What RadEval 2.2 offers of it: one metric, lists for each study."""

    def __init__(self, metrics: list[str], per_sample: bool, show_progress: bool) -> None:
        assert per_sample
        assert not show_progress
        self.name = metrics[0]
        if self.name == "green":
            raise OSError("no weights in the cache\nand a long story")
        self.f1chexbert_scorer = Labeler()
        self.srrbert_scorer = Leaves()

    def __call__(self, refs: list[str], hyps: list[str]) -> dict[str, Any]:
        CALLS.append((self.name, refs, hyps))
        each = [float(one == other) for one, other in zip(refs, hyps, strict=True)]
        return dict.fromkeys(clinical_models.MEANS.get(self.name, clinical_models.RADCLIQ_SCORES), each)


@pytest.fixture
def radeval(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = types.ModuleType("radeval")
    module.RadEval = RadEval  # type: ignore[attr-defined]
    module.__spec__ = types.SimpleNamespace(name="radeval")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "radeval", module)
    leaves = types.ModuleType("radeval.metrics.SRRBert.srr_bert")
    leaves.srr_bert_parse_sentences = lambda text: text.split(".")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, leaves.__name__, leaves)
    clinical_models._evaluator.cache_clear()
    CALLS.clear()
    yield
    clinical_models._evaluator.cache_clear()


def scored(*names: str) -> Scores:
    written = {"1": "Edema.", "2": "Fracture", "3": "Edema."}
    wanted = {"1": ["Edema."], "2": ["Edema."], "3": ["Edema."]}
    return score(written, wanted, PROTOCOLS["clean"], choice=choose(clinical=names), resamples=50)


@pytest.mark.usefixtures("radeval")
@pytest.mark.parametrize("name", [name for name in MEANS if name != "green"])
def test_scores_are_means_of_the_studies_with_intervals_on_texts_as_they_were_written(name: str) -> None:
    scores = scored(name)
    for key in clinical_models.MEANS[name]:
        assert scores.metrics[key].value == pytest.approx(2 / 3)
        assert scores.metrics[key].ci95 is not None
    assert CALLS[0] == (name, ["Edema.", "Edema."], ["Edema.", "Fracture"])


@pytest.mark.usefixtures("radeval")
@pytest.mark.parametrize("name", ["bertscore", RADCLIQ])
def test_what_is_no_number_is_told_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {key: [1.0, float("nan"), 1.0] for key in (*MEANS["bertscore"], *clinical_models.RADCLIQ_SCORES)}
    monkeypatch.setattr(RadEval, "__call__", lambda self, refs, hyps: {k: v[: len(refs)] for k, v in nowhere.items()})
    with pytest.raises(RunError, match=rf"clinical {name}: RadEval gave no number for 1 of \d pairs of texts"):
        scored(name)


@pytest.mark.usefixtures("radeval")
def test_chexbert_f1_is_of_counts_over_all_studies() -> None:
    texts = ["label 0 Edema", "label 0", "Edema Atelectasis", ""]
    wanted = [["label 0 Edema"], ["label 1"], ["Edema"], ["Edema"]]
    family = clinical_family(CHEXBERT)
    assert not isinstance(family, str)
    found = family.scores(measure(texts, wanted, (family,)).sum(axis=0), np.array([4.0]))
    edema, label_0 = 2 * 2 / (2 * 2 + 1), 2 / 3
    micro_5, micro = 2 * 2 / (2 * 2 + 2), 2 * 3 / (2 * 3 + 4)
    weighted = (3 * edema + 1 * label_0 + 1 * 0) / 5  # by how often the references have them
    np.testing.assert_allclose(found, [micro, (edema + label_0) / 14, weighted, micro_5, edema / 5, edema])


@pytest.mark.usefixtures("radeval")
def test_srr_bert_f1_is_weighted_by_how_often_the_references_have_a_leaf_in_any_sentence() -> None:
    family = clinical_family(SRRBERT)
    assert not isinstance(family, str)
    written, wanted = ["x.a", "a", "", "b"], [["a.x"], ["b"], ["x.x.a"], ["b.b"]]
    found = family.scores(measure(written, wanted, (family,)).sum(axis=0), np.array([4.0]))
    a, b = {"hit": 1, "false": 1, "missed": 1}, {"hit": 1, "false": 0, "missed": 1}
    f1 = [2 * one["hit"] / (2 * one["hit"] + one["false"] + one["missed"]) for one in (a, b)]
    precision = [one["hit"] / (one["hit"] + one["false"]) for one in (a, b)]
    np.testing.assert_allclose(found, [sum(f1) / 2, sum(precision) / 2, 1 / 2])  # two references have either


@pytest.mark.usefixtures("radeval")
def test_radcliq_is_one_over_the_mean_and_sees_every_reference_as_often_as_it_is_there() -> None:
    scores = scored(RADCLIQ)
    assert scores.metrics["radcliq_v1"].value == pytest.approx(3 / 2)
    assert CALLS[0] == (RADCLIQ, ["Edema.", "Edema.", "Edema."], ["Edema.", "Fracture", "Edema."])


@pytest.mark.usefixtures("radeval")
def test_chexbert_tells_present_from_uncertain() -> None:
    found = chexbert_labels(["Edema", "maybe Edema", "clear"])
    assert [row["Edema"] for row in found] == [1, -1, 0]


@pytest.mark.usefixtures("radeval")
def test_weights_that_cannot_be_loaded_are_named_in_one_line() -> None:
    with pytest.raises(RunError, match=r"clinical green: RadEval cannot load it: no weights in the cache$"):
        scored("green")


@pytest.mark.usefixtures("radeval")
def test_several_references_of_a_study_are_refused() -> None:
    with pytest.raises(InputError, match="clinical ratescore: takes one reference a study, one has 2"):
        score({"1": "a"}, {"1": ["a", "b"]}, PROTOCOLS["raw"], choice=choose(clinical=["ratescore"]))


@pytest.mark.parametrize("name", NAMES)
def test_without_the_package_each_is_named_as_not_available(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clinical_models.importlib.util, "find_spec", lambda package: None)
    chosen = choose(clinical=[name])
    assert "the package RadEval is missing" in chosen.not_available[name]
    assert name not in metric_names(chosen.families)


def test_the_flag_offers_what_there_is_and_refuses_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    assert CLINICAL_NAMES == NAMES
    assert run("score", ["--clinical", "bluert"]) == 2
    assert "--clinical bluert: choose from bertscore, radeval_bertscore" in capsys.readouterr().err


@pytest.mark.usefixtures("radeval")
def test_chexbert_f1_of_one_study_is_of_its_own_labels() -> None:
    family = clinical_family(CHEXBERT)
    assert not isinstance(family, str)
    found = family.scores(measure(["label 0 Edema"], [["Edema Effusion"]], (family,)).sum(axis=0), np.array([1.0]))
    np.testing.assert_allclose(found, [2 / 4, 1 / 14, 1 / 2, 2 / 3, 1 / 5, 1 / 2])
