"""Chats as OpenAI's clients really send them: fields that ask for nothing, systems' texts, odd data URLs, refusals."""

import base64
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import r2gengpt.serving
from dicom_files import data_of, ramp
from dicom_files import film as dicom
from r2gengpt.errors import InputError
from r2gengpt.reporter import Reporter
from r2gengpt.serving.bodies import LONG_IMAGE, NoDataUrl, read_data_url
from r2gengpt.serving.chat_request import NEUTRAL, NUMBERS
from r2gengpt.serving.conversation import EARLIER_LEFT_OUT
from r2gengpt.serving.failures import ApiError, refused
from r2gengpt.serving.instructions import OTHER_INSTRUCTION
from r2gengpt.settings import ServeConfig
from serving_parts import client_of, data_url, film, message, upload
from test_serving_api import CHAT, REPORTS, events

FLAG = re.compile(r"--[a-z]")


@pytest.fixture(scope="module")
def client(served: Reporter) -> Iterator[TestClient]:
    with client_of(served) as (client, _):
        yield client


@pytest.fixture(scope="module")
def plain(client: TestClient) -> str:
    """The text of a chat with nothing but the film."""
    return text_of(client, message(film(1)))


def text_of(client: TestClient, messages: list[dict[str, Any]], **fields: Any) -> str:
    given = client.post(CHAT, json={"model": "best", "messages": messages} | fields)
    assert given.status_code == 200, given.text
    return str(given.json()["choices"][0]["message"]["content"])


def error_of(client: TestClient, messages: Any, **fields: Any) -> dict[str, Any]:
    given = client.post(CHAT, json={"model": "best", "messages": messages, **fields})
    assert given.status_code == 400, given.text
    return dict(given.json()["error"])


def image(url: str, **more: Any) -> list[dict[str, Any]]:
    """A user message with one image of this URL."""
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, **more}}]}]


MORE = (
    {"stream": None},
    {"stream_options": None},
    {"stream_options": {"include_usage": None}},
    {"max_tokens": None, "max_completion_tokens": None},
    {"temperature": None, "top_p": None, "seed": None},
    {"top_p": 1},
    {"user": "me", "safety_identifier": "me", "prompt_cache_key": "a"},
    {"metadata": {}},
    {"metadata": {"ward": "3"}},
    {"a_field_of_tomorrow": None},
    {"frame": None, "force": None, "mixed_patients": None},
    {"presence_penalty": 0.0, "n": 1.0},
    {"n": None, "stop": None, "logprobs": None, "top_logprobs": None, "response_format": None},
    {"n": 1, "stop": [], "logprobs": False, "top_logprobs": 0, "response_format": {"type": "text"}},
    {"stop": ""},
    {"stop": ["", ""]},
    {"stop": "a string that is not in it"},
    {"logit_bias": {"50256": 0}},
    {"features": {"web_search": False, "image_generation": False}, "tool_ids": [], "files": None},
    {"chat_id": "7", "session_id": "9", "id": "1", "variables": {"{{USER_NAME}}": "x"}, "model_item": {"id": "best"}},
    {"background_tasks": {"title_generation": True}, "user": {"id": "1", "role": "admin"}, "conversation_id": "x"},
    {"messages": [{"role": "system", "content": ""}, *message(film(1))]},
    {"messages": [{"role": "system", "content": ""}, *message(film(1)), {"role": "assistant", "content": ""}]},
)
NOTHING = (*({name: value} for name, values in NEUTRAL.items() for value in (*values, None)), *MORE)


