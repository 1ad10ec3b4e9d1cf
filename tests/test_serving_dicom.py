"""DICOM at the server: read as the program reads it, answered in the archive's forms, and no patient in a log."""

import base64
import hashlib
import io
import json
import logging
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from starlette.testclient import TestClient

from dicom_files import ROOT, data_of, film, ramp
from r2gengpt.films.dicom.header import LARGEST_ELEMENT, MOST_READS
from r2gengpt.films.reader import decode_image
from r2gengpt.reporter import Reporter
from r2gengpt.text.written import NOTICE
from serving_parts import client_of, upload
from serving_parts import film as png
from test_dicom import damage
from test_serving_api import CHAT, EVIDENCE, REPORTS, alone
from test_serving_safety import NAMES

PREVIEW = "/v1/preview"
SIDE: dict[str, Any] = {"SOPInstanceUID": f"{ROOT}4", "ViewPosition": "LL", "ImageLaterality": "L"}


@pytest.fixture(scope="module")
def client(served: Reporter) -> Iterator[TestClient]:
    with client_of(served, max_megapixels=1, max_body_mb=4) as (client, _):
        yield client


def asked_for(
    client: TestClient, *files: bytes, kind: str = "application/json", path: str = REPORTS, **fields: Any
) -> Any:
    return client.post(path, files=upload(*files), data=fields, headers={"Accept": kind})


def chat_of(data: bytes, **more: Any) -> dict[str, Any]:
    url = f"data:application/dicom;base64,{base64.b64encode(data).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}]
    return {"model": "best", "messages": [{"role": "user", "content": content}], **more}


# ------------------------------------------------------------------ in


def test_a_study_of_two_dicom_views_is_read_as_the_program_reads_it(client: TestClient, served: Reporter) -> None:
    films = [data_of(film()), data_of(film(ramp()[::-1], **SIDE))]
    answer = asked_for(client, *films).json()
    assert answer["findings"] == alone(served, films, served.decode).text
    made = answer["provenance"]
    assert made["sop_instance_uids"] == [f"{ROOT}3", f"{ROOT}4"]
    assert [(one["format"], one["width"], one["height"], one["view"]) for one in made["inputs"]] == [
        ("DICOM", 32, 40, "PA"),
        ("DICOM", 32, 40, "LL L"),
    ]
    assert [one["sha256"] for one in made["inputs"]] == [hashlib.sha256(one).hexdigest() for one in films]
    for secret in ("Muster", "P-1", "A 77", "19500102", f"{ROOT}1"):
        assert secret not in json.dumps(answer)


def test_a_chat_reads_dicom_as_a_data_url_with_its_frame_and_force(client: TestClient, served: Reporter) -> None:
    frames = data_of(film(np.stack([ramp(), ramp()[::-1]]), 12, Modality="RF"))
    second = data_of(film(ramp()[::-1], Modality="DX"))
    given = client.post(CHAT, json=chat_of(frames, frame=2, force=True))
    assert given.status_code == 200
    wanted = alone(served, [second], served.decode).text
    assert given.json()["choices"][0]["message"]["content"] == wanted
    assert given.json()["provenance"]["sop_instance_uids"] == [f"{ROOT}3"]
    assert client.post(CHAT, json=chat_of(frames)).status_code == 400
    assert client.post(CHAT, json=chat_of(frames, frame=0)).status_code == 400


FRAMES = data_of(film(np.stack([ramp(), ramp()[::-1]])))


