"""What `--help` and `help` print, and what a shell completes."""

import argparse
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from conftest import Outcome
from r2gengpt.cli import bridge
from r2gengpt.cli.commands.completion import SHELLS
from r2gengpt.cli.commands.completion import program as every_command
from r2gengpt.cli.commands.prepare import KINDS
from r2gengpt.cli.help import LINES, page
from r2gengpt.cli.main import COMMANDS, asked_by_help, main, module_of

Run = Callable[[list[str]], Outcome]
"""The whole program, as from a shell."""
CALLS = [(name,) for name in COMMANDS if name != "prepare"] + [("prepare", kind) for kind in KINDS]


def test_the_package_runs_as_the_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    called = [sys.executable, "-m", "r2gengpt", "label", "--help"]
    done = subprocess.run(called, capture_output=True, text=True, check=False)
    with pytest.raises(SystemExit):
        main(["label", "--help"])
    assert (done.returncode, done.stdout) == (0, capsys.readouterr().out)


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr("signal.signal", lambda number, handler: None)

    def call(argv: list[str]) -> Outcome:
        with pytest.raises(SystemExit) as end:
            main(argv)
        shown = capsys.readouterr()
        return Outcome(int(end.value.code or 0), shown.out, shown.err)

    return call


def parser_of(words: tuple[str, ...]) -> bridge.Parser:
    module = importlib.import_module(module_of(words[0]))
    parser: bridge.Parser = module.KINDS[words[1]].parser() if len(words) == 2 else module.parser()
    return parser


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_the_first_page_of_help_is_at_most_sixty_lines_of_eighty_columns(words: tuple[str, ...]) -> None:
    lines = page(parser_of(words)).splitlines()
    assert len(lines) <= LINES == 60
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_the_common_flags_stand_first_and_are_at_most_eleven(words: tuple[str, ...]) -> None:
    parser = parser_of(words)
    assert len(parser.common) <= 11
    every = {action.dest for action in parser._actions}
    assert set(parser.common) <= every
    needed = {action.dest for action in parser._actions if action.required}
    optional = [name for name in parser.common if name not in needed]
    for text in (page(parser), page(parser, "all")) if optional else ():
        before, section = text.split("\ncommon flags:\n")
        assert re.findall(r"^  --(\w+)", section.split("\n\n")[0], re.MULTILINE) == optional
        assert set(re.findall(r"^  --(\w+)", before, re.MULTILINE)) <= needed


def test_train_has_ten_common_flags_and_names_each_of_the_others_by_group() -> None:
    parser = parser_of(("train",))
    text = page(parser)
    assert len(parser.common) == 10
    after = text.split("further flags")[1].split()
    assert [a.dest for a in parser._actions if a.dest not in (*parser.common, "help") and a.dest not in after] == []
    assert "  How text is generated:\n" in text


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_help_all_explains_every_flag_once(words: tuple[str, ...]) -> None:
    parser = parser_of(words)
    starts = re.findall(r"^  (?:-h, )?--(\w+)", page(parser, "all"), re.MULTILINE)
    flags = [action.option_strings[0].lstrip("-") for action in parser._actions if action.option_strings]
    assert sorted(starts) == sorted("help" if name == "h" else name for name in flags)


def test_help_with_a_word_explains_the_flags_that_have_it_in_their_names(program: Run) -> None:
    outcome = program(["train", "--help", "lora-"])
    assert outcome.code == 0
    assert re.findall(r"^  --(\w+)", outcome.stdout, re.MULTILINE) == [
        "vis_lora_targets", "llm_lora_targets", "lora_dropout"
    ]  # fmt: skip


def test_a_word_that_no_flag_has_is_refused(program: Run) -> None:
    outcome = program(["train", "--help", "film.png"])
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr == (
        "r2gengpt train: --help film.png: no flag of r2gengpt train has that in its name (all: every flag)\n"
    )


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_help_and_a_command_is_the_commands_own_help(words: tuple[str, ...], program: Run) -> None:
    asked, own = program(["help", *words]), program([*words, "--help"])
    assert asked == own
    assert asked.code == 0
    assert asked.stdout.startswith(f"usage: r2gengpt {' '.join(words)} ")
    assert program(["help", *words, "all"]) == program([*words, "-h", "all"])


