"""Evidence maps: they point at what decides a sentence, say so where nothing does, and are what they claim to be."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from conftest import TinySet
from placements import FLOAT32
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.confidence import evidence as made
from r2gengpt.confidence.evidence import report_evidence
from r2gengpt.confidence.maps import Evidence, SentenceEvidence
from r2gengpt.config import ModelConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.batches import Batch, prompt_batch
from r2gengpt.data.loading import StudyDataset
from r2gengpt.data.prepare.synthetic import draw_film, write_report, write_synthetic
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.evaluation.evidence import chosen_places
from r2gengpt.parts.assemble import Built, build_model
from r2gengpt.settings import METHODS
from test_looks_at_the_image import REPORTS, trained_on

SQUARE = 140
"""Noise is below 90, so what is brighter than this belongs to a square."""


@pytest.fixture(scope="module")
def squares(trained_squares: Path) -> Built:
    return load_checkpoint(trained_squares / "run" / "last", where=FLOAT32)[0]


def studies_of(directory: Path, count: int) -> tuple[Study, ...]:
    return read_annotation(directory / "set" / "annotation.json", directory / "set" / "images", ("test",))["test"][
        :count
    ]


def batch_of(built: Built, study: Study) -> Batch:
    return prompt_batch([StudyDataset([study], built.processor, "plain")[(0, 0)]], built.processor)


def maps_of(built: Built, study: Study, method: str = "occlusion") -> Evidence:
    return report_evidence(built.model, built.processor, batch_of(built, study), study.report, method)


def peak(evidence: Evidence, sentence: int = 0) -> tuple[int, int]:
    rows, columns = evidence.grid
    return divmod(int(np.argmax(evidence.sentences[sentence].map[: rows * columns])), columns)


def covers(region: npt.NDArray[np.bool_], evidence: Evidence) -> bool:
    """Whether the map's peak lies on a patch of which the region takes a tenth or more."""
    rows, columns = evidence.grid
    height, width = (side // cells for side, cells in zip(region.shape, evidence.grid, strict=True))
    shares = region.reshape(rows, height, columns, width).mean((1, 3))
    return bool(shares[peak(evidence)] >= 0.1)


@contextmanager
def same_token_everywhere(built: Built) -> Iterator[None]:
    """The model sees nothing: every image token is the same."""

    def constant(module: torch.nn.Module, inputs: object, output: Tensor) -> Tensor:
        return torch.linspace(-1, 1, output.shape[-1]).expand_as(output)

    handle = built.model.projector.register_forward_hook(constant)
    yield
    handle.remove()


@contextmanager
def without_projection(built: Built) -> Iterator[None]:
    """The projector gives zeros."""
    norm = built.model.projector.norm
    kept = norm.weight.detach().clone(), norm.bias.detach().clone()
    with torch.no_grad():
        norm.weight.zero_()
        norm.bias.zero_()
    yield
    with torch.no_grad():
        norm.weight.copy_(kept[0])
        norm.bias.copy_(kept[1])


def test_the_peak_lies_on_a_square_that_the_sentence_names(trained_squares: Path, squares: Built) -> None:
    found, verdicts = [], []
    for study in studies_of(trained_squares, 40):
        if study.report != REPORTS[False, False]:
            evidence = maps_of(squares, study)
            found.append(covers(np.asarray(Image.open(study.image_paths[0])) > SQUARE, evidence))
            verdicts.append(evidence.verdict == "evidence")
    assert len(found) == 30
    assert np.mean(found) >= 0.9
    assert np.mean(verdicts) >= 0.8


def test_a_clear_film_has_no_token_that_its_sentence_rests_on(trained_squares: Path, squares: Built) -> None:
    clear = [study for study in studies_of(trained_squares, 40) if study.report == REPORTS[False, False]]
    assert len(clear) == 10
    assert {maps_of(squares, study).verdict for study in clear} == {"no evidence"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("blind", [same_token_everywhere, without_projection])
def test_a_model_that_ignores_the_images_has_no_evidence(
    trained_squares: Path, squares: Built, blind: object, method: str
) -> None:
    with blind(squares):  # type: ignore[operator]
        for study in studies_of(trained_squares, 8):
            evidence = maps_of(squares, study, method)
            assert evidence.verdict == "no evidence"
            assert {sentence.verdict for sentence in evidence.sentences} == {"no evidence"}
            assert abs(evidence.sentences[0].drop_top) < 1e-4  # float32: rows of another batch size round otherwise


def test_occlusion_is_the_more_faithful_of_the_methods(trained_squares: Path, squares: Built) -> None:
    studies = [study for study in studies_of(trained_squares, 16) if study.report != REPORTS[False, False]]
    gains = {}
    for method in METHODS:
        sentences = [maps_of(squares, study, method).sentences[0] for study in studies]
        gains[method] = np.mean([sentence.drop_top - sentence.drop_random for sentence in sentences])
    assert gains["occlusion"] > gains["gradient"] + 1


def build(parts: Path, vision: str = "swin", **options: object) -> Built:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ModelConfig(lm_model=str(parts / "lm-stablelm"), vision_model=str(parts / f"vision-{vision}"),
                             **options)  # type: ignore[arg-type]  # fmt: skip
        built = build_model(config, FLOAT32)
    built.model.eval()
    return built


def two_views(tiny_set: TinySet) -> Study:
    return read_annotation(tiny_set.annotation, tiny_set.base_dir, ("train",))["train"][1]


def naive_logprob(built: Built, batch: Batch, image: Tensor, ids: list[int], tokens: list[int]) -> float:
    """The sentence's log-probability from a plain forward pass over the whole row."""
    row = torch.cat([batch.input_ids, torch.tensor([ids])], 1)
    output = built.model(inputs_embeds=built.model.embed(row, image))
    logprobs = output.logits[0].double().log_softmax(-1)
    start = batch.input_ids.shape[1]
    return float(sum(logprobs[start + token - 1, ids[token]] for token in tokens))


REPORT = "There is an opacity in the left lower lobe. The heart is normal in size."


def sentence_rows(built: Built) -> tuple[list[int], list[list[int]]]:
    ids = built.processor.encode_text(REPORT)
    return ids, [tokens for _, tokens in made.sentence_tokens(built.processor, ids)]


@torch.no_grad()
def test_occlusion_is_what_masking_one_token_after_the_other_gives(tiny_parts: Path, tiny_set: TinySet) -> None:
    built, study = build(tiny_parts, "vit"), two_views(tiny_set)
    batch = batch_of(built, study)
    assert batch.view_mask.tolist() == [[True, True]]
    evidence = report_evidence(built.model, built.processor, batch, REPORT)
    image = built.model.image_tokens(built.model.encode_views(batch.pixel_values, batch.view_mask), batch.view_mask)
    ids, rows = sentence_rows(built)
    for tokens, sentence in zip(rows, evidence.sentences, strict=True):
        whole = naive_logprob(built, batch, image, ids, tokens)
        for place in range(len(image)):
            masked = image.clone()
            masked[place] = image.mean(0)
            drop = whole - naive_logprob(built, batch, masked, ids, tokens)
            assert sentence.map[place] == pytest.approx(drop, abs=2e-5)  # float32 sums of some 20 log-probabilities
        top = np.argsort(sentence.map)[-2:].tolist()  # a tenth of 16
        masked = image.clone()
        masked[top] = image.mean(0)
        drop = whole - naive_logprob(built, batch, masked, ids, tokens)
        assert sentence.drop_top == pytest.approx(drop, abs=2e-5)
        assert len({round(value, 6) for value in sentence.map}) > 8  # the tokens do differ


@torch.no_grad()
def test_the_gradient_is_the_slope_of_the_log_probability_towards_the_mean_token(
    tiny_parts: Path, tiny_set: TinySet
) -> None:
    built = build(tiny_parts, "vit")
    batch = batch_of(built, two_views(tiny_set))
    evidence = report_evidence(built.model, built.processor, batch, REPORT, "gradient")
    image = built.model.image_tokens(built.model.encode_views(batch.pixel_values, batch.view_mask), batch.view_mask)
    ids, rows = sentence_rows(built)
    built.model.double()
    step = 1e-4
    for tokens, sentence in zip(rows, evidence.sentences, strict=True):
        for place in (0, 5, 15):
            ends = []
            for sign in (1, -1):
                moved = image.double().clone()
                moved[place] += sign * step * (moved[place] - image.double().mean(0))
                ends.append(naive_logprob(built, batch, moved, ids, tokens))
            assert sentence.map[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("options", "grid", "maps"),
    [({}, (4, 4), 1), ({"image_tokens": 4}, (2, 2), 1), ({"fusion": "concat"}, (4, 4), 2)],
)
def test_a_map_has_a_value_for_each_image_token(
    method: str, options: dict[str, Any], grid: tuple[int, int], maps: int, tiny_parts: Path, tiny_set: TinySet
) -> None:
    built = build(tiny_parts, "dinov2", **options)
    batch = batch_of(built, two_views(tiny_set))
    evidence = report_evidence(built.model, built.processor, batch, REPORT, method)
    assert evidence.grid == grid
    assert [sentence.text for sentence in evidence.sentences] == [part + "." for part in REPORT[:-1].split(". ")]
    record = evidence.to_json()
    for sentence, stored in zip(evidence.sentences, record["sentences"], strict=True):
        assert len(sentence.map) == maps * grid[0] * grid[1]
        assert len(stored["map"]) == grid[0] * grid[1]
        assert len(evidence.view_maps(sentence)) == maps
        assert ("maps" in stored) == (maps > 1)
    if maps == 2:
        first, second = evidence.view_maps(evidence.sentences[0])
        assert first != second
        mean = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
        assert record["sentences"][0]["map"] == pytest.approx(mean, abs=6e-5)  # four decimals


def test_a_fine_grid_is_masked_in_tiles_that_cover_it() -> None:
    groups = made.tiles((16, 16), 256)
    assert int(groups.max()) + 1 == 64
    assert groups.reshape(16, 16)[:2, :4].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    uneven = made.tiles((9, 9), 162)  # two views of 9 × 9
    assert int(uneven.max()) + 1 == 50
    assert sorted(set(uneven[:81].tolist())) == list(range(25))
    assert made.tiles((7, 7), 49).tolist() == list(range(49))


@torch.no_grad()
def test_a_tile_shares_its_drop_out_among_its_tokens(
    tiny_parts: Path, tiny_set: TinySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "MOST_GROUPS", 4)
    built = build(tiny_parts, "vit")
    batch = batch_of(built, two_views(tiny_set))
    evidence = report_evidence(built.model, built.processor, batch, REPORT)
    image = built.model.image_tokens(built.model.encode_views(batch.pixel_values, batch.view_mask), batch.view_mask)
    masked = image.clone()
    masked[[0, 1, 4, 5]] = image.mean(0)
    ids, rows = sentence_rows(built)
    drop = naive_logprob(built, batch, image, ids, rows[0]) - naive_logprob(built, batch, masked, ids, rows[0])
    cells = np.reshape(evidence.sentences[0].map, (4, 4))
    assert cells[:2, :2].ravel() == pytest.approx([drop / 4] * 4, abs=2e-5)


def test_the_verdict_needs_a_drop_above_that_of_random_tenths() -> None:
    quiet = torch.full((20,), 0.05)
    assert made.verdict_of(0.14, quiet) == "no evidence"
    assert made.verdict_of(0.16, quiet) == "evidence"
    loud = torch.tensor([0.0, 4.0] * 10)  # mean 2, standard error .459
    assert made.verdict_of(2.7, loud) == "no evidence"
    assert made.verdict_of(2.8, loud) == "evidence"
    assert made.verdict_of(-3.0, loud) == "no evidence"


def test_a_report_has_evidence_where_one_of_its_sentences_has() -> None:
    none = SentenceEvidence("The lungs are clear.", (0.0,) * 4, 0.0, 0.0, "no evidence")
    some = replace(none, text="There is an effusion.", verdict="evidence")
    assert Evidence("a", "occlusion", (2, 2), (none, some)).verdict == "evidence"
    assert Evidence("a", "occlusion", (2, 2), (none,)).verdict == "no evidence"
    assert Evidence("a", "occlusion", (2, 2), ()).to_json() == {
        "id": "a", "method": "occlusion", "grid": [2, 2], "sentences": [], "verdict": "no evidence"
    }  # fmt: skip


def test_the_record_has_the_keys_that_the_page_reads_and_four_decimals() -> None:
    sentence = SentenceEvidence("Clear.", (0.123456, -0.00001, 2.0, 0.0), 1.23456, 0.00004, "evidence")
    assert Evidence("a", "gradient", (2, 2), (sentence,)).to_json() == {
        "id": "a",
        "method": "gradient",
        "grid": [2, 2],
        "sentences": [
            {"text": "Clear.", "map": [0.1235, 0.0, 2.0, 0.0], "drop_top": 1.2346, "drop_random": 0.0,
             "verdict": "evidence"}
        ],
        "verdict": "evidence",
    }  # fmt: skip


def test_random_tenths_are_seeded_and_of_the_right_size() -> None:
    masks = made.random_tenths(49, seed=3)
    assert masks.shape == (made.RANDOM_TENTHS, 49)
    assert masks.sum(1).tolist() == [5] * made.RANDOM_TENTHS
    assert torch.equal(masks, made.random_tenths(49, seed=3))
    assert not torch.equal(masks, made.random_tenths(49, seed=4))
    assert [made.tenth(count) for count in (4, 16, 49, 256)] == [1, 2, 5, 26]


def test_an_empty_report_has_no_maps(tiny_parts: Path, tiny_set: TinySet) -> None:
    built = build(tiny_parts)
    assert report_evidence(built.model, built.processor, batch_of(built, two_views(tiny_set)), "").sentences == ()


def test_a_model_without_a_grid_of_tokens_is_refused(tiny_parts: Path, tiny_set: TinySet) -> None:
    built = build(tiny_parts, global_only=True)
    with pytest.raises(InputError, match="evidence: a view of this model is one image token"):
        report_evidence(built.model, built.processor, batch_of(built, two_views(tiny_set)), REPORT)


def test_best_median_and_worst_studies_are_chosen() -> None:
    values = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8]
    assert chosen_places(values, 3) == [0, 1, 2]
    assert chosen_places(values, 1) == [2]
    assert chosen_places(values, 6) == [0, 1, 2, 3, 5, 6]
    assert chosen_places(values, 7) == chosen_places(values, 99) == list(range(7))
    for size in range(1, 30):
        for count in range(1, size + 1):
            places = chosen_places([float(value % 3) for value in range(size)], count)
            assert len(set(places)) == len(places) == count


@pytest.mark.drill
def test_the_peak_lies_on_a_lung_base_of_drawn_films(tmp_path: Path) -> None:
    """Where an opacity is drawn or would be: a sentence on one lung denies the other one too, so both decide it."""
    annotation = write_synthetic(tmp_path / "set", train=1200, val=4, test=80, seed=1, size=64)
    trained_on(TinySet(annotation, annotation.parent / "images"), tmp_path, epochs=30, rate=3e-3)
    built = load_checkpoint(tmp_path / "run" / "last", where=FLOAT32)[0]
    found, patches = [], []
    for number in range(80):
        label, wide = ("left", "right", "both", "neither")[number % 4], number % 8 < 4
        films = {name: draw_film(name, wide, 64, np.random.default_rng(number)) for name in (label, "both", "neither")}
        path = tmp_path / f"{number}.png"
        films[label].save(path)
        study = Study(str(number), (path,), write_report(label, wide, np.random.default_rng(number)))
        evidence = maps_of(built, study)
        evidence = replace(evidence, sentences=evidence.sentences[1:2])  # the heart comes first
        bases = np.asarray(films["both"], dtype=float) - np.asarray(films["neither"], dtype=float) > 25
        found.append(covers(bases, evidence))
        patches.append((bases.reshape(4, 16, 4, 16).mean((1, 3)) >= 0.1).sum())
    assert np.mean(patches) < 5  # of 16: chance is below a third
    assert np.mean(found) >= 0.9
