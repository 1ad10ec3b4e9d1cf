"""Any settings together: a run trains, is tested and writes, or it is refused in one line; none ends in a traceback."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Outcome, TinySet

BOTH = ["True", "False"]
DECODING = {
    "engine": ["auto", "fast", "hf"],
    "beam_size": ["1", "2", "3"],
    "do_sample": BOTH,
    "early_stopping": ["True", "False", "never"],
    "repetition_penalty": ["1.0", "2.0"],
    "no_repeat_ngram_size": ["0", "2"],
    "length_penalty": ["0.0", "2.0", "-1.0"],
    "speculate": ["True", "False", "False"],
}
PARTS = {
    "quantization": ["auto", "none", "int8", "nf4", "fp4", "w8a8"],
    "dtype": ["auto", "float32", "bfloat16", "float16"],
    "device_map": ["none", "none", "none", "auto"],
}
TRAINING = {
    **DECODING,
    **PARTS,
    "alignment": ["shallow", "delta", "deep"],
    "fusion": ["mean", "concat"],
    "feature_norm": ["none", "standardize", "position"],
    "image_tokens": ["1", "4", "16"],
    "global_only": BOTH,
    "double_quant": BOTH,
    "precision": ["auto", "bf16-mixed", "bf16-true", "32-true", "bf16", "32", "16"],
    "llm_use_lora": BOTH,
    "use_dora": BOTH,
    "use_rslora": BOTH,
    "gradient_checkpointing": BOTH,
    "gradient_clip_val": ["0.1", "1"],
    "accumulate_grad_batches": ["1", "3"],
    "batch_size": ["1", "3"],
    "bucket_by_length": BOTH,
    "augment": BOTH,
    "feature_cache": ["CACHE"],
    "feature_cache_dtype": ["float32", "float16", "bfloat16", "int8"],
    "scorer_types": ["val_loss", "CIDEr", "Bleu_4"],
    "num_sanity_val_steps": ["0", "1"],
    "every_n_train_steps": ["0", "2"],
    "val_check_interval": ["0.5", "1.0"],
    "limit_train_batches": ["0.5", "2"],
    "warmup_ratio": ["0", "0.5"],
}
TESTING = {
    **DECODING,
    **PARTS,
    "nearest_image": ["auto", "True", "False"],
    "nearest_labels": ["auto", "True", "False"],
    "oracle_hint": ["auto", "False"],
    "shuffle_images": BOTH,
    "evidence": BOTH,
    "abstain_below": ["0.5"],
    "calibrate": BOTH,
    "test_batch_size": ["1", "4"],
}
WRITING = {**DECODING, **PARTS, "format": ["text", "json", "sr"], "evidence": ["CACHE"], "stream": BOTH}
LANGUAGE, VISION = ("stablelm", "llama", "gpt_neox", "gpt2"), ("swin", "vit", "dinov2")


def some(chance: random.Random, options: dict[str, list[str]], most: int, cache: Path) -> list[str]:
    """Flags: up to `most` of the options, each with one of its values."""
    names = chance.sample(sorted(options), chance.randint(1, most))
    return [word.replace("CACHE", str(cache)) for name in names for word in (f"--{name}", chance.choice(options[name]))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.drill) for seed in range(8, 200))])
def test_settings_work_together_or_are_refused_in_one_line(
    seed: int,
    tiny_parts: Path,
    tiny_set: TinySet,
    tmp_path: Path,
    run_cli: Callable[[list[str]], Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(seed)
    native = chance.random() < 0.5
    monkeypatch.setattr("r2gengpt.parts.assemble.device_has_bfloat16", lambda: native)
    run, cache = tmp_path / "run", tmp_path / "cache"
    parts = [
        f"--lm_model={tiny_parts}/lm-{chance.choice(LANGUAGE)}",
        f"--vision_model={tiny_parts}/vision-{chance.choice(VISION)}",
    ]
    data = [f"--annotation={tiny_set.annotation}", f"--base_dir={tiny_set.base_dir}", "--dataset=plain"]
    short = ["--min_new_tokens=1", "--max_new_tokens=5"]
    begin = ["train", *parts, *data, *short, f"--savedmodel_path={run}", "--max_epochs=1", "--scorer_types=val_loss"]

    def works(words: list[str]) -> bool:
        done = run_cli(words)
        refused = done.stderr.count(f"r2gengpt {words[0]}: ")
        assert (done.code, refused) in ((0, 0), (2, 1)), f"{words}\n{done.stderr}"
        return done.code == 0

    if works([*begin, "--weights=1", *some(chance, TRAINING, 8, cache)]):
        for _ in range(2):
            test = ["test", f"--ckpt_file={run}", f"--output={tmp_path / 'test'}", "--meteor=none"]
            works([*test, *some(chance, TESTING, 5, cache)])
            image = str(tiny_set.base_dir / "test0_0.png")
            works(["generate", image, f"--model={run}", *some(chance, WRITING, 4, cache)])