@pytest.mark.parametrize("fields", NOTHING, ids=lambda fields: str(fields)[:60])
def test_a_field_that_asks_for_nothing_changes_nothing(client: TestClient, plain: str, fields: dict[str, Any]) -> None:
    assert text_of(client, **{"messages": message(film(1)), **fields}) == plain


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"n": 5}, "n", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ({"stop": ["x" * 201]}, "stop.0", "invalid_value"),
        ({"stop": "x" * 70_000}, "stop", "invalid_value"),
        ({"stop": 7}, "stop", "invalid_value"),
        ({"logprobs": 5}, "logprobs", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"tool_ids": ["search"]}, "tool_ids", "unsupported_value"),
        ({"features": {"web_search": True}}, "features", "unsupported_value"),
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_value"),
        ({"tool_choice": "required"}, "tool_choice", "unsupported_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "invalid_value"),
        ({"response_format": "json_object"}, "response_format", "invalid_value"),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value"),
        ({"store": True}, "store", "unsupported_value"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_value"),
        ({"top_k": 40}, "top_k", "unknown_parameter"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        *(({name: true}, name, "invalid_value") for name in NUMBERS for true in (True, False)),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"x" * 300: 1}, "x" * 60 + "…", "unknown_parameter"),
    ],
    ids=str,
)
def test_a_field_that_asks_for_something_else_is_refused_by_its_name(
    client: TestClient, fields: dict[str, Any], param: str, code: str
) -> None:
    error = error_of(client, message(film(1)), **fields)
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert error["message"].startswith(param)
    assert not FLAG.search(error["message"])


def test_a_systems_text_opens_the_instruction(client: TestClient, served: Reporter) -> None:
    def prompt_tokens(*before: dict[str, Any], text: str | None = None) -> int:
        asked = {"model": "best", "messages": [*before, *message(film(3), text=text)]}
        return int(client.post(CHAT, json=asked).json()["usage"]["prompt_tokens"])

    system = {"role": "system", "content": "Be brief."}
    developer = {"role": "developer", "content": [{"type": "text", "text": "Name the side."}]}
    processor = served.built.processor
    for before, text, instruction in (
        ((system,), None, f"Be brief.\n{processor.instruction}"),
        ((system,), "Findings?", "Be brief.\nFindings?"),
        ((system, developer), "Findings?", "Be brief.\nName the side.\nFindings?"),
        (({**system, "content": ""},), "Findings?", "Findings?"),
        (({**system, "content": None, "name": None},), None, None),
    ):
        assert prompt_tokens(*before, text=text) == len(processor.prompt_row(1, instruction))


