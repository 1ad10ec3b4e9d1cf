"""What a draft's answer holds for a verdict on it: its facts, sealed. Names no patient, and keeps nothing."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from r2gengpt.errors import one_line
from r2gengpt.films.context import age_of
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import Pixels
from r2gengpt.provenance import Source
from r2gengpt.serving.served import ServedModel
from r2gengpt.verdicts.receipt import pseudonym, seal
from r2gengpt.verdicts.record import HEAD, DraftFacts, age_band, band_of
from r2gengpt.version import __version__

if TYPE_CHECKING:
    from r2gengpt.verdicts.store import VerdictStore

LONGEST = 64
"""Signs of what a film says of its view and its device."""


def film_features(pixels: Pixels, sources: Sequence[Source]) -> dict[str, float]:
    """A study's films in a few numbers, by which a change of films shows.

    Args:
        pixels: as the model gets them, (V, 3, H, W), float32; grey levels are in the processor's units.
        sources: the files; size and shape are those of the first as it is seen.
    """
    grey = pixels.mean(axis=1)
    low, high = np.percentile(grey, (5, 95))
    edges = np.abs(np.diff(grey, axis=1)).mean() + np.abs(np.diff(grey, axis=2)).mean()
    width, height = sources[0].upright
    found = {
        "brightness": grey.mean(),
        "contrast": grey.std(),
        "darkest 5 %": low,
        "brightest 5 %": high,
        "sharpness": edges,
        "pixels, millions": width * height / 1e6,
        "width over height": width / max(height, 1),
        "films": len(sources),
    }
    return {name: round(float(value), 4) for name, value in found.items() if math.isfinite(value)}


def age_in_band(header: DicomHeader) -> str:
    """The band of a patient's age, by the dates of birth and film, else as the film tells it; empty where unknown."""
    years = age_of(header)
    return age_band(header.birth_date, header.study_date) or ("" if years is None else band_of(years))


def receipt_of(
    store: "VerdictStore | None",
    reporter: ServedModel,
    sources: Sequence[Source],
    seen: Mapping[str, float],
    found: Mapping[str, Any],
) -> dict[str, str]:
    """The receipt of a draft, as a part of its answer; nothing where no verdicts are kept.

    Args:
        store: of verdicts.
        reporter: the model.
        sources: the films.
        seen: their numbers.
        found: the answer so far.
    """
    if store is None:
        return {}
    headers = [source.header for source in sources if source.header is not None]
    first = headers[0] if headers else None
    owner = next((header for header in headers if header.patient_id), None)
    head = {HEAD + finding["name"]: finding["probability"] for finding in found.get("film_findings", ())}
    facts = DraftFacts(
        id=found["id"],
        created=found["created"],
        text=found["findings"],
        model=reporter.name,
        model_sha256=reporter.origin.model_sha256,
        delta_sha256=reporter.origin.delta_sha256,
        version=__version__,
        films=tuple(source.sha256 for source in sources),
        patient=pseudonym(f"{owner.issuer}\0{owner.patient_id}", store.key) if owner else "",
        age=next(filter(None, map(age_in_band, headers)), ""),
        sex=next((header.sex for header in headers if header.sex), ""),
        view=one_line(first.view_name)[:LONGEST] if first else "",
        device=one_line(first.device)[:LONGEST] if first else "",
        features={**seen, **head},
        needs_review=bool(found.get("review")) or any(one["needs_review"] for one in found["sentences"]),
    )
    return {"receipt": seal(facts, store.key)}
