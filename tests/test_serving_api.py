"""The HTTP API's answers: OpenAI's chat completions, reports of forms, state, and that waiting requests are batched."""

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from placements import FLOAT32
from r2gengpt.confidence.evidence import quick_method, report_evidence
from r2gengpt.confidence.review import Calibration
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.data.batches import Example, prompt_batch
from r2gengpt.errors import InputError
from r2gengpt.films.reader import decode_image
from r2gengpt.generation.decode import predict
from r2gengpt.model.processing import decoded_size
from r2gengpt.parts.assemble import build_model
from r2gengpt.parts.int8 import Int8Linear
from r2gengpt.provenance import model_sha256
from r2gengpt.report import Report
from r2gengpt.reporter import Reporter
from r2gengpt.serving.app import create_app
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.instructions import INDICATION
from r2gengpt.serving.reports import JSON, wanted_type
from r2gengpt.settings import ServeConfig
from r2gengpt.text.written import NOTICE
from reporters import reporter_of
from serving_parts import LONG, busy, client_of, film, message, upload, wait_for

CHAT, REPORTS, EVIDENCE = "/v1/chat/completions", "/v1/reports", "/v1/evidence"


@pytest.fixture
def client(served: Reporter) -> Iterator[TestClient]:
    with client_of(served) as (client, _):
        yield client


def alone(served: Reporter, films: list[bytes], decode: DecodeConfig) -> Report:
    """The report that the program writes of a study by itself."""
    processor = served.built.processor
    images = [decode_image(one, "film", decoded_size(processor)) for one in films]
    batch = prompt_batch([Example("study", processor.pixels(images), "", "")], processor)
    (prediction,) = predict(served.built.model, processor, [batch], decode)
    return prediction


def events(text: str) -> list[Any]:
    """The data of server-sent events, the end mark left out but seen."""
    blocks = [block.removeprefix("data: ") for block in text.strip().split("\n\n")]
    assert blocks[-1] == "[DONE]"
    return [json.loads(block) for block in blocks[:-1]]


def test_a_chat_completion_is_the_report_with_usage_and_what_it_was_made_from(
    client: TestClient, served: Reporter
) -> None:
    given = client.post(CHAT, json={"model": "best", "messages": message(film(1))})
    answer, wanted = given.json(), alone(served, [film(1)], served.decode)
    assert given.status_code == 200
    assert answer["object"] == "chat.completion"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": wanted.text, "refusal": None}
    assert choice["finish_reason"] == wanted.finish
    assert answer["usage"]["completion_tokens"] == wanted.tokens
    assert answer["usage"]["total_tokens"] == wanted.tokens + answer["usage"]["prompt_tokens"]
    assert answer["provenance"]["inputs"][0]["sha256"] == hashlib.sha256(film(1)).hexdigest()
    assert answer["notice"] == given.headers["x-notice"] == NOTICE


def test_a_streams_pieces_together_are_the_text_of_one_beam(client: TestClient, served: Reporter) -> None:
    asked = {"model": "best", "messages": message(film(2)), "stream": True, "stream_options": {"include_usage": True}}
    given = client.post(CHAT, json=asked)
    assert given.headers["content-type"].startswith("text/event-stream")
    chunks = events(given.text)
    wanted = alone(served, [film(2)], replace(served.decode, beam_size=1))
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]]
    assert "".join(pieces) == wanted.text
    assert len([piece for piece in pieces if piece]) > 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == wanted.finish
    assert chunks[-2]["provenance"]["inputs"][0]["sha256"] == hashlib.sha256(film(2)).hexdigest()
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], wanted.tokens)
    assert {chunk["notice"] for chunk in chunks} == {NOTICE}


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        ({"max_tokens": 3}, {"max_new_tokens": 3}),
        ({"max_tokens": 900}, {}),
        ({"max_completion_tokens": 2}, {"max_new_tokens": 2}),
        ({"temperature": 0}, {}),
        ({"temperature": 0.9, "seed": 5}, {"do_sample": True, "beam_size": 1, "temperature": 0.9, "decode_seed": 5}),
        ({"top_p": 0.5}, {"do_sample": True, "beam_size": 1, "temperature": 1.0, "top_p": 0.5}),
    ],
)
def test_what_a_client_asks_of_decoding_is_done_and_told(
    client: TestClient, served: Reporter, asked: dict[str, Any], changes: dict[str, Any]
) -> None:
    answer = client.post(CHAT, json={"model": "best", "messages": message(film(3)), **asked}).json()
    decode = replace(served.decode, **changes)
    wanted = alone(served, [film(3)], decode)
    assert answer["choices"][0]["message"]["content"] == wanted.text
    assert answer["choices"][0]["finish_reason"] == wanted.finish
    assert answer["provenance"]["decode"] == vars(decode)


