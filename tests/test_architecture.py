"""The rooms of the program: who may import whom, and what is never loaded where."""

import ast
import functools
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import r2gengpt

SOURCE = Path(r2gengpt.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
BASE = {"errors", "options", "config", "settings"}
LOW = {*BASE, "text", "files", "progress"}
FILMS = {*LOW, "films"}
MIDDLE = {*FILMS, "model", "data"}
HIGH = {
    *{*MIDDLE, "parts", "generation", "confidence", "checkpoint", "checkpoint_files", "provenance", "processes"},
    *{"metrics", "report"},
}
ALLOWED: dict[str, set[str]] = {
    "version": set(),
    "errors": set(),
    "files": {"errors", "text"},
    "options": {"errors"},
    "config": {"errors", "options"},
    "settings": {"errors", "options"},
    "processes": {"errors"},
    "progress": set(),
    "text": BASE,
    "metrics": LOW,
    "films": LOW,
    "report": {*FILMS, "confidence", "metrics"},
    "model": LOW,
    "data": {*FILMS, "model", "metrics", "verdicts"},
    "parts": MIDDLE,
    "checkpoint_files": {*MIDDLE, "parts"},
    "generation": {*MIDDLE, "parts", "report", "metrics"},
    "confidence": {*MIDDLE, "parts", "generation", "report", "metrics"},
    "checkpoint": {*MIDDLE, "parts", "generation", "checkpoint_files"},
    "provenance": {*MIDDLE, "checkpoint_files", "confidence"},
    "clinical.documents": {*FILMS, "metrics", "report"},
    "original": HIGH,
    "locate": {*HIGH, "original"},
    "posting": {"errors"},
    "engines": {*HIGH, "posting"},
    "loaded": {*HIGH, "original", "locate", "engines"},
    "base_reporter": {*MIDDLE, "confidence", "generation", "report", "clinical.documents"},
    "reporter": {*HIGH, "base_reporter", "locate", "loaded", "engines"},
    "edge": {*HIGH, "base_reporter", "locate"},
    "exporting": {*HIGH, "locate", "reporter", "edge", "engines"},
    "opening": {*HIGH, "locate", "reporter", "edge"},
    "quick": {*HIGH, "locate", "reporter", "edge", "exporting", "opening"},
    "scoring": {*LOW, "metrics"},
    "verdicts": {*LOW, "metrics"},
    "auditlog": FILMS,
    "training": {*HIGH, "original"},
    "evaluation": {*HIGH, "reporter", "verdicts", "posting"},
    "serving": {*HIGH, "posting", "base_reporter", "reporter", "edge", "clinical.documents", "verdicts", "auditlog"},
    "clinical": {*HIGH, "base_reporter", "clinical.documents", "auditlog"},
    "batch": {*HIGH, "reporter", "locate", "evaluation"},
    "testing": LOW,
    "cli": {
        *{*HIGH, "original", "training", "evaluation", "serving", "clinical", "clinical.documents", "batch", "edge"},
        *{"locate", "reporter", "opening", "quick", "exporting", "scoring", "testing", "verdicts", "auditlog"},
    },
    "__main__": {"cli"},
}
"""Room → the rooms it may import from, besides itself. Every file of the program stands in one of these rooms."""


def room_in(parts: Sequence[str]) -> str:
    """The room of a module's path below the package: the longest of the table that it begins with."""
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if name in ALLOWED), parts[0])


