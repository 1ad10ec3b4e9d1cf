"""Reports composed of training sentences: which ones are kept, which are chosen, and through every door."""

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import r2gengpt
from archive_parts import film_data
from conftest import Outcome, TinySet
from placements import FLOAT32
from r2gengpt.batch.model import BulkModel, load_writer
from r2gengpt.batch.workers import Decoded
from r2gengpt.checkpoint_files import SENTENCES
from r2gengpt.clinical.archive.run import writer
from r2gengpt.confidence.findings import coherent, verdicts_of
from r2gengpt.confidence.review import reviewed
from r2gengpt.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import read_header
from r2gengpt.films.sources import study_of
from r2gengpt.generation.composition import Composer, compose, sayable
from r2gengpt.generation.retrieval import (
    MOST_SENTENCES,
    SentenceIndex,
    load_sentences,
    own_sentence,
    save_sentences,
)
from r2gengpt.locate import ModelChoice, locate
from r2gengpt.metrics.labels.reading import Label, label_report
from r2gengpt.report import Finding
from r2gengpt.reporter import Reporter
from r2gengpt.serving.instructions import NO_EFFECT
from r2gengpt.settings import BatchConfig
from r2gengpt.text.cleaning import CLEANERS
from r2gengpt.text.observations import (
    ALL_OBSERVATIONS,
    LIKELY,
    NO_FINDING,
    NOT_ASSESSED,
    OBSERVATIONS,
    POSSIBLE,
    UNLIKELY,
)
from r2gengpt.text.sentences import sentence_spans
from r2gengpt.training.keeping import check_keeps
from r2gengpt.training.run import train
from serving_parts import client_of, message, upload
from test_finding_head import ANY, BOTH, head_run
from test_looks_at_the_image import REPORTS, draw_squares
from timed import least_seconds

Cli = Callable[[list[str]], Outcome]
COUNT = len(ALL_OBSERVATIONS)
TEXTS = {
    "a": "The lungs are clear. The heart size is normal. No pleural effusion or pneumothorax.",
    "b": "There is a large pleural effusion. No pneumothorax. The heart size is normal.",
    "c": "Left lower lobe pneumonia. The heart is enlarged. No pleural effusion.",
    "d": "Possible pneumonia. There is pulmonary edema. Effusion has increased since the prior film.",
    "e": "Right pleural effusion. Endotracheal tube in place.",
    "f": "Patchy opacity. No edema",
}


def index_of(texts: Mapping[str, str] = TEXTS, **labels: Mapping[str, float]) -> SentenceIndex:
    studies = [Study(name, (Path("x"),), report, labels=labels.get(name, {})) for name, report in texts.items()]
    vectors = np.zeros((len(texts), COUNT))
    vectors[:, 0] = np.arange(len(texts))
    return SentenceIndex.of(studies, CLEANERS["plain"], vectors)


def film(default: str = NOT_ASSESSED, **verdicts: str) -> dict[str, str]:
    return {name: verdicts.get(name.replace(" ", "_"), default) for name in OBSERVATIONS}


def near(*order: int) -> np.ndarray[Any, Any]:
    """Distances of six studies: those named first are nearest."""
    return np.array([order.index(at) if at in order else 50.0 + at for at in range(6)])


def written(verdicts: dict[str, str], distances: Any = None, index: SentenceIndex | None = None) -> list[str]:
    found = compose(index or index_of(), verdicts, near() if distances is None else distances)
    return [sentence.text for sentence in found]


# ── sentences ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("2. No  effusion", "No effusion."),
        ("no effusion .", "no effusion ."),
        ("Unchanged cardiomegaly.", ""),
        ("A nodule of 3 cm.", ""),
        ("Compared to the prior film.", ""),
        ("XXXX opacity.", ""),
        ("Opacity seen by ___.", ""),
        ("The patient is rotated.", ""),
        ("Seen by Dr.", ""),
        ("...", ""),
        ("", ""),
        ("Increased interstitial markings.", "Increased interstitial markings."),
    ],
)
def test_a_sentence_that_tells_of_something_else_than_its_film_is_not_kept(text: str, kept: str) -> None:
    assert own_sentence(text) == kept


