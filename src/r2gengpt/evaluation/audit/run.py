"""The questions of an audit, asked one by one, each answer kept as it comes. Judges no answer."""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, RunError
from r2gengpt.evaluation.audit import films
from r2gengpt.evaluation.audit.plan import Condition, Question
from r2gengpt.evaluation.audit.subjects import Answered, Subject
from r2gengpt.films.film import FilmStudy
from r2gengpt.films.reader import read_file
from r2gengpt.films.sources import study_of
from r2gengpt.progress import Bar
from r2gengpt.text.written import json_text

ANSWERS = "answers.jsonl"
COVERED = (Condition.OCCLUDED, Condition.OCCLUDED_ELSEWHERE)
OF_ANSWERS = tuple(one.name for one in fields(Answered))
Key = tuple[str, Condition]
"""A study's id and what was done to it."""


def ask(
    subject: Subject, questions: Sequence[Question], path: Path, about: Mapping[str, str], seed: int
) -> dict[Key, Answered]:
    """The answer to each question; those that the file holds, of the same films, words and boxes, are not asked again.

    Args:
        subject: who is asked.
        questions: what.
        path: the file of answers, one JSON object a line; the first one says whose they are.
        about: what else the answers depend on: data and seed.
        seed: of noise.

    Raises:
        InputError: the file is of another audit, an image cannot be read, or the subject refuses a film as it is.
        RunError: the subject fails.
    """
    head = {**subject.identity(), **about}
    found = kept_answers(path, head)
    records = {key_of(one): record_of(one) for one in questions}
    left = [one for one in questions if asked_in(records[key_of(one)]) not in found]
    with path.open("a", encoding="utf-8", newline="\n") as file, Bar(
        desc="audit", total=len(questions), initial=len(questions) - len(left), unit="report"
    ) as bar:  # fmt: skip
        for question in left:
            answer = subject.answer(shown_films(question, subject.side, seed), question.context)
            if answer.refused and question.condition == Condition.TRUE:
                raise RunError(f"study {question.study.id}: its own film is refused: {answer.refused}")
            record = records[key_of(question)]
            file.write(json_text({**record, **asdict(answer)}) + "\n")
            file.flush()
            found[asked_in(record)] = answer
            bar.update()
    return {key: found[asked_in(record)] for key, record in records.items()}


def key_of(question: Question) -> Key:
    """What an answer is found by."""
    return question.study.id, question.condition


def record_of(question: Question) -> dict[str, Any]:
    """What was shown and told, as a part of a line of the file of answers: films by the hashes of their files.

    Raises:
        InputError: a film cannot be read.
    """
    covered = question.study.boxes if question.condition in COVERED else ()
    return {
        "study": question.study.id,
        "condition": question.condition.value,
        "shown": question.shown.id,
        "films": [hashlib.sha256(read_file(path)).hexdigest() for path in question.shown.image_paths],
        "context": question.context,
        **({"boxes": [box.to_json() for box in covered]} if covered else {}),
    }


def asked_in(record: Mapping[str, Any]) -> str:
    """What was shown and told by a line, its answer left out: by it an answer of the same question is known again."""
    return json_text({name: value for name, value in record.items() if name not in OF_ANSWERS}, sort_keys=True)


def kept_answers(path: Path, head: Mapping[str, str]) -> dict[str, Answered]:
    """The answers of a file by `asked_in`; it begins anew where there is none, and half a line at its end is cut off.

    Raises:
        InputError: it is of another audit, or no file of answers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        path.write_text(json_text({"audit": dict(head)}) + "\n", encoding="utf-8")
        return {}
    try:
        first, *lines = [json.loads(line) for line in whole.splitlines()]
        kept = first["audit"]
        found = {asked_in(one): _answer(one) for one in lines}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is no file of answers: name another directory", field="output") from None
    if kept != dict(head):
        named = sorted(name for name in {*kept, *head} if kept.get(name) != head.get(name))
        words = f"holds answers of another audit ({', '.join(named)} differ): name another directory"
        raise InputError(words, field="output", value=path.parent)
    if len(whole) < len(content):
        path.write_bytes(whole)
    return found


def _answer(record: Mapping[str, Any]) -> Answered:
    findings = {name: (float(value), str(verdict)) for name, (value, verdict) in record["findings"].items()}
    return Answered(str(record["text"]), findings, str(record["refused"]))


def shown_films(question: Question, side: int | None, seed: int) -> FilmStudy:
    """The films of a question, changed as its condition says.

    Raises:
        InputError: an image cannot be read.
    """
    study = study_of(question.shown.image_paths, question.shown.dicom, side)
    pictures = [changed(question, place, picture, seed) for place, picture in enumerate(study.pictures)]
    shown = tuple(replace(film, picture=picture) for film, picture in zip(study.films, pictures, strict=True))
    return replace(study, films=shown, id=question.study.id)


def changed(question: Question, place: int, picture: Image.Image, seed: int) -> Image.Image:
    """One view as it is shown; boxes lie on the first one."""
    boxes = question.study.boxes if place == 0 else ()
    match question.condition:
        case Condition.BLANK | Condition.TEXT_ONLY:
            return films.blank(picture)
        case Condition.NOISE:
            return films.noise(picture, generator_of(question.study, place, seed))
        case Condition.FLIPPED:
            return films.mirrored(picture)
        case Condition.OCCLUDED:
            return films.covered(picture, boxes)
        case Condition.OCCLUDED_ELSEWHERE:
            return films.covered(picture, [films.opposite(box) for box in boxes])
        case _:
            return picture


def generator_of(study: Study, place: int, seed: int) -> np.random.Generator:
    """The generator of one view's noise, the same in every run."""
    return np.random.default_rng([seed, zlib.crc32(study.id.encode()), place])
