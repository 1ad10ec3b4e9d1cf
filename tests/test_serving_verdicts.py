"""Verdicts by HTTP: a receipt with each draft where they are kept, its verdict kept, and everything else refused."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from dicom_files import data_of
from dicom_files import film as dicom
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.prepare.verdicts import prepare_verdicts
from r2gengpt.films.dicom.header import read_header
from r2gengpt.provenance import Source
from r2gengpt.reporter import Reporter
from r2gengpt.serving.app import create_app
from r2gengpt.serving.receipts import film_features
from r2gengpt.settings import ServeConfig, VerdictsConfig
from r2gengpt.verdicts.address import opened_store
from r2gengpt.verdicts.receipt import BrokenReceipt, pseudonym, seal, unseal
from r2gengpt.verdicts.record import DraftFacts
from r2gengpt.verdicts.review.review import stored_review
from r2gengpt.verdicts.store import VerdictStore
from serving_parts import client_of, film, generator_of, upload

KEY = "0123456789abcdef"
LONG = 120.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VerdictStore]:
    opened = opened_store(str(tmp_path / "verdicts.db"))
    yield opened
    opened.close()


@contextmanager
def keeping(served: Reporter, store: VerdictStore) -> Iterator[TestClient]:
    """A client of a server that keeps verdicts."""
    settings = ServeConfig()
    generator = generator_of(served, settings)
    with TestClient(create_app(generator, settings, store), base_url="http://127.0.0.1") as client:
        yield client
    assert generator.stop(LONG)


def drafted(client: TestClient, *films: bytes) -> dict[str, Any]:
    answer = client.post("/v1/reports", files=upload(*(films or (film(1),))))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def said(draft: dict[str, Any], verdict: str = "accept", key: str = KEY, **more: str) -> dict[str, str]:
    return {"receipt": draft["receipt"], "verdict": verdict, "key": key, **more}


def test_a_draft_is_accepted_edited_and_rejected_and_each_is_kept(served: Reporter, store: VerdictStore) -> None:
    with keeping(served, store) as client:
        draft = drafted(client)
        accepted = client.post("/v1/verdicts", json=said(draft))
        edited = client.post("/v1/verdicts", json=said(draft, "edit", KEY + "1", text="There is a large effusion."))
        rejected = client.post("/v1/verdicts", json=said(draft, "reject", KEY + "2", reason="film", note="Blurred."))
    assert [one.status_code for one in (accepted, edited, rejected)] == [201] * 3
    assert accepted.json()["draft"] == draft["id"]
    assert (accepted.json()["sentences_changed"], accepted.json()["words_changed"]) == (0, 0)
    assert edited.json()["findings_added"] == ["Pleural Effusion"]
    kept = list(store.history())
    assert [one.judgement.verdict for one in kept] == ["accept", "edit", "reject"]
    assert {one.facts.text for one in kept} == {draft["findings"]}
    made = draft["provenance"]
    facts = kept[0].facts
    assert (facts.model_sha256, facts.delta_sha256) == (made["model_sha256"], made["delta_sha256"])
    assert list(facts.films) == [one["sha256"] for one in made["inputs"]]
    assert (kept[2].judgement.reason, kept[2].judgement.note) == ("film", "Blurred.")


@pytest.mark.parametrize(
    ("told", "band"),
    [
        ({"PatientAge": "045Y"}, "40 to 64"),
        ({"PatientAge": "006M"}, "under 18"),
        ({"PatientAge": "045Y", "PatientBirthDate": "20100101"}, "under 18"),
        ({"PatientAge": ""}, ""),
    ],
)
def test_a_film_without_a_date_of_birth_tells_the_age_all_the_same(
    served: Reporter, store: VerdictStore, told: dict[str, Any], band: str
) -> None:
    nothing = dicom(PatientBirthDate="", PatientSex="", SOPInstanceUID="1.2.9")
    told = {"PatientBirthDate": "", **told}
    with keeping(served, store) as client:
        draft = drafted(client, data_of(nothing), data_of(dicom(**told)))
    facts = unseal(draft["receipt"], store.key)
    assert (facts.age, facts.sex) == (band, "F")


def test_the_same_request_twice_is_one_verdict_and_another_under_its_key_a_conflict(
    served: Reporter, store: VerdictStore
) -> None:
    with keeping(served, store) as client:
        draft = drafted(client)
        answers = [client.post("/v1/verdicts", json=said(draft)) for _ in range(3)]
        other = client.post("/v1/verdicts", json=said(draft, "reject"))
    assert [one.status_code for one in answers] == [201, 200, 200]
    assert answers[0].json() == answers[2].json()
    assert (other.status_code, other.json()["error"]["param"]) == (409, "key")


def test_a_server_takes_the_receipts_of_another_one_of_the_same_store_and_of_no_other(
    served: Reporter, store: VerdictStore, tmp_path: Path
) -> None:
    other = opened_store(str(tmp_path / "other.db"))
    beside = opened_store(str(tmp_path / "verdicts.db"))
    with keeping(served, store) as client:
        draft = drafted(client)
    with keeping(served, beside) as client:
        assert client.post("/v1/verdicts", json=said(draft)).status_code == 201
    with keeping(served, other) as client:
        refused = client.post("/v1/verdicts", json=said(draft))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "receipt")
    other.close()
    beside.close()


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"receipt": "x"}, "receipt"),
        ({"receipt": "é.é"}, "receipt"),
        ({"receipt": "x" * 100_001}, "receipt"),
        ({"verdict": "maybe"}, "verdict"),
        ({"key": "short"}, "key"),
        ({"text": "An edit."}, "text"),
        ({"verdict": "edit"}, "text"),
        ({"verdict": "edit", "text": " \n"}, "text"),
        ({"verdict": "edit", "text": "a\0b"}, "text"),
        ({"verdict": "edit", "text": "x" * 20_001}, "text"),
        ({"verdict": "edit", "text": "a. " * 301}, "text"),
        ({"reason": "dislike"}, "reason"),
        ({"note": "x" * 1001}, "note"),
        ({"note": "\0"}, "note"),
        ({"reader": "me"}, "reader"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_field_and_nothing_is_kept(
    served: Reporter, store: VerdictStore, changes: dict[str, str], param: str
) -> None:
    with keeping(served, store) as client:
        answer = client.post("/v1/verdicts", json={**said(drafted(client)), **changes})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        for body in (b"", b"[]", b"{", b'{"text": "\\ud800"}', b"\xff"):
            assert client.post("/v1/verdicts", content=body).status_code == 400
        assert client.post("/v1/verdicts", content=b"x" * (2**19 + 1)).status_code == 413
    assert list(store.history()) == []


def test_a_server_without_a_store_gives_no_receipt_and_says_that_it_keeps_nothing(served: Reporter) -> None:
    with client_of(served) as (client, _):
        assert "receipt" not in drafted(client)
        answer = client.post("/v1/verdicts", json={"receipt": "x", "verdict": "accept", "key": KEY})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_verdicts")


def test_a_database_that_fails_is_told_and_the_same_request_is_kept_later(
    served: Reporter, store: VerdictStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise sa.exc.OperationalError("SELECT secret", {}, OSError("secret words of a patient"))

    with keeping(served, store) as client:
        request = said(drafted(client))
        monkeypatch.setattr(VerdictStore, "keep", broken)
        answer = client.post("/v1/verdicts", json=request)
        monkeypatch.undo()
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert client.post("/v1/verdicts", json=request).status_code == 201
    assert "verdicts: the database failed: OSError" in caplog.text
    assert "secret" not in caplog.text + answer.text


def test_a_receipt_of_dicom_has_band_sex_view_and_device_and_names_nobody(
    served: Reporter, store: VerdictStore
) -> None:
    data = data_of(
        dicom(
            PatientID="P-77",
            PatientName="Doe^Jane",
            PatientBirthDate="19800229",
            PatientSex="F",
            StudyDate="20200301",
            ViewPosition="PA",
            Manufacturer="Maker",
            ManufacturerModelName="One\\Two",
        )
    )
    assert read_header(data, "film").device == "Maker One"
    with keeping(served, store) as client:
        draft = drafted(client, data)
        again = drafted(client, data)
    facts = unseal(draft["receipt"], store.key)
    assert (facts.age, facts.sex, facts.view, facts.device) == ("40 to 64", "F", "PA", "Maker One")
    assert facts.patient == unseal(again["receipt"], store.key).patient != ""
    assert not [word for word in ("P-77", "Doe", "19800229", "20200301") if word in repr(facts)]


def test_the_events_of_a_draft_end_with_its_receipt(served: Reporter, store: VerdictStore) -> None:
    with keeping(served, store) as client:
        answer = client.post("/v1/reports", files=upload(film(1)), headers={"Accept": "text/event-stream"})
    assert '"receipt": "' in answer.text.split("data: ")[-2]


def test_a_draft_that_was_edited_is_reviewed_and_becomes_a_study_of_its_film(
    served: Reporter, store: VerdictStore, tmp_path: Path
) -> None:
    data = data_of(dicom(PatientID="P-77", PatientName="Doe^Jane", PatientSex="F", Manufacturer="Maker"))
    (tmp_path / "films" / "deep").mkdir(parents=True)
    (tmp_path / "films" / "deep" / "any.dcm").write_bytes(data)
    (tmp_path / "salt").write_text("0123456789abcdef")
    with keeping(served, store) as client:
        edit = said(drafted(client, data), "edit", text="The heart is enlarged.")
        assert client.post("/v1/verdicts", json=edit).status_code == 201
    place = str(store.engine.url.database)
    found = stored_review(VerdictsConfig(verdicts=place))
    assert (found.whole.outcomes.edited.count, found.judged.drafts[0].needs_review) == (1, False)
    assert {group.name: group.groups[0].value for group in found.groupings}["device"] == "Maker"
    done = prepare_verdicts(place, tmp_path / "out.json", tmp_path / "films", tmp_path / "salt")
    (study,) = [one for split in read_annotation(done.path, tmp_path / "films").values() for one in split]
    assert (study.report, study.sex, study.views) == ("The heart is enlarged.", "F", ("PA",))
    assert study.image_paths == (tmp_path / "films" / "deep" / "any.dcm",)


FACTS = DraftFacts("report-1", 1, "Größe 心.", "m", None, None, "0", ("a",), features={"x": 0.5})


def test_a_receipt_comes_back_whole_and_no_sign_of_it_can_be_changed() -> None:
    key = b"k" * 32
    receipt = seal(FACTS, key)
    assert unseal(receipt, key) == FACTS
    body, _, mark = receipt.partition(".")
    other = seal(replace(FACTS, text="Another."), b"another key")
    for bad in (body, f"{body}.", f".{mark}", f"{other.partition('.')[0]}.{mark}", receipt[1:], ""):
        with pytest.raises(BrokenReceipt):
            unseal(bad, key)


def test_a_receipt_from_before_an_update_of_the_server_is_taken() -> None:
    key = b"k" * 32
    values = {name: value for name, value in asdict(FACTS).items() if name != "needs_review"}
    body = json.dumps([1, values]).encode()
    mark = hmac.new(key, b"receipt " + body, hashlib.sha256).digest()
    old = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (body, mark))
    assert unseal(old, key) == FACTS


def test_a_pseudonym_depends_on_the_key_and_an_empty_name_has_none() -> None:
    one, other = pseudonym("P-77", b"a"), pseudonym("P-77", b"b")
    assert one != other
    assert len(one) == 32
    assert pseudonym("", b"a") == ""


def test_numbers_of_a_film_tell_bright_from_dark_and_sharp_from_smooth() -> None:
    source = Source("a", "PNG", (300, 200), (200, 300))
    smooth = np.broadcast_to(np.linspace(0, 1, 32, dtype=np.float32), (1, 3, 32, 32))
    noisy = np.random.default_rng(0).random((1, 3, 32, 32)).astype(np.float32)
    dark, bright, sharp = (film_features(pixels, [source]) for pixels in (smooth - 1, smooth, noisy))
    assert bright["brightness"] - dark["brightness"] == pytest.approx(1, abs=1e-3)
    assert bright["contrast"] == dark["contrast"]
    assert sharp["sharpness"] > 3 * bright["sharpness"]
    assert (bright["pixels, millions"], bright["width over height"], bright["films"]) == (0.06, 0.6667, 1)
