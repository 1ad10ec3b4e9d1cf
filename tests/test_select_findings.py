"""The rules that make training text of case notes (runs/embedded/select_findings.py)."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[1] / "runs" / "embedded" / "select_findings.py"
spec = importlib.util.spec_from_file_location("select_findings", SCRIPT)
select_findings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(select_findings)


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        ("A 60-year-old man with cough. Chest X-ray shows a left effusion.", "Left effusion."),
        ("Fever for two days. CT showed ground-glass opacities.", ""),
        ("AP CXR: ETT and NG tube in situ (Fig. 2).", "Endotracheal tube and nasogastric tube in situ."),
        ("Patchy opacities, suggesting COVID-19 pneumonia.", "Patchy opacities."),
        ("Radiological worsening, with consolidation in the RUL.", "Consolidation in the right upper lobe."),
        ("There is also a small nodule. There is also a small nodule.", "Small nodule."),
        ("Reticular pattern, particularly at the bases.", "Reticular pattern, particularly at the bases."),
        ("Endotracheal tube and central line were required.", "Endotracheal tube and central line."),
        ("The patient was discharged. Lungs clear", "Lungs clear."),
    ],
)
def test_only_what_the_image_shows_is_kept(note, kept):
    assert select_findings.select(note) == kept


def test_copies_of_held_out_films_leave_the_train_split(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)
    films = {name: Image.fromarray(random.integers(0, 255, (6, 6), np.uint8)) for name in ("a", "b")}
    films["a"].resize((240, 240)).save(tmp_path / "train_copy.png")
    films["b"].resize((240, 240)).save(tmp_path / "train_own.png")
    films["a"].resize((200, 200)).save(tmp_path / "val.png")

    def study(name: str) -> dict:
        return {"id": name, "report": "Small effusion.", "image_path": [f"{name}.png"]}

    data = {"train": [study("train_copy"), study("train_own")], "val": [study("val")], "test": []}
    (tmp_path / "annotation.json").write_text(json.dumps(data))
    flags = ["--annotation", str(tmp_path / "annotation.json"), "--base_dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["select_findings.py", *flags, "--output", str(tmp_path / "out")])
    select_findings.main()
    made = json.loads((tmp_path / "out" / "annotation.json").read_text())
    assert [s["id"] for s in made["train"]] == ["train_own"]
    assert [s["id"] for s in made["val"]] == ["val"]
    assert "train: 2 studies, 2 with findings, 1 kept without copies" in capsys.readouterr().out
