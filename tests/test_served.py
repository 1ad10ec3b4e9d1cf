"""A language model behind vLLM's API writes our texts. A stand-in decodes embeddings as vLLM does; no vLLM is run."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from conftest import Outcome, TinySet
from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.cli.main import run
from r2gengpt.engines.attach import RECORD
from r2gengpt.engines.vllm import VLLM, encoded
from r2gengpt.errors import InputError, RunError
from r2gengpt.generation.beams import Rules
from r2gengpt.generation.engine import Engine, Prompt
from r2gengpt.locate import ModelChoice
from r2gengpt.options import Override
from r2gengpt.reporter import Reporter
from r2gengpt.settings import PlacementConfig
from serving_parts import client_of, film, upload
from test_export import VIEWS, text_of, trained_checkpoint


class StandIn(ThreadingHTTPServer):
    """A server of vLLM's Completions API, as far as prompts of embeddings go; transformers writes.

    Attributes:
        model: of transformers, from the directory that vLLM would be started with.
        asked: the requests, without their embeddings.
        instead: status and body of each answer; None: what the model writes.
    """

    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        self.asked: list[dict[str, Any]] = []
        self.instead: tuple[int, bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def embeds(self, text: str) -> torch.Tensor:
        """What vLLM makes of `prompt_embeds` (vllm/renderers/embed_utils.py): a dense matrix of the model's width."""
        content = io.BytesIO(base64.b64decode(text, validate=True))
        tensor = torch.load(content, weights_only=True, map_location="cpu").to_dense()
        assert tensor.dim() == 2
        assert tensor.shape[1] == self.model.config.hidden_size
        return tensor.to(self.model.dtype)

    @torch.no_grad()
    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        embeds = self.embeds(body.pop("prompt_embeds"))
        self.asked.append(body)
        found = self.model.generate(
            inputs_embeds=embeds[None],
            attention_mask=torch.ones(1, len(embeds)),
            max_new_tokens=body["max_tokens"],
            min_new_tokens=body["min_tokens"],
            eos_token_id=body["stop_token_ids"],
            pad_token_id=0,
            do_sample=False,
            repetition_penalty=body["repetition_penalty"],
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids = found.sequences[0].tolist()
        rows = torch.cat(found.logits).log_softmax(-1)
        logprobs = rows[range(len(ids)), ids].tolist()
        finish = "stop" if ids[-1] in body["stop_token_ids"] else "length"
        choice = {"token_ids": ids, "logprobs": {"token_logprobs": logprobs}, "finish_reason": finish, "text": ""}
        return {"object": "text_completion", "choices": [choice]}


class Answering(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/completions"
        status, answer = self.server.instead or (200, json.dumps(self.server.complete(body)).encode())
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def completion(ids: list[Any], logprobs: list[float]) -> bytes:
    choice = {"token_ids": ids, "logprobs": {"token_logprobs": logprobs}, "finish_reason": "length", "text": ""}
    return json.dumps({"object": "text_completion", "choices": [choice]}).encode()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint, and its export for vLLM."""
    directory = tmp_path_factory.mktemp("served")
    checkpoint = trained_checkpoint(directory, "llama", "dinov2", feature_norm="standardize", image_tokens=4)
    flags = ["--target", "vllm", "--dtype", "float32", "--beam_size", "1"]
    assert run("export", ["--model", str(checkpoint), "--output", str(directory / "vllm"), *flags]) == 0
    return checkpoint, directory / "vllm"


@pytest.fixture
def server(both: tuple[Path, Path]) -> Iterator[StandIn]:
    with StandIn(both[1] / "language_model") as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("target", "flags", "said"),
    [
        ("vllm", ["--beam_size", "3"], "--beam_size 3: with vLLM only 1"),
        ("vllm", ["--beam_size", "1", "--repetition_penalty", "1.2"], "--repetition_penalty 1.2: with vLLM only 1.0"),
        ("gguf", ["--beam_size", "3"], "--beam_size 3: with llama.cpp only 1"),
    ],
)
def test_an_export_that_its_program_could_not_write_with_is_refused(
    target: str,
    flags: list[str],
    said: str,
    both: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--model", str(both[0]), "--output", str(tmp_path / "out"), "--target", target, *flags]
    assert run("export", words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def choice_of(directory: Path, **settings: object) -> ModelChoice:
    return ModelChoice(str(directory), placement=Override(PlacementConfig, settings))


def test_the_text_is_the_checkpoints(both: tuple[Path, Path], server: StandIn) -> None:
    reporter = Reporter.load(choice_of(both[1], lm_endpoint=server.url))
    report = reporter.report(VIEWS)
    assert report.text == text_of(load_checkpoint(both[0], where=FLOAT32)[0], beam_size=1)
    assert (reporter.written_by["writer"], len(report.token_logprobs)) == ("vllm", report.tokens)
    (asked,) = server.asked
    assert asked == {
        "max_tokens": 24, "min_tokens": 5, "stop_token_ids": [reporter.words.end_token_id], "temperature": 0.0,
        "top_p": 1.0, "repetition_penalty": 1.0, "logprobs": 0, "return_token_ids": True, "skip_special_tokens": False,
    }  # fmt: skip


def test_generate_asks_the_endpoint_and_streams(
    both: tuple[Path, Path], server: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    VIEWS[0].save(tmp_path / "view.png")
    flags = [str(tmp_path / "view.png"), "--model", str(both[1]), "--lm_endpoint", server.url]
    assert run("generate", flags) == 0
    whole = capsys.readouterr().out
    assert run("generate", [*flags, "--stream", "True"]) == 0
    assert whole.strip()
    assert capsys.readouterr().out.strip() == whole.strip()


def test_test_scores_what_the_endpoint_writes(
    run_cli: Callable[[list[str]], Outcome], both: tuple[Path, Path], server: StandIn, tiny_set: TinySet, tmp_path: Path
) -> None:
    data = ["--annotation", str(tiny_set.annotation), "--base_dir", str(tiny_set.base_dir), "--output", str(tmp_path)]
    outcome = run_cli(["test", "--model", str(both[1]), "--lm_endpoint", server.url, *data])
    assert outcome.code == 0, outcome.stderr
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == len(server.asked) == 3


def test_the_server_hands_out_what_the_endpoint_writes(both: tuple[Path, Path], server: StandIn) -> None:
    reporter = Reporter.load(choice_of(both[1], lm_endpoint=server.url))
    data = film(1)
    with client_of(reporter) as (client, _):
        answer = client.post("/v1/reports", files=upload(data), headers={"Accept": "text/plain"})
    assert answer.status_code == 200, answer.text
    assert reporter.report([data]).text in answer.text


def test_an_opening_stands_in_the_prompt(both: tuple[Path, Path], server: StandIn) -> None:
    table = server.model.get_input_embeddings()
    rules = Rules(end=2, max_new_tokens=12, min_new_tokens=6)
    prompt = Prompt("study", table(torch.arange(5, 16)).detach(), 0, (7, 9))
    (ours,) = Engine(server.model, rules, 1).run(iter([prompt]))
    shown: list[int] = []
    theirs = VLLM(server.url, table).write(prompt, rules, shown.append)
    assert theirs.ids == ours.ids == shown
    assert theirs.logprobs[:2] == [0.0, 0.0]
    assert theirs.logprobs[2:] == pytest.approx(ours.logprobs[2:], abs=1e-4)  # sums of 32 in another order
    assert (server.asked[0]["max_tokens"], server.asked[0]["min_tokens"]) == (10, 4)


def test_nothing_of_what_a_view_was_cut_from_is_sent() -> None:
    whole = torch.arange(4000.0).view(1000, 4)
    assert len(encoded(whole[:2])) < 4000


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--beam_size", "2"], "--beam_size 2: with vLLM only 1"),
        (["--do_sample", "True", "--temperature", "0.7"], "--do_sample True: with vLLM only False"),
        (["--repetition_penalty", "1.3"], "--repetition_penalty 1.3: with vLLM only 1.0"),
        (["--no_repeat_ngram_size", "3"], "--no_repeat_ngram_size 3: with vLLM only 0"),
        (["--engine", "fast"], "--engine fast: another program runs the language model"),
        (["--dtype", "bfloat16"], "--dtype bfloat16: vllm runs the language model, whose weights the export settled"),
        (["--quantization", "w8a8"], "--quantization w8a8: vllm runs the language model"),
        (["--abstain_below", "0.5"], "--abstain_below 0.5: vLLM gives no probabilities"),
        (["--lm_endpoint", "host:8000"], "--lm_endpoint host:8000: must be like http://host:8000/v1"),
    ],
)
def test_what_vllm_does_not_do_is_refused(
    flags: list[str], words: str, both: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    VIEWS[0].save(tmp_path / "view.png")
    asked = [str(tmp_path / "view.png"), "--model", str(both[1]), "--lm_endpoint", "http://127.0.0.1:9/v1", *flags]
    assert run("generate", asked) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("instead", "kind", "words"),
    [
        ((400, b'{"error": {"message": "hidden_size 32\\nis wrong"}}'), InputError, "400: hidden_size 32 is wrong"),
        ((500, b"oops"), RunError, "answers with status 500"),
        ((200, b"{}"), RunError, "no completion that has token_ids"),
        ((200, completion([1, 2], [0.0])), RunError, "no numbers of one length"),
        ((200, completion([], [])), RunError, "no numbers of one length"),
        ((200, completion(["a"], [0.0])), RunError, "no numbers of one length"),
    ],
)
def test_an_answer_that_is_none_is_named(
    instead: tuple[int, bytes], kind: type[Exception], words: str, both: tuple[Path, Path], server: StandIn
) -> None:
    server.instead = instead
    with pytest.raises(kind, match=words):
        Reporter.load(choice_of(both[1], lm_endpoint=server.url)).report(VIEWS)


def test_a_server_that_is_not_there_is_named(both: tuple[Path, Path], server: StandIn) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(RunError, match=f"lm_endpoint {url}: cannot be reached"):
        Reporter.load(choice_of(both[1], lm_endpoint=url)).report(VIEWS)


def test_an_address_is_needed_there_and_nowhere_else(both: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="vLLM runs its language model: lm_endpoint must say where"):
        Reporter.load(choice_of(both[1]))
    with pytest.raises(InputError, match="lm_endpoint http://h/v1: belongs to a directory of export"):
        Reporter.load(choice_of(both[0], lm_endpoint="http://h/v1"))


def test_nothing_but_writing_is_done_with_it(both: tuple[Path, Path], server: StandIn, tmp_path: Path) -> None:
    reporter = Reporter.load(choice_of(both[1], lm_endpoint=server.url))
    with pytest.raises(InputError, match="is run by another program, which only writes"):
        reporter.explain(reporter.report(VIEWS), "occlusion")
    again = ["--model", str(both[1]), "--output", str(tmp_path / "again"), "--lm_endpoint", server.url]
    assert run("export", again) == 2
    assert not (tmp_path / "again").exists()


def test_transformers_alone_loads_it_and_writes_nothing(both: tuple[Path, Path]) -> None:
    model = AutoModelForImageTextToText.from_pretrained(both[1])
    inputs = AutoProcessor.from_pretrained(both[1])(images=VIEWS)
    with pytest.raises(InputError, match="run by another program"):
        model.generate(**inputs)


@pytest.mark.parametrize(
    "changes",
    [
        {"program": "other"},
        *({"files": {"a": {"bytes": value, "sha256": "x"}}} for value in (None, "", [], float("inf"), float("nan"))),
        *({"files": value} for value in (None, [], 7, {"a": 7})),
    ],
)
def test_a_damaged_record_is_named(both: tuple[Path, Path], changes: dict[str, Any], tmp_path: Path) -> None:
    for path in both[1].iterdir():
        if path.is_file() and path.name != RECORD:
            (tmp_path / path.name).symlink_to(path)
    record = {"format": "r2gengpt-served-1", "program": "vllm", "files": {}} | changes
    (tmp_path / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"served.json is damaged"):
        Reporter.load(choice_of(tmp_path, lm_endpoint="http://h/v1"))
