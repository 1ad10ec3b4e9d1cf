"""The Python door: what is public, how it is called, and that a reader of `help` sees what it needs."""

import copy
import inspect
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import r2gengpt
from conftest import TinySet
from r2gengpt.errors import InputError
from r2gengpt.films.containers import DicomChoice
from r2gengpt.reporter import Reporter

CALLS = {
    "compare": "first, second, references, *, protocol=clean, dataset=plain, train=None, labels=False, meteor=none, "
    "patients=None, resamples=1000, swaps=1000, seed=0",
    "load": "model=embedded, *, accelerator=auto, runtime=auto, abstain_below=None, **settings",
    "score": "predictions, references, *, protocol=clean, dataset=plain, train=None, labels=False, meteor=none, "
    "headline=None, patients=None, resamples=1000, seed=0",
}
"""Public function → how it is called. A change here is a change that users see: it belongs into the changelog."""
REPORT = (
    {"asserted", "evidence", "findings", "finish", "id", "logprob", "note", "patient", "reference", "reporter"}
    | {"review", "sentences", "study", "text", "to_fhir", "to_json", "to_prediction", "to_sr", "tokens"}
    | {"to_measurement_sr", "to_secondary_capture", "token_ids", "token_logprobs", "instruction", "compared", "doubts"}
    | {"prior", "prior_days"}
)  # fmt: skip
REPORTER = {"explain", "findings", "load", "record", "report", "sight", "write"}


def signature(function: object) -> str:
    """A function's parameters without their types."""
    assert callable(function)
    words, starred = [], False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            words, starred = [*words, "*"], True
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        given = "" if parameter.default is parameter.empty else f"={parameter.default}"
        words.append(f"{stars}{name}{given}")
    return ", ".join(words)


def test_what_is_public_is_as_it_was() -> None:
    assert (
        sorted({*CALLS, "Context", "InputError", "Report", "RunError", "__version__"})
        == r2gengpt.__all__
        == dir(r2gengpt)
    )


@pytest.mark.parametrize("name", CALLS)
def test_each_public_function_is_called_as_it_was(name: str) -> None:
    assert signature(getattr(r2gengpt, name)) == CALLS[name]


def test_a_report_has_what_it_had() -> None:
    fields = r2gengpt.Report.__dataclass_fields__
    assert {name for name in (*dir(r2gengpt.Report), *fields) if not name.startswith("_")} == REPORT
    assert {name for name in dir(Reporter) if not name.startswith("_")} >= REPORTER


@pytest.mark.parametrize("name", r2gengpt.__all__)
def test_help_tells_of_each_public_name_what_it_is(name: str) -> None:
    thing = getattr(r2gengpt, name)
    assert name == "__version__" or len((inspect.getdoc(thing) or "").splitlines()[0]) > 20


