"""A model with a finding head as a plain Hugging Face directory, and what names its weights."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

import r2gengpt
from conftest import TinySet
from edge_parts import checkpoint_with_head, trained_checkpoint, write_films
from placements import FLOAT32
from r2gengpt.checkpoint import save_checkpoint
from r2gengpt.checkpoint_files import read_settings
from r2gengpt.cli.main import run
from r2gengpt.confidence.findings import FINDINGS, verdicts_of
from r2gengpt.config import ModelConfig
from r2gengpt.model import R2GenGPTForConditionalGeneration
from r2gengpt.parts.assemble import build_model
from r2gengpt.parts.placement import place
from r2gengpt.reporter import Reporter
from r2gengpt.text.observations import opening_of
from reporters import stored_of


def loaded(directory: Path, **settings: Any) -> Reporter:
    reporter = r2gengpt.load(directory, accelerator="cpu", dtype="float32", **settings)
    assert isinstance(reporter, Reporter)
    return reporter


def plain_of(checkpoint: Path, output: Path) -> Path:
    assert run("export", ["--model", str(checkpoint), "--output", str(output), "--dtype", "float32"]) == 0
    return output


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module", params=["hints", "no hints"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint with a head, and its export."""
    directory = tmp_path_factory.mktemp("exported")
    hints = request.param == "hints"
    checkpoint = checkpoint_with_head(directory, "Llama-2", "vit", vis_use_lora=True, findings_hint=hints)
    return checkpoint, plain_of(checkpoint, directory / "plain")


def test_findings_hints_and_texts_are_the_same_before_and_after(exported: tuple[Path, Path], films: list[Path]) -> None:
    before, after = map(loaded, exported)
    assert before.looker is not None
    assert after.looker is not None
    assert after.looker.hints == before.looker.hints == before.stored.model.values["findings_hint"]
    report, wanted = after.report(films), before.report(films)
    assert wanted.text
    assert (report.text, report.tokens) == (wanted.text, wanted.tokens)
    assert verdicts_of(report.findings) == verdicts_of(wanted.findings) == verdicts_of(after.findings(films))
    for one, other in zip(report.findings, wanted.findings, strict=True):
        # LoRA was merged: float32 rounding, of inputs that bfloat16 rounds where a CPU has it
        assert one.probability == pytest.approx(other.probability, abs=1e-2)
    batch = after.batch(after.built.processor.pixels([film.convert("RGB") for film in pictures(after, films)]))
    longer = after.look(batch)[0].input_ids.shape[1] > batch.input_ids.shape[1]
    assert longer == before.looker.hints


def pictures(reporter: Reporter, films: list[Path]) -> list[Any]:
    from r2gengpt.films.reader import load_image

    return [load_image(path, size=reporter.side) for path in films]


def test_auto_classes_load_the_head(exported: tuple[Path, Path]) -> None:
    checkpoint, plain = exported
    model, info = AutoModelForImageTextToText.from_pretrained(plain, output_loading_info=True)
    assert isinstance(model, R2GenGPTForConditionalGeneration)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.finding_head is not None
    delta = load_file(checkpoint / "delta.safetensors")
    for name, tensor in model.finding_head.state_dict().items():
        assert torch.equal(tensor, delta[f"finding_head.{name}"])
        assert tensor.dtype == torch.float32
    built = loaded(checkpoint).built.model
    inputs = AutoProcessor.from_pretrained(plain)(images=pictures(loaded(plain), write_films(plain.parent)))
    mask = inputs["view_mask"]
    with torch.no_grad():
        found = model.finding_logits(model.encode_views(inputs["pixel_values"], mask), mask)
        wanted = built.finding_logits(built.encode_views(inputs["pixel_values"], mask), mask)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)  # merged LoRA: float32 rounding


