"""The model trio on tiny random parts: shapes, fusion, loss, saving, the library's own pipeline."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig, pipeline

from conftest import LANGUAGE_KINDS, VISION_KINDS
from placements import built_of
from r2gengpt.data.batches import Batch, Example, prompt_batch, training_batch
from r2gengpt.errors import InputError
from r2gengpt.model import R2GenGPTForConditionalGeneration, R2GenGPTProcessor
from r2gengpt.model.configuration import patch_grid
from r2gengpt.model.loss import report_loss
from r2gengpt.model.projector import FeatureNorm, mean_over_views, pool_grid
from r2gengpt.parts.assemble import Built
from r2gengpt.testing import noise_image
from r2gengpt.text.alignment import IGNORE

CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-5}
"""float32 sums in another order (batched or not) differ by about 1e-6 at these widths."""


def build(parts: Path, vision: str = "swin", language: str = "stablelm", **options: Any) -> Built:
    torch.manual_seed(0)
    names = {"vision_model": str(parts / f"vision-{vision}"), "lm_model": str(parts / f"lm-{language}")}
    built = built_of(**names, **options)
    built.model.eval()
    built.model.generation_config.max_new_tokens = 12
    return built


def example(processor: R2GenGPTProcessor, name: str, *seeds: int, report: str = "") -> Example:
    return Example(name, processor.pixels([noise_image(seed) for seed in seeds]), report, report)


def texts(built: Built, inputs: Any, **options: Any) -> list[str]:
    return built.processor.decode_reports(built.model.generate(**inputs, **options))


@dataclass(frozen=True)
class Saved:
    """A model and where it was saved by the library's own method."""

    built: Built
    directory: Path


