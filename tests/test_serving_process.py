"""The server as a process: the guide's examples, OpenAI's client, SIGTERM under load, wrong flags."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pydantic
import pytest

from audit_parts import said_in
from conftest import Outcome
from dicom_files import ROOT as UID
from dicom_files import data_of
from dicom_files import film as dicom
from r2gengpt.auditlog.verify import verify
from r2gengpt.errors import InputError
from r2gengpt.reporter import Reporter
from r2gengpt.serving.identity import Identity
from r2gengpt.serving.server import address_of, listen, warn_if_open
from r2gengpt.settings import ServeConfig
from r2gengpt.text.written import NOTICE
from serving_parts import LONG, data_url, film, message, running_server, upload
from serving_process import Process
from test_serving_api import alone, events, wait_for

ROOT = Path(__file__).parents[1]
GUIDE_ADDRESS = "http://127.0.0.1:8000"


def example(language: str, word: str) -> str:
    """The guide's code block of this language that holds the word."""
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "docs/guide/serve.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    (found,) = [block for block in blocks if word in block]
    return found


@pytest.fixture(scope="module")
def address(served: Reporter) -> Iterator[str]:
    """Of a real server whose model is called embedded, as in the guide."""
    with running_server(replace(served, name="embedded")) as (address, _):
        yield address


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_guides_curl_examples_work_word_for_word(address: str, served: Reporter, tmp_path: Path) -> None:
    """All but the address, which is a free port here."""
    (tmp_path / "src").symlink_to(ROOT / "src")
    for name, view in (("front", "PA"), ("lateral", "LL")):
        (tmp_path / f"{name}.dcm").write_bytes(data_of(dicom(ViewPosition=view, SOPInstanceUID=f"{UID}{len(name)}")))
    lines = example("console", "curl").replace(GUIDE_ADDRESS, address).splitlines()
    pixels = (ROOT / "src/r2gengpt/examples/effusion.jpg").read_bytes()
    answers = [
        subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=LONG
        ).stdout
        for line in lines
    ]
    answer = json.loads(answers[0])
    assert answer["findings"]
    assert "Cough." not in answers[0]
    assert answers[1] == f"{NOTICE}\n\n{alone(served, [pixels], served.decode).text}\n"
    (report,) = [entry["resource"] for entry in json.loads(answers[2])["entry"] if "conclusion" in str(entry)]
    assert (report["resourceType"], report["status"]) == ("DiagnosticReport", "preliminary")


def test_the_guides_python_example_works_word_for_word(address: str, served: Reporter) -> None:
    """All but the address, which is a free port here."""
    code = example("python", "OpenAI(").replace(GUIDE_ADDRESS, address) + "print()\n" + example("python", "json_schema")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=LONG)
    pixels = (ROOT / "src/r2gengpt/examples/effusion.jpg").read_bytes()
    wanted = alone(served, [pixels], replace(served.decode, beam_size=1)).text
    assert done.returncode == 0, done.stderr
    text, _, members = done.stdout.rpartition("\n{")
    assert text == wanted
    assert json.loads(f"{{{members}") == {"findings": alone(served, [pixels], served.decode).text, "review": []}


def test_openais_client_reads_answers_streams_models_and_errors(address: str, served: Reporter) -> None:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["embedded"]
        asked: dict[str, Any] = {"model": "embedded", "messages": message(film(3))}
        whole = client.chat.completions.create(**asked)
        wanted = alone(served, [film(3)], served.decode)
        assert whole.choices[0].message.content == wanted.text
        assert whole.choices[0].finish_reason == wanted.finish
        assert whole.usage is not None
        assert whole.usage.completion_tokens == wanted.tokens
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        one_beam = alone(served, [film(3)], replace(served.decode, beam_size=1))
        assert (text, chunks[-1].usage.completion_tokens) == (one_beam.text, one_beam.tokens)
        cut = client.chat.completions.create(**asked, max_tokens=2)
        assert cut.choices[0].finish_reason == "length"
        with pytest.raises(openai.NotFoundError, match="embedded only"):
            client.chat.completions.create(**{**asked, "model": "other"})
        with pytest.raises(openai.BadRequestError, match="no image"):
            client.chat.completions.create(model="embedded", messages=[{"role": "user", "content": []}])


