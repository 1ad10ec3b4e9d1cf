"""IU X-ray's released reports (NLMCXR_reports.tgz) to an annotation file. Downloads nothing and converts no image."""

import codecs
import gzip
import logging
import random
import re
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from r2gengpt.data.annotation import Preparation, read_annotation, write_prepared
from r2gengpt.data.prepare.images import check_directory, check_ending
from r2gengpt.data.prepare.release import check_studies, has_words, on_disk
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.files import check_writable_file
from r2gengpt.text.headers import known_name
from r2gengpt.text.written import in_short

log = logging.getLogger("r2gengpt.prepare")
MAX_REPORTS = 100_000
MAX_REPORT_BYTES = 2**20
"""Limits on the archive: the release has 3,955 reports of at most 40 kB."""
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}

_ENCODING = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["'](?!utf-?8["'])([A-Za-z0-9._-]+)["']""", re.IGNORECASE)
"""An XML declaration of an encoding that is not UTF-8."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class RawReport:
    """One report of the release: `uid` as "CXR1" (one patient each), its sections, and its images' names."""

    uid: str
    findings: str
    impression: str
    indication: str
    images: tuple[str, ...]

    @property
    def study_id(self) -> str:
        """The id that R2Gen gives the study: its first image's name less the last part ("CXR1_1_IM-0001")."""
        return self.images[0].rsplit("-", 1)[0]


def parse_report(data: bytes, name: str) -> RawReport:
    """Read one XML file of the release. Sections are known by their labels, misspelt or not; one in parts is joined.

    Document type declarations are refused: the release has none, and entities declared in one can expand without end.

    Raises:
        InputError: not XML of the release's form; `name` is what the error calls the file.
    """
    declared = _ENCODING.match(data)
    try:
        text = data.decode("utf-8-sig" if declared is None else declared[1].decode())
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise InputError(f"{name}: declares a document type, which no report of the release does")
        root = ElementTree.fromstring(text)
    except (UnicodeError, LookupError, ElementTree.ParseError) as error:
        raise InputError(f"{name}: not an XML report: {error}") from None
    identifier = root.find("uId")
    uid = "" if identifier is None else identifier.get("id", "")
    images = list(dict.fromkeys(element.get("id", "") for element in root.iter("parentImage")))
    for word in (uid, *images):
        if not _NAME.fullmatch(word):
            raise InputError(f"{name}: id {word!r} must be letters, digits, '-' and '_'")
    sections: dict[str | None, list[str]] = {}
    for element in root.iter("AbstractText"):
        label = element.get("Label", "").strip(" :\u00a0\uff1a")
        sections.setdefault(known_name(label), []).append("".join(element.itertext()).strip())
    findings, impression, indication = (
        " ".join(filter(None, sections.get(name, []))) for name in ("findings", "impression", "indication")
    )
    return RawReport(uid, findings, impression, indication, tuple(images))


def read_reports(archive: str | Path) -> Iterator[RawReport]:
    """Read the reports of NLMCXR_reports.tgz in the archive's order, member by member; nothing is unpacked to disk.

    Raises:
        InputError: no such file, not a tar archive, cut off, or beyond the limits above.
    """
    path = Path(archive)
    try:
        with tarfile.open(path, "r|*") as tar:
            count, others = 0, []
            for member in tar:
                data = _report_in(tar, member, f"`reports` {path}: {member.name}")
                if data is None:
                    if not member.isdir():
                        others.append(member.name)
                    continue
                count += 1
                if count > MAX_REPORTS:
                    raise InputError(f"more than {MAX_REPORTS} reports", field="reports", value=path)
                yield parse_report(data, f"`reports` {path}: {member.name}")
            if others:
                log.warning("left out, as no reports: %d members of %s (%s)", len(others), path, in_short(others))
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"not a whole tar archive: {error}", field="reports", value=path) from None
    except OSError as error:
        raise InputError(f"{error.strerror or error}", field="reports", value=path) from None


