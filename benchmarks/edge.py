"""The edge runtime on the embedded model's held-out studies: same words, same labels, how fast; prints JSON.

Exports the embedded model in each of --weights, then writes one greedy report a study, each system in a process of its
own: PyTorch in the forms of --torch, in float32, and the edge runtime. `tokens` is the share of positions that have the
same token (of the longer text), `studies` the share of whole texts, `labels` the share of (study, observation) pairs
that `r2gengpt.metrics.labels` reads alike; with --beams, `beams` is `tokens` with 3 beams. Each system is compared with
each of PyTorch's and with the first of --weights. Where a processor has bfloat16, PyTorch's encoder computes in it.
`tokens_per_s` counts whole reports, films and all, `streamed_per_s` the text alone, from its first token to its last.
`command_s` is the wall time of `r2gengpt generate` on one film, the median of --repeats after one that fills the file
cache. With --install a virtual environment is made as the guide says, without PyTorch: its size, and the command's time
in it.
DATA holds annotation.json and images/ of the covid_cxr set (default: $R2GENGPT_SHARED/covid_cxr).
Run: python benchmarks/edge.py --install > edge.json
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import r2gengpt

ROOT = Path(__file__).parents[1]
FILM = str(Path(r2gengpt.__file__).parent / "examples" / "effusion.jpg")
PROGRAM = "from r2gengpt.cli.main import main; main()"
EDGE_PACKAGES = ("openvino", "tokenizers", "numpy", "pillow")
"""What the edge machine installs; constraints.txt has the versions."""

Texts = dict[str, Any]
"""What a system wrote: `ids` and `beams` by study, `text` by study, seconds, tokens, peak memory."""


def held_out(data: Path, splits: Sequence[str], most: int | None) -> dict[str, list[Path]]:
    """Films of each study of the splits, of the first `most` of each."""
    annotation = json.loads((data / "annotation.json").read_text(encoding="utf-8"))
    return {
        study["id"]: [data / "images" / name for name in study["image_path"]]
        for split in splits
        for study in annotation[split][:most]
    }


def written_by(model: str, settings: dict[str, Any], studies: dict[str, list[Path]], beams: bool) -> Texts:
    """Reports by a model with settings of `r2gengpt.load`, one study at a time."""
    found: Texts = {"ids": {}, "beams": {}, "text": {}}
    seconds = streamed = tokens = 0.0
    for name, size in (("ids", 1), *([("beams", 3)] if beams else [])):
        reporter = r2gengpt.load(model, beam_size=size, **settings)
        reporter.report([FILM])  # graphs are compiled, pages are read
        for study, films in studies.items():
            words: list[float] = []
            start = time.perf_counter()
            on_text = (lambda _, words=words: words.append(time.perf_counter())) if size == 1 else None
            report = reporter.report(films, on_text=on_text)
            found[name][study] = list(report.token_ids)
            if name == "ids":
                seconds += time.perf_counter() - start
                streamed, tokens = streamed + words[-1] - words[0], tokens + len(report.token_ids) - 1
                found["text"][study] = report.text
    return finished(found, seconds, tokens / streamed)


def finished(found: Texts, seconds: float, streamed: float) -> Texts:
    tokens = sum(map(len, found["ids"].values()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**found, "seconds": seconds, "tokens": tokens, "streamed_per_s": round(streamed, 1), "peak_bytes": peak}


def agreement(first: Texts, second: Texts) -> dict[str, Any]:
    """How far two systems wrote the same; see the top of this file."""
    same = total = whole = 0
    for study, ids in first["ids"].items():
        other = second["ids"][study]
        same += sum(a == b for a, b in zip(ids, other, strict=False))
        total += max(len(ids), len(other))
        whole += ids == other
    beams = [(ids, second["beams"][study]) for study, ids in first["beams"].items()]
    same_beams = sum(x == y for a, b in beams for x, y in zip(a, b, strict=False))
    labels = label_agreement([(text, second["text"][study]) for study, text in first["text"].items()])
    return {
        "tokens": round(same / total, 4),
        "studies": round(whole / len(first["ids"]), 4),
        **({"beams": round(same_beams / sum(max(len(a), len(b)) for a, b in beams), 4)} if beams else {}),
        **labels,
    }


def label_agreement(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Share of (study, observation) pairs with the same label in both texts."""
    from r2gengpt.metrics.labels.reading import label_report

    read = [(label_report(a), label_report(b)) for a, b in pairs]
    every = [(a[name], b[name]) for a, b in read for name in a]
    return {
        "labels": round(sum(a == b for a, b in every) / len(every), 4),
        "label_changes": sum(a != b for a, b in every),
    }


