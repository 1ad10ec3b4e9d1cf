"""The server with an edge directory: no PyTorch, no transformers, the same routes."""

import hashlib
import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

import httpx2
import numpy as np
from openai import OpenAI
from PIL import Image
from pydicom import dcmread
from starlette.testclient import TestClient

from dicom_files import data_of
from dicom_files import film as dicom_film
from edge_parts import BEAMS, DECODE, checkpoint_with_head, trained_checkpoint, written_by_torch
from r2gengpt.cli.main import run
from r2gengpt.clinical.archive.run import writer
from r2gengpt.clinical.hl7.orders import Order
from r2gengpt.edge.reporter import EdgeReporter
from r2gengpt.films.dicom.header import read_header
from r2gengpt.generation.sentences import TextPieces
from r2gengpt.locate import ModelChoice
from r2gengpt.serving.instructions import SETTLED
from r2gengpt.serving.jobs import Job
from r2gengpt.testing import noise_image
from r2gengpt.text.written import NOTICE
from serving_parts import LONG, client_of, film, message, running_server, upload
from serving_process import Process

CHAT, REPORTS = "/v1/chat/completions", "/v1/reports"
BLOCKED = ("torch", "transformers", "peft", "safetensors", "gguf", "onnx", "lightning")
NO_TORCH = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError("No module named " + name, name=name)

sys.meta_path.insert(0, Blocked())
"""
"""What the container without PyTorch lacks cannot be imported."""


def exported(checkpoint: Path, output: Path) -> Path:
    words = ["--target", "openvino", "--model", str(checkpoint), "--output", str(output), "--weights", "float32"]
    assert run("export", words) == 0
    return output


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and its edge directory."""
    directory = tmp_path_factory.mktemp("serving-edge")
    checkpoint = trained_checkpoint(directory, "Llama-2")
    return checkpoint, exported(checkpoint, directory / "tiny-edge")


@pytest.fixture(scope="module")
def edge(parts: tuple[Path, Path]) -> EdgeReporter:
    return EdgeReporter.load(ModelChoice(str(parts[1])), frugal=False)


@pytest.fixture
def client(edge: EdgeReporter) -> Iterator[TestClient]:
    with client_of(edge) as (client, _):
        yield client


def in_torch(checkpoint: Path, data: bytes, directory: Path, **changes: Any) -> Any:
    """The report that PyTorch writes of a film, in float32."""
    path = directory / "film.png"
    path.write_bytes(data)
    return written_by_torch(checkpoint, [path], replace(DECODE, **changes))


def data_of_events(text: str) -> list[Any]:
    """The data of server-sent events, the end mark left out but seen."""
    blocks = [block.removeprefix("data: ") for block in text.strip().split("\n\n")]
    assert blocks[-1] == "[DONE]"
    return [json.loads(block) for block in blocks[:-1]]


def test_the_command_serves_an_edge_directory_without_pytorch(parts: tuple[Path, Path], tmp_path: Path) -> None:
    """Page, form, stream and OpenAI's client, in a process that cannot import PyTorch or transformers."""
    checkpoint, directory = parts
    wanted = in_torch(checkpoint, film(1), tmp_path)
    with closing(Process("--model", str(directory), before=NO_TORCH)) as server:
        address = server.address
        assert server.ready.wait(LONG), server.stderr
        assert httpx2.get(f"{address}/health").json() == {"status": "ok"}
        assert httpx2.get(f"{address}/ready").status_code == 200
        assert "r2gengpt" in httpx2.get(address).text
        report = httpx2.post(f"{address}{REPORTS}", files=upload(film(1)), timeout=LONG).json()
        assert (report["findings"], report["tokens"]) == (wanted.text, wanted.tokens)
        assert report["provenance"]["runtime"] == "openvino"
        assert not {"torch", "transformers"} & set(report["provenance"]["versions"])
        stream = httpx2.post(
            f"{address}{REPORTS}", files=upload(film(1)), headers={"Accept": "text/event-stream"}, timeout=LONG
        )
        assert "".join(event.get("delta", "") for event in data_of_events(stream.text)) == wanted.text
        client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=LONG)
        (model,) = client.models.list()
        chat: Any = message(film(1))
        with client.chat.completions.create(model=model.id, messages=chat, stream=True) as chunks:
            pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
        assert "".join(pieces) == wanted.text
        client.close()
        server.process.terminate()
        assert server.end(LONG) == 0
        assert [line for line in server.stderr if "rror" in line] == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--beam_size", "1", "--do_sample", "True"], "--do_sample True"),
        (["--accelerator", "gpu"], "--accelerator gpu"),
        (["--dtype", "float32"], "--dtype float32"),
        (["--writer", "retrieve"], "--writer retrieve"),
    ],
)
def test_flags_that_need_pytorch_end_the_command_with_one_line(
    flags: list[str], words: str, parts: tuple[Path, Path]
) -> None:
    with closing(Process("--model", str(parts[1]), *flags, before=NO_TORCH)) as server:
        assert server.end(LONG) == 2
        (line,) = server.stderr
        assert words in line