def test_the_users_text_is_the_instruction(client: TestClient, served: Reporter) -> None:
    """Two texts of different length: the prompts differ by it, and the default has its own."""
    used = [
        client.post(CHAT, json={"model": "best", "messages": message(film(3), text=text)}).json()["usage"]
        for text in (None, "Findings?", served.built.processor.instruction)
    ]
    prompts = [one["prompt_tokens"] for one in used]
    processor = served.built.processor
    assert prompts == [len(processor.prompt_row(1, text)) for text in (None, "Findings?", None)]
    assert prompts[1] < prompts[0]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"model": "gpt-4o"}, 404, "best"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [*message(film()), *message(text="sure?")]}, 400, "messages"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, 400, "no user message"),
        ({"messages": [{"role": "patient", "content": "Be brief."}]}, 400, "messages.0.role"),
        ({"messages": message(text="no image")}, 400, "no image"),
        ({"messages": message(film(), text="x" * 4001)}, 400, "4001 characters: at most 4000"),
        ({"messages": message(film(), text="a <ImageHere> b")}, 400, "<ImageHere>"),
        ({"n": 5}, 400, "n:"),
        ({"frequency_penalty": 0.5}, 400, "frequency_penalty:"),
        ({"tools": [{"type": "function"}]}, 400, "tools:"),
        ({"temperature": 3}, 400, "temperature:"),
        ({"max_tokens": 0}, 400, "max_tokens:"),
        ({"seed": -1}, 400, "seed:"),
    ],
)
def test_a_chat_that_cannot_be_served_is_refused_in_openais_shape(
    client: TestClient, changes: dict[str, Any], status: int, words: str
) -> None:
    given = client.post(CHAT, json={"model": "best", "messages": message(film()), **changes})
    assert given.status_code == status
    error = given.json()["error"]
    assert words in error["message"]
    assert "\n" not in error["message"]
    assert error["type"] in ("invalid_request_error", "not_found_error")


@pytest.mark.parametrize("stream", [False, True])
def test_a_language_model_that_the_engine_cannot_serve_is_served_by_generate(tiny_parts: Path, stream: bool) -> None:
    config = ModelConfig(vision_model=str(tiny_parts / "vision-vit"), lm_model=str(tiny_parts / "lm-gpt2"))
    built = build_model(config, FLOAT32)
    built.model.eval()
    decode = DecodeConfig(beam_size=2, min_new_tokens=0, max_new_tokens=8).for_dataset("plain")
    served = replace(reporter_of(built, decode), name="best")
    wanted = alone(served, [film(1)], replace(served.decode, beam_size=1 if stream else 2)).text
    with client_of(served) as (client, _):
        given = client.post(CHAT, json={"model": "best", "messages": message(film(1)), "stream": stream})
    if stream:
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in events(given.text))
    else:
        text = given.json()["choices"][0]["message"]["content"]
    assert text == wanted


def test_the_models_are_listed_in_openais_shape(client: TestClient) -> None:
    answer = client.get("/v1/models").json()
    assert (answer["object"], [one["id"] for one in answer["data"]]) == ("list", ["best"])


