"""The server of a model that has both runtimes: graphs write, and PyTorch, loaded when needed, does the rest."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

from starlette.testclient import TestClient

from dicom_files import data_of
from dicom_files import film as dicom_film
from edge_parts import checkpoint_with_head
from r2gengpt.cli.commands.serve import served
from r2gengpt.edge.reporter import EdgeReporter
from r2gengpt.errors import InputError
from r2gengpt.locate import ModelChoice, locate
from r2gengpt.opening import Served
from r2gengpt.options import Override
from r2gengpt.reporter import Reporter
from r2gengpt.serving.generator import Generator
from r2gengpt.serving.jobs import Job
from r2gengpt.serving.paired import PairedModel
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import noise_image
from r2gengpt.text.context import Context
from serving_parts import LONG, busy, client_of, film, message, upload, wait_for
from test_edge import exported

CHAT, REPORTS, MAPS = "/v1/chat/completions", "/v1/reports", "/v1/evidence"


@dataclass
class Loader:
    """Loads the model in PyTorch once it may; counts how often it is asked."""

    reporter: Reporter
    may: threading.Event = field(default_factory=threading.Event)
    faults: list[Exception] = field(default_factory=list)
    calls: int = 0

    def __call__(self) -> Reporter:
        self.calls += 1
        assert self.may.wait(LONG)
        if self.faults:
            raise self.faults.pop()
        return self.reporter


@dataclass
class Server:
    """A server, a client of it, its model and what loads PyTorch."""

    client: TestClient
    generator: Generator
    model: PairedModel
    loader: Loader

    def report(self, seed: int = 1, **asked: Any) -> Any:
        """The answer to a form with one film."""
        given = self.client.post(REPORTS, files=upload(film(seed)), **asked)
        assert given.status_code == 200, given.text
        return given.json()

    @property
    def runtimes(self) -> dict[str, str]:
        found: dict[str, str] = self.client.get("/ready").json()["runtimes"]
        return found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint_with_head(tmp_path_factory.mktemp("paired"), "Llama-2", "vit")


@pytest.fixture(scope="module")
def graphs(checkpoint: Path) -> EdgeReporter:
    """In 4 bits, so that its texts are others than PyTorch's."""
    directory = exported(checkpoint, checkpoint.parent / "edge", "--weights", "int4")
    return EdgeReporter.load(ModelChoice(str(directory)), frugal=False).named("ours")


@pytest.fixture(scope="module")
def in_torch(checkpoint: Path) -> Reporter:
    placement = Override(PlacementConfig, {"dtype": "float32"})
    return Reporter.load(ModelChoice(str(checkpoint), placement=placement)).named("ours")


@pytest.fixture
def server(graphs: EdgeReporter, in_torch: Reporter, checkpoint: Path) -> Iterator[Server]:
    """One whose PyTorch is loaded at once, when it is needed."""
    loader = Loader(in_torch)
    loader.may.set()
    model = PairedModel(graphs, loader, checkpoint, in_torch.instruction)
    with client_of(model) as (client, generator):
        yield Server(client, generator, model, loader)


@pytest.fixture
def slow(server: Server) -> Iterator[Server]:
    """One whose PyTorch is not loaded before the test lets it be."""
    server.loader.may.clear()
    yield server
    server.loader.may.set()
    wait_for(lambda: server.model.state != "loading")


def test_a_plain_report_is_the_graphs_and_pytorch_is_not_loaded_for_it(server: Server, graphs: EdgeReporter) -> None:
    answer = server.report()
    wanted = graphs.report([film(1)])
    assert (answer["findings"], answer["tokens"]) == (wanted.text, wanted.tokens)
    made = answer["provenance"]
    assert (made["model"], made["runtime"], made["model_sha256"]) == ("ours", "openvino", graphs.documents_sha256)
    assert server.loader.calls == 0
    assert server.runtimes == {"openvino": "loaded", "torch": "not loaded"}


def test_words_beside_the_films_reach_pytorch_which_says_that_it_wrote(
    server: Server, graphs: EdgeReporter, in_torch: Reporter
) -> None:
    wanted = in_torch.report([film(1)], context=Context(indication="Cough.")).text  # while the server is at rest
    answer = server.report(data={"indication": "Cough."})
    made, (warning,) = answer["provenance"], answer["warnings"]
    assert (made["runtime"], made["model_sha256"]) == ("torch", in_torch.origin.model_sha256)
    assert "torch" in made["versions"]
    assert "trained without" in warning
    assert answer["findings"] != graphs.report([film(1)]).text
    assert answer["findings"] == wanted
    assert server.runtimes == {"openvino": "loaded", "torch": "loaded"}