def test_an_index_knows_what_each_sentence_says_and_whose_it_is() -> None:
    index = index_of()
    number = index.sentences.index("No pleural effusion or pneumothorax.")
    says = {name: int(code) for name, code in zip(OBSERVATIONS, index.codes[number], strict=True) if code}
    assert says == {"Pneumothorax": 3, "Pleural Effusion": 3}
    shared = index.sentences.index("The heart size is normal.")
    assert [index.studies[index.source(shared, near(*order))] for order in ((1, 0), (0, 1))] == ["b", "a"]
    assert not any("prior" in sentence for sentence in index.sentences)
    assert index.normal.tolist() == [True, False, False, False, False, False]


def test_a_study_that_is_labelled_abnormal_lends_no_normal_report() -> None:
    assert not index_of(a={NO_FINDING: 0.0}).normal.any()
    assert index_of(a={NO_FINDING: 1.0}).normal[0]


def test_distances_are_in_standard_deviations_of_the_numbers_that_count() -> None:
    texts = dict.fromkeys("abc", "Clear lungs.")
    studies = [Study(name, (Path("x"),), report) for name, report in texts.items()]
    vectors = np.zeros((3, COUNT))
    vectors[:, 0], vectors[:, 1] = [0, 1, 2], [0, 1000, 500]
    index = SentenceIndex.of(studies, CLEANERS["plain"], vectors)
    film = np.zeros(COUNT)
    film[0] = 2.0
    assert int(index.distances(film, [0]).argmin()) == 2
    scale = vectors[:, 1].std()
    expected = np.sqrt((np.array([0, 1, 2]) - 2) ** 2 / vectors[:, 0].var() + (np.array([0, 1000, 500]) / scale) ** 2)
    assert index.distances(film).tolist() == pytest.approx(expected.tolist())


def test_an_index_comes_back_as_it_was(tmp_path: Path) -> None:
    index = index_of({**TEXTS, "Żółw\n": "Kerley-B-Linien: no effusion “seen”."})
    save_sentences(index, tmp_path / SENTENCES)
    back = load_sentences(tmp_path / SENTENCES)
    assert (back.sentences, back.studies) == (index.sentences, index.studies)
    for name in ("codes", "starts", "places", "normal", "vectors"):
        assert np.array_equal(getattr(back, name), getattr(index, name))


