"""What is known of a study beside its films, as words for its prompt. No film is read here, and no tokenizer.

A model that was trained with context reads the same words when it writes: both go through `Context.words`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from r2gengpt.config import CONTEXT_FIELDS, PRIOR
from r2gengpt.errors import InputError
from r2gengpt.options import Checked
from r2gengpt.text.prompt import IMAGE_PLACEHOLDER

UNTRAINED = ("indication",)
"""What stands in the prompt of a model that was trained without context."""
LONGEST_PRIOR = 1000
"""Characters of the report of an earlier study."""
LONGEST = 400
"""Characters of one field; a longer text ends at a word before."""
MOST_YEARS = 130
MOST_DAYS = 50_000
YEARS = 2.0
"""An age below this has one decimal place."""


@dataclass(frozen=True)
class Context(Checked):
    """What is known of a study beside its films; empty, or None, where nothing is.

    `age` is in years, `sex` M or F, `view` the views of its films as "PA, LATERAL". `prior` is the report of the
    patient's study before, `prior_days` how many days before. Nothing of it is in the repr.

    Raises:
        InputError: a field of another type, or out of its range.
    """

    indication: str = field(default="", repr=False)
    technique: str = field(default="", repr=False)
    comparison: str = field(default="", repr=False)
    age: float | None = field(default=None, repr=False, metadata={"low": 0, "high": MOST_YEARS})
    sex: str = field(default="", repr=False, metadata={"choices": ("", "M", "F")})
    view: str = field(default="", repr=False)
    prior: str = field(default="", repr=False)
    prior_days: float | None = field(default=None, repr=False, metadata={"low": 0, "high": MOST_DAYS})

    def __bool__(self) -> bool:
        return self != NO_CONTEXT

    @property
    def present(self) -> tuple[str, ...]:
        """The fields that there are, in the order of `CONTEXT_FIELDS`; then `PRIOR` where there is anything of one."""
        found = tuple(name for name in CONTEXT_FIELDS if self._text(name))
        return (*found, PRIOR) if self._before() else found

    def words(self, names: Sequence[str] = CONTEXT_FIELDS) -> str:
        """The fields of these names that there are, a sentence each; empty where there are none.

        >>> Context(indication="Cough", age=63.0, sex="F").words()
        'Age: 63. Sex: F. Indication: Cough.'
        """
        sentences = [
            f"{name.capitalize()}: {shortened(text).rstrip('.')}."
            for name in CONTEXT_FIELDS
            if name in names and (text := self._text(name))
        ]
        return " ".join([*sentences, *([self._before()] if PRIOR in names and self._before() else [])])

    def _before(self) -> str:
        """The earlier study as words; empty where there is nothing of one.

        >>> Context(prior="Clear lungs.", prior_days=41.0)._before()
        'Prior report, 41 days before: Clear lungs.'
        """
        text = shortened(plain(self.prior), LONGEST_PRIOR).rstrip(".")
        if self.prior_days is None:
            return f"Prior report: {text}." if text else ""
        days = f"{self.prior_days:.0f}"
        when = {"0": "of the same day", "1": "1 day before"}.get(days, f"{days} days before")
        return f"Prior report, {when}: {text}." if text else f"Prior study: {when}."

    def only(self, names: Sequence[str]) -> "Context":
        """The same with nothing but the fields of these names."""
        known = [*names, "prior_days"] if PRIOR in names else names
        return Context(**{name: getattr(self, name) for name in known})

    def over(self, other: "Context") -> "Context":
        """The same, with the other's fields where this one has none."""
        return replace(other, **{f.name: getattr(self, f.name) for f in fields(self) if self._text(f.name)})

    def _text(self, name: str) -> str:
        """A field as words; empty where there is none."""
        value = getattr(self, name)
        if isinstance(value, float | int):
            return f"{value:.0f}" if value >= YEARS else f"{value:.1f}"
        return "" if value is None else plain(value)


NO_CONTEXT = Context()


def check_context(context: object) -> None:
    """Refuse what is no context.

    Raises:
        InputError: so it is.
    """
    if not isinstance(context, Context):
        words = f"context: is of type {type(context).__name__}, must be a Context, as Context(indication=…)"
        raise InputError(words, field="context")


def age_in(text: str) -> float | None:
    """An age that somebody typed, in years; None of an empty text.

    >>> age_in(" 63 "), age_in("0.5"), age_in("")
    (63.0, 0.5, None)

    Raises:
        InputError: no number from 0 to `MOST_YEARS`.
    """
    return _number_in(text, "years", MOST_YEARS, field="age")


def days_in(text: str) -> float | None:
    """A number of days that somebody typed; None of an empty text.

    >>> days_in("41"), days_in("")
    (41.0, None)

    Raises:
        InputError: no number from 0 to `MOST_DAYS`.
    """
    return _number_in(text, "days", MOST_DAYS, field="prior_days")


def _number_in(text: str, unit: str, most: int, *, field: str) -> float | None:
    if not text.strip():
        return None
    known = text.strip() if re.fullmatch(r"\s*[0-9]{1,6}(\.[0-9]{1,3})?\s*", text) else "inf"
    if float(known) > most:
        raise InputError(f"must be a number of {unit} from 0 to {most}", field=field, value=text[:20])
    return float(known)


def sex_in(text: str) -> str:
    """A sex that somebody typed: M, F or empty.

    >>> sex_in("f"), sex_in("")
    ('F', '')

    Raises:
        InputError: something else.
    """
    sex = text.strip().upper()
    if sex not in ("M", "F", ""):
        raise InputError("must be M or F", field="sex", value=text[:20])
    return sex


def plain(text: str) -> str:
    """A text in one line, without the image's place.

    >>> plain(" Cough,\\n<ImageHere> fever ")
    'Cough, fever'
    """
    return " ".join(text.replace(IMAGE_PLACEHOLDER, " ").split())


def shortened(text: str, most: int = LONGEST) -> str:
    """A text of at most so many characters, which ends with a whole word.

    >>> shortened("cough and fever", 11)
    'cough and'
    """
    return text if len(text) <= most else text[: most + 1].rpartition(" ")[0] or text[:most]


def instruction_for(context: Context, own: str, names: Sequence[str] = ()) -> str | None:
    """The prompt's instruction for a study; None, the model's own, where nothing is to be added.

    Args:
        context: what is known of the study.
        own: the model's instruction.
        names: the fields that the model was trained with; none: an indication stands there as it is.

    >>> instruction_for(Context(indication="Cough", age=63.0), "Describe.")
    'Describe. Indication: Cough'
    >>> instruction_for(Context(indication="Cough", age=63.0), "Describe.", ("age", "indication"))
    'Describe. Age: 63. Indication: Cough.'
    """
    if not names:
        indication = context.indication.replace(IMAGE_PLACEHOLDER, " ")
        return f"{own} Indication: {indication}" if indication.strip() else None
    words = context.words(names)
    return f"{own} {words}" if words else None