def test_openais_client_reads_choices_logprobs_and_parsed_answers(address: str, served: Reporter) -> None:
    class Draft(pydantic.BaseModel):
        findings: str
        sentences: list[dict[str, Any]] | None
        tokens: int

    wanted = alone(served, [film(3)], served.decode)
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        asked: dict[str, Any] = {"model": "embedded", "messages": message(film(3))}
        known = client.chat.completions.create(**asked, logprobs=True, top_logprobs=1).choices[0].logprobs
        assert known is not None
        assert known.content is not None
        assert "".join(entry.token for entry in known.content) == wanted.text
        parsed = client.chat.completions.parse(**asked, response_format=Draft).choices[0].message.parsed
        assert parsed is not None
        assert (parsed.findings, parsed.tokens) == (wanted.text, wanted.tokens)
        texts, tokens = ["", ""], ["", ""]
        for chunk in client.chat.completions.create(**asked, n=2, temperature=0.9, logprobs=True, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                told = choice.logprobs.content if choice.logprobs is not None else None
                tokens[choice.index] += "".join(entry.token for entry in told or ())
        assert texts == tokens
        assert texts[0] != texts[1]
        inner = {"name": "a", "schema": {"type": "object", "properties": {"impression": {"type": "string"}}}}
        wrong: dict[str, Any] = {**asked, "response_format": {"type": "json_schema", "json_schema": inner}}
        with pytest.raises(openai.BadRequestError, match="has no member impression"):
            client.chat.completions.create(**wrong)
        asked["messages"].append({"role": "user", "content": "Are you sure?"})
        with pytest.raises(openai.BadRequestError, match="answers no questions on it"):
            client.chat.completions.create(**asked)


def test_langchains_client_reads_answers_streams_choices_and_structures(address: str, served: Reporter) -> None:
    """In a process of its own: what it imports is none of this one's."""
    command = [sys.executable, "-W", "error", str(ROOT / "tests/langchain_client.py"), address, data_url(film(3))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr[-2000:]
    found, wanted = json.loads(done.stdout), alone(served, [film(3)], served.decode)
    assert (found["whole"], found["again"], found["tokens"]) == (wanted.text, wanted.text, wanted.tokens)
    assert found["streamed"] == alone(served, [film(3)], replace(served.decode, beam_size=1)).text
    assert found["cut"] == wanted.text.partition(wanted.text[5:8])[0]
    changes: dict[str, Any] = {"beam_size": 1, "do_sample": True, "temperature": 0.9}
    seeds = [alone(served, [film(3)], replace(served.decode, **changes, decode_seed=seed)).text for seed in (5, 6)]
    assert found["drawn"] == seeds
    assert found["logprobs"] == wanted.text
    members = {"findings": wanted.text, "review": [], "finish_reason": wanted.finish}
    assert found["structured"] == members
    assert found["json"] == {"findings": wanted.text}
    assert "send the images again with another instruction" in found["refusal"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_gets_a_chat_completion_and_a_stream_of_a_data_file(
    address: str, served: Reporter, tmp_path: Path
) -> None:
    def ask(**fields: Any) -> str:
        data = tmp_path / "chat.json"
        data.write_text(json.dumps({"model": "embedded", "messages": message(film(3)), **fields}), encoding="utf-8")
        command = ["curl", "-sSN", f"{address}/v1/chat/completions", "-H", "Content-Type: application/json"]
        done = subprocess.run([*command, "-d", f"@{data}"], capture_output=True, text=True, timeout=LONG, check=True)
        return done.stdout

    wanted = alone(served, [film(3)], served.decode)
    assert json.loads(ask())["choices"][0]["message"]["content"] == wanted.text
    content = json.loads(ask(response_format={"type": "json_object"}))["choices"][0]["message"]["content"]
    assert json.loads(content)["findings"] == wanted.text
    chunks = events(ask(stream=True, stop=wanted.text[5:8]))
    one_beam = alone(served, [film(3)], replace(served.decode, beam_size=1)).text
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == one_beam.partition(wanted.text[5:8])[0]
    assert json.loads(ask(n=9))["error"]["param"] == "n"


def test_clients_that_leave_a_real_server_leave_no_place_taken(served: Reporter) -> None:
    """Each reads the first events of a stream and closes the connection; `running_server` looks at the places."""
    long = replace(served.decode, min_new_tokens=300, max_new_tokens=300)
    with running_server(replace(served, decode=long)) as (address, generator):
        for seed in range(4):
            asked = {"model": "best", "messages": message(film(seed)), "stream": True}
            with httpx2.stream("POST", f"{address}/v1/chat/completions", json=asked, timeout=LONG) as answer:
                assert next(answer.iter_lines()).startswith("data: ")
        wait_for(lambda: generator.line.taken == 0 and generator.running == 0)
        assert httpx2.get(f"{address}/ready").status_code == 200


def number(text: str, name: str) -> float:
    """A gauge of `/metrics`."""
    return float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0])


def test_sigterm_under_load_finishes_running_requests_refuses_waiting_ones_and_ends_with_0(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """And its audit log has a start, each report that was given out, and a stop."""
    long = ("--min_new_tokens", "400", "--max_new_tokens", "400", "--beam_size", "1", "--audit_log", str(tmp_path))
    with closing(Process("--model", str(tiny_checkpoint), "--slots", "2", *long)) as server:
        address = server.address
        assert address.startswith("http://127.0.0.1:")
        assert server.ready.wait(LONG)
        with ThreadPoolExecutor(8) as pool:

            def ask(seed: int) -> httpx2.Response | None:
                try:
                    return httpx2.post(f"{address}/v1/reports", files=upload(film(seed)), timeout=LONG)
                except httpx2.ConnectError:  # came after the signal: it was never waiting
                    return None

            def is_loaded() -> bool:
                text = httpx2.get(f"{address}/metrics", timeout=LONG).text
                return number(text, "r2gengpt_running") == 2 and number(text, "r2gengpt_queue_depth") >= 4

            asked = [pool.submit(ask, seed) for seed in range(8)]
            wait_for(is_loaded)
            server.process.send_signal(signal.SIGTERM)
            code = server.end(30)
            answers = [answer for one in asked if (answer := one.result(LONG)) is not None]
        assert (code, [line for line in server.stderr if "rror" in line]) == (0, [])
        assert len(answers) >= 6
        statuses = [one.status_code for one in answers]
        assert set(statuses) == {200, 503}
        assert statuses.count(503) >= 3
        for one in answers:
            assert one.status_code == 503 or one.json()["tokens"] == 400
    first, *between, last = said_in(tmp_path)
    assert (first.kind, last.kind) == ("110120", "110121")
    assert [one.outcome for one in between].count("0") == statuses.count(200)
    told = [line for line in server.stderr if line.startswith("audit log: record ")]
    assert told[-1].endswith(f" has the hash {verify(tmp_path).digest}\n")


@pytest.mark.drill
def test_a_report_that_does_not_end_keeps_no_server_from_ending(tiny_checkpoint: Path) -> None:
    """Its pass takes for ever: after --drain_timeout its request hears 503, and the code is 0."""
    stuck = (
        "import threading\nfrom r2gengpt.generation.engine import Engine\n"
        "Engine._forward = lambda self: threading.Event().wait()"
    )
    with closing(Process("--model", str(tiny_checkpoint), "--drain_timeout", "1", before=stuck)) as server:
        address = server.address
        assert server.ready.wait(LONG)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx2.post, f"{address}/v1/reports", files=upload(film()), timeout=LONG)
            wait_for(lambda: number(httpx2.get(f"{address}/metrics").text, "r2gengpt_running") == 1)
            server.process.send_signal(signal.SIGTERM)
            assert server.end(30) == 0
            assert asked.result(LONG).status_code == 503


@pytest.mark.drill
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_server_without_requests_ends_at_once(tiny_checkpoint: Path, name: str) -> None:
    with closing(Process("--model", str(tiny_checkpoint))) as server:
        assert server.address.startswith("http://127.0.0.1:")
        assert server.ready.wait(LONG)
        server.process.send_signal(getattr(signal, name))
        assert server.end(30) == 0
        assert [line for line in server.stderr if "rror" in line] == []


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--model", "no/such/place"], ("--model no/such/place", "no such directory")),
        (["--port", "70000"], ("--port 70000", "at most 65535")),
        (["--speculate", "True", "--beam_size", "1"], ("--speculate True", "not in serve")),
        (["--api_key_file", "no/such/keys"], ("--api_key_file no/such/keys", "No such file")),
        (["--host", "no.such.host.invalid"], ("--host no.such.host.invalid",)),
        (["--slot", "4"], ("--slot", "--slots")),
    ],
)
def test_wrong_flags_are_refused_in_one_line(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, words: list[str], parts: tuple[str, ...]
) -> None:
    model = [] if "--model" in words else ["--model", str(tiny_checkpoint)]
    code, stdout, stderr = run_cli(["serve", *model, *words])
    assert (code, stdout, len(stderr.splitlines())) == (2, "", 1)
    for part in parts:
        assert part in stderr


