"""What is known of a study beside its films: in the prompt, in training, from flags, headers and orders."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Outcome, TinySet
from dicom_files import film
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.config import CONTEXT_FIELDS as FIELDS
from r2gengpt.config import ModelConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.batches import Batch
from r2gengpt.data.loading import FieldDropout, StudyDataset
from r2gengpt.data.ordering import row_lengths
from r2gengpt.errors import InputError
from r2gengpt.films.context import age_of, context_of, since
from r2gengpt.films.dicom.header import DicomHeader, header_of
from r2gengpt.locate import ModelChoice
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.reporter import Reporter
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import noise_image
from r2gengpt.text.context import LONGEST, Context, age_in, check_context, days_in, instruction_for, sex_in, shortened
from r2gengpt.training.data import make_loaders, read_splits
from r2gengpt.training.run import train
from training_settings import small_run

FLOAT32 = PlacementConfig(dtype="float32")
WHOLE = Context("Cough", "PA and lateral", "None", 63.0, "F", "PA")


@pytest.fixture(scope="module")
def told_set(tiny_set: TinySet, tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """The tiny set, each study with all that a prompt can have."""
    splits = json.loads(tiny_set.annotation.read_text())
    for records in splits.values():
        for number, record in enumerate(records):
            record |= {"indication": f"Cough {number}.", "technique": "Erect.", "comparison": "None.", "sex": "F"}
            record |= {"age": 40 + number, "views": ["PA"] * len(record["image_path"])}
    path = tmp_path_factory.mktemp("told") / "annotation.json"
    path.write_text(json.dumps(splits))
    return TinySet(path, tiny_set.base_dir)


def built_with(parts: Path, **options: Any) -> Built:
    torch.manual_seed(0)
    names = {"lm_model": str(parts / "lm-stablelm"), "vision_model": str(parts / "vision-swin")}
    return build_model(ModelConfig(**{**names, **options}), FLOAT32)


def epoch_of(built: Built, data: TinySet, parts: Path, directory: Path, epoch: int, **train: Any) -> list[Batch]:
    run = small_run(parts, data, directory, model={"context": True}, **train)
    loader, _ = make_loaders(built, read_splits(run.data), run, 0, 1)
    loader.set_epoch(epoch)
    return list(loader)


def test_the_fields_stand_in_the_prompt_in_one_order_and_each_ends_with_one_period() -> None:
    words = "Age: 63. Sex: F. View: PA. Indication: Cough. Technique: PA and lateral. Comparison: None."
    assert WHOLE.words() == dataclasses.replace(WHOLE, comparison="None.").words() == words
    assert instruction_for(WHOLE, "Describe.", ("sex", "age")) == "Describe. Age: 63. Sex: F."
    assert instruction_for(Context(), "Describe.", FIELDS) is None
    assert Context(age=0.25).words() == "Age: 0.2."


def test_a_long_field_is_cut_at_a_word_and_no_field_can_bring_an_image_of_its_own() -> None:
    words = Context(indication="word " * 200 + "<ImageHere>").words()
    assert LONGEST - 10 < len(words) <= LONGEST + len("Indication: .")
    assert words.endswith("word.")
    assert "<ImageHere>" not in instruction_for(Context("a <ImageHere>"), "Describe.", FIELDS)  # type: ignore[operator]
    assert instruction_for(Context("<ImageHere>"), "Describe.") is None


def test_a_field_ends_after_400_characters_and_an_earlier_report_after_1000() -> None:
    long = "x" * 1001
    assert Context(indication=long).words() == f"Indication: {long[:400]}."
    assert Context(prior=long).words(("prior",)) == f"Prior report: {long[:1000]}."
    assert Context(prior=long[1:]).words(("prior",)) == f"Prior report: {long[1:]}."


@pytest.mark.parametrize(
    ("text", "most", "short"),
    [
        ("ab cd", 5, "ab cd"),
        ("ab cd ef", 5, "ab cd"),
        ("ab cd", 4, "ab"),
        ("ab cde f", 5, "ab"),
        ("abcdef", 4, "abcd"),
    ],
)
def test_a_text_is_cut_after_its_last_whole_word(text: str, most: int, short: str) -> None:
    assert shortened(text, most) == short


@pytest.mark.parametrize(
    ("prior", "days", "words"),
    [
        ("Clear.", None, "Prior report: Clear."),
        ("Clear.", 0.0, "Prior report, of the same day: Clear."),
        ("Clear.", 1.0, "Prior report, 1 day before: Clear."),
        ("", 41.0, "Prior study: 41 days before."),
        ("", None, ""),
    ],
)
def test_an_earlier_study_is_told_as_far_as_it_is_known(prior: str, days: float | None, words: str) -> None:
    found = Context("Cough", prior=prior, prior_days=days)
    assert found.words(("prior",)) == words
    assert found.words(("indication", "prior")) == f"Indication: Cough. {words}".strip()
    assert found.words() == found.only(("indication",)).words(("indication", "prior")) == "Indication: Cough."
    assert found.present == (("indication", "prior") if words else ("indication",))
    assert found.only(("prior",)) == Context(prior=prior, prior_days=days)


def test_only_a_context_that_tells_something_is_true() -> None:
    assert not Context()
    assert Context(sex="F")
    assert Context(prior_days=0.0)


def test_an_age_has_a_decimal_place_below_two_years() -> None:
    assert [Context(age=age).words() for age in (0.0, 1.9, 2.0, 2.4)] == [
        "Age: 0.0.",
        "Age: 1.9.",
        "Age: 2.",
        "Age: 2.",
    ]


@pytest.mark.parametrize(("name", "most"), [("age", 130), ("prior_days", 50_000)])
def test_an_age_and_a_time_have_bounds(name: str, most: int) -> None:
    def known(value: float) -> Context:
        return Context(age=value) if name == "age" else Context(prior_days=value)

    for value in (0.0, float(most)):
        assert getattr(known(value), name) == value
    for value in (-0.5, most + 0.5):
        with pytest.raises(InputError, match=name):
            known(value)


def test_what_is_no_context_is_refused_by_its_type() -> None:
    check_context(Context())
    with pytest.raises(InputError, match="is of type str"):
        check_context("Cough")


@pytest.mark.parametrize(("read", "most"), [(age_in, 130), (days_in, 50_000)])
def test_a_number_that_somebody_typed_is_read_within_its_bounds(read: Callable[[str], float | None], most: int) -> None:
    assert [read(text) for text in ("", " ", "0", " 12.5 ", str(most))] == [None, None, 0.0, 12.5, most]
    for text in (f"{most}.5", "-1", "1e2", "1234567", "one", "1.2345", "\u0663"):
        with pytest.raises(InputError, match=f"must be a number of .* from 0 to {most}"):
            read(text)


def test_a_sex_that_somebody_typed_is_m_or_f() -> None:
    assert [sex_in(text) for text in ("f", " M ", "", " ")] == ["F", "M", "", ""]
    with pytest.raises(InputError, match="must be M or F"):
        sex_in("W")


@pytest.mark.parametrize("read", [age_in, days_in, sex_in])
def test_no_more_than_20_characters_of_what_was_typed_are_shown(read: Callable[[str], object]) -> None:
    with pytest.raises(InputError) as refused:
        read("x" * 21)
    assert refused.value.value == "x" * 20


def test_the_repr_of_a_context_names_nothing_of_a_patient() -> None:
    assert repr(WHOLE) == "Context()"


def test_without_context_prompts_and_losses_are_those_of_a_set_that_tells_nothing(
    tiny_parts: Path, tiny_set: TinySet, told_set: TinySet, tmp_path: Path
) -> None:
    built = built_with(tiny_parts)
    batches = []
    for data in (tiny_set, told_set):
        run = small_run(tiny_parts, data, tmp_path)
        loader, _ = make_loaders(built, read_splits(run.data), run, 0, 1)
        batches.append(list(loader))
    for bare, told in zip(*batches, strict=True):
        assert torch.equal(bare.input_ids, told.input_ids)
        assert told.instructions == ()
        with torch.no_grad():
            assert torch.equal(built.model.loss(**bare.inputs()), built.model.loss(**told.inputs()))
    assert "context_fields" not in built.processor.to_dict()


def test_with_context_the_prompt_holds_the_fields_and_the_loss_is_another(
    tiny_parts: Path, told_set: TinySet, tmp_path: Path
) -> None:
    built = built_with(tiny_parts, context=True)
    (batch, *_) = epoch_of(built, told_set, tiny_parts, tmp_path, 0, context_dropout=0.0)
    processor = built.processor
    number = int(batch.ids[0].removeprefix("train"))
    words = f"Age: {40 + number}. Sex: F. View: PA. Indication: Cough {number}. Technique: Erect. Comparison: None."
    assert batch.instructions[0] == f"{processor.instruction} {words}"
    prompt = processor.prompt_row(int(batch.view_mask[0].sum()), batch.instructions[0])
    assert batch.input_ids[0].tolist()[: len(prompt)] == list(prompt)


def test_only_the_fields_that_are_asked_for_stand_in_the_prompt(
    tiny_parts: Path, told_set: TinySet, tmp_path: Path
) -> None:
    built = built_with(tiny_parts, context=True, context_fields=("indication", "age"))
    (batch, *_) = epoch_of(built, told_set, tiny_parts, tmp_path, 0, context_dropout=0.0)
    for name, asked in zip(batch.ids, batch.instructions, strict=True):
        assert str(asked).endswith(f" Age: {40 + int(name[5:])}. Indication: Cough {name[5:]}.")


@pytest.mark.parametrize("names", [(), ("weight",), ("age", "age")])
def test_fields_that_no_prompt_has_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="context_fields"):
        ModelConfig(context=True, context_fields=names)


def test_each_field_is_left_out_by_itself_about_as_often_as_asked_for() -> None:
    drop = FieldDropout(0.3, seed=1)
    kept = [drop.of(WHOLE, (epoch, index)).present for epoch in range(10) for index in range(200)]
    for name in FIELDS:
        assert 0.66 < sum(name in given for given in kept) / len(kept) < 0.74
    both = sum("age" in given and "sex" in given for given in kept) / len(kept)
    assert 0.44 < both < 0.54  # .49 where they are left out by themselves
    assert FieldDropout(0.0, 1).of(WHOLE, (0, 0)) == WHOLE
    assert not FieldDropout(1.0, 1).of(WHOLE, (0, 0))


def test_what_is_left_out_is_drawn_anew_each_epoch_and_by_the_seed(
    tiny_parts: Path, told_set: TinySet, tmp_path: Path
) -> None:
    built = built_with(tiny_parts, context=True)

    def asked(epoch: int, **train: Any) -> dict[str, str | None]:
        batches = epoch_of(built, told_set, tiny_parts, tmp_path, epoch, **train)
        return {name: text for batch in batches for name, text in zip(batch.ids, batch.instructions, strict=True)}

    assert asked(0) == asked(0)
    assert len({tuple(sorted(asked(0, seed=42).items(), key=str)), tuple(sorted(asked(1).items(), key=str)),
                tuple(sorted(asked(0, seed=7).items(), key=str))}) == 3  # fmt: skip


def test_validation_prompts_hold_all_fields(tiny_parts: Path, told_set: TinySet, tmp_path: Path) -> None:
    built = built_with(tiny_parts, context=True)
    run = small_run(tiny_parts, told_set, tmp_path, model={"context": True}, context_dropout=1.0)
    _, loader = make_loaders(built, read_splits(run.data), run, 0, 1)
    for batch in loader:
        assert batch.learn.instructions == batch.prompt.instructions
        assert all("Age" in str(text) and "Comparison" in str(text) for text in batch.learn.instructions)


def test_buckets_count_the_words_of_the_context(tiny_parts: Path, told_set: TinySet) -> None:
    studies = read_annotation(told_set.annotation, told_set.base_dir)["train"]
    bare, told = (
        row_lengths(studies, built_with(tiny_parts, context=on).processor, "plain", 60) for on in (False, True)
    )
    assert all(long > short for long, short in zip(told, bare, strict=True))


@pytest.fixture(scope="module")
def trained_with_context(tiny_parts: Path, told_set: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = small_run(tiny_parts, told_set, tmp_path_factory.mktemp("run"), model={"context": True}, max_epochs=1)
    train(run, FLOAT32)
    return Path(run.train.savedmodel_path) / "best"


def test_a_checkpoint_remembers_its_fields_and_writes_with_the_same_form(
    trained_with_context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, stored = load_checkpoint(trained_with_context, where=FLOAT32)
    assert stored.model.values["context"] is True
    assert built.processor.context_fields == FIELDS
    reporter = Reporter.load(ModelChoice(str(trained_with_context), accelerator="cpu"))
    report = reporter.report([noise_image(1)], context=WHOLE)
    assert report.instruction == f"{reporter.instruction} {WHOLE.words()}"
    assert reporter.report([noise_image(1)]).instruction is None


def test_a_dicom_header_fills_what_is_left_open_of_a_model_that_was_trained_with_it(
    trained_with_context: Path, tiny_checkpoint: Path
) -> None:
    header = film(PatientAge="063Y", ReasonForTheRequestedProcedure="Fever", StudyDescription="CHEST PA")
    found = Reporter.load(ModelChoice(str(trained_with_context), accelerator="cpu"))
    words = "Age: 63. Sex: F. View: PA. Indication: Cough. Technique: CHEST PA."
    assert found.report([header], context=Context("Cough")).instruction == f"{found.instruction} {words}"
    bare = Reporter.load(ModelChoice(str(tiny_checkpoint), accelerator="cpu"))
    assert bare.report([header]).instruction is None, "a model without context has the prompt that it was trained with"


@pytest.mark.parametrize(
    ("elements", "years"),
    [
        ({"PatientAge": "063Y"}, 63.0), ({"PatientAge": "006M"}, 0.5), ({"PatientAge": "130Y"}, 130.0),
        ({"PatientAge": "131Y"}, 75.998), ({"PatientAge": "999Y", "PatientBirthDate": ""}, None),
        ({}, 75.998), ({"PatientBirthDate": ""}, None), ({"PatientBirthDate": "20270101"}, None),
    ],
)  # fmt: skip
def test_the_age_is_the_headers_or_by_the_dates(elements: dict[str, Any], years: float | None) -> None:
    header = header_of(film(StudyDate="20260101", **elements), "x")
    expected = None if years is None else pytest.approx(years, abs=0.01)
    assert (age_of(header), context_of([header]).age) == (expected, expected)


def test_several_films_are_one_study_in_the_prompt() -> None:
    films: list[DicomHeader | None] = [None, *(header_of(film(ViewPosition=view), "x") for view in ("PA", "LL", "PA"))]
    assert context_of(films).view == "PA, LL"
    assert context_of([None]) == Context()


def test_generate_takes_the_context_as_flags(
    trained_with_context: Path, run_cli: Callable[[list[str]], Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise_image(1).save(tmp_path / "a.png")
    asked: list[str | None] = []
    own = Reporter.batch
    monkeypatch.setattr(Reporter, "batch", lambda self, pixels, text=None, name="study", **more: (
        asked.append(text), own(self, pixels, text, name, **more))[1])  # fmt: skip
    flags = ["--indication", "Cough", "--age", "63", "--sex", "F", "--view", "PA", "--comparison", "None"]
    where = ["--model", str(trained_with_context), "--accelerator", "cpu"]
    assert run_cli(["generate", str(tmp_path / "a.png"), *flags, "--technique", "Erect", *where]).code == 0
    words = "Age: 63. Sex: F. View: PA. Indication: Cough. Technique: Erect. Comparison: None."
    assert str(asked[0]).endswith(f" {words}")
    refused = run_cli(["generate", str(tmp_path / "a.png"), "--age", "300", *where])
    assert (refused.code, "--age 300" in refused.stderr, "130" in refused.stderr) == (2, True, True)


def test_a_test_shows_what_the_model_writes_from_the_context_alone(
    trained_with_context: Path, tiny_checkpoint: Path, run_cli: Callable[[list[str]], Outcome], tmp_path: Path
) -> None:
    def baselines(model: Path, *flags: str) -> dict[str, Any]:
        argv = ["test", "--ckpt_file", str(model), "--output", str(tmp_path), "--accelerator", "cpu", *flags]
        outcome = run_cli([*argv, "--nearest_image", "False"])
        assert outcome.code == 0, outcome.stderr
        return {**json.loads((tmp_path / "scores.json").read_text()), "printed": outcome.stdout}

    told = baselines(trained_with_context)
    row = told["baselines"]["text_only"]
    assert "one grey" in row["text"]
    assert set(row["metrics"]) == set(told["metrics"])
    assert "text_only" in told["printed"]
    assert baselines(trained_with_context, "--text_only", "False")["not_available"]["text_only"] == "--text_only False"
    bare = baselines(tiny_checkpoint)
    assert "text_only" not in {**bare["baselines"], **bare["not_available"]}


def test_a_film_that_shows_nothing_is_the_same_for_every_study_and_is_not_opened(
    tiny_parts: Path, told_set: TinySet
) -> None:
    studies = read_annotation(told_set.annotation, told_set.base_dir)["test"]
    gone = [dataclasses.replace(study, image_paths=(Path("gone.png"),)) for study in studies]
    dataset = StudyDataset(gone, built_with(tiny_parts, context=True).processor, "plain", blank=True)
    first, second = dataset[(0, 0)], dataset[(0, 1)]
    assert torch.equal(first.pixels, second.pixels)  # type: ignore[arg-type]
    assert first.instruction != second.instruction


def test_a_field_that_a_model_was_not_trained_with_is_named_once(
    tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = Reporter.load(ModelChoice(str(tiny_checkpoint), accelerator="cpu"))
    report = reporter.report([noise_image(1)], context=WHOLE)
    assert report.instruction == f"{reporter.instruction} Indication: Cough"
    assert caplog.text.count("no effect") == 1
    assert "`age`, `sex`, `view`, `technique`, `comparison`" in caplog.text


def test_an_age_in_weeks_or_days_is_in_years() -> None:
    assert age_of(dataclasses.replace(header_of(film(), "x"), age="010W")) == pytest.approx(70 / 365.25)
    assert age_of(dataclasses.replace(header_of(film(), "x"), age="010D")) == pytest.approx(10 / 365.25)
    assert age_of(dataclasses.replace(header_of(film(), "x"), age="018M")) == pytest.approx(1.5)


def test_an_earlier_study_of_the_same_day_is_one() -> None:
    now = header_of(film(), "x")
    before = dataclasses.replace(now, study_uid=f"{now.study_uid}.9")
    assert since(Context(), [now], [before]).prior_days == 0
    with pytest.raises(InputError, match="is later than the study"):
        since(Context(), [now], [dataclasses.replace(before, study_date="20260103")])


@pytest.mark.parametrize(("date", "days"), [("18890208", 50_000.0), ("18890207", None), ("18581117", None)])
def test_a_date_that_stands_for_none_gives_no_days(date: str, days: float | None) -> None:
    now = dataclasses.replace(header_of(film(), "x"), study_date="20260101")
    before = dataclasses.replace(now, study_uid=f"{now.study_uid}.9", study_date=date)
    assert since(Context(), [now], [before]).prior_days == days
