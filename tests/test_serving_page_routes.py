"""What the web page asks of the server beside reports: example films, the card, whose films, forms, the queue."""

import base64
import io
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from starlette.testclient import TestClient

from dicom_files import data_of
from dicom_files import film as dicom
from r2gengpt.config import DecodeConfig
from r2gengpt.report import Report
from r2gengpt.reporter import Reporter
from r2gengpt.serving.card import card_text
from r2gengpt.serving.examples import captions, example_films, prose, title_of
from r2gengpt.serving.jobs import Answer, Job, Queue
from r2gengpt.serving.pace import KEPT, Pace, QueueProgress
from r2gengpt.settings import OBJECT_FORMS
from serving_parts import busy, client_of, film, upload

JSON, FHIR, SR = "application/json", "application/fhir+json", "application/dicom"
TICKET = "0123456789abcdef-mine"
FINDING = {"name": "Edema", "probability": 0.91, "interval": [0.8, 0.95], "verdict": "likely"}


# ------------------------------------------------------------------ example films


def test_every_bundled_film_is_listed_with_its_caption_and_given_as_it_is(served: Reporter) -> None:
    folder = files("r2gengpt").joinpath("examples")
    there = {item.name: item.read_bytes() for item in folder.iterdir() if item.name.endswith((".png", ".jpg"))}
    with client_of(served) as (client, _):
        listed = client.get("/page/examples.json").json()
        assert [film["name"] for film in listed["films"]] == sorted(there)
        assert len({film["title"] for film in listed["films"]}) == len(there), "no two are called the same"
        for film_ in listed["films"]:
            given_ = client.get(f"/page/examples/{film_['name']}")
            assert given_.content == there[film_["name"]]
            assert given_.headers["content-type"] in ("image/png", "image/jpeg")
        assert client.get("/page/examples/CREDITS.md").status_code == 404
        assert client.get("/page/examples/%2e%2e/app.py").status_code == 404
    assert listed["credits"], "whoever shows the films must credit them"
    assert all(film.caption for film in example_films())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("| file | label |\n|---|---|\n| `a.png` | effusion |", "label: effusion"),
        ("| file | label |\n|---|---|\n| a | effusion |", "label: effusion"),
        ("| label | file |\n|---|---|\n| effusion | **a.png** |", "label: effusion"),
        ("| file | | by |\n|---|---|---|\n| a.png | child | [NIH](https://x.example/y) |", "child; by: NIH"),
        ("| file | by |\n|---|---|\n| a.png | https://x.example |", ""),
        ("- `a.png`: a child, normal", "a child, normal"),
        ("* **a.png** – a child", "a child"),
        ("| other | label |\n|---|---|\n| b.png | effusion |\n\n- nothing of it", None),
        ("", None),
    ],
)
def test_a_caption_is_what_the_credits_tell_of_a_film(text: str, told: str | None) -> None:
    assert captions(text, ["a.png"]).get("a.png") == told


def test_a_second_table_has_its_own_head() -> None:
    text = "| file | view |\n|---|---|\n| a.png | PA |\n\nMore.\n\n| file | age |\n|---|---|\n| b.png | 7 |\n"
    assert captions(text, ["a.png", "b.png"]) == {"a.png": "view: PA", "b.png": "age: 7"}
    assert prose(f"# Films\n\n{text}") == ["More."]


def test_a_name_in_words_is_a_title_and_a_code_is_none() -> None:
    assert [title_of(name, 3) for name in ("normal-child.jpg", "a_b.png", "0957ce54.png", "img7.png")] == [
        *("Normal child", "A b", "Example 3", "Example 3")
    ]


# ------------------------------------------------------------------ the card


def test_the_models_name_parts_and_card_are_known_before_any_draft(served: Reporter, tmp_path: Path) -> None:
    head = "---\nlicense: cc-by-4.0\ntags: [x]\n---\n"
    (tmp_path / "README.md").write_text(f"{head}# A model\n\nIt knows nothing.\n", encoding="utf-8")
    with client_of(replace(served, directory=tmp_path)) as (client, _):
        told = client.get("/v1/card").json()
    assert (told["name"], told["licence"], told["card"]) == ("best", "cc-by-4.0", "# A model\n\nIt knows nothing.")
    assert "swin" in told["vision_model"]
    assert (told["finding_head"], told["maps"]) == (False, True)
    assert set(told["forms"]) <= {"fhir", *OBJECT_FORMS}
    assert str(tmp_path) not in json.dumps(told)


