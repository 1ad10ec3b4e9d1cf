"""A report that opens with what the finding head calls likely: which words, and that every decoder begins with them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList

import r2gengpt
from edge_parts import checkpoint_with_head, write_films
from r2gengpt.confidence.review import with_confidence
from r2gengpt.config import RunConfig
from r2gengpt.data.batches import prompt_batch, training_batch
from r2gengpt.data.loading import StudyDataset
from r2gengpt.data.study import Study
from r2gengpt.edge import runtime
from r2gengpt.errors import InputError
from r2gengpt.generation import recorded
from r2gengpt.generation.beams import Floats, Rules
from r2gengpt.generation.engine import Engine, Prompt
from r2gengpt.generation.library import Opened
from r2gengpt.metrics.labels.reading import Label, label_report
from r2gengpt.model.repetition import take_repetition_rules
from r2gengpt.report import Finding, Report, Sentence
from r2gengpt.reporter import Reporter
from r2gengpt.text.observations import (
    ABNORMAL,
    ALL_OBSERVATIONS,
    CHILD,
    LATERAL_VIEW,
    LIKELY,
    NO_FINDING,
    NOT_ASSESSED,
    POSSIBLE,
    UNLIKELY,
    hint_of,
    hinted,
    opening_of,
    opening_sentences,
    true_hint,
    verdict_of_label,
)
from r2gengpt.training.auxiliary import AuxiliaryHead
from r2gengpt.training.findings import finding_labels
from r2gengpt.training.module import R2GenGPTModule
from r2gengpt.training.validation import ValidationBatch
from test_engine import prompts_of, random_model
from test_recorded import Anew


def finding(name: str, probability: float, verdict: str = LIKELY) -> Finding:
    return Finding(name, probability, (0.0, 1.0), verdict)


def test_from_a_half_on_a_finding_is_asserted() -> None:
    assert opening_of([finding("Edema", 0.5)]) == "Findings include pulmonary edema."
    assert opening_of([finding("Edema", 0.49)]) == "Pulmonary edema is possible."


def test_pneumonia_is_an_opacity_only_where_opacities_were_not_assessed() -> None:
    pneumonia = finding("Pneumonia", 0.9)
    unseen = finding("Lung Opacity", 0.9, NOT_ASSESSED)
    assert opening_of([unseen, pneumonia]) == opening_of([pneumonia, unseen]) == "Findings include pneumonic opacity."
    for other in (finding("Edema", 0.1, NOT_ASSESSED), finding("Lung Opacity", 0.1, UNLIKELY)):
        assert opening_of([other, pneumonia]) == opening_of([pneumonia, other]) == "Findings include pneumonia."


@pytest.mark.parametrize(
    ("label", "verdict"),
    [(1.0, LIKELY), (0.75, LIKELY), (0.74, POSSIBLE), (0.26, POSSIBLE), (0.25, UNLIKELY), (0.0, UNLIKELY)],
)
def test_a_label_is_likely_or_unlikely_from_the_quarters_on(label: float, verdict: str) -> None:
    assert verdict_of_label(label) == verdict


def test_a_hint_tells_what_is_known_and_assessed_and_nothing_of_how_the_film_was_taken() -> None:
    known = {"Edema": 1.0, "Fracture": 0.5, "Hernia": 0.0, LATERAL_VIEW: 1.0}
    labels = [known.get(name, math.nan) for name in ALL_OBSERVATIONS]
    assert true_hint(labels) == "Findings: edema likely; fracture possible; hernia unlikely."
    assert true_hint(labels, [name != "Edema" for name in ALL_OBSERVATIONS]) == (
        "Findings: fracture possible; hernia unlikely."
    )
    assert true_hint([math.nan] * len(ALL_OBSERVATIONS)) == hint_of({"Edema": NOT_ASSESSED}) == ""
    assert hinted("Describe.", true_hint(labels)) == f"{true_hint(labels)} Describe."
    assert hinted("Describe.", "") == "Describe."


@pytest.mark.parametrize("probability", [0.3, 0.8])
@pytest.mark.parametrize("name", ABNORMAL)
def test_the_labeller_reads_in_an_opening_what_the_head_calls_likely(name: str, probability: float) -> None:
    labels = label_report(opening_of([finding(name, probability)]))
    wanted = Label.POSITIVE if probability > 0.5 else Label.UNCERTAIN
    assert {one: label for one, label in labels.items() if label != Label.BLANK} == {name: wanted}


def test_what_is_sure_is_asserted_and_what_is_less_is_called_possible() -> None:
    found = [
        finding("Edema", 0.2),
        finding("Pneumonia", 0.9),
        finding("Lung Opacity", 0.5),
        finding("Atelectasis", 0.3),
    ]
    assert opening_of(found) == (
        "Findings include pneumonia and lung opacity. Pulmonary edema and atelectasis are possible."
    )


def test_a_normal_film_or_one_with_nothing_likely_has_no_opening() -> None:
    assert opening_of([finding(NO_FINDING, 0.9), finding("Pneumonia", 0.6)]) == ""
    assert opening_of([finding("Pneumonia", 0.4, POSSIBLE), finding("Edema", 0.1, UNLIKELY)]) == ""
    assert opening_of([finding("AP View", 0.9)]) == ""
    assert opening_of([]) == ""


def test_a_pneumonia_is_an_opacity_where_the_head_does_not_assess_opacities() -> None:
    opacity = finding("Lung Opacity", 0.5, NOT_ASSESSED)
    assert opening_of([finding("Pneumonia", 0.9), opacity]) == "Findings include pneumonic opacity."
    assert opening_of([finding("Pneumonia", 0.2), opacity]) == "Pneumonic opacity is possible."
    assert opening_of([finding("Edema", 0.9), opacity]) == "Findings include pulmonary edema."
    labels = label_report("Findings include pneumonic opacity.")
    assert {name for name, label in labels.items() if label == Label.POSITIVE} == {"Pneumonia", "Lung Opacity"}


@pytest.mark.parametrize(
    ("kinds", "opening"),
    [
        ({CHILD: 0.9}, "Chest film of a child. Findings include pneumonia."),
        ({LATERAL_VIEW: 0.7}, "Lateral chest film. Findings include pneumonia."),
        ({CHILD: 0.9, LATERAL_VIEW: 0.7}, "Lateral chest film of a child. Findings include pneumonia."),
        ({"AP View": 0.9}, "Findings include pneumonia."),
    ],
)
def test_an_opening_says_first_whether_the_film_is_lateral_or_a_childs(kinds: dict[str, float], opening: str) -> None:
    found = [finding("Pneumonia", 0.8), *(finding(name, chance) for name, chance in kinds.items())]
    assert opening_of(found) == opening
    first = next(iter(opening_sentences(found).values()))
    assert first == min([chance for name, chance in kinds.items() if name != "AP View"], default=0.8)
    assert opening_of(found[1:]) == "", "nothing to tell"


RULES = [
    Rules(end=7, max_new_tokens=14),
    Rules(end=7, max_new_tokens=14, repetition_penalty=1.4, min_new_tokens=9),
    Rules(end=7, max_new_tokens=14, beam_size=3),
    Rules(end=7, max_new_tokens=14, do_sample=True),
    Rules(end=7, max_new_tokens=14, do_sample=True, beam_size=2),
]
OPENINGS: list[tuple[int, ...]] = [(11, 3, 40), (), (5,), (9, 9, 9, 9, 12)]


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("recording", [False, True])
def test_texts_begin_with_their_openings_and_go_on_from_them(
    rules: Rules, recording: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "Recorded", Anew)
    monkeypatch.setattr(recorded, "recordable", lambda language_model: recording)
    model, embed = random_model("llama"), random_model("llama").get_input_embeddings()
    prompts = prompts_of([4, 7, 5, 6], 0)
    given = [Prompt(n, p, n, opening) for n, (p, opening) in enumerate(zip(prompts, OPENINGS, strict=True))]
    found = {one.tag: one for one in Engine(model, rules, 3).run(iter(given))}
    recorded._kept.clear()
    for number, opening in enumerate(OPENINGS):
        ids = found[number].ids
        assert tuple(ids[: len(opening)]) == opening
        assert len(found[number].logprobs) == len(ids)
        if rules.do_sample or rules.repetition_penalty != 1.0:
            continue
        # without penalties, which see the opening, the rest is what follows a prompt that ends with it
        longer = torch.cat([prompts[number], embed(torch.tensor(opening, dtype=torch.long)).detach()])
        shorter = replace(rules, max_new_tokens=rules.max_new_tokens - len(opening))
        (rest,) = Engine(model, shorter, 1).run(iter([Prompt(0, longer)]))
        recorded._kept.clear()
        if rules.beam_size == 1:
            assert ids == [*opening, *rest.ids]
            assert found[number].logprobs[len(opening) :] == pytest.approx(rest.logprobs, abs=1e-4)


FORBIDDING = [
    Rules(end=7, max_new_tokens=12, beam_size=beams, **rule)
    for beams in (1, 3)
    for rule in (
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 1.5},
        {"do_sample": True, "top_k": 2},
        {"do_sample": True, "top_p": 0.01},
    )
]
REPEATING = (11, 3, 40, 11, 3, 9, 9)


@pytest.mark.parametrize("rules", FORBIDDING, ids=str)
def test_an_opening_stands_whole_though_a_rule_forbids_one_of_its_tokens(rules: Rules) -> None:
    model, (prompt,) = random_model("llama"), prompts_of([4], 0)
    (ours,) = Engine(model, rules, 1).run(iter([Prompt(0, prompt, 0, REPEATING)]))
    assert tuple(ours.ids[: len(REPEATING)]) == REPEATING
    assert len(ours.ids) > len(REPEATING)
    settings = GenerationConfig(
        num_beams=rules.beam_size, max_new_tokens=12, eos_token_id=7, pad_token_id=0, do_sample=rules.do_sample,
        repetition_penalty=rules.repetition_penalty, no_repeat_ngram_size=rules.no_repeat_ngram_size,
        **({"top_k": rules.top_k, "top_p": rules.top_p} if rules.do_sample else {}),
    )  # fmt: skip
    processors = LogitsProcessorList([*take_repetition_rules(settings), Opened([REPEATING], rules.beam_size)])
    library = model.generate(inputs_embeds=prompt[None], generation_config=settings, logits_processor=processors)
    assert tuple(library[0, : len(REPEATING)].tolist()) == REPEATING
    if not rules.do_sample:
        assert library[0].tolist()[: len(ours.ids)] == ours.ids
        assert by_edge(model, prompt, rules) == ours.ids


@torch.no_grad()
def by_edge(model: Any, prompt: torch.Tensor, rules: Rules) -> list[int]:
    """What the runtime without PyTorch chooses by the model's own logits."""
    texts: list[list[int]] = [[]]

    def step(ids: Sequence[int], origins: Sequence[int]) -> Floats:
        texts[:] = [[*texts[origin], token] for origin, token in zip(origins, ids, strict=True)]
        embed = model.get_input_embeddings()
        rows = [torch.cat([prompt, embed(torch.tensor(text, dtype=torch.long))]) for text in texts]
        logits: Floats = model(inputs_embeds=torch.stack(rows)).logits[:, -1].numpy()
        return logits

    first = model(inputs_embeds=prompt[None]).logits[0, -1].numpy()
    return runtime.choose(first, step, rules, opening=REPEATING).ids


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("opened")
    write_films(directory)
    return checkpoint_with_head(directory, "Llama-2", "vit")