def test_a_model_that_was_saved_again_keeps_head_and_hints(exported: tuple[Path, Path], tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(exported[1])
    model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert (again.config.observations, again.config.findings_hint) == (20, model.config.findings_hint)
    assert torch.equal(again.finding_head.queries, model.finding_head.queries)


def test_without_a_head_nothing_is_added(tmp_path: Path) -> None:
    plain = plain_of(trained_checkpoint(tmp_path, "Llama-2", "vit"), tmp_path / "plain")
    assert not (plain / FINDINGS).exists()
    assert not {"observations", "findings_hint"} & json.loads((plain / "config.json").read_text()).keys()
    assert not [name for name in load_file(plain / "model.safetensors") if "finding" in name]
    assert loaded(plain).looker is None


def test_an_export_whose_scales_are_gone_is_refused_in_a_line(
    exported: tuple[Path, Path], films: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = shutil.copytree(exported[1], tmp_path / "plain")
    (plain / FINDINGS).unlink()
    assert run("generate", [str(films[0]), "--model", str(plain)]) == 2
    assert "its finding head has no findings.json" in capsys.readouterr().err


# ── a head that was trained alone ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a head that was trained alone."""
    directory = tmp_path_factory.mktemp("alone")
    checkpoint = checkpoint_with_head(directory, "Llama-2", "vit", findings_hint=False)
    stored = read_settings(checkpoint, "model")
    config = ModelConfig(**stored.model.values)
    built = build_model(config, FLOAT32, findings_only=True)
    content = json.loads((checkpoint / "config.json").read_text())
    save_checkpoint(directory / "alone", built, stored_of(config), "# Card\n")
    shutil.copy(checkpoint / FINDINGS, directory / "alone" / FINDINGS)
    (directory / "alone" / "config.json").write_text(json.dumps({**content, "findings_only": True}))
    return directory / "alone"


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("export", ["--model", "MODEL", "--output", "OUT"]),
        ("export", ["--model", "MODEL", "--output", "OUT", "--target", "openvino"]),
        ("serve", ["--model", "MODEL", "--port", "0"]),
        ("batch", ["--delta", "MODEL", "--input", "IN", "--output", "OUT"]),
        ("listen", ["--model", "MODEL", "--port", "0", "--stow", "http://127.0.0.1:1/x"]),
        ("dicomweb", ["--model", "MODEL", "--url", "http://127.0.0.1:1/x", "--study", "1.2"]),
        ("worklist", ["--model", "MODEL", "--worklist", "http://127.0.0.1:1/x"]),
        ("generate", ["FILM", "--model", "MODEL"]),
        ("test", ["--model", "MODEL", "--output", "OUT"]),
        ("audit", ["--model", "MODEL", "--annotation", "SET", "--base_dir", "FILMS", "--output", "OUT"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_needs_reports_refuses_a_head_that_was_trained_alone(
    command: str,
    flags: list[str],
    alone: Path,
    films: list[Path],
    tiny_set: TinySet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "in").mkdir()
    words = {"MODEL": str(alone), "OUT": str(tmp_path / "out"), "IN": str(tmp_path / "in"), "FILM": str(films[0])}
    words |= {"SET": str(tiny_set.annotation), "FILMS": str(tiny_set.base_dir)}
    assert run(command, [words.get(flag, flag) for flag in flags]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{alone}: was trained for findings alone and writes no report" in line
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


# ── names for the weights ────────────────────────────────────────────────────────────────────────────────────────────


def digest(directory: Path) -> str:
    found = loaded(directory).origin.model_sha256
    assert found is not None
    return found


def test_another_threshold_another_hint_or_another_head_is_another_model(tmp_path: Path) -> None:
    checkpoint = checkpoint_with_head(tmp_path, "Llama-2", "vit")
    first = digest(checkpoint)
    assert digest(checkpoint) == first
    changed = {name: shutil.copytree(checkpoint, tmp_path / name) for name in ("scales", "hint", "head")}
    scales = (checkpoint / FINDINGS).read_text()
    (changed["scales"] / FINDINGS).write_text(scales.replace('"likely": 0.3', '"likely": 0.31', 1))
    settings = json.loads((checkpoint / "config.json").read_text())
    (changed["hint"] / "config.json").write_text(json.dumps({**settings, "findings_hint": False}))
    tensors = load_file(checkpoint / "delta.safetensors")
    tensors["finding_head.bias"][0] += 1e-3
    save_file(tensors, changed["head"] / "delta.safetensors")
    assert len({first, *map(digest, changed.values())}) == 4


def test_a_file_of_scales_beside_a_model_without_a_head_changes_nothing(tmp_path: Path) -> None:
    checkpoint = trained_checkpoint(tmp_path, "Llama-2", "vit")
    first = digest(checkpoint)
    (checkpoint / FINDINGS).write_text("{}")
    assert digest(checkpoint) == first


def test_where_the_language_model_is_spread_the_head_goes_where_the_encoder_goes() -> None:
    class Part:
        where: Any = None

        def to(self, device: Any) -> None:
            self.where = device

    language = SimpleNamespace(hf_device_map={"": 0})
    tower, projector, head, marks = Part(), Part(), Part(), Part()
    embedding = SimpleNamespace(weight=torch.zeros(1))
    model = SimpleNamespace(
        language_model=language, vision_tower=tower, projector=projector, finding_head=head,
        time_marks=marks, get_input_embeddings=lambda: embedding,
    )  # fmt: skip
    place(model, "cpu")
    assert head.where == tower.where == projector.where == marks.where == torch.device("cpu")
    model.finding_head = model.time_marks = None
    place(model, "cpu")


def test_an_export_opens_its_reports_as_the_checkpoint_does(tmp_path: Path) -> None:
    films, checkpoint = write_films(tmp_path), checkpoint_with_head(tmp_path, "Llama-2", "vit")
    settings = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**settings, "opening": "findings", "max_new_tokens": 60}))
    wanted = loaded(checkpoint).report(films).text
    assert wanted.startswith(opening_of(loaded(checkpoint).findings(films)))
    assert loaded(plain_of(checkpoint, tmp_path / "plain")).report(films).text == wanted
    assert r2gengpt.load(checkpoint, opening="none", dtype="float32").report(films).text != wanted
