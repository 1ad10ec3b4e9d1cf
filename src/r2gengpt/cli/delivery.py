"""Where a report goes and in which form, for `r2gengpt generate`. Makes no report, and no form of its own."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r2gengpt.data.dicom_header import DicomHeader
from r2gengpt.data.files import check_writable_file, whole_file
from r2gengpt.errors import InputError
from r2gengpt.serving import forms
from r2gengpt.serving.draft import images_to_send
from r2gengpt.serving.forms import BINARY, FORMS, check_form, check_patient
from r2gengpt.text.written import utf8

NO_HASH = "needs all weights in memory, as identifiers are made from them: leave out --offload_folder"


def check_delivery(space: Namespace, paths: Sequence[Path], headers: Sequence[DicomHeader | None]) -> None:
    """Refuse, before minutes of work, what could not be delivered.

    Raises:
        InputError: no file for a binary form, a file that cannot be written, a form whose package is missing, or images
            that it cannot refer to.
    """
    if space.output is not None:
        check_writable_file(Path(space.output), "--output")
    if space.format not in FORMS:
        return
    if space.format in BINARY and space.output is None:
        raise InputError(f"--format {space.format}: is no text, name a file with --output")
    if getattr(space, "offload_folder", None) is not None:
        raise InputError(f"--format {space.format}: {NO_HASH}")
    check_form(space.format, "--format")
    check_patient(space.format, images_to_send(paths, headers, f"--format {space.format}"), "--format")


def formed(
    form: str, report: str, labelled: str, headers: Sequence[DicomHeader | None], built: Any, directory: Path
) -> bytes:
    """The report in one of `FORMS`, by the model's name and hash; see `serving.forms.formed`.

    Raises:
        InputError: parts of the weights are on disk, so that the model has no hash.
    """
    from r2gengpt.serving.provenance import model_sha256

    digest = model_sha256(built.model)
    if digest is None:  # without it, drafts of two models would have the same identifiers
        raise InputError(f"--format {form}: {NO_HASH}")
    return forms.formed(form, report, labelled, headers, directory.name or str(directory), digest)


def deliver(content: str | bytes, output: str | None) -> None:
    """Print a report, or write it whole to a file.

    Raises:
        InputError: the file cannot be written.
    """
    data = utf8(content) if isinstance(content, str) else content
    if output is None and isinstance(content, str):
        print(content, end="")
        return
    if output is None:  # a document in an encoding of its own, whatever that of stdout is
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        with whole_file(Path(output)) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror or error}") from None