@pytest.mark.parametrize(
    "text", [None, "", "---\nnever closed", "# Ü \ud83d".encode("utf-8", "surrogatepass"), b"\xff"]
)
def test_a_model_without_a_good_card_has_an_empty_or_a_readable_one(tmp_path: Path, text: Any) -> None:
    if text is not None:
        (tmp_path / "README.md").write_bytes(text.encode() if isinstance(text, str) else text)
    licence, card = card_text(tmp_path)
    assert licence == ""
    card.encode()
    assert card_text(tmp_path / "README.md") == ("", ""), "an original checkpoint is a file"


def test_lines_that_programs_mark_in_a_card_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A model\n\n<!-- scores -->\n| F1 |\n<!-- /scores -->\n\nMore, 1 <!-- 2.\n")
    assert card_text(tmp_path)[1] == "# A model\n\n| F1 |\n\nMore, 1 <!-- 2."


def test_the_card_needs_a_key_where_reports_do(served: Reporter, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-this-test-only", encoding="utf-8")
    with client_of(served, api_key_file=str(keys)) as (client, _):
        assert client.get("/v1/card").status_code == 401
        assert client.get("/page/examples.json").status_code == 200


# ------------------------------------------------------------------ whose films


def posted(client: TestClient, path: str, *films: bytes, accept: str, **data: str) -> Any:
    return client.post(path, files=upload(*films), data=data, headers={"Accept": accept})


def test_a_preview_as_json_names_the_patient_in_its_body_and_nowhere_else(served: Reporter) -> None:
    data = data_of(dicom(PatientName="Müller^Jürgen", SpecificCharacterSet="ISO_IR 100", PatientID="Ä/1"))
    with client_of(served) as (client, _):
        told = posted(client, "/v1/preview?patient=true", data, accept=JSON)
        plain = posted(client, "/v1/preview", data, accept="image/png")
        none = posted(client, "/v1/preview?patient=true", film(1), accept=JSON).json()
    assert told.json()["patient"] == {
        "id": "Ä/1", "name": "Müller^Jürgen", "accession": "A 77", "study_date": "20260102"
    }  # fmt: skip
    assert not [word for word in ("ller", "A 77", "20260102") if word in str(told.headers) + str(plain.headers)]
    assert base64.b64decode(told.json()["png"]) == plain.content
    assert told.json()["view"] == "PA"
    assert Image.open(io.BytesIO(plain.content)).size == (32, 40)
    assert "patient" not in none


# ------------------------------------------------------------------ forms of an edited text


def texts_of(data: bytes) -> str:
    """All values of a DICOM file, those of its sequences too, a line each."""
    return "\n".join(str(element.value) for element in dcmread(io.BytesIO(data)).iterall() if element.VR != "SQ")


def test_an_edited_text_becomes_fhir_and_a_structured_report_without_writing_anything(served: Reporter) -> None:
    known = json.dumps({"film_findings": [FINDING], "review": ["left out: edema"], "edited": True})
    with client_of(served) as (client, generator):
        given_ = {
            kind: posted(client, "/v1/documents", data_of(dicom()), accept=kind, report="My own words.", known=known)
            for kind in (FHIR, SR)
        }
        assert generator.line.waiting == 0
        assert "r2gengpt_tokens_total 0.0" in client.get("/metrics").text
    assert [one.status_code for one in given_.values()] == [200, 200]
    bundle = given_[FHIR].json()
    report = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    assert "My own words." in report["conclusion"]
    assert "edited by its reader" in report["text"]["div"]
    tree = texts_of(given_[SR].content)
    for words in ("My own words.", "edited by its reader", "left out: edema", "Edema", "P-1"):
        assert words in tree, words


def test_an_unedited_text_is_not_called_edited(served: Reporter) -> None:
    with client_of(served) as (client, _):
        given_ = posted(client, "/v1/documents", data_of(dicom()), accept=SR, report="As written.")
    assert "Drafted from 1 image" in texts_of(given_.content)
    assert "edited by" not in texts_of(given_.content)


def known_of(**changes: Any) -> str:
    """The field `known` with one finding."""
    return json.dumps({"film_findings": [{**FINDING, **changes}]})


def test_a_document_that_cannot_hold_so_long_a_text_is_refused_in_one_line(served: Reporter) -> None:
    known = json.dumps({"review": ["W" * 590] * 100})
    with client_of(served) as (client, _):
        path = "/v1/documents?form=secondary-capture"
        told = posted(client, path, data_of(dicom()), accept=SR, report="W" * 4000, known=known)
    assert (told.status_code, told.json()["error"]["param"]) == (400, "report")
    assert told.json()["error"]["message"].startswith("the text is too long for a picture")


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"report": " "}, 400, "report: is empty"),
        ({"known": "[]"}, 400, "known: "),
        ({"known": "{"}, 400, "known: Invalid JSON"),
        ({"known": '{"film_findings": [{"name": "Edema"}]}'}, 400, "film_findings.0.probability: "),
        ({"known": '{"film_findings": [{"name": "E", "probability": 2, "interval": [0, 1], "verdict": "likely"}]}'},
         400, "film_findings.0.probability: "),
        ({"known": '{"film_findings": [{"name": "E", "probability": 1, "interval": [0, 1], "verdict": "sure"}]}'},
         400, "film_findings.0.verdict: "),
        ({"known": '{"review": ["' + "x" * 1001 + '"]}'}, 400, "review.0: "),
        ({"known": known_of(name="Ede\x00ma")}, 400, "film_findings.0.name: must be printable, without control"),
        ({"known": known_of(name="Ede\u2028ma")}, 400, "film_findings.0.name: must be printable"),
        ({"known": known_of(name=" ")}, 400, "film_findings.0.name: must be printable"),
        ({"known": json.dumps({"regions": [{"sentence": "x", "finding": "\x1b", "view": 0, "outline": [[0, 0]] * 4}]})},
         400, "regions.0.finding: must be printable"),
        ({"known": "x" * 60_001}, 400, "known: has 60001 characters: at most 60000"),
        ({"report": "x" * 4001}, 400, "report: has 4001 characters: at most 4000"),
        ({"accept": "text/plain"}, 406, "Accept: this route gives application/fhir+json and application/dicom"),
        ({"indication": "x"}, 400, "indication: is another field than images (files) and frame, "),
    ],
    ids=["empty", "list", "broken", "short", "beyond", "verdict", "line",
         "control", "separator", "blank", "finding", "long", "long-text", "accept", "field"],
)  # fmt: skip
def test_what_can_be_no_document_is_refused_with_its_field(
    served: Reporter, changes: dict[str, str], status: int, words: str
) -> None:
    with client_of(served) as (client, _):
        given_ = posted(client, "/v1/documents", data_of(dicom()), **{"report": "x", "accept": FHIR, **changes})
    assert (given_.status_code, given_.json()["error"]["message"][: len(words)]) == (status, words)