@pytest.mark.parametrize("name", CALLS)
def test_help_of_a_function_names_each_parameter_and_an_example(name: str) -> None:
    text = inspect.getdoc(getattr(r2gengpt, name)) or ""
    assert ">>> " in text
    missing = [word for word in inspect.signature(getattr(r2gengpt, name)).parameters if f"{word}:" not in text]
    assert missing == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"accelerator": None}, "accelerator None: choose from auto, cpu"),
        ({"runtime": None}, "runtime None: choose from auto, torch"),
        ({"model": "x" * 5000}, "x: File name too long"),
        ({"accelerator": "xpu"}, "accelerator xpu: choose from auto, cpu, gpu, cuda, mps"),
        ({"runtime": "onnx"}, "runtime onnx: choose from auto, torch, openvino"),
        ({"abstain_below": 3.0}, "abstain_below 3.0: must be at most 1.0"),
        ({"abstain_below": "a"}, "abstain_below 'a': must be of type float"),
        ({"model": None}, "model None: must be a name or a path"),
        ({"beam_width": 3}, "unknown setting beam_width"),
    ],
)
def test_a_model_is_not_opened_by_a_wrong_setting(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(r2gengpt.InputError, match=re.escape(words)):
        r2gengpt.load(**{"model": "embedded", **settings})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"images": None}, "images: must be a list"),
        ({"images": "frontal.png"}, "images: must be a list"),
        ({"images": {"frontal": b""}}, "images: must be a list"),
        ({"images": []}, "images: is empty"),
        ({"images": [3]}, "image images[0]: is of type int"),
        ({"images": [""]}, "image images[0]: is empty, must be the path of"),
        ({"images": ["https://host/a.png"]}, "image https://host/a.png: is an address of the network"),
        ({"images": [Path("missing.png")]}, "image missing.png: No such file or directory"),
        ({"prior": "before.png"}, "prior: must be a list"),
        ({"prior": None}, "prior: must be a list"),
        ({"prior": [b""]}, "image prior[0]: is empty"),
        ({"context": "cough"}, "context: is of type str, must be a Context"),
        ({"choice": {"frame": 1}}, "choice: is of type dict, must be a DicomChoice"),
        ({"choice": None}, "choice: is of type NoneType, must be a DicomChoice"),
        ({"choice": DicomChoice(frame="1")}, "frame '1': must be of type int | None"),  # type: ignore[arg-type]  # so it is
        ({"choice": DicomChoice(force=None)}, "force None: must be of type bool"),  # type: ignore[arg-type]  # likewise
    ],
)
def test_a_report_is_refused_by_the_name_of_what_is_wrong(
    served: Reporter, tiny_set: TinySet, asked: dict[str, Any], words: str
) -> None:
    film = next(path for path in sorted(tiny_set.base_dir.rglob("*")) if path.is_file())
    with pytest.raises(r2gengpt.InputError, match=re.escape(words)) as caught:
        served.report(**{"images": [film], **asked})
    (named,) = asked
    assert caught.value.field in (named, f"{named}[0]", *words.split(" ")[:1])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda report: pickle.loads(pickle.dumps(report))])
def test_a_report_is_pickled_and_copied_without_its_model(
    served: Reporter, tiny_set: TinySet, copied: Callable[[r2gengpt.Report], r2gengpt.Report]
) -> None:
    film = next(path for path in sorted(tiny_set.base_dir.rglob("*")) if path.is_file())
    report = served.report([film])
    again = copied(report)
    assert again == report
    assert again.to_prediction() == report.to_prediction()
    with pytest.raises(r2gengpt.InputError, match="is a copy, so no model can tell more of it"):
        again.evidence()


