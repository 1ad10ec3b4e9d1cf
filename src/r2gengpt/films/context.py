"""What DICOM headers tell of a study beside its films. Reads no file."""

import re
from collections.abc import Sequence
from datetime import date

from r2gengpt.films.dicom.header import DicomHeader
from r2gengpt.text.context import MOST_YEARS, Context

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


def age_of(header: DicomHeader) -> float | None:
    """The patient's age in years when the film was taken: as the header has it, or by the date of birth."""
    found = re.fullmatch(r"(\d{3})([DWMY])", header.age)
    if found is not None:
        return int(found[1]) * IN_YEARS[found[2]]
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
