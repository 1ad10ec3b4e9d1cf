"""`r2gengpt dicomweb`: one study from a DICOMweb server, its report back to it."""

import sys
import tempfile
from pathlib import Path

from r2gengpt.cli import bridge
from r2gengpt.cli.listen import add_login, check_installed, client_of
from r2gengpt.config import DecodeConfig, ModelConfig, PlacementConfig, ReviewConfig
from r2gengpt.errors import InputError, RunError
from r2gengpt.text.notice import NOTICE

CONFIGS = (ModelConfig, PlacementConfig, DecodeConfig, ReviewConfig)


def main(argv: list[str]) -> None:
    """Parse and run; prints the UID of the report."""
    parser = bridge.Parser(prog="r2gengpt dicomweb", allow_abbrev=False, description=__doc__)
    parser.add_argument("--url", required=True, help="DICOMweb service, as http://host:8042/dicom-web")
    parser.add_argument("--study", required=True, metavar="UID", help="Study Instance UID")
    parser.add_argument("--model", "--delta", default="embedded", metavar="DIR",
                        help="trained model, or an original .pth (default: embedded)")  # fmt: skip
    parser.add_argument("--format", default="sr", choices=("sr", "pdf"), help="structured report, encapsulated PDF")
    parser.add_argument("--no_push", "--no-push", nargs="?", const=True, default=False, type=bridge.parse_bool,
                        metavar="BOOL", help="send nothing: belongs to --output")  # fmt: skip
    parser.add_argument("--output", metavar="FILE", help="write the report there too")
    parser.add_argument("--max_images", "--max-images", type=int, default=8, metavar="N", help="most films of a study")
    parser.add_argument("--mixed_patients", "--mixed-patients", nargs="?", const=True, default=False,
                        type=bridge.parse_bool, metavar="BOOL",
                        help="take DICOM of two patients or two studies for the views of one study")  # fmt: skip
    parser.add_argument("--max_bytes", "--max-bytes", type=int, default=2**30, metavar="N",
                        help="most bytes of an answer of the server")  # fmt: skip
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu", "cuda", "mps"), help="device")
    add_login(parser)
    bridge.add_flags(parser, CONFIGS)
    space = bridge.parse(parser, argv)
    given = bridge.given_values(space, CONFIGS)
    if space.no_push and space.output is None:
        raise InputError("--no_push True: then name a file for the report with --output")
    if bridge.make(DecodeConfig, given).speculate:
        raise InputError("--speculate True: drafts would come from other studies' reports: not in dicomweb")
    check_installed("dicomweb")
    from r2gengpt.cli.console import return_large_blocks, start_logging

    start_logging()
    return_large_blocks()
    from r2gengpt.archive.loop import NotNow, Refused
    from r2gengpt.archive.reporting import writer
    from r2gengpt.archive.web import chest_films, pull, stow
    from r2gengpt.cli.delivery import deliver
    from r2gengpt.cli.models import device_of, locate_model
    from r2gengpt.cli.serve import load
    from r2gengpt.data.files import check_writable_file

    if space.output is not None:
        check_writable_file(Path(space.output), "--output")
    device = device_of(space.accelerator)
    locate_model(space.model, "--model", given)
    client = client_of(space.url, space, space.max_bytes)
    films = chest_films(pull(client, space.study), space.study, space.max_images, mixed=space.mixed_patients)
    write = writer(load(space.model, device, given), space.format)
    with tempfile.TemporaryDirectory(prefix="r2gengpt-") as directory:
        paths = [Path(directory) / f"{number}.dcm" for number in range(len(films))]
        for path, (data, _) in zip(paths, films, strict=True):
            path.write_bytes(data)
        report = write(paths, [header for _, header in films])
    if space.output is not None:
        deliver(report.data, space.output)
    if not space.no_push:
        try:
            stow(client)(report.data)
        except (Refused, NotNow) as error:
            raise RunError(f"--url {space.url}: the report was not stored: {error}") from None
    print(report.uid)
    print(NOTICE, file=sys.stderr)