def test_a_document_of_films_that_are_no_dicom_is_refused(served: Reporter) -> None:
    with client_of(served) as (client, _):
        given_ = posted(client, "/v1/documents", film(1), accept=FHIR, report="x")
    assert given_.status_code == 400
    assert "needs DICOM images, images[0] is none" in given_.json()["error"]["message"]


# ------------------------------------------------------------------ the queue


def job_of(beams: int = 1, told: str | None = None) -> Job:
    return Job(np.zeros((1, 3, 8, 8), np.float32), None, DecodeConfig(beam_size=beams), report_text=told)


def ended(job: Job) -> None:
    job.future.set_result(Answer(Report("study", ""), 0))


def test_a_job_knows_its_place_and_its_time_once_a_like_one_has_ended() -> None:
    clock = [0.0]
    line = Queue(9, 1, lambda: clock[0])
    jobs = [job_of() for _ in range(4)]
    assert line.standing(jobs[0]) == QueueProgress(None, None)
    for job in jobs:
        line.put(job)
    assert [line.standing(job) for job in jobs] == [QueueProgress(place, None) for place in (1, 2, 3, 4)]
    assert line.first() is jobs[0]
    assert line.standing(jobs[0]) == QueueProgress(0, None)
    clock[0] = 10.0
    ended(jobs[0])
    assert line.standing(jobs[0]) == QueueProgress(None, None)
    assert [line.standing(job) for job in jobs[1:]] == [
        QueueProgress(1, 10),
        QueueProgress(2, 20),
        QueueProgress(3, 30),
    ]
    line.first()
    clock[0] = 14.0
    assert [line.standing(job) for job in jobs[1:]] == [QueueProgress(0, 6), QueueProgress(1, 16), QueueProgress(2, 26)]
    clock[0] = 99.0
    assert [line.standing(job) for job in jobs[1:3]] == [QueueProgress(0, 0), QueueProgress(1, 10)], (
        "late: never below 0"
    )
    line.drop(jobs[1])
    assert [line.standing(job) for job in jobs[1:3]] == [QueueProgress(None, None), QueueProgress(1, 10)]


