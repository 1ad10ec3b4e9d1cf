"""What a run tells of itself: curves and sample reports, to whom, and the best epoch with its reason."""

import importlib.machinery
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers.logger import DummyLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import Outcome, TinySet
from r2gengpt.config import RunConfig, TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.report import Report
from r2gengpt.training import loggers as room
from r2gengpt.training.loggers import beside_reference
from r2gengpt.training.run import train
from r2gengpt.training.standing import Attempt, Standing, why_best
from training_settings import small_run

Run = Callable[[list[str]], Outcome]


class Service(DummyLogger):  # type: ignore[misc]  # the library is untyped
    """A service elsewhere that notes all that reaches it."""

    def __init__(self, name: str, logs: Path) -> None:
        super().__init__()
        self.run_name, self.got, self.steps = name, {}, []

    def log_hyperparams(self, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        self.got.update(params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.steps.append((step, metrics))


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> list[Service]:
    made: list[Service] = []

    def make(name: str, logs: Path) -> Service:
        made.append(Service(name, logs))
        return made[-1]

    monkeypatch.setattr(room, "SERVICES", {"wandb": make, "mlflow": make})
    monkeypatch.setattr(room, "check_loggers", lambda names: None)
    monkeypatch.setattr("r2gengpt.training.checked.check_loggers", lambda names: None)
    monkeypatch.setattr(room, "refusals", lambda name: (OSError,))
    return made


def events(run: Path) -> EventAccumulator:
    (directory,) = (run / "logs" / "tensorboard").iterdir()
    found = EventAccumulator(str(directory))
    found.Reload()
    return found


def written(parts: Path, data: TinySet, run: Path, **train: Any) -> RunConfig:
    """Two epochs whose validations write reports."""
    return small_run(parts, data, run, scorer_types=("Bleu_1",), **train)


def test_tensorboard_has_a_curve_of_each_score_and_reports_beside_their_references(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    train(written(tiny_parts, tiny_set, tmp_path, log_samples=2, choose_decode=0))
    found = events(tmp_path)
    assert [one.step for one in found.Scalars("val_loss")] == [3, 7]
    assert {"bleu_4", "cider", "val_score", "loss"} <= set(found.Tags()["scalars"])
    studies = json.loads(tiny_set.annotation.read_text())["val"]
    texts = [tag for tag in found.Tags()["tensors"] if tag.startswith("reports/")]
    assert len(texts) == 2
    for tag in texts:
        name = tag.removeprefix("reports/").removesuffix("/text_summary")
        (reference,) = [study["report"] for study in studies if study["id"] == name]
        shown = [one.tensor_proto.string_val[0].decode() for one in found.Tensors(tag)]
        assert [one.step for one in found.Tensors(tag)] == [4, 8]
        assert all(text.startswith(f"**reference**\n\n    {reference}\n\n**written**\n\n") for text in shown)


def test_no_sample_is_written_where_none_is_asked_for(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> None:
    train(written(tiny_parts, tiny_set, tmp_path, log_samples=0, choose_decode=0, max_epochs=1))
    assert [tag for tag in events(tmp_path).Tags()["tensors"] if "reports" in tag] == []


def test_services_get_numbers_and_settings_but_no_path_and_no_report(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, services: list[Service]
) -> None:
    settings = written(tiny_parts, tiny_set, tmp_path / "my-run", loggers=("wandb", "mlflow"), choose_decode=0)
    train(settings)
    assert [one.run_name for one in services] == ["my-run", "my-run"]
    for one in services:
        assert {"val_loss", "bleu_1"} <= {name for _, metrics in one.steps for name in metrics}
        assert one.got["lm_model"] == "lm-stablelm"
        assert one.got["learning_rate"] == 1e-2
        everything = json.dumps([one.got, one.steps], default=str)
        reports = [study["report"] for study in json.loads(tiny_set.annotation.read_text())["val"]]
        assert [
            text for text in (str(tmp_path), str(tiny_parts), str(tiny_set.base_dir), *reports) if text in everything
        ] == []


def test_a_service_out_of_reach_ends_the_run_before_the_work(
    tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, services: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Service, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        raise OSError("no such host\nlook at the log")

    monkeypatch.setattr(Service, "log_hyperparams", refuse)
    with pytest.raises(InputError, match="loggers mlflow: cannot be started: no such host look at the log"):
        train(written(tiny_parts, tiny_set, tmp_path / "run", loggers=("mlflow",)))
    assert not (tmp_path / "run" / "last").exists()


@pytest.mark.parametrize("as_directory", [False, True], ids=["nothing", "a directory of its name"])
@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_whose_package_is_missing_is_refused_first(
    name: str,
    as_directory: bool,
    run_cli: Run,
    tiny_parts: Path,
    tiny_set: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = importlib.machinery.ModuleSpec(name, None) if as_directory else None
    monkeypatch.setattr("importlib.util.find_spec", lambda asked, package=None: found)
    words = ["train", "--lm_model", str(tiny_parts / "lm-stablelm"), "--vision_model", str(tiny_parts / "vision-swin")]
    data = ["--annotation", str(tiny_set.annotation), "--base_dir", str(tiny_set.base_dir), "--dataset", "plain"]
    outcome = run_cli([*words, *data, "--savedmodel_path", str(tmp_path / "run"), "--loggers", name])
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.splitlines()[-1].startswith(f"r2gengpt train: --loggers {name}: needs {name}: pip install '")
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("names", [("tensorboard",), ("wandb", "wandb")])
def test_a_logger_that_is_not_known_or_named_twice_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="choose from wandb, mlflow, each once"):
        TrainConfig(loggers=names)


def attempts(*scores: float, reach: float = 0.0) -> list[Attempt]:
    return [Attempt(epoch, 4 * (epoch + 1), Standing(reach, score)) for epoch, score in enumerate(scores)]


CIDER = TrainConfig(scorer_types=("CIDEr",), weights=(1.0,))
WITH_FLOOR = replace(CIDER, score_floors=("distinct=0.1",))


@pytest.mark.parametrize(
    ("found", "settings", "line"),
    [
        (
            attempts(0.2, 0.4, 0.3), CIDER,
            "best: epoch 2 of 3, step 8: CIDEr is 0.4, the highest of 3 validations; next 0.3 in epoch 3",
        ),
        (
            attempts(0.2, 0.4), CIDER,
            "best: epoch 2 of 2, step 8: CIDEr is 0.4, the highest of 2 validations; next 0.2 in epoch 1; "
            "the last one was the best, so more epochs may do better",
        ),
        (
            attempts(-0.2, -0.1), TrainConfig(scorer_types=("val_loss",), weights=(1.0,)),
            "best: epoch 2 of 2, step 8: val_loss is 0.1, the lowest of 2 validations; next 0.2 in epoch 1; "
            "the last one was the best, so more epochs may do better",
        ),
        (attempts(0.2), CIDER, "best: epoch 1 of 1, step 4: CIDEr is 0.2, the only validation"),
        (
            attempts(0.3, 0.3), CIDER,
            "best: epoch 1 of 2, step 4: CIDEr is 0.3, the highest of 2 validations; next 0.3 in epoch 2",
        ),
        (
            attempts(0.3, reach=-0.5), WITH_FLOOR,
            "best: epoch 1 of 1, step 4: CIDEr is 0.3, nearest to its floors, which none of 1 validations reached",
        ),
        (
            [Attempt(0, 4, Standing(0.0, 0.1)), *attempts(0.2, 0.9, reach=-0.5)[1:]], WITH_FLOOR,
            "best: epoch 1 of 2, step 4: CIDEr is 0.1, the highest of the 1 of 2 validations that reached their "
            "floors; next 0.9 in epoch 2 (below its floors)",
        ),
    ],
)  # fmt: skip
def test_the_best_epoch_is_told_with_its_reason(found: list[Attempt], settings: TrainConfig, line: str) -> None:
    assert why_best(found, settings) == line


def test_a_run_ends_with_the_line_and_keeps_what_was_compared(
    run_cli: Run, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    words = ["train", "--lm_model", str(tiny_parts / "lm-stablelm"), "--vision_model", str(tiny_parts / "vision-swin")]
    data = ["--annotation", str(tiny_set.annotation), "--base_dir", str(tiny_set.base_dir), "--dataset", "plain"]
    rest = ["--scorer_types", "val_loss", "--weights", "1", "--max_epochs", "2", "--choose_decode", "0"]
    outcome = run_cli([*words, *data, *rest, "--savedmodel_path", str(tmp_path), "--num_sanity_val_steps", "0"])
    assert outcome.code == 0, outcome.stderr
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("best: epoch ")]
    assert ": val_loss is " in line
    kept = json.loads((tmp_path / "summary.json").read_text())
    assert [one["epoch"] for one in kept["validations"]] == [0, 1]
    assert max(one["val_score"] for one in kept["validations"]) == kept["best"]["val_score"]


def test_a_report_with_odd_signs_is_shown_word_for_word() -> None:
    report = Report("1", "Heart *large*\n<b>no</b>", "M\udcfcller", 3, -1.0, "stop")
    assert beside_reference(report) == (
        "**reference**\n\n    M\\xfcller\n\n**written**\n\n    Heart *large*\n    <b>no</b>"
    )