def test_a_system_message_opens_the_models_own_instruction(server: Server, in_torch: Reporter) -> None:
    opening = {"role": "system", "content": "Be brief."}
    chat = {"model": "ours", "messages": [opening, *message(film(1))]}
    pixels = torch.from_numpy(in_torch.pixels([noise_image(1, 48)]))
    (wanted,) = in_torch.predict([in_torch.batch(pixels, f"Be brief.\n{in_torch.instruction}")])
    told = server.client.post(CHAT, json=chat).json()["choices"][0]["message"]["content"]
    assert told == wanted.text


def test_a_chat_with_the_models_own_instruction_is_the_graphs_and_not_warned_of(
    server: Server, in_torch: Reporter
) -> None:
    chat = {"model": "ours", "messages": message(film(1), text=in_torch.instruction)}
    answer = server.client.post(CHAT, json=chat).json()
    assert "warnings" not in answer
    assert server.loader.calls == 0


def test_graphs_that_know_no_word_of_their_prompt_are_served_beside_the_whole_of_it(tmp_path: Path) -> None:
    """As those of a model without hints, whose record has token ids alone."""
    checkpoint = checkpoint_with_head(tmp_path, "Llama-2", "vit", findings_hint=False)
    edge = ModelChoice(str(exported(checkpoint, tmp_path / "edge")), alias="ours")
    exact = Override(PlacementConfig, {"dtype": "float32"})
    model = served(Served(edge, None, locate(ModelChoice(str(checkpoint), placement=exact))))
    assert isinstance(model, PairedModel)
    reporter = model.torch().result(LONG)
    indication = Context(indication="Cough.")
    assert (model.graphs.instruction, model.instruction) == ("", reporter.instruction)
    assert model.instruction_for(indication) == reporter.instruction_for(indication)
    with client_of(model) as (client, _):
        given = client.post(REPORTS, files=upload(film(1)), data={"indication": "Cough."}).json()
    assert given["findings"] == reporter.report([film(1)], context=indication).text


def test_the_same_request_gets_the_same_text_before_and_after_pytorch_is_loaded(server: Server) -> None:
    before = server.report()
    server.report(data={"indication": "Cough."})
    after = server.report()
    assert after["provenance"] == before["provenance"]
    assert (after["findings"], after["logprob"]) == (before["findings"], before["logprob"])


def test_reports_of_both_runtimes_that_wait_together_are_written_each_by_its_own(
    server: Server, graphs: EdgeReporter
) -> None:
    """Their settings of decoding are equal, and they are not brought into one run of PyTorch for it."""
    server.model.torch().result(LONG)
    pixels = server.model.pixels([noise_image(1, 48)])
    jobs = [Job(pixels, words, server.model.decode) for words in ("Describe the film.", None) * 2]
    for job in jobs:
        job.by_graphs = server.model.drafts(job)
    with busy(server.generator):
        for job in jobs:
            server.generator.line.put(job)
    texts = [job.future.result(LONG).report.text for job in jobs]
    plain = graphs.report([film(1)]).text
    assert [text == plain for text in texts] == [False, True, False, True]


def test_maps_are_of_the_text_that_the_graphs_wrote(server: Server) -> None:
    plain = server.report()
    mapped = server.report(params={"evidence": "true"})
    assert (mapped["findings"], mapped["provenance"]) == (plain["findings"], plain["provenance"])
    told = [sentence["text"] for sentence in plain["sentences"]]
    assert [sentence["text"] for sentence in mapped["evidence"]["sentences"]] == told
    given = server.client.post(MAPS, files=upload(film(1)), data={"report": plain["findings"]})
    assert given.json()["sentences"] == mapped["evidence"]["sentences"]


@pytest.mark.parametrize(
    "asked", [{"temperature": 0.7, "seed": 3}, {"logprobs": True, "top_logprobs": 2}], ids=["drawn", "likeliest"]
)
def test_a_chat_that_asks_for_what_the_graphs_have_not_is_written_by_pytorch(
    server: Server, asked: dict[str, Any]
) -> None:
    chat = {"model": "ours", "messages": message(film(1)), "max_tokens": 12}
    plain = server.client.post(CHAT, json=chat).json()
    other = server.client.post(CHAT, json={**chat, **asked}).json()
    assert [one["provenance"]["runtime"] for one in (plain, other)] == ["openvino", "torch"]


