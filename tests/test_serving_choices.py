"""Several choices, stop strings, log-probabilities and answers as JSON: each against what the model writes alone."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from placements import FLOAT32
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.films.reader import decode_image
from r2gengpt.generation.sentences import report_text
from r2gengpt.generation.stopping import stopped
from r2gengpt.locate import ModelChoice
from r2gengpt.model.processing import decoded_size
from r2gengpt.options import Override
from r2gengpt.parts.assemble import build_model
from r2gengpt.report import Report, Sentence
from r2gengpt.reporter import Reporter
from r2gengpt.serving.chat_answer import CUT_SHORT
from r2gengpt.serving.documents import REPORT
from r2gengpt.settings import PlacementConfig
from r2gengpt.text.sentences import sentence_spans
from r2gengpt.text.stopping import StopWatch, stop_place
from reporters import reporter_of
from serving_parts import LONG, busy, client_of, film, message, wait_for
from test_serving_api import CHAT, REPORTS, alone, events, upload

Json = dict[str, Any]
DRAWN: Json = {"temperature": 0.9, "seed": 5}


@pytest.fixture(scope="module")
def client(served: Reporter) -> Iterator[TestClient]:
    with client_of(served) as (client, _):
        yield client


@pytest.fixture(scope="module")
def exact(tiny_checkpoint: Path) -> Reporter:
    """The same model in float32, in which passes of other shapes give the same numbers."""
    where = Override(PlacementConfig, {"dtype": "float32"})
    return Reporter.load(ModelChoice(str(tiny_checkpoint), accelerator="cpu", drafts=False, placement=where))


def ask(client: TestClient, **fields: Any) -> Json:
    given = client.post(CHAT, json={"model": "best", "messages": message(film(1)), **fields})
    assert given.status_code == 200, given.text
    return dict(given.json())


def stream(client: TestClient, **fields: Any) -> list[Json]:
    return events(client.post(CHAT, json={"model": "best", "messages": message(film(1)), "stream": True} | fields).text)


def refusal(client: TestClient, **fields: Any) -> Json:
    given = client.post(CHAT, json={"model": "best", "messages": message(film(1)), **fields})
    assert given.status_code == 400, given.text
    error = dict(given.json()["error"])
    assert "\n" not in error["message"]
    return error


def text_of(answer: Json, index: int = 0) -> str:
    return str(answer["choices"][index]["message"]["content"])


def streamed_text(chunks: list[Json], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def drawn(served: Reporter, seed: int) -> Report:
    changes: Json = {"do_sample": True, "beam_size": 1, "temperature": 0.9, "decode_seed": seed}
    return alone(served, [film(1)], replace(served.decode, **changes))


def test_drawn_choices_have_seeds_of_their_own_and_their_usage_adds_up(client: TestClient, served: Reporter) -> None:
    wanted = [drawn(served, 5 + index) for index in range(4)]
    answer = ask(client, n=4, **DRAWN)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [text_of(answer, index) for index in range(4)] == [report.text for report in wanted]
    assert len({report.text for report in wanted}) > 1
    assert [choice["seed"] for choice in answer["choices"]] == [5, 6, 7, 8]
    for choice, report in zip(answer["choices"], wanted, strict=True):
        assert [one["text"] for one in choice["sentences"]] == [one.text for one in report.sentences]
    one = ask(client, **DRAWN)["usage"]
    new = sum(report.tokens for report in wanted)
    assert answer["usage"] == {**one, "completion_tokens": new, "total_tokens": one["prompt_tokens"] + new}
    assert "sentences" not in answer


def test_the_largest_seed_has_choices_after_it(client: TestClient) -> None:
    answer = ask(client, n=2, temperature=0.9, seed=2**63 - 1)
    assert [choice["seed"] for choice in answer["choices"]] == [2**63 - 1, 0]


def test_a_decoding_that_draws_nothing_is_done_once_and_repeated(served: Reporter) -> None:
    with client_of(served) as (client, generator):
        one, tokens = ask(client), f"r2gengpt_tokens_total {float(ask(client)['usage']['completion_tokens'] * 3)}"
        answer = ask(client, n=3)
        assert [text_of(answer, index) for index in range(3)] == [text_of(one)] * 3
        assert answer["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]
        assert tokens in client.get("/metrics").text, "it was written more than once"
        chunks = stream(client, n=2)
        assert streamed_text(chunks, 0) == streamed_text(chunks, 1) == streamed_text(stream(client)) != ""
        assert generator.line.taken == 0


def test_a_stream_of_several_choices_names_each_chunks_choice(client: TestClient, served: Reporter) -> None:
    chunks = stream(client, n=3, stream_options={"include_usage": True}, **DRAWN)
    wanted = [drawn(served, 5 + index) for index in range(3)]
    assert [streamed_text(chunks, index) for index in range(3)] == [report.text for report in wanted]
    for index, report in enumerate(wanted):
        choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert choices[0]["delta"]["role"] == "assistant"
        assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + [report.finish]
    order = [choice["index"] for chunk in chunks for choice in chunk["choices"] if choice["delta"].get("content")]
    assert order != sorted(order), "they were not written side by side"
    assert chunks[-1]["usage"]["completion_tokens"] == sum(report.tokens for report in wanted)


def test_several_choices_take_as_many_places(served: Reporter) -> None:
    with client_of(served, slots=1, queue_size=3) as (client, generator), ThreadPoolExecutor(2) as pool:
        asked = {"model": "best", "messages": message(film(1)), "n": 3, **DRAWN}
        with busy(generator):
            first = pool.submit(client.post, CHAT, json=asked)
            wait_for(lambda: generator.line.waiting == 3)
            assert generator.line.taken == 3
            refused = client.post(CHAT, json=asked)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
            assert generator.line.taken == 3
        assert first.result(LONG).status_code == 200
        wait_for(lambda: generator.line.taken == 0)
    with client_of(served, slots=1, queue_size=1) as (client, _):
        error = refusal(client, n=3, **DRAWN)
        assert (error["param"], error["message"]) == ("n", "n: this server has 2 places: at most as many")


TEXTS = st.text("ab. ", max_size=24)


@given(text=TEXTS, stops=st.lists(st.text("ab. ", min_size=1, max_size=5), max_size=4), data=st.data())
def test_a_text_in_any_pieces_ends_where_the_whole_one_does_and_nothing_is_taken_back(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    place = stop_place(text, stops)
    wanted = text if place is None else text[:place]
    said: list[str] = []
    watch = StopWatch(stops, said.append)
    for first, last in zip([0, *cuts], [*cuts, len(text)], strict=True):
        watch.take(text[first:last])
        so_far = "".join(said)
        assert wanted.startswith(so_far)
        held = text[len(so_far) : last]
        assert watch.stopped or not held or any(held[: len(stop)] == stop[: len(held)] for stop in stops)
    watch.end()
    assert "".join(said) == wanted
    assert all(said)


@pytest.mark.parametrize(
    ("stops", "pieces", "said", "stopped"),
    [
        (["ab", "abc"], ["ab"], "", True),
        (["ab", "abc"], ["xab", "c"], "x", True),
        (["bc", "abcd"], ["abc"], "", False),
        (["bc", "abcd"], ["abc", "d"], "", True),
        (["bc", "abcd"], ["abc", "x"], "a", True),
    ],
)
def test_of_stop_strings_within_each_other_the_one_that_begins_first_ends_the_text(
    stops: list[str], pieces: list[str], said: str, stopped: bool
) -> None:
    found: list[str] = []
    watch = StopWatch(stops, found.append)
    for piece in pieces:
        watch.take(piece)
    assert ("".join(found), watch.stopped) == (said, stopped)


def middle(text: str) -> str:
    """A piece within a text, which begins within a word."""
    return text[len(text) // 3 : len(text) // 3 + 3]


@pytest.mark.parametrize("fields", [{}, {"temperature": 0}, DRAWN, {"n": 2}], ids=str)
def test_the_text_ends_before_the_first_stop_string(client: TestClient, fields: Json) -> None:
    whole = text_of(ask(client, **fields))
    for stops in (middle(whole), ["no such text", middle(whole)], [whole[-2:], middle(whole)], [whole[:2]], [whole]):
        found = [stops] if isinstance(stops, str) else stops
        wanted = whole[: min(at for stop in found if (at := whole.find(stop)) >= 0)]
        answer = ask(client, stop=stops, **fields)
        assert text_of(answer) == wanted
        assert answer["choices"][0]["finish_reason"] == "stop"
        told = answer["choices"][0].get("sentences", answer.get("sentences"))
        assert [one["text"] for one in told] == [wanted[first:last] for first, last in sentence_spans(wanted)]
    assert text_of(ask(client, stop="no such text", **fields)) == whole


@pytest.mark.parametrize("fields", [{}, DRAWN, {"n": 2, **DRAWN}], ids=str)
def test_a_streams_pieces_end_before_the_stop_string_too(client: TestClient, fields: Json) -> None:
    whole = streamed_text(stream(client, **fields))
    for stop in (middle(whole), whole[:1], whole[-1:], "no such text"):
        chunks = stream(client, stop=[stop], **fields)
        assert streamed_text(chunks) == whole.partition(stop)[0]
        told = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == 0][-1]
        known = told.get("sentences", chunks[-1].get("sentences"))
        assert "".join("".join(one["text"].split()) for one in known) == "".join(whole.partition(stop)[0].split())


def test_a_text_that_comes_to_a_stop_string_is_not_written_on(served: Reporter) -> None:
    long = replace(served, streamed=replace(served.streamed, max_new_tokens=200, min_new_tokens=200))
    passes: list[int] = []
    hook = served.built.model.language_model.register_forward_pre_hook(lambda *args: passes.append(1))
    with client_of(long) as (client, _):
        whole = streamed_text(stream(client))
        before = len(passes)
        chunks = stream(client, stop=middle(whole[:60]), stream_options={"include_usage": True})
    hook.remove()
    assert streamed_text(chunks) == whole.partition(middle(whole[:60]))[0]
    assert len(passes) - before < before / 2
    assert chunks[-1]["usage"]["completion_tokens"] < 100


def test_a_cut_report_has_the_sentences_tokens_and_probability_of_what_is_left(served: Reporter) -> None:
    processor = served.built.processor
    whole = alone(served, [film(2)], replace(served.decode, max_new_tokens=40))
    stop = middle(whole.text)
    cut = stopped(whole, processor, [stop])
    assert cut.text == whole.text.partition(stop)[0]
    assert (cut.finish, cut.tokens) == ("stop", len(cut.token_ids))
    assert cut.token_ids == whole.token_ids[: cut.tokens]
    assert cut.logprob == pytest.approx(sum(whole.token_logprobs[: cut.tokens]) / cut.tokens)
    assert report_text(processor, cut.token_ids).startswith(cut.text + stop)
    assert not report_text(processor, cut.token_ids[:-1]).startswith(cut.text + stop)
    assert [one.text for one in cut.sentences] == [cut.text[first:last] for first, last in sentence_spans(cut.text)]


def test_a_composed_report_is_cut_by_its_text_and_keeps_its_sources(served: Reporter) -> None:
    both = (Sentence("The heart is large.", 0, -0.1, source="a"), Sentence("No effusion is seen.", 0, -0.2, source="b"))
    whole = Report("1", "The heart is large. No effusion is seen.", sentences=both, review=("left out: edema",))
    cut = stopped(whole, served.built.processor, ["seen", " is seen"])
    assert (cut.text, cut.finish, cut.review) == ("The heart is large. No effusion", "stop", ())
    assert [(one.text, one.source) for one in cut.sentences] == [("The heart is large.", "a"), ("No effusion", "b")]
    assert stopped(whole, served.built.processor, ["xyz"]) is whole


def forced(served: Reporter, decode: DecodeConfig) -> tuple[Report, torch.Tensor]:
    """A report, and the log-probabilities (T, vocabulary) of one pass over its prompt and its tokens."""
    report, model, processor = alone(served, [film(1)], decode), served.built.model, served.built.processor
    pixels = processor.pixels([decode_image(film(1), "film", decoded_size(processor))])
    batch = served.batch(pixels)
    with torch.no_grad():
        prompt = model.embed_inputs(batch.input_ids, batch.pixel_values, batch.view_mask, None)
        ids = torch.tensor([report.token_ids])
        logits = model.language_model(
            inputs_embeds=torch.cat([prompt, model.get_input_embeddings()(ids)], dim=1)
        ).logits[0]
    return report, logits[prompt.shape[1] - 1 : -1].float().log_softmax(-1)


WRITTEN: dict[str, tuple[Json, Json]] = {
    "beams": ({}, {}),
    "one beam": (DRAWN, {"do_sample": True, "beam_size": 1, "temperature": 0.9, "decode_seed": 5}),
    "stream": ({"stream": True}, {"beam_size": 1}),
}


@pytest.mark.parametrize("likeliest", [0, 1, 20])
@pytest.mark.parametrize("kind", WRITTEN)
def test_logprobs_are_those_of_a_pass_over_the_finished_text(exact: Reporter, kind: str, likeliest: int) -> None:
    fields, changes = WRITTEN[kind]
    report, wanted = forced(exact, replace(exact.decode, **changes))
    asked = {"logprobs": True, "top_logprobs": likeliest, **fields}
    with client_of(exact) as (client, _):
        if kind == "stream":
            *others, last = stream(client, **asked)
            assert [chunk["choices"][0]["logprobs"] for chunk in others] == [None] * len(others)
        else:
            last = ask(client, **asked)
    choice = last["choices"][0]
    content = choice["logprobs"]["content"]
    assert choice["logprobs"]["refusal"] is None
    assert "".join(entry["token"] for entry in content) == report.text
    end = exact.built.processor.end_token_id
    ids = [token for token in report.token_ids if token != end]
    assert len(content) == len(ids), "this model writes no token outside its text"
    for entry, token, row in zip(content, ids, wanted, strict=False):
        assert entry["logprob"] == pytest.approx(float(row[token]), abs=1e-4)  # float32, other passes
        assert entry["bytes"] == (None if "�" in entry["token"] else list(entry["token"].encode()))
        values = row.topk(20).values[:likeliest].tolist()
        assert [one["logprob"] for one in entry["top_logprobs"]] == pytest.approx(values, abs=1e-4)
        assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"}
        if likeliest == 20 and token in row.topk(20).indices:
            assert entry["token"] in [one["token"] for one in entry["top_logprobs"]]


def test_logprobs_end_with_the_text_at_a_stop_string(client: TestClient) -> None:
    whole = text_of(ask(client))
    answer = ask(client, logprobs=True, top_logprobs=2, stop=middle(whole))
    content = answer["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == text_of(answer) == whole.partition(middle(whole))[0]


def test_a_model_that_generate_decodes_has_choices_stop_strings_and_logprobs_too(tiny_parts: Path) -> None:
    config = ModelConfig(vision_model=str(tiny_parts / "vision-vit"), lm_model=str(tiny_parts / "lm-gpt2"))
    built = build_model(config, FLOAT32)
    built.model.eval()
    decode = DecodeConfig(beam_size=2, min_new_tokens=0, max_new_tokens=8).for_dataset("plain")
    plain = replace(reporter_of(built, decode), name="best")
    with client_of(plain) as (client, _):
        whole = text_of(ask(client))
        answer = ask(client, stop=[middle(whole)], logprobs=True, top_logprobs=3)
        content = answer["choices"][0]["logprobs"]["content"]
        assert "".join(entry["token"] for entry in content) == text_of(answer) == whole.partition(middle(whole))[0]
        written = ask(client, logprobs=True)["choices"][0]["logprobs"]["content"]
        numbers = [entry["logprob"] for entry in written[: len(content)]]
        assert [entry["logprob"] for entry in content] == pytest.approx(numbers, abs=1e-4)  # float32, other passes
        drawn = ask(client, n=2, **DRAWN)
        assert [choice["seed"] for choice in drawn["choices"]] == [5, 6]
        assert text_of(drawn, 0) != text_of(drawn, 1)
        text = streamed_text(stream(client))
        assert streamed_text(stream(client, stop=[middle(text)])) == text.partition(middle(text))[0]


def test_without_logprobs_there_are_none(client: TestClient) -> None:
    assert ask(client)["choices"][0]["logprobs"] is None


def test_a_reports_tokens_are_not_in_its_record(served: Reporter) -> None:
    report = alone(served, [film(1)], served.decode)
    assert len(report.token_ids) == len(report.token_logprobs) == report.tokens
    assert not {"token_ids", "token_logprobs"} & set(report.to_prediction())


def schema(properties: Json, **more: Any) -> Json:
    inner = {"type": "object", "properties": properties, "required": list(properties), **more}
    return {"type": "json_schema", "json_schema": {"name": "report", "strict": True, "schema": inner}}


def same(document: Json) -> Json:
    return {name: value for name, value in document.items() if name not in ("id", "created")}


def test_json_object_gives_the_document_of_the_reports_route(client: TestClient) -> None:
    document = client.post(REPORTS, files=upload(film(1))).json()
    answer = ask(client, response_format={"type": "json_object"})
    assert same(json.loads(text_of(answer))) == same(document)
    assert set(document) <= set(REPORT["properties"])
    assert document["finish_reason"] == "length"
    assert (answer["choices"][0]["finish_reason"], answer["warnings"]) == ("stop", [CUT_SHORT])
    cut = ask(client, response_format={"type": "json_object"}, stop=middle(document["findings"]))
    assert json.loads(text_of(cut))["finish_reason"] == "stop"
    assert "warnings" not in cut
    several = ask(client, response_format={"type": "json_object"}, n=2, stop=middle(document["findings"]), **DRAWN)
    for index in range(2):
        found = json.loads(text_of(several, index))
        assert found["provenance"]["decode"]["decode_seed"] == 5 + index
        assert [one["text"] for one in found["sentences"]] == [
            one["text"] for one in several["choices"][index]["sentences"]
        ]


NULLABLE = {"anyOf": [{"type": "number"}, {"type": "null"}]}
ONE = {"type": "object", "properties": {"text": {"type": "string"}, "confidence": NULLABLE}, "required": ["text"]}
FITTING: dict[str, Json] = {
    "a text": {"findings": {"type": "string", "description": "the text", "title": "Findings"}},
    "of each type": {
        "findings": {"type": ["string", "null"]},
        "tokens": {"type": "integer"},
        "logprob": {"type": "number"},
        "review": {"type": "array", "items": {"type": "string"}},
        "provenance": {"type": "object"},
        "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "finish_reason": {"type": "string", "enum": ["stop", "length", "other"]},
    },
    "a number that is whole": {"tokens": {"type": "number"}},
    "anything": {"sentences": {}, "warnings": True},
    "sentences": {"sentences": {"type": "array", "items": ONE}},
    "sentences by reference": {"sentences": {"type": "array", "items": {"$ref": "#/$defs/One"}}},
    "what this report has not got": {"warnings": {"type": "array"}, "film_findings": {"type": "array"}},
}


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("streamed", [False, True])
def test_json_schema_gives_exactly_the_members_that_it_names(client: TestClient, name: str, streamed: bool) -> None:
    document = client.post(REPORTS, files=upload(film(1))).json()
    wanted = schema(FITTING[name], additionalProperties=False, **{"$defs": {"One": ONE}})
    if streamed:
        chunks = stream(client, response_format=wanted)
        pieces = [piece for chunk in chunks if (piece := chunk["choices"][0]["delta"].get("content"))]
        assert len(pieces) == 1
        found = json.loads(pieces[0])
    else:
        found = json.loads(text_of(ask(client, response_format=wanted)))
    assert list(found) == list(FITTING[name])
    empty = {"note": "", "review": [], "warnings": [], "film_findings": []}
    for member, value in found.items():
        own = document.get(member, empty.get(member))
        if name.startswith("sentences"):
            own = [{"text": one["text"], "confidence": one["confidence"]} for one in own]
        assert value == own


def test_a_schema_without_properties_takes_the_whole_document(client: TestClient) -> None:
    open_one = {"type": "json_schema", "json_schema": {"name": "any", "schema": {"type": "object"}}}
    assert set(json.loads(text_of(ask(client, response_format=open_one)))) > {"findings", "sentences", "provenance"}


CIRCLE = {"$ref": "#/properties/findings"}
UNFIT: tuple[tuple[Json, str], ...] = (
    ({"impression": {"type": "string"}}, "has no member impression: it has id, created, notice, note, findings"),
    ({"findings": {"type": "array"}}, "findings is string here, and the schema does not take string"),
    ({"tokens": {"type": "string"}}, "tokens is integer here"),
    ({"logprob": {"type": "integer"}}, "logprob is number here"),
    ({"findings": {"type": "string", "maxLength": 9}}, "findings asks for maxLength"),
    ({"findings": {"type": "string", "enum": ["normal", "abnormal"]}}, "findings may have other values"),
    ({"sentences": {"type": "array", "items": {"type": "string"}}}, "sentences is object here"),
    ({"sentences": {"items": {"properties": {"words": {}}}}}, "sentences has no member words: it has text, tokens"),
    (
        {"sentences": {"items": {"properties": {"confidence": {"type": "number"}}}}},
        "sentences.confidence is null or number here, and the schema does not take null",
    ),
    ({"findings": {"anyOf": [{"type": "null"}, {"type": "number"}]}}, "findings may be string here"),
    ({"findings": {"$ref": "#/$defs/Nowhere"}}, "findings is no schema"),
    ({"findings": {"$ref": "http://127.0.0.1/schema"}}, "findings is no schema"),
    ({"findings": CIRCLE}, "findings refers to itself"),
    ({"findings": {"anyOf": [CIRCLE]}}, "findings has a schema of more than"),
    ({"findings": {"type": 5}}, "findings is string here"),
    ({"findings": 5}, "findings is no schema"),
    ({"findings": False}, "findings is no schema"),
    ({"provenance": {"type": "object", "properties": {"model": {}}}}, "provenance has no member model"),
    ({"provenance": {"additionalProperties": {"type": "string"}}}, "provenance asks for additionalProperties"),
    ({"findings": {"anyOf": [{"type": "string"}], "enum": ["a"]}}, "findings asks for anyOf and more at once"),
    ({"x" * 300: {}}, "has no member " + "x" * 60 + "…"),
)


@pytest.mark.parametrize(("properties", "words"), UNFIT, ids=[words for _, words in UNFIT])
def test_a_schema_that_no_report_fits_is_refused_by_the_member(
    client: TestClient, properties: Json, words: str
) -> None:
    error = refusal(client, response_format=schema(properties))
    assert (error["param"], error["code"]) == ("response_format", "unsupported_value")
    assert words in error["message"]
    assert refusal(client, response_format=schema(properties), stream=True) == error


def test_a_schema_of_something_else_than_an_object_is_refused(client: TestClient) -> None:
    for inner in ({"type": "array"}, {"type": ["string"]}, {"allOf": [{"type": "object"}]}, {"$ref": "#"}):
        error = refusal(client, response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": inner}})
        assert error["param"] == "response_format"