def test_a_form_gets_what_pytorch_writes_greedily_and_by_beams(
    parts: tuple[Path, Path], edge: EdgeReporter, tmp_path: Path
) -> None:
    for decode in (DECODE, BEAMS):
        wanted = in_torch(parts[0], film(2), tmp_path, **vars(decode))
        with client_of(replace(edge, decode=decode)) as (client, _):
            answer = client.post(REPORTS, files=upload(film(2))).json()
        assert (answer["findings"], answer["tokens"]) == (wanted.text, wanted.tokens)
        assert answer["logprob"] == pytest.approx(wanted.logprob, abs=1e-3)  # float32 sums in another order
        assert answer["provenance"]["decode"] == vars(decode)
        assert answer["provenance"]["model_sha256"] == edge.documents_sha256


def test_a_chat_has_usage_logprobs_and_stop_strings(client: TestClient, edge: EdgeReporter) -> None:
    asked = {"model": edge.name, "messages": message(film(3)), "logprobs": True}
    answer = client.post(CHAT, json=asked).json()
    (choice,) = answer["choices"]
    text = choice["message"]["content"]
    assert "".join(place["token"] for place in choice["logprobs"]["content"]) == text
    assert answer["usage"]["prompt_tokens"] == len(edge.edge.prompt(edge.edge.see(edge.pixels([picture(3)]))))
    stop = text[len(text) // 2 :][:3]
    cut = client.post(CHAT, json={**asked, "stop": [stop]}).json()["choices"][0]
    assert cut["message"]["content"] == text.partition(stop)[0]
    assert cut["finish_reason"] == "stop"
    assert len(cut["logprobs"]["content"]) < len(choice["logprobs"]["content"])


def picture(seed: int) -> Image.Image:
    return noise_image(seed, 48)


def test_a_text_beside_the_films_is_taken_and_said_to_have_no_effect(client: TestClient, edge: EdgeReporter) -> None:
    """OpenAI's clients send one with each request; the prompt of an export is settled."""
    plain, worded = (
        client.post(CHAT, json={"model": edge.name, "messages": message(film(3), text=text)}).json()
        for text in (None, "Describe the film.")
    )
    assert worded["choices"][0]["message"] == plain["choices"][0]["message"]
    assert (plain.get("warnings"), worded["warnings"]) == (None, [SETTLED])


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"temperature": 0.7}, "temperature"),
        ({"top_p": 0.5}, "top_p"),
        ({"logprobs": True, "top_logprobs": 3}, "top_logprobs"),
    ],
)
def test_what_a_chat_needs_pytorch_for_is_refused_in_one_line(
    client: TestClient, edge: EdgeReporter, changes: dict[str, Any], param: str
) -> None:
    given = client.post(CHAT, json={"model": edge.name, "messages": message(film()), **changes})
    error = given.json()["error"]
    assert (given.status_code, error["param"], error["code"]) == (400, param, "unsupported_value")
    assert error["message"].endswith("need PyTorch, and this server runs its model by OpenVINO")


def test_maps_are_refused_in_one_line_before_anything_is_written(edge: EdgeReporter) -> None:
    with client_of(edge) as (client, generator):
        asked = [
            client.post(REPORTS, params={"evidence": "true"}, files=upload(film())),
            client.post("/v1/evidence", files=upload(film()), data={"report": "The lungs are clear."}),
        ]
        for given in asked:
            assert given.status_code == 400
            assert given.json()["error"]["message"].startswith("evidence: evidence maps need PyTorch")
        assert generator.line.waiting == 0


