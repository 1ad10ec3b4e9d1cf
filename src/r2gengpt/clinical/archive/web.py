"""DICOMweb: the chest films and the reports of a study from a server (QIDO-RS, WADO-RS). Sends nothing, judges nothing.

Needs dicomweb-client (extra `pacs`). Errors name the server and the status, never what it sent.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import requests
from pydicom import Dataset

from r2gengpt.clinical.archive.dicom_json import is_uid
from r2gengpt.clinical.archive.earlier_report import MODALITY
from r2gengpt.clinical.archive.exchange import Doubtful, TooLarge
from r2gengpt.clinical.archive.films import TWO_PATIENTS, checked_film, order_of, reason_of
from r2gengpt.clinical.archive.server import SECONDS, NotMultipart, Server, connect, parts_of
from r2gengpt.clinical.archive.stow import stow
from r2gengpt.clinical.archive.tls import why_unreached
from r2gengpt.clinical.documents.draft import images_to_send
from r2gengpt.errors import InputError, RunError, one_line
from r2gengpt.films.dicom.header import MODALITIES, DicomHeader
from r2gengpt.films.film import MIXED_WORDS, contradiction

__all__ = ["chest_films", "connect", "pull", "stow"]
log = logging.getLogger("r2gengpt.clinical.archive")
KEYS = "`user` and `password_file` or R2GENGPT_DICOMWEB_PASSWORD"
MOST_SERIES = 100
"""Of a study that are asked for."""
DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def pull(server: Server, study: str) -> list[bytes]:
    """The films of a study, each as a DICOM file, as the server stores them; only CR, DX and DR are asked for.

    Raises:
        InputError: no such study, none with films, or no access.
        RunError: the server cannot be reached, or its answer cannot be used.
    """
    url = server.base_url
    if not is_uid(study):
        raise InputError("must be a UID, of digits and dots", field="study", value=study)
    series = _series_of(server, study)
    if not series:
        raise InputError(f"{url} has no such study", field="study", value=study)
    films = _instances(server, study, [uid for kind, uid in series if kind in MODALITIES])
    if not films:
        only = one_line(", ".join(sorted({kind for kind, _ in series})))[:80]
        raise InputError(f"has no {', '.join(MODALITIES)} images, only {only}", field="study", value=study)
    return films


def pull_reports(server: Server, study: str) -> list[bytes]:
    """The structured reports of a study whose UID is one, each as a DICOM file; none where it has none.

    Raises:
        InputError, RunError: as `pull`.
    """
    return _instances(server, study, [uid for kind, uid in _series_of(server, study) if kind == MODALITY])


def _series_of(server: Server, study: str) -> list[tuple[str, str]]:
    """Modality and UID of each series of a study; texts are empty where the server does not tell.

    Raises:
        InputError, RunError: see `explained`.
    """
    try:
        series = [Dataset.from_json(one) for one in server.search_for_series(study)]
        return [(str(one.get("Modality") or ""), str(one.get("SeriesInstanceUID") or "")) for one in series]
    except Exception as error:  # of a library, from what the server sent
        raise explained(error, server.base_url, study) from None


def _instances(server: Server, study: str, series: Sequence[str]) -> list[bytes]:
    """The instances of these series.

    Raises:
        InputError, RunError: there are too many, or they cannot be had.
    """
    url = server.base_url
    if len(series) > MOST_SERIES or not all(map(is_uid, series)):
        raise RunError(f"`url` {url}: lists more than {MOST_SERIES} series of films, or one without a UID")
    found: list[bytes] = []
    for one in series:
        try:
            found += _instances_of(server, f"{url}/studies/{study}/series/{one}")
        except (requests.exceptions.RequestException, NotMultipart) as error:
            raise explained(error, url, study) from None
        if sum(map(len, found)) > server.session.most_bytes:
            raise RunError(f"`url` {url}: sends more than {server.session.most_bytes} bytes (`max_bytes`)")
    return found


def _instances_of(server: Server, url: str) -> list[bytes]:
    """The instances of a series.

    Raises:
        requests.exceptions.RequestException: no answer.
        NotMultipart: an answer that is none of the standard's, or is cut off.
    """
    response = server.session.get(url, headers={"Accept": DICOM}, timeout=SECONDS)
    response.raise_for_status()
    return parts_of(response.content, response.headers.get("Content-Type", ""))


def chest_films(
    films: Sequence[bytes], study: str, most: int, *, mixed: bool = False
) -> list[tuple[bytes, DicomHeader]]:
    """Those that are chest films and can be decoded, with their headers, in the order of their series and numbers.

    The same bytes count once, and so do films whose headers do not differ.

    Raises:
        InputError: none is, there are too many, or they are of two patients and not `mixed`; with the first reason why
            one is not used.
        RunError: one is of another study than was asked for.
    """
    found: list[tuple[bytes, DicomHeader]] = []
    reasons: list[str] = []
    for data in dict.fromkeys(films):
        try:
            header = checked_film(data)
            images_to_send([Path("film")], [header], field="image", value="film")
        except InputError as error:
            reasons.append(reason_of(error))
            log.warning("a film of the study is left out: %s", reasons[-1])
            continue
        if header not in (one for _, one in found):
            found.append((data, header))
    if not found:
        raise InputError(f"none of its {len(films)} images can be used: {reasons[0]}", field="study", value=study)
    if len(found) > most:
        raise InputError(f"has {len(found)} films: at most {most} (`max_images`)", field="study", value=study)
    if any(header.study_uid != study for _, header in found):
        raise RunError("the server sent films of another study than `study`")
    if not mixed and contradiction([header for _, header in found]) is not None:
        raise InputError(f"{TWO_PATIENTS}{MIXED_WORDS}", field="study", value=study)
    return sorted(found, key=lambda one: order_of(one[1]))


def explained(error: Exception, url: str, study: str) -> Exception:
    """A failed request as the one line that its user needs."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return InputError(f"refuses us ({status}): {KEYS}", field="url", value=url)
    if status == 404:
        return InputError(f"{url} has no such study, or is no DICOMweb service (404)", field="study", value=study)
    if status is not None:
        return RunError(f"`url` {url}: answers with status {status}")
    if isinstance(error, TooLarge):
        return RunError(f"`url` {url}: {error} (`max_bytes`)")
    if isinstance(error, Doubtful | NotMultipart):
        return RunError(f"`url` {url}: {error}")
    if isinstance(error, requests.exceptions.SSLError):
        return InputError(f"cannot be reached ({why_unreached(error)}): see `ca_file`", field="url", value=url)
    if isinstance(error, requests.exceptions.RequestException) and not isinstance(error, ValueError):
        return RunError(f"`url` {url}: cannot be reached ({why_unreached(error)})")
    return RunError(f"`url` {url}: its answer cannot be read ({type(error).__name__})")