@pytest.fixture(scope="module", params=[(v, lm) for v in VISION_KINDS for lm in LANGUAGE_KINDS], ids="-".join)
def saved(request: pytest.FixtureRequest, tiny_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    vision, language = request.param
    built = build(tiny_parts, vision, language)
    built.model.generation_config.update(num_beams=2, repetition_penalty=1.5)
    directory = tmp_path_factory.mktemp("saved")
    built.model.save_pretrained(directory)
    built.processor.save_pretrained(directory)
    return Saved(built, directory)


def test_a_saved_model_comes_back_by_the_auto_classes_and_writes_the_same_text(saved: Saved) -> None:
    model = AutoModelForImageTextToText.from_pretrained(saved.directory)
    processor = AutoProcessor.from_pretrained(saved.directory)
    assert isinstance(model, R2GenGPTForConditionalGeneration)
    assert isinstance(processor, R2GenGPTProcessor)
    studies = [[noise_image(1), noise_image(2)], [noise_image(3)]]
    before = texts(saved.built, saved.built.processor(studies))
    assert before[0] != before[1]
    assert texts(Built(model.eval(), processor), processor(studies)) == before


def test_the_librarys_pipeline_gives_the_text_of_our_own_call(saved: Saved) -> None:
    pipe = pipeline("image-text-to-text", model=str(saved.directory))
    image, instruction = noise_image(1), "Describe the lungs."
    (ours,) = texts(saved.built, saved.built.processor(image, instruction))
    assert ours
    plain = pipe(images=image, text=instruction, return_full_text=False)
    assert plain[0]["generated_text"] == ours
    content = [{"type": "image", "image": image}, {"type": "text", "text": instruction}]
    chat = pipe(text=[{"role": "user", "content": content}], return_full_text=False)
    assert chat[0]["generated_text"] == ours


@pytest.mark.parametrize("fusion", ["mean", "concat"])
@pytest.mark.parametrize(("vision", "language"), [("swin", "stablelm"), ("vit", "gpt2"), ("dinov2", "llama")])
def test_studies_of_one_and_of_two_views_in_a_batch_give_what_each_gives_alone(
    vision: str, language: str, fusion: str, tiny_parts: Path
) -> None:
    built = build(tiny_parts, vision, language, fusion=fusion)
    model, processor = built.model, built.processor
    studies = [example(processor, "two", 1, 2), example(processor, "one", 3)]
    together = prompt_batch(studies, processor)
    alone = [prompt_batch([study], processor) for study in studies]
    assert together.view_mask.tolist() == [[True, True], [True, False]]
    with torch.no_grad():
        features = model.encode_views(together.pixel_values, together.view_mask)
        separate = torch.cat([model.encode_views(batch.pixel_values, batch.view_mask) for batch in alone])
    torch.testing.assert_close(features, separate, **CLOSE)
    options = {"repetition_penalty": 2.0, "no_repeat_ngram_size": 2}
    assert texts(built, together.inputs(), **options) == [
        text for batch in alone for text in texts(built, batch.inputs(), **options)
    ]


def test_a_row_that_is_padded_on_the_left_is_penalised_for_its_first_words_too(tiny_parts: Path) -> None:
    """The library takes the padding of the prompt's mask for padding of the new tokens where prompts are embeddings.

    Handed to it, the penalty leaves as many of a row's first new tokens out as its prompt has padding.
    """
    built = build(tiny_parts, fusion="concat")
    model, processor = built.model, built.processor
    studies = [example(processor, "two", 1, 2), example(processor, "one", 3)]
    batch = prompt_batch(studies, processor)
    settings = GenerationConfig(max_new_tokens=24, repetition_penalty=5.0, pad_token_id=0, eos_token_id=None)
    new = model.generate(**batch.inputs(), generation_config=settings)
    alone = model.generate(**prompt_batch(studies[1:], processor).inputs(), generation_config=settings)
    assert new[1].tolist() == alone[0].tolist()
    embeds = model.embed_inputs(batch.input_ids, batch.pixel_values, batch.view_mask, None)
    with pytest.warns(UserWarning, match="repetition_penalty"):
        theirs = model.language_model.generate(
            inputs_embeds=embeds, attention_mask=batch.attention_mask, generation_config=settings
        )
    assert theirs[0].tolist() == new[0].tolist()
    assert theirs[1].tolist() != new[1].tolist()


def greedy_by_hand(model: Any, prompt: Tensor, penalty: float, counted: list[int], steps: int) -> list[int]:
    """Greedy tokens, each step a whole forward pass; the penalty counts `counted` and the new tokens."""
    new: list[int] = []
    for _ in range(steps):
        embeds = torch.cat([prompt, model.get_input_embeddings()(torch.tensor([new], dtype=torch.int64))], dim=1)
        logits = model.language_model(inputs_embeds=embeds).logits[0, -1]
        seen = sorted({*counted, *new})
        logits[seen] = torch.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
        new.append(int(logits.argmax()))
    return new


@torch.no_grad()
def test_the_repetition_penalty_counts_new_tokens_only(tiny_parts: Path) -> None:
    built = build(tiny_parts)
    model, processor = built.model, built.processor
    batch = prompt_batch([example(processor, "a", 1)], processor)
    prompt = model.embed_inputs(batch.input_ids, batch.pixel_values, batch.view_mask, None)
    settings = GenerationConfig(max_new_tokens=10, repetition_penalty=3.0, pad_token_id=0, eos_token_id=None)
    found = model.generate(**batch.inputs(), generation_config=settings)[0].tolist()
    words = [token for token in batch.input_ids[0].tolist() if token != processor.image_token_id]
    first = greedy_by_hand(model, prompt, 3.0, [], 10)
    assert found == first
    assert found != greedy_by_hand(model, prompt, 3.0, [*words, first[0]], 10)


@torch.no_grad()
def test_mean_fusion_is_the_originals_mean_over_views_then_projection(tiny_parts: Path) -> None:
    """Source: wang-zhanyu/R2GenGPT, models/R2GenGPT.py, encode_img and forward."""
    model, processor = (built := build(tiny_parts)).model, built.processor
    batch = prompt_batch([example(processor, "a", 1, 2, 3), example(processor, "b", 4, 5, 6)], processor)
    per_view = [model.vision_tower(batch.pixel_values[:, view]).last_hidden_state for view in range(3)]
    theirs = model.projector.norm(model.projector.linear(torch.stack(per_view).mean(0)))
    ours = model.image_tokens(model.encode_views(batch.pixel_values, batch.view_mask), batch.view_mask)
    torch.testing.assert_close(ours.view_as(theirs), theirs, **CLOSE)


@torch.no_grad()
def test_concat_fusion_has_the_tokens_of_every_view_in_order(tiny_parts: Path) -> None:
    model, processor = (built := build(tiny_parts, fusion="concat")).model, built.processor
    batch = prompt_batch([example(processor, "a", 1, 2), example(processor, "b", 3)], processor)
    n = model.config.tokens_per_view
    assert (batch.input_ids == processor.image_token_id).sum(1).tolist() == [2 * n, n]
    tokens = model.image_tokens(model.encode_views(batch.pixel_values, batch.view_mask), batch.view_mask)
    for view, seed in enumerate((1, 2, 3)):
        one = prompt_batch([example(processor, "x", seed)], processor)
        expected = model.image_tokens(model.encode_views(one.pixel_values), one.view_mask)
        torch.testing.assert_close(tokens[view * n : (view + 1) * n], expected, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("vision", VISION_KINDS)
def test_global_only_is_one_token_a_view_from_the_pooled_feature(vision: str, tiny_parts: Path) -> None:
    model, processor = (built := build(tiny_parts, vision, global_only=True)).model, built.processor
    batch = prompt_batch([example(processor, "a", 1)], processor)
    assert (batch.input_ids == processor.image_token_id).sum() == model.config.tokens_per_view == 1
    pooled = model.vision_tower(batch.pixel_values[:, 0]).pooler_output
    torch.testing.assert_close(model.encode_views(batch.pixel_values)[:, 0], pooled, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("vision", VISION_KINDS)
def test_features_are_the_patches_without_the_class_token(vision: str, tiny_parts: Path) -> None:
    model, processor = (built := build(tiny_parts, vision)).model, built.processor
    batch = prompt_batch([example(processor, "a", 1)], processor)
    hidden = model.vision_tower(batch.pixel_values[:, 0]).last_hidden_state
    patches = hidden if vision == "swin" else hidden[:, 1:]
    features = model.encode_views(batch.pixel_values)
    assert features.shape[1] == model.config.tokens_per_view == 16
    torch.testing.assert_close(features, patches, **CLOSE)


@torch.no_grad()
def test_pooled_image_tokens_are_means_of_neighbouring_patches(tiny_parts: Path) -> None:
    model, processor = (built := build(tiny_parts, image_tokens=4)).model, built.processor
    batch = prompt_batch([example(processor, "a", 1)], processor)
    assert (batch.input_ids == processor.image_token_id).sum() == 4
    features = model.encode_views(batch.pixel_values)
    corner = features[:, [0, 1, 4, 5]].mean(1)
    torch.testing.assert_close(pool_grid(features, 2)[:, 0], corner, **CLOSE)
    tokens = model.image_tokens(features, batch.view_mask)
    torch.testing.assert_close(tokens[:1], model.projector.norm(model.projector.linear(corner)), **CLOSE)


def test_feature_statistics_centre_and_scale_each_channel() -> None:
    features = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * 3 + 7
    norm = FeatureNorm(5)
    assert torch.equal(norm(features), features)
    norm.set_statistics(features.mean(0), features.std(0, correction=0))
    torch.testing.assert_close(norm(features).mean(0), torch.zeros(5), **CLOSE)
    torch.testing.assert_close(norm(features).std(0, correction=0), torch.ones(5), **CLOSE)


def test_feature_statistics_by_position_centre_each_patch() -> None:
    features = torch.randn(200, 4, 5, generator=torch.Generator().manual_seed(0)) + torch.arange(4.0)[:, None]
    norm = FeatureNorm(5, patches=4)
    assert torch.equal(norm(features), features)
    norm.set_statistics(features.mean(0), torch.full((5,), 2.0))
    torch.testing.assert_close(norm(features).mean(0), torch.zeros(4, 5), **CLOSE)
    torch.testing.assert_close(norm(features)[0], (features[0] - features.mean(0)) / 2, **CLOSE)


@pytest.mark.parametrize("kind", ["standardize", "position"])
def test_feature_statistics_are_saved_with_the_model(kind: str, tiny_parts: Path, tmp_path: Path) -> None:
    built = build(tiny_parts, feature_norm=kind)
    norm = built.model.projector.norm_in
    norm.set_statistics(torch.randn(norm.mean.shape), torch.arange(1.0, 17.0))
    built.model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).projector.norm_in
    assert torch.equal(loaded.mean, norm.mean)
    assert torch.equal(loaded.scale, norm.scale)


def batch_with_labels(built: Built) -> Batch:
    reports = ("The lungs are clear.", "There is an opacity in the left lower lobe.")
    examples = [example(built.processor, str(i), i, 10 + i, report=text) for i, text in enumerate(reports)]
    return training_batch(examples, built.processor, 30)


@torch.no_grad()
@pytest.mark.parametrize("language", LANGUAGE_KINDS)
def test_the_loss_equals_the_language_models_own_over_all_positions(language: str, tiny_parts: Path) -> None:
    model = (built := build(tiny_parts, language=language)).model
    batch = batch_with_labels(built)
    output = model(**batch.inputs())
    embeds = model.embed_inputs(batch.input_ids, batch.pixel_values, batch.view_mask, None)
    plain = model.language_model(inputs_embeds=embeds, attention_mask=batch.attention_mask, labels=batch.labels)
    torch.testing.assert_close(output.loss, plain.loss, **CLOSE)
    assert output.logits.shape[1] < plain.logits.shape[1]


@torch.no_grad()
def test_the_loss_is_the_originals_on_the_same_batch_with_its_masking_by_value(tiny_parts: Path) -> None:
    """Source: wang-zhanyu/R2GenGPT, models/R2GenGPT.py, forward: BOS, prompt halves around the image, padded report.

    It pads each report to max_length with id 0 and masks labels equal to 0, which on StableLM is the end token.
    """
    model, processor = (built := build(tiny_parts)).model, built.processor
    words, embed = processor.tokenizer, model.get_input_embeddings()
    batch = batch_with_labels(built)
    per_view = [model.vision_tower(batch.pixel_values[:, view]).last_hidden_state for view in range(2)]
    image = model.projector.norm(model.projector.linear(torch.stack(per_view).mean(0)))
    halves = [
        embed(torch.tensor([words(half, add_special_tokens=False).input_ids])).expand(2, -1, -1)
        for half in f"Human: <Img><ImageHere></Img> {processor.instruction} \nAssistant:".split("<ImageHere>")
    ]
    bos = embed(torch.full((2, 1), words.bos_token_id))
    ids = [words(text, add_special_tokens=False).input_ids for text in batch.references]
    report = torch.tensor([[*row, 0][:30] + [0] * (30 - len(row) - 1) for row in ids])
    mask = torch.tensor([[1] * (len(row) + 1) + [0] * (30 - len(row) - 1) for row in ids])
    before = torch.cat([bos, halves[0], image, halves[1]], dim=1)
    theirs = model.language_model(
        inputs_embeds=torch.cat([before, embed(report)], dim=1),
        attention_mask=torch.cat([torch.ones(before.shape[:2], dtype=torch.int64), mask], dim=1),
        labels=torch.cat([torch.full(before.shape[:2], IGNORE), report.masked_fill(report == 0, IGNORE)], dim=1),
    ).loss
    ours = model(**batch.inputs() | {"labels": batch.labels.masked_fill(batch.labels == 0, IGNORE)}).loss
    torch.testing.assert_close(ours, theirs, **CLOSE)
    assert abs(float(model(**batch.inputs()).loss - theirs)) > 1e-3  # with the end token it is another loss


def test_a_labels_row_of_another_length_does_not_change_a_studys_loss(tiny_parts: Path) -> None:
    built = build(tiny_parts)
    logits, labels = torch.randn(1, 4, 8), torch.tensor([[IGNORE, 3, 5, IGNORE]])
    by_hand = functional.cross_entropy(logits[0, :2], torch.tensor([3, 5]))
    torch.testing.assert_close(report_loss(logits, labels), by_hand, **CLOSE)
    with pytest.raises(ValueError, match="no learnt token"):
        built.model(**batch_with_labels(built).inputs() | {"labels": torch.full((2, 9), IGNORE)})


def test_a_language_model_in_bfloat16_takes_the_float32_image_tokens(tiny_parts: Path) -> None:
    built = build(tiny_parts, dtype="bfloat16", llm_use_lora=True)
    dtypes = {name.split(".")[0]: p.dtype for name, p in built.model.named_parameters() if "lora_" not in name}
    assert dtypes == {
        "vision_tower": torch.float32,
        "language_model": torch.bfloat16,
        "projector": torch.float32,
    }
    assert {p.dtype for name, p in built.model.named_parameters() if "lora_" in name} == {torch.float32}
    assert built.model(**batch_with_labels(built).inputs()).loss.dtype == torch.float32
    assert texts(built, built.processor(noise_image(1)))[0]


def test_features_of_an_earlier_pass_give_the_same_as_pixels(tiny_parts: Path) -> None:
    built = build(tiny_parts)
    batch = batch_with_labels(built)
    features = built.model.encode_views(batch.pixel_values, batch.view_mask)
    from_features = built.model(**batch.inputs() | {"pixel_values": None}, features=features).loss
    torch.testing.assert_close(from_features, built.model(**batch.inputs()).loss, **CLOSE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values": torch.zeros(2, 3, 32, 32)}, r"shape \(2, 3, 32, 32\), must be \(studies, views, 3, H, W\)"),
        ({"view_mask": torch.ones(2, 3, dtype=torch.bool)}, r"view_mask has shape \(2, 3\), pixel_values \(2, 2, 3"),
        ({"view_mask": torch.tensor([[True, True], [False, False]])}, "study 1 of the batch has no view"),
        ({"input_ids": torch.ones(2, 9, dtype=torch.int64)}, "0 image placeholders for 32 image tokens"),
        ({"input_ids": None}, "input_ids or inputs_embeds is needed"),
        ({"pixel_values": None}, "pixel_values or features is needed"),
        ({"features": torch.zeros(4, 16, 16), "view_mask": None}, "features needs view_mask"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_both_counts(
    change: dict[str, Any], message: str, tiny_parts: Path
) -> None:
    built = build(tiny_parts)
    with pytest.raises(ValueError, match=message):
        built.model(**batch_with_labels(built).inputs() | change)


def test_a_prompt_of_another_model_is_refused_with_both_counts(tiny_parts: Path) -> None:
    built, other = build(tiny_parts), build(tiny_parts, image_tokens=4)
    batch = prompt_batch([example(other.processor, "a", 1)], other.processor)
    with pytest.raises(ValueError, match="prompt holds 4 image placeholders for 16 image tokens"):
        built.model.generate(**batch.inputs())


def test_patches_that_form_no_square_or_too_few_are_not_pooled() -> None:
    for patches in (15, 1):
        with pytest.raises(ValueError, match=f"{patches} patches cannot be pooled to 2 × 2"):
            pool_grid(torch.zeros(1, patches, 3), 2)


@pytest.mark.parametrize(
    ("kind", "size", "side"), [("swin", 32, 4), ("swin", 36, 5), ("vit", 32, 4), ("dinov2", 64, 8)]
)
def test_the_patch_grid_follows_from_the_configuration(kind: str, size: int, side: int, tiny_parts: Path) -> None:
    tower = build(tiny_parts, kind).model.vision_tower
    assert patch_grid(tower.config, size) == side


def test_an_encoder_without_patches_is_refused(tiny_parts: Path) -> None:
    with pytest.raises(InputError, match="images of 2 pixels hold no patch of 4 pixels"):
        patch_grid(build(tiny_parts).model.vision_tower.config, 2)
    with pytest.raises(InputError, match="resnet has no patch_size"):
        patch_grid(SimpleNamespace(model_type="resnet"), 32)


def test_the_mean_over_views_ignores_views_that_are_not_there() -> None:
    features = torch.arange(6.0).reshape(3, 1, 2)
    mask = torch.tensor([[True, False], [True, True]])
    assert mean_over_views(features, mask).tolist() == [[[0.0, 1.0]], [[3.0, 4.0]]]
