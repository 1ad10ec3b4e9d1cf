"""Generated tokens a second: the engine against transformers' `generate`, alternating in one process; prints JSON.

Random weights, every report --new_tokens long, so that time does not depend on what random weights happen to say. Both
get the same prompts as embeddings and the guide's settings; whether they wrote the same tokens is part of the result.
`embedded` is SmolLM2-135M with real weights, where `r2gengpt pull embedded` has fetched it: one study, greedy, whole
precision by both, and 8 bits (w8a8) by the engine.
Run: python benchmarks/generation.py > generation.json
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from training import versions
from transformers import AutoModelForCausalLM, GenerationConfig, LogitsProcessorList, StableLmConfig

from r2gengpt.errors import InputError
from r2gengpt.generation.beams import Rules
from r2gengpt.generation.engine import Engine, Prompt
from r2gengpt.model.repetition import take_repetition_rules
from r2gengpt.parts.embedded.cache import PREFIX, resolve
from r2gengpt.parts.int8 import to_int8

PROMPT = 77
"""Tokens of the default prompt with 49 image tokens."""
SIZES = {
    "tiny": {"hidden_size": 128, "num_hidden_layers": 4, "intermediate_size": 344, "vocab_size": 4096},
    "small": {"hidden_size": 640, "num_hidden_layers": 10, "intermediate_size": 1728, "vocab_size": 50304},
}
Texts = list[list[int]]


def random_language_model(size: str) -> Any:
    """A StableLM of one of `SIZES` with random weights, float32."""
    torch.manual_seed(0)
    heads = SIZES[size]["hidden_size"] // 32
    config = StableLmConfig(num_attention_heads=heads, num_key_value_heads=heads, **SIZES[size])
    return AutoModelForCausalLM.from_config(config).eval()


def prompts_for(model: Any, studies: int) -> Tensor:
    """Random prompts of equal length, (B, P, D)."""
    return 0.1 * torch.randn(studies, PROMPT, model.config.hidden_size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def by_generate(model: Any, prompts: Tensor, beams: int, tokens: int) -> Texts:
    config = GenerationConfig(
        num_beams=beams, min_new_tokens=tokens, max_new_tokens=tokens, repetition_penalty=2.0, do_sample=False,
        length_penalty=2.0 if beams > 1 else None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    config = copy.deepcopy(config)
    rules = LogitsProcessorList(take_repetition_rules(config))
    mask = torch.ones(prompts.shape[:2], dtype=torch.long, device=prompts.device)
    ids = model.generate(inputs_embeds=prompts, attention_mask=mask, generation_config=config, logits_processor=rules)
    texts: Texts = ids.tolist()
    return texts


def rules_of(beams: int, tokens: int) -> Rules:
    """The guide's settings, of so many tokens."""
    return Rules(
        end=0, max_new_tokens=tokens, min_new_tokens=tokens, beam_size=beams, repetition_penalty=2.0, length_penalty=2.0
    )


def by_engine(model: Any, prompts: Tensor, beams: int, tokens: int, *, compiled: bool = False) -> Texts:
    engine = Engine(model, rules_of(beams, tokens), slots=len(prompts), compiled=compiled)
    written = {one.tag: one.ids for one in engine.run(iter(Prompt(n, p) for n, p in enumerate(prompts)))}
    return [written[number] for number in range(len(prompts))]


def alternate(runs: dict[str, Callable[[], Texts]], repeats: int) -> tuple[dict[str, float], dict[str, Texts]]:
    """Best wall seconds of each, taken in turn, and what each wrote."""
    best: dict[str, float] = {}
    wrote: dict[str, Texts] = {}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            wrote[name] = run()
            best[name] = min(best.get(name, float("inf")), time.perf_counter() - start)
    return best, wrote


def compare(model: Any, studies: int, beams: int, tokens: int, repeats: int) -> dict[str, Any]:
    """Both decoders on the same prompts."""
    prompts = prompts_for(model, studies)
    runs = {"hf": by_generate, "fast": by_engine}
    for run in runs.values():
        run(model, prompts[:1], beams, 2)  # warms up
    best, wrote = alternate({n: partial(r, model, prompts, beams, tokens) for n, r in runs.items()}, repeats)
    return {
        **{f"{name}_tokens_per_second": round(studies * tokens / seconds, 1) for name, seconds in best.items()},
        "ratio": round(best["hf"] / best["fast"], 2),
        "identical": wrote["hf"] == wrote["fast"],
    }


def embedded(tokens: int, repeats: int) -> dict[str, Any]:
    """SmolLM2-135M, one study, greedy."""
    model = AutoModelForCausalLM.from_pretrained(resolve(f"{PREFIX}smollm2-135m"), dtype=torch.float32).eval()
    results = compare(model, 1, 1, tokens, repeats)
    to_int8(model)
    prompts = prompts_for(model, 1)
    by_engine(model, prompts, 1, 2)
    best, _ = alternate({"w8a8": lambda: by_engine(model, prompts, 1, tokens)}, repeats)
    first, _ = alternate({"w8a8": lambda: by_engine(model, prompts, 1, 1)}, repeats)
    results["w8a8_tokens_per_second"] = round(tokens / best["w8a8"], 1)
    results["w8a8_seconds_to_first_token"] = round(first["w8a8"], 3)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES), help="models (tiny small)")
    parser.add_argument("--studies", type=int, nargs="+", default=[1, 16], help="studies at once (1 16)")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 3], help="beams (1 3)")
    parser.add_argument("--new_tokens", type=int, default=40, help="tokens a report (40)")
    parser.add_argument("--repeats", type=int, default=2, help="timed runs of each, the fastest counts (2)")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for size in options.sizes:
        model = random_language_model(size)
        for studies in options.studies:
            for beams in options.beams:
                key = f"{size}_studies_{studies}_beams_{beams}"
                results[key] = compare(model, studies, beams, options.new_tokens, options.repeats)
                print(key, results[key], file=sys.stderr)
    try:
        results["embedded"] = embedded(options.new_tokens, options.repeats)
    except InputError as error:
        print(f"embedded: left out: {error}", file=sys.stderr)
    shown = {
        "benchmark": "generation",
        "setting": {"prompt_tokens": PROMPT, "new_tokens": options.new_tokens, "sizes": SIZES},
        "versions": versions(),
        "results": results,
    }
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