def test_a_port_that_is_taken_is_refused_by_name() -> None:
    with closing(listen(ServeConfig(port=0))) as taken:
        port = int(address_of(taken).rpartition(":")[2])
        with pytest.raises(InputError, match=rf"host 127.0.0.1 port {port}: Address already in use"):
            listen(ServeConfig(port=port))


def test_a_checkpoint_that_turns_out_to_be_damaged_ends_the_server_with_its_name(
    run_cli: Callable[[list[str]], Outcome], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(tiny_checkpoint, copy)
    os.truncate(copy / "delta.safetensors", 100)
    code, _, stderr = run_cli(["serve", "--model", str(copy), "--port", "0"])
    assert code == 2
    assert "delta.safetensors is damaged" in stderr.splitlines()[-1]


def test_an_open_address_without_keys_is_warned_of_in_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level("WARNING", logger="r2gengpt"):
        warn_if_open(ServeConfig(), Identity(ServeConfig()))
        assert caplog.messages == []
        warn_if_open(ServeConfig(host="0.0.0.0"), Identity(ServeConfig(host="0.0.0.0")))
        (line,) = caplog.messages
        assert "`host` 0.0.0.0 without keys" in line
        monkeypatch.setenv("R2GENGPT_API_KEYS", "a-key-of-this-server")
        warn_if_open(ServeConfig(host="0.0.0.0"), Identity(ServeConfig(host="0.0.0.0")))
        assert caplog.messages == [line]
