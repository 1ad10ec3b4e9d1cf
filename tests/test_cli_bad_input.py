"""Wrong input on the command line: exit code 2, one line on stderr that names it, and nothing half-written."""

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Outcome, TinySet
from r2gengpt.data.loading import StudyDataset, StudyLoader
from r2gengpt.errors import InputError, RunError
from r2gengpt.files import check_writable
from r2gengpt.testing import noise_image, tiny_tokenizer

Run = Callable[[list[str]], Outcome]


def refused(outcome: Outcome, command: str, *parts: object) -> None:
    """The command ended with code 2 and exactly one line that holds the parts."""
    assert outcome.code == 2, outcome
    assert outcome.stdout == ""
    (line,) = outcome.stderr.splitlines()
    assert line.startswith(f"r2gengpt {command}: ")
    for part in parts:
        assert str(part) in line
    assert "Traceback" not in line


def png(width: int, height: int) -> bytes:
    """A PNG file whose header promises so many pixels and which holds none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def truncated(path: Path) -> None:
    noise_image(1).save(path)
    path.write_bytes(path.read_bytes()[:-200])


BAD_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "truncated": (truncated, "image"),
    "zero-byte": (lambda path: path.write_bytes(b""), "empty"),
    "text renamed": (lambda path: path.write_text("The lungs are clear."), "PNG or JPEG"),
    "1x1": (lambda path: Image.new("L", (1, 1)).save(path), "1x1 pixels: must be at least 16"),
    "bomb": (lambda path: path.write_bytes(png(40_000, 40_000)), "40000x40000 is 1600000000 pixels: at most"),
    "a directory": (lambda path: path.mkdir(), "is a directory"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_generate_refuses_a_bad_image_before_it_loads_a_model(
    kind: str, run_cli: Run, tmp_path: Path, without_weights: Path
) -> None:
    make, reason = BAD_IMAGES[kind]
    image = tmp_path / "film.png"
    make(image)
    outcome = run_cli(["generate", str(image), "--model", str(without_weights)])
    refused(outcome, "generate", f"image {image}: ", reason)


def test_a_bad_second_view_is_named(run_cli: Run, tiny_set: TinySet, tmp_path: Path) -> None:
    good, bad = tiny_set.base_dir / "val0_0.png", tmp_path / "film.png"
    bad.write_bytes(b"")
    refused(run_cli(["generate", str(good), str(bad)]), "generate", f"image {bad}: ")


@dataclass(frozen=True)
class Training:
    """The words of a training command that would run, and the directory of its run."""

    argv: tuple[str, ...]
    run: Path


@pytest.fixture
def training(tiny_parts: Path, tiny_set: TinySet, tmp_path: Path) -> Training:
    flags = {
        "lm_model": tiny_parts / "lm-stablelm",
        "vision_model": tiny_parts / "vision-swin",
        "dataset": "plain",
        "annotation": tiny_set.annotation,
        "base_dir": tiny_set.base_dir,
        "savedmodel_path": tmp_path / "run",
        "precision": "32-true",
        "accelerator": "cpu",
        "max_epochs": 1,
    }
    return Training(("train", *(str(word) for k, v in flags.items() for word in (f"--{k}", v))), tmp_path / "run")


def annotation_of(edit: Callable[[dict[str, Any]], object], tiny_set: TinySet, path: Path) -> Path:
    content = json.loads(tiny_set.annotation.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


BAD_ANNOTATIONS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "lacks a split": (lambda content: content.pop("val"), "has no split val, only train, test"),
    "has duplicate ids": (lambda content: content["val"][0].update(id="train0"), "id train0 occurs twice"),
    "leaves the base directory": (
        lambda content: content["train"][1].update(image_path=["../train0_0.png"]),
        "image path ../train0_0.png holds '..'",
    ),
    "has an absolute path": (
        lambda content: content["train"][1].update(image_path=["/tmp/film.png"]),
        "image path /tmp/film.png is absolute",
    ),
    "has a study without images": (lambda content: content["train"][0].update(image_path=[]), "empty list"),
    "has a study without report": (lambda content: content["train"][0].update(report=" "), "report is empty"),
    "has a number for a report": (lambda content: content["train"][0].update(report=3), "report is 3"),
    "has an empty split": (lambda content: content.update(val=[]), "split val has no studies"),
    "names an image that is not there": (
        lambda content: content["val"][2].update(image_path=["gone.png"]),
        "gone.png (1 of 4 are missing)",
    ),
}


@pytest.mark.parametrize("kind", BAD_ANNOTATIONS)
def test_train_refuses_an_annotation_that(
    kind: str, run_cli: Run, training: Training, tiny_set: TinySet, tmp_path: Path
) -> None:
    edit, reason = BAD_ANNOTATIONS[kind]
    path = annotation_of(edit, tiny_set, tmp_path / "annotation.json")
    refused(run_cli([*training.argv, "--annotation", str(path)]), "train", reason)
    assert not training.run.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("[]", "must hold a JSON object"),
        ('{"train": 1, "val": []}', "train"),
    ],
)
def test_train_refuses_an_annotation_file_that_is_none(
    content: str | None, reason: str, run_cli: Run, training: Training, tmp_path: Path
) -> None:
    path = tmp_path / "annotation.json"
    if content is not None:
        path.write_text(content)
    refused(run_cli([*training.argv, "--annotation", str(path)]), "train", f"--annotation {path}: ", reason)
    assert not training.run.exists()


@pytest.mark.parametrize("command", ["train", "test", "generate"])
def test_an_unknown_flag_is_refused_with_the_nearest_name(command: str, run_cli: Run) -> None:
    images = ["film.png"] if command == "generate" else []
    outcome = run_cli([command, *images, "--lm_modle", "x"])
    refused(outcome, command, "unknown flag --lm_modle (did you mean --lm_model?)")


def test_train_refuses_a_model_directory_without_config(run_cli: Run, training: Training, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = run_cli([*training.argv, "--lm_model", str(tmp_path / "empty")])
    refused(outcome, "train", f"--lm_model {tmp_path / 'empty'}: no config.json there")


def test_train_refuses_a_tokenizer_larger_than_the_embedding(
    run_cli: Run, training: Training, tiny_parts: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "lm"
    shutil.copytree(tiny_parts / "lm-stablelm", directory)
    words = tiny_tokenizer("gpt_neox")
    words.add_tokens([f"word{index}" for index in range(20)])
    words.save_pretrained(directory)
    outcome = run_cli([*training.argv, "--lm_model", str(directory)])
    refused(outcome, "train", f"--lm_model {directory}: its tokenizer has", "its embedding only")


def test_train_refuses_to_start_from_a_checkpoint_of_another_model(
    run_cli: Run, training: Training, tiny_checkpoint: Path
) -> None:
    outcome = run_cli([*training.argv, "--ckpt_file", str(tiny_checkpoint)])
    refused(outcome, "train", f"--ckpt_file {tiny_checkpoint}", "it was trained with --vis_use_lora True, not False")
    assert not list(training.run.glob("**/*.safetensors"))


def test_train_refuses_a_run_directory_that_is_a_file(run_cli: Run, training: Training) -> None:
    training.run.write_text("mine")
    refused(run_cli(list(training.argv)), "train", f"--savedmodel_path {training.run}", "is no directory")
    assert training.run.read_text() == "mine"


def test_a_training_image_that_cannot_be_decoded_is_the_last_line(
    run_cli: Run, training: Training, tiny_set: TinySet, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(tiny_set.base_dir, images)
    truncated(images / "train3_1.png")
    outcome = run_cli([*training.argv, "--base_dir", str(images), "--num_sanity_val_steps", "0"])
    assert outcome.code == 2
    assert outcome.stderr.splitlines()[-1].startswith(f"r2gengpt train: image {images / 'train3_1.png'}: ")
    assert "Traceback" not in outcome.stderr
    assert not (training.run / "best").exists()
    assert not (training.run / "summary.json").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_from_a_reading_process_is_the_line_it_is_without_one(
    workers: int, tiny_parts: Path, tmp_path: Path
) -> None:
    from r2gengpt.data.study import Study
    from test_build import build

    studies = [Study("a", (tmp_path / "gone.png",), "Clear.")]
    dataset = StudyDataset(studies, build(tiny_parts).processor, "plain")
    loader = StudyLoader(dataset, lambda _: [[(0, 0)]], list, num_workers=workers)
    with pytest.raises(InputError) as error:
        list(loader)
    assert str(error.value) == f"image {tmp_path / 'gone.png'}: No such file or directory"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "error",
    [InputError("has 3 Error: frames", field="frame", value=9, limit=3), RunError("`feature_cache`: Error: damaged")],
    ids=["InputError", "RunError"],
)
def test_an_error_of_a_reading_process_keeps_its_field_its_value_and_its_whole_text(
    workers: int, error: InputError | RunError, tiny_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from r2gengpt.data.study import Study
    from test_build import build

    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("r2gengpt.data.loading.load_image", refused)
    dataset = StudyDataset([Study("a", (tmp_path / "a.png",), "Clear.")], build(tiny_parts).processor, "plain")
    loader = StudyLoader(dataset, lambda _: [[(0, 0)]], list, num_workers=workers)
    with pytest.raises((InputError, RunError)) as found:
        list(loader)
    assert (type(found.value), found.value.args, vars(found.value)) == (type(error), error.args, vars(error))


def scoring(checkpoint: Path, output: Path, *flags: str) -> list[str]:
    return ["test", "--ckpt_file", str(checkpoint), "--output", str(output), "--accelerator", "cpu", *flags]


def test_test_needs_a_checkpoint(run_cli: Run) -> None:
    refused(run_cli(["test"]), "test", "--ckpt_file is needed")
    refused(run_cli(["test", "--model", "a", "--ckpt_file", "b"]), "test", "--model a and --ckpt_file b", "give one")


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (("--llm_r", "8"), ("--llm_r 8: the checkpoint was trained with 4",)),
        (("--fusion", "concat"), ("--fusion concat: the checkpoint was trained with mean",)),
        (("--annotation", "gone.json"), ("--annotation gone.json: No such file",)),
        (("--base_dir", "gone"), ("--base_dir: no image file", "(5 of 5 are missing)")),
        (("--max_new_tokens", "4000"), ("--max_new_tokens 4000", "512 positions")),
        (("--batch_size", "0"), ("--batch_size 0: must be at least 1",)),
    ],
)
def test_test_refuses_flags_that_do_not_fit_and_writes_nothing(
    flags: tuple[str, ...], parts: tuple[str, ...], run_cli: Run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    outcome = run_cli(scoring(tiny_checkpoint, tmp_path / "out", *flags))
    assert outcome.code == 2
    assert outcome.stdout == ""
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("r2gengpt test: ")
    for part in parts:
        assert part in last
    assert not (tmp_path / "out").exists()


def test_test_refuses_an_output_that_is_a_file_before_it_predicts(
    run_cli: Run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    outcome = run_cli(scoring(tiny_checkpoint, tmp_path / "file" / "out"))
    refused(outcome, "test", f"--output {tmp_path / 'file' / 'out'}: {tmp_path / 'file'} is no directory")


def test_test_with_a_broken_image_leaves_no_scores(
    run_cli: Run, tiny_checkpoint: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(tiny_set.base_dir, images)
    truncated(images / "test2_0.png")
    outcome = run_cli(scoring(tiny_checkpoint, tmp_path / "out", "--base_dir", str(images)))
    assert outcome.code == 2
    assert outcome.stderr.splitlines()[-1].startswith(f"r2gengpt test: image {images / 'test2_0.png'}: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (("--stream", "--beam_size", "3"), ("--beam_size 3: a stream needs --beam_size 1",)),
        (("--max_new_tokens", "500"), ("--max_new_tokens 500", "512 positions")),
        (("--temperature", "-1"), ("--temperature -1.0: must be at least 0",)),
        (("--num_beam_groups", "3"), ("--num_beam_groups 3", "removed from transformers 5")),
        (("--end_sym", "</s>"), ("--end_sym </s>: the checkpoint was trained with None",)),
        (("--format", "xml"), ("--format", "xml", "text")),
        (("--stream", "perhaps"), ("perhaps", "True or False")),
    ],
)
def test_generate_refuses_flags_that_do_not_fit(
    flags: tuple[str, ...], parts: tuple[str, ...], run_cli: Run, tiny_checkpoint: Path, tiny_set: TinySet
) -> None:
    image = str(tiny_set.base_dir / "val0_0.png")
    refused(run_cli(["generate", image, "--model", str(tiny_checkpoint), *flags]), "generate", *parts)


def test_generate_without_an_image_says_so(run_cli: Run) -> None:
    refused(run_cli(["generate"]), "generate", "IMAGE")


@pytest.mark.parametrize("kind", ["missing", "a file", "no model", "a plain language model"])
def test_generate_refuses_what_is_no_model(
    kind: str, run_cli: Run, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    model = {
        "missing": tmp_path / "gone",
        "a file": tiny_set.annotation,
        "no model": tmp_path,
        "a plain language model": tiny_parts / "lm-stablelm",
    }[kind]
    outcome = run_cli(["generate", str(tiny_set.base_dir / "val0_0.png"), "--model", str(model)])
    refused(outcome, "generate", f"--model {model}: ")


def test_a_checkpoint_whose_parts_have_moved_names_their_flag(
    run_cli: Run, tiny_checkpoint: Path, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tiny_checkpoint, moved)
    settings = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**settings, "lm_model": str(tmp_path / "gone")}))
    argv = ["generate", str(tiny_set.base_dir / "val0_0.png"), "--model", str(moved)]
    refused(run_cli(argv), "generate", f"--lm_model {tmp_path / 'gone'}: no such directory")
    found = run_cli([*argv, "--lm_model", str(tiny_parts / "lm-stablelm")])
    assert found.code == 0
    assert found.stdout == run_cli([*argv[:-1], str(tiny_checkpoint)]).stdout


def test_the_program_itself_exits_with_two_and_one_line(
    run_cli_process: Callable[..., Outcome], tmp_path: Path
) -> None:
    refused(run_cli_process(["generate", "gone.png"], cwd=tmp_path), "generate", "image gone.png: No such file")
    refused(run_cli_process(["train", "--batch_size", "six"], cwd=tmp_path), "train", "--batch_size", "six")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_writable_if_it_is_or_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path, "output")
    check_writable(tmp_path / "a" / "b", "output")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"output .*/a: .* may not be written to"):
        check_writable(tmp_path / "a", "output")


def test_a_cap_on_a_source_that_the_training_split_has_not_is_refused(
    run_cli: Run, training: Training, tiny_set: TinySet, tmp_path: Path
) -> None:
    path = annotation_of(lambda content: content["train"][0].update(source="nih14"), tiny_set, tmp_path / "a.json")
    outcome = run_cli([*training.argv, "--annotation", str(path), "--source_caps", "NIH14=3"])
    refused(outcome, "train", "--source_caps NIH14: split train has no such source; it has nih14")
    assert not (training.run / "best").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--llm_r", "4", "--llm_lora_targets", "q_proj"],
            "--llm_r, --llm_lora_targets: no effect without --llm_use_lora",
        ),
        (["--vis_alpha", "4"], "--vis_alpha: no effect without --vis_use_lora True"),
        (["--context_fields", "age"], "--context_fields: no effect without --context True"),
        (["--context_fields", "age", "--context", "True"], ""),
        (["--llm_r", "16"], "--llm_r: no effect without --llm_use_lora True"),
        (["--config", {"vis_r": 4}], "--vis_r: no effect without --vis_use_lora True"),
        (["--config", {"llm_r": 16, "vis_lora_targets": ["q", "v"]}], ""),  # as a run.json, which holds all
        ([], ""),
    ],
)
def test_a_flag_that_another_must_switch_on_is_told(
    flags: list[Any], said: str, run_cli: Run, training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if flags[:1] == ["--config"]:
        (tmp_path / "run.json").write_text(json.dumps(flags[1]))
        flags = ["--config", str(tmp_path / "run.json")]

    def stopped(*_: object) -> None:
        raise InputError("stopped before the work")

    monkeypatch.setattr("r2gengpt.training.run.train", stopped)
    outcome = run_cli([*training.argv, *flags])
    assert outcome.code == 2
    assert ("no effect" in outcome.stderr) == bool(said)
    assert said in outcome.stderr