def test_a_form_of_two_views_gives_the_report_of_the_one_study(client: TestClient, served: Reporter) -> None:
    films = [film(4), film(5, "JPEG")]
    given = client.post(REPORTS, files=upload(*films))
    answer, wanted = given.json(), alone(served, films, served.decode)
    assert given.status_code == 200
    assert (answer["findings"], answer["tokens"], answer["finish_reason"]) == (
        wanted.text,
        wanted.tokens,
        wanted.finish,
    )
    assert answer["logprob"] == pytest.approx(wanted.logprob, abs=1e-5)  # float32, the same sums
    assert answer["notice"] == given.headers["x-notice"] == NOTICE
    made = answer["provenance"]
    assert [one["sha256"] for one in made["inputs"]] == [hashlib.sha256(one).hexdigest() for one in films]
    assert [(one["format"], one["width"], one["height"]) for one in made["inputs"]] == [
        ("PNG", 48, 48),
        ("JPEG", 48, 48),
    ]
    assert made["sop_instance_uids"] == []
    assert made["decode"] == vars(served.decode)
    assert made["versions"]["torch"] == torch.__version__
    assert {len(made["model_sha256"]), len(made["delta_sha256"])} == {64}
    assert (made["vision_model"], made["lm_model"]) == ("vision-swin", "lm-stablelm")


def test_plain_text_is_the_notice_and_the_report_alone(client: TestClient, served: Reporter) -> None:
    given = client.post(REPORTS, files=upload(film(6)), headers={"Accept": "text/plain"})
    assert given.headers["content-type"] == "text/plain; charset=utf-8"
    assert given.text == f"{NOTICE}\n\n{alone(served, [film(6)], served.decode).text}\n"


def test_sentences_carry_their_confidence_and_marks_in_every_form(served: Reporter) -> None:
    """A calibration whose confidence is one half everywhere, and a limit above it."""
    even = Calibration(0.0, 0.0, 9, 3, "val", 0.5, {}, "made up")
    known = replace(served, calibration=even, abstain_below=0.6)
    with client_of(known) as (client, _):
        report = client.post(REPORTS, files=upload(film(6))).json()
        text = client.post(REPORTS, files=upload(film(6)), headers={"Accept": "text/plain"}).text
        asked = {"model": "best", "messages": message(film(6))}
        chat = client.post(CHAT, json=asked).json()
        streamed = events(client.post(CHAT, json={**asked, "stream": True}).text)[-1]
    assert chat["sentences"] == report["sentences"] != []
    assert text.count("[needs review] ") == len(report["sentences"])
    for sentence in (*report["sentences"], *streamed["sentences"]):
        assert (sentence["confidence"], sentence["needs_review"]) == (0.5, True)
    assert streamed["sentences"]


