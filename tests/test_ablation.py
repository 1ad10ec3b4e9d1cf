"""The table of runs/embedded/ablation.sh, and what it draws and takes apart."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RUNS = Path(__file__).parents[1] / "runs" / "embedded"
TRUTH = {
    f"s{number}": ("There is a pleural effusion." if number % 2 else "The lungs are clear.") for number in range(20)
}


def write_results(directory: Path, texts: dict[str, str], *, f1: float) -> None:
    """A test's two files, as far as the table reads them."""
    directory.mkdir(parents=True)
    name = "clinical_micro_f1_14_uncertain_as_positive"
    scores = {
        "metrics": {name: {"value": f1}, "cider": {"value": 1.0}},
        "outputs": {"distinct": len({*texts.values()})},
    }
    (directory / "scores.json").write_text(json.dumps(scores))
    rows = [{"id": key, "prediction": text, "reference": TRUTH[key], "patient": key} for key, text in texts.items()]
    (directory / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(out: Path) -> dict[str, list[str]]:
    done = subprocess.run([sys.executable, RUNS / "ablation.py", out], check=True, capture_output=True, text=True)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    return {row[0]: row[1:] for row in rows}


def test_the_table_has_each_rows_mean_and_sd_and_its_difference_from_the_row_without_its_part(tmp_path: Path) -> None:
    constant = dict.fromkeys(TRUTH, "The lungs are clear.")
    for seed, f1 in ((0, 0.25), (1, 0.75)):
        write_results(tmp_path / "plain" / f"seed-{seed}" / "results-test", constant, f1=f1)
    write_results(tmp_path / "head" / "seed-1" / "results-test", TRUTH, f1=0.5)
    rows = table(tmp_path)
    assert rows["plain"] == ["0.500 ± 0.354", "", "", "", "1.000 ± 0.000", "", "1", "", ""]
    assert rows["head"][0] == "0.500"
    assert rows["head"][-2].startswith("plain: 0.50 [")
    assert float(rows["head"][-1]) < 0.05
    assert "hint" not in rows


def test_films_drawn_by_whole_patients_split_no_patient_and_are_at_most_as_many_as_asked(tmp_path: Path) -> None:
    studies = [{"id": f"p{patient}-{film}", "source": "nih14", "patient": f"p{patient}"}
               for patient in range(6) for film in range(3)]  # fmt: skip
    (tmp_path / "all.json").write_text(json.dumps({"train": studies, "val": [], "test": studies}))
    words = ["--annotation", "all.json", "--train", "10", "--whole_patients", "--output", "some.json"]
    subprocess.run([sys.executable, RUNS / "some_films.py", *words], cwd=tmp_path, check=True, capture_output=True)
    kept = json.loads((tmp_path / "some.json").read_text())
    assert len(kept["train"]) == 9
    assert len({one["patient"] for one in kept["train"]}) == 3
    assert kept["test"] == studies


def test_what_sees_is_taken_out_of_a_checkpoint_whole_and_nothing_of_the_writer(tmp_path: Path) -> None:
    names = ("vision_tower.a", "finding_head.b", "projector.c", "language_model.d")
    model = tmp_path / "model"
    model.mkdir()
    save_file({name: torch.full((2,), float(place)) for place, name in enumerate(names)}, model / "delta.safetensors")
    (model / "config.json").write_text(json.dumps({"llm_use_lora": True, "vis_r": 16, "opening": "findings"}))
    for name in ("findings.json", "processor_config.json"):
        (model / name).write_text(name)
    words: list[str | Path] = ["--model", model, "--output", tmp_path / "seeing"]
    subprocess.run([sys.executable, RUNS / "seeing.py", *words], check=True, capture_output=True)
    kept = load_file(tmp_path / "seeing" / "delta.safetensors")
    assert {name: tensor.tolist() for name, tensor in kept.items()} == {
        "vision_tower.a": [0, 0],
        "finding_head.b": [1, 1],
    }
    settings = json.loads((tmp_path / "seeing" / "config.json").read_text())
    assert settings == {"llm_use_lora": False, "vis_r": 16, "findings_hint": False, "findings_only": True}
    assert (tmp_path / "seeing" / "findings.json").read_text() == "findings.json"