def test_the_models_own_instruction_written_out_is_a_plain_request(server: Server) -> None:
    text = server.model.instruction
    answer = server.client.post(CHAT, json={"model": "ours", "messages": message(film(1), text=text)}).json()
    assert answer["provenance"]["runtime"] == "openvino"
    assert "warnings" not in answer
    assert server.loader.calls == 0


def test_reports_are_written_while_pytorch_is_being_loaded(slow: Server) -> None:
    answers: list[Any] = []
    asks = threading.Thread(target=lambda: answers.append(slow.report(data={"indication": "Cough."})))
    asks.start()
    wait_for(lambda: slow.loader.calls == 1)
    assert slow.runtimes == {"openvino": "loaded", "torch": "loading"}
    assert slow.report()["provenance"]["runtime"] == "openvino"
    assert not answers
    slow.loader.may.set()
    asks.join(LONG)
    assert answers[0]["provenance"]["runtime"] == "torch"


def test_requests_that_need_pytorch_share_one_load(slow: Server) -> None:
    answers: list[Any] = []

    def ask(seed: int) -> None:
        answers.append(slow.report(seed, data={"indication": "Cough."}))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: slow.generator.line.taken == 3)
    slow.loader.may.set()
    for thread in threads:
        thread.join(LONG)
    assert (len(answers), slow.loader.calls) == (3, 1)


def test_a_server_that_ends_while_pytorch_is_loaded_says_that_a_thread_is_left(slow: Server) -> None:
    """The process then ends at once: nothing is torn down under a thread that imports."""
    slow.model.torch()
    assert not slow.generator.stop(LONG)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (InputError("is not there", field="lm_model", value="x"), "`lm_model` x: is not there"),
        (MemoryError(), "MemoryError"),
    ],
    ids=["parts", "memory"],
)
def test_pytorch_that_cannot_be_loaded_is_told_in_a_line_and_tried_again_and_reports_go_on(
    server: Server, fault: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.loader.faults.append(fault)
    given = server.client.post(REPORTS, files=upload(film(1)), params={"evidence": "true"})
    assert given.status_code == 503
    assert given.json()["error"]["message"] == "what this request asks for needs PyTorch, which could not be loaded"
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("PyTorch could not be loaded: ")
    assert told in line
    assert server.runtimes["torch"] == "failed"
    assert server.report()["provenance"]["runtime"] == "openvino"
    assert "evidence" in server.report(params={"evidence": "true"})
    assert server.loader.calls == 2


def test_who_does_not_wait_for_pytorch_gets_504_and_the_load_goes_on(
    graphs: EdgeReporter, in_torch: Reporter, checkpoint: Path
) -> None:
    loader = Loader(in_torch)
    model = PairedModel(graphs, loader, checkpoint, in_torch.instruction)
    with client_of(model, request_timeout=0.3) as (client, _):
        assert client.post(MAPS, files=upload(film(1)), data={"report": "Clear."}).status_code == 504
        loader.may.set()
        assert model.torch().result(LONG) is in_torch
    assert loader.calls == 1


def test_the_card_is_the_models_own_and_names_both_runtimes_first_what_writes(server: Server) -> None:
    card = server.client.get("/v1/card").json()
    assert (card["runtimes"], card["maps"], card["card"]) == (["openvino", "torch"], True, "# Card")


def test_a_saved_draft_bears_the_hash_of_the_weights_that_wrote_it(server: Server, in_torch: Reporter) -> None:
    data = data_of(dicom_film())
    drafted = server.client.post(REPORTS, files=upload(data), data={"indication": "Cough."}).json()
    digest = drafted["provenance"]["model_sha256"]
    asked = {"report": drafted["findings"], "known": json.dumps({"model_sha256": digest})}
    accept = {"Accept": "application/fhir+json"}
    saved = server.client.post("/v1/documents", files=upload(data), data=asked, headers=accept)
    assert digest == in_torch.origin.model_sha256
    assert digest in saved.text
    asked["known"] = json.dumps({"model_sha256": "SHA"})
    assert server.client.post("/v1/documents", files=upload(data), data=asked, headers=accept).status_code == 400