@pytest.mark.parametrize(
    "change",
    [
        {"codes": np.zeros((1, 14), np.int8)},
        {"codes": None},
        {"places": np.zeros(3, np.int64)},
        {"starts": np.zeros(7, np.int64)},
        {"normal": np.zeros(6, np.int8)},
        {"vectors": np.zeros((6, 3), np.float16)},
        {"vectors": np.full((6, COUNT), np.nan, np.float16)},
        {"sentences": np.frombuffer(b"[1, 2]", np.uint8)},
        {"studies": np.frombuffer(b"nothing", np.uint8)},
    ],
    ids=str,
)
def test_a_damaged_file_is_refused_in_a_line(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / SENTENCES
    save_sentences(index_of(), path)
    arrays = {**safetensors.numpy.load_file(path), **change}
    safetensors.numpy.save_file({name: value for name, value in arrays.items() if value is not None}, path)
    with pytest.raises(InputError, match="is damaged") as refusal:
        load_sentences(path)
    assert "\n" not in str(refusal.value)
    path.write_bytes(b"x")
    with pytest.raises(InputError, match="is damaged"):
        load_sentences(path)


# ── composition ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_likely_is_told_and_what_is_unlikely_is_denied() -> None:
    verdicts = film(UNLIKELY, No_Finding=UNLIKELY, Pleural_Effusion=LIKELY)
    assert written(verdicts)[:2] == ["There is a large pleural effusion.", "The lungs are clear."]
    assert "No pneumothorax." in written(verdicts)
    assert "No pleural effusion or pneumothorax." not in written(verdicts)


def test_a_sentence_without_a_side_is_taken_before_a_nearer_one_with_a_side() -> None:
    assert written(film(Pleural_Effusion=LIKELY), near(4)) == ["There is a large pleural effusion."]
    only = index_of({name: TEXTS[name] for name in "ac"} | {"e": TEXTS["e"]})
    assert written(film(Pleural_Effusion=LIKELY), np.arange(3.0), only) == ["Right pleural effusion."]


def test_of_equal_sentences_the_nearest_study_lends_its_own() -> None:
    index = index_of({"a": "Small effusion.", "b": "Large effusion.", "c": "Large effusion."})
    for distances, text, source in (([0, 1, 2], "Small effusion.", "a"), ([2, 1, 0], "Large effusion.", "c")):
        (sentence,) = compose(index, film(Pleural_Effusion=LIKELY), np.array(distances, float))
        assert (sentence.text, sentence.source) == (text, source)


def test_a_kind_of_it_meets_an_observation() -> None:
    verdicts = film(Lung_Opacity=LIKELY, Pneumonia=LIKELY, Consolidation=LIKELY)
    assert written(verdicts) == ["Left lower lobe pneumonia."]
    assert written(film(Lung_Opacity=LIKELY)) == ["Patchy opacity."]


@pytest.mark.parametrize("verdict", [LIKELY, POSSIBLE])
def test_an_observation_is_not_denied_beside_a_kind_of_it(verdict: str) -> None:
    verdicts = film(UNLIKELY, Pneumonia=verdict)
    assert "Lung Opacity" not in sayable(verdicts)
    assert "The lungs are clear." not in written(verdicts)


def test_what_is_possible_is_doubted() -> None:
    assert written(film(Pneumonia=POSSIBLE)) == ["Possible pneumonia."]
    assert written(film(Pleural_Effusion=POSSIBLE)) == []


def test_of_what_was_not_assessed_nothing_is_said() -> None:
    assert written(film()) == []
    assert written(film(Pleural_Effusion=UNLIKELY)) == ["No pleural effusion."]


def test_a_normal_film_gets_the_nearest_normal_report_whole() -> None:
    index = index_of({**TEXTS, "g": "No effusion. Heart size is normal."})
    verdicts = film(UNLIKELY, No_Finding=LIKELY)
    far = np.append(near(), 0.0)
    assert written(verdicts, far, index) == ["No effusion.", "Heart size is normal."]
    found = compose(index, verdicts, np.append(near(0), 9.0))
    assert " ".join(sentence.text for sentence in found) == TEXTS["a"]
    assert {sentence.source for sentence in found} == {"a"}


def test_a_normal_report_that_denies_what_is_possible_is_not_taken() -> None:
    verdicts = film(UNLIKELY, No_Finding=LIKELY, Pneumothorax=POSSIBLE)
    assert written(verdicts) == [
        "The lungs are clear.",
        "The heart size is normal.",
        "No pleural effusion.",
        "No edema.",
    ]


def test_what_no_sentence_tells_is_left_out_and_said() -> None:
    findings = [Finding(name, 0.9, (0.8, 0.95), verdict) for name, verdict in film(Fracture=LIKELY).items()]
    report = Composer(index_of(), ()).report(findings, [0.0] * COUNT, "1")
    assert (report.text, report.tokens, report.finish) == ("", 0, "stop")
    assert "left out: fracture, likely (.90) on the film" in reviewed(report).review


LINES = (
    "There is {}.", "Possible {}.", "No {}.", "No {} or {}.", "{} without {}.", "The lungs are clear.",
    "The heart size is normal.", "There is {} with {}.", "Stable {}.", "Left {}.", "{} is suspected", "Tubes in place.",
)  # fmt: skip


def random_report(chance: random.Random) -> str:
    words = ["edema", "pneumonia", "an effusion", "a pneumothorax", "cardiomegaly", "atelectasis", "a nodule",
             "opacity", "consolidation", "a rib fracture", "pleural thickening"]  # fmt: skip
    lines = [chance.choice(LINES) for _ in range(chance.randint(1, 7))]
    return " ".join(line.format(*chance.sample(words, 2)) for line in lines)


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.drill) for seed in range(4, 200))])
def test_no_composed_report_contradicts_its_film_or_itself(seed: int) -> None:
    chance = random.Random(seed)
    texts = {str(number): random_report(chance) for number in range(30)}
    index = index_of(texts)
    for _ in range(25):
        drawn = {name: chance.choice((LIKELY, POSSIBLE, UNLIKELY, UNLIKELY, NOT_ASSESSED)) for name in OBSERVATIONS}
        findings = coherent([Finding(name, 0.9, (0.8, 1.0), verdict) for name, verdict in drawn.items()])
        verdicts = verdicts_of(findings)
        distances = np.array([chance.random() for _ in index.studies])
        found = compose(index, verdicts, distances)
        assert found == compose(index, verdicts, distances)
        assert len(found) <= MOST_SENTENCES
        text = " ".join(sentence.text for sentence in found)
        assert [text[first:last] for first, last in sentence_spans(text)] == [sentence.text for sentence in found]
        assert len({sentence.text for sentence in found}) == len(found)
        assert all(sentence.text.rstrip(".") in texts[sentence.source] for sentence in found)
        normal = verdicts[NO_FINDING] == LIKELY
        for name, label in label_report(text).items():
            allowed = {Label.POSITIVE: LIKELY, Label.UNCERTAIN: POSSIBLE, Label.NEGATIVE: UNLIKELY}
            if name != NO_FINDING and label != Label.BLANK:
                assert verdicts[name] == allowed[label] or (normal and verdicts[name] == NOT_ASSESSED)
        report = reviewed(replace(Composer(index, ()).report(findings, [0.0] * COUNT, "1"), sentences=found, text=text))
        assert not any(sentence.needs_review for sentence in report.sentences)