def test_an_indication_becomes_part_of_the_prompt(
    client: TestClient, served: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[str | None] = []
    processor = served.built.processor
    own = type(processor).prompt_row
    monkeypatch.setattr(
        type(processor), "prompt_row", lambda self, *asked: (rows.append(asked[1]), own(self, *asked))[1]
    )
    for indication in ("Cough.", ""):
        assert client.post(REPORTS, files=upload(film(6)), data={"indication": indication}).status_code == 200
    assert rows == [f"{processor.instruction} Indication: Cough.", None]


def test_an_indication_warns_in_every_form_as_no_model_was_trained_with_one(client: TestClient) -> None:
    def ask(accept: str, indication: str) -> Any:
        data = {"indication": indication}
        return client.post(REPORTS, files=upload(film(6)), data=data, headers={"Accept": accept})

    for indication, wanted in (("Cough.", [INDICATION]), (" ", None)):
        assert ask(JSON, indication).json().get("warnings") == wanted
        assert events(ask("text/event-stream", indication).text)[-1].get("warnings") == wanted
        for accept in ("text/plain", "application/pdf"):
            assert ask(accept, indication).headers.get("x-warning") == ("; ".join(wanted) if wanted else None)


def test_evidence_maps_come_where_they_are_asked_for_and_the_next_report_is_the_same(
    client: TestClient, served: Reporter
) -> None:
    plain = client.post(REPORTS, files=upload(film(6))).json()
    mapped = client.post(f"{REPORTS}?evidence=true", files=upload(film(6))).json()
    again = client.post(REPORTS, files=upload(film(6))).json()
    built = served.built
    pixels = built.processor.pixels([decode_image(film(6), "film", decoded_size(built.processor))])
    batch = prompt_batch([Example("study", pixels, "", "")], built.processor)
    wanted = report_evidence(built.model, built.processor, batch, plain["findings"], "gradient").to_json()
    boxes, regions = mapped["evidence"].pop("boxes"), mapped["evidence"].pop("regions")
    assert {one["sentence"] for one in regions} == {
        one["text"] for one in wanted["sentences"] if one["verdict"] == "evidence"
    }
    assert (mapped["evidence"], boxes) == (wanted, [[0.0, 0.0, 1.0, 1.0]])
    assert [one["text"] for one in wanted["sentences"]] == [one["text"] for one in mapped["sentences"]] != []
    assert plain["findings"] == mapped["findings"] == again["findings"]
    assert "evidence" not in plain
    assert client.post(f"{REPORTS}?evidence=yes", files=upload(film(6))).status_code == 400


def test_maps_of_a_text_are_those_that_come_with_its_report(client: TestClient, served: Reporter) -> None:
    films = upload(film(6), film(7))
    whole = client.post(f"{REPORTS}?evidence=true", files=films, data={"indication": "Cough."}).json()
    told = {"indication": "Cough.", "report": whole["findings"]}
    given = client.post(EVIDENCE, files=films, data=told)
    assert (given.status_code, given.json()) == (200, {"notice": NOTICE, **whole["evidence"]})
    others = client.post(EVIDENCE, files=films, data={"report": "The heart. The lungs."}).json()
    assert [one["text"] for one in others["sentences"]] == ["The heart.", "The lungs."]
    assert {one["verdict"] for one in others["sentences"]} <= {"evidence", "no evidence"}
    assert len(others["boxes"]) == 2


@pytest.mark.parametrize(
    ("told", "words"),
    [({}, "has 0 tokens"), ({"report": "the " * 900}, "report: has"), ({"text": "x"}, "another field")],
)
def test_maps_of_no_text_or_a_long_one_are_refused(client: TestClient, told: dict[str, str], words: str) -> None:
    given = client.post(EVIDENCE, files=upload(film(6)), data=told)
    assert (given.status_code, words in given.json()["error"]["message"]) == (400, True)


def test_maps_and_reports_that_wait_together_each_get_their_own_answer(served: Reporter) -> None:
    with client_of(served, queue_size=8) as (client, generator), ThreadPoolExecutor(8) as pool:
        with busy(generator):
            reports = [pool.submit(client.post, REPORTS, files=upload(film(seed))) for seed in range(4)]
            told = {"report": "The heart is large."}
            maps = [pool.submit(client.post, EVIDENCE, files=upload(film(seed)), data=told) for seed in range(4)]
            wait_for(lambda: generator.line.waiting == 8)
        texts = [one.result(LONG).json()["findings"] for one in reports]
        found = [one.result(LONG).json()["sentences"][0]["map"] for one in maps]
        assert texts == [alone(served, [film(seed)], served.decode).text for seed in range(4)]
        again = [client.post(EVIDENCE, files=upload(film(seed)), data=told).json() for seed in range(4)]
        assert found == [one["sentences"][0]["map"] for one in again]
        assert len({tuple(one) for one in found}) == 4


def test_models_without_gradients_are_mapped_by_occlusion() -> None:
    model: Any = torch.nn.Sequential(torch.nn.Linear(4, 4))
    assert quick_method(model) == "gradient"
    model.append(Int8Linear(torch.ones(4, 4), None))
    assert quick_method(model) == "occlusion"


def test_the_models_hash_is_of_its_numbers_and_their_names() -> None:
    def hashed(value: float, name: str = "one", **changes: Any) -> str | None:
        return model_sha256(torch.nn.ParameterDict({name: torch.full((2, 3), value, **changes)}))

    assert hashed(1.0) == hashed(1.0)
    others = (hashed(2.0), hashed(1.0, "two"), hashed(1.0, dtype=torch.bfloat16))
    assert len({hashed(1.0), *others}) == 4
    assert hashed(1.0, device="meta") is None


def test_a_form_of_answer_that_is_not_given_is_refused_with_those_that_are(client: TestClient) -> None:
    given = client.post(REPORTS, files=upload(film()), headers={"Accept": "image/png"})
    assert given.status_code == 406
    for kind in ("application/json", "text/plain", "application/fhir+json", "application/dicom", "application/pdf"):
        assert kind in given.json()["error"]["message"]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("text/html, application/json", JSON),
        ("text/plain, */*", "text/plain"),
        ("image/png, text/*", "text/plain"),
        ("application/fhir+json; fhirVersion=4.0", "application/fhir+json"),
        ("image/png, application/pdf;q=0.5", "application/pdf"),
        ("text/html, text/event-stream, */*", JSON),
    ],
)
def test_the_form_of_answer_is_the_first_that_is_asked_for_and_given(accept: str, wanted: str) -> None:
    assert wanted_type(accept) == wanted