@pytest.mark.parametrize("method", ["nonsense", "Findings", 3])
def test_maps_by_a_method_that_is_none_are_refused(served: Reporter, tiny_set: TinySet, method: Any) -> None:
    film = next(path for path in sorted(tiny_set.base_dir.rglob("*")) if path.is_file())
    with pytest.raises(r2gengpt.InputError, match=f"evidence_method {method}: choose from findings, occlusion"):
        served.explain(served.report([film]), method)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"age": "63"}, "age '63': must be of type float"),
        ({"age": 131}, "age 131: must be at most 130"),
        ({"age": math.nan}, "age nan: must be a finite number"),
        ({"sex": "X"}, "sex X: choose from '', M, F"),
        ({"indication": None}, "indication None: must be of type str"),
        ({"prior_days": -1}, "prior_days -1: must be at least 0"),
    ],
)
def test_a_context_of_wrong_fields_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(r2gengpt.InputError, match=re.escape(words)):
        r2gengpt.Context(**fields)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"resamples": -1}, "resamples -1: must be at least 0"),
        ({"resamples": 10.5}, "resamples 10.5: must be of type int"),
        ({"seed": -1}, "seed -1: must be at least 0"),
        ({"seed": None}, "seed None: must be of type int"),
        ({"meteor": "Python"}, "meteor Python: choose from python, jar, none"),
        ({"labels": "no"}, "labels 'no': must be of type bool"),
        ({"protocol": None}, "protocol None: must be of type str"),
        ({"dataset": "mimic"}, "dataset mimic: choose from iu_xray, mimic_cxr, plain"),
        ({"train": "clear lungs"}, "train: is of type str, must hold texts"),
        ({"train": [None]}, "train: text 0 is of type NoneType, must be a text"),
        ({"patients": ["p", "q"]}, "patients: is of type list, must map study to patient"),
        ({"patients": {"0": 0.5}}, "patients: the patient of study 0 is of type float, must be a text or a whole"),
        ({"patients": {0.5: "p"}}, "patients: a study id is of type float, must be a text or a whole number"),
        ({"patients": {0: "p", "0": "q"}}, "patients: study 0 is given twice"),
    ],
)
@pytest.mark.parametrize("ask", ["score", "compare"])
def test_what_texts_are_scored_by_is_refused_by_its_name(ask: str, given: dict[str, Any], words: str) -> None:
    texts = ["clear lungs", "an effusion"]
    with pytest.raises(InputError) as refusal:
        getattr(r2gengpt, ask)(*[texts] * (2 if ask == "score" else 3), **given)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (None, "is of type NoneType, must hold texts in an order or by study"),
        ("clear", "is of type str, must hold texts in an order or by study"),
        ({"clear", "effusion"}, "is of type set, must hold texts in an order or by study"),
        (["clear", None], "text 1 is of type NoneType, must be a text"),
        ([b"clear", "effusion"], "text 0 is of type bytes, must be a text"),
        ({"0": "clear", "1": ["effusion"]}, "the text of study 1 is of type list, must be a text"),
        ({0: "clear", "0": "effusion"}, "study 0 is given twice"),
        ({0: "clear", None: "effusion"}, "a study id is of type NoneType, must be a text or a whole number"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_no_text_is_refused_by_its_name(place: int, texts: Any, words: str) -> None:
    given: list[Any] = [["clear lungs", "an effusion"]] * 3
    given[place] = texts
    with pytest.raises(InputError, match=f"{('first', 'second', 'references')[place]}: {words}"):
        r2gengpt.compare(*given)
    if place < 2:
        with pytest.raises(InputError, match=f"{('predictions', 'references')[place]}: {words}"):
            r2gengpt.score(*given[:2])


def test_ids_and_patients_may_be_whole_numbers_as_in_files() -> None:
    texts = {7: "clear lungs", 8: "an effusion"}
    others = {7: "clear lungs", 9: "an effusion"}
    patients: Any  # numpy's numbers too
    for patients in ({7: 0, 8: 1}, {"7": "p", "8": "q"}, {np.int64(7): "p", np.int64(8): np.int64(9)}):
        scores = r2gengpt.score(texts, {str(study): text for study, text in texts.items()}, patients=patients)
        assert (scores.ids, scores.patients) == (("7", "8"), 2)
        assert r2gengpt.compare(texts, texts, texts, patients=patients, resamples=9).patients == 2
    with pytest.raises(InputError, match=r"studies in references have no text in predictions \(9\)"):
        r2gengpt.score(texts, others)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
@pytest.mark.parametrize("meteor", ["none", "python"])
def test_scores_and_comparisons_are_pickled_and_copied_whole(copied: Callable[[Any], Any], meteor: str) -> None:
    texts = ["clear lungs", "an effusion"]
    scores = r2gengpt.score(texts, texts[::-1], labels=True, meteor=meteor, resamples=9)
    again = copied(scores)
    assert again == scores
    assert again.to_json() == scores.to_json()
    assert again != r2gengpt.score(texts, texts, labels=True, meteor=meteor, resamples=9)
    compared = r2gengpt.compare(texts, texts, texts[::-1], meteor=meteor, resamples=9, swaps=9)
    assert copied(compared) == compared


def test_patients_that_are_of_no_study_are_told() -> None:
    texts = ["clear lungs", "an effusion"]
    scores = r2gengpt.score(texts, texts, patients={"a": "p", "b": "q"}, resamples=9)
    assert scores.patients is None
    assert "2 of 2 studies name no patient: resampled by study, not by patient" in scores.notes
