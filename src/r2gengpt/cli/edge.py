"""`r2gengpt generate` with an edge directory: no PyTorch. Parses no flags of its own."""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from r2gengpt.config import ModelConfig, PlacementConfig
from r2gengpt.data.dicom_header import DicomHeader
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.text.written import json_text

RUNTIME = "--runtime openvino"


def check_flags(space: Namespace, given: Mapping[str, Any]) -> None:
    """Refuse what the edge runtime has not.

    Raises:
        InputError: the first such flag.
    """
    for f in (*fields(ModelConfig), *fields(PlacementConfig)):
        if f.name in given:
            raise InputError(f"--{f.name} {given[f.name]}: an edge directory is a whole model, its parts are settled")
    if space.evidence is not None:
        raise InputError(f"--evidence {space.evidence}: needs PyTorch, {RUNTIME} has no maps; leave it out")
    if space.stream:
        raise InputError(f"--stream True: {RUNTIME} prints a report when it is whole; leave it out")
    if space.accelerator not in ("auto", "cpu"):
        raise InputError(f"--accelerator {space.accelerator}: {RUNTIME} runs on cpu")


def write_report(
    space: Namespace,
    given: Mapping[str, Any],
    study: Study,
    headers: Sequence[DicomHeader | None],
    below: float | None,
) -> None:
    """Write and deliver the report of one study.

    Args:
        space: the parsed flags of `generate`.
        given: what the user set of `ModelConfig`, `PlacementConfig` and `DecodeConfig`.
        study: its images, which can be read.
        headers: of its images.
        below: --abstain_below.

    Raises:
        InputError: flags that the edge runtime has not, or a directory that is none or damaged.
    """
    from r2gengpt.cli.console import start_logging
    from r2gengpt.cli.delivery import deliver
    from r2gengpt.cli.generate import as_json
    from r2gengpt.data.cell import load_image
    from r2gengpt.data.dicom_study import note_of
    from r2gengpt.edge.runtime import Edge, check_decoding
    from r2gengpt.generation.confidence import calibration_beside, marked_text, with_confidence
    from r2gengpt.generation.decoding import decodings
    from r2gengpt.serving import forms
    from r2gengpt.text.notice import with_note, with_notice

    check_flags(space, given)
    start_logging(libraries=False)
    edge = Edge(Path(space.model), frugal=True)
    decode = decodings({**asdict(edge.record.decode), **given}, given, edge.directory).whole
    check_decoding(decode)
    calibration = calibration_beside(edge.directory, decode, below)
    films = [load_image(path, size=edge.record.film.decoded, dicom=study.dicom) for path in study.image_paths]
    prediction = with_confidence(edge.report(study.id, films, decode), calibration, below)
    text, source, note = marked_text(prediction), edge.record.source, note_of(headers)
    if space.format == "text":
        deliver(f"{with_note(text, note)}\n" if space.output is None else with_notice(text, note), space.output)
    elif space.format == "json":
        record = as_json(prediction, study, dict(source), edge.directory, note)
        how = {"runtime": "openvino", "weights": edge.record.weights, "made_from": source}
        deliver(json_text({**record, **how}, indent=1, ascii_only=True) + "\n", space.output)
    else:
        name, digest = edge.directory.name, digest_of(edge.record.source, edge.record.files)
        formed = forms.formed(space.format, text, prediction.prediction, headers, name, digest)
        deliver(formed, space.output)


def digest_of(source: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> str:
    """A name for these very weights: SHA-256 over what they were made from and the hashes of all files."""
    import hashlib

    content = json.dumps([source, files], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
