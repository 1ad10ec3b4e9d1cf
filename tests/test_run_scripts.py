"""The demo's and the run scripts' commands, run to their end with tiny parts, in both arithmetics of training."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Outcome, TinySet
from r2gengpt.config import ALIGNMENTS
from test_documentation import ROOT, run_script

Cli = Callable[[list[str]], Outcome]
SHORT = ["--min_new_tokens", "1", "--max_new_tokens", "4"]


@pytest.fixture(params=[True, False], ids=["bf16-mixed", "32-true"])
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `--precision auto` is on hardware with bfloat16, and without."""
    monkeypatch.setattr("r2gengpt.parts.assemble.device_has_bfloat16", lambda: request.param)
    return "bf16-mixed" if request.param else "32-true"


def names_of(parts: Path) -> dict[str, str]:
    return {"lm_model": str(parts / "lm-stablelm"), "vision_model": str(parts / "vision-swin")}


def test_the_demo_runs(arithmetic: str, tiny_parts: Path, tmp_path: Path, run_cli: Cli) -> None:
    place = tmp_path / "demo"
    more = {"train": [word for name, value in names_of(tiny_parts).items() for word in (f"--{name}", value)]}
    more["test"] = SHORT
    for words in run_script(ROOT / "runs" / "demo.sh", tmp_path, DEMO=str(place)):
        if words[0] in ("prepare", "train", "test"):
            done = run_cli([*words, *more.get(words[0], ())])
            assert done.code == 0, done.stderr
    assert f'"precision": "{arithmetic}"' in (place / "run" / "best" / "config.json").read_text(encoding="utf-8")
    assert (place / "test" / "report.html").exists()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_run_script_trains_and_its_run_is_tested(
    arithmetic: str, alignment: str, tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, run_cli: Cli
) -> None:
    given = {name.upper(): value for name, value in names_of(tiny_parts).items()}
    given |= {"DATASET": "iu_xray", "ALIGNMENT": alignment}
    given |= {"DATA": str(tiny_set.annotation.parent), "SAVE": str(tmp_path / "run")}
    calls = []
    for kind, more in (("train", ["--max_epochs", "1", "--num_sanity_val_steps", "0"]), ("test", [])):
        (tmp_path / kind).mkdir()
        script = ROOT / "runs" / f"{kind}.sh"
        calls += run_script(script, tmp_path / kind, "--num_workers", "0", *SHORT, *more, **given)
    for words in calls:
        done = run_cli(words)
        assert done.code == 0, done.stderr
    assert f'"precision": "{arithmetic}"' in (tmp_path / "run" / "best" / "config.json").read_text(encoding="utf-8")