ANSWERED = {"role": "assistant", "content": "Clear."}
FOLLOWED: dict[str, list[dict[str, Any]]] = {
    "question": [*message(film(1)), ANSWERED, {"role": "user", "content": "Are you sure?"}],
    "question in parts": [*message(film(1)), {"role": "user", "content": [{"type": "text", "text": "And now?"}]}],
    "no text": [*message(film(1)), ANSWERED, {"role": "user", "content": None}],
    "tool": [
        *message(film(1)),
        {"role": "tool", "content": "2", "tool_call_id": "1"},
        {"role": "user", "content": "?"},
    ],
    "film that cannot be read": [*message(b"no film"), {"role": "user", "content": "And now?"}],
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_question_on_an_earlier_study_is_refused_in_words_that_help(client: TestClient, name: str) -> None:
    error = error_of(client, FOLLOWED[name])
    assert (error["param"], error["code"]) == ("messages", "unsupported_value")
    for words in ("answers no questions on it", "send the images again with another instruction", "start a new chat"):
        assert words in error["message"]


@pytest.mark.parametrize(
    "task", ["### Task:\nGenerate a concise, 3-5 word title", [{"type": "text", "text": "Suggest tags"}], "", None, []]
)
def test_a_task_of_a_chat_program_without_images_is_refused_in_a_line(client: TestClient, task: Any) -> None:
    asked = [{"role": "system", "content": ""}, {"role": "user", "content": task}]
    error = error_of(client, asked, stream=True, max_completion_tokens=1000, metadata={"task": "title_generation"})
    assert "no image: this model writes reports of chest X-rays" in error["message"]
    assert "\n" not in error["message"]


EARLIER: dict[str, list[dict[str, Any]]] = {
    "a study and its report": [*message(film(2), text="Findings?"), ANSWERED],
    "a chat without images": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"}],
    "a film that was refused": [*message(b"no film")],
    "tools": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
        {"role": "tool", "content": [{"type": "text", "text": "2"}], "tool_call_id": "1"},
    ],
    "a refusal": [*message(film(2)), {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
    "thoughts": [*message(film(2)), {**ANSWERED, "reasoning_content": "x", "annotations": [], "audio": None}],
    "an old function": [*message(film(2)), {"role": "function", "name": "f", "content": "2"}],
    "an address": [{"role": "user", "content": image("http://127.0.0.1/film.png")[0]["content"]}, ANSWERED],
}


@pytest.mark.parametrize("name", EARLIER)
def test_earlier_turns_never_reach_the_prompt_and_the_answer_says_so(client: TestClient, name: str) -> None:
    asked = {"model": "best", "messages": [*EARLIER[name], *message(film(1))]}
    answer, alone = (
        client.post(CHAT, json=one).json() for one in (asked, {"model": "best", "messages": message(film(1))})
    )
    assert answer["choices"] == alone["choices"]
    assert answer["usage"] == alone["usage"]
    assert answer["provenance"]["inputs"] == alone["provenance"]["inputs"]
    assert answer["warnings"] == [EARLIER_LEFT_OUT]
    assert "warnings" not in alone


def test_a_fault_of_the_last_message_is_named_by_its_place_in_the_chat(client: TestClient) -> None:
    error = error_of(client, [*message(film(2)), ANSWERED, *image(data_url(film()), detail="huge")])
    assert error["param"] == "messages.2.content.0.image_url.detail"
    error = error_of(client, [*message(film(2)), ANSWERED, *message(b"no film")])
    assert error["param"] == "messages.2.content.0"


@pytest.mark.parametrize("stream", [False, True])
def test_an_instruction_that_leads_away_from_training_warns(client: TestClient, served: Reporter, stream: bool) -> None:
    own = served.built.processor.instruction
    system = {"role": "system", "content": "Be brief."}
    for messages, wanted in (
        (message(film(1), text="Findings?"), [OTHER_INSTRUCTION]),
        ([system, *message(film(1))], [OTHER_INSTRUCTION]),
        ([*message(film(2)), system, *message(film(1), text="Findings?")], [EARLIER_LEFT_OUT, OTHER_INSTRUCTION]),
        (message(film(1), text=f"  {own}\n"), None),
        (message(film(1)), None),
    ):
        given = client.post(CHAT, json={"model": "best", "messages": messages, "stream": stream})
        found = events(given.text) if stream else [given.json()]
        assert {json.dumps(found[at].get("warnings")) for at in (0, -1)} == {json.dumps(wanted)}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "user", "content": "hello"}], "messages"),
        ([], "messages"),
        ("hello", "messages"),
        ([{"role": "system", "content": "x"}], "messages"),
        ([{"role": "system", "content": image("data:,")[0]["content"]}, *message(film())], "messages.0.content"),
        ([{"role": "user", "content": [{"type": "input_image"}]}], "messages.0.content.0"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": None}]}], "messages.0.content.0.image_url"),
        (image(data_url(film()), detail="huge"), "messages.0.content.0.image_url.detail"),
        (image("http://127.0.0.1/film.png"), "messages.0.content.0"),
        (message(film(), text="x" * 4001), "messages.0.content"),
        (message(film(), text="é" * 100_000), "messages.0.content"),
        ([{"role": "system", "content": "y" * 3000}, *message(film(), text="x" * 3000)], "messages"),
        (message(b"no film"), "messages.0.content.0"),
        (message(film(1), film(2, "JPEG")[:-300]), "messages.0.content.1"),
        (message(data_of(dicom())[:-700]), "messages.0.content.0"),
    ],
)
def test_a_message_that_is_refused_names_its_place(client: TestClient, messages: Any, param: str) -> None:
    error = error_of(client, messages)
    assert error["param"] == param
    assert "\n" not in error["message"]