def room_of(path: Path) -> str:
    return room_in(path.relative_to(SOURCE).with_suffix("").parts)


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """A file of Python, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports, anywhere in it, each name of `from package import name` too."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_at_top(path: Path) -> set[str]:
    """First parts of the modules that importing the file imports."""
    tree = tree_of(path)
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
        top = [node.module for node in tree_of(path).body if isinstance(node, ast.ImportFrom)]
        assert [name for name in top if str(name).startswith("r2gengpt")] == ["r2gengpt.version"], "the door is light"
        return
    assert room in ALLOWED, f"{room} is no room of the table: give it its place"
    names = {name.split(".", 1)[1] for name in imports(path) if name.startswith("r2gengpt.")} - {"__version__"}
    ours = {room_in(name.split(".")) for name in names} - {room, "version"}
    assert ours <= ALLOWED[room]


BELOW_REPORTER = {"model", "parts", "generation", "engines", "loaded", "checkpoint"}
ABOVE_REPORTER = {
    *{"serving", "batch", "clinical", "evaluation", "cli.evaluating", "cli.shares", "cli.commands.serve"},
    *{"cli.commands.generate", "cli.commands.listen", "cli.commands.batch", "cli.commands.test"},
}
RECORDS = {"beams.Written", "engine.Prompt", "stopping.Listener", "sentences.PlaceInText"}
"""What a reporter gives and takes beside reports, of `generation`."""
INSIDE = {"built", "looker", "index", "drafter"}


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_serve_listen_batch_and_test_use_the_reporter_and_nothing_under_it(path: Path) -> None:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    if not {".".join(parts[:length]) for length in range(1, len(parts) + 1)} & ABOVE_REPORTER:
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and node.attr in INSIDE:
            assert "reporter" not in ast.unparse(node.value), f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom) and room_in((node.module or "").split(".")[1:] or ("",)) in BELOW_REPORTER:
            names = {f"{node.module}.{alias.name}".removeprefix("r2gengpt.generation.") for alias in node.names}
            assert names <= RECORDS, f"line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_every_file_opens_with_a_docstring(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_only_training_imports_lightning(path: Path) -> None:
    found = {name.split(".")[0] for name in imports(path)} & {"lightning", "pytorch_lightning", "lightning_fabric"}
    assert not found or room_of(path) == "training"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_only_parts_loads_pretrained_models(path: Path) -> None:
    calls = [
        node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute) and node.attr == "from_pretrained"
    ]
    assert not calls or room_of(path) in ("parts", "testing")


@pytest.mark.parametrize(
    "path", [path for path in FILES if room_of(path) in ("metrics", "text", "config", "errors")], ids=ids
)
def test_metrics_text_and_settings_never_import_torch_or_transformers(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & {"torch", "transformers", "peft", "safetensors"}


EXPORT_HALF = {"export", "graphs", "trace"}
"""Files of the edge room that make graphs; the others run them."""


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) == "edge" and p.stem not in EXPORT_HALF], ids=ids)
def test_the_half_of_the_edge_that_runs_never_imports_torch(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & {"torch", "transformers", "peft", "safetensors"}
    assert not {name for name in imports(path) for half in EXPORT_HALF if name.startswith(f"r2gengpt.edge.{half}")}


@pytest.mark.parametrize("name", ["generation/beams", "generation/sentences", "confidence/findings"])
def test_what_the_edge_takes_from_other_rooms_never_imports_torch(name: str) -> None:
    found = {name.split(".")[0] for name in imports(SOURCE / f"{name}.py")}
    assert not found & {"torch", "transformers", "peft", "safetensors"}


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) == "cli" and p.stem != "models"], ids=ids)
def test_commands_import_nothing_heavy_before_they_have_parsed_their_flags(path: Path) -> None:
    assert not imports_at_top(path) & {"torch", "transformers", "lightning", "peft", "fastapi", "ray", "pydicom"}


TAG = re.compile(r"</?(a|b|body|br|dd|div|dl|dt|h[1-6]|html|img|li|p|path|rect|small|span|svg|t[dhr]|table|ul)\b[ >/]")


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_no_html_is_put_together_in_code(path: Path) -> None:
    """What a reader sees is a template, which escapes what it is given."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.JoinedStr):
            texts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            assert not [text for text in texts if TAG.search(str(text))], ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_only_commands_print_to_stdout(path: Path) -> None:
    calls = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if "file" not in [keyword.arg for keyword in node.keywords]
    ]
    assert not calls or room_of(path) == "cli"


@pytest.mark.parametrize(
    "code",
    [
        "import r2gengpt",
        "from r2gengpt.cli.main import main; main(['--help'])",
        "from r2gengpt.cli.main import main; main(['train', '--help'])",
        "from r2gengpt.cli.main import main; main(['generate', '--help'])",
        "from r2gengpt.cli.main import main; main(['score', '--help'])",
        "from r2gengpt.cli.main import main; main(['help', 'train', 'all'])",
        "from r2gengpt.cli.main import main; main(['completion', 'bash'])",
        "from r2gengpt.cli.main import main; main(['train', '--lm_modle', 'x'])",
        "import r2gengpt.edge.reporter, r2gengpt.opening",
        "from r2gengpt.cli.main import main; main(['serve', '--help'])",
        "import r2gengpt.metrics.score, r2gengpt.text.prompt, r2gengpt.text.alignment, r2gengpt.config",
    ],
)
def test_neither_torch_nor_transformers_nor_templates_are_loaded_for_this(code: str) -> None:
    check = (
        "import atexit, os, sys, traceback\n"
        "sys.excepthook = lambda *error: (traceback.print_exception(*error), os._exit(8))\n"
        "heavy = {'torch', 'transformers', 'lightning', 'jinja2'}\n"
        "atexit.register(lambda: os._exit(9 if heavy & set(sys.modules) else 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", check + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_server_itself_loads_no_pytorch() -> None:
    """What runs the model does: an edge directory is served without."""
    code = (
        "import sys, r2gengpt.serving.app, r2gengpt.serving.server\n"
        "sys.exit(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_class_name_stands_twice() -> None:
    names = Counter(node.name for path in FILES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []


VAGUE = {"given", "told", "below"}
"""Names that say of a thing only that somebody gave it, told it, or put it lower."""


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_no_name_is_one_that_fits_anything(path: Path) -> None:
    nodes = list(ast.walk(tree_of(path)))
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not bound & VAGUE


OTHERS = {"--no-deps", "--only-binary", "--no-input", "--disable-pip-version-check", "--dest", "--no-index"}
"""Flags of pip."""


@pytest.mark.parametrize("path", [path for path in FILES if room_of(path) != "cli"], ids=ids)
def test_no_room_but_the_command_line_knows_a_flags_name(path: Path) -> None:
    tree = tree_of(path)
    documents = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        if isinstance(node.body[0], ast.Expr)
    }
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n not in documents]
    flags = [flag for text in texts if isinstance(text, str) for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", text)]
    assert not {flag for flag in flags if flag not in OTHERS and not flag.startswith("--line")}


@pytest.mark.parametrize("path", sorted((SOURCE / "cli" / "commands").glob("[a-z]*.py")), ids=ids)
def test_a_command_parses_calls_and_delivers_in_at_most_40_lines(path: Path) -> None:
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]
    assert "main" in [function.name for function in functions]
    assert not [one.name for one in functions if (one.end_lineno or 0) - one.lineno >= 40]
