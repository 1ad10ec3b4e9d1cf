"""The embedded model's graphs in the cache: when they write, and how they are made. A tiny model stands for it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edge_parts import checkpoint_with_head, write_films

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

import r2gengpt
from conftest import Outcome
from r2gengpt import opening, quick
from r2gengpt.cli.commands.serve import served
from r2gengpt.config import DecodeConfig, ModelConfig
from r2gengpt.edge.record import COMPILED, RECORD
from r2gengpt.edge.reporter import EdgeReporter
from r2gengpt.errors import InputError
from r2gengpt.locate import ModelChoice
from r2gengpt.opening import Served, graphs_dir, quickest
from r2gengpt.options import Override
from r2gengpt.quick import make_graphs
from r2gengpt.reporter import Reporter
from r2gengpt.serving.paired import PairedModel
from r2gengpt.settings import RETRIEVE, PlacementConfig
from serving_parts import LONG
from test_edge import exported

Cli = Callable[[list[str]], Outcome]


@pytest.fixture
def graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where graphs would be looked for: a directory with a record and nothing else, on a machine without a GPU."""
    monkeypatch.setenv("R2GENGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(opening, "NVIDIA", tmp_path / "no-gpu")
    directory = graphs_dir()
    directory.mkdir(parents=True)
    (directory / RECORD).write_text("{}")
    return directory


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The edge directory of a tiny model."""
    directory = tmp_path_factory.mktemp("quick")
    return exported(checkpoint_with_head(directory, "Llama-2", "vit"), directory / "edge", "--weights", "int8")


def test_one_report_of_the_embedded_model_is_written_by_its_graphs_under_its_own_name(graphs: Path) -> None:
    found = quickest(ModelChoice())
    assert (found.name, found.alias) == (str(graphs), "embedded")


@pytest.mark.parametrize(
    "asked",
    [
        {"name": "save/run"},
        {"runtime": "torch"},
        {"accelerator": "gpu"},
        {"writer": RETRIEVE},
        {"model": Override(ModelConfig, {"lm_model": "elsewhere"})},
        {"placement": Override(PlacementConfig, {"quantization": "w8a8"})},
        {"decode": Override(DecodeConfig, {"do_sample": True})},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_what_the_graphs_have_not_is_left_to_pytorch(graphs: Path, asked: dict[str, Any]) -> None:
    choice = ModelChoice(**asked)
    assert quickest(choice) == choice


def test_settings_of_decoding_that_the_graphs_have_are_taken_along(graphs: Path) -> None:
    decode = Override(DecodeConfig, {"beam_size": 5})
    assert quickest(ModelChoice(decode=decode)).decode == decode


def test_a_machine_with_a_gpu_keeps_pytorch_unless_the_cpu_is_asked_for(
    graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "NVIDIA", graphs)
    assert quickest(ModelChoice()).name == "embedded"
    assert quickest(ModelChoice(accelerator="cpu")).name == str(graphs)


def test_graphs_that_are_asked_for_and_not_there_are_refused_in_a_line(graphs: Path) -> None:
    (graphs / RECORD).unlink()
    assert quickest(ModelChoice()).name == "embedded"
    with pytest.raises(InputError, match=r"runtime openvino: no graphs .* run `r2gengpt pull embedded`"):
        quickest(ModelChoice(runtime="openvino"))
    with pytest.raises(InputError, match="runtime openvino: no graphs"):
        r2gengpt.load(runtime="openvino")


def test_what_only_pytorch_has_leaves_the_graphs_unless_they_are_asked_for(graphs: Path) -> None:
    assert quickest(ModelChoice(), torch=True) == ModelChoice()
    assert quickest(ModelChoice(runtime="openvino"), torch=True).name == str(graphs)


def test_a_directory_that_is_none_for_openvino_is_refused_before_the_port_is_opened(
    graphs: Path, run_cli: Cli, tmp_path: Path
) -> None:
    done = run_cli(["serve", "--port", "0", "--runtime", "openvino", "--model", str(tmp_path / "none")])
    assert (done.code, done.stdout) == (2, "")
    assert f"--model {tmp_path / 'none'}: no edge.json there" in done.stderr


def test_serve_takes_the_graphs_where_openvino_is_asked_for_and_keeps_the_models_name(
    graphs: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Cli
) -> None:
    begun: list[Served] = []
    monkeypatch.setattr("r2gengpt.cli.commands.serve.start", lambda served, *_: begun.append(served))
    (graphs / RECORD).write_text(json.dumps({"film": {"decoded": 336}}))
    assert run_cli(["serve", "--port", "0", "--runtime", "openvino"]).code == 0
    assert [(one.choice.name, one.choice.alias, one.rest) for one in begun] == [(str(graphs), "embedded", None)]


@pytest.fixture
def embedded(graphs: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of the tiny model, which stands for the embedded one; its graphs are there too."""
    monkeypatch.setattr(opening, "graphs_dir", lambda: small)
    monkeypatch.setattr("r2gengpt.locate.EMBEDDED", small.parent / "ours")
    return small.parent / "ours"


def test_serve_lets_the_graphs_write_and_loads_pytorch_for_the_rest_when_it_is_asked_for(
    embedded: Path, small: Path
) -> None:
    model = served(Served.of(ModelChoice()))
    assert isinstance(model, PairedModel)
    assert (model.name, model.graphs.directory, model.directory) == ("embedded", small, embedded)
    assert model.state == "not loaded"
    loaded = model.torch().result(LONG)
    assert (loaded.name, loaded.directory) == ("embedded", embedded)


@pytest.mark.parametrize(
    "asked",
    [{"writer": RETRIEVE}, {"decode": Override(DecodeConfig, {"do_sample": True})}, {"accelerator": "gpu"}],
    ids=lambda asked: next(iter(asked)),
)
def test_serve_keeps_to_pytorch_where_the_graphs_lack_what_the_flags_ask_for(
    embedded: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setattr("r2gengpt.locate.check_retrieves", lambda located: None)
    found = Served.of(ModelChoice(**asked))
    assert found.located is not None
    assert (found.choice.name, found.rest) == ("embedded", None)


def test_serve_has_the_graphs_alone_where_pytorch_is_not_installed(
    embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None if name == "torch" else find_spec(name))
    found = Served.of(ModelChoice())
    assert (found.located, found.rest) == (None, None)


def test_in_python_the_graphs_write_and_pytorch_comes_for_what_they_have_not(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    plain = Reporter.load.__func__  # type: ignore[attr-defined]

    def load(cls: type[Reporter], choice: ModelChoice) -> Reporter:
        loaded.append(choice.runtime)
        return plain(cls, choice)

    monkeypatch.setattr(Reporter, "load", classmethod(load))
    films = write_films(tmp_path)
    model = r2gengpt.load("embedded")
    assert isinstance(model, EdgeReporter)
    report = model.report(films)
    assert (model.name, json.loads(report.to_json())["runtime"], loaded) == ("embedded", "openvino", [])
    evidence = report.evidence()
    assert [one.text for one in evidence.sentences] == [one.text for one in report.sentences]
    told = model.report(films, context=r2gengpt.Context(indication="Cough"))
    assert told.instruction is not None
    assert "Cough" in told.instruction
    assert "runtime" not in json.loads(told.to_json())
    assert loaded == ["torch"], "once"


def test_in_python_without_pytorch_what_the_graphs_have_not_is_refused(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None if name == "torch" else find_spec(name))
    report = r2gengpt.load("embedded").report(write_films(tmp_path))
    with pytest.raises(InputError, match="needs PyTorch"):
        report.evidence()


@pytest.mark.parametrize("asked", [{"runtime": "torch"}, {"do_sample": True, "temperature": 1.0}], ids=str)
def test_in_python_pytorch_writes_what_it_alone_has(embedded: Path, asked: dict[str, Any]) -> None:
    assert isinstance(r2gengpt.load("embedded", **asked), Reporter)


def test_another_delta_has_other_graphs(graphs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "delta.safetensors").write_bytes(b"another")
    monkeypatch.setattr(opening, "EMBEDDED", tmp_path)
    assert graphs_dir() != graphs
    assert quickest(ModelChoice()).name == "embedded"


def test_graphs_are_made_once_and_replace_those_of_an_older_model(
    graphs: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = graphs.rename(graphs.with_name("openvino-int8-older-v1"))
    monkeypatch.setattr(quick, "export_graphs", lambda path: shutil.copytree(small, path))
    lines: list[str] = []
    assert make_graphs(lines.append) == graphs
    assert make_graphs(lines.append) == graphs
    assert [line.partition(": ")[2].partition(",")[0] for line in lines] == [
        "exporting the model", "ready", "already in the cache",
    ]  # fmt: skip
    assert not older.exists()
    (graphs / "language.bin").write_bytes(b"damaged")
    assert make_graphs(lines.append) == graphs
    assert "damaged, made anew (" in lines[3]
    assert (graphs / "language.bin").read_bytes() == (small / "language.bin").read_bytes()


def test_graphs_are_made_in_main_memory_whatever_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ModelChoice] = []
    monkeypatch.setattr("r2gengpt.locate.locate", asked.append)
    monkeypatch.setattr(Reporter, "of", lambda located: located)
    monkeypatch.setattr("r2gengpt.exporting.export_edge", lambda _, made, **__: made.mkdir())
    monkeypatch.setattr("r2gengpt.edge.runtime.Edge.__init__", lambda *_: None)
    monkeypatch.setattr("r2gengpt.edge.runtime.Edge.compile", lambda _: None)
    quick.export_graphs(tmp_path / "graphs")
    assert [choice.accelerator for choice in asked] == ["cpu"]


def test_generate_takes_them(
    graphs: Path, small: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(opening, "graphs_dir", lambda: small)
    done = run_cli(["generate", *map(str, write_films(tmp_path)), "--format", "json"])
    record = json.loads(done.stdout)
    assert (done.code, record["model"], record["runtime"]) == (0, "embedded", "openvino")
    assert r2gengpt.load(runtime="openvino").name == "embedded"


def test_compiled_graphs_are_kept_where_there_is_a_place_and_damage_to_them_costs_time_only(
    small: Path, tmp_path: Path
) -> None:
    films = write_films(tmp_path)
    wanted = r2gengpt.load(small).report(films)
    kept = small / COMPILED
    kept.mkdir()
    assert replace(r2gengpt.load(small).report(films), reporter=None) == replace(wanted, reporter=None)
    blobs = list(kept.iterdir())
    assert len(blobs) == 2
    for blob in blobs:
        blob.chmod(0o644)
        blob.write_bytes(b"damaged" * 100)
    assert replace(r2gengpt.load(small).report(films), reporter=None) == replace(wanted, reporter=None)