def test_a_hundred_thousand_sentences_are_searched_in_a_blink() -> None:
    chance, count = np.random.default_rng(0), 100_000
    codes = np.zeros((count, len(OBSERVATIONS)), np.int8)
    codes[np.arange(count), chance.integers(1, 14, count)] = chance.integers(1, 4, count)
    index = SentenceIndex(
        tuple(map(str, range(count))), codes, tuple(map(str, range(count // 2))), np.arange(0, count + 1, 2),
        chance.permutation(count), np.zeros(count // 2, np.bool_), chance.normal(size=(count // 2, COUNT)),
    )  # fmt: skip
    composer = Composer(index, ())
    findings = [Finding(name, 0.9, (0.8, 1.0), UNLIKELY) for name in OBSERVATIONS]
    seconds = least_seconds(lambda: composer.report(findings, [0.0] * COUNT, "1"))
    assert seconds < 0.5, "a film has a second, most of it for the encoder"


# ── a trained head ───────────────────────────────────────────────────────────────────────────────────────────────────


def told(right: bool, left: bool) -> str:
    if right and left:
        return "There is consolidation. There is a pleural effusion. Unchanged since the prior film."
    return "There is consolidation. No pleural effusion." if right or left else "No consolidation. No pleural effusion."


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """Films with labels and with reports that the labeller reads as these labels."""
    data = draw_squares(tmp_path_factory.mktemp("squares"), {"train": 96, "val": 48, "test": 8})
    shown = {words: marks for marks, words in REPORTS.items()}
    splits = json.loads(data.annotation.read_text())
    for studies in splits.values():
        for study in studies:
            right, left = shown[study["report"]]
            study["report"] = told(right, left)
            study["labels"] = {
                ANY: int(right or left),
                BOTH: int(right and left),
                NO_FINDING: int(not right and not left),
            }
    data.annotation.write_text(json.dumps(splits))
    return data


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_parts: Path, squares: TinySet) -> Path:
    directory = tmp_path_factory.mktemp("head") / "run"
    train(head_run(tiny_parts, squares, directory, ema=0.8, keep_sentences=True), FLOAT32)
    return directory


def loaded(directory: Path, **settings: Any) -> Reporter:
    reporter = r2gengpt.load(directory, accelerator="cpu", writer="retrieve", **settings)
    assert isinstance(reporter, Reporter)
    return reporter


def path_of(data: TinySet, number: int) -> str:
    return str(data.base_dir / f"test{number}.png")


def reports_of(data: TinySet) -> dict[str, str]:
    return {study["id"]: study["report"] for study in json.loads(data.annotation.read_text())["train"]}


def test_a_head_alone_writes_by_retrieval_what_its_film_shows(trained: Path, squares: TinySet) -> None:
    reporter, reports, texts = loaded(trained), reports_of(squares), []
    for number in range(8):
        report = reporter.report([path_of(squares, number)])
        texts.append(report.text)
        assert (report.tokens, report.logprob, report.finish) == (0, 0.0, "stop")
        assert report.findings == reporter.findings([path_of(squares, number)])
        assert report.sentences
        assert all(sentence.text in reports[sentence.source] for sentence in report.sentences)
        assert not any(sentence.needs_review for sentence in report.sentences)
        assert reporter.report([path_of(squares, number)]).text == report.text
    wanted = ["consolidation" in text and "No consolidation" not in text for text in texts]
    assert sum(found == bool(number % 4) for number, found in enumerate(wanted)) >= 7
    assert len(set(texts)) >= 3


def test_only_the_best_checkpoint_holds_sentences_and_its_card_says_so(trained: Path) -> None:
    assert (trained / "best" / SENTENCES).is_file()
    assert not (trained / "last" / SENTENCES).exists()
    assert SENTENCES in (trained / "best" / "README.md").read_text(encoding="utf-8")
    assert "keep_sentences" not in json.loads((trained / "best" / "config.json").read_text())


def test_records_name_the_writer_and_the_sources(trained: Path, squares: TinySet) -> None:
    record = json.loads(loaded(trained).report([path_of(squares, 3)]).to_json())
    assert record["writer"] == "retrieve"
    assert len(record["sentences_sha256"]) == 64
    assert all(sentence["source"].startswith("train") for sentence in record["sentences"])


def test_a_stream_hands_the_text_out_whole(trained: Path, squares: TinySet) -> None:
    pieces: list[str] = []
    report = loaded(trained).report([path_of(squares, 3)], on_text=pieces.append)
    assert pieces == [report.text]


def test_it_has_a_hash_and_maps_of_findings_alone(trained: Path, squares: TinySet) -> None:
    reporter = loaded(trained)
    assert reporter.origin.model_sha256 is not None
    report = reporter.report([path_of(squares, 3)])
    assert report.evidence().method == "findings"
    with pytest.raises(InputError, match="findings alone"):
        reporter.explain(report, "occlusion")


def test_settings_of_decoding_have_no_effect_and_that_is_said(
    trained: Path, squares: TinySet, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        reporter = loaded(trained, beam_size=2, speculate=False)
    assert "beam_size, speculate: no effect" in caplog.text.replace("`", "")
    assert reporter.report([path_of(squares, 0)]).text


def test_it_is_refused_in_a_line_where_there_is_nothing_to_retrieve(
    trained: Path, tiny_checkpoint: Path, run_cli: Cli, squares: TinySet
) -> None:
    for model, why in ((tiny_checkpoint, "no finding head"), (trained / "last", f"no {SENTENCES}")):
        done = run_cli(["generate", path_of(squares, 0), "--model", str(model), "--writer", "retrieve"])
        assert (done.code, done.stdout) == (2, "")
        assert "--writer retrieve: --model" in done.stderr
        assert why in done.stderr
    flags = ["--model", str(trained), "--writer", "retrieve", "--abstain_below", "0.5"]
    done = run_cli(["generate", path_of(squares, 0), *flags])
    assert done.code == 2
    assert "--abstain_below 0.5: sentences that --writer retrieve takes" in done.stderr
    with pytest.raises(InputError, match="choose from generate, retrieve"):
        r2gengpt.load(trained, writer="search")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"model": ModelConfig()}, "findings_head"),
        ({"studies": [Study("a", (Path("x"),))]}, "no training study has a report"),
        ({"train": TrainConfig(keep_sentences=True, strategy="fsdp", devices="2")}, "strategy fsdp"),
    ],
)
def test_keeping_sentences_is_refused_where_nothing_could_choose_them(settings: dict[str, Any], why: str) -> None:
    head, keeps = ModelConfig(findings_head=True), TrainConfig(keep_sentences=True)
    config = RunConfig(settings.get("model", head), DataConfig(), train=settings.get("train", keeps))
    studies: Sequence[Study] = settings.get("studies", [Study("a", (Path("x"),), "Clear.")])
    with pytest.raises(InputError, match=why):
        check_keeps(config, studies)