def test_a_report_as_pdf_names_its_origin_and_says_what_the_text_says(client: TestClient, served: Reporter) -> None:
    given = client.post(REPORTS, files=upload(film(6), film(7)), headers={"Accept": "application/pdf"})
    wanted = alone(served, [film(6), film(7)], served.decode).text
    assert (given.status_code, given.headers["content-type"]) == (200, "application/pdf")
    assert given.content.startswith(b"%PDF-1.4")
    assert b"Drafted from 2 images by r2gengpt" in given.content
    pieces = b" ".join(re.findall(rb"\((.*)\) Tj", given.content)).decode("cp1252")
    assert " ".join(wanted.encode("cp1252", "replace").decode("cp1252").split()) in " ".join(pieces.split())


@pytest.mark.parametrize("kind", ["text/plain", "application/pdf"])
def test_maps_are_refused_in_forms_that_have_no_place_for_them(client: TestClient, kind: str) -> None:
    given = client.post(f"{REPORTS}?evidence=true", files=upload(film()), headers={"Accept": kind})
    assert (given.status_code, f"no place in {kind}" in given.json()["error"]["message"]) == (400, True)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v2", 404), ("GET", REPORTS, 405), ("PUT", CHAT, 405)])
def test_wrong_paths_and_methods_have_errors_of_the_same_shape(
    client: TestClient, method: str, path: str, status: int
) -> None:
    given = client.request(method, path)
    assert given.status_code == status
    assert given.json()["error"]["message"]


def test_requests_that_wait_together_are_written_together_and_each_gets_its_own_answer(served: Reporter) -> None:
    """Chats, streams, forms and draws at once, behind a study that holds the thread until all of them wait."""
    count = 24
    with client_of(served, slots=4, queue_size=count) as (client, generator), ThreadPoolExecutor(count) as pool:

        def ask(seed: int) -> tuple[str, str]:
            one = film(seed)
            if seed % 4 == 0:
                answer = client.post(REPORTS, files=upload(one)).json()
                return answer["findings"], answer["provenance"]["inputs"][0]["sha256"]
            asked = {"model": "best", "messages": message(one), "stream": seed % 4 == 1}
            asked.update({"temperature": 0.8, "seed": seed} if seed % 4 == 2 else {})
            given = client.post(CHAT, json=asked)
            if seed % 4 != 1:
                answer = given.json()
                return answer["choices"][0]["message"]["content"], answer["provenance"]["inputs"][0]["sha256"]
            chunks = events(given.text)
            text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
            return text, chunks[-1]["provenance"]["inputs"][0]["sha256"]

        with busy(generator):
            asked = [pool.submit(ask, seed) for seed in range(count)]
            wait_for(lambda: generator.line.waiting == count)
        answers = [one.result(LONG) for one in asked]
    changes = (
        {},
        {"beam_size": 1},
        {"beam_size": 1, "do_sample": True, "temperature": 0.8},
        {},
    )
    for seed, (text, digest) in enumerate(answers):
        decode = replace(served.decode, **changes[seed % 4], decode_seed=seed if seed % 4 == 2 else 42)
        assert digest == hashlib.sha256(film(seed)).hexdigest()
        assert text == alone(served, [film(seed)], decode).text, seed
    assert len({text for text, _ in answers}) > count // 2, "this model should tell these films apart"