def test_maps_and_beams_have_a_pace_of_their_own_and_failures_none() -> None:
    clock = [0.0]
    line = Queue(9, 1, lambda: clock[0])
    for job, seconds in ((job_of(), 2.0), (job_of(told="x"), 30.0), (job_of(beams=3), 7.0)):
        line.put(job)
        line.first()
        clock[0] += seconds
        ended(job)
    broken = job_of()
    line.put(broken)
    line.first()
    clock[0] += 100
    broken.fail(ValueError("x"))
    waiting = [job_of(told="y"), job_of(), job_of(beams=3)]
    for job in waiting:
        line.put(job)
    assert [line.standing(job).seconds_left for job in waiting] == [30, 32, 39]


def test_who_leaves_is_waited_for_while_its_maps_are_made_and_not_while_its_report_is_written() -> None:
    """Maps are made to their end, whoever waits for them; a report is given up at the next token."""
    clock = [0.0]
    line = Queue(9, 1, lambda: clock[0])
    maps = [job_of(told="x"), job_of(told="y")]
    for job in (job_of(), *maps):
        line.put(job)
    for seconds in (2.0, 30.0):
        job_ = line.first()
        assert job_ is not None
        clock[0] += seconds
        ended(job_)
    assert line.first() is maps[1]
    line.drop(maps[1])
    waiting = job_of()
    line.put(waiting)
    assert line.standing(maps[1]) == QueueProgress(None, None)
    assert line.standing(waiting) == QueueProgress(1, 32)
    clock[0] += 30.0
    ended(maps[1])
    assert line.standing(waiting) == QueueProgress(1, 2)
    assert line.first() is waiting
    line.drop(waiting)
    next_ = job_of()
    line.put(next_)
    assert line.next_of(waiting, 1) is next_
    assert line.standing(next_) == QueueProgress(0, 2)


def test_several_at_once_move_a_queue_faster_than_one_takes() -> None:
    pace = Pace()
    for end in (8.0, 10.0, 12.0, 14.0):
        pace.ended("x", end - 8, end)
    assert pace.wait(["x"] * 4, "x", now=14.0, since=8.0) == 4 * 2 + 8


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    took=st.lists(st.floats(0.01, 1e4), min_size=1, max_size=3 * KEPT), ahead=st.integers(0, 20), gone=st.floats(0, 1e5)
)
def test_a_time_left_is_never_negative_nor_shorter_than_one_study(took: list[float], ahead: int, gone: float) -> None:
    pace, now = Pace(), 0.0
    for seconds in took:
        now += seconds
        pace.ended("x", now - seconds, now)
    rest, wait = pace.rest("x", gone), pace.wait(["x"] * ahead, "x", now + gone, now)
    assert rest is not None
    assert wait is not None
    assert rest >= 0
    assert wait >= min(took)


def test_who_waits_may_ask_for_its_place_by_its_own_ticket_alone(served: Reporter) -> None:
    import threading

    with client_of(served) as (client, generator), busy(generator) as go_on:
        ask = lambda: client.get(f"/v1/queue/{TICKET}").json()  # noqa: E731
        assert ask() == {"place": None, "seconds_left": None}
        headers = {"X-Ticket": TICKET}
        asked = {"files": upload(film(1)), "headers": headers}
        sent = threading.Thread(target=client.post, args=("/v1/reports",), kwargs=asked)
        sent.start()
        pause = threading.Event()
        while (told := ask())["place"] is None:
            pause.wait(0.005)
        assert told == {"place": 1, "seconds_left": None}
        assert client.get(f"/v1/queue/{TICKET[:-1]}x").json()["place"] is None
        go_on.set()
        sent.join()
        assert ask() == {"place": None, "seconds_left": None}
        assert client.app.state.server.tickets == {}  # type: ignore[attr-defined]  # FastAPI's


@pytest.mark.parametrize("ticket", ["short", "x" * 65, "with space in it 1234", "ü" * 20])
def test_a_ticket_that_could_be_guessed_is_refused(served: Reporter, ticket: str) -> None:
    with client_of(served) as (client, _):
        answers = (client.post("/v1/reports", headers={b"X-Ticket": ticket.encode()}, files=upload(film(1))),
                   client.get(f"/v1/queue/{ticket}"))  # fmt: skip
    assert [one.status_code for one in answers] == [400, 400]
    assert {one.json()["error"]["param"] for one in answers} == {"X-Ticket"}