def written(checkpoint: Path, **settings: Any) -> r2gengpt.report.Report:
    films = [checkpoint.parent / "view0.png", checkpoint.parent / "view1.png"]
    model = r2gengpt.load(checkpoint, accelerator="cpu", runtime="torch", dtype="float32", **settings)
    return model.report(films)


def test_reports_open_with_the_heads_findings_by_both_decoders_and_in_a_stream(checkpoint: Path) -> None:
    plain = written(checkpoint)
    opening = opening_of(plain.findings)
    assert opening
    assert not plain.text.startswith(opening), "off unless asked for"
    ours = written(checkpoint, opening="findings", max_new_tokens=60)
    assert ours.text.startswith(opening)
    assert ours.text == written(checkpoint, opening="findings", max_new_tokens=60, engine="hf").text
    beams = written(checkpoint, opening="findings", max_new_tokens=60, beam_size=3)
    assert beams.text.startswith(opening)
    assert beams.text == written(checkpoint, opening="findings", max_new_tokens=60, beam_size=3, engine="hf").text
    model = r2gengpt.load(checkpoint, accelerator="cpu", runtime="torch", dtype="float32", opening="findings")
    assert isinstance(model, Reporter)
    pieces: list[str] = []
    streamed = model.report([checkpoint.parent / "view0.png", checkpoint.parent / "view1.png"], on_text=pieces.append)
    assert "".join(pieces) == streamed.text
    assert streamed.text.startswith(opening[: len(streamed.text)])


