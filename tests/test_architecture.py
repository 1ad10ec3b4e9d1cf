"""The rooms of the program: who may import whom, and what is never loaded where."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import r2gengpt

SOURCE = Path(r2gengpt.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
BASE = {"errors", "config"}
LOW = {*BASE, "text"}
MIDDLE = {*LOW, "model", "data"}
HIGH = {*MIDDLE, "build", "generation", "checkpoint", "metrics"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "text": BASE,
    "metrics": LOW,
    "model": LOW,
    "data": {*LOW, "model"},
    "build": MIDDLE,
    "generation": MIDDLE,
    "checkpoint": {*MIDDLE, "build", "generation"},
    "original": HIGH,
    "training": {*HIGH, "original"},
    "evaluation": HIGH,
    "serving": HIGH,
    "archive": {*HIGH, "serving"},
    "batch": {*HIGH, "evaluation"},
    "edge": {*MIDDLE, "build", "generation"},
    "testing": LOW,
    "cli": {*HIGH, "original", "training", "evaluation", "serving", "archive", "batch", "edge", "testing"},
}
"""Room → the rooms it may import from, besides itself. Every file of the program stands in one of these rooms."""


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports, anywhere in it, each name of `from package import name` too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_at_top(path: Path) -> set[str]:
    """First parts of the modules that importing the file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def ids(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_imports_point_downwards_only(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        assert not [name for name in imports(path) if name.startswith("r2gengpt")]
        return
    assert room in ALLOWED, f"{room} is no room of the table: give it its place"
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("r2gengpt.")} - {room, "__version__"}
    assert ours <= ALLOWED[room]


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_every_file_opens_with_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_only_training_imports_lightning(path: Path) -> None:
    found = {name.split(".")[0] for name in imports(path)} & {"lightning", "pytorch_lightning", "lightning_fabric"}
    assert not found or room_of(path) == "training"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_only_build_loads_pretrained_parts(path: Path) -> None:
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "from_pretrained"
    ]
    assert not calls or room_of(path) in ("build", "testing")


@pytest.mark.parametrize(
    "path", [path for path in FILES if room_of(path) in ("metrics", "text", "config", "errors")], ids=ids
)
def test_metrics_text_and_settings_never_import_torch_or_transformers(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & {"torch", "transformers", "peft", "safetensors"}


EXPORT_HALF = {"export", "trace"}
"""Files of the edge room that make graphs of PyTorch models; the others run them."""


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) == "edge" and p.stem not in EXPORT_HALF], ids=ids)
def test_the_half_of_the_edge_that_runs_never_imports_torch(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & {"torch", "transformers", "peft", "safetensors"}
    assert not {name for name in imports(path) for half in EXPORT_HALF if name.startswith(f"r2gengpt.edge.{half}")}


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) == "cli" and p.stem != "models"], ids=ids)
def test_commands_import_nothing_heavy_before_they_have_parsed_their_flags(path: Path) -> None:
    assert not imports_at_top(path) & {"torch", "transformers", "lightning", "peft", "fastapi", "ray", "pydicom"}


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_only_commands_print_to_stdout(path: Path) -> None:
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if "file" not in [keyword.arg for keyword in node.keywords]
    ]
    assert not calls or room_of(path) == "cli"


@pytest.mark.parametrize(
    "code",
    [
        "import r2gengpt",
        "from r2gengpt.cli import main; main(['--help'])",
        "from r2gengpt.cli import main; main(['train', '--help'])",
        "from r2gengpt.cli import main; main(['generate', '--help'])",
        "from r2gengpt.cli import main; main(['score', '--help'])",
        "from r2gengpt.cli import main; main(['train', '--lm_modle', 'x'])",
        "import r2gengpt.edge.runtime, r2gengpt.edge.record, r2gengpt.cli.edge",
        "import r2gengpt.metrics.score, r2gengpt.text.prompt, r2gengpt.text.alignment, r2gengpt.config",
    ],
)
def test_neither_torch_nor_transformers_is_loaded_for_this(code: str) -> None:
    check = (
        "import atexit, os, sys\n"
        "atexit.register(lambda: os._exit(9 if {'torch', 'transformers', 'lightning'} & set(sys.modules) else 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", check + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
