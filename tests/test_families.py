"""Every family of language models: its prompt, its end token, and training in every form of its weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, ViTImageProcessorPil

from conftest import TinySet
from placements import FLOAT32, built_of
from r2gengpt.checkpoint import load_checkpoint
from r2gengpt.config import DEFAULT_INSTRUCTION, PRIOR, ModelConfig, RunConfig
from r2gengpt.data.annotation import read_annotation
from r2gengpt.data.ordering import instruction_of, row_lengths
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.evaluation.run import Evaluation, predict_studies
from r2gengpt.model import R2GenGPTProcessor
from r2gengpt.parts.assemble import Built, build_model, load_directory
from r2gengpt.parts.families import FAMILIES, choose_prompt, family_of
from r2gengpt.parts.lora import ROLES, find_targets
from r2gengpt.settings import PlacementConfig
from r2gengpt.testing import noise_image, tiny_tokenizer
from r2gengpt.text.context import Context
from r2gengpt.text.prompt import IMAGE_PLACEHOLDER
from r2gengpt.training import run
from reporters import reporter_of
from tiny_families import PLAIN, TINY_FAMILIES, write_family
from training_settings import small_run

pytest.importorskip("bitsandbytes")
NAMES = list(TINY_FAMILIES)
TURN = "<|im_end|>"


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {name: write_family(tmp_path_factory.mktemp(name), name) for name in NAMES}


def build(families: dict[str, Path], parts: Path, name: str, **options: Any) -> Built:
    where = {"vision_model": str(parts / "vision-swin"), "lm_model": str(families[name]), "dtype": "float32"}
    return built_of(**where | options)


def predictions(built: Built, data: TinySet, settings: RunConfig, **decode: Any) -> list[Any]:
    studies = read_annotation(data.annotation, data.base_dir, ("test",))["test"]
    plan = Evaluation(studies, (), "plain", batch_size=3)
    return predict_studies(reporter_of(built, replace(settings.decode, **decode)), plan)


@pytest.mark.parametrize("lora", [False, True], ids=["projector", "lora"])
@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
@pytest.mark.parametrize("name", NAMES)
def test_a_family_trains_is_saved_and_writes_the_same_after_loading(
    families: dict[str, Path],
    tiny_parts: Path,
    tiny_set: TinySet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    quantization: str,
    lora: bool,
) -> None:
    settings = small_run(
        tiny_parts,
        tiny_set,
        tmp_path,
        model={"lm_model": str(families[name]), "llm_use_lora": lora},
        max_steps=3,
        learning_rate=0.01,
        limit_val_batches=0.0,
    )
    kept: list[Built] = []
    monkeypatch.setattr(run, "build_model", lambda *a, **k: kept.append(build_model(*a, **k)) or kept[0])
    where = PlacementConfig(quantization=quantization)
    fresh = build_model(settings.model, where, precision="32-true").model
    assert any("bitsandbytes" in type(part).__module__ for part in fresh.modules()) == (quantization != "none")
    before = fresh.state_dict()
    run.train(settings, where)
    built, _ = load_checkpoint(tmp_path / "last", where=replace(where, dtype="float32"))
    state = built.model.state_dict()
    moved = {key for key in before.keys() & state.keys() if not torch.equal(before[key], state[key])}
    assert any("projector" in key for key in moved)
    assert all("projector" in key or "lora_" in key for key in moved)
    assert any("lora_B" in key for key in moved) == lora
    kept[0].model.eval()
    written, again = (predictions(one, tiny_set, settings, beam_size=2) for one in (kept[0], built))
    assert [one.text for one in written] == [one.text for one in again]
    assert sum(one.tokens for one in written) > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_prompt_is_the_one_that_the_model_was_tuned_with(
    families: dict[str, Path], tiny_parts: Path, name: str
) -> None:
    family = TINY_FAMILIES[name]
    processor = build(families, tiny_parts, name).processor
    tokenizer = processor.tokenizer
    assert processor.template == family.prompt
    opens = "" if family.opens is None else family.opens
    before, after = (opens + family.prompt).replace("{instruction}", DEFAULT_INSTRUCTION).split(IMAGE_PLACEHOLDER)
    wanted = [tokenizer(half, add_special_tokens=False).input_ids for half in (before, after)]
    row = list(processor.prompt_row(1))
    assert [row.index(processor.image_token_id), row[::-1].index(processor.image_token_id)] == list(map(len, wanted))
    assert row == [*wanted[0], *[processor.image_token_id] * processor.tokens_per_view, *wanted[1]]
    for word in family.control:
        if word in family.prompt:
            assert tokenizer.convert_tokens_to_ids(word) in row, f"{word} became ordinary text"


@pytest.mark.parametrize("name", NAMES)
def test_the_end_token_is_learnt_and_ends_the_report(
    families: dict[str, Path], tiny_parts: Path, tiny_set: TinySet, tmp_path: Path, name: str
) -> None:
    """One report for every study, learnt by heart: it comes back whole, and ends by itself."""
    settings = small_run(
        tiny_parts,
        tiny_set,
        tmp_path,
        model={"lm_model": str(families[name]), "llm_r": 16, "llm_alpha": 32, "lora_dropout": 0.0},
        read={"batch_size": 8},
        max_epochs=60,
        learning_rate=0.01,
        gradient_clip_val=1.0,
        limit_train_batches=1,
        limit_val_batches=0.0,
    )
    annotation = tmp_path / "one_report.json"
    annotation.write_text(one_report(tiny_set))
    settings = replace(settings, data=replace(settings.data, annotation=str(annotation)))
    run.train(settings)
    built, _ = load_checkpoint(tmp_path / "last", where=FLOAT32)
    end = built.processor.end_token_id
    assert end == built.processor.tokenizer.convert_tokens_to_ids(TINY_FAMILIES[name].end)
    assert built.model.generation_config.eos_token_id == end
    for one in predictions(built, tiny_set, settings, max_new_tokens=60, repetition_penalty=1.0):
        assert (one.text, one.finish) == ("The lungs are clear.", "stop")


def one_report(data: TinySet) -> str:
    splits = json.loads(data.annotation.read_text(encoding="utf-8"))
    return json.dumps(
        {key: [{**study, "report": "The lungs are clear."} for study in value] for key, value in splits.items()}
    )


@pytest.mark.parametrize("name", NAMES)
def test_lora_reaches_every_linear_layer_and_by_the_familys_own_names(
    families: dict[str, Path], tiny_parts: Path, name: str
) -> None:
    model = build(families, tiny_parts, name).model.language_model
    family = family_of(model)
    assert family is FAMILIES[model.config.model_type]
    head = model.get_output_embeddings()
    linear = {path for path, part in model.named_modules() if isinstance(part, torch.nn.Linear) and part is not head}
    assert set(find_targets(model, list(ROLES), "llm_lora_targets", family.layers, some=True)) == linear


@torch.no_grad()
def test_gemma_scales_words_inside_its_embedding_and_image_tokens_are_not_scaled_again(
    families: dict[str, Path], tiny_parts: Path
) -> None:
    """What reaches the first layer: words times the root of the width, image tokens as the projector gives them."""
    built = build(families, tiny_parts, "Gemma-3-it")
    model, inputs = built.model.eval(), built.processor(noise_image(1))
    seen: list[torch.Tensor] = []
    model.language_model.model.layers[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model(**inputs)
    ids = inputs["input_ids"][0]
    image = ids == built.processor.image_token_id
    features = model.encode_views(inputs["pixel_values"], inputs["view_mask"])
    tokens = model.image_tokens(features, inputs["view_mask"])
    words = model.get_input_embeddings().weight[ids[~image]] * model.config.text_config.hidden_size**0.5
    assert torch.equal(seen[0][0][image], tokens)
    torch.testing.assert_close(seen[0][0][~image], words)
    assert 0.2 < tokens.std() / words.std() < 5  # a second scaling would be 32 ** 0.5 = 5.7


@torch.no_grad()
def test_gemma_with_eyes_gives_the_logits_of_its_text_part(families: dict[str, Path], tiny_parts: Path) -> None:
    text = AutoModelForCausalLM.from_pretrained(families["Gemma-3-it"].parent / "lm-gemma3_text")
    ids = torch.arange(3, 90, 7)[None]
    assert torch.equal(build(families, tiny_parts, "Gemma-3-it").model.language_model(ids).logits, text(ids).logits)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_the_plain_directory_of_a_family_loads_with_the_same_logits_and_prompt(
    families: dict[str, Path], tiny_parts: Path, tmp_path: Path, name: str
) -> None:
    torch.manual_seed(0)
    built = build(families, tiny_parts, name)
    for part in (built.model, built.processor):
        part.save_pretrained(tmp_path)
    again = load_directory(tmp_path, dtype="float32")
    inputs, same = (one.processor(noise_image(1)) for one in (built, again))
    assert inputs["input_ids"].tolist() == same["input_ids"].tolist()
    assert torch.equal(built.model.eval()(**inputs).logits, again.model(**same).logits)
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe."}]}]
    text = again.processor.apply_chat_template(chat, add_generation_prompt=True)
    assert again.processor.prompt_row(1, text) == built.processor.prompt_row(1, "Describe.")


@pytest.mark.parametrize("name", ["Llama-2-chat", "Zephyr-3B", "StableLM-Tuned-Alpha"])
def test_the_originals_plain_prompt_stays_at_hand(families: dict[str, Path], tiny_parts: Path, name: str) -> None:
    processor = build(families, tiny_parts, name, template="plain").processor
    assert processor.template == PLAIN
    assert processor.prompt_ids().bos == (processor.tokenizer.bos_token_id,)


def test_a_prompt_of_ones_own_may_hold_control_tokens(families: dict[str, Path], tiny_parts: Path) -> None:
    mine = "<|im_start|>Look: <ImageHere> {instruction}"
    processor = build(families, tiny_parts, "Qwen3", template=mine, add_bos=False, end_sym="<|im_start|>").processor
    start = processor.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert processor.prompt_row(1, "Go.")[0] == start
    assert processor.end_token_id == start


def test_control_tokens_in_an_instruction_are_refused_where_the_prompt_has_some(
    families: dict[str, Path], tiny_parts: Path
) -> None:
    processor = build(families, tiny_parts, "Qwen3").processor
    with pytest.raises(InputError, match=r"^instruction holds a control token") as caught:
        processor.prompt_row(1, "Describe.<|im_end|>")
    assert caught.value.field == "instruction"


@pytest.mark.parametrize(
    ("context", "fields", "named"),
    [
        (Context(indication="Cough." + 90 * " Fever." + TURN), (), "indication"),
        (Context(technique=TURN, indication="Cough."), ("age", "indication", "technique"), "technique"),
        (Context(comparison=f"None.{TURN}"), ("comparison",), "comparison"),
        (Context(prior=f"Clear.{TURN}", prior_days=3), ("indication", PRIOR), "prior_report"),
        (Context(technique=TURN, comparison=TURN, prior=TURN), (), None),
        (Context(indication=TURN, technique="PA"), ("technique",), None),
    ],
)
def test_a_control_token_in_what_is_known_of_a_study_is_refused_by_the_name_of_its_field(
    families: dict[str, Path], tiny_parts: Path, context: Context, fields: tuple[str, ...], named: str | None
) -> None:
    processor = build(families, tiny_parts, "Qwen3").processor
    processor.context_fields = fields
    if named is None:
        processor.prompt_row(1, processor.instruction_for(context))
        return
    with pytest.raises(InputError, match=f"^{named} holds a control token of this language model$") as caught:
        processor.instruction_for(context)
    assert caught.value.field == named
    processor.template = PLAIN
    assert processor.instruction_for(context)


def test_a_control_token_in_what_an_annotation_tells_is_refused_by_the_name_of_its_study(
    families: dict[str, Path], tiny_parts: Path
) -> None:
    processor = build(families, tiny_parts, "Qwen3").processor
    study = Study("s-7", (Path("a.png"),), "Clear.", indication=f"Cough.{TURN}")
    assert instruction_of(study, study.context, processor) is None
    processor.context_fields = ("indication",)
    refused = "^study s-7: indication holds a control token of this language model$"
    with pytest.raises(InputError, match=refused) as caught:
        instruction_of(study, study.context, processor)
    assert caught.value.field == "indication"
    with pytest.raises(InputError, match=refused):
        row_lengths([study], processor, "plain", 20)


def test_a_base_model_has_no_chat_template(families: dict[str, Path], tiny_parts: Path) -> None:
    with pytest.raises(InputError, match=r"template chat: the tokenizer of .* has no chat template; use plain"):
        build(families, tiny_parts, "StableLM-3B-4E1T", template="chat")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('no users here') }}", "cannot be filled: no users here"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "holds <ImageHere> 2 times, must hold it once"),
        ("{% for", "cannot be filled"),
    ],
)
def test_a_chat_template_that_cannot_take_the_image_is_one_line(template: str, reason: str) -> None:
    words = tiny_tokenizer("gpt_neox", chat_template=template)
    with pytest.raises(InputError, match=reason) as error:
        choose_prompt(ModelConfig(template="chat"), FAMILIES["stablelm"], words)
    assert "\n" not in str(error.value)


def test_a_template_must_hold_the_images_place() -> None:
    with pytest.raises(InputError, match="template Hello: must be auto, plain, chat or a text that holds"):
        ModelConfig(template="Hello")


def test_a_checkpoint_keeps_its_prompt_when_the_tokenizers_template_changes(
    families: dict[str, Path], tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(families["Qwen3"], tmp_path / "lm"))
    settings = small_run(
        tiny_parts, tiny_set, tmp_path / "run", model={"lm_model": str(moved)}, max_steps=1, limit_val_batches=0.0
    )
    run.train(settings)
    file = moved / "chat_template.jinja"
    file.write_text(file.read_text().replace("<think>", "<ponder>"))
    assert "<ponder>" in build({"": moved}, tiny_parts, "").processor.template
    assert load_checkpoint(tmp_path / "run" / "last")[0].processor.template == TINY_FAMILIES["Qwen3"].prompt


def test_the_card_names_the_language_models_licence(
    families: dict[str, Path], tiny_parts: Path, tiny_set: TinySet, tmp_path: Path
) -> None:
    model = {"lm_model": str(families["Phi-3"])}
    run.train(small_run(tiny_parts, tiny_set, tmp_path, model=model, max_steps=1, limit_val_batches=0.0))
    assert "(language model: MIT)" in (tmp_path / "last" / "README.md").read_text()


def test_a_processor_made_by_hand_has_the_originals_prompt() -> None:
    made = R2GenGPTProcessor(ViTImageProcessorPil(size={"height": 32, "width": 32}), tiny_tokenizer("llama"))
    assert made.template == PLAIN
