"""The notebook: its cells run in their order, and what it shows of them is theirs."""

import json
from pathlib import Path
from typing import Any

import pytest

import r2gengpt
from edge_parts import checkpoint_with_head

NOTEBOOK = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"


def cells() -> list[dict[str, Any]]:
    """The notebook's cells of code."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_cells_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a tiny model, which stands for the embedded one."""
    load, checkpoint = r2gengpt.load, checkpoint_with_head(tmp_path, "Llama-2")

    def load_tiny(model: str) -> object:
        assert model == "embedded"
        return load(checkpoint, accelerator="cpu", beam_size=1)

    monkeypatch.setattr("r2gengpt.opening.load", load_tiny)
    names: dict[str, Any] = {}
    for cell in cells():
        exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    printed = capsys.readouterr().out
    assert names["report"].text in printed
    assert names["streamed"].text in printed
    assert [name for name in names["examples"] if f"{name.name}: " not in printed] == []


def test_each_cell_stands_there_with_what_it_returned() -> None:
    kept = cells()
    assert [cell["execution_count"] for cell in kept] == list(range(1, len(kept) + 1))
    assert all(output["output_type"] != "error" for cell in kept for output in cell["outputs"])
    pictures = [output for cell in kept for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(pictures) == 2, "the film, and the map over it"


def test_a_model_opens_without_a_word_and_leaves_the_bars_of_transformers_as_they_were(
    tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.utils import logging as library

    for bars in (True, False):
        monkeypatch.setattr(library, "_tqdm_active", bars)
        r2gengpt.load(tiny_checkpoint, accelerator="cpu")
        assert capfd.readouterr() == ("", "")
        assert library.is_progress_bar_enabled() is bars