B64 = base64.b64encode(film(1)).decode()
URLS = {
    "alone": f"data:image/png;base64,{B64}",
    "lines": "data:image/png;base64," + "\n".join(textwrap.wrap(B64, 76)),
    "lines with returns": "data:image/png;base64," + "\r\n".join(textwrap.wrap(B64, 76)) + "\r\n",
    "space after the comma": f"data:image/png;base64, {B64}",
    "spaces around": f"  data:image/png ; base64 ,{B64} ",
    "no padding": f"data:image/png;base64,{B64.rstrip('=')}",
    "safe alphabet": "data:image/png;base64," + B64.replace("+", "-").replace("/", "_"),
    "percent signs": "data:image/png;base64," + B64.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D"),
    "octet-stream": f"data:application/octet-stream;base64,{B64}",
    "no type": f"data:;base64,{B64}",
    "x-png": f"data:image/x-png;base64,{B64}",
    "pjpeg": f"data:image/pjpeg;base64,{B64}",
    "any image": f"data:image/*;base64,{B64}",
    "upper case": f"DATA:IMAGE/PNG;BASE64,{B64}",
    "charset": f"data:image/png;charset=utf-8;base64,{B64}",
    "name": f"data:image/png;name=a.png;charset=utf-8;base64,{B64}",
}


@pytest.mark.parametrize("name", URLS)
def test_a_data_url_of_an_odd_but_clear_form_is_read(client: TestClient, plain: str, name: str) -> None:
    assert len(B64) > LONG_IMAGE
    assert text_of(client, image(URLS[name])) == plain
    asked = {"model": "best", "messages": image(URLS[name])}
    escaped = json.dumps(asked).replace("/", "\\/").replace("+", "\\u002b")
    assert client.post(CHAT, content=escaped.encode()).json()["choices"][0]["message"]["content"] == plain


@pytest.mark.parametrize("step", [1, 2, 3, 5, 64, 4096])
@pytest.mark.parametrize("name", URLS)
def test_a_data_url_that_comes_in_pieces_is_the_same(name: str, step: int) -> None:
    whole = URLS[name].encode()
    pieces = [whole[:80], *(whole[at : at + step] for at in range(80, len(whole), step))]
    assert read_data_url(pieces) == film(1)


@pytest.mark.parametrize(
    "rest",
    [
        "AA*A",
        "A",
        "AAAAA",
        "AA=A",
        "AA==AA==",
        "%",
        "%4",
        "%zz",
        "AAA=A===",
        "AAAAé",
        "AA,AA",
        "=",
        "AAAA=",
        "AA===",
        "AA%3D%3DAA",
    ],
)
def test_what_is_not_base64_is_refused_wherever_a_piece_ends(rest: str) -> None:
    url = f"data:image/png;base64,{rest}".encode()
    for cut in range(22, len(url) + 1):
        with pytest.raises(ValueError):
            read_data_url([url[:cut], url[cut:]])


def test_a_head_that_could_be_read_in_many_ways_is_refused_at_once() -> None:
    for head in (b"data:" + b"; " * 490, b"data:" + b" " * 990, b"data:" + b";base64 " * 120):
        with pytest.raises(NoDataUrl):
            read_data_url([head])


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": URLS["alone"]},
        {"type": "image_url", "image_url": {"url": URLS["alone"], "detail": None}},
        {"type": "image_url", "image_url": {"url": URLS["alone"], "detail": "original"}},
        {"type": "image_url", "image_url": {"url": URLS["alone"], "format": "image/png"}},
        {"type": "image_url", "image_url": {"url": URLS["alone"]}, "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": URLS["alone"]}, "cache_control": None, "text": None},
    ],
)
def test_an_image_of_another_clients_form_is_read(client: TestClient, plain: str, part: dict[str, Any]) -> None:
    assert text_of(client, [{"role": "user", "name": "ward", "content": [part]}]) == plain


@pytest.mark.parametrize("kind", ["application/dicom", "image/dicom", "application/dicom+octet-stream", ""])
def test_a_dicom_film_is_read_under_each_of_its_types(client: TestClient, kind: str) -> None:
    url = f"data:{kind};base64,{base64.b64encode(data_of(dicom())).decode()}"
    assert text_of(client, image(url)) == text_of(
        client, image(url.replace(f"data:{kind}", "data:application/octet-stream"))
    )


