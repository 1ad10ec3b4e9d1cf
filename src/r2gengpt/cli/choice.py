"""Flags that several commands have: which model, where it runs, how films are decoded. Loads no model."""

from dataclasses import dataclass, replace
from pathlib import Path

from r2gengpt.cli.bridge import Parsed
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig
from r2gengpt.errors import InputError
from r2gengpt.files import check_readable
from r2gengpt.films.containers import DicomChoice
from r2gengpt.locate import ModelChoice
from r2gengpt.options import Checked, check_fields, option
from r2gengpt.settings import ACCELERATORS, REFUSE, GuardConfig, PlacementConfig, ReviewConfig, WriterConfig
from r2gengpt.text.context import Context


@dataclass(frozen=True)
class ModelFlags(Checked):
    """Which model, and where it runs."""

    model: str = option("embedded", "trained model, or an original .pth", unit="MODEL")
    accelerator: str = option("auto", "device", choices=ACCELERATORS)


@dataclass(frozen=True)
class FilmFlags(Checked):
    """How films are read."""

    frame: int | None = option(None, "DICOM of several frames: this one, from 1", unit="FRAME")
    force: bool = option(False, "read what is no chest film too, by its header or its looks")
    mixed_patients: bool = option(False, "take DICOM of two patients or two studies for the views of one study")


@dataclass(frozen=True)
class ContextFlags:
    """What is known of a study beside its films."""

    indication: str = option("", "why the images were taken; stands in the prompt", unit="TEXT")
    technique: str = option("", "of a model trained with `context`: how they were taken", unit="TEXT")
    comparison: str = option("", "of such a model: what they are to be compared with", unit="TEXT")
    age: float | None = option(
        None, "of such a model: the patient's, in years; None: by the DICOM header", low=0.0, high=130.0, unit="YEARS"
    )
    sex: str = option("", "of such a model: the patient's; empty: by the DICOM header", choices=("", "M", "F"))
    view: str = option("", "of such a model: the views, as PA; empty: by the DICOM header", unit="VIEW")

    prior: tuple[str, ...] = option(
        (), "of a model trained with `prior_study`: the films of the patient's study before", unit="FILM"
    )
    prior_report: str | None = option(None, "of such a model: a text file with the report of that study", unit="FILE")
    prior_days: float | None = option(
        None, "of such a model: how many days before; None: by the DICOM headers", low=0.0, high=50_000.0, unit="DAYS"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.prior_days is not None and not self.prior and self.prior_report is None:
            raise InputError("belongs to `prior` or `prior_report`", field="prior_days", value=self.prior_days)

    @property
    def context(self) -> Context:
        """As a prompt has it.

        Raises:
            InputError: the report of the study before cannot be read.
        """
        return Context(
            self.indication.strip(),
            self.technique.strip(),
            self.comparison.strip(),
            self.age,
            self.sex,
            self.view.strip(),
            "" if self.prior_report is None else text_in(Path(self.prior_report)),
            self.prior_days,
        )


def text_in(path: Path) -> str:
    """A report that somebody keeps as a text file.

    Raises:
        InputError: it cannot be read, is empty, or is no text in UTF-8.
    """
    check_readable(path, f"`prior_report` {path}")
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        raise InputError("is no text in UTF-8", field="prior_report", value=path) from None
    if not text:
        raise InputError("is empty", field="prior_report", value=path)
    return text


def dicom_of(parsed: Parsed) -> DicomChoice:
    """What the flags ask of DICOM files."""
    flags = parsed.settled(FilmFlags)
    return DicomChoice(flags.frame, flags.force, flags.mixed_patients)


def choice_of(
    parsed: Parsed, *, field: str = "model", no_drafts_in: str | None = None, unattended: bool = False
) -> ModelChoice:
    """The model that the flags choose.

    Args:
        parsed: flags, `ModelFlags` among them.
        field: the flag that names the model.
        unattended: nobody reads a warning before the report is sent: a film that shows no chest is refused.
        no_drafts_in: the command, where it may not draft from other studies' reports.

    Raises:
        InputError: a flag is refused.
    """
    flags = parsed.settled(ModelFlags)
    choice = choice_of_model(parsed, flags.model)
    if no_drafts_in and parsed.decode.settled().speculate:
        words = f"drafts would come from other studies' reports: not in {no_drafts_in}"
        raise InputError(words, field="speculate", value=True)
    return replace(
        choice,
        field=field,
        accelerator=flags.accelerator,
        drafts=no_drafts_in is None,
        abstain_below=parsed.settled(ReviewConfig).abstain_below,
        film_guard=REFUSE if unattended else parsed.settled(GuardConfig).film_guard,
    )


def choice_of_model(parsed: Parsed, name: str) -> ModelChoice:
    """The model of a name, with what the user has set of its parts, its decoding and its place."""
    return ModelChoice(
        name=name,
        model=parsed.override(ModelConfig),
        data=parsed.override(DataConfig),
        decode=parsed.override(DecodeConfig),
        preset=parsed.preset,
        placement=parsed.override(PlacementConfig),
        runtime=parsed.values.get("runtime", "auto"),
        writer=parsed.settled(WriterConfig).writer,
    )
