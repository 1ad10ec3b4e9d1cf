"""Generation tokens a second by the program's decode path, greedy and with beams. Random weights; prints JSON.

Every report is made --new_tokens long, so that time does not depend on what random weights happen to say. The encoder
and the pass that computes log-probabilities are counted, as users wait for them too.
Run: python benchmarks/generation.py > generation.json
"""

import argparse
import json
import sys
import time

import torch
from training import add_size_flags, random_model, setting, versions
from transformers import ViTImageProcessorPil

from r2gengpt.config import DecodeConfig
from r2gengpt.data.loading import Example, prompt_batch
from r2gengpt.generation.decode import predict
from r2gengpt.model import R2GenGPTProcessor
from r2gengpt.testing import noise_image, tiny_tokenizer


def lengths(beams: int, tokens: int) -> DecodeConfig:
    return DecodeConfig(beam_size=beams, min_new_tokens=tokens, max_new_tokens=tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser)
    parser.add_argument("--batch_size", type=int, nargs="+", default=[1, 4], help="studies a batch (1 4)")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 3], help="beams (1 3)")
    parser.add_argument("--new_tokens", type=int, default=24, help="tokens a report (24)")
    parser.add_argument("--repeats", type=int, default=1, help="timed runs, of which the fastest counts (1)")
    options = parser.parse_args()
    model = random_model(options)
    processor = R2GenGPTProcessor(
        ViTImageProcessorPil(size={"height": 224, "width": 224}),
        tiny_tokenizer(),
        tokens_per_view=model.config.tokens_per_view,
    )
    model.config.image_token_id = processor.image_token_id
    results = {}
    for studies in options.batch_size:
        films = [processor.pixels([noise_image(number, 256)]) for number in range(studies)]
        batch = prompt_batch([Example(str(number), film, "", "") for number, film in enumerate(films)], processor)
        for beams in options.beams:
            list(predict(model, processor, [batch], lengths(beams, 4)))  # warms up
            times = []
            for _ in range(options.repeats):
                start = time.perf_counter()
                predictions = list(predict(model, processor, [batch], lengths(beams, options.new_tokens)))
                times.append(time.perf_counter() - start)
            tokens, seconds = sum(prediction.tokens for prediction in predictions), min(times)
            key = f"batch_{studies}_beams_{beams}"
            results[key] = {
                "tokens_per_second": round(tokens / seconds, 1),
                "seconds_per_study": round(seconds / studies, 3),
            }
            print(key, results[key], file=sys.stderr)
    count = sum(parameter.numel() for parameter in model.parameters())
    shown = {
        "benchmark": "generation",
        "setting": {**setting(options), "parameters": count},
        "versions": versions(),
        "results": results,
    }
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
