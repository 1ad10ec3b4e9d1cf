"""An earlier study beside a study: its films with a mark of time, its report in the prompt, from file to draft."""

import dataclasses
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Outcome, TinySet
from dicom_files import film
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.confidence.evidence import tell
from r2gengpt.confidence.finding_maps import MapMaker
from r2gengpt.confidence.findings import Scale
from r2gengpt.confidence.looking import Looker
from r2gengpt.confidence.maps import Evidence
from r2gengpt.confidence.review import NO_PRIOR
from r2gengpt.config import ModelConfig
from r2gengpt.data.annotation import read_annotation, write_annotation
from r2gengpt.data.batches import Batch, prompt_batch, training_batch
from r2gengpt.data.features.filling import cached_features
from r2gengpt.data.loading import FieldDropout, StudyDataset
from r2gengpt.data.ordering import row_lengths
from r2gengpt.data.study import Study, with_earlier
from r2gengpt.errors import InputError
from r2gengpt.exporting import our_part
from r2gengpt.generation.library import token_logprobs
from r2gengpt.generation.prompts import image_features
from r2gengpt.locate import ModelChoice
from r2gengpt.model.earlier import NOW, TimeMarks, mean_of_studies, span_of
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.reporter import Reporter
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import noise_image
from r2gengpt.text.context import Context
from r2gengpt.text.observations import ALL_OBSERVATIONS, OBSERVATIONS
from r2gengpt.training.reinforcement.sampling import learnt_batch
from r2gengpt.training.reinforcement.tokens import token_scores
from r2gengpt.training.run import train
from reinforcement_parts import reinforced_run
from test_reinforcement_run import policy_and_batch
from training_settings import small_run

FLOAT32 = PlacementConfig(dtype="float32")
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}  # float32 sums in another order


