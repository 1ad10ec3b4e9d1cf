"""`r2gengpt generate IMAGE…`: the report of one study; the images are its views."""

import sys
from pathlib import Path
from typing import Any

from r2gengpt import __version__
from r2gengpt.cli import bridge
from r2gengpt.config import CellConfig, DecodeConfig, EvidenceConfig, ModelConfig, PlacementConfig, ReviewConfig
from r2gengpt.errors import InputError
from r2gengpt.serving.forms import FORMS
from r2gengpt.text.notice import NOTICE, noted_json, with_note, with_notice
from r2gengpt.text.written import json_text

CONFIGS = (ModelConfig, PlacementConfig, DecodeConfig)
OTHERS = (ReviewConfig, CellConfig)


def main(argv: list[str]) -> None:
    """Parse and run; prints the report, or JSON with its provenance."""
    parser = bridge.Parser(prog="r2gengpt generate", allow_abbrev=False, description=__doc__)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG or DICOM files: the views of ONE study")
    parser.add_argument(
        "--model", default="embedded", metavar="DIR", help="trained model, or an original .pth (default: embedded)"
    )
    parser.add_argument("--runtime", default="auto", choices=("auto", "torch", "openvino"),
                        help="what runs the model; auto: what its directory was made for")  # fmt: skip
    parser.add_argument("--format", default="text", choices=("text", "json", *FORMS),
                        help="from DICOM: sr, pdf (DICOM objects), fhir (a bundle), hl7 (a message)")  # fmt: skip
    parser.add_argument("--output", metavar="FILE", help="write there instead of printing")
    parser.add_argument("--stream", nargs="?", const=True, default=False, type=bridge.parse_bool, metavar="BOOL",
                        help="print words as they are written (one beam)")  # fmt: skip
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu", "cuda", "mps"), help="device")
    parser.add_argument("--frame", type=int, metavar="N", help="DICOM of several frames: this one, from 1")
    parser.add_argument("--force", nargs="?", const=True, default=False, type=bridge.parse_bool, metavar="BOOL",
                        help="read DICOM that is not a CR, DX or DR image of the chest")  # fmt: skip
    parser.add_argument("--mixed_patients", "--mixed-patients", nargs="?", const=True, default=False,
                        type=bridge.parse_bool, metavar="BOOL",
                        help="take DICOM of two patients or two studies for the views of one study")  # fmt: skip
    parser.add_argument("--evidence", metavar="DIR", help="draw what of the images each sentence rests on: a picture "
                        "for each sentence and view, and evidence.json")  # fmt: skip
    parser.add_argument("--evidence_method", "--evidence-method", choices=("occlusion", "gradient"),
                        help=EvidenceConfig.__dataclass_fields__["evidence_method"].metadata["help"])  # fmt: skip
    bridge.add_flags(parser, (*CONFIGS, *OTHERS))
    space = bridge.parse(parser, argv)
    if space.evidence_method and space.evidence is None:
        raise InputError(f"--evidence_method {space.evidence_method} belongs to --evidence DIR: name that")
    given = bridge.given_values(space, (*CONFIGS, *OTHERS))
    below, limits = bridge.make(ReviewConfig, given).abstain_below, bridge.make(CellConfig, given)
    given = {name: value for name, value in given.items() if name not in {"abstain_below", *vars(limits)}}
    if space.stream and space.format == "text" and below is not None:
        raise InputError(f"--abstain_below {below}: what needs review is known at the end; leave out --stream")
    if space.stream and given.get("beam_size", 1) != 1:
        raise InputError(f"--beam_size {given['beam_size']}: a stream needs --beam_size 1")

    from r2gengpt.data.cell import open_cell

    open_cell(limits, workers=1, again=True).warm()  # what decodes images comes up meanwhile
    from r2gengpt.cli.delivery import check_delivery, deliver, formed
    from r2gengpt.data.containers import DicomChoice
    from r2gengpt.data.dicom_study import look_at, note_of, with_views
    from r2gengpt.data.files import check_writable, named_directory
    from r2gengpt.data.study import Study
    from r2gengpt.edge.record import runs_on_edge

    paths, choice = [Path(name) for name in space.images], DicomChoice(space.frame, space.force, space.mixed_patients)
    headers = look_at(paths, choice)  # a bad image is named before minutes of loading
    note = note_of(headers)
    if space.evidence is not None:
        check_writable(named_directory(space.evidence, "--evidence"), "--evidence")
    check_delivery(space, paths, headers)
    study = with_views(Study("study", tuple(paths), dicom=choice), headers)
    if runs_on_edge(space.model, space.runtime):
        from r2gengpt.cli.edge import write_report

        write_report(space, given, study, headers, below)
        print(NOTICE, file=sys.stderr)
        return
    from r2gengpt.cli.console import return_large_blocks, start_logging

    start_logging()
    return_large_blocks()
    from r2gengpt.build import place
    from r2gengpt.cli.models import device_of, load_model, stored_index
    from r2gengpt.data.loading import StudyDataset, prompt_batch
    from r2gengpt.evaluation.evidence import read_films, write_pictures
    from r2gengpt.generation.confidence import calibration_beside, marked_text, with_confidence
    from r2gengpt.generation.decode import predict, stream
    from r2gengpt.generation.decoding import decodings
    from r2gengpt.generation.evidence import check_method, report_evidence
    from r2gengpt.generation.speculate import drafter_for

    device = device_of(space.accelerator)
    built, settings, directory = load_model(space.model, "--model", given)
    dataset = settings.get("dataset", "plain")
    both = decodings(settings, given, directory)
    decode = both.streamed if space.stream else both.whole
    calibration = calibration_beside(directory, decode, below)
    place(built.model, device, settings.get("quantization", "none"))
    method = space.evidence_method or "occlusion"
    if space.evidence is not None:
        check_method(built.model, method)
    drafter = drafter_for(built.model.language_model, stored_index(built, directory) if decode.speculate else None)
    studies = StudyDataset([study], built.processor, dataset, in_cell=True)  # read as in training and testing
    batch = prompt_batch([studies[(0, 0)]], built.processor)
    live = space.stream and space.format == "text" and space.output is None
    if live and note:
        print(f"{note}\n", flush=True)
    if space.stream:
        show = (lambda text: print(text, end="", flush=True)) if live else (lambda text: None)
        prediction = stream(built.model, built.processor, batch, decode, show, drafter)
    else:
        (prediction,) = predict(built.model, built.processor, [batch], decode, drafter)
    prediction = with_confidence(prediction, calibration, below)
    if drafter is not None:
        drafter.log()
    if space.evidence is not None:
        evidence = report_evidence(built.model, built.processor, batch, prediction.prediction, method)
        made_from = {**noted_json(note), "report": prediction.prediction, "images": [str(path) for path in paths]}
        films = read_films(paths, choice)
        write_pictures(Path(space.evidence), evidence, films, built.processor, made_from)
    text = marked_text(prediction)
    if live:
        print()
    elif space.format == "text":
        deliver(f"{with_note(text, note)}\n" if space.output is None else with_notice(text, note), space.output)
    elif space.format == "json":
        record = as_json(prediction, study, settings, directory, note)
        deliver(json_text(record, indent=1, ascii_only=True) + "\n", space.output)
    else:
        deliver(formed(space.format, text, prediction.prediction, headers, built, directory), space.output)
    print(NOTICE, file=sys.stderr)


def as_json(prediction: Any, study: Any, settings: dict[str, Any], directory: Path, note: str) -> dict[str, Any]:
    """The report with what it was made from, and what is doubtful about whose images these are."""
    return {
        **noted_json(note),
        "report": prediction.prediction,
        "tokens": prediction.tokens,
        "logprob": prediction.logprob,
        "finish": prediction.finish,
        "sentences": prediction.to_json()["sentences"],
        "images": [str(path) for path in study.image_paths],
        "views": list(study.views),
        "model": directory.name,
        "vision_model": settings["vision_model"],
        "lm_model": settings["lm_model"],
        "version": __version__,
    }
