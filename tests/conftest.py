"""Parts that many tests share: tiny models, a tiny annotated set, and running commands. No test stands here."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny matrices: more threads only wait for each other

import faulthandler
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis
import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

from slow import slow_tests

if TYPE_CHECKING:
    from r2gengpt.reporter import Reporter

pytest_plugins = ["settings_read"]
hypothesis.settings.register_profile("no-clock", deadline=None)  # a busy machine is not a fault of the code
hypothesis.settings.load_profile("no-clock")

LANGUAGE_KINDS = ("stablelm", "llama", "gpt_neox", "gpt2")
VISION_KINDS = ("swin", "vit", "dinov2")
REPORTS = (
    "The heart is normal in size. The lungs are clear.",
    "There is an opacity in the left lower lobe. No pneumothorax is seen.",
    "There is an opacity in the right lower lobe. The heart is normal in size.",
    "Mild cardiomegaly with small bilateral effusions.",
    "The lungs are clear. Degenerative changes of the thoracic spine.",
    "No pleural effusion or pneumothorax is seen.",
    "Small bilateral effusions. The heart is normal in size.",
    "Mild cardiomegaly. The lungs are clear. No pleural effusion is seen.",
    "There is an opacity in the left lower lobe. Mild cardiomegaly.",
    "The heart is normal in size. Degenerative changes of the thoracic spine.",
    "There is an opacity in the right lower lobe with a small effusion.",
    "The lungs are clear. No pneumothorax is seen.",
    "Mild cardiomegaly with degenerative changes of the thoracic spine.",
    "No opacity is seen. The heart is normal in size.",
)
SPLIT_SIZES = {"train": 8, "val": 3, "test": 3}


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that tests/slow.txt lists."""
    listed = slow_tests()
    for item in items:
        if f"{item.path.name}::{getattr(item, 'originalname', item.name)}" in listed:
            item.add_marker(pytest.mark.slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A crash prints its stacks, after a training too: Lightning takes away the handlers of faulthandler."""
    faulthandler.disable()
    faulthandler.enable(item.config.stash[fault_handler_stderr_fd_key])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logged may hold names that are not UTF-8; between the processes that run tests only UTF-8 goes."""
    report = yield
    report.sections = [(title, text.encode(errors="replace").decode()) for title, text in report.sections]
    return report


@dataclass(frozen=True)
class TinySet:
    """An annotation file in R2Gen's format and the directory of its images."""

    annotation: Path
    base_dir: Path


def without_logprobs(record: dict[str, Any]) -> dict[str, Any]:
    """A record of predictions.jsonl without its log-probabilities, which differ in the last digits by the batch."""
    return {**record, "logprob": 0, "sentences": [{**sentence, "logprob": 0} for sentence in record["sentences"]]}


class Outcome(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with lm-{stablelm,llama,gpt_neox,gpt2} and vision-{swin,vit,dinov2}; weights never change."""
    import torch

    from r2gengpt.testing import tiny_language_model, tiny_vision_model

    directory = tmp_path_factory.mktemp("parts")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for kind in LANGUAGE_KINDS:
            tiny_language_model(directory, kind)
        for kind in VISION_KINDS:
            tiny_vision_model(directory, kind)
    return directory


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """8 train, 3 val and 3 test studies; every other study has two views. Ids train0…, images train0_0.png…"""
    from r2gengpt.testing import noise_image

    directory = tmp_path_factory.mktemp("set")
    images = directory / "images"
    images.mkdir()
    splits: dict[str, list[dict[str, Any]]] = {}
    number = 0
    for split, size in SPLIT_SIZES.items():
        splits[split] = []
        for index in range(size):
            names = [f"{split}{index}_{view}.png" for view in range(1 + number % 2)]
            for view, name in enumerate(names):
                noise_image(10 * number + view).save(images / name)
            study = {"id": f"{split}{index}", "report": REPORTS[number], "image_path": names, "split": split}
            splits[split].append(study)
            number += 1
    annotation = directory / "annotation.json"
    annotation.write_text(json.dumps(splits), encoding="utf-8")
    return TinySet(annotation, images)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_parts: Path, tiny_set: TinySet) -> Iterator[Path]:
    """A checkpoint directory of Swin + StableLM with LoRA on both and random (not zero) trained tensors.

    All tests share it: one that leaves a file in it fails the run.
    """
    import torch

    from r2gengpt.checkpoint import save_checkpoint
    from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, RunConfig
    from r2gengpt.parts.assemble import build_model
    from r2gengpt.settings import PlacementConfig
    from r2gengpt.training.callbacks import model_card
    from reporters import stored_of

    model = ModelConfig(
        vision_model=str(tiny_parts / "vision-swin"),
        lm_model=str(tiny_parts / "lm-stablelm"),
        vis_use_lora=True,
        llm_use_lora=True,
        llm_r=4,
        vis_r=4,
    )
    data = DataConfig(dataset="plain", annotation=str(tiny_set.annotation), base_dir=str(tiny_set.base_dir))
    decode = DecodeConfig(max_new_tokens=12, min_new_tokens=0)
    directory = tmp_path_factory.mktemp("run") / "best"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_model(model, PlacementConfig(dtype="float32"))
        for name, parameter in built.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    run = RunConfig(model, data, decode)
    save_checkpoint(directory, built, stored_of(model, data, decode), model_card(model, data.dataset, {}))
    (directory.parent / "run.json").write_text(json.dumps(run.flat()), encoding="utf-8")  # as train writes it
    made = sorted(directory.rglob("*"))
    yield directory
    assert sorted(directory.rglob("*")) == made, "a test wrote into the checkpoint that all tests share: use tmp_path"


@pytest.fixture
def without_weights(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that is found and cannot be loaded: for what must be refused before it is."""
    from r2gengpt.checkpoint_files import DELTA

    copied = Path(shutil.copytree(tiny_checkpoint, tmp_path / "without-weights"))
    (copied / DELTA).unlink()
    return copied


@pytest.fixture(scope="session")
def served(tiny_checkpoint: Path) -> "Reporter":
    """The model of `tiny_checkpoint` as the server uses it, named best: beams, 12 tokens at most."""
    from r2gengpt.locate import ModelChoice
    from r2gengpt.reporter import Reporter

    return Reporter.load(ModelChoice(str(tiny_checkpoint), accelerator="cpu", drafts=False))


@pytest.fixture(autouse=True)
def own_log_lines() -> Iterator[None]:
    """A command that ran in this process leaves no handler on a stderr that is closed by then."""
    loggers = [logging.getLogger(name) for name in ("r2gengpt", "uvicorn", "asyncio")]
    before = [(ours.handlers[:], ours.level, ours.propagate) for ours in loggers]
    yield
    for ours, (handlers, level, propagate) in zip(loggers, before, strict=True):
        ours.handlers[:] = handlers
        ours.setLevel(level)
        ours.propagate = propagate


@pytest.fixture(autouse=True)
def without_meteor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR takes seconds to start the first time: in this process only the tests of scores run it."""
    tested = ("test_metrics_meteor", "test_metrics_meteor_python", "test_metrics_score", "test_cli_score")
    if request.node.path.stem not in tested:
        for kind in ("python", "jar"):
            monkeypatch.setattr(f"r2gengpt.metrics.meteor.{kind}.find", lambda: "left out where it is not tested")


@pytest.fixture(scope="session")
def trained_squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has learnt drawn squares: its run in `run`, the set in `set` (see test_looks_at_the_image)."""
    from test_looks_at_the_image import draw_squares, trained_on

    directory = tmp_path_factory.mktemp("squares")
    data = draw_squares(directory / "set", {"train": 256, "val": 4, "test": 80})
    trained_on(data, directory, epochs=12, rate=4e-3)
    return directory


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[list[str]], Outcome]]:
    """Run `r2gengpt ARGV…` in this process; gives (code, stdout, stderr). Logging is put back afterwards."""
    from r2gengpt.cli import main as cli

    ours = logging.getLogger("r2gengpt")
    kept = ours.handlers[:], ours.level, ours.propagate

    def call(argv: list[str]) -> Outcome:
        capsys.readouterr()
        code = cli.run(argv[0], [str(word) for word in argv[1:]])
        return Outcome(code, *capsys.readouterr())

    yield call
    ours.handlers[:], ours.level, ours.propagate = kept


@pytest.fixture
def run_cli_process() -> Callable[..., Outcome]:
    """Run `r2gengpt ARGV…` as its own process, `environment` added to ours; gives (code, stdout, stderr)."""

    def call(argv: list[str], environment: dict[str, str] | None = None, cwd: Path | None = None) -> Outcome:
        command = [sys.executable, "-c", "from r2gengpt.cli.main import main; main()", *map(str, argv)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}, cwd=cwd
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call