@pytest.fixture(scope="module")
def told_set(tiny_set: TinySet, tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """The tiny set: each study but the first of a split has the one before as its prior, 40 days before."""
    splits = json.loads(tiny_set.annotation.read_text())
    for records in splits.values():
        for before, record in pairwise(records):
            record |= {"prior": before["id"], "prior_days": 40}
    path = tmp_path_factory.mktemp("told") / "annotation.json"
    path.write_text(json.dumps(splits))
    return TinySet(path, tiny_set.base_dir)


def built_with(parts: Path, **options: Any) -> Built:
    torch.manual_seed(0)
    names = {"lm_model": str(parts / "lm-stablelm"), "vision_model": str(parts / "vision-swin")}
    return build_model(ModelConfig(**{**names, "prior_study": True, **options}), FLOAT32)


def studies_of(data: TinySet, split: str = "train") -> tuple[Study, ...]:
    return read_annotation(data.annotation, data.base_dir)[split]


def batch_of(built: Built, studies: tuple[Study, ...], **options: Any) -> Batch:
    dataset = StudyDataset(studies, built.processor, "plain", **options)
    return training_batch([dataset[(0, index)] for index in range(len(studies))], built.processor, 60)


def test_the_file_gives_a_study_its_earlier_one_whatever_its_split(told_set: TinySet) -> None:
    first, second, *_ = studies_of(told_set)
    assert first.earlier is None
    assert (second.earlier, second.prior_days) == (first, 40.0)
    content = json.loads(told_set.annotation.read_text())
    content["test"][0] |= {"prior": "train0", "prior_days": 3}
    path = told_set.annotation.with_name("across.json")
    path.write_text(json.dumps(content))
    found = read_annotation(path, told_set.base_dir, ("test",))["test"][0]
    assert found.earlier is not None
    assert (found.earlier.id, found.context.prior, found.context.prior_days) == ("train0", found.earlier.report, 3.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prior": "train1"}, "prior train1 is the study itself"),
        ({"patient": "other"}, "is of another patient"),
        ({"prior_days": -1}, "prior_days is -1"),
        ({"prior_days": "soon"}, "prior_days is"),
    ],
)
def test_a_prior_that_cannot_be_is_refused_by_study(
    told_set: TinySet, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    content = json.loads(told_set.annotation.read_text())
    content["train"][0]["patient"] = "one"
    content["train"][1] |= changes
    path = tmp_path / "annotation.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=reason):
        read_annotation(path, told_set.base_dir)


@pytest.mark.parametrize("fusion", ["mean", "concat"])
def test_batches_by_length_count_the_films_of_earlier_studies(fusion: str, tiny_parts: Path, told_set: TinySet) -> None:
    built, studies = built_with(tiny_parts, fusion=fusion), studies_of(told_set)
    films = StudyDataset(studies, built.processor, "plain")
    rows = [int(training_batch([films[0, at]], built.processor, 9).attention_mask.sum()) for at in range(len(studies))]
    assert row_lengths(studies, built.processor, "plain", 9) == rows


def test_prior_and_days_outlive_a_file(told_set: TinySet, tmp_path: Path) -> None:
    splits = read_annotation(told_set.annotation, told_set.base_dir)
    write_annotation(tmp_path / "a.json", splits, told_set.base_dir)
    assert read_annotation(tmp_path / "a.json", told_set.base_dir) == splits


@pytest.mark.parametrize(
    ("days", "span"), [(None, 0), (0, 1), (1, 1), (2, 2), (7, 2), (30, 3), (90, 4), (365, 5), (1095, 6), (1096, 7)]
)
def test_days_fall_into_one_of_eight_spans(days: float | None, span: int) -> None:
    assert span_of(days) == span


def test_means_are_those_of_each_study_and_of_its_earlier_one() -> None:
    features = torch.arange(10.0).reshape(5, 1, 2)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    marks = torch.tensor([[NOW, NOW, 4], [NOW, 2, NOW]])
    found, since = mean_of_studies(features, mask, marks)
    assert found.tolist() == [[[1.0, 2.0]], [[4.0, 5.0]], [[6.0, 7.0]], [[8.0, 9.0]]]
    assert since.tolist() == [NOW, 4, NOW, 2]


def test_a_mark_is_added_to_the_tokens_of_an_earlier_study_alone() -> None:
    marks = TimeMarks(2)
    tokens = torch.zeros(2, 3, 2)
    assert torch.equal(marks(tokens, torch.tensor([NOW, 4])), tokens), "zeros before training"
    with torch.no_grad():
        marks.weight[4] = torch.tensor([1.0, 2.0])
    now, before = marks(tokens, torch.tensor([NOW, 4]))
    assert torch.equal(now, tokens[0])
    assert before.tolist() == [[1.0, 2.0]] * 3


@pytest.mark.parametrize("fusion", ["mean", "concat"])
def test_the_films_of_an_earlier_study_are_further_image_tokens(
    fusion: str, tiny_parts: Path, told_set: TinySet
) -> None:
    built, studies = built_with(tiny_parts, fusion=fusion), studies_of(told_set)[:3]
    batch, per = batch_of(built, studies), built.processor.tokens_per_view
    before = [0 if one.earlier is None else len(one.earlier.image_paths) for one in studies]
    assert batch.views == [(len(one.image_paths), count) for one, count in zip(studies, before, strict=True)]
    places = (batch.input_ids == built.processor.image_token_id).sum(1).tolist()
    mean = [1 + (count > 0) for count in before]
    every = [len(one.image_paths) + count for one, count in zip(studies, before, strict=True)]
    assert places == [per * count for count in (mean if fusion == "mean" else every)]
    assert batch.marks is not None
    assert batch.marks[1].tolist()[: sum(batch.views[1])] == [NOW] * batch.views[1][0] + [4] * batch.views[1][1]
    assert torch.isfinite(built.model.loss(**batch.inputs()))


def test_the_tokens_of_the_study_are_those_that_it_has_without_an_earlier_one(
    tiny_parts: Path, told_set: TinySet
) -> None:
    built, studies = built_with(tiny_parts), studies_of(told_set)[1:2]
    model, per = built.model, built.processor.tokens_per_view
    with torch.no_grad():
        both = batch_of(built, studies)
        tokens = model.image_tokens(model.encode_views(both.pixel_values, both.view_mask), both.view_mask, both.marks)  # type: ignore[arg-type]
        alone = batch_of(built, (dataclasses.replace(studies[0], earlier=None),))
        wanted = model.image_tokens(model.encode_views(alone.pixel_values, alone.view_mask), alone.view_mask)  # type: ignore[arg-type]
    torch.testing.assert_close(tokens[:per], wanted, **CLOSE)
    assert alone.marks is None


def test_the_prompt_tells_report_and_days_and_a_model_without_prior_hears_nothing(
    tiny_parts: Path, told_set: TinySet
) -> None:
    studies, built = studies_of(told_set)[1:2], built_with(tiny_parts)
    assert studies[0].earlier is not None
    words = f"Prior report, 40 days before: {studies[0].earlier.report}"
    assert batch_of(built, studies).instructions == (f"{built.processor.instruction} {words}",)
    assert batch_of(built, studies).compared == (True,)
    bare = batch_of(built_with(tiny_parts, prior_study=False), studies)
    assert (bare.instructions, bare.marks, bare.compared) == ((), None, (False,))
    assert built_with(tiny_parts, prior_study=False).model.time_marks is None


def test_films_and_report_of_an_earlier_study_are_left_out_by_themselves(tiny_parts: Path, told_set: TinySet) -> None:
    drop = FieldDropout(0.3, seed=1)
    keys = [(epoch, index) for epoch in range(10) for index in range(200)]
    films = [drop.keeps_films(key) for key in keys]
    reports = [bool(drop.of(Context(prior="Clear."), key).prior) for key in keys]
    for kept in (films, reports):
        assert 0.66 < sum(kept) / len(kept) < 0.74
    assert 0.44 < sum(film and report for film, report in zip(films, reports, strict=True)) / len(keys) < 0.54
    dropped = batch_of(built_with(tiny_parts), studies_of(told_set)[1:2], left_out=FieldDropout(1.0, 1))
    assert (dropped.marks, dropped.instructions, dropped.compared) == (None, (), (False,))


def test_a_cache_gives_the_features_of_both_studies(tiny_parts: Path, told_set: TinySet, tmp_path: Path) -> None:
    built, studies = built_with(tiny_parts), studies_of(told_set)[:3]
    cached = cached_features(
        str(tmp_path), "float32", built.model, built.processor, tuple(dict.fromkeys(with_earlier(studies))),
        device=torch.device("cpu"),
    )  # fmt: skip
    with torch.no_grad():
        losses = [built.model.eval().loss(**batch_of(built, studies, features=one).inputs()) for one in (None, cached)]
    torch.testing.assert_close(*losses, **CLOSE)


def test_the_finding_head_looks_at_no_earlier_film(tiny_parts: Path, told_set: TinySet) -> None:
    built, studies = built_with(tiny_parts, findings_head=True), studies_of(told_set)[:3]
    both = batch_of(built, studies)
    alone = batch_of(built, tuple(dataclasses.replace(one, earlier=None) for one in studies))
    model = built.model.eval()
    with torch.no_grad():
        found = [
            model.finding_logits(model.encode_views(one.pixel_values, one.view_mask), one.view_mask, one.marks)  # type: ignore[arg-type]
            for one in (both, alone)
        ]
    torch.testing.assert_close(*found, **CLOSE)


@pytest.mark.parametrize("fusion", ["mean", "concat"])
def test_maps_are_of_the_study_itself_in_the_prompt_that_its_report_was_written_from(
    fusion: str, tiny_parts: Path, told_set: TinySet
) -> None:
    built, text = built_with(tiny_parts, fusion=fusion), "The lungs are clear."
    model, processor, dataset = (
        built.model.eval(),
        built.processor,
        StudyDataset(studies_of(told_set), built.processor, "plain"),
    )
    assert model.time_marks is not None
    torch.nn.init.normal_(model.time_marks.weight)
    batch = prompt_batch([dataset[(0, 1)]], processor)
    (own, earlier), ids = batch.views[0], processor.encode_text(text)
    assert earlier
    forced, new = tell(model, processor, batch, ids), torch.tensor([ids])
    written = token_logprobs(model, batch, image_features(model, batch), new, torch.ones_like(new, dtype=torch.bool))
    torch.testing.assert_close(forced.logprobs(forced.image[None]), written, rtol=1e-4, atol=1e-4)
    (sentence,) = MapMaker(model, processor).of(batch, text).sentences
    assert len(sentence.map) == model.config.tokens_per_view * (1 if fusion == "mean" else own)


def test_what_another_program_gets_keeps_every_part_that_was_trained(tiny_parts: Path) -> None:
    model = built_with(tiny_parts, findings_head=True).model
    assert model.time_marks is not None
    torch.nn.init.normal_(model.time_marks.weight)
    part = our_part(model)
    assert {name for name, _ in part.named_children()} == {name for name, _ in model.named_children()}
    for name, tensor in model.state_dict().items():
        if not name.startswith("language_model."):
            assert torch.equal(part.state_dict()[name], tensor), name


def test_maps_of_findings_are_of_the_study_itself(tiny_parts: Path, told_set: TinySet) -> None:
    built, (before, study) = built_with(tiny_parts, findings_head=True), studies_of(told_set)[:2]
    scales = tuple(Scale(name, likely=-1e3, unlikely=-1e4, assessed=True) for name in ALL_OBSERVATIONS)
    looker = Looker(built.model.eval(), built.processor, scales, hints=False)
    assert built.model.finding_head is not None
    for parameter in built.model.finding_head.parameters():
        torch.nn.init.normal_(parameter)

    def mapped(one: Study) -> Evidence:
        batch = prompt_batch([StudyDataset((one,), built.processor, "plain")[(0, 0)]], built.processor)
        return MapMaker(built.model, built.processor, looker).of(batch, " ".join(f"{name}." for name in OBSERVATIONS))

    assert study.earlier == before
    found, wanted = mapped(study), mapped(dataclasses.replace(study, earlier=None))
    assert any(any(one.map) for one in wanted.sentences)
    for ours, theirs in zip(found.sentences, wanted.sentences, strict=True):
        assert (ours.text, ours.finding, ours.verdict) == (theirs.text, theirs.finding, theirs.verdict)
        assert ours.map == pytest.approx(theirs.map, abs=1e-5)


@pytest.fixture(scope="module")
def trained_with_prior(tiny_parts: Path, told_set: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = small_run(tiny_parts, told_set, tmp_path_factory.mktemp("run"), model={"prior_study": True}, max_epochs=1)
    train(run, FLOAT32)
    return Path(run.train.savedmodel_path) / "best"


def reporter_of(directory: Path) -> Reporter:
    return Reporter.load(ModelChoice(str(directory), accelerator="cpu"))


def test_the_marks_are_learnt_and_lie_in_the_delta(trained_with_prior: Path) -> None:
    built, stored = load_checkpoint(trained_with_prior, where=FLOAT32)
    assert stored.model.values["prior_study"] is True
    assert built.model.time_marks is not None
    assert bool(built.model.time_marks.weight[4].any()), "40 days, which the training set has"
    assert not bool(built.model.time_marks.weight[7].any()), "more than three years, which it has not"


def test_a_draft_beside_an_earlier_study_may_tell_of_change(
    trained_with_prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = reporter_of(trained_with_prior)
    context = Context(prior="Clear lungs.", prior_days=3)
    beside = reporter.report([noise_image(1)], context=context, prior=[noise_image(2)])
    assert beside.compared
    assert beside.instruction == f"{reporter.instruction} Prior report, 3 days before: Clear lungs."
    assert reporter.report([noise_image(1)], prior=[noise_image(2)]).compared
    assert reporter.report([noise_image(1)], context=context).compared
    alone = reporter.report([noise_image(1)])
    assert not alone.compared
    told = dataclasses.replace(alone, text="Unchanged effusion.", sentences=())
    assert reporter.judged(told).review == (f'"Unchanged effusion." {NO_PRIOR}',)
    assert reporter.judged(dataclasses.replace(told, compared=True)).review == ()


def test_a_report_is_explained_in_the_prompt_that_it_was_written_from(
    trained_with_prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter, seen = reporter_of(trained_with_prior), list[Batch]()
    own = Reporter.batch
    monkeypatch.setattr(Reporter, "batch", lambda *a, **k: (seen.append(own(*a, **k)), seen[-1])[1])
    report = reporter.report([noise_image(1)], context=Context(prior_days=41), prior=[noise_image(2)])
    explained = dataclasses.replace(report, text="The lungs are clear.").evidence()
    assert len(explained.sentences) == 1
    written, told = seen
    assert written.marks is not None
    assert told.marks is not None
    for ours, theirs in ((told.marks, written.marks), (told.input_ids, written.input_ids)):
        assert ours.tolist() == theirs.tolist()
    assert told.pixel_values is not None
    assert written.pixel_values is not None
    assert bool((told.pixel_values == written.pixel_values).all())


def test_an_earlier_study_has_no_effect_on_a_model_without(
    tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = reporter_of(tiny_checkpoint)
    with_prior = reporter.report([noise_image(1)], prior=[noise_image(2)])
    assert (with_prior.text, with_prior.compared) == (reporter.report([noise_image(1)]).text, False)
    assert "no effect" in caplog.text
    assert "`prior`" in caplog.text


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PatientID": "P-2", "StudyInstanceUID": "1.2.3"}, "of two patients"),
        ({}, "are one study"),
        ({"StudyDate": "20260401", "StudyInstanceUID": "1.2.3"}, "is later than the study"),
    ],
)
def test_films_that_cannot_be_an_earlier_study_are_refused(
    trained_with_prior: Path, elements: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        reporter_of(trained_with_prior).report([film()], prior=[film(**elements)])


def test_days_come_from_the_headers_where_nobody_tells_them(trained_with_prior: Path) -> None:
    before = film(StudyDate="20251203", StudyInstanceUID="1.2.3")
    report = reporter_of(trained_with_prior).report([film()], prior=[before])
    assert str(report.instruction).endswith("Prior study: 30 days before.")


def test_generate_takes_films_report_and_days_of_an_earlier_study(
    trained_with_prior: Path, run_cli: Callable[[list[str]], Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        noise_image(number).save(tmp_path / f"{number}.png")
    (tmp_path / "before.txt").write_text("Clear lungs.\n")
    seen: list[Batch] = []
    own = Reporter.batch
    monkeypatch.setattr(Reporter, "batch", lambda *a, **k: (seen.append(own(*a, **k)), seen[-1])[1])
    where = ["generate", str(tmp_path / "1.png"), "--model", str(trained_with_prior), "--accelerator", "cpu"]
    flags = ["--prior", str(tmp_path / "2.png"), "--prior_report", str(tmp_path / "before.txt"), "--prior_days", "41"]
    outcome = run_cli([*where, *flags])
    assert outcome.code == 0, outcome.stderr
    assert seen[0].views == [(1, 1)]
    assert str(seen[0].instruction(0)).endswith("Prior report, 41 days before: Clear lungs.")
    for wrong, words in (
        (["--prior_days", "3"], "belongs to --prior"),
        (["--prior_report", str(tmp_path / "no.txt")], "no.txt"),
    ):
        refused = run_cli([*where, *wrong])
        assert (refused.code, words in refused.stderr) == (2, True)


def test_a_prompt_batch_has_the_films_too(tiny_parts: Path, told_set: TinySet) -> None:
    built, studies = built_with(tiny_parts), studies_of(told_set)[1:2]
    dataset = StudyDataset(studies, built.processor, "plain")
    batch = prompt_batch([dataset[(0, 0)]], built.processor)
    with torch.no_grad():
        ids = built.model.eval().generate(**batch.inputs(), max_new_tokens=3)
    assert ids.shape[1] <= 3


@pytest.mark.parametrize("fusion", ["mean", "concat"])
def test_the_loss_sees_the_films_of_an_earlier_study_as_the_engine_does(
    fusion: str, tiny_parts: Path, told_set: TinySet, tmp_path: Path
) -> None:
    model = {"prior_study": True, "fusion": fusion}
    first = small_run(tiny_parts, told_set, tmp_path / "first", model=model, max_epochs=1, choose_decode=0)
    run = reinforced_run(tiny_parts, told_set, tmp_path / "run", train(first).checkpoint)
    policy, batch = policy_and_batch(dataclasses.replace(run, model=first.model), told_set)
    prompts = policy.sampler.prompts(batch)
    assert prompts.marks is not None
    reports = policy.sampler.drawn(prompts, 1.0, seed=5)
    learnt = learnt_batch(prompts, reports, policy.built.processor.pad_token_id)
    found = token_scores(policy.built.model, learnt, 1.0, head_last=True).logprobs
    drawn = torch.tensor([value for report in reports for value in report.token_logprobs])
    torch.testing.assert_close(found.detach(), drawn, rtol=1e-4, atol=1e-5)  # float32 sums in another order