def _report_in(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> bytes | None:
    """A member's bytes, where it is a file that begins as XML or is called so."""
    called_xml = member.name.lower().endswith(".xml")
    if not member.isfile() or (member.size > MAX_REPORT_BYTES and not called_xml):
        return None
    if member.size > MAX_REPORT_BYTES:
        raise InputError(f"{where} is {member.size} bytes large: at most {MAX_REPORT_BYTES}")
    file = tar.extractfile(member)
    assert file is not None  # a regular file, by the check above
    data = file.read()
    begins_as_xml = data.removeprefix(codecs.BOM_UTF8).lstrip().startswith((b"<?xml", b"<eCitation"))
    return data if called_xml or begins_as_xml else None


def _to_study(raw: RawReport, extension: str) -> Study:
    """The study under the names of the image release: `CXR1_1_IM-0001-3001.png`. Its report is the findings."""
    return Study(
        id=raw.study_id,
        image_paths=tuple(Path(f"{image}.{extension}") for image in raw.images),
        report=raw.findings,
        indication=raw.indication,
        findings=raw.findings,
        impression=raw.impression,
    )


def _split_by_patient(uids: Sequence[str], seed: int) -> dict[str, str]:
    """Patient → split, 70/10/20; the same for a seed whatever the order of the reports."""
    order = sorted(uids)
    random.Random(seed).shuffle(order)
    train, val = round(SHARES["train"] * len(order)), round((SHARES["train"] + SHARES["val"]) * len(order))
    return {uid: "train" if i < train else "val" if i < val else "test" for i, uid in enumerate(order)}


def _official_split(split_from: str | Path) -> dict[str, Study]:
    """Study id → its entry in an annotation file, image paths relative as there."""
    with tempfile.TemporaryDirectory() as empty:  # no link in it makes another path of one
        base = Path(empty).resolve()
        splits = read_annotation(split_from, base, field="split_from")
    return {
        study.id: replace(study, image_paths=tuple(path.relative_to(base) for path in study.image_paths))
        for studies in splits.values()
        for study in studies
    }


def _place(
    raw: RawReport, split: str, official: Mapping[str, Study] | None, layout: str, image_ext: str
) -> Study | str:
    """The study of a report with its split and image names, or the reason why there is none."""
    if not raw.images:
        return "no images"
    if not has_words(raw.findings):
        return "no findings"
    study = replace(_to_study(raw, image_ext), split=split)
    if official is None:
        return study
    if study.id not in official:
        return "not in `split_from`"
    known = official[study.id]
    return replace(study, split=known.split, image_paths=known.image_paths if layout == "r2gen" else study.image_paths)


def prepare_iu_xray(
    reports: str | Path,
    output: str | Path,
    *,
    split_from: str | Path | None = None,
    layout: Literal["release", "r2gen"] = "release",
    images_dir: str | Path | None = None,
    image_ext: str = "png",
    min_views: int = 1,
    seed: int = 42,
) -> Preparation:
    """Write an annotation file of the IU X-ray release. A study's report is its findings, as in R2Gen.

    R2Gen's own 2,955 studies are those with findings and at least two images: `min_views=2` selects the same.

    Args:
        reports: NLMCXR_reports.tgz.
        output: the annotation file to write.
        split_from: an annotation file, as R2Gen's, whose studies and splits are taken; studies that it has not are left
            out. None splits at random by patient (each report is of another patient), 70/10/20.
        layout: how image files are named: "release", as in NLMCXR_png.tgz (`CXR1_1_IM-0001-3001.png`), or "r2gen", as
            in `split_from` (`CXR1_1_IM-0001/0.png`).
        images_dir: where the images are. Given, views whose files do not exist are left out, and so are studies with
            too few left. None leaves the files unchecked.
        image_ext: the ending of image files in the "release" layout; a file of another one is taken by its bytes where
            `images_dir` is given.
        min_views: images that a study needs.
        seed: of the random split.

    Raises:
        InputError: a wrong input file, an id or film twice in it, or no study left.
    """
    if layout == "r2gen" and split_from is None:
        raise InputError("`layout` r2gen takes image paths from `split_from`, which is not given")
    if min_views < 1:
        raise InputError("must be at least 1", field="min_views", value=min_views)
    check_ending(image_ext)
    check_writable_file(Path(output), "output")
    check_directory(images_dir, "images_dir")
    official = None if split_from is None else _official_split(split_from)
    raws = list(read_reports(reports))
    assigned = _split_by_patient([raw.uid for raw in raws if raw.findings and raw.images], seed)
    placed = [_place(raw, assigned.get(raw.uid, ""), official, layout, image_ext) for raw in raws]
    skipped = Counter(reason for reason in placed if isinstance(reason, str))
    listed = [study for study in placed if isinstance(study, Study)]
    found, of_films = on_disk(listed, images_dir)
    kept = [study for study in found if len(study.image_paths) >= min_views]
    skipped["too few images"] = len(found) - len(kept)
    if not kept:
        raise InputError(f"no study is left of {len(raws)} reports: {dict(+skipped)}", field="reports", value=reports)
    check_studies(kept, f"`reports` {reports}")
    notes = [] if official is None else [_agreement(raws, official)]
    return write_prepared(output, kept, skipped, [*notes, *of_films])


def _agreement(raws: Sequence[RawReport], official: Mapping[str, Study]) -> str:
    """How many of the official studies the release has, and how many reports are equal to the last character."""
    findings = {raw.study_id: raw.findings for raw in raws if raw.images}
    found = [study for study in official.values() if study.id in findings]
    equal = sum(findings[study.id] == study.report for study in found)
    return f"{len(found)} of {len(official)} ids of `split_from` found, {equal} reports equal"
