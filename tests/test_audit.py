"""The grounding audit: films changed on purpose, who is asked, and what the answers tell of a model."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Outcome, TinySet
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.boxes import Marked
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError, RunError
from r2gengpt.evaluation.audit import films
from r2gengpt.evaluation.audit.audit import run_audit
from r2gengpt.evaluation.audit.endpoint import Endpoint
from r2gengpt.evaluation.audit.plan import Condition, Question, plan_audit
from r2gengpt.evaluation.audit.run import ANSWERS, kept_answers
from r2gengpt.evaluation.audit.subjects import Answered
from r2gengpt.evaluation.audit.summary import WIDTH, terminal_lines
from r2gengpt.films.film import FilmStudy
from r2gengpt.films.sources import study_of
from r2gengpt.settings import AuditConfig
from report_pages import HOSTILE, Page

Cli = Callable[[list[str]], Outcome]
SIDE = 40
BOX = Marked("Pleural Effusion", 0.1, 0.6, 0.3, 0.3)
"""Where the drawn films show an effusion: below, at the left of the picture, which is the patient's right."""


def film(effusion: bool, number: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(60, 100, (SIDE, SIDE)).astype(np.uint8)
    if effusion:
        pixels[films.region(BOX, (SIDE, SIDE))] = 250
    return Image.fromarray(pixels).convert("RGB")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, ...]:
    """40 films, each of a patient of its own; every other one shows an effusion, in a box."""
    folder, found = tmp_path_factory.mktemp("films"), []
    for number in range(40):
        there = number % 2 == 0
        path = folder / f"{number}.png"
        film(there, number).save(path)
        labels = {"Pleural Effusion": float(there), "No Finding": float(not there), "Edema": 0.0, "Child": 0.0}
        more = {"boxes": (BOX,)} if there else {}
        found.append(
            Study(f"s{number}", (path,), patient=f"p{number}", source="drawn", labels=labels,
                  indication="Cough." if number < 4 else "", **more)  # type: ignore[arg-type]
        )  # fmt: skip
    return tuple(found)


def sees(picture: Image.Image) -> tuple[bool, bool]:
    """Whether a film is bright below, at the picture's left and at its right."""
    grey = np.asarray(picture.convert("L"), dtype=float)
    sides = (BOX, films.opposite(BOX))
    return tuple(bool(grey[films.region(box, grey.shape)].mean() > 200) for box in sides)  # type: ignore[return-value]


@dataclass
class Scripted:
    """Whoever answers by a rule; counts how often it is asked."""

    rule: Callable[[Image.Image, str], str]
    no_text: str = ""
    name: str = "scripted"
    side: int | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    stops_at: int = 10**6

    def identity(self) -> dict[str, str]:
        return {"model": self.name}

    def answer(self, shown: FilmStudy, context: str) -> Answered:
        if len(self.asked) == self.stops_at:
            raise RunError("stopped")
        self.asked.append((shown.id, context))
        return Answered(self.rule(shown.pictures[0], context))


def reads(picture: Image.Image, _: str = "") -> str:
    right, left = sees(picture)
    return f"There is a {'right' if right else 'left'} pleural effusion." if right or left else "The lungs are clear."


def believes(picture: Image.Image, context: str) -> str:
    return context or reads(picture)


def config(**changes: Any) -> AuditConfig:
    return AuditConfig(**{"annotation": "a.json", "base_dir": ".", "studies": 40, **changes})


def audited(subject: Any, pool: tuple[Study, ...], output: Path, **changes: Any) -> dict[str, Any]:
    return run_audit(subject, pool, config(**changes), output)


# ── films ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_blank_film_has_one_grey_and_noise_has_the_films_own_greys() -> None:
    picture = film(True, 1)
    blank = np.asarray(films.blank(picture))
    assert blank.shape == (SIDE, SIDE, 3)
    assert len(np.unique(blank.reshape(-1, 3), axis=0)) == 1
    assert abs(float(blank.mean()) - float(np.asarray(picture).mean())) < 0.5  # rounded to whole greys
    noise = films.noise(picture, np.random.default_rng(0))
    assert noise.histogram() == picture.histogram()
    assert noise.tobytes() != picture.tobytes()


