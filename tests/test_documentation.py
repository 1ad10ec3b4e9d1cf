"""What the README, the documents and the run scripts say exists: commands, flags, tests, files."""

import argparse
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import pytest

from r2gengpt.cli import bridge
from r2gengpt.cli.commands.score import ScoreConfig
from r2gengpt.cli.main import COMMANDS, module_of
from r2gengpt.config import ALIGNMENTS, LENGTHS, DataConfig, DecodeConfig, ModelConfig, TrainConfig
from r2gengpt.options import Override
from r2gengpt.settings import PlacementConfig, ServeConfig

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "runs" / "README.md",
]
SCRIPTS = sorted((ROOT / "runs").rglob("*.sh"))
RUNS = [("train", dataset, alignment) for dataset in ("iu_xray", "mimic_cxr") for alignment in ALIGNMENTS]
TESTS = [("test", dataset, alignment) for _, dataset, alignment in RUNS]
SETTINGS = (ModelConfig, PlacementConfig, DataConfig, DecodeConfig, TrainConfig, ServeConfig)
PREPARATIONS = (
    "guard",
    "iu_xray",
    "mimic_cxr",
    "rexrank",
    "chexpert_plus",
    "rexgradient",
    "padchest",
    "films",
    "verdicts",
    "synthetic",
)
OTHER_PROGRAMS_FLAGS = {
    "--quick",
    "--keep",
    "--help",
    "--head",
    "--node-ip-address",
    "--generate",
    "--disable-usage-stats",
    "--enable-prompt-embeds",
    "--no-deps",
    "--constraint",
    "--require-hashes",
    "--disable-pip",
    "--requirement",
    *("--build", "--build-arg", "--cap-drop", "--env", "--file", "--no-build-isolation", "--now", "--publish"),
    *("--read-only", "--replicas", "--rm", "--security-opt", "--tag", "--tmpfs", "--volume", "--wait"),
}


class Stopped(Exception):
    """A command has made its parser, or has parsed its flags."""

    def __init__(self, found: Any) -> None:
        self.found = found