@pytest.mark.parametrize("opening", ["none", "findings"])
def test_a_validation_writes_what_the_checkpoint_writes_in_use(opening: str, checkpoint: Path) -> None:
    where: dict[str, Any] = {"accelerator": "cpu", "runtime": "torch", "dtype": "float32"}
    model = r2gengpt.load(checkpoint, opening=opening, beam_size=1, max_new_tokens=40, **where)
    assert isinstance(model, Reporter)
    films = tuple(checkpoint.parent / f"view{number}.png" for number in (0, 1))
    report, studies = model.report(list(films)), [Study("a", films, report="The lungs are clear.")]
    config, labels = RunConfig(model.stored.model.settled(), decode=model.decode), finding_labels(studies)
    example = StudyDataset(studies, model.words, "plain", findings=labels)[(0, 0)]
    batch = ValidationBatch(training_batch([example], model.words, 60), prompt_batch([example], model.words))
    module = R2GenGPTModule(
        model.built, config, 1, None, AuxiliaryHead(model.built, config, labels, studies, checkpoint)
    )
    with torch.inference_mode():
        module.validation_step(batch, 0)
    ((validated,),) = (one.predictions for one in module.validated)
    assert validated.text == report.text
    assert report.text.startswith(opening_of(report.findings)) == (opening == "findings")


def test_a_sentence_of_the_opening_is_as_sure_as_the_head_and_others_as_the_writer() -> None:
    found = (finding("Edema", 0.2), finding("Pneumonia", 0.9), finding("Lung Opacity", 0.6))
    texts = [*opening_sentences(found), "The heart is large."]
    report = Report("1", " ".join(texts), sentences=tuple(Sentence(t, 4, -0.7) for t in texts), findings=found)
    assert [one.confidence for one in with_confidence(report, None).sentences] == [0.6, 0.2, None]
    assert [one.needs_review for one in with_confidence(report, None, 0.55).sentences] == [False, True, True]


def test_an_opening_longer_than_the_report_may_be_is_cut_and_another_word_refused(checkpoint: Path) -> None:
    short = written(checkpoint, opening="findings", max_new_tokens=2, min_new_tokens=0)
    assert short.tokens == 2
    with pytest.raises(InputError, match="none, findings"):
        written(checkpoint, opening="normal")