def test_a_model_is_found_by_its_name_and_another_is_not(client: TestClient) -> None:
    found = client.get("/v1/models/best")
    assert (found.status_code, found.json()["id"], found.json()["object"]) == (200, "best", "model")
    for name in ("gpt-4o", "a/b", "best/", "%2e%2e"):
        error = client.get(f"/v1/models/{name}")
        assert error.status_code == 404
        assert error.json()["error"] | {"message": ""} == {
            "message": "", "type": "not_found_error", "param": "model", "code": "model_not_found",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/responses", 404, "unknown_url"),
        ("POST", "/v1/completions", 404, "unknown_url"),
        ("POST", "/v1/chat/completions/", 404, "unknown_url"),
        ("GET", "/v1/chat/completions/abc", 404, "unknown_url"),
        ("GET", "/v1/chat", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models/best", 405, "method_not_allowed"),
    ],
)
def test_an_address_that_is_not_there_is_refused_in_openais_shape(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    given = client.request(method, path)
    error = given.json()["error"]
    assert (given.status_code, error["code"], set(error)) == (status, code, {"message", "type", "param", "code"})
    assert "/v1/chat/completions" in error["message"]


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe{}", b"[]", b"null", b"NaN", b'"x"', b"\xef\xbb\xbf{}"])
def test_a_body_that_is_no_request_is_refused_in_openais_shape(client: TestClient, body: bytes) -> None:
    given = client.post(CHAT, content=body)
    assert (given.status_code, given.json()["error"]["type"]) == (400, "invalid_request_error")


def test_no_answer_names_a_flag_of_the_command_line(client: TestClient, served: Reporter) -> None:
    loop = data_of(dicom(np.stack([ramp()] * 3), NumberOfFrames=3))
    hand = data_of(dicom(BodyPartExamined="HAND"))
    answers = [
        client.post(REPORTS, files=upload(loop)),
        client.post(REPORTS, files=upload(loop), data={"frame": "9"}),
        client.post(REPORTS, files=upload(hand)),
        client.post(REPORTS, files=upload(film()), data={"frame": "2"}),
        client.post(REPORTS, files=upload(film()), headers={"Origin": "https://evil.example"}),
        client.post(REPORTS, files=upload(film()), headers={"Host": "evil.example"}),
        client.post(REPORTS, files=upload(film()), data={"indication": "word " * 790}),
        client.post(CHAT, json={"model": "best", "messages": message(film(), text="word " * 790)}),
        client.post("/v1/evidence", files=upload(film()), data={"report": "x", "frame": "2"}),
        client.post("/v1/preview", files=upload(loop), data={"frame": "9"}),
    ]
    assert {one.status_code for one in answers} == {400, 403}
    for one in answers:
        assert not FLAG.search(one.json()["error"]["message"]), one.text
    assert [one.json()["error"]["param"] for one in answers[:4]] == ["frame", "frame", "force", "frame"]


def test_a_refusal_of_the_program_becomes_one_of_the_api() -> None:
    error = refused(InputError("frame 9: image a--b has frames 1 to 3 (force reads it)", field="frame"))
    assert error.body()["error"] == {
        "message": "frame 9: image a--b has frames 1 to 3 (force reads it)",
        "type": "invalid_request_error",
        "param": "frame",
        "code": "invalid_value",
    }


def test_no_route_hands_out_the_programs_words_as_they_are() -> None:
    """Words of an `InputError` become an answer through `refused` alone, and no answer of the routes names a flag."""
    for path in Path(r2gengpt.serving.__file__).parent.glob("*.py"):
        code = path.read_text(encoding="utf-8")
        assert not re.search(r"ApiError\([^)]*str\(error\)", code), path
        assert not re.search(r"ApiError\([^)]*--[a-z]", code), path


def test_settings_that_are_refused_name_their_field() -> None:
    with pytest.raises(InputError) as caught:
        ServeConfig(slots=0)
    assert (str(caught.value), caught.value.field) == ("slots 0: must be at least 1", "slots")
    assert isinstance(refused(caught.value), ApiError)