def test_a_covered_box_has_the_grey_around_it_and_the_rest_of_the_film_stays() -> None:
    picture = film(True, 1)
    before, after = np.asarray(picture), np.asarray(films.covered(picture, [BOX]))
    place = films.region(BOX, (SIDE, SIDE))
    assert before[place].min() == 250
    assert 60 <= after[place].min() == after[place].max() < 100
    outside = np.ones((SIDE, SIDE), dtype=bool)
    outside[place] = False
    assert (before[outside] == after[outside]).all()
    whole = films.covered(picture, [Marked("Edema", 0, 0, 1, 1)])
    assert np.asarray(whole).std() < 0.5, "nothing is around it: the film's own mean"


def test_the_other_side_of_a_box_is_where_it_lies_on_the_mirrored_film() -> None:
    picture = film(True, 2)
    place = films.region(films.opposite(BOX), (SIDE, SIDE))
    assert np.asarray(films.mirrored(picture))[place].min() == 250


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_films_are_exchanged_with_other_patients_of_the_source_by_their_labels(drawn: tuple[Study, ...]) -> None:
    foreign = replace(drawn[0], id="foreign", patient="x", source="elsewhere")
    again = replace(drawn[0], id="again", patient="p0")
    plan = plan_audit((*drawn, foreign, again), count=42, seed=0)
    lent = {(q.study.id, q.condition): q for q in plan.questions}
    for question in plan.questions:
        if question.condition == Condition.SAME_LABELS:
            assert question.shown.labels == question.study.labels
        elif question.condition == Condition.OTHER_LABELS:
            assert question.shown.labels["No Finding"] != question.study.labels["No Finding"]
        else:
            assert question.shown is question.study
            continue
        assert question.shown.patient != question.study.patient
        assert question.shown.source == question.study.source
    assert ("foreign", Condition.SAME_LABELS) not in lent, "it is alone in its source"
    assert lent["again", Condition.SAME_LABELS].shown.id != "s0", "the same patient"


def test_more_studies_repeat_the_questions_of_fewer(drawn: tuple[Study, ...]) -> None:
    few, many = (plan_audit(drawn, count=count, seed=3).questions for count in (6, 20))
    assert many[: len(few)] == few
    assert {question.study.labels["No Finding"] for question in few} == {0.0, 1.0}, "drawn in turn"


def test_studies_with_boxes_are_drawn_in_turn_too(drawn: tuple[Study, ...]) -> None:
    one_box = tuple(replace(study, boxes=study.boxes if study.id == "s8" else ()) for study in drawn)
    assert "s8" in {study.id for study in plan_audit(one_box, count=3, seed=0).studies}


def test_a_claim_is_the_opposite_of_the_labels(drawn: tuple[Study, ...]) -> None:
    plan = plan_audit(drawn, count=40, seed=0)
    claims = [one for one in plan.questions if one.condition == Condition.CONTRADICTED]
    assert {one.context for one in claims} == {
        "Known normal chest. No pleural effusion.",
        "Known pleural effusion, unchanged.",
    }
    for one in claims:
        assert all(there is not bool(one.study.labels[name]) for name, there in one.claims.items())


def test_what_cannot_be_asked_has_its_reason(drawn: tuple[Study, ...]) -> None:
    bare = tuple(replace(study, boxes=(), indication="") for study in drawn)
    plan = plan_audit(bare, count=40, seed=0, no_text="")
    assert plan.missing == {
        Condition.OCCLUDED: "no study that was drawn has boxes",
        Condition.OCCLUDED_ELSEWHERE: "no study that was drawn has boxes",
        Condition.TEXT_ONLY: "no study that was drawn has an indication",
    }
    plan = plan_audit(drawn, count=40, seed=0, no_text="it takes none")
    assert plan.missing == {Condition.TEXT_ONLY: "it takes none", Condition.CONTRADICTED: "it takes none"}


