"""Memory at its end is answered with what to try, in order, each with its flag."""

import re
from collections.abc import Callable

import pytest
import torch

from conftest import Outcome
from r2gengpt.cli import SAVERS, bridge, is_out_of_memory, train
from r2gengpt.cli.test import CONFIGS


def allocate_too_much() -> torch.Tensor:
    return torch.empty(2**60, dtype=torch.uint8)


def test_pytorchs_own_refusal_on_a_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        allocate_too_much()
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_a_training_run_out_of_memory_ends_in_one_line_with_three_remedies(
    run_cli: Callable[[list[str]], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "main", lambda argv: allocate_too_much())
    outcome = run_cli(["train"])
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("r2gengpt train: out of memory; try in this order: --batch_size 1")
    assert outcome.stderr.count("\n") == 1


def test_another_runtime_error_keeps_its_traceback(
    run_cli: Callable[[list[str]], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(argv: list[str]) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(train, "main", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run_cli(["train"])


@pytest.mark.parametrize("command", SAVERS)
def test_every_remedy_is_a_flag_with_a_value_that_is_accepted(command: str) -> None:
    parser = bridge.Parser(allow_abbrev=False)
    bridge.add_flags(parser, CONFIGS)
    words = re.findall(r"--\w+ \w+", SAVERS[command])
    assert len(words) >= 3
    given = bridge.given_values(bridge.parse(parser, " ".join(words).split()), CONFIGS)
    for config in CONFIGS:
        bridge.make(config, given)
