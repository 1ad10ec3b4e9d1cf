"""What is wrong with a command's flags is told before anything large is loaded."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import TinySet
from r2gengpt.config import ModelConfig
from r2gengpt.errors import InputError
from r2gengpt.locate import check_parts
from r2gengpt.serving.address import bound, opened

CHECK = """
import os, sys
from r2gengpt.cli.main import run
code = run(sys.argv[1], sys.argv[2:])
heavy = sorted({"torch", "transformers", "lightning", "ray", "fastapi", "pynetdicom", "openvino"} & set(sys.modules))
print(code, *heavy)
"""
FIRST_LINE = """
import os, sys
from r2gengpt.batch.summary import Progress
from r2gengpt.cli.main import run

def begin(progress):
    print(progress.studies, *sorted({"torch", "transformers", "ray"} & set(sys.modules)), flush=True)
    os._exit(0)

Progress.begin = begin
run("batch", sys.argv[1:])
"""
FILM = "film.png"
PEER = ["--stow", "http://127.0.0.1:1/dicom-web"]
WRONG_MODEL = {
    "generate": [FILM],
    "serve": [],
    "batch": ["--input", ".", "--output", "out"],
    "listen": PEER,
    "dicomweb": ["--url", "http://127.0.0.1:1/dicom-web", "--study", "1.2"],
    "worklist": ["--worklist", "http://127.0.0.1:1/dicom-web"],
    "test": [],
    "export": ["--output", "out"],
}


def refused(words: list[str], cwd: Path, *parts: str, **environment: str) -> None:
    """The program ends with code 2 and a line that has the parts, and nothing large was imported."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *words],
        capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.stdout == "2\n", (done.stdout, done.stderr)
    (line,) = done.stderr.splitlines()
    assert [part for part in (f"r2gengpt {words[0]}: ", *parts) if part not in line] == []


@pytest.mark.parametrize("command", WRONG_MODEL)
def test_a_model_that_is_not_there(command: str, tmp_path: Path) -> None:
    (tmp_path / FILM).touch()
    refused([command, *WRONG_MODEL[command], "--model", "no/model"], tmp_path, "no/model: no such directory")


@pytest.mark.parametrize("command", WRONG_MODEL)
def test_an_original_file_that_is_not_there(command: str, tmp_path: Path) -> None:
    refused([command, *WRONG_MODEL[command], "--model", "no.pth"], tmp_path, "no.pth: No such file")


@pytest.mark.parametrize("command", [name for name in WRONG_MODEL if name != "test"])
def test_an_embedded_model_that_has_not_been_fetched(command: str, tmp_path: Path) -> None:
    words = [command, *WRONG_MODEL[command], "--model", "embedded"]
    refused(words, tmp_path, "is not in the cache", "r2gengpt pull embedded", R2GENGPT_CACHE=str(tmp_path / "cache"))


def test_batch_tells_how_many_studies_there_are_before_anything_large_is_loaded(
    tmp_path: Path, without_weights: Path, tiny_set: TinySet
) -> None:
    words = ["--input", str(tiny_set.annotation), "--output", str(tmp_path / "out"), "--model", str(without_weights)]
    done = subprocess.run(
        [sys.executable, "-c", FIRST_LINE, *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stdout == "14\n", done.stderr


@pytest.mark.parametrize("command", ["serve", "listen"])
def test_a_busy_port(command: str, tmp_path: Path, without_weights: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = [command, "--model", str(without_weights), "--port", port, *(PEER if command == "listen" else [])]
        refused(words, tmp_path, f"--port {port}: Address already in use")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["train", "--ckpt_file", "no"], "--ckpt_file no: no such directory"),
        (["train", "--ckpt_file", "no.pth"], "no.pth: No such file"),
        (["train", "--annotation", "no.json"], "--annotation no.json: No such file"),
        (["train", "--annotation", "here.json", "--lm_model", "./no"], "--lm_model ./no: no such directory"),
        (["train", "--annotation", "here.json", "--vision_model", "/no"], "--vision_model /no: no such directory"),
        (["train", "--test", "--ckpt_file", "no"], "--ckpt_file no: no such directory"),
        (["plan", "--lm_model", "/no"], "--lm_model /no: no such directory"),
        (["quantize", "--lm_model", "/no", "--output", "out"], "--lm_model /no: no such directory"),
        (["convert", "no.pth", "--output", "out"], "no.pth: No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_training_and_planning_are_given(words: list[str], part: str, tmp_path: Path) -> None:
    (tmp_path / "here.json").write_text("{}")
    refused(words, tmp_path, part)


@pytest.mark.parametrize("flag", ["port", "mllp_port"])
def test_listen_names_the_port_that_another_program_has(flag: str, tmp_path: Path, without_weights: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"port": 0, flag: taken.getsockname()[1]}
        words = ["listen", "--model", str(without_weights), "--to_host", "h", "--to_port", "1", "--to_ae", "A"]
        words += [word for name, port in ports.items() for word in (f"--{name}", str(port))]
        refused(words, tmp_path, f"--bind 127.0.0.1 --{flag} {ports[flag]}: Address already in use")


def test_an_annotation_that_is_not_there(tmp_path: Path, without_weights: Path, tiny_set: TinySet) -> None:
    words = ["test", "--model", str(without_weights), "--annotation", "no.json", "--base_dir", str(tiny_set.base_dir)]
    refused(words, tmp_path, "--annotation no.json: No such file")


def test_what_may_be_a_name_on_a_hub_is_left_to_the_hub() -> None:
    check_parts(vars(ModelConfig()))
    with pytest.raises(InputError, match="vision_model a/b/c: no such directory"):
        check_parts(vars(ModelConfig(vision_model="a/b/c")))


def test_nobody_can_connect_to_an_address_before_it_is_opened() -> None:
    with bound("127.0.0.1", 0) as address:
        where = address.getsockname()
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(where)
        opened(address)
        with socket.create_connection(where):
            pass


def test_an_address_that_two_have_belongs_to_the_first_that_listens() -> None:
    with bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bound("127.0.0.1", port) as second:
            opened(second)
            with pytest.raises(InputError, match=f"host 127.0.0.1 port {port}: Address already in use"):
                opened(first)