def command_seconds(python: str, words: Sequence[str], repeats: int) -> float:
    """Median wall time of `r2gengpt generate` on the film."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        command = [python, "-c", PROGRAM, "generate", FILM, "--beam_size", "1", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return round(statistics.median(times[1:]), 2)


def child(system: str, options: argparse.Namespace) -> Texts:
    """What a system wrote, from a process of its own."""
    command = [sys.executable, __file__, "--system", system, "--data", str(options.data), "--splits", *options.splits]
    command += ["--beams"] if options.beams else []
    command += ["--studies", str(options.studies)] if options.studies else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: Texts = json.loads(done.stdout)
    return found


def directory_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def install(target: Path) -> dict[str, Any]:
    """Make an environment without PyTorch, as the guide says; its size without pip."""
    subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
    pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, *constraints, *EDGE_PACKAGES], check=True, stdout=sys.stderr)
    subprocess.run([*pip, str(ROOT)], check=True, stdout=sys.stderr)
    subprocess.run([*pip[:3], "uninstall", "--quiet", "--yes", "pip", "setuptools"], check=True, stdout=sys.stderr)
    packages = next((target / "lib").glob("python*/site-packages"))
    sizes = {path.name: directory_bytes(path) for path in packages.iterdir() if path.is_dir()}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:5]
    return {
        "bytes": directory_bytes(packages),
        "largest": {name: sizes[name] for name in largest},
        "torch": (packages / "torch").exists(),
    }


def measured(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All results."""
    systems = {f"torch {form}": child(f"torch:{form}", options) for form in options.torch}
    speeds = {}
    for form in options.torch:
        words = ["--model", "embedded", "--quantization", form, "--dtype", "float32"]
        speeds[f"torch {form}"] = command_seconds(sys.executable, words, options.repeats)
    sizes, installed = {}, None
    for number, form in enumerate(options.weights):
        directory, name = work / form, f"edge {form}"
        weights, _, merge = form.partition(":")
        words = ["export", "--target", "openvino", "--model", "embedded", "--weights", weights]
        words += ["--output", str(directory), *(["--merge", merge] if merge else [])]
        subprocess.run([sys.executable, "-c", PROGRAM, *words], check=True, stdout=sys.stderr)
        sizes[name] = directory_bytes(directory)
        systems[name] = child(f"edge:{directory}", options)
        speeds[name] = command_seconds(sys.executable, ["--model", str(directory)], options.repeats)
        if options.install and number == 0:
            installed = install(work / "venv")
            python = str(work / "venv" / "bin" / "python")
            installed["command_s"] = command_seconds(python, ["--model", str(directory)], options.repeats)
    results: dict[str, Any] = {}
    for name, texts in systems.items():
        others = [*(f"torch {form}" for form in options.torch), f"edge {options.weights[0]}"]
        against = {other: agreement(systems[other], texts) for other in others if other != name}
        results[name] = {
            "tokens_per_s": round(texts["tokens"] / texts["seconds"], 2),
            "streamed_per_s": texts["streamed_per_s"],
            "tokens": texts["tokens"],
            "peak_bytes": texts["peak_bytes"],
            "command_s": speeds[name],
            **({"directory_bytes": sizes[name]} if name in sizes else {}),
            "against": against,
        }
    return {"studies": len(next(iter(systems.values()))["ids"]), "systems": results, "installed": installed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("R2GENGPT_SHARED", "")
    parser.add_argument("--data", type=Path, default=Path(shared, "covid_cxr"), help="annotation.json and images/")
    parser.add_argument("--splits", nargs="+", default=["test", "val"], help="held-out splits (test val)")
    parser.add_argument("--studies", type=int, help="only so many of each split (all)")
    parser.add_argument(
        "--weights", nargs="+", default=["float32", "int8", "int4", "nf4", "nf4:True"],
        help="forms to export; FORM:True folds LoRA in, FORM:False does not (float32 int8 int4 nf4 nf4:True)",
    )  # fmt: skip
    parser.add_argument("--torch", nargs="*", default=["none", "nf4"], help="forms that PyTorch writes in (none nf4)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of the command, of which the median counts (3)")
    parser.add_argument("--install", action="store_true", help="make an environment without PyTorch and measure it")
    parser.add_argument("--beams", action="store_true", help="also with the model's own decoding, 3 beams")
    parser.add_argument("--system", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.data / "annotation.json").is_file():
        parser.error(f"--data {options.data}: no annotation.json there")
    if options.system:
        kind, _, which = options.system.partition(":")
        studies = held_out(options.data, options.splits, options.studies)
        of_torch = {"runtime": "torch", "quantization": which, "dtype": "float32"}
        model, settings = ("embedded", of_torch) if kind == "torch" else (which, {})
        print(json.dumps(written_by(model, settings, studies, options.beams)))
        return
    with tempfile.TemporaryDirectory() as work:
        results = measured(options, Path(work))
    versions = {"python": platform.python_version(), "r2gengpt": r2gengpt.__version__}
    setting = {"threads": os.environ.get("OMP_NUM_THREADS"), "cpus": os.cpu_count(), "machine": platform.machine()}
    print(json.dumps({"benchmark": "edge", "setting": setting, "versions": versions, "results": results}, indent=1))


if __name__ == "__main__":
    main()
