"""What `make setup` installs: the same pins with and without hashes, and nothing without one."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKED = ROOT / "requirements" / "locked.txt"


def blocks(path: Path) -> dict[str, str]:
    """Name → its line with all hashes."""
    parts = re.split(r"\n(?=\S)", path.read_text(encoding="utf-8").strip())
    return {normal(part.split("==")[0]): part for part in parts}


def normal(name: str) -> str:
    """A package's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_hashed_pins_are_those_of_the_constraints() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    plain = {normal(pin.split("==")[0]): pin.split("==")[1] for pin in pins}
    hashed = {name: part.split("==")[1].split()[0] for name, part in blocks(LOCKED).items()}
    assert hashed == plain


def test_every_pin_has_a_hash_and_no_address() -> None:
    for name in ("locked", "cuda", "edge", "full", "release"):
        for package, part in blocks(ROOT / "requirements" / f"{name}.txt").items():
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", part), package
            assert "://" not in part, package


def test_cuda_pins_are_only_what_the_constraints_lack() -> None:
    assert not blocks(ROOT / "requirements" / "cuda.txt").keys() & blocks(LOCKED).keys()


@pytest.mark.parametrize("name", ["edge", "full"])
def test_the_pins_of_an_image_are_the_ones_that_its_list_names(name: str) -> None:
    lines = (ROOT / "requirements" / f"{name}.in").read_text(encoding="utf-8").splitlines()
    wanted = {normal(line) for line in lines if not line.startswith("#")}
    locked, found = blocks(LOCKED), blocks(ROOT / "requirements" / f"{name}.txt")
    assert found == {name: locked[name] for name in wanted}


def test_the_machine_without_pytorch_is_given_none_and_nothing_that_reports_its_use() -> None:
    named = blocks(ROOT / "requirements" / "edge.txt").keys()
    assert not named & {"torch", "transformers", "peft", "safetensors", "openvino-telemetry"}
    assert {"openvino", "tokenizers", "fastapi", "uvicorn", "pydicom", "fhir-resources"} <= named


def test_the_bill_of_materials_names_no_directory_of_the_builder(tmp_path: Path) -> None:
    part = {"name": "x", "externalReferences": [{"url": "file:///home/me/x"}, {"url": "https://example.org"}]}
    bill = {"metadata": {"component": dict(part)}, "components": [dict(part), {"name": "y"}]}
    out = tmp_path / "sbom.json"
    command = [sys.executable, str(ROOT / "requirements" / "sbom.py"), str(out)]
    subprocess.run(command, input=json.dumps(bill), text=True, check=True)
    assert "file:" not in out.read_text()
    assert out.read_text().count("https://example.org") == 2
