"""What DICOM headers tell of a study beside its films. Reads no file."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from r2gengpt.config import PRIOR
from r2gengpt.errors import InputError
from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.films.film import IDENTITY
from r2gengpt.text.context import MOST_DAYS, MOST_YEARS, Context

IN_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
"""The units of Patient's Age. Source: DICOM PS3.5, section 6.2, AS."""


def context_of(headers: Sequence[DicomHeader | None]) -> Context:
    """What is known of a study by its films' headers; of each field, what the first film with one has.

    The comparison is in no header.
    """
    known = [header for header in headers if header is not None]
    ages = [age for header in known if (age := age_of(header)) is not None]
    return Context(
        indication=next((header.reason for header in known if header.reason.strip()), ""),
        technique=next((header.study_description for header in known if header.study_description.strip()), ""),
        age=ages[0] if ages else None,
        sex=next((header.sex for header in known if header.sex in ("M", "F")), ""),
        view=", ".join(dict.fromkeys(header.view for header in known if header.view)),
    )


def since(context: Context, headers: Sequence[DicomHeader | None], earlier: Sequence[DicomHeader | None]) -> Context:
    """A context with the days since an earlier study, by the films' headers where it does not tell.

    Args:
        context: of the study.
        headers: of its films.
        earlier: of the films before.

    Raises:
        InputError: these are of another patient, of the same study, or of a later one.
    """
    check_prior(headers, earlier)
    if context.prior_days is not None:
        return context
    return replace(context, prior_days=days_between(headers, earlier))


def check_prior(headers: Sequence[DicomHeader | None], earlier: Sequence[DicomHeader | None]) -> None:
    """Refuse films as those of an earlier study that are of another patient, of the study itself, or of a later one.

    Raises:
        InputError: so it is, by their headers; no value of theirs is named.
    """
    pairs = [(one, other) for one in headers if one is not None for other in earlier if other is not None]
    for one, other in pairs:
        for why, value_of in (*IDENTITY[:-1], ("", lambda header: header.study_uid)):
            mine, theirs = value_of(one), value_of(other)
            if mine and theirs and (mine != theirs) == bool(why):
                raise InputError(f"study and prior {why or 'are one study'}", field=PRIOR)
    days = days_between(headers, earlier)
    if days is not None and days < 0:
        raise InputError("is later than the study", field=PRIOR)


def days_between(headers: Sequence[DicomHeader | None], earlier: Sequence[DicomHeader | None]) -> float | None:
    """Days from an earlier study to a study, by the first date of each.

    None where one has none, or where they are more than a context may have: one is no date, but stands for none.
    """
    dates = [
        [found for header in several if header is not None and (found := date_in(header.study_date)) is not None]
        for several in (earlier, headers)
    ]
    days = float((dates[1][0] - dates[0][0]).days) if all(dates) else None
    return None if days is not None and days > MOST_DAYS else days


def age_of(header: DicomHeader) -> float | None:
    """The patient's age in years when the film was taken: as the header has it, or by the date of birth.

    One above `MOST_YEARS`, as 999Y, stands for none.
    """
    found = re.fullmatch(r"(\d{3})([DWMY])", header.age)
    if found is not None and (years := int(found[1]) * IN_YEARS[found[2]]) <= MOST_YEARS:
        return years
    born, taken = date_in(header.birth_date), date_in(header.study_date)
    if born is None or taken is None:
        return None
    years = (taken - born).days / 365.25
    return years if 0 <= years <= MOST_YEARS else None


def date_in(text: str) -> date | None:
    """A date of the form YYYYMMDD; None of anything else.

    >>> date_in("20240229"), date_in("20230229"), date_in("")
    (datetime.date(2024, 2, 29), None, None)
    """
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:])) if re.fullmatch(r"\d{8}", text) else None
    except ValueError:
        return None