def test_the_card_names_the_parts_of_the_exported_model(
    client: TestClient, parts: tuple[Path, Path], edge: EdgeReporter
) -> None:
    card = client.get("/v1/card").json()
    assert (card["name"], card["finding_head"], card["maps"]) == ("tiny-edge", False, False)
    assert (card["vision_model"], card["lm_model"]) == edge.part_names
    assert NOTICE in card["card"]
    assert str(parts[1].parent) not in json.dumps(card)


def test_the_page_offers_no_maps_and_its_draft_is_written_without_a_fault(edge: EdgeReporter) -> None:
    """The console of the browser is clean: no map is asked for that would be refused."""
    pytest.importorskip("playwright")
    from playwright.sync_api import expect, sync_playwright

    from page_parts import CHROMIUM, choose, open_page, start_browser

    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with running_server(edge) as (address, _), sync_playwright() as playwright:
        browser = start_browser(playwright)
        with open_page(browser, address) as page:
            expect(page.locator("#model-name")).to_have_text("tiny-edge")
            expect(page.get_by_label("Then map each sentence on the image")).to_be_hidden()
            choose(page, film(1))
            page.get_by_role("button", name="Write draft").click()
            expect(page.locator("#status")).to_contain_text("The draft is finished")
            expect(page.locator("#evidence")).to_be_empty()
            report, _ = edge.draft(edge.pixels([picture(1)]), edge.streamed)
            expect(page.get_by_label("Your text")).to_have_value(report.text)
        browser.close()


def test_films_of_dicom_become_fhir_under_the_hash_of_the_graphs(client: TestClient, edge: EdgeReporter) -> None:
    data = data_of(dicom_film())
    given = client.post(REPORTS, files=upload(data), headers={"Accept": "application/fhir+json"})
    assert given.status_code == 200, given.text
    assert given.json()["resourceType"] == "Bundle"
    assert edge.documents_sha256 in given.text
    report = client.post(REPORTS, files=upload(data)).json()
    assert report["provenance"]["inputs"][0]["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_model_with_a_finding_head_serves_its_findings(tmp_path: Path) -> None:
    directory = exported(checkpoint_with_head(tmp_path, "Llama-2"), tmp_path / "edge")
    model = EdgeReporter.load(ModelChoice(str(directory)), frugal=False)
    with client_of(model) as (client, _):
        answer = client.post(REPORTS, files=upload(film(1))).json()
    found = {one["name"]: one["probability"] for one in answer["film_findings"]}
    assert found == {one.name: round(one.probability, 4) for one in model.edge.look([picture(1)]).findings}


def test_a_report_that_nobody_waits_for_is_not_written_to_its_end(edge: EdgeReporter) -> None:
    pieces: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def hold(text: str) -> None:
        pieces.append(text)
        begun.set()
        assert go_on.wait(LONG)

    decode = replace(edge.streamed, min_new_tokens=100, max_new_tokens=100)
    with client_of(edge) as (client, generator):
        job = Job(edge.pixels([picture(1)]), None, decode, hold)
        generator.line.put(job)
        assert begun.wait(LONG)
        assert generator.running == 1
        generator.line.drop(job)
        go_on.set()
        assert client.post(REPORTS, files=upload(film())).status_code == 200
    assert len(pieces) == 1


def test_pieces_of_a_text_are_whole_words_and_together_the_text(edge: EdgeReporter) -> None:
    for seed in range(4):
        pieces: list[str] = []
        held = TextPieces(edge.words, pieces.append)
        report, _ = edge.draft(edge.pixels([picture(seed)]), edge.streamed)
        for token in report.token_ids:
            held.show(token)
        held.end()
        assert "".join(pieces) == report.text
        assert all(re.match(r"\s+\S", piece) for piece in pieces[1:])


def test_an_archives_films_become_the_document_that_the_edge_directory_writes(
    edge: EdgeReporter, tmp_path: Path
) -> None:
    """`listen` as the container has it: an order's indication reaches no prompt, and the films are reported."""
    path = tmp_path / "film.dcm"
    path.write_bytes(data_of(dicom_film(np.arange(48 * 40, dtype=np.uint16).reshape(48, 40))))
    header = read_header(path.read_bytes(), "film.dcm")
    made = writer(edge, "sr", lambda _: Order("A-1", indication="Cough."))([path], [header])
    alone = dcmread(io.BytesIO(edge.document(edge.report([path]), "sr")))
    assert made.uid == alone.SOPInstanceUID
    assert not writer(edge, "measurement-sr")([path], [header]).message
