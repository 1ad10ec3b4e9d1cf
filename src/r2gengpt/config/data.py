"""Which studies, and how they are read. Reads none."""

from dataclasses import dataclass

from r2gengpt.errors import InputError
from r2gengpt.options import check_fields, option

LENGTHS = {"iu_xray": (60, 40, 100), "mimic_cxr": (100, 80, 120), "plain": (100, 0, 120)}
"""Data set → default (max_length, min_new_tokens, max_new_tokens): the original's scripts for its two data sets."""


@dataclass(frozen=True)
class DataConfig:
    """Where the studies are and how they are read."""

    dataset: str = option("mimic_cxr", "whose report cleaner to use; plain: text as it is", choices=tuple(LENGTHS))
    annotation: str = option(
        "./data/mimic_cxr/annotation.json", "annotation file in R2Gen's format", here=True, unit="FILE"
    )
    base_dir: str = option(
        "./data/mimic_cxr/images", "directory that image paths are relative to", here=True, unit="DIR"
    )
    max_length: int | None = option(
        None, "report tokens learnt, end token included; None: by `dataset`", low=2, unit="TOKENS"
    )
    batch_size: int = option(6, "studies a step (per device)", low=1, unit="STUDIES")
    val_batch_size: int = option(16, "studies a validation batch", low=1, here=True, unit="STUDIES")
    test_batch_size: int = option(16, "studies a test batch", low=1, here=True, unit="STUDIES")
    num_workers: int = option(
        0,
        "processes that read images (the original's 8 suits a large machine)",
        low=0,
        high=512,
        here=True,
        unit="PROCESSES",
    )
    prefetch_factor: int = option(4, "batches each worker reads ahead", low=1, here=True, unit="BATCHES")
    bucket_by_length: bool = option(
        False, "training batches of studies whose reports are about as long: less padding, but less mixed batches"
    )
    augment: bool = option(False, "training images: small random shifts, turns and contrast changes (never a mirror)")
    source_caps: tuple[str, ...] = option(
        (),
        "most studies of a `source` of the annotation in an epoch, as kermany=300: others each time, in val the same",
        unit="SOURCE=STUDIES",
    )
    frame: int | None = option(
        None, "DICOM of several frames: this one of each file, from 1", low=1, here=True, unit="FRAME"
    )
    force: bool = option(False, "read DICOM that is not a CR, DX or DR image of the chest", here=True)
    mixed_patients: bool = option(
        False, "take DICOM of two patients or two studies for the views of one study", here=True
    )
    feature_cache: str | None = option(
        None,
        "directory that keeps a frozen encoder's features: each image is read once, in this run and later ones",
        here=True,
        unit="DIR",
    )
    feature_cache_dtype: str = option(
        "float32",
        "how they are stored; float32: the loss without a cache, bit for bit on a CPU; half the size, or a quarter",
        choices=("float32", "float16", "bfloat16", "int8"),
        here=True,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.feature_cache is not None and self.augment:
            raise InputError(
                "keeps one form of each image, `augment` True asks for many",
                field="feature_cache",
                value=self.feature_cache,
            )
        if self.feature_cache is not None and not self.feature_cache.strip():
            raise InputError("`feature_cache` is empty: must be a directory, or None")
        if self.feature_cache is None and self.feature_cache_dtype != "float32":
            raise InputError(f"`feature_cache_dtype` {self.feature_cache_dtype} belongs to `feature_cache`: name that")

        if self.caps and self.bucket_by_length:
            raise InputError("`source_caps` draws studies anew each epoch: `bucket_by_length` True cannot sort them")

    @property
    def caps(self) -> dict[str, int]:
        """`source_caps` by source.

        Raises:
            InputError: an entry is not of the form SOURCE=NUMBER, or two name one source.
        """
        caps: dict[str, int] = {}
        for entry in self.source_caps:
            source, _, number = entry.rpartition("=")
            if not source or not (number.isascii() and number.isdigit() and int(number)):
                raise InputError("must be like kermany=300", field="source_caps", value=entry)
            if source in caps:
                raise InputError(f"names {source} twice", field="source_caps", value=" ".join(self.source_caps))
            caps[source] = int(number)
        return caps

    @property
    def report_tokens(self) -> int:
        """`max_length`, or the data set's own."""
        return self.max_length if self.max_length is not None else LENGTHS[self.dataset][0]