@pytest.mark.parametrize(
    ("files", "fields", "status", "words"),
    [
        ([data_of(film(Modality="CT"))], {}, 400, "modality is CT, must be CR, DX, DR (force reads it all the same)"),
        ([data_of(film(BodyPartExamined="KNEE"))], {}, 400, "shows KNEE, must be a chest film (force"),
        ([FRAMES], {}, 400, "has 2 frames: name one with frame, 1 to 2"),
        ([FRAMES], {"frame": "3"}, 400, "frame 3: image images[0] has frames 1 to 2"),
        ([png()], {"frame": "1"}, 400, "frame 1: belongs to DICOM, and none of the images is"),
        ([FRAMES], {"frame": "-1"}, 400, "frame: must be a number from 1"),
        ([FRAMES], {"frame": "9" * 40}, 400, "frame: must be a number from 1"),
        ([FRAMES], {"frame": "000000001" + "9" * 8}, 400, "frame: must be a number from 1"),
        ([FRAMES], {"frame": "000000001" + "9" * 5000}, 400, "frame: must be a number from 1"),
        ([FRAMES], {"force": "yes"}, 400, "force: must be true or false"),
        ([data_of(film()), data_of(film(StudyInstanceUID=f"{ROOT}9"))], {}, 400, "are of two studies"),
        ([data_of(film())[:-700]], {}, 400, "images[0]: its DICOM pixels cannot be decoded"),
        ([data_of(film(Rows=1001, Columns=1000))], {}, 413, "1001000 pixels: at most 1 million"),
        ([data_of(film(Rows=None))], {}, 400, "its Rows is missing"),
    ],
)
def test_what_the_program_refuses_the_server_refuses_in_the_same_words(
    client: TestClient, files: list[bytes], fields: dict[str, str], status: int, words: str
) -> None:
    refused = asked_for(client, *files, **fields)
    said = refused.json()["error"]["message"]
    assert (refused.status_code, words in said) == (status, True), said
    assert "Muster" not in said
    assert "--" not in said


def test_without_pydicom_dicom_is_refused_and_png_is_not(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2gengpt.serving.films.find_spec", lambda name: None)
    for refused in (asked_for(client, data_of(film())), client.post(CHAT, json=chat_of(data_of(film())))):
        assert refused.status_code == 415
        assert "lacks the extra dicom" in refused.json()["error"]["message"]
    assert asked_for(client, png()).status_code == 200


def test_what_may_mislead_in_a_file_is_told_in_the_answer(client: TestClient) -> None:
    made = asked_for(client, data_of(film(BurnedInAnnotation="YES"))).json()["provenance"]
    (said,) = made["inputs"][0]["warnings"]
    assert "burned-in annotation" in said


def test_dicom_has_maps_too(client: TestClient) -> None:
    given = asked_for(client, data_of(film()), path=EVIDENCE, report="The heart is large.")
    assert [one["text"] for one in given.json()["sentences"]] == ["The heart is large."]


# ------------------------------------------------------------------ out


def test_a_report_as_fhir_is_a_preliminary_bundle_that_loads(client: TestClient, served: Reporter) -> None:
    one = data_of(film())
    given = asked_for(client, one, kind="application/fhir+json")
    assert (given.status_code, given.headers["content-type"]) == (200, "application/fhir+json")
    entries = Bundle.model_validate_json(given.content).entry
    (report,) = [entry.resource for entry in entries if entry.resource.get_resource_type() == "DiagnosticReport"]
    assert report.status == "preliminary"
    assert NOTICE in given.text
    assert given.headers["x-notice"] == NOTICE
    words = " ".join(alone(served, [one], served.decode).text.split())
    assert words in str(given.json())


def test_a_report_as_dicom_is_an_unverified_sr_that_is_the_same_each_time(client: TestClient) -> None:
    one, other = (asked_for(client, data_of(film()), kind="application/dicom") for _ in range(2))
    assert (one.status_code, one.headers["content-type"]) == (200, "application/dicom")
    sr, again = (dcmread(io.BytesIO(given.content)) for given in (one, other))
    assert (sr.Modality, sr.VerificationFlag, sr.PreliminaryFlag) == ("SR", "UNVERIFIED", "PRELIMINARY")
    assert (sr.PatientID, sr.StudyInstanceUID) == ("P-1", f"{ROOT}1")
    assert sr.SOPInstanceUID == again.SOPInstanceUID


@pytest.mark.parametrize("kind", ["application/fhir+json", "application/dicom"])
def test_archives_forms_are_refused_where_images_are_not_of_an_archive(client: TestClient, kind: str) -> None:
    """Before anything is written: no token is counted."""
    tokens = [written(client)]
    refused = asked_for(client, data_of(film()), png(), kind=kind)
    assert refused.status_code == 400
    assert f"Accept {kind}: needs DICOM images, images[1] is none" in refused.json()["error"]["message"]
    nowhere = asked_for(client, data_of(film(StudyInstanceUID="x")), kind=kind)
    assert "no valid study UID" in nowhere.json()["error"]["message"]
    assert [written(client)] == tokens


def written(client: TestClient) -> str:
    """The count of tokens, as `/metrics` has it."""
    return next(line for line in client.get("/metrics").text.splitlines() if line.startswith("r2gengpt_tokens_total"))


def test_archives_forms_that_the_server_cannot_give_are_refused_by_name(
    served: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread = replace(served)
    vars(spread)["origin"] = replace(served.origin, model_sha256=None)
    with client_of(spread) as (client, _):
        refused = asked_for(client, data_of(film()), kind="application/dicom")
        assert (refused.status_code, "hash of the weights" in refused.text) == (406, True)
        monkeypatch.setattr("r2gengpt.clinical.documents.forms.find_spec", lambda name: None)
        refused = asked_for(client, data_of(film()), kind="application/fhir+json")
        assert (refused.status_code, "needs fhir" in refused.text) == (406, True)


# ------------------------------------------------------------------ preview


def test_a_preview_is_the_film_as_a_viewer_first_shows_it(client: TestClient) -> None:
    data = data_of(film(PhotometricInterpretation="MONOCHROME1", BurnedInAnnotation="YES"))
    given = asked_for(client, data, path=PREVIEW)
    assert (given.status_code, given.headers["content-type"]) == (200, "image/png")
    picture = Image.open(io.BytesIO(given.content))
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), np.asarray(decode_image(data, "x"))[..., 0])
    assert (given.headers["x-view"], "burned-in" in given.headers["x-warning"]) == ("PA", True)
    assert "Muster" not in str(given.headers)


