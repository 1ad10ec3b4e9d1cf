"""What reaches a terminal or a log file: one line a record, whatever the values in it hold."""

import logging

import pytest

from r2gengpt.cli.console import OneLine
from r2gengpt.cli.main import say
from r2gengpt.errors import one_line

HOSTILE = {
    "a\nb\r\nc\td": "a b c d",
    "\x1b[31mred\x1b[0m": "?[31mred?[0m",
    "\x9b2J\x07\x00": "?2J??",
    "left\u202eright\u2028line\x85end": "left?right line end",
    "\ud800": "?",
    "Müller 肺 ≥ 3": "Müller 肺 ≥ 3",
}


@pytest.mark.parametrize(("text", "clean"), HOSTILE.items())
def test_a_value_cannot_end_its_line_or_talk_to_the_terminal(text: str, clean: str) -> None:
    assert one_line(text) == clean
    record = logging.LogRecord("r2gengpt", logging.WARNING, "", 0, "film %s", (text,), None)
    assert OneLine("%(message)s").format(record) == f"film {clean}"


def test_an_error_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("listen", "--ae_title \x1b[2J\nfake: line: bad")
    assert capsys.readouterr().err == "r2gengpt listen: --ae_title ?[2J fake: line: bad\n"
