"""The model as a `Loop` asks for it: films of a study in, their report as a DICOM object out. No network, no spool."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from r2gengpt.archive.loop import Report, Write
from r2gengpt.data.containers import DicomChoice
from r2gengpt.data.dicom_header import DicomHeader
from r2gengpt.errors import InputError
from r2gengpt.serving.draft import draft_of
from r2gengpt.serving.forms import bytes_of

if TYPE_CHECKING:
    from r2gengpt.serving.generator import Served

KINDS = {"sr": "SR", "pdf": "PDF"}
"""Form → the part of a draft whose UID is the object's (see `dicom_objects.new_object`)."""


JUDGED = DicomChoice(mixed_patients=True)
"""Whoever asks for a report has looked at whose films these are, and has refused what was not asked for."""


def report_of(text: str, headers: Sequence[DicomHeader], model: str, digest: str, form: str) -> Report:
    """A report's text as a DICOM object of these films; the same text, films and model give the same UID."""
    draft = draft_of(text, headers, model, digest, datetime.now().astimezone())
    return Report(bytes_of(draft, form), draft.uid(KINDS[form]))


def writer(served: "Served", form: str) -> Write:
    """What writes reports with this model.

    Raises:
        InputError: parts of the weights are on disk, so that the model has no hash to make UIDs from.
    """
    from r2gengpt.data.dicom_study import with_views
    from r2gengpt.data.loading import StudyDataset, prompt_batch
    from r2gengpt.data.study import Study
    from r2gengpt.generation.confidence import marked_text
    from r2gengpt.generation.decode import predict

    digest = served.origin["model_sha256"]
    if digest is None:
        raise InputError("--offload_folder: identifiers are made from all weights in memory: leave it out")
    built = served.built

    def write(paths: Sequence[Path], headers: Sequence[DicomHeader]) -> Report:
        study = with_views(Study("study", tuple(paths), dicom=JUDGED), headers)
        batch = prompt_batch([StudyDataset([study], built.processor, "plain", in_cell=True)[(0, 0)]], built.processor)
        (prediction,) = predict(built.model, built.processor, [batch], served.decode)
        answer = served.answer(prediction, batch.input_ids.shape[1])
        return report_of(marked_text(answer.prediction), headers, served.name, digest, form)

    return write