def test_a_preview_says_what_would_undo_its_refusal(client: TestClient) -> None:
    frames = asked_for(client, FRAMES, path=PREVIEW)
    assert (frames.status_code, frames.json()["error"]["code"], frames.headers["x-frames"]) == (
        400,
        "frame_needed",
        "2",
    )
    other = asked_for(client, data_of(film(Modality="CT")), path=PREVIEW)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "force_needed")
    assert asked_for(client, data_of(film(Modality="CT")), path=PREVIEW, force="true").status_code == 200
    second = asked_for(client, FRAMES, path=PREVIEW, frame="2")
    wanted = np.asarray(decode_image(data_of(film(ramp()[::-1])), "x"))[..., 0]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(second.content))), wanted)
    assert asked_for(client, png(), png(), path=PREVIEW).status_code == 400


def test_a_preview_of_a_large_film_is_small_enough_to_send(served: Reporter) -> None:
    with client_of(served) as (client, _):
        given = asked_for(client, data_of(film(ramp(3000, 2500))), path=PREVIEW)
    assert max(Image.open(io.BytesIO(given.content)).size) <= 2048


# ------------------------------------------------------------------ patients


@settings(max_examples=6, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, number=st.text("123456789", min_size=10, max_size=16), broken=st.booleans())
def test_no_patient_or_study_of_a_dicom_file_is_in_logs_or_metrics(
    client: TestClient, caplog: pytest.LogCaptureFixture, name: str, number: str, broken: bool
) -> None:
    """Names and numbers in every element that may tell a person, of wrong form too, in warnings, in refusals."""
    caplog.clear()
    planted: dict[str, Any] = {
        "PatientName": f"{name}^Erika", "PatientID": number, "AccessionNumber": number, "StudyID": name,
        "StudyInstanceUID": f"{ROOT}{number}", "SOPInstanceUID": f"{ROOT}1{number}", "StudyDate": "notADate",
        "PatientBirthDate": name, "ReferringPhysicianName": name, "StudyDescription": name, "BurnedInAnnotation": "YES",
        "PresentationIntentType": "FOR PROCESSING", "BodyPartExamined": f"CHEST {name}", "ViewPosition": name[:16],
    }  # fmt: skip
    data = data_of(film(**planted))
    data = data[:-800] if broken else data
    logger = logging.getLogger("r2gengpt")
    kept = logger.propagate
    logger.propagate = True
    try:
        with caplog.at_level("DEBUG"):
            answers = [
                *(asked_for(client, data, kind=kind) for kind in ("application/json", "application/fhir+json")),
                *(asked_for(client, data, kind=kind) for kind in ("application/dicom", "text/event-stream")),
                client.post(CHAT, json=chat_of(data)),
                asked_for(client, data, path=PREVIEW),
                asked_for(client, data, path=EVIDENCE, report="The heart is large."),
                asked_for(client, data, data_of(film())),  # of two studies
            ]
    finally:
        logger.propagate = kept
    assert [one.status_code for one in answers] == [400 if broken else 200] * 7 + [400]
    ours = " ".join(record.getMessage() for record in caplog.records)
    assert len(caplog.records) >= len(answers)
    assert not [secret for secret in (name, number, ROOT) if secret in ours + client.get("/metrics").text]


