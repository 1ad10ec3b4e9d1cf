"""Short reports composed from labels: what is present, suspected and absent, in varied sentences. Never the unknown.

The same film has the same words in every run. The rule labeller reads a composed report as `stated` has it.
"""

import random
from collections.abc import Mapping, Sequence

from r2gengpt.data.prepare import wordings
from r2gengpt.data.prepare.places import Place
from r2gengpt.metrics.labels.reading import THERE, Label
from r2gengpt.text.observations import CHILD, LATERAL_VIEW, NO_FINDING, SUPPORT_DEVICES

PRESENT_FROM, SUSPECTED_FROM, ABSENT_TO = 0.95, 0.75, 0.05
"""How likely an observation is where a report says that it is there, that it is suspected, that it is not there."""
OPACITIES = ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Fibrosis")
"""Findings that are opacities themselves: beside one, a report does not deny opacity, whatever its label.

Source: Irvin et al. 2019, "CheXpert" (arXiv 1901.07031), figure 1: the hierarchy of observations.
"""
LUNGS = ("Lung Opacity", "Consolidation", "Pneumonia", "Edema", "Atelectasis", "Lung Lesion", "Emphysema", "Fibrosis")
CHEST = ("Pleural Effusion", "Pneumothorax", "Pleural Other", "Hernia", "Fracture", "Enlarged Cardiomediastinum")
"""The order in which lists of what is absent go on, the lungs first."""
PLEURAL = ("Pleural Effusion", "Pneumothorax", "Pleural Other")
SENTENCES = 5
"""Most of a report."""


def stated(labels: Mapping[str, float]) -> dict[str, Label]:
    """What a report composed from the labels says of each observation that it mentions; of No Finding nothing.

    It follows the labels but for three things. Opacity is not denied beside a finding of its kind. It is said beside a
    pneumonia where nobody labelled it. A normal film has clear lungs without consolidation, whoever labelled it.

    >>> stated({"No Finding": 1, "Pneumonia": 0})["Consolidation"].value
    'negative'
    """
    said = {name: label for name in wordings.PRESENT if (label := _label(labels.get(name))) is not None}
    if is_normal(labels):
        said = {"Lung Opacity": Label.NEGATIVE, "Consolidation": Label.NEGATIVE} | said
    if said.get("Pneumonia") == Label.POSITIVE and "Lung Opacity" not in labels:
        said["Lung Opacity"] = Label.POSITIVE
    elif said.get("Lung Opacity") == Label.NEGATIVE and any(said.get(name) in THERE for name in OPACITIES):
        del said["Lung Opacity"]
    return said


def _label(value: float | None) -> Label | None:
    if value is None or ABSENT_TO < value < SUSPECTED_FROM:
        return None
    if value <= ABSENT_TO:
        return Label.NEGATIVE
    return Label.POSITIVE if value >= PRESENT_FROM else Label.UNCERTAIN


def is_normal(labels: Mapping[str, float]) -> bool:
    """Whether the film is labelled as one without a finding, and nothing else that is there contradicts it."""
    findings = (value for name, value in labels.items() if name in wordings.PRESENT and name != SUPPORT_DEVICES)
    return labels.get(NO_FINDING, 0) >= PRESENT_FROM and all(value < SUSPECTED_FROM for value in findings)


def compose_report(labels: Mapping[str, float], key: str, places: Mapping[str, Place] | None = None) -> str:
    """A report of 1 to 5 sentences; empty where nothing is known that it could say.

    Args:
        labels: what is known of the film.
        key: decides the wordings, as the study's id does.
        places: where findings lie, of those for which it is known.
    """
    rng, said = random.Random(key), stated(labels)
    there, doubted, absent = (
        [name for name, its in said.items() if its == label]
        for label in (Label.POSITIVE, Label.UNCERTAIN, Label.NEGATIVE)
    )
    if not said and labels.get(NO_FINDING, 1) > ABSENT_TO:
        return ""
    text = _opening(labels, is_told=bool(there or doubted), rng=rng)
    room = SENTENCES - len(text) - bool(doubted) - bool(absent)
    text += _told(there, labels, places or {}, min(2, room), rng)
    if doubted:
        text.append(_filled(wordings.SUSPECTED_FRAMES, [wordings.BARE[name][0] for name in doubted], rng))
    is_opaque = any(name in LUNGS for name in (*there, *doubted))
    text += _denied(absent, SENTENCES - len(text), clear=not is_opaque, rng=rng)
    if len(text) < SENTENCES:
        text += _not_assessed(labels, rng)
    return " ".join(text)