def parse_with(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> argparse.Namespace:
    """What the flags of `r2gengpt WORDS…` become, checked by the command's own parser and settings; nothing runs."""

    def parse_and_stop(self: bridge.Parser, args: Any = None, namespace: Any = None) -> NoReturn:
        space, unknown = argparse.ArgumentParser.parse_known_args(self, args, namespace)
        assert not unknown, f"unknown flags {unknown}"
        raise Stopped(space)

    monkeypatch.setattr(bridge.Parser, "parse_known_args", parse_and_stop)
    command, *rest = words
    assert command in COMMANDS
    with pytest.raises(Stopped) as stop:
        importlib.import_module(module_of(command)).main(rest)
    space: argparse.Namespace = stop.value.found
    if hasattr(space, "config"):
        space.config = None
        configs = (ScoreConfig,) if command == "score" else SETTINGS
        values = bridge.given_values(space, configs)
        for config in configs:
            Override.of(config, values).settled()
    return space


def known_flags(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every flag of every command, in all its spellings."""

    def stop(self: bridge.Parser, args: Any = None, namespace: Any = None) -> NoReturn:
        raise Stopped(self)

    monkeypatch.setattr(bridge.Parser, "parse_known_args", stop)
    found = set()
    calls = [(command, []) for command in COMMANDS if command != "prepare"]
    for command, words in [*calls, *(("prepare", [kind]) for kind in PREPARATIONS)]:
        with pytest.raises(Stopped) as stopped:
            importlib.import_module(module_of(command)).main(words)
        found |= set(stopped.value.found._option_string_actions)
    return found


def documented_commands(path: Path) -> list[str]:
    """The `r2gengpt …`, `python train.py …` and `python test.py …` lines of a document's bash blocks."""
    blocks = re.findall(r"^```bash\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if re.match(r"r2gengpt |python (train|test)\.py ", line)]


def words_of(line: str) -> list[str]:
    """The words after `r2gengpt`; `python train.py` is `r2gengpt train`."""
    words = shlex.split(line, comments=True)
    return words[1:] if words[0] == "r2gengpt" else [words[1].removesuffix(".py"), *words[2:]]


COMMAND_LINES = [(path.name, line) for path in DOCUMENTS for line in documented_commands(path)]


@pytest.mark.parametrize(("document", "line"), COMMAND_LINES)
def test_every_documented_command_parses(document: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse_with(monkeypatch, words_of(line))


def test_the_guide_and_the_readme_show_every_command() -> None:
    assert {words_of(line)[0] for _, line in COMMAND_LINES} == set(COMMANDS)


FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
BENCHMARK = re.compile(r"`python benchmarks/(\w+\.py)([^`]*)`")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_flag_that_a_document_names_exists(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = path.read_text(encoding="utf-8")
    for name, words in BENCHMARK.findall(text):
        source = (ROOT / "benchmarks" / name).read_text(encoding="utf-8")
        assert [flag for flag in FLAG.findall(words) if f'"{flag}"' not in source] == [], name
    named = set(FLAG.findall(BENCHMARK.sub("", text)))
    assert named - known_flags(monkeypatch) - OTHER_PROGRAMS_FLAGS == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if not link.startswith("http") and not (path.parent / link).exists()]
    assert missing == []


def anchors(path: Path) -> set[str]:
    """The names of a Markdown file's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_heading_finds_it(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", path.read_text(encoding="utf-8"))
    targets = [(path.parent / file if file else path, name) for file, name in links]
    assert [f"{file.name}#{name}" for file, name in targets if name not in anchors(file)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_python_block_can_be_read(path: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        compile(block, path.name, "exec")


def test_every_page_of_the_guide_stands_in_its_contents() -> None:
    pages = {path.name for path in (ROOT / "docs" / "guide").glob("*.md")} - {"README.md"}
    text = (ROOT / "docs" / "guide" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", text)) == pages


def test_the_changelog_is_short_and_each_line_stands_under_its_subject() -> None:
    """Branches' lines are merged by union: lines that were rewritten meanwhile must not come back."""
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    release = next(number for number, line in enumerate(lines) if line.startswith("## "))
    first = next(number for number, line in enumerate(lines) if line.startswith("**"))
    assert [line for line in lines[:first] if line.startswith("-")] == []
    assert release < first
    assert len(lines) <= 90, "a change has one line, and one subject one list: rewrite, do not append"


def test_every_test_that_a_document_names_exists() -> None:
    named = {
        (file, name)
        for path in DOCUMENTS
        for file, name in re.findall(r"`(test_\w+\.py)::(test_\w+)`", path.read_text(encoding="utf-8"))
    }
    missing = [
        f"{file}::{name}"
        for file, name in sorted(named)
        if not (ROOT / "tests" / file).is_file()
        or f"def {name}(" not in (ROOT / "tests" / file).read_text(encoding="utf-8")
    ]
    assert named
    assert missing == []


def test_nobody_is_sent_to_a_release_that_is_on_no_index() -> None:
    sources = sorted((ROOT / "src").rglob("*.py"))
    sent = [str(path) for path in (*DOCUMENTS, *SCRIPTS, *sources) if re.search(r"r2gengpt\[", path.read_text("utf-8"))]
    assert sent == [], "errors.installing names the way"


def test_the_tree_of_contributing_is_the_tree() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    listed = set()
    for line in tree.splitlines():
        place = "src/r2gengpt/" if line.startswith("  ") else ""
        listed |= {place + name for name in re.split(r"\s{2,}", line.strip())[0].split(", ")}
    assert [name for name in sorted(listed) if not (ROOT / name).exists()] == []
    package = {
        f"src/r2gengpt/{path.name}{'/' if path.is_dir() else ''}"
        for path in (ROOT / "src" / "r2gengpt").iterdir()
        if not path.name.startswith("_") and path.name not in ("py.typed", "errors.py", "version.py")
    }
    assert package - listed == set()


def test_the_reference_is_what_its_generator_writes() -> None:
    command = [sys.executable, str(ROOT / "docs" / "reference.py")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == done.stdout, (
        "python docs/reference.py > docs/reference.md"
    )


def test_the_reference_has_every_flag_of_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(--[\w-]+)", text)) | {"--help", "-h"}
    assert {flag.replace("-", "_") for flag in known_flags(monkeypatch)} == {flag.replace("-", "_") for flag in named}


def test_the_original_document_tells_the_defaults_that_are() -> None:
    text = (ROOT / "docs" / "original.md").read_text(encoding="utf-8")
    defaults = {f.name: f.default for config in SETTINGS for f in fields(config)}
    assert f"| `--lm_model` | `meta-llama/Llama-2-7b-chat-hf` | `{defaults['lm_model']}` |" in text
    assert f"| `--no_repeat_ngram_size` | 2 | {defaults['no_repeat_ngram_size']} |" in text
    assert f"| `--num_workers` | 8 | {defaults['num_workers']} |" in text
    assert "100, 80, 120" in text
    assert LENGTHS["mimic_cxr"] == (100, 80, 120)
    names = ("accelerator", "devices", "strategy")
    assert f"| gpu, 2, ddp | {', '.join(str(defaults[name]) for name in names)} |" in text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_valid_bash(path: Path) -> None:
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def run_script(path: Path, directory: Path, *words: str, **environment: str) -> list[list[str]]:
    """Run a script with an `r2gengpt` that only notes its arguments; gives those of each call."""
    fake, record = directory / "bin" / "r2gengpt", directory / "calls"
    fake.parent.mkdir()
    fake.write_text('#!/usr/bin/env bash\nprintf "%s\\x1f" "$@" >> "$RECORD"\nprintf "\\n" >> "$RECORD"\n')
    fake.chmod(0o755)
    (fake.parent / "python").write_text("#!/usr/bin/env bash\n")
    (fake.parent / "python").chmod(0o755)
    inherited = {"PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}", "RECORD": str(record)}
    done = subprocess.run(
        ["bash", str(path), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env={**inherited, **environment},
    )
    assert done.returncode == 0, done.stderr
    return [line.split("\x1f")[:-1] for line in record.read_text(encoding="utf-8").splitlines()]


def run_of(directory: Path, command: str, dataset: str, alignment: str, *words: str, **places: str) -> list[str]:
    """The arguments of `r2gengpt` that a run's script gives it."""
    path = ROOT / "runs" / f"{command}.sh"
    (words_of_run,) = run_script(path, directory, *words, DATASET=dataset, ALIGNMENT=alignment, **places)
    return words_of_run


@pytest.mark.parametrize(("command", "dataset", "alignment"), [*RUNS, *TESTS])
def test_a_run_script_calls_a_command_whose_flags_and_lengths_are_right(
    command: str, dataset: str, alignment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = run_of(tmp_path, command, dataset, alignment)
    space = parse_with(monkeypatch, words)
    assert words[0] == command
    assert space.dataset == dataset
    assert (space.min_new_tokens, space.max_new_tokens) == LENGTHS[dataset][1:]
    if command == "train":
        assert space.max_length == LENGTHS[dataset][0]
        assert space.alignment == alignment


@pytest.mark.parametrize(("command", "dataset", "alignment"), [*RUNS, *TESTS])
def test_a_run_script_takes_paths_by_environment_and_further_flags(
    command: str, dataset: str, alignment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"DATA": "my data", "LM_MODEL": "parts/my lm", "VISION_MODEL": "parts/vision", "SAVE": "runs/my run"}
    flags = ("--beam_size", "1", "--instruction", "Two words.")
    space = parse_with(monkeypatch, run_of(tmp_path, command, dataset, alignment, *flags, **places))
    assert space.annotation == "my data/annotation.json"
    assert space.base_dir == "my data/images"
    assert (space.lm_model, space.vision_model) == ("parts/my lm", "parts/vision")
    assert (space.ckpt_file if command == "test" else space.savedmodel_path) == "runs/my run"
    assert (space.beam_size, space.instruction) == (1, "Two words.")


@pytest.mark.parametrize(("command", "dataset", "alignment"), TESTS)
def test_a_test_script_leaves_the_parts_to_the_checkpoint(
    command: str, dataset: str, alignment: str, tmp_path: Path
) -> None:
    assert not {"--lm_model", "--vision_model"} & set(run_of(tmp_path, command, dataset, alignment))


def test_a_test_script_scores_the_run_that_the_train_script_made(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    trained = run_of(tmp_path / "train", "train", "mimic_cxr", "deep")
    tested = run_of(tmp_path, "test", "mimic_cxr", "deep")
    saved = trained[trained.index("--savedmodel_path") + 1]
    assert tested[tested.index("--ckpt_file") + 1] == saved == "save/mimic_cxr/deep"


@pytest.mark.parametrize("setting", ["DATASET", "ALIGNMENT"])
def test_a_run_script_refuses_a_setting_that_it_does_not_know(setting: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "runs" / "train.sh")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], setting: "chexpert"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{setting}=chexpert: choose from " in done.stderr


def test_every_command_of_the_demo_parses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = run_script(ROOT / "runs" / "demo.sh", tmp_path, DEMO=str(tmp_path / "demo"))
    assert {words[0] for words in calls} == {"pull", "generate", "prepare", "train", "test"}
    for words in calls:
        parse_with(monkeypatch, words)


def test_the_demo_takes_no_directory_with_other_files_in_it(tmp_path: Path) -> None:
    """It empties its own one; a name that was mistaken for a new one is not emptied."""
    mine = tmp_path / "mine" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"DEMO=.*: holds other files than a demo's"):
        run_script(ROOT / "runs" / "demo.sh", tmp_path, DEMO=str(mine.parent))
    assert mine.exists()


def test_a_demo_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    old = [tmp_path / "demo" / name for name in ("films/annotation.json", "run/old.json")]
    for path in old:
        path.parent.mkdir(parents=True)
        path.touch()
    run_script(ROOT / "runs" / "demo.sh", tmp_path, DEMO=str(tmp_path / "demo"))
    assert [path for path in old if path.exists()] == []


BESIDE = [path for folder in ("deploy", "runs", "benchmarks") for path in sorted((ROOT / folder).rglob("*"))]
NAMED_FILE = re.compile(r"\b(?:docs|tests|runs|deploy|benchmarks|requirements)/[\w./-]+\.(?:md|py|sh|yaml|conf|txt)\b")


@pytest.mark.parametrize(
    "path", [path for path in BESIDE if path.is_file() and "__pycache__" not in path.parts], ids=lambda path: path.name
)
def test_every_file_of_the_project_that_a_script_names_exists(path: Path) -> None:
    named = NAMED_FILE.findall(path.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_command_that_trains_the_embedded_model_parses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = run_script(ROOT / "runs" / "embedded" / "train.sh", tmp_path, "my data", "my run", "--seed", "7")
    spaces = [parse_with(monkeypatch, words) for words in calls]
    assert [words[0] for words in calls] == ["pull", "prepare", "train", "train", "prepare"]
    *spaces, guard = spaces
    assert (guard.model, guard.base_dir) == ("my run/reports/best", "my data")
    assert [(space.base_dir, space.seed) for space in spaces[2:]] == [("my data", 7)] * 2
    assert [space.savedmodel_path for space in spaces[2:]] == ["my run/head", "my run/reports"]
    assert [getattr(space, "ckpt_file", None) for space in spaces[2:]] == [None, "my run/head/best"]


def test_every_command_that_reinforces_the_embedded_model_parses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = run_script(ROOT / "runs" / "embedded" / "reinforce.sh", tmp_path, "my data", "my run", "--seed", "7")
    spaces = [parse_with(monkeypatch, words) for words in calls]
    assert [words[0] for words in calls] == ["pull", "prepare", "train", "test", "test", "compare"]
    assert (spaces[2].stage, spaces[2].seed, spaces[2].savedmodel_path) == ("reinforce", 7, "my run/reinforced")
    assert [space.output for space in spaces[3:5]] == ["my run/test-embedded", "my run/test-reinforced"]


def test_the_table_of_scripts_names_every_script() -> None:
    text = (ROOT / "runs" / "README.md").read_text(encoding="utf-8")
    assert [path for path in SCRIPTS if f"`{path.relative_to(ROOT / 'runs').as_posix()}`" not in text] == []


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8")))
    files = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)\(", "".join(files)))
    assert named
    assert named - there == set()


def test_every_extra_that_is_named_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    beside = [path for path in BESIDE if path.is_file() and path.suffix in (".md", ".sh", "")]
    named = {
        (path.name, extra)
        for path in (*DOCUMENTS, *beside, *(ROOT / "src").rglob("*.py"))
        for found in re.findall(r"(?:\.|r2gengpt)\[([a-z,]+)\]", path.read_text(encoding="utf-8"))
        for extra in found.split(",")
    }
    assert {extra for _, extra in named} >= {"dicom", "serve", "openvino"}
    assert not [one for one in named if one[1] not in project["optional-dependencies"]]