# ------------------------------------------------------------------ damage


def dicom_seeds() -> list[bytes]:
    """Files of several encodings, with tables, frames and colours."""
    colours = film(ramp(bits=8), 8)
    files = [data_of(film()), data_of(film())[132:], FRAMES, data_of(colours)]
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        packed = film(WindowCenter=2048, WindowWidth=4096)
        packed.compress(syntax, generate_instance_uid=False)
        files.append(data_of(packed))
    return files


def fuzz_dicom(client: TestClient, seed: int, count: int) -> None:
    """Only answers of 200 or 4xx with a message that names nobody; afterwards a good study is answered as before."""
    rng, files = random.Random(seed), dicom_seeds()
    good = asked_for(client, files[0]).json()["findings"]
    statuses = []
    for number in range(count):
        data = damage(rng.choice(files), rng)
        if number % 4 == 0:
            answer = client.post(CHAT, json=chat_of(data, **({"frame": 1} if rng.random() < 0.3 else {})))
        elif number % 4 == 1:
            answer = asked_for(client, data, path=PREVIEW, force=rng.choice(("true", "false")))
        else:
            kind = rng.choice(("application/json", "application/fhir+json", "application/dicom", "text/event-stream"))
            answer = asked_for(client, data, kind=kind)
        statuses.append(answer.status_code)
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, base64.b64encode(data)
        assert answer.status_code == 200 or "Muster" not in answer.json()["error"]["message"]
    assert statuses.count(200) > count // 10
    assert statuses.count(200) < count * 9 // 10
    assert asked_for(client, files[0]).json()["findings"] == good


def test_damaged_dicom_files_are_answered_and_the_server_goes_on(client: TestClient) -> None:
    fuzz_dicom(client, seed=0, count=60)


@pytest.mark.drill
def test_many_damaged_dicom_files_are_answered_and_the_server_goes_on(client: TestClient) -> None:
    fuzz_dicom(client, seed=1, count=2000)


def with_elements(body: bytes) -> bytes:
    """A film with further elements in place of its pixels."""
    data = data_of(film())
    return data[: data.index(b"\xe0\x7f\x10\x00")] + body


@pytest.mark.parametrize(
    "body",
    [
        b"".join(struct.pack("<HH2sH", 0x7001, 1 + number % 0xFF00, b"CS", 0) for number in range(MOST_READS)),
        struct.pack("<HH2sHL", 0x7001, 1, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * MOST_READS,
    ],
    ids=["elements", "items"],
)
def test_a_file_of_countless_elements_is_not_taken_apart(client: TestClient, body: bytes) -> None:
    refused = asked_for(client, with_elements(body))
    assert (refused.status_code, f"more than {MOST_READS} DICOM elements" in refused.text) == (400, True)


def test_a_huge_sequence_that_is_asked_for_is_not_taken_apart(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view's code: a megabyte of empty items, which were a hundred thousand objects."""
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * (2 * LARGEST_ELEMENT // 8)
    body = struct.pack("<HH2sHL", 0x0054, 0x0220, b"SQ", 0, len(items)) + items
    data = data_of(film(ViewPosition=None))
    whole = data[: data.index(b"\xe0\x7f\x10\x00")] + body + data[data.index(b"\xe0\x7f\x10\x00") :]
    monkeypatch.setattr("pydicom.sequence.Sequence.__init__", refuse)
    given = asked_for(client, whole)
    assert (given.status_code, given.json()["provenance"]["inputs"][0]["view"]) == (200, "")


def refuse(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("the sequence was taken apart")