def test_studies_wait_for_one_pass_together(served: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight waiting studies take about as many passes as one, not eight times as many."""
    passes: list[int] = []
    model = served.built.model.language_model
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    with client_of(served, slots=8) as (client, generator), ThreadPoolExecutor(8) as pool:
        with busy(generator):
            asked = [pool.submit(client.post, REPORTS, files=upload(film(seed))) for seed in range(8)]
            wait_for(lambda: generator.line.waiting == 8)
            passes.clear()
        assert {one.result(LONG).status_code for one in asked} == {200}
    hook.remove()
    assert max(passes) == 8
    assert len(passes) < 40


def test_state_is_told_to_machines(served: Reporter) -> None:
    loading = Generator(1, 1)
    with TestClient(create_app(loading, ServeConfig()), base_url="http://127.0.0.1") as client:
        assert client.get("/health").status_code == 200
        for path in ("/ready", "/v1/models"):
            assert client.get(path).status_code == 503
        refused = client.post(REPORTS, files=upload(film()))
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    with client_of(served) as (client, generator):
        assert client.get("/ready").json() == {"status": "ready", "runtimes": {"torch": "loaded"}}
        generator.drain()
        assert client.get("/ready").status_code == 503
        assert client.post(REPORTS, files=upload(film())).status_code == 503


def test_metrics_count_requests_by_route_and_code_and_tokens(client: TestClient) -> None:
    tokens = client.post(REPORTS, files=upload(film())).json()["tokens"]
    client.post(REPORTS, files=upload(b"no image"))
    client.get("/anything/at/all")
    text = client.get("/metrics").text
    for line in (
        'r2gengpt_requests_total{code="200",route="/v1/reports"} 1.0',
        'r2gengpt_requests_total{code="400",route="/v1/reports"} 1.0',
        'r2gengpt_requests_total{code="404",route="other"} 1.0',
        'r2gengpt_request_seconds_count{route="/v1/reports"} 2.0',
        f"r2gengpt_tokens_total {float(tokens)}",
        "r2gengpt_queue_depth 0.0",
        "r2gengpt_ready 1.0",
    ):
        assert line in text.splitlines()


def test_a_fault_of_ours_is_answered_and_the_next_request_is_served(
    client: TestClient, served: Reporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("SECRET")

    with monkeypatch.context() as patch, caplog.at_level("INFO", logger="r2gengpt"):
        patch.setattr(type(served.built.model), "encode_views", fail)
        given = client.post(REPORTS, files=upload(film()))
    assert given.status_code == 500
    assert given.json()["error"]["type"] == "server_error"
    assert "RuntimeError" in caplog.text
    assert "SECRET" not in caplog.text + given.text
    assert client.post(REPORTS, files=upload(film())).status_code == 200


def test_a_text_that_is_no_prompt_of_this_model_is_refused_by_the_writer(
    client: TestClient, served: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, *asked: Any) -> None:
        raise InputError("`instruction` holds a control token", field="instruction")

    with monkeypatch.context() as patch:
        patch.setattr(type(served.built.processor), "prompt_row", refuse)
        given = client.post(REPORTS, files=upload(film()))
    error = given.json()["error"]
    assert (given.status_code, error["message"]) == (400, "indication holds a control token")
    assert error["param"] == "indication"
    assert client.post(REPORTS, files=upload(film())).status_code == 200
