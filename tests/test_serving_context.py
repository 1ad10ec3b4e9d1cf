"""The context of a study in the server's forms: into the prompt of a model that was trained with it, or named."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from r2gengpt.config import CONTEXT_FIELDS as FIELDS
from r2gengpt.config import PRIOR
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.model import R2GenGPTProcessor
from r2gengpt.model.earlier import TimeMarks
from r2gengpt.reporter import Reporter
from r2gengpt.text.context import NO_CONTEXT, Context
from serving_parts import client_of, film, message, upload

REPORTS = "/v1/reports"

TOLD = {"age": "63", "sex": "f", "view": "PA", "technique": "Erect", "comparison": "None", "indication": "Cough"}


def prompts_of(client: TestClient, monkeypatch: pytest.MonkeyPatch, told: dict[str, str]) -> tuple[list[Any], Any]:
    rows: list[Any] = []
    own = R2GenGPTProcessor.prompt_row
    monkeypatch.setattr(R2GenGPTProcessor, "prompt_row", lambda self, *asked: (
        rows.append(asked[1]), own(self, *asked))[1])  # fmt: skip
    return rows, client.post(REPORTS, files=upload(film(6)), data=told)


def test_a_model_that_was_trained_with_context_finds_the_forms_fields_in_its_prompt(
    served: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.built.processor, "context_fields", FIELDS)
    with client_of(served) as (client, _):
        rows, answer = prompts_of(client, monkeypatch, TOLD)
    words = "Age: 63. Sex: F. View: PA. Indication: Cough. Technique: Erect. Comparison: None."
    assert rows == [f"{served.instruction} {words}"]
    assert "warnings" not in answer.json()


def test_a_field_that_a_model_never_read_is_named_in_the_answer(
    served: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(served) as (client, _):
        rows, answer = prompts_of(client, monkeypatch, {"age": "63", "sex": "F"})
    assert rows == [None]
    assert answer.json()["warnings"] == ["no effect, as the model was trained without: age, sex"]


@pytest.mark.parametrize(("field", "value"), [("age", "old"), ("age", "300"), ("sex", "X"), ("technique", "x" * 4001)])
def test_a_field_that_no_patient_has_is_refused_by_name(served: Reporter, field: str, value: str) -> None:
    with client_of(served) as (client, _):
        answer = client.post(REPORTS, files=upload(film(6)), data={field: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


@pytest.mark.parametrize("trained", [(), FIELDS])
@pytest.mark.parametrize("field", ["indication", "technique", "messages"])
def test_a_control_token_is_refused_by_the_field_that_holds_it(
    served: Reporter, monkeypatch: pytest.MonkeyPatch, trained: tuple[str, ...], field: str
) -> None:
    processor = served.built.processor
    token = processor.tokenizer.eos_token
    monkeypatch.setattr(processor, "context_fields", trained)
    monkeypatch.setattr(processor, "template", f"{token}{processor.template}")
    with client_of(served) as (client, _):
        if field == "messages":
            asked = {"messages": message(film(6), text=f"Describe.{token}"), "model": "best"}
            answer = client.post("/v1/chat/completions", json=asked)
        else:
            answer = client.post(REPORTS, files=upload(film(6)), data={field: f"Cough.{token}"})
    if field == "technique" and not trained:
        assert answer.status_code == 200
        return
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, field)
    assert error["message"] == f"{field} holds a control token of this language model"


@pytest.mark.parametrize("field", ["reason", "study_description", "view"])
def test_a_control_token_in_a_films_header_is_left_out_and_holds_up_no_report(
    served: Reporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    processor = served.built.processor
    token = processor.tokenizer.eos_token
    monkeypatch.setattr(processor, "context_fields", ("age", "indication", "technique", "view"))
    monkeypatch.setattr(processor, "template", f"{token}{processor.template}")
    told: dict[str, Any] = {"age": "063Y", field: f"Muster.{token}"}
    header = DicomHeader("1.2", "1.3", "1.4", "1.5", "DX", **told)
    asked = served.instruction_for(NO_CONTEXT, [header])
    assert asked is not None
    assert asked.endswith("Age: 63.")
    assert "holds a control token" in caplog.text
    assert "Muster" not in caplog.text
    with pytest.raises(InputError, match="indication holds a control token"):
        served.instruction_for(Context(indication=token), [header])


def test_an_earlier_study_goes_with_the_form(served: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.built.processor, "context_fields", (*FIELDS, PRIOR))
    monkeypatch.setattr(served.built.model, "time_marks", TimeMarks(served.built.model.config.text_config.hidden_size))
    batches: list[Any] = []
    own = Reporter.batch
    monkeypatch.setattr(Reporter, "batch", lambda *a, **k: (batches.append(own(*a, **k)), batches[-1])[1])
    files = [*upload(film(6)), ("prior_images", ("before.png", film(7), "image/png"))]
    with client_of(served) as (client, _):
        told = {"prior_report": "Clear lungs.", "prior_days": "41"}
        answer = client.post(REPORTS, files=files, data=told)
        refused = client.post(REPORTS, files=files, data={"prior_days": "soon"})
    assert answer.status_code == 200, answer.text
    assert batches[0].views == [(1, 1)]
    assert batches[0].instruction(0).endswith("Prior report, 41 days before: Clear lungs.")
    assert batches[0].compared == (True,)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prior_days")


def test_a_model_that_was_trained_without_says_that_an_earlier_study_has_no_effect(served: Reporter) -> None:
    files = [*upload(film(6)), ("prior_images", ("before.png", film(7), "image/png"))]
    with client_of(served) as (client, _):
        told = client.post(REPORTS, files=files).json()
        plain = client.post(REPORTS, files=upload(film(6))).json()
    assert told["warnings"] == ["no effect, as the model was trained without: prior"]
    assert told["findings"] == plain["findings"]
