"""The Python door: what is public, how it is called, and that a reader of `help` sees what it needs."""

import inspect

import pytest

import r2gengpt
from r2gengpt.reporter import Reporter

CALLS = {
    "compare": "first, second, references, *, protocol=clean, dataset=plain, train=None, labels=False, meteor=none, "
    "patients=None, resamples=1000, swaps=1000, seed=0",
    "load": "model=embedded, *, accelerator=auto, runtime=auto, abstain_below=None, **settings",
    "score": "predictions, references, *, protocol=clean, dataset=plain, train=None, labels=False, meteor=none, "
    "patients=None, resamples=1000, seed=0",
}
"""Public function → how it is called. A change here is a change that users see: it belongs into the changelog."""
REPORT = (
    {"asserted", "evidence", "findings", "finish", "id", "logprob", "note", "patient", "reference", "reporter"}
    | {"review", "sentences", "study", "text", "to_fhir", "to_json", "to_prediction", "to_sr", "tokens"}
    | {"to_measurement_sr", "to_secondary_capture", "token_ids", "token_logprobs", "instruction", "compared", "doubts"}
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
