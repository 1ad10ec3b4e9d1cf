"""What the labels of a collection of films say, and of what they are silent: one rule a source. Reads no film.

What a source does not label is unknown, never absent: Kermany's children are normal or have pneumonia, and whether
there is an effusion nobody has said. A patient's diagnosis is not what the film shows either: where COVID-19 is proven,
pneumonia is likely on the film, and no more than that.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2gengpt.data.labels import NIH_NAMES, Labels, is_number, observation_named, read_labels
from r2gengpt.data.strict import plain, read_json_object
from r2gengpt.errors import InputError
from r2gengpt.options import nearest
from r2gengpt.text.observations import AP_VIEW, CHILD, LATERAL_VIEW, NO_FINDING, OF_THE_FILM, SUPPORT_DEVICES

NIH14 = (
    *{*NIH_NAMES.values(), "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pneumonia", "Pneumothorax"},
    *("Emphysema", "Fibrosis", "Hernia", NO_FINDING),
)
"""The observations behind ChestX-ray14's 14 labels (two of them are lung lesions), and No Finding."""
NO_ABNORMALITY = (*OF_THE_FILM, SUPPORT_DEVICES)
"""Labels beside which a film may be one without a finding."""
CHILD_BELOW = 16
"""Years."""
_INFECTION = {"Pneumonia": 0.9, NO_FINDING: 0.1}
_NORMAL = {NO_FINDING: 1.0, "Pneumonia": 0.0}
_PNEUMONIA = {NO_FINDING: 0.0, "Pneumonia": 1.0}
_ARDS = {"Lung Opacity": 1.0, NO_FINDING: 0.0}
_CLEAR = re.compile(
    r"no thoracic abnormal|normal (?:appearances|examination|study|chest)|nearly normal|within the limits of the norm"
    r"|no significant findings|pristine|(?:lungs|spaces) (?:are )?clear|unremarkable chest"
    r"|(?<!\w)no collapse or consolidation|(?<!high-)(?<!high )resol",
    re.IGNORECASE,
)
"""A note that calls the film clear, or the disease gone."""


@dataclass(frozen=True)
class SourceRule:
    """What the labels of one source say.

    `known`: observations that the source labels on every film; what a row does not name of them is absent.
    `meanings`: a word of the source, by its plain name → what it says; observations' own names (and NIH's) need none.
    `otherwise`: what any other word says, a diagnosis, unless the note calls the film clear; None refuses such a word.
    `always`: what holds of every film of the source. `never`: observations that stay unknown whatever a row says.
    `box_size`: width and height of the films that boxes are measured on, in pixels; None: the row's own.
    """

    known: tuple[str, ...] = ()
    meanings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    otherwise: Mapping[str, float] | None = None
    always: Mapping[str, float] = field(default_factory=dict)
    never: tuple[str, ...] = ()
    box_size: float | None = None


_PROVEN = SourceRule(
    meanings={"no_finding": _NORMAL, "ards": _ARDS, "covid_19,_ards": _ARDS, "todo": {}}, otherwise=_INFECTION
)
KNOWN_SOURCES: Mapping[str, SourceRule] = {
    "nih14": SourceRule(known=NIH14, box_size=1024),
    "kermany": SourceRule(
        meanings={"normal": _NORMAL, "bacterial_pneumonia": _PNEUMONIA, "viral_pneumonia": _PNEUMONIA},
        always={CHILD: 1.0},
        never=(AP_VIEW,),  # all of its films are AP: nothing to learn but the source
    ),
    "hannover": _PROVEN,
    "covid_clean": _PROVEN,
}
"""Source → its rule. Of a source that is not here, labels are observations' names and nothing else is known."""
_PLAIN = SourceRule()


def film_labels(
    words: Sequence[str], rule: SourceRule, where: str, *, note: str = "", view: str = "", age: float | None = None
) -> Labels:
    """What is known of a film.

    Args:
        words: the row's labels.
        rule: its source's.
        where: begins errors.
        note: what was written of it.
        view: PA, AP, LATERAL, or anything else where it is unknown.
        age: the patient's, in years.

    Raises:
        InputError: a word that the source's rule does not know.
    """
    values: dict[str, float] = dict.fromkeys(rule.known, 0.0) if words else {}
    said: dict[str, list[float]] = {}
    for word in words:
        for name, value in _meaning(word, rule, where, note).items():
            said.setdefault(name, []).append(value)
    values |= {name: min(items) if name == NO_FINDING else max(items) for name, items in said.items()}
    values |= film_facts(view, age) | dict(rule.always)
    return Labels({name: value for name, value in values.items() if name not in rule.never})


def _meaning(word: str, rule: SourceRule, where: str, note: str) -> Mapping[str, float]:
    if (meaning := rule.meanings.get(plain(word))) is not None:
        return meaning
    if rule.otherwise is not None:
        return {} if _CLEAR.search(note) else rule.otherwise
    name = observation_named(word, where, (known.replace("_", " ") for known in rule.meanings))
    return {name: 1.0} if name in NO_ABNORMALITY else {NO_FINDING: 0.0, name: 1.0}


def film_facts(view: str, age: float | None) -> dict[str, float]:
    """What a view and an age in years say as labels; nothing where they are unknown."""
    return _of_view(view) | ({} if age is None else {CHILD: float(age < CHILD_BELOW)})


def _of_view(view: str) -> dict[str, float]:
    if view == "LATERAL":
        return {LATERAL_VIEW: 1.0}
    return {LATERAL_VIEW: 0.0, AP_VIEW: float(view == "AP")} if view in ("PA", "AP") else {}


def read_rules(path: Path) -> Mapping[str, SourceRule]:
    """Rules of further sources, over those that are known, from a JSON file of `{SOURCE: {"known": [..], ..}}`.

    Raises:
        InputError: it cannot be read, or holds what is no rule.
    """
    where = f"`rules` {path}"
    return {**KNOWN_SOURCES, **{name: _rule(value, f"{where}: {name}") for name, value in _objects(path, where)}}


def _objects(path: Path, where: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for name, value in read_json_object(path, where).items():
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: {name} must be an object")
        yield name, value


def _rule(value: Mapping[str, Any], where: str) -> SourceRule:
    parts = ("known", "meanings", "otherwise", "always", "never", "box_size")
    if strange := [key for key in value if key not in parts]:
        raise InputError(f"{where}: no part of a rule is called {strange[0]}{nearest(strange[0], parts)}")
    meanings = value.get("meanings", {})
    if not isinstance(meanings, Mapping):
        raise InputError(f"{where}: meanings must be an object")
    size = value.get("box_size")
    if size is not None and not (is_number(size) and size > 0):
        raise InputError(f"{where}: box_size is {size!r}, must be a number of pixels above 0")
    return SourceRule(
        known=_names(value, "known", where),
        meanings={plain(word): read_labels(item, f"{where}: {word}") for word, item in meanings.items()},
        otherwise=read_labels(value["otherwise"], where) if "otherwise" in value else None,
        always=read_labels(value.get("always"), where),
        never=_names(value, "never", where),
        box_size=size,
    )


def _names(value: Mapping[str, Any], part: str, where: str) -> tuple[str, ...]:
    names = value.get(part, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{where}: {part} must be a list of observations")
    return tuple(observation_named(name, where) for name in names)


def rule_of(source: str, rules: Mapping[str, SourceRule]) -> SourceRule:
    """The rule of a source; of one without, labels are observations' names and nothing else is known."""
    return rules.get(source, _PLAIN)
