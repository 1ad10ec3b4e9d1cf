"""DICOMweb: the chest films of a study from a server (QIDO-RS, WADO-RS), a report to it (STOW-RS). Judges no picture.

Needs dicomweb-client (extra `pacs`). Errors name the server and the status, never what it sent.
"""

import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.config import disable_value_validation

from r2gengpt.archive.films import TWO_PATIENTS, checked_film, order_of, reason_of
from r2gengpt.archive.loop import NotNow, Refused, Send
from r2gengpt.data.dicom_header import MODALITIES, DicomHeader, silence_pydicom
from r2gengpt.data.dicom_study import MIXED_WORDS, contradiction
from r2gengpt.errors import InputError, RunError
from r2gengpt.serving.draft import images_to_send

log = logging.getLogger("r2gengpt.archive")
SECONDS = (10.0, 60.0)
"""To connect, and to wait for the next bytes."""
KEYS = "--user and --password_file or R2GENGPT_DICOMWEB_PASSWORD"


class TooLarge(Exception):
    """The server sends more than was allowed."""


def connect(
    url: str,
    user: str | None = None,
    password: str | None = None,
    ca_file: str | None = None,
    most_bytes: int = 2**30,
    flag: str = "--url",
) -> DICOMwebClient:
    """A client; nothing is asked yet.

    Args:
        url: of the DICOMweb service, as http://host:8042/dicom-web.
        user: its name for us, or None.
        password: with it.
        ca_file: certificates that the server's must come from; None: those that requests knows.
        most_bytes: of one answer.
        flag: what errors call the address.

    Raises:
        InputError: no such file, or no address.
    """
    session = requests.Session()
    if user is not None:
        session.auth = (user, password or "")
    if ca_file is not None:
        if not Path(ca_file).is_file():
            raise InputError(f"--ca_file {ca_file}: no such file")
        session.verify = ca_file

    def counted(response: requests.Response, *_: Any, **__: Any) -> requests.Response:
        response.iter_content = _bounded(response.iter_content, most_bytes)
        return response

    for noisy in ("dicomweb_client", "retrying"):  # their lines hold UIDs, and tracebacks
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    silence_pydicom()
    try:
        client = DICOMwebClient(url.rstrip("/"), session=session, callback=counted, timeout=SECONDS)
    except (ValueError, TypeError) as error:
        raise InputError(f"{flag} {url}: must be like http://host:8042/dicom-web ({error})") from None
    client.set_http_retry_params(retry=False)
    return client


def _bounded(read: Any, most: int) -> Any:
    def bounded(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        total = 0
        for chunk in read(*args, **kwargs):
            total += len(chunk)
            if total > most:
                raise TooLarge(f"sends more than {most} bytes")
            yield chunk

    return bounded


def pull(client: DICOMwebClient, study: str) -> list[bytes]:
    """The films of a study, each as a DICOM file, as the server stores them; only CR, DX and DR are asked for.

    Raises:
        InputError: no such study, none with films, or no access.
        RunError: the server cannot be reached, or its answer cannot be used.
    """
    url = client.base_url
    if not re.fullmatch(r"[0-9.]{1,64}", study) or ".." in study:
        raise InputError(f"--study {study}: must be a UID, of digits and dots")
    try:
        series = [Dataset.from_json(one) for one in client.search_for_series(study)]
    except Exception as error:
        raise explained(error, url, study) from None
    if not series:
        raise InputError(f"--study {study}: {url} has no such study")
    kinds = sorted({str(one.get("Modality", "")) for one in series})
    films: list[bytes] = []
    for one in series:
        if one.get("Modality") not in MODALITIES:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                parts = client.iter_series(study, one.SeriesInstanceUID, media_types=(("application/dicom", "*"),))
                films += [_file(part) for part in parts]
        except Exception as error:
            raise explained(error, url, study) from None
    if not films:
        raise InputError(f"--study {study}: has no {', '.join(MODALITIES)} images, only {', '.join(kinds)}")
    return films


def _file(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    with disable_value_validation():
        dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def chest_films(
    films: Sequence[bytes], study: str, most: int, *, mixed: bool = False
) -> list[tuple[bytes, DicomHeader]]:
    """Those that are chest films and can be decoded, with their headers, in the order of their series and numbers.

    Raises:
        InputError: none is, there are too many, or they are of two patients and not `mixed`; with the first reason why
            one is not used.
    """
    found: list[tuple[bytes, DicomHeader]] = []
    reasons: list[str] = []
    for data in films:
        try:
            header = checked_film(data)
            images_to_send([Path("film")], [header], "image")
        except InputError as error:
            reasons.append(reason_of(error))
            log.warning("a film of the study is left out: %s", reasons[-1])
            continue
        found.append((data, header))
    if not found:
        raise InputError(f"--study {study}: none of its {len(films)} images can be used: {reasons[0]}")
    if len(found) > most:
        raise InputError(f"--study {study}: has {len(found)} films: at most {most} (--max_images)")
    if not mixed and contradiction([header for _, header in found]) is not None:
        raise InputError(f"--study {study}: {TWO_PATIENTS}{MIXED_WORDS}")
    return sorted(found, key=lambda one: order_of(one[1]))


def explained(error: Exception, url: str, study: str) -> Exception:
    """A failed request as the one line that its user needs."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return InputError(f"--url {url}: refuses us ({status}): {KEYS}")
    if status == 404:
        return InputError(f"--study {study}: {url} has no such study, or is no DICOMweb service (404)")
    if status is not None:
        return RunError(f"--url {url}: answers with status {status}")
    if isinstance(error, TooLarge):
        return RunError(f"--url {url}: {error} (--max_bytes)")
    if isinstance(error, requests.exceptions.SSLError):
        return InputError(f"--url {url}: its certificate is not trusted (--ca_file)")
    if isinstance(error, requests.exceptions.RequestException):
        return RunError(f"--url {url}: cannot be reached ({type(error).__name__})")
    return RunError(f"--url {url}: its answer cannot be read ({type(error).__name__})")


def stow(client: DICOMwebClient) -> Send:
    """What sends reports to this server.

    Raises (when it sends):
        Refused: the server will not take this report.
        NotNow: it cannot be reached, has no room, or wants another name and password.
    """

    def send(report: bytes) -> None:
        dataset = dcmread(io.BytesIO(report))
        try:
            with disable_value_validation():
                answer = client.store_instances([dataset])
        except requests.exceptions.HTTPError as error:
            status = error.response.status_code
            words = f"status {status}"
            raise (Refused(words) if status in (400, 409, 413, 415, 422) else NotNow(words)) from None
        except requests.exceptions.RequestException as error:
            raise NotNow(f"{client.base_url} cannot be reached ({type(error).__name__})") from None
        except (ValueError, KeyError) as error:
            raise NotNow(f"its answer cannot be read ({type(error).__name__})") from None
        failed = answer.get("FailedSOPSequence")
        if failed:
            raise Refused(f"failure reason 0x{int(failed[0].get('FailureReason', 0)):04X}")
        stored = [one.get("ReferencedSOPInstanceUID") for one in answer.get("ReferencedSOPSequence") or ()]
        if len(answer) and dataset.SOPInstanceUID not in stored:  # Orthanc says so of objects that it leaves out
            raise Refused("it is not among what was stored")

    return send
