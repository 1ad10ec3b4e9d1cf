"""Chat templates are programs of strangers: filled as transformers does, within limits of time and memory."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r2gengpt.config import ModelConfig
from r2gengpt.errors import InputError, RunError
from r2gengpt.parts.families import FAMILIES, choose_prompt
from r2gengpt.parts.templates import fill as chat_template
from r2gengpt.parts.templates.fill import TemplateFailure, fill_chat_template
from r2gengpt.testing import tiny_tokenizer
from tiny_families import TINY_FAMILIES

TURN = [{"role": "user", "content": "Human: <ImageHere> {instruction}"}]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
HOSTILE = {
    "loops": (LOOP, "more than 1 seconds"),
    "memory": ("{% set a = messages[0].role * 4000000000 %}{{ a | length }}", "MiB"),
    "a long text": ("{{ messages[0].role * 100000 }}", "its text has 400000 characters: at most 65536"),
}
MORE = {
    "a macro that calls itself": ("{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}", "recursion"),
    "macros that double": (
        "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
        "more than 1 seconds",
    ),
    "a list": ("{% set a = messages * 999999999 %}{{ a | length }}", "MiB"),
    "a power": ("{{ 9 ** (9 ** (9 ** 9)) }}", "more than 1 seconds"),
    "a width": ("{{ messages[0].role | center(4000000000) }}", "MiB"),
    "a constant of the compiler": ("{{ 'x' * 4000000000 }}", "MiB"),
    "depth": ("{% if a %}" * 3000, "cannot be filled"),
}


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 1)
    chat_template._filled.cache_clear()


def check_refused(template: str, reason: str) -> None:
    words = tiny_tokenizer("gpt_neox", chat_template=template)
    with pytest.raises(InputError, match=re.escape(reason)) as caught:
        choose_prompt(ModelConfig(template="auto"), FAMILIES["stablelm"], words)
    assert "\n" not in str(caught.value)
    assert "give template plain or a text" in str(caught.value)


def test_a_template_is_filled_as_transformers_does_it() -> None:
    """Families whose templates use the tokenizer's own tokens, and what a caller says of thinking."""
    for name in ("Llama-3-Instruct", "Qwen3"):
        family = TINY_FAMILIES[name]
        names = dict(family.names)
        tokenizer = tiny_tokenizer("gpt2", control=family.control, chat_template=family.chat_template, **names)
        wanted = tokenizer.apply_chat_template(TURN, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        assert fill_chat_template(tokenizer, TURN, add_generation_prompt=True, enable_thinking=False) == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of time and memory for a process")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_takes_too_much_is_refused_in_one_line(name: str) -> None:
    check_refused(*HOSTILE[name])


@pytest.mark.drill
@pytest.mark.parametrize("name", MORE)
def test_more_templates_that_take_too_much_are_refused_in_one_line(name: str) -> None:
    check_refused(*MORE[name])


def test_a_template_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the system has no limit of computing: the wall clock ends it."""
    monkeypatch.setattr(chat_template, "SECONDS", 1000)
    monkeypatch.setattr(chat_template, "WALL_SECONDS", 0.5)
    check_refused(LOOP, "more than 0.5 seconds")


def test_a_process_that_does_not_start_is_no_fault_of_the_template(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "child.py"
    broken.write_text("import no_such_package")
    monkeypatch.setattr(chat_template, "_CHILD", broken)
    with pytest.raises(RunError, match="does not start: ModuleNotFoundError: No module named 'no_such_package'"):
        fill_chat_template(tiny_tokenizer(chat_template="{{ 4 }}"), TURN)


def test_of_several_templates_the_default_is_taken() -> None:
    words = tiny_tokenizer("gpt_neox", chat_template="{{ 1 }}")
    words.chat_template = {"tool_use": "{{ 2 }}", "default": "{{ messages[0].content }}!"}
    assert fill_chat_template(words, TURN) == TURN[0]["content"] + "!"
    words.chat_template = {"tool_use": "{{ 2 }}"}
    with pytest.raises(TemplateFailure, match="multiple chat templates"):
        fill_chat_template(words, TURN)


def test_the_process_has_none_of_the_users_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    def run(*args: Any, env: dict[str, str], **more: Any) -> subprocess.CompletedProcess[bytes]:
        seen.append(env)
        return subprocess.CompletedProcess([], 0, b'{"text": "x"}', b"")

    monkeypatch.setenv("R2GENGPT_API_KEYS", "a-key-of-this-server")
    monkeypatch.setattr(subprocess, "run", run)
    assert fill_chat_template(tiny_tokenizer(chat_template="{{ 3 }}"), TURN) == "x"
    assert "R2GENGPT_API_KEYS" not in seen[0]
