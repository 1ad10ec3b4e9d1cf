"""How the reports of a whole archive are written. Writes none."""

from dataclasses import dataclass

from r2gengpt.errors import InputError
from r2gengpt.options import check_fields, option

BATCH_FORMATS = ("jsonl", "parquet")


@dataclass(frozen=True)
class BatchConfig:
    """What a bulk run reads, how it is cut, and who works on it."""

    input: str = option(
        "", "annotation.json, CSV (id, image_path; views by ;), a folder of images, or a DICOM tree", unit="PATH"
    )
    output: str = option(
        "", "directory of the run: shards, manifest.json, summary.html; started again, it goes on", unit="DIR"
    )
    base_dir: str | None = option(
        None, "what paths in a file are relative to; None: images beside it, or its folder", unit="DIR"
    )
    split: str = option("all", "annotation file: which split", choices=("all", "train", "val", "test"))
    format: str = option("jsonl", "of the shards", choices=BATCH_FORMATS)
    batch_size: int = option(8, "studies that a model writes at once", low=1, high=1024, unit="STUDIES")
    shard_size: int | None = option(
        None,
        "studies of a shard, which is written whole; None: four times `batch_size`",
        low=1,
        high=100_000,
        unit="STUDIES",
    )
    force: bool = option(False, "read DICOM that is not a CR, DX or DR image of the chest")
    mixed_patients: bool = option(False, "take DICOM of two patients or two studies for the views of one study")
    address: str | None = option(
        None, "HOST:PORT of a Ray cluster's head; None: a Ray of this program's own, here", unit="HOST:PORT"
    )
    actors: int = option(1, "models loaded, each in a process", low=1, unit="MODELS")
    threads: int | None = option(
        None,
        "CPU threads of each; None: this machine's shared out, or 1 with GPUs and on a cluster",
        low=1,
        unit="THREADS",
    )
    decode_workers: int | None = option(
        None,
        "without `address`: processes that read and decode; None: as many as CPUs are left, at least 1",
        low=1,
        high=512,
        unit="PROCESSES",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("input", "output"):
            if not getattr(self, name).strip():
                raise InputError(f"`{name}` is missing: name {'what to read' if name == 'input' else 'a directory'}")
        if self.address is not None and self.decode_workers is not None:
            raise InputError(
                "on a cluster (`address`) Ray settles that", field="decode_workers", value=self.decode_workers
            )

    @property
    def studies_a_shard(self) -> int:
        """`shard_size`, or its default."""
        return self.shard_size if self.shard_size is not None else 4 * self.batch_size
