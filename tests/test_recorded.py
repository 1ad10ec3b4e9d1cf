"""What surrounds a recorded pass, by a stand-in that runs it anew; CUDA graphs are tried by benchmarks/gpu.py."""

import copy
import gc
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from r2gengpt.config import DecodeConfig
from r2gengpt.errors import InputError
from r2gengpt.generation import recorded
from r2gengpt.generation.beams import Rules, Written
from r2gengpt.generation.compiled import _run_layer, compiled_layers, layers_of
from r2gengpt.generation.engine import SERVED, Engine, Prompt, use_engine
from r2gengpt.generation.recorded import RecordedTree, power_of_two, recordable, tree_for
from r2gengpt.generation.tree import Tree
from test_engine import prompts_of, random_model

made: list["Anew"] = []
"""The passes that were recorded."""


class Anew:
    """A pass that is run again at each call."""

    def __init__(self, tree: RecordedTree, body: Callable[[], Tensor], compiled: bool) -> None:
        self.body = body
        with compiled_layers(tree.language_model, tree.cache) if compiled else nullcontext():
            for _ in range(2):
                body()
        made.append(self)

    def __call__(self) -> Tensor:
        return self.body()


def recorded_sizes() -> list[tuple[int, int]]:
    """Studies and columns of the passes of the tree that waits."""
    (tree,) = recorded._kept.values()
    return [(rows, columns) for _, rows, _, columns in tree.passes]


@pytest.fixture(autouse=True)
def _recorded_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(recorded, "Recorded", Anew)
    monkeypatch.setattr(recorded, "recordable", lambda language_model: True)
    made.clear()
    yield
    recorded._kept.clear()


def reports(model: Any, rules: Rules, slots: int, lengths: Sequence[int]) -> dict[int, Written]:
    prompts = iter([Prompt(n, p, n) for n, p in enumerate(prompts_of(list(lengths), 0))])
    return {one.tag: one for one in Engine(model, rules, slots).run(prompts)}


def written(model: Any, rules: Rules, slots: int, lengths: Sequence[int]) -> dict[int, list[int]]:
    return {tag: report.ids for tag, report in reports(model, rules, slots, lengths).items()}


