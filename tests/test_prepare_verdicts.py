"""Readers' final texts as training data: ids hashed, patients apart, nothing that names anybody, all else listed."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Outcome
from dicom_files import data_of
from dicom_files import film as dicom
from r2gengpt.data.annotation import Preparation, check_images, read_annotation
from r2gengpt.data.prepare.verdict_patients import own_words, patients_of
from r2gengpt.data.prepare.verdicts import (
    BURNED_IN,
    MISSING,
    NAMED_PATH,
    OLDER,
    REJECTED,
    prepare_verdicts,
)
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.verdicts.address import opened_store
from r2gengpt.verdicts.record import DraftFacts, ReaderVerdict
from r2gengpt.verdicts.store import VerdictStore
from verdict_parts import MONDAY, NORMAL, kept_of

Run = Callable[[list[str]], Outcome]
EDITED = "The heart is enlarged. No pleural effusion."


@dataclass
class Clinic:
    """A store, its films in a directory, and a secret."""

    here: Path
    store: VerdictStore
    count: int = 0

    @property
    def films(self) -> Path:
        return self.here / "films"

    def film(self, name: str = "", **more: Any) -> str:
        """The hash of a new film: a PNG, or with elements of DICOM one of those."""
        self.count += 1
        path = self.films / (name or f"{self.count}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        if more:
            path.write_bytes(data_of(dicom(**more)))
        else:
            Image.new("L", (8, 8), self.count).save(path, "PNG")
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def keep(self, *films: str, verdict: str = "accept", text: str = "", draft: str = NORMAL, patient: str = "") -> int:
        """The number of a new verdict on a new draft."""
        self.count += 1
        facts = DraftFacts(
            id=f"report-{self.count}",
            created=int(MONDAY.timestamp()),
            text=draft,
            model="ours",
            model_sha256="a" * 64,
            delta_sha256=None,
            version="0.1.0",
            films=films,
            patient=patient,
            view="PA",
        )
        return self.store.keep(facts, ReaderVerdict(verdict, f"key-{self.count:016}", text), MONDAY)[0].number

    def prepared(self, **more: bool | Path) -> Preparation:
        place = self.store.engine.url.database or ""
        return prepare_verdicts(place, self.here / "out.json", self.films, self.here / "salt", **more)  # type: ignore[arg-type]

    def studies(self, **more: bool | Path) -> list[Study]:
        read = read_annotation(self.prepared(**more).path, self.films)
        studies = [study for split in read.values() for study in split]
        check_images(studies)
        return studies

    def left_out(self) -> dict[int, list[str]]:
        rows = json.loads((self.here / "out.left_out.json").read_text(encoding="utf-8"))["left_out"]
        return {row["verdict"]: row["reasons"] for row in rows}


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    (tmp_path / "films").mkdir()
    (tmp_path / "salt").write_text("0123456789abcdef\n")
    store = opened_store(str(tmp_path / "verdicts.db"))
    yield Clinic(tmp_path, store)
    store.close()


# ------------------------------------------------------------------ what is written


def test_accepted_and_edited_texts_become_studies_with_their_films(clinic: Clinic) -> None:
    first, second, third = clinic.film(), clinic.film("deep/er/2.png"), clinic.film()
    clinic.keep(first, second)
    clinic.keep(third, verdict="edit", text=f"  {EDITED}\n")
    rejected = clinic.keep(clinic.film(), verdict="reject")
    found = {study.report: study for study in clinic.studies()}
    assert set(found) == {NORMAL, EDITED}
    assert [path.name for path in found[NORMAL].image_paths] == ["1.png", "2.png"]
    assert (found[EDITED].views, found[NORMAL].views) == (("PA",), ())
    assert clinic.left_out() == {rejected: [REJECTED]}


def test_ids_are_hashed_under_the_secret_and_are_the_same_each_time(clinic: Clinic) -> None:
    clinic.keep(clinic.film(), patient="d" * 32)
    first, again = clinic.studies(), clinic.studies()
    assert first == again
    (clinic.here / "salt").write_text("another secret of bytes")
    other = clinic.studies()
    assert {first[0].id, first[0].patient}.isdisjoint({other[0].id, other[0].patient})
    text = (clinic.here / "out.json").read_text(encoding="utf-8")
    assert not [name for name in ("report-", "d" * 32, "another secret") if name in text]


def test_no_patient_and_no_film_is_in_two_splits(clinic: Clinic) -> None:
    for number in range(40):
        films = [clinic.film() for _ in range(3)]
        clinic.keep(films[0], patient=f"{number:032x}")
        clinic.keep(films[0], films[1])  # no name, but a film of that patient
        clinic.keep(films[1], films[2])
    studies = clinic.studies()
    assert len(studies) == 120
    assert len({study.patient for study in studies}) == 40
    assert len({(study.patient, study.split) for study in studies}) == 40
    assert {study.split for study in studies} == {"train", "val", "test"}


def test_a_patient_keeps_the_split_as_the_store_grows(clinic: Clinic) -> None:
    films = [clinic.film() for _ in range(20)]
    for number, film in enumerate(films):
        clinic.keep(film, patient=f"{number:032x}")
    before = {study.patient: study.split for study in clinic.studies()}
    for number, film in enumerate(films):
        clinic.keep(film, clinic.film(), patient=f"{number:032x}")
    after = {study.patient: study.split for study in clinic.studies()}
    assert after == before


def test_the_newest_of_several_drafts_of_the_same_films_counts(clinic: Clinic) -> None:
    film = clinic.film()
    old = clinic.keep(film)
    clinic.keep(film, verdict="edit", text=EDITED)
    assert [study.report for study in clinic.studies()] == [EDITED]
    assert clinic.left_out() == {old: [OLDER]}


def test_edits_alone_are_taken_on_demand(clinic: Clinic) -> None:
    clinic.keep(clinic.film())
    clinic.keep(clinic.film(), verdict="edit", text=EDITED)
    assert [study.report for study in clinic.studies(edited_only=True)] == [EDITED]


def test_a_verdict_that_was_taken_back_is_no_training_data(clinic: Clinic) -> None:
    clinic.keep(clinic.film())
    kept = next(clinic.store.history())
    clinic.store.keep(kept.facts, ReaderVerdict("withdraw", "key-of-a-withdrawal"), MONDAY)
    with pytest.raises(InputError, match="no study is left of 0"):
        clinic.prepared()


# ------------------------------------------------------------------ what is left out


def test_films_that_are_not_there_are_listed_with_their_verdict(clinic: Clinic) -> None:
    clinic.keep(clinic.film())
    gone = clinic.keep(clinic.film(), "f" * 64)
    done = clinic.prepared()
    assert dict(done.skipped) == {MISSING: 1}
    listed = json.loads((clinic.here / "out.left_out.json").read_text(encoding="utf-8"))
    assert listed == {"left_out": [{"verdict": gone, "reasons": [MISSING], "films": ["f" * 64]}]}


def test_texts_that_may_name_somebody_are_left_out_and_stand_in_no_file(clinic: Clinic) -> None:
    clinic.keep(clinic.film())
    named = {
        clinic.keep(clinic.film(), verdict="edit", text=text): reason
        for text, reason in {
            "Compared with 03/14/2024 the effusion is smaller.": "the text holds a date or time",
            "Discussed with the ward, pager 4512.": "the text holds a telephone number",
            "MRN 4711. Clear lungs.": "the text holds a number of a person",
            "Clear lungs, as Quimby told.": "the text holds a name",
        }.items()
    }
    done = clinic.prepared()
    left = clinic.left_out()
    assert {number: reason in left[number] for number, reason in named.items()} == dict.fromkeys(named, True)
    assert sum(done.skipped.values()) == len(named)
    written = "".join(path.read_text(encoding="utf-8") for path in clinic.here.glob("out*.json"))
    assert not [word for word in ("03/14", "4512", "4711", "Quimby") if word in written]


def test_the_name_and_the_numbers_of_a_dicom_film_are_looked_for_in_its_text(clinic: Clinic) -> None:
    elements = {"PatientName": "Long^Erika", "PatientID": "P-77", "AccessionNumber": "A 77"}
    texts = ["A long line is in place.", "The heart of erika is enlarged.", "Clear lungs, p77.", "Clear lungs, a-77."]
    films = [clinic.film(f"{at}.dcm", **elements, StudyID=str(at)) for at in range(5)]
    numbers = [clinic.keep(film, verdict="edit", text=text) for film, text in zip(films, texts, strict=False)]
    clinic.keep(films[4], verdict="edit", text=EDITED)
    assert [study.report for study in clinic.studies()] == [EDITED]
    assert {number: reasons[0] for number, reasons in clinic.left_out().items()} == dict.fromkeys(
        numbers, "the text holds the patient's own name or number"
    )


def test_a_film_whose_path_names_its_patient_or_whose_picture_has_writing_is_left_out(clinic: Clinic) -> None:
    clinic.keep(clinic.film())
    path = clinic.keep(clinic.film("muster/1.dcm", PatientName="Muster^Erika"))
    burned = clinic.keep(clinic.film("2.dcm", BurnedInAnnotation="YES"))
    assert len(clinic.studies()) == 1
    assert clinic.left_out() == {path: [NAMED_PATH], burned: [BURNED_IN]}


def test_a_link_out_of_the_directory_is_no_film_of_it(clinic: Clinic) -> None:
    clinic.keep(clinic.film())
    film = clinic.film()
    outside = (clinic.films / f"{clinic.count}.png").rename(clinic.here / "outside.png")
    (clinic.films / "link.png").symlink_to(outside)
    number = clinic.keep(film)
    clinic.prepared()
    assert clinic.left_out() == {number: [MISSING]}


# ------------------------------------------------------------------ words and patients


def texts_of(*drafts: str, patients: Sequence[str] = ()) -> frozenset[str]:
    facts = DraftFacts("", 0, "", "m", None, None, "0", ())
    return own_words(
        kept_of(
            replace(facts, id=f"report-{at}", text=text, patient=patients[at] if patients else f"p{at}"),
            ReaderVerdict("accept", "key"),
            MONDAY,
            at,
        )
        for at, text in enumerate(drafts)
    )


def test_a_word_is_the_models_own_where_drafts_of_three_patients_have_it() -> None:
    assert texts_of("Sternoclavicular joints.", "sternoclavicular", "Sternoclavicular") == {"sternoclavicular"}
    assert texts_of("Quimby.", "Quimby.") == set()
    assert texts_of("Quimby.", "Quimby.", "Quimby.", patients=("a", "a", "b")) == set()


def test_drafts_without_film_and_patient_are_of_nobody_else() -> None:
    facts = DraftFacts("", 0, "", "m", None, None, "0", ())
    both = [kept_of(replace(facts, id=name), ReaderVerdict("accept", "k"), MONDAY, 1) for name in ("a", "b")]
    assert len(set(patients_of(both).values())) == 2


def test_words_of_a_file_are_no_names(clinic: Clinic, tmp_path: Path) -> None:
    clinic.keep(clinic.film(), verdict="edit", text="Quimby sign is absent.")
    with pytest.raises(InputError, match="no study is left of 1: 1 the text holds a name"):
        clinic.prepared()
    (tmp_path / "words").write_text("quimby\n")
    assert [study.report for study in clinic.studies(words=tmp_path / "words")] == ["Quimby sign is absent."]


# ------------------------------------------------------------------ the command


def test_the_command_tells_what_was_written_and_left_out(run_cli: Run, clinic: Clinic) -> None:
    clinic.keep(clinic.film())
    clinic.keep(clinic.film(), verdict="reject")
    words = ["--films", str(clinic.films), "--salt_file", str(clinic.here / "salt")]
    output = clinic.here / "a.json"
    done = run_cli(
        ["prepare", "verdicts", "--verdicts", str(clinic.here / "verdicts.db"), *words, "--output", str(output)]
    )
    assert done.code == 0, done.stderr
    assert f"left out: 1 {REJECTED}" in done.stdout
    assert done.stdout.endswith(f"left out, one by one: {clinic.here / 'a.left_out.json'}: {output}\n")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"verdicts": "none.db"}, "--verdicts {here}/none.db: no such file"),
        ({"films": "none"}, "--films {here}/none: is no directory"),
        ({"salt_file": "none"}, "--salt_file {here}/none: No such file or directory"),
        ({"salt_file": "short"}, "--salt_file {here}/short: holds 5 bytes: at least 16"),
        ({"words": "none"}, "--words {here}/none: No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_line(run_cli: Run, clinic: Clinic, changes: dict[str, str], line: str) -> None:
    (clinic.here / "short").write_text("short\n")
    names = {"verdicts": "verdicts.db", "films": "films", "salt_file": "salt", "output": "a.json", **changes}
    words = [word for name, file in names.items() for word in (f"--{name}", str(clinic.here / file))]
    done = run_cli(["prepare", "verdicts", *words])
    assert done.code == 2
    assert done.stderr.startswith(f"r2gengpt prepare: {line.format(here=clinic.here)}")
    assert done.stderr.count("\n") == 1