def test_help_of_what_is_no_command_names_the_nearest(program: Run) -> None:
    outcome = program(["help", "trian"])
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr == "r2gengpt: unknown command trian (did you mean train?)\n"
    assert program(["help"]).stdout == program(["--help"]).stdout
    assert asked_by_help(["prepare"]) == ["prepare", "--help"]


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_the_example_of_a_command_parses(words: tuple[str, ...]) -> None:
    parser = parser_of(words)
    called = shlex.split(parser.example.split(" > ")[0])
    assert called[: 1 + len(words)] == ["r2gengpt", *words]
    bridge.parse(parser, called[1 + len(words) :])


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "prepare"])
def test_every_number_says_what_it_counts(name: str) -> None:
    module = importlib.import_module(module_of(name))
    settings = [field for config in getattr(module, "FLAGS", ()) for field in fields(config)]
    numbers = [f for f in settings if re.search(r"\b(int|float)\b", str(f.type)) and not f.metadata["choices"]]
    assert [field.name for field in numbers if not field.metadata["unit"]] == []


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("serve",), "--request_timeout SECONDS "),
        (("serve",), "--max_body_mb MIB "),
        (("listen",), "--max_spool_bytes BYTES "),
        (("train",), "--max_new_tokens TOKENS "),
        (("train",), "--limit_val_batches SHARE|BATCHES\n"),
        (("train",), "--image_size PIXELS "),
        (("batch",), "--format jsonl|parquet "),
        (("generate",), "--stream [True|False] "),
        (("prepare", "synthetic"), "--size PIXELS "),
    ],
)
def test_help_shows_units_and_words_in_place_of_values(words: tuple[str, ...], shown: str) -> None:
    assert f"  {shown}" in page(parser_of(words), "all")


def test_a_flag_whose_words_are_many_lists_them_in_its_help() -> None:
    text = " ".join(page(parser_of(("generate",)), "quantization").split())
    assert "one of auto, none, int8, nf4, fp4, w8a8 (default: auto)" in text


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell_is_valid_there(shell: str, program: Run, tmp_path: Path) -> None:
    outcome = program(["completion", shell])
    assert (outcome.code, outcome.stderr) == (0, "")
    assert [name for name in (*COMMANDS, "help") if name not in outcome.stdout] == []
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    script = tmp_path / "script"
    script.write_text(outcome.stdout)
    check = "--no-execute" if shell == "fish" else "-n"
    done = subprocess.run([shell, check, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("r2gengpt pla", {"plan"}),
        ("r2gengpt help dicom", {"dicomweb"}),
        ("r2gengpt prepare s", {"synthetic"}),
        ("r2gengpt train --learning", {"--learning_rate"}),
        ("r2gengpt train --quantization n", {"none", "nf4"}),
        ("r2gengpt serve --trust_remote_code T", {"True"}),
        ("r2gengpt train --annotation anno", {"annotation.json"}),
        ("r2gengpt train --base_dir fil", {"films"}),
        ("r2gengpt generate a.png fil", {"films", "film.png"}),
        ("r2gengpt test --split ", {"test", "val", "train"}),
    ],
)
def test_bash_completes_commands_flags_words_and_files(
    words: str, found: set[str], program: Run, tmp_path: Path
) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "film.png").touch()
    (tmp_path / "annotation.json").touch()
    (tmp_path / "script.bash").write_text(program(["completion", "bash"]).stdout)
    typed = words.split(" ")
    lines = [
        "source ./script.bash",
        f"COMP_WORDS=({' '.join(shlex.quote(word) for word in typed)}); COMP_CWORD={len(typed) - 1}",
        "_shtab_r2gengpt",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert set(done.stdout.split()) == found


def test_a_shell_that_has_no_script_is_refused(program: Run) -> None:
    outcome = program(["completion", "ksh"])
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "ksh" in outcome.stderr


def test_the_parser_that_is_read_for_completion_has_every_command() -> None:
    (commands,) = [a for a in every_command()._actions if isinstance(a, argparse._SubParsersAction)]
    assert set(commands.choices) == {*COMMANDS, "help"}