RULES = [
    Rules(end=7, max_new_tokens=12),
    Rules(end=7, max_new_tokens=12, repetition_penalty=2.0, min_new_tokens=5),
    Rules(end=7, max_new_tokens=12, no_repeat_ngram_size=2),
    Rules(end=7, max_new_tokens=12, beam_size=3, repetition_penalty=1.5),
    Rules(end=7, max_new_tokens=12, do_sample=True, temperature=1.3),
    Rules(end=7, max_new_tokens=1),
]


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("slots", [1, 2, 5])
def test_recorded_passes_write_what_other_passes_write_while_studies_come_and_go(
    rules: Rules, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model("llama")
    lengths = [5, 9, 3, 14, 6, 8, 2]
    found = [reports(model, rules, slots, lengths) for _ in range(2)]
    assert {rows for rows, _ in recorded_sizes()} <= {1, 2, 4, 5}
    monkeypatch.setattr(recorded, "recordable", lambda language_model: False)
    wanted = reports(model, rules, slots, lengths)
    for one in found:
        assert {tag: report.ids for tag, report in one.items()} == {tag: report.ids for tag, report in wanted.items()}
        for tag, report in wanted.items():
            assert one[tag].logprobs == pytest.approx(report.logprobs, abs=1e-5)


@pytest.mark.parametrize("modes", [(torch.inference_mode, torch.no_grad), (torch.no_grad, torch.inference_mode)])
def test_what_inference_mode_has_recorded_serves_no_run_without_it(modes: Sequence[Callable[[], Any]]) -> None:
    model, rules = random_model("llama"), Rules(end=7, max_new_tokens=6)
    found = []
    for mode in (*modes, *modes):
        with mode():
            found.append(written(model, rules, 2, [4, 5]))
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("first", range(1, 6))
@pytest.mark.parametrize("second", range(1, 8))
def test_a_text_where_that_of_an_earlier_study_lay_goes_on_from_its_own_opening(
    first: int, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "id", lambda text: 0, raising=False)
    model, prompts = random_model("llama"), prompts_of([5, 6], 0)

    def second_of_two() -> list[int]:
        rules, shown = Rules(end=-1, max_new_tokens=12), itertools.count(1)
        ends = Engine(model, rules, 1, on_tokens=lambda tag, token: next(shown) > first)
        list(ends.run(iter([Prompt(0, prompts[0], opening=tuple(range(1, first + 1)))])))
        (found,) = Engine(model, rules, 1).run(iter([Prompt(1, prompts[1], opening=tuple(range(1, second + 1)))]))
        return found.ids

    found = second_of_two()
    monkeypatch.setattr(recorded, "recordable", lambda language_model: False)
    assert found == second_of_two()


@pytest.mark.parametrize("kind", SERVED)
def test_layers_that_are_compiled_once_for_all_write_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(_run_layer, dynamic=False, backend="eager", fullgraph=True)
    monkeypatch.setattr("r2gengpt.generation.compiled.compiled_layer", lambda: compiled)
    model, rules, lengths = random_model(kind), RULES[1], [5, 9, 3]
    numbers = [part.layer_idx for part in model.modules() if hasattr(part, "layer_idx")]
    prompts = [Prompt(n, p) for n, p in enumerate(prompts_of(lengths, 0))]
    found = {one.tag: one.ids for one in Engine(model, rules, 2, compiled=True).run(iter(prompts))}
    assert numbers == [part.layer_idx for part in model.modules() if hasattr(part, "layer_idx")]
    assert all(layer._compiled_call_impl is None for layer in layers_of(model))
    monkeypatch.setattr(recorded, "recordable", lambda language_model: False)
    assert found == written(model, rules, 2, lengths)


def test_passes_are_recorded_once_for_each_power_of_two_of_studies_and_columns() -> None:
    model = random_model("llama")
    written(model, Rules(end=-1, max_new_tokens=140), 1, [5, 6])
    assert recorded_sizes() == [(1, 128), (1, 192)]


def test_a_longer_prompt_makes_room_and_its_passes_are_recorded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("llama")
    rules = Rules(end=-1, max_new_tokens=6)
    lengths = [3, 90]
    found = written(model, rules, 1, lengths)
    assert len(made) == 2
    assert recorded_sizes() == [(1, 128)]
    monkeypatch.setattr(recorded, "recordable", lambda language_model: False)
    assert found == written(model, rules, 1, lengths)


def test_the_next_run_takes_the_recorded_passes_unless_its_sizes_or_the_weights_are_others() -> None:
    model = copy.deepcopy(random_model("llama"))
    rules = Rules(end=-1, max_new_tokens=6)
    written(model, rules, 1, [4])
    written(model, rules, 1, [5])
    assert len(made) == 1
    written(model, rules, 2, [5])
    assert len(made) == 2
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    written(model, rules, 2, [5])
    assert len(made) == 3


def test_a_large_store_is_not_kept_and_a_kept_one_does_not_hold_its_language_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = copy.deepcopy(random_model("llama"))
    rules = Rules(end=-1, max_new_tokens=6)
    written(model, rules, 1, [4])
    assert len(recorded._kept) == 1
    monkeypatch.setattr(recorded, "KEPT_BYTES", 8)
    written(model, rules, 1, [4])
    assert len(recorded._kept) == 0
    monkeypatch.undo()
    monkeypatch.setattr(recorded, "Recorded", Anew)
    monkeypatch.setattr(recorded, "recordable", lambda language_model: True)
    written(model, rules, 1, [4])
    del model
    gc.collect()
    assert len(recorded._kept) == 0


def test_a_pass_that_cannot_be_recorded_is_run_as_before_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = random_model("llama")
    rules = Rules(end=-1, max_new_tokens=6)
    wanted = written(model, rules, 1, [4, 5])
    recorded._kept.clear()

    def refuse(*_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(recorded, "Recorded", refuse)
    with caplog.at_level("INFO", "r2gengpt.generation"):
        assert written(model, rules, 1, [4, 5]) == wanted
    assert [r.message for r in caplog.records if "recorded" in r.message] == [
        "passes are not recorded as CUDA graphs: operation not permitted when stream is capturing"
    ]


def test_nothing_is_recorded_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    model = random_model("llama")
    assert not recordable(model)
    assert type(tree_for(model, 2, Rules(end=0, max_new_tokens=4))) is Tree


def test_compiled_layers_are_refused_on_a_cpu_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(InputError, match="on CUDA devices only, and this one lies on cpu") as caught:
        use_engine(random_model("llama"), DecodeConfig(engine="compiled"))
    assert caught.value.field == "engine"


def test_the_benchmark_of_a_gpu_runs_on_small_shapes_anywhere(tmp_path: Path) -> None:
    words = ["--tiny", "--only", "decoder", "attention", "qlora", "--output", str(tmp_path / "gpu.json")]
    command = [sys.executable, str(Path(__file__).parents[1] / "benchmarks" / "gpu.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found == json.loads(done.stdout)
    assert found["results"]["decoder"]["passed"]
    assert set(found["results"]) == {"ceilings", "decoder", "attention", "qlora"}


def test_powers_of_two() -> None:
    assert [power_of_two(number) for number in (1, 2, 3, 5, 64, 65)] == [1, 2, 4, 8, 64, 128]