def _opening(labels: Mapping[str, float], *, is_told: bool, rng: random.Random) -> list[str]:
    """What kind of film it is: of a child, lateral, normal (now and then), abnormal where nothing else says so."""
    kinds = [
        word for word, name in (("lateral", LATERAL_VIEW), ("child", CHILD)) if labels.get(name, 0) >= PRESENT_FROM
    ]
    kind = " ".join(kinds)
    if labels.get(NO_FINDING, 1) <= ABSENT_TO and not is_told:
        kind = "abnormal"
    elif not kind and is_normal(labels) and rng.random() < 1 / 3:
        kind = "normal"
    return [rng.choice(wordings.OPENINGS[kind])] if kind else []


def _told(
    names: Sequence[str], labels: Mapping[str, float], places: Mapping[str, Place], most: int, rng: random.Random
) -> list[str]:
    """What is there, in one sentence or two; an opacity and a pneumonia of one place may be one finding."""
    found: list[list[str]] = []
    rest = list(names)
    pair = ("Lung Opacity", "Pneumonia")
    ones = {places[name] for name in pair if name in places}
    joins = "Lung Opacity" not in labels or (most > 1 and rng.random() < 0.6)
    if set(pair) <= set(names) and len(ones) < 2 and joins:
        found.append([_placed(wordings.PNEUMONIC_OPACITY, "Pneumonia", next(iter(ones), None), rng)])
        rest = [name for name in names if name not in pair]
    nouns = [_placed(wordings.PRESENT[name], name, places.get(name), rng) for name in rest]
    half = (len(nouns) + 1) // 2 if not found and most > 1 and len(nouns) > 1 else len(nouns)
    found += [part for part in (nouns[:half], nouns[half:]) if part]
    frames = rng.sample(range(len(wordings.FRAMES)), len(found))  # no report begins two sentences alike
    return [_filled(_frames(part)[frame : frame + 1], part, rng) for part, frame in zip(found, frames, strict=True)]


def _placed(nouns: Sequence[str], name: str, place: Place | None, rng: random.Random) -> str:
    """A wording of a finding, with its place where it is known."""
    if place is None or name not in (*LUNGS, *PLEURAL):
        return rng.choice(nouns)
    if place.side == "both":  # "an opacity" is not in both lungs
        nouns = [noun for noun in nouns if not noun.startswith(("a ", "an "))] or wordings.BOTH_SIDES[name]
    zone = f"{place.zone} " if place.zone else ""
    if name in PLEURAL:
        where = "on both sides" if place.side == "both" else f"on the {place.side}"
    else:
        where = f"in both {zone}lungs" if place.side == "both" else f"in the {place.side} {zone}lung"
    return f"{rng.choice(nouns)} {where}"


def _frames(nouns: Sequence[str]) -> Sequence[str]:
    if wordings.SEVERAL.match(nouns[0]):
        return wordings.PLURAL_FRAMES
    return wordings.FRAMES if len(nouns) == 1 else wordings.LIST_FRAMES


def _denied(names: Sequence[str], room: int, *, clear: bool, rng: random.Random) -> list[str]:
    """What is absent, in at most so many sentences: heart and lungs by themselves where there is room, then lists."""
    left = [name for name in (*LUNGS, "Cardiomegaly", *CHEST, SUPPORT_DEVICES) if name in names]
    alone: list[str] = []
    for name, sentences in (("Lung Opacity", wordings.CLEAR_LUNGS), ("Cardiomegaly", wordings.NORMAL_HEART)):
        if name in left and (clear or name != "Lung Opacity") and (room - len(alone) > 1 or len(left) == 1):
            alone.append(rng.choice(sentences))
            left.remove(name)
    if rng.random() < 0.5:
        alone.reverse()
    lists = [[name for name in left if name in LUNGS], [name for name in left if name not in LUNGS]]
    parts = [left] if room - len(alone) < 2 else lists
    frames = rng.sample(wordings.ABSENT_FRAMES, len(parts))
    return alone + [
        _filled([frame], [rng.choice(wordings.BARE[name]) for name in part], rng, "or")
        for part, frame in zip(parts, frames, strict=True)
        if part
    ]


def _not_assessed(labels: Mapping[str, float], rng: random.Random) -> list[str]:
    """That nobody has looked at heart and pleura, where a source labels neither of them."""
    if any(name in labels for name in wordings.NOT_ASSESSED):
        return []
    return [_filled(wordings.NOT_ASSESSED_FRAMES, [rng.choice(words) for words in wordings.NOT_ASSESSED.values()], rng)]


def _filled(frames: Sequence[str], nouns: Sequence[str], rng: random.Random, link: str = "and") -> str:
    """A sentence of a list of nouns.

    >>> _filled(["No {}."], ["edema", "fracture", "pneumonia"], random.Random(0), "or")
    'No edema, fracture or pneumonia.'
    """
    listed = f" {link} ".join(filter(None, (", ".join(nouns[:-1]), nouns[-1])))
    sentence = rng.choice(frames).format(listed)
    return sentence[0].upper() + sentence[1:]
