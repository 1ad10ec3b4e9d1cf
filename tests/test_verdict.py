"""A verdict is one sentence that says the truth: better only above every baseline, level where chance explains it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from r2gengpt.cli.main import run
from r2gengpt.errors import InputError
from r2gengpt.metrics.baselines import CONSTANT_REPORT, Baseline
from r2gengpt.metrics.labels.family import LABEL_F1
from r2gengpt.metrics.measure import choose, headline_of
from r2gengpt.metrics.paired import Difference
from r2gengpt.metrics.protocols import PROTOCOLS
from r2gengpt.metrics.records import Scores
from r2gengpt.metrics.score import score
from r2gengpt.metrics.summary import COLUMNS, short_table, terminal_text
from r2gengpt.metrics.verdict import Outcome, judge, outcome, p_in_words

REFERENCES = {f"s{i}": f"word{i} word{i * 7} lungs clear left base number{i}" for i in range(40)}
BETTER = Difference(0.2, (0.1, 0.3), 0.002, 0.001)
LEVEL = Difference(-0.01, (-0.1, 0.1), 0.9, 0.8)
WORSE = Difference(-0.2, (-0.3, -0.1), 0.002, 0.001)


def scored(texts: dict[str, str], resamples: int = 200, labels: bool = False, headline: str | None = None) -> Scores:
    references, choice = {study: [REFERENCES[study]] for study in texts}, choose(labels=labels, headline=headline)
    return score(texts, references, PROTOCOLS["clean"], resamples=resamples, choice=choice)


@pytest.mark.parametrize(
    ("difference", "wanted"),
    [
        (BETTER, Outcome.BETTER),
        (LEVEL, Outcome.LEVEL),
        (WORSE, Outcome.WORSE),
        (Difference(0.2, (0.1, 0.3), 0.002, 0.05), Outcome.LEVEL),  # the interval alone is not enough
        (Difference(0.2, (-0.001, 0.3), 0.06, 0.04), Outcome.LEVEL),  # nor is p
        (Difference(0.0, (0.0, 0.0), 1.0, 1.0), Outcome.LEVEL),
        (Difference(0.2, (0.0, 0.3), 0.04, 0.04), Outcome.LEVEL),
        (Difference(-0.2, (-0.3, 0.0), 0.04, 0.04), Outcome.LEVEL),
        (Difference(0.2), Outcome.UNKNOWN),
        (Difference(0.2, (0.1, 0.3), 0.002), Outcome.UNKNOWN),  # nothing was swapped
        (Difference(0.2, None, None, 0.001), Outcome.UNKNOWN),
    ],
)
def test_a_difference_counts_where_its_interval_and_its_p_agree(difference: Difference, wanted: Outcome) -> None:
    assert outcome(difference) is wanted


@pytest.mark.parametrize(
    ("against", "named", "wanted"),
    [
        ({"constant": BETTER, "nearest_image": replace(BETTER, value=0.1)}, "nearest_image", Outcome.BETTER),
        # one that it is not told apart from goes before a nearer one that it is told apart from
        ({"constant": replace(LEVEL, value=0.3), "nearest_image": BETTER}, "constant", Outcome.LEVEL),
        ({"constant": replace(LEVEL, value=-0.9), "nearest_image": WORSE}, "nearest_image", Outcome.WORSE),
    ],
)
def test_the_baseline_that_is_named_is_the_one_that_the_model_does_worst_against(
    against: dict[str, Difference], named: str, wanted: Outcome
) -> None:
    told = judge(
        "cider", 0.5, dict.fromkeys(against, 0.4), against, studies=9, patients=None, distinct=9, collapsed=False
    )
    assert (told.baseline, told.outcome) == (named, wanted)


def test_a_good_model_is_better_than_all_baselines_with_interval_and_p() -> None:
    told = scored({study: text if i % 4 else "word" for i, (study, text) in enumerate(REFERENCES.items())}).verdict
    assert told.outcome is Outcome.BETTER
    assert told.sentence.startswith("Better than all 2 baselines, the nearest ")
    assert "CIDEr-D " in told.sentence
    assert "(95 % interval +" in told.sentence
    assert told.sentence.endswith(f", p {1 / 201:.3f}), on 40 studies.")
    assert (told.warnings, told.why) == ((), "")
    assert told.sentence.count(". ") == 0  # one sentence


def test_a_model_that_writes_the_constant_report_is_level_with_it_and_collapsed() -> None:
    told = scored(dict.fromkeys(REFERENCES, CONSTANT_REPORT)).verdict
    assert told.outcome is Outcome.LEVEL
    assert told.sentence.startswith("Level with the constant report: CIDEr-D ")
    assert "difference +0.000 (95 % interval +0.000 to +0.000, p 1.000)" in told.sentence
    assert told.warnings == ("collapsed: 1 distinct output for 40 studies", "level with the constant report")


def test_a_model_below_a_baseline_is_worse_than_it() -> None:
    texts = dict.fromkeys(REFERENCES, "heart")
    better = Baseline("looked up", dict(REFERENCES), human=True)
    scores = score(
        texts,
        {study: [text] for study, text in REFERENCES.items()},
        PROTOCOLS["clean"],
        beside={"nearest_image": better, "oracle_hint": better},
        resamples=200,
        patients={study: study[:2] for study in texts},
    )
    told = scores.verdict
    assert told.sentence.startswith("Worse than the report of the nearest training image: ")
    assert told.sentence.endswith("on 40 studies of 10 patients.")
    assert "oracle_hint" not in told.against  # it knows the answer


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"constant": BETTER, "nearest_labels": LEVEL},
         "Better than 1 of 2 baselines; on 9 studies it cannot be told from this one, which reads films by the model's "
         "own finding head."),
        ({"constant": WORSE}, "Better than no baseline; this one is above it."),
        ({"constant": BETTER}, ""),
        ({"constant": Difference(0.2)}, ""),
    ],
)  # fmt: skip
def test_a_verdict_that_is_not_better_tells_why(found: dict[str, Difference], why: str) -> None:
    told = judge("cider", 0.5, dict.fromkeys(found, 0.4), found, studies=9, patients=None, distinct=9, collapsed=False)
    assert told.why == why
    assert told.to_json()["why"] == why


def test_a_sentence_tells_an_interval_only_beside_a_p_and_counts_one_study() -> None:
    found = {"constant": Difference(0.2, (0.1, 0.3), 0.002)}
    told = judge("cider", 0.5, {"constant": 0.3}, found, studies=1, patients=None, distinct=1, collapsed=False)
    assert told.sentence == (
        "No verdict, nothing was resampled; beside the constant report: "
        "CIDEr-D 0.500 against 0.300, difference +0.200, on 1 study."
    )
    told = judge("cider", 0.5, {"x": 0.3}, {"x": BETTER}, studies=9, patients=4, distinct=9, collapsed=False)
    assert told.sentence == (
        "Better than the row x: CIDEr-D 0.500 against 0.300, difference +0.200 (95 % interval +0.100 to +0.300, "
        "p 0.001), on 9 studies of 4 patients."
    )


def test_a_p_that_rounds_to_nothing_is_told_as_smaller() -> None:
    assert [p_in_words(p) for p in (0.0, 0.0004, 0.0005, 0.05, 1.0)] == [
        "p < 0.001", "p < 0.001", "p 0.001", "p 0.050", "p 1.000"
    ]  # fmt: skip


@pytest.mark.parametrize("texts", [{"s0": "word0"}, dict.fromkeys(REFERENCES, "x")])
def test_without_resamples_there_is_no_verdict_and_no_warning_of_the_constant(texts: dict[str, str]) -> None:
    told = scored(texts, resamples=0).verdict
    assert told.outcome is Outcome.UNKNOWN
    assert told.sentence.startswith("No verdict, nothing was resampled; beside ")
    assert not [line for line in told.warnings if "constant" in line]


@pytest.mark.parametrize(("resamples", "told"), [(0, False), (1, True), (19, True), (20, False)])
def test_so_few_resamples_that_no_p_is_small_are_told(resamples: int, told: bool) -> None:
    found = scored({name: texts[0] for name, texts in REFERENCES.items()}, resamples=resamples)
    assert any("too few for a verdict" in note for note in found.notes) is told
    assert not told or found.verdict.outcome is Outcome.LEVEL


def test_a_verdict_rests_on_labels_where_they_were_measured() -> None:
    assert headline_of(["bleu_4", "cider", LABEL_F1]) == LABEL_F1
    assert headline_of(["bleu_4", "cider"]) == "cider"
    assert headline_of(["words"]) == "words"


def test_a_verdict_rests_on_the_metric_that_is_named() -> None:
    made = scored(dict.fromkeys(REFERENCES, "word0"), headline="bleu_1").verdict
    assert made.metric == "bleu_1"
    assert "bleu_1" in made.sentence


def test_a_verdict_calls_the_score_of_sides_by_words() -> None:
    made = judge(
        "side_f1", 0.5, {"constant": 0.3}, {"constant": BETTER}, studies=9, patients=None, distinct=9, collapsed=False
    )
    assert made.sentence.startswith("Better than the constant report: F1 of sides 0.500 against 0.300")


def test_a_headline_that_is_not_measured_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"headline.*side_f1.*is not measured here: choose from bleu_1, .*cider"):
        choose(headline="side_f1")
    assert choose(labels=True, headline="side_f1").headline == "side_f1"


def test_scores_json_holds_the_verdict() -> None:
    scores = scored(dict.fromkeys(REFERENCES, CONSTANT_REPORT))
    told = json.loads(json.dumps(scores.to_json(), allow_nan=False))["verdict"]
    assert told["sentence"] == scores.verdict.sentence
    assert (told["outcome"], told["metric"], told["baseline"]) == ("level", "cider", "constant")
    assert told["warnings"] == list(scores.verdict.warnings)
    assert set(told["against"]) == {"constant", "texts_shuffled"}
    assert told["against"]["constant"]["outcome"] == "level"
    assert set(told["difference"]) == {"value", "ci95", "p_bootstrap", "p_randomisation"}


def full(texts: dict[str, str]) -> Scores:
    """Scores with every row and part that a terminal may have to show."""
    moved = Baseline("moved", dict(zip(texts, reversed(texts.values()), strict=True)), human=False)
    names = ("nearest_image", "nearest_labels", "oracle_hint", "images_shuffled")
    scores = score(
        texts,
        {study: [text] for study, text in REFERENCES.items()},
        PROTOCOLS["clean"],
        choice=choose(labels=True),
        train=list(REFERENCES.values()),
        beside=dict.fromkeys(names, moved),
        missing={"meteor": "a reason of many words " * 9},
        resamples=20,
    )
    area = {"value": 0.5, "ci95": [0.1, 0.9]}
    normal = {"n": 3, "called_so": 1}
    row = {"normal": normal, "abnormal": normal, "balanced_accuracy": area, "moved": area}
    head = {"all": {"mean_auc": {**area, "over": ["Edema"]}}, "normal_or_abnormal": {"all": row, "by_source": {}}}
    confidence = {"ece": area, "temperature": 1.0, "n_sentences": 40}
    boxes = {"mass": area, "chance": area, "n": 3}
    return replace(
        scores,
        findings={"head": head, "text": {"all": row, "by_source": {"drawn": row}}, "boxes": boxes},
        confidence=confidence,
    )


def test_the_table_of_a_terminal_fits_100_columns_and_opens_with_the_verdict() -> None:
    scores = full(dict.fromkeys(REFERENCES, CONSTANT_REPORT))
    lines = short_table(scores).splitlines()
    assert max(map(len, lines)) <= COLUMNS == 100
    assert " ".join(" ".join(lines).split()).startswith(f"{scores.verdict.sentence} {scores.verdict.why}".strip())
    assert "! collapsed: 1 distinct output for 40 studies" in lines
    assert "! level with the constant report" in lines
    for words in (
        "grounding gap ",
        "confidence calibrated",
        "finding head: mean area",
        "evidence maps in",
        "normal or ",
    ):
        assert any(line.startswith(words) for line in lines), words
    row = next(line.split() for line in lines if line.startswith("rouge_l"))
    best = max(value.metrics["rouge_l"].value for name, value in scores.baselines.items() if name != "oracle_hint")
    assert row[-2] == f"{best:.4f}"


def test_the_grounding_gap_has_its_interval_and_p_where_they_are_known() -> None:
    scores = full(dict.fromkeys(REFERENCES, CONSTANT_REPORT))
    for gap, words in (
        (BETTER, "grounding gap +0.2000 (+0.1000 to +0.3000), p 0.001: "),
        (Difference(-0.2), "grounding gap -0.2000: "),
    ):
        text = short_table(replace(scores, grounding_gap={scores.verdict.metric: gap}))
        assert f"{words}{LABEL_F1}, true minus shuffled images" in " ".join(text.split())


def test_a_line_that_is_broken_goes_on_below_its_words() -> None:
    lines = short_table(full(dict.fromkeys(REFERENCES, CONSTANT_REPORT))).splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("outputs    "))
    assert lines[place + 1][:12].strip() == lines[place + 1][11]


def test_notes_stand_below_the_table_but_that_of_the_collapse() -> None:
    scores = full(dict.fromkeys(REFERENCES, CONSTANT_REPORT))
    assert any(note.startswith("collapsed") for note in scores.notes)
    text = short_table(scores)
    assert "note: clinical labels are rule-based" in text
    assert "note: collapsed" not in text


def test_a_head_without_a_mean_area_has_no_line() -> None:
    scores = full(dict.fromkeys(REFERENCES, CONSTANT_REPORT))
    assert scores.findings is not None
    head = scores.findings["head"]
    for findings in ({"head": head | {"all": {"mean_auc": {"over": []}}}}, {"text": scores.findings["text"]}):
        text = short_table(replace(scores, findings=findings))
        assert "finding head" not in text
        assert "normal or abnormal by" in text


def test_details_have_every_baseline_below_the_same_verdict() -> None:
    scores = scored(dict.fromkeys(REFERENCES, CONSTANT_REPORT), labels=True)
    text = terminal_text(scores, details=True)
    assert " ".join(text.split()).startswith(scores.verdict.sentence)
    assert "clinical_example_f1_5_uncertain_as_negative" in text
    assert "clinical_example_f1_5_uncertain_as_negative" not in terminal_text(scores)


def test_the_command_prints_the_verdict_first_and_the_wide_table_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"id": k, "prediction": v, "reference": v}) for k, v in REFERENCES.items()]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines))
    given = ["--predictions", str(tmp_path / "predictions.jsonl"), "--meteor", "none", "--bootstrap", "100"]
    assert run("score", given) == 0
    short = capsys.readouterr().out
    assert short.startswith("Better than all 2 baselines")
    assert max(map(len, short.splitlines())) <= 100
    assert "texts_shuffled" not in next(line for line in short.splitlines() if line.startswith("metric"))
    for words in (["--details"], ["--details", "True"]):
        assert run("score", [*given, *words]) == 0
        wide = capsys.readouterr().out
        assert wide.startswith("Better than all 2 baselines")
        assert "texts_shuffled" in next(line for line in wide.splitlines() if line.startswith("metric"))