def test_studies_without_labels_and_unknown_sources_are_refused(drawn: tuple[Study, ...]) -> None:
    with pytest.raises(InputError, match="no such source; it has drawn"):
        plan_audit(drawn, count=4, seed=0, sources=("nih",))
    with pytest.raises(InputError, match="0 studies of the split have labels"):
        plan_audit([replace(study, labels={}) for study in drawn], count=4, seed=0)


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def honest(drawn: tuple[Study, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    output = tmp_path_factory.mktemp("honest")
    return audited(Scripted(reads), drawn, output), output


def test_a_model_that_looks_reads_the_film(honest: tuple[dict[str, Any], Path]) -> None:
    audit, _ = honest
    effusion = audit["verdicts"]["text"]["Pleural Effusion"]
    assert effusion["verdict"] == "reads the film"
    assert effusion["agreement"]["value"] == 1.0
    assert effusion["above"]["other_labels"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    assert effusion["above"]["blank"]["value"] == 0.5
    assert audit["verdicts"]["text"]["Edema"]["verdict"] == "too few films"
    assert audit["sides"]["verdict"] == "follow the film"
    for name, count in (("followed", 40), ("invented", 20), ("dropped", 20)):
        assert audit["claims"][name] == {"n": count, "value": 0.0, "ci95": [0.0, 0.0]}
    assert audit["boxes"]["occluded"] == {"n": 20, "lost": {"value": 1.0, "ci95": [1.0, 1.0]}}
    assert audit["boxes"]["occluded_elsewhere"]["lost"]["value"] == 0.0
    conditions = audit["conditions"]
    assert conditions["same_labels"]["findings_changed"]["value"] == 0.0
    assert conditions["other_labels"]["findings_changed"]["value"] == 1.0
    assert conditions["other_labels"]["agreement"]["value"] == 0.0
    assert conditions["flipped"]["sides_changed"]["value"] == 1.0
    assert conditions["text_only"]["n"] == 4


@pytest.mark.parametrize("text", ["There is a pleural effusion.", "The lungs are clear."])
def test_a_model_that_says_the_same_of_all_films_guesses_or_never_names_it(
    text: str, drawn: tuple[Study, ...], tmp_path: Path
) -> None:
    audit = audited(Scripted(lambda picture, context: text), drawn, tmp_path)
    verdict = audit["verdicts"]["text"]["Pleural Effusion"]["verdict"]
    assert verdict == ("guesses from context" if "effusion" in text else "never names it")
    assert audit["conditions"]["noise"]["texts_changed"]["value"] == 0.0
    assert audit["sides"]["verdict"] == "never names a side"


def test_a_model_that_believes_what_it_is_told_follows_wrong_claims(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    audit = audited(Scripted(believes), drawn, tmp_path)
    assert audit["claims"]["followed"]["value"] == 1.0
    assert audit["conditions"]["contradicted"]["agreement"]["value"] == 0.0


def test_a_reader_of_the_wrong_side_of_labels_is_named(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    audit = audited(
        Scripted(lambda picture, _: "Clear lungs." if any(sees(picture)) else "Pleural effusion."), drawn, tmp_path
    )
    assert audit["verdicts"]["text"]["Pleural Effusion"]["verdict"] == "reads the film the wrong way round"


def test_few_patients_give_no_verdict(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    one = tuple(replace(study, patient="p1" if number < 36 else study.patient) for number, study in enumerate(drawn))
    audit = audited(Scripted(reads), one, tmp_path)
    found = audit["verdicts"]["text"]["Pleural Effusion"]
    assert found["verdict"] == "too few films"
    assert found["with"] == 3


def test_a_head_has_verdicts_of_its_own(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    class Seer(Scripted):
        def answer(self, shown: FilmStudy, context: str) -> Answered:
            there = any(sees(shown.pictures[0]))
            likely = (0.9, "likely") if there else (0.1, "unlikely")
            return Answered("The lungs are clear.", {"Pleural Effusion": likely, "Edema": (0.5, "not assessed")})

    audit = audited(Seer(reads), drawn, tmp_path)
    assert audit["verdicts"]["text"]["Pleural Effusion"]["verdict"] == "never names it"
    assert audit["verdicts"]["head"]["Pleural Effusion"]["verdict"] == "reads the film"
    assert audit["verdicts"]["head"]["Edema"]["verdict"] == "not assessed by the head"
    assert audit["conditions"]["other_labels"]["head_changed"]["value"] == pytest.approx(0.8)


# ── files, page, lines ───────────────────────────────────────────────────────────────────────────────────────────────


def test_page_and_lines_open_with_the_verdict(honest: tuple[dict[str, Any], Path]) -> None:
    audit, output = honest
    assert json.loads((output / "audit.json").read_text()) == json.loads(json.dumps(audit))
    lines = list(terminal_lines(audit))
    assert lines[0] == "The text reads the film for 2 of 2 findings that 40 studies of 40 patients could tell."
    assert max(map(len, lines)) <= WIDTH == 100
    page = Page((output / "audit.html").read_text(encoding="utf-8"))
    assert lines[0] in page.texts
    rows = page.tables["Verdict of each finding, text"]
    assert ["Pleural Effusion", "reads the film", "20", "20", "20 of 40"] in [row[:5] for row in rows]
    assert len(page.tables["Changes by condition"]) == 1 + len(Condition)


def test_words_of_a_model_are_text_on_the_page(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    audited(Scripted(lambda *_: HOSTILE, name=HOSTILE), drawn, tmp_path, studies=4)
    page = Page((tmp_path / "audit.html").read_text(encoding="utf-8"))
    assert "script" not in [tag for tag, _ in page.tags]


def test_a_stopped_audit_goes_on_where_it_was(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    first = Scripted(reads, stops_at=9)
    with pytest.raises(RunError, match="stopped"):
        audited(first, drawn, tmp_path / "one", studies=4)
    with (tmp_path / "one" / ANSWERS).open("a") as file:
        file.write('{"study": "half a li')
    second = Scripted(reads)
    found = audited(second, drawn, tmp_path / "one", studies=4)
    whole = Scripted(reads)
    assert found == audited(whole, drawn, tmp_path / "two", studies=4)
    assert len(second.asked) == len(whole.asked) - 9
    third = Scripted(reads)
    audited(third, drawn, tmp_path / "one", studies=6)
    assert {study for study, _ in third.asked}.isdisjoint({study for study, _ in whole.asked}), "only the new ones"


def test_an_answer_to_other_films_words_or_boxes_is_asked_for_again(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    """The annotation may change between a stop and the next start: labels settle what is lent, claimed and covered."""
    few = drawn[:10]
    audited(Scripted(reads), few, tmp_path)
    changed = (replace(few[0], indication="Fever.", boxes=(films.opposite(BOX),)), *few[2:])
    again, anew = Scripted(reads), tmp_path / "anew"
    found = audited(again, changed, tmp_path)
    assert 0 < len(again.asked) < len(audited_questions(changed)), "what is the same is kept"
    assert found == audited(Scripted(reads), changed, anew)
    audited(repeated := Scripted(reads), changed, tmp_path)
    assert not repeated.asked


@pytest.mark.parametrize("moved", [True, False])
def test_an_answer_to_films_that_are_others_now_is_asked_for_again(moved: bool, tmp_path: Path) -> None:
    labels = {"Pleural Effusion": 1.0, "No Finding": 0.0}, {"Pleural Effusion": 0.0, "No Finding": 1.0}

    def pool(folder: Path, *, is_other: bool) -> tuple[Study, ...]:
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{number}.png" for number in range(6)]
        for number, path in enumerate(paths):
            film(number % 2 == (number < 4 and is_other), number).save(path)
        return tuple(Study(f"s{n}", (path,), patient=f"p{n}", labels=labels[n % 2]) for n, path in enumerate(paths))

    audited(Scripted(reads), pool(tmp_path / "films", is_other=False), tmp_path / "one")
    others = pool(tmp_path / ("moved" if moved else "films"), is_other=True)
    found = audited(again := Scripted(reads), others, tmp_path / "one")
    assert {"s0", "s1", "s2", "s3"} <= {study for study, _ in again.asked}
    assert len(again.asked) < len(audited_questions(others)), "what is the same is kept"
    assert found == audited(Scripted(reads), others, tmp_path / "anew")


def audited_questions(pool: tuple[Study, ...]) -> tuple[Question, ...]:
    return plan_audit(pool, count=config().studies, seed=config().seed).questions


def test_answers_of_another_audit_are_not_mixed_in(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    audited(Scripted(reads), drawn, tmp_path, studies=2)
    with pytest.raises(InputError, match=r"holds answers of another audit \(seed differ\)"):
        audited(Scripted(reads), drawn, tmp_path, studies=2, seed=1)
    for content in ("[]\n", '{"audit": {}}\n[]\n', '{"audit": {}}\n{"study": "1"}\n'):
        (tmp_path / ANSWERS).write_text(content)
        with pytest.raises(InputError, match="is no file of answers"):
            kept_answers(tmp_path / ANSWERS, {})


# ── an endpoint ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def endpoint(answers: Callable[[Mapping[str, Any], Mapping[str, str]], tuple[int, Any]]) -> Iterator[str]:
    """A server on this machine that answers chat completions by a rule; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, content = answers(body, dict(self.headers))
            data = json.dumps(content).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def completion(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def test_an_endpoint_gets_words_and_films_and_its_refusals_are_counted(
    drawn: tuple[Study, ...], tmp_path: Path
) -> None:
    from base64 import b64decode
    from io import BytesIO

    seen: list[tuple[str, str | None]] = []

    def answers(body: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[int, Any]:
        words, view = body["messages"][0]["content"]
        kind, data = view["image_url"]["url"].split(",")
        picture = Image.open(BytesIO(b64decode(data)))
        seen.append((words["text"], headers.get("Authorization")))
        assert (kind, body["model"]) == ("data:image/png;base64", "m")
        if len(picture.getcolors(256) or ()) == 1:
            return 422, {"error": {"message": "shows nothing"}}
        return 200, completion(reads(picture))

    with endpoint(answers) as url:
        audit = audited(Endpoint(url, "m", "Describe.", "secret"), drawn, tmp_path, studies=24)
    assert {"Describe.", "Describe. Indication: Known pleural effusion, unchanged."} <= {words for words, _ in seen}
    assert {key for _, key in seen} == {"Bearer secret"}
    assert audit["conditions"]["blank"]["refused"] == 24
    assert audit["conditions"]["blank"]["missing"] == "refused: 422: shows nothing"
    assert audit["verdicts"]["text"]["Pleural Effusion"]["verdict"] == "reads the film", "without the blank films"
    assert "secret" not in "".join(path.read_text() for path in tmp_path.rglob("*.*"))


@pytest.mark.parametrize(
    ("status", "content", "kind", "words"),
    [
        (401, {}, InputError, "refuses the key"),
        (404, {}, InputError, "has no such address or no model m"),
        (302, {}, RunError, "answers with status 302"),
        (503, {}, RunError, "answers with status 503"),
        (200, {"choices": []}, RunError, "answers with no chat completion"),
        (200, completion(None), RunError, "without a text"),  # type: ignore[arg-type]
    ],
)
def test_an_endpoint_that_does_not_serve_is_named_in_one_line(
    status: int, content: Any, kind: type[Exception], words: str, drawn: tuple[Study, ...]
) -> None:
    with endpoint(lambda body, headers: (status, content)) as url, pytest.raises(kind, match=words):
        Endpoint(url, "m", "Describe.").answer(study_of(drawn[0].image_paths), "")


def test_an_own_film_that_is_refused_ends_the_audit(drawn: tuple[Study, ...], tmp_path: Path) -> None:
    with (
        endpoint(lambda body, headers: (400, {"error": {"message": "no images here"}})) as url,
        pytest.raises(RunError, match="its own film is refused: 400: no images here"),
    ):
        audited(Endpoint(url, "m", "Describe."), drawn, tmp_path)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def labelled(tiny_set: TinySet, tmp_path: Path) -> list[str]:
    """Flags that name the tiny set with its reports as labels; its train split has 8 studies."""
    annotation, base = str(tiny_set.annotation), str(tiny_set.base_dir)
    return ["--annotation", annotation, "--base_dir", base, "--split", "train", "--output", str(tmp_path / "out")]


def test_the_command_audits_a_checkpoint(
    run_cli: Cli, tiny_checkpoint: Path, labelled: list[str], tmp_path: Path
) -> None:
    outcome = run_cli(["audit", "--model", str(tiny_checkpoint), *labelled, "--studies", "2", "--beam_size", "1"])
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.startswith("The text: no verdict, 2 studies of 2 patients are too few")
    assert outcome.stdout.endswith(f"{tmp_path / 'out' / 'audit.html'}\n")
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert audit["conditions"]["occluded"]["missing"] == "no study that was drawn has boxes"
    assert len(audit["provenance"]["model_sha256"]) == 64
    assert audit["conditions"]["contradicted"]["n"] >= 1


def test_the_command_audits_an_endpoint_without_a_model(
    run_cli: Cli, labelled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_OURS", "k")
    keys = []

    def answers(body: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[int, Any]:
        keys.append(headers.get("Authorization"))
        return 200, completion("The lungs are clear.")

    with endpoint(answers) as url:
        flags = ["--endpoint", url, "--endpoint_model", "m", "--endpoint_key", "KEY_OF_OURS", "--studies", "2"]
        outcome = run_cli(["audit", *labelled, *flags])
    assert outcome.code == 0, outcome.stderr
    assert set(keys) == {"Bearer k"}


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--endpoint", "http://127.0.0.1:9/v1", "--endpoint_model", "m"], 1, "cannot be reached"),
        (["--endpoint", "127.0.0.1:9", "--endpoint_model", "m"], 2, "must be like http://host:8000/v1"),
        (["--endpoint", "http://127.0.0.1:9/v1"], 2, "--endpoint and --endpoint_model belong together"),
        (["--endpoint", "http://127.0.0.1:9/v1", "--endpoint_model", "m", "--model", "x"], 2, "in place of a model"),
        (["--model", "no-such-model"], 2, "no-such-model"),
        (["--sources", "mars", "--endpoint", "http://127.0.0.1:9/v1", "--endpoint_model", "m"], 2, "no such source"),
        (["--base_dir", "nowhere"], 2, "no image file"),
        (["--annotation", "no.json"], 2, "--annotation no.json"),
    ],
)
def test_wrong_input_is_one_line(flags: list[str], code: int, words: str, run_cli: Cli, labelled: list[str]) -> None:
    outcome = run_cli(["audit", *labelled, *flags])
    assert outcome.code == code, outcome.stderr
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("r2gengpt audit:")]
    assert words in line


def test_the_annotation_needs_the_split(run_cli: Cli, tiny_set: TinySet, tmp_path: Path) -> None:
    content = json.loads(tiny_set.annotation.read_text())
    (tmp_path / "a.json").write_text(json.dumps({"train": content["train"]}))
    flags = ["--annotation", str(tmp_path / "a.json"), "--base_dir", str(tiny_set.base_dir), "--output", str(tmp_path)]
    outcome = run_cli(["audit", *flags])
    assert outcome.code == 2
    assert "has no split test, only train" in outcome.stderr
    assert read_annotation(tmp_path / "a.json", tiny_set.base_dir, ("train",))