def test_generate_prints_it(trained: Path, squares: TinySet, run_cli: Cli) -> None:
    flags = ["--model", str(trained), "--writer", "retrieve", "--format", "json", "--accelerator", "cpu"]
    done = run_cli(["generate", path_of(squares, 3), *flags])
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["report"] == loaded(trained).report([path_of(squares, 3)]).text


def test_a_test_scores_it(trained: Path, squares: TinySet, run_cli: Cli, tmp_path: Path) -> None:
    flags = ["--model", str(trained), "--writer", "retrieve", "--accelerator", "cpu", "--output", str(tmp_path)]
    done = run_cli(["test", *flags, "--shuffle_images", "True"])
    assert done.code == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["metrics"]["rouge_l"]["value"] > scores["baselines"]["images_shuffled"]["metrics"]["rouge_l"]["value"]
    assert "taken from reports" in scores["not_available"]["confidence"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Taken from the report of study train" in page
    assert "retrieve" in page
    studies = read_annotation(squares.annotation, squares.base_dir, ("test",))["test"]
    texts = [json.loads(line)["prediction"] for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert texts == [loaded(trained).report([path]).text for (path,) in (study.image_paths for study in studies)]


def test_what_needs_token_probabilities_or_a_language_model_is_refused(
    trained: Path, run_cli: Cli, tmp_path: Path
) -> None:
    flags = ["test", "--model", str(trained), "--writer", "retrieve", "--accelerator", "cpu", "--output", str(tmp_path)]
    maps = ["--evidence", "True", "--evidence_method", "gradient"]
    for more, why in ((["--calibrate", "True"], "--calibrate True: sentences that"), (maps, "findings alone: maps by")):
        done = run_cli([*flags, *more])
        assert (done.code, done.stdout) == (2, "")
        assert why in done.stderr


def test_a_server_composes_and_says_so(trained: Path, squares: TinySet) -> None:
    reporter, data = loaded(trained), Path(path_of(squares, 3)).read_bytes()
    with client_of(reporter) as (client, _):
        plain = client.post("/v1/reports", files=upload(data)).json()
        assert plain["findings"] == reporter.report([data]).text
        assert plain["provenance"]["writer"] == "retrieve"
        assert all(sentence["source"] for sentence in plain["sentences"])
        asked = {"model": reporter.name, "messages": message(data), "stream": True}
        chunks = client.post("/v1/chat/completions", json=asked).text
        assert plain["sentences"][0]["text"] in chunks
        assert client.post("/v1/chat/completions", json=asked | {"stream": False}).json()["provenance"]["writer"]
        mapped = client.post("/v1/reports?evidence=true", files=upload(data)).json()
        assert mapped["evidence"]["method"] == "findings"


def test_a_composed_answer_has_choices_stop_strings_and_json_and_no_logprobs(trained: Path, squares: TinySet) -> None:
    reporter, data = loaded(trained), Path(path_of(squares, 3)).read_bytes()
    whole = reporter.report([data])
    stop = whole.text[len(whole.text) // 2 :][:4]
    asked = {"model": reporter.name, "messages": message(data, text="Be brief."), "n": 2, "temperature": 1}
    with client_of(reporter) as (client, _):

        def ask(**fields: Any) -> Any:
            return client.post("/v1/chat/completions", json={**asked, **fields}).json()

        answer = ask(stop=stop)
        assert [choice["message"]["content"] for choice in answer["choices"]] == [whole.text.partition(stop)[0]] * 2
        for choice in answer["choices"]:
            assert [one["source"] for one in choice["sentences"]] == [
                one.source for one in whole.sentences[: len(choice["sentences"])]
            ]
        assert answer["warnings"] == [NO_EFFECT]
        document = json.loads(ask(response_format={"type": "json_object"})["choices"][1]["message"]["content"])
        assert document["findings"] == whole.text
        assert ask(logprobs=True)["error"]["param"] == "logprobs"


def test_a_bulk_run_composes_and_its_settings_say_so(trained: Path, squares: TinySet) -> None:
    choice = ModelChoice(str(trained), field="delta", accelerator="cpu", writer="retrieve")
    bulk = BulkModel(locate(choice), BatchConfig(input="films", output="out"))
    assert bulk.settings["writer"] == "retrieve"
    assert len(bulk.settings["sentences_sha256"]) == 64
    assert "writer" not in BulkModel(locate(replace(choice, writer="generate")), bulk.config).settings
    made = load_writer(bulk.located, 2, False, lambda: None)
    pixels = made.reporter.built.processor.pixels(study_of([path_of(squares, 3)]).pictures)
    (report,) = made.write([Decoded("a", (), pixels.numpy())], 0)
    assert report.text == loaded(trained).report([path_of(squares, 3)]).text
    assert made.origin["writer"] == "retrieve"


@pytest.mark.parametrize("name", ["delta.safetensors", "findings.json", "film_guard.npz", "calibration.json"])
def test_a_bulk_run_goes_on_with_the_files_that_it_began_with(name: str, trained: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(trained / "best", tmp_path / "model")
    config = BatchConfig(input="films", output="out")
    before = BulkModel(locate(ModelChoice(str(directory), field="delta")), config).settings
    with (directory / name).open("ab") as file:
        file.write(b" ")
    after = BulkModel(locate(ModelChoice(str(directory), field="delta")), config).settings
    assert {key for key in after if after[key] != before[key]} == {f"{Path(name).stem}_sha256"}


def test_an_archive_gets_a_document_of_it(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(film_data(0))
    made = writer(loaded(trained), "sr")([path], [read_header(path.read_bytes(), "film")])
    assert made.uid == writer(loaded(trained), "sr")([path], [read_header(path.read_bytes(), "film")]).uid


def test_a_model_of_reports_writes_by_retrieval_too(tiny_parts: Path, squares: TinySet, tmp_path: Path) -> None:
    config = head_run(tiny_parts, squares, tmp_path / "run", findings_only=False, keep_sentences=True, max_epochs=1,
                      limit_train_batches=1)  # fmt: skip
    train(replace(config, model=replace(config.model, findings_hint=True)), FLOAT32)
    report = loaded(tmp_path / "run", speculate=False).report([path_of(squares, 0)])
    assert all(sentence.source for sentence in report.sentences)
    written = r2gengpt.load(tmp_path / "run", accelerator="cpu").report([path_of(squares, 0)])
    assert not any(sentence.source for sentence in written.sentences)
    assert "writer" not in json.loads(written.to_json())
