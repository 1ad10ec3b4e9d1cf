"""Settings of what runs, measures or serves a model, as frozen dataclasses. None of them is stored with weights."""

import re
from dataclasses import dataclass

from r2gengpt.errors import InputError
from r2gengpt.options import check_fields, option

AE_TITLE = re.compile(r"(?! )[ -\[\]-~]{1,16}(?<! )")
MEMORY_LIMIT = re.compile(r"([0-9]{1,3}|cpu)=([0-9]{1,6}(?:GiB|MiB|KiB|GB|MB|KB))")
"""A device, and a size in the words that accelerate reads."""


@dataclass(frozen=True)
class PlacementConfig:
    """How a model is held on this machine, and whose code may run. Never stored with weights, never read from them."""

    quantization: str = option(
        "auto",
        "frozen weights of the language model in 8 or 4 bits (needs bitsandbytes); auto: as `lm_model` holds them; "
        "w8a8: weights and products in 8 bits, for writing reports on a CPU (not for training)",
        choices=("auto", "none", "int8", "nf4", "fp4", "w8a8"),
    )
    double_quant: bool = option(False, "4 bits: quantize the quantization's constants too")
    low_resource: bool = option(False, "the original's name for `quantization` int8")
    dtype: str = option(
        "auto",
        "frozen weights in memory; auto: bfloat16 where `precision` or the device has it, else float32",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    device_map: str = option(
        "none",
        "layers of the language model: none, on one device; auto, spread over all devices, then memory, then "
        "`offload_folder` (not in training)",
        choices=("none", "auto"),
    )
    offload_folder: str | None = option(
        None, "`device_map` auto: layers that fit nowhere else are read from disk", unit="DIR"
    )
    max_memory: tuple[str, ...] = option(
        (),
        "`device_map` auto: most to take, as 0=20GiB cpu=8GiB (a number is a GPU); none: what is free",
        unit="DEVICE=SIZE",
    )
    trust_remote_code: bool = option(
        False, "run Python code that comes with `vision_model` or `lm_model`; a checkpoint cannot ask for it"
    )
    lm_endpoint: str | None = option(
        None,
        "where vLLM serves the language model of a directory of `export` with `target` vllm, as http://host:8000/v1",
        unit="URL",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.low_resource:
            if self.quantization not in ("auto", "int8"):
                raise InputError(f"`low_resource` True means int8, but `quantization` is {self.quantization}: give one")
            object.__setattr__(self, "quantization", "int8")
        if self.double_quant and self.quantization not in ("nf4", "fp4"):
            raise InputError(f"`double_quant` True belongs to nf4 and fp4, but `quantization` is {self.quantization}")
        if self.device_map == "none" and (self.max_memory or self.offload_folder is not None):
            name = "max_memory" if self.max_memory else "offload_folder"
            raise InputError(f"`{name}` belongs to `device_map` auto, but `device_map` is none")
        if self.offload_folder is not None and self.quantization in ("int8", "nf4", "fp4", "w8a8"):
            raise InputError(f"`offload_folder`: {self.quantization} weights cannot be read from disk layer by layer")
        if len(self.memory_limits) != len(self.max_memory):
            raise InputError("names a device twice", field="max_memory", value=" ".join(self.max_memory))

    @property
    def memory_limits(self) -> dict[int | str, str]:
        """`max_memory` by device: a GPU's number, or cpu.

        Raises:
            InputError: an entry is not of the form DEVICE=SIZE.
        """
        limits: dict[int | str, str] = {}
        for entry in self.max_memory:
            found = MEMORY_LIMIT.fullmatch(entry)
            if found is None:
                raise InputError("must be like 0=20GiB, 1=500MB or cpu=8GiB", field="max_memory", value=entry)
            limits[int(found[1]) if found[1].isdecimal() else found[1]] = found[2]
        return limits


@dataclass(frozen=True)
class CellConfig:
    """What decoding one image may take; it is done in a process of its own, which is ended beyond that."""

    decode_seconds: float = option(
        30.0,
        "processor seconds for decoding one image, four times as many by the clock; then it is refused",
        above=0.0,
        high=3600.0,
        unit="SECONDS",
    )
    decode_memory_mb: int = option(
        2048,
        "MiB of memory for decoding one image, 80 megapixels included; then it is refused",
        low=256,
        high=65536,
        unit="MIB",
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ReviewConfig:
    """Which sentences are marked for review."""

    abstain_below: float | None = option(
        None,
        "mark sentences whose confidence is below this as needing review; without a calibration beside the model "
        "confidence is exp(mean log-probability)",
        low=0.0,
        high=1.0,
        unit="PROBABILITY",
    )

    def __post_init__(self) -> None:
        check_fields(self)


GENERATE, RETRIEVE = "generate", "retrieve"
WRITERS = (GENERATE, RETRIEVE)


@dataclass(frozen=True)
class WriterConfig:
    """Who writes the reports."""

    writer: str = option(
        GENERATE,
        "generate: the language model; retrieve: sentences of training reports that fit what the finding head sees, "
        "each with its source (train with `keep_sentences` True)",
        choices=WRITERS,
    )

    def __post_init__(self) -> None:
        check_fields(self)


METHODS = ("findings", "occlusion", "gradient")


@dataclass(frozen=True)
class EvidenceConfig:
    """Which parts of the images a test's texts rest on."""

    evidence: bool = option(
        False, "maps of the image tokens that each sentence rests on, with a faithfulness number: evidence.jsonl"
    )
    evidence_studies: int = option(
        20, "how many studies get maps: the best, median and worst by CIDEr", low=1, unit="STUDIES"
    )
    evidence_method: str | None = option(
        None,
        "findings: the patches that the finding head read a sentence's finding from; occlusion: the drop of a "
        "sentence's log-probability when image tokens are masked; gradient: faster, less faithful; None: findings "
        "where there is a head, else occlusion",
        choices=METHODS,
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class SeedsConfig:
    """How many whole runs a training is."""

    seeds: int = option(
        1,
        "whole runs, with consecutive seeds from `seed` on, each in a directory seed-N of `savedmodel_path`; "
        "summary.json there has mean and sd of their scores. What is finished is not run again",
        low=1,
        high=100,
        unit="RUNS",
    )

    def __post_init__(self) -> None:
        check_fields(self)


METEOR_NAMES = ("python", "jar", "none")


@dataclass(frozen=True)
class HonestyConfig:
    """What a test measures beside the model."""

    shuffle_images: bool = option(
        False, "write a second time, with images shuffled between studies: the difference is the grounding gap"
    )
    nearest_image: str = option(
        "auto",
        "baseline: the training report whose images are nearest; auto: with `feature_cache`, or where there are at "
        "most 5,000 training images to read",
        choices=("auto", "True", "False"),
    )
    nearest_labels: str = option(
        "auto",
        "baseline: the training report whose labels are nearest to what the finding head sees; auto: where they are "
        "given, or at most 5,000 training reports are to be read for them",
        choices=("auto", "True", "False"),
    )
    oracle_hint: str = option(
        "auto",
        "ceiling: write a second time, with the true labels in the hint; auto: for at most 1,000 studies",
        choices=("auto", "True", "False"),
    )
    text_only: str = option(
        "auto",
        "baseline: write a second time, with grey in place of the films; auto: of a model trained with `context`",
        choices=("auto", "True", "False"),
    )
    meteor: str = option(
        "python",
        "python: METEOR 1.5 (the extra metrics); jar: the same by its jar, which needs Java and seconds to start",
        choices=METEOR_NAMES,
    )
    calibrate: bool = option(
        False,
        "fit the confidence of sentences on the val split first, and keep it beside the weights, in calibration.json",
    )
    patient_of: str | None = option(
        None,
        "regular expression that finds the patient in a study's id (its first group, or all of it): patients are "
        "resampled then; None: the patient or subject_id that the annotation names, if any",
        unit="REGEX",
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class AuditConfig:
    """Which studies an audit asks about, and whom."""

    annotation: str = option("", "annotation file, with labels or reports that tell them", unit="FILE")
    base_dir: str = option("", "what its image paths are relative to", unit="DIR")
    split: str = option("test", "which split", choices=("test", "val", "train"))
    output: str = option("audit", "where answers.jsonl, audit.json and audit.html go; started again, it goes on",
                         unit="DIR")  # fmt: skip
    sources: tuple[str, ...] = option((), "only studies of these sources; none: all", unit="SOURCE")
    studies: int = option(
        100, "how many are drawn, from each source and finding in turn; each is asked about up to ten times",
        low=2, high=100_000, unit="STUDIES",
    )  # fmt: skip
    seed: int = option(0, "seed of what is drawn", low=0, unit="SEED")
    endpoint: str | None = option(
        None,
        "an OpenAI-compatible server in place of a model, as http://host:8000/v1: films are sent there",
        unit="URL",
    )
    endpoint_model: str | None = option(None, "the model's name there", unit="NAME")
    endpoint_prompt: str = option(
        "Generate a comprehensive and detailed diagnosis report for this chest xray image.",
        "what it is asked for",
        unit="TEXT",
    )
    endpoint_key: str = option("OPENAI_API_KEY", "environment variable that holds its key", unit="VARIABLE")
    endpoint_timeout: float = option(120.0, "seconds that an answer may take", above=0.0, unit="SECONDS")

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("annotation", "base_dir", "output"):
            if not getattr(self, name).strip():
                raise InputError(f"`{name}` is missing: name a {'file' if name == 'annotation' else 'directory'}")
        if (self.endpoint is None) is not (self.endpoint_model is None):
            raise InputError("`endpoint` and `endpoint_model` belong together: give both, or a `model`")


@dataclass(frozen=True)
class VerdictsConfig:
    """Which verdicts are reviewed, and which drafts others are compared with."""

    verdicts: str = option("", "where they are kept: a file of SQLite, or postgresql://USER@HOST/NAME", unit="FILE|URL")
    output: str | None = option("review.html", "page to write; None: no page", unit="FILE")
    format: str = option("text", "what is printed", choices=("text", "json"))
    reference: tuple[str, ...] = option(
        (), "first and last day of the reference period, as 2026-01-01 2026-01-31; none: the first drafts", unit="DAY"
    )
    reference_drafts: int = option(
        100, "drafts of the reference period where no days are named", low=1, high=1_000_000, unit="DRAFTS"
    )
    recent_drafts: int = option(
        100, "latest drafts that are compared with the reference period", low=1, high=1_000_000, unit="DRAFTS"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.verdicts.strip():
            raise InputError("`verdicts` is missing: name a file, or the URL of a PostgreSQL server")
        if self.output is not None and not self.output.strip():
            raise InputError("`output` is empty: must name a file")


OBJECT_FORMS = ("sr", "measurement-sr", "pdf", "secondary-capture")
"""Forms of a report that are DICOM objects; `clinical.documents.forms` has what each is, and a test compares them."""


def check_forms(forms: tuple[str, ...]) -> None:
    """Refuse no form, and one that is named twice.

    Raises:
        InputError: so it is.
    """
    if not forms:
        raise InputError("`format` is empty: must name a form")
    if len(set(forms)) < len(forms):
        raise InputError("names a form twice", field="format", value=" ".join(forms))


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


@dataclass(frozen=True)
class ServeConfig:
    """Who may ask the server, and for how much."""

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 is every one that this machine has", unit="ADDRESS")
    port: int = option(8000, "port; 0: a free one, which is printed", low=0, high=65535, unit="PORT")
    runtime: str = option(
        "auto",
        "what runs the model; auto: what its directory was made for; openvino, for embedded too: drafts without "
        "PyTorch, ready sooner, one at a time and without maps",
        choices=("auto", "torch", "openvino"),
    )
    slots: int = option(8, "studies written at once", low=1, unit="STUDIES")
    queue_size: int = option(
        32, "requests that may wait besides; one more is answered with 429", low=0, unit="REQUESTS"
    )
    request_timeout: float = option(
        300.0, "seconds for one request, waiting included; then 504", above=0.0, unit="SECONDS"
    )
    drain_timeout: float = option(
        25.0, "SIGTERM: seconds that running requests have to finish", above=0.0, unit="SECONDS"
    )
    max_body_mb: int = option(32, "largest request in MiB", low=1, high=1024, unit="MIB")
    max_megapixels: int = option(
        40, "largest image in megapixels, looked at before it is decoded", low=1, high=80, unit="MEGAPIXELS"
    )
    max_images: int = option(8, "most images of a study", low=1, high=64, unit="FILMS")
    max_connections: int = option(
        512,
        "open connections; beyond, the one that has kept the server waiting longest is closed",
        low=8,
        unit="CONNECTIONS",
    )
    max_connections_each: int = option(
        128, "the same of one address; behind a reverse proxy all have the proxy's", low=4, unit="CONNECTIONS"
    )
    api_key_file: str | None = option(
        None,
        "file of API keys, one a line; without it R2GENGPT_API_KEYS; without both no key is asked for",
        unit="FILE",
    )
    api_keys: str | None = option(
        None,
        "file of API keys with roles, which `r2gengpt keys` writes; it is read again when it changes",
        unit="FILE",
    )
    oidc_issuer: str | None = option(
        None,
        "OpenID provider whose tokens (JWT) let callers in, as https://login.example/realms/hospital",
        unit="URL",
        here=True,
    )
    oidc_audience: str | None = option(None, "what tokens must be for (`aud`): this server's name there", unit="NAME")
    oidc_role_claim: str = option(
        "roles", "claim of a token that holds its roles (read, report, admin), as realm_access.roles", unit="NAME"
    )
    oidc_ca_file: str | None = option(
        None, "certificates that the provider's must come from, PEM; without it the system's", unit="FILE", here=True
    )
    cors_origin: tuple[str, ...] = option((), "web origins that may read answers, as https://host:port", unit="ORIGIN")
    verdicts: str | None = option(
        None,
        "where readers' verdicts are kept: a file of SQLite, or postgresql://USER@HOST/NAME; holds texts of patients",
        unit="FILE|URL",
        here=True,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.host.strip():
            raise InputError("`host` is empty: must be an address, as 127.0.0.1")
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise InputError("`oidc_issuer` and `oidc_audience` belong together")
        if self.oidc_issuer is None and self.oidc_ca_file is not None:
            raise InputError("`oidc_ca_file` has an effect with `oidc_issuer` only")
        if self.oidc_audience is not None and not self.oidc_audience.strip():
            raise InputError("`oidc_audience` is empty: tokens for anybody would count")
        for origin in self.cors_origin:
            if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
                raise InputError("must be like https://host or http://host:port", field="cors_origin", value=origin)

    @property
    def places(self) -> int:
        """Requests that are in work or wait, at most."""
        return self.slots + self.queue_size


@dataclass(frozen=True)
class AuditLogConfig:
    """Where it is recorded who did what with whose films."""

    audit_log: str | None = option(
        None,
        "directory of an audit log: DICOM audit messages, chained by hashes; what cannot be recorded is refused",
        unit="DIR",
        here=True,
    )
    audit_syslog: str | None = option(
        None,
        "syslog server that the records of `audit_log` go to as well, by TLS, as log.example:6514",
        unit="HOST:PORT",
        here=True,
    )
    audit_syslog_ca: str | None = option(
        None, "certificates that the syslog server's must come from, PEM", unit="FILE", here=True
    )
    audit_syslog_cert: str | None = option(None, "our certificate for the syslog server, PEM", unit="FILE", here=True)
    audit_syslog_key: str | None = option(None, "its private key, PEM, without a password", unit="FILE", here=True)

    def __post_init__(self) -> None:
        check_fields(self)
        parts = (self.audit_syslog_ca, self.audit_syslog_cert, self.audit_syslog_key)
        if self.audit_syslog is None:
            if parts != (None, None, None):
                raise InputError("`audit_syslog_ca`, `audit_syslog_cert` and `audit_syslog_key` need `audit_syslog`")
            return
        self.syslog  # noqa: B018  # refuses what is no address
        if self.audit_log is None:
            raise InputError("`audit_syslog` needs `audit_log`: its files are what is sent")
        if self.audit_syslog_ca is None:
            raise InputError("`audit_syslog_ca` is missing: by whom is the certificate of `audit_syslog`?")
        if (self.audit_syslog_cert is None) != (self.audit_syslog_key is None):
            raise InputError("`audit_syslog_cert` and `audit_syslog_key` belong together")

    @property
    def syslog(self) -> tuple[str, int]:
        """Host and port of `audit_syslog`.

        Raises:
            InputError: it is no such address.
        """
        return host_and_port(self.audit_syslog or "", "audit_syslog", "log.example:6514")


def host_and_port(text: str, field: str, example: str) -> tuple[str, int]:
    """The host and the port of an address; an IPv6 address stands in brackets.

    Raises:
        InputError: it is no such address.
    """
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_port = re.fullmatch("[0-9]{1,5}", port) and 1 <= int(port) <= 65535
    if not re.fullmatch(r"[^\s/@\[\]]+", host) or not is_port:
        raise InputError(f"must be like {example}, or [::1]:{example.rpartition(':')[2]}", field=field, value=text)
    return host, int(port)


GIB = 2**30


@dataclass(frozen=True)
class PriorConfig:
    """Where `listen` looks for the patient's study before."""

    prior_host: str | None = option(
        None, "of a model trained with `prior_study`: the patient's newest earlier chest study comes from this host by "
        "C-FIND and C-GET, or C-MOVE with `prior_move_port`", unit="HOST",
    )  # fmt: skip
    prior_port: int | None = option(None, "its port", low=1, high=65535, unit="PORT")
    prior_ae: str | None = option(None, "its AE title", unit="TITLE")
    prior_move_port: int | None = option(
        None, "films come by C-MOVE to this port of `bind`, which is open while a study is fetched",
        low=1, high=65535, unit="PORT",
    )  # fmt: skip
    prior_move_ae: str = option("R2GENGPT_PRIOR", "the title that the archive knows that port by", unit="TITLE")
    prior_url: str | None = option(
        None, "or by DICOMweb from this URL (QIDO-RS, WADO-RS), as http://host:8042/dicom-web", unit="URL"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        dimse = [self.prior_host, self.prior_port, self.prior_ae]
        if any(one is not None for one in dimse) and None in dimse:
            raise InputError("`prior_host`, `prior_port` and `prior_ae` belong together")
        if self.prior_host is not None and self.prior_url is not None:
            raise InputError("`prior_host` and `prior_url` both name who has earlier studies: give one")
        if self.prior_move_port is not None and self.prior_host is None:
            raise InputError("belongs to `prior_host`", field="prior_move_port", value=self.prior_move_port)
        for field in ("prior_ae", "prior_move_ae"):
            title = getattr(self, field)
            if title is not None and not AE_TITLE.fullmatch(title):
                raise InputError("must be 1 to 16 printable ASCII signs without \\", field=field, value=repr(title))


@dataclass(frozen=True)
class ListenConfig:
    """Who may send films, where they wait, and who gets the reports."""

    bind: str = option("127.0.0.1", "address to listen on; 0.0.0.0 is every one that this machine has", unit="ADDRESS")
    port: int = option(11112, "port; 0: a free one, which is printed", low=0, high=65535, unit="PORT")
    ae_title: str = option("R2GENGPT", "our AE title: peers must call it", unit="TITLE")
    allowed_aets: tuple[str, ...] = option(
        (), "AE titles that may send; none named: all (a title proves nothing)", unit="TITLE"
    )
    spool: str = option("spool", "directory that films wait in; holds patient data", unit="DIR")
    quiet_seconds: float = option(
        30.0, "a study is complete when no film of it has come for so long", low=0.0, unit="SECONDS"
    )
    keep_sent_seconds: float = option(
        86400.0, "films and report of a study stay in `spool` for so long after it was sent, or until room is needed",
        low=0.0, unit="SECONDS",
    )  # fmt: skip
    max_images: int = option(8, "most films of a study", low=1, high=64, unit="FILMS")
    mixed_patients: bool = option(False, "report studies whose films name two patients too, with a note in the report")
    max_instance_bytes: int = option(
        128 * 2**20, "largest film; a larger one ends its association", low=1024, high=GIB, unit="BYTES"
    )
    max_spool_bytes: int = option(
        20 * GIB, "most bytes in `spool`; then films are refused: out of resources", low=1024, unit="BYTES"
    )
    max_associations: int = option(8, "senders at once", low=1, high=256, unit="SENDERS")
    to_host: str | None = option(None, "reports go by C-STORE to this host", unit="HOST")
    to_port: int | None = option(None, "its port", low=1, high=65535, unit="PORT")
    to_ae: str | None = option(None, "its AE title", unit="TITLE")
    stow: str | None = option(
        None, "reports go by DICOMweb STOW-RS to this URL, as http://host:8042/dicom-web", unit="URL"
    )
    format: tuple[str, ...] = option(
        ("sr",), "forms of the reports, an object each; see `generate`", choices=OBJECT_FORMS
    )
    tls_cert: str | None = option(
        None, "TLS at `port` and in C-STORE of reports: our certificate and those above it, PEM", unit="FILE"
    )
    tls_key: str | None = option(None, "its private key, PEM, without a password", unit="FILE")
    tls_ca: str | None = option(
        None, "whose certificates peers must have, in and out, PEM; without it senders need none", unit="FILE"
    )
    to_tls: bool = option(True, "with `tls_cert`: C-STORE of reports by TLS too; False: in plain text")
    to_name: str | None = option(None, "name in the certificate of `to_host`, where it is another one", unit="NAME")

    def __post_init__(self) -> None:
        check_fields(self)
        check_forms(self.format)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("`tls_cert` and `tls_key` belong together")
        if self.tls_ca is not None and self.tls_cert is None:
            raise InputError("`tls_ca` needs `tls_cert` and `tls_key`")
        names = [("ae_title", self.ae_title), *(("allowed_aets", name) for name in self.allowed_aets)]
        if self.to_ae is not None:
            names.append(("to_ae", self.to_ae))
        for field, name in names:
            if not AE_TITLE.fullmatch(name):
                raise InputError("must be 1 to 16 printable ASCII signs without \\", field=field, value=repr(name))
        for field in ("bind", "spool"):
            if not getattr(self, field).strip():
                raise InputError(f"`{field}` is empty", field=field)
        if self.max_spool_bytes < self.max_instance_bytes:
            raise InputError(
                f"`max_spool_bytes` {self.max_spool_bytes} is less than `max_instance_bytes` {self.max_instance_bytes}"
            )

    def check_peer(self) -> None:
        """Refuse no peer, half a peer, and two.

        Raises:
            InputError: so it is.
        """
        parts = {"to_host": self.to_host, "to_port": self.to_port, "to_ae": self.to_ae}
        missing = [f"`{name}`" for name, value in parts.items() if value is None]
        if self.stow is not None and len(missing) < len(parts):
            raise InputError("`stow` and `to_host` name two peers for reports: give one")
        if self.stow is None and missing:
            raise InputError(f"who gets the reports? {', '.join(missing)} missing (or give `stow` URL)")
        self._check_peer_tls()

    def _check_peer_tls(self) -> None:
        """Refuse half of what TLS to the peer needs."""
        is_tls = self.tls_cert is not None and self.to_host is not None
        if is_tls and self.to_tls and self.tls_ca is None:
            raise InputError("`tls_ca` is missing: by whom is the certificate of `to_host` (or `to_tls` False)?")
        if not self.to_tls and not is_tls:
            raise InputError("`to_tls` False has an effect with `tls_cert` and `to_host` only")
        if self.to_name is not None and not (is_tls and self.to_tls):
            raise InputError("`to_name` has an effect with `tls_cert` and `to_host` only, without `to_tls` False")


@dataclass(frozen=True)
class MllpConfig:
    """HL7 v2 over MLLP beside DICOM: where orders come in, and who gets results."""

    mllp_port: int | None = option(
        None, "orders come in by HL7 over MLLP at this port of `bind`; 0: a free one, which is printed",
        low=0, high=65535, unit="PORT",
    )  # fmt: skip
    mllp: str | None = option(
        None, "results go by HL7 over MLLP to this address too, as ris.example:2575", unit="HOST:PORT"
    )
    mllp_receiver: str = option(
        "", "receiving application and facility of results (MSH-5, MSH-6), as RIS^HOSPITAL", unit="NAME"
    )
    mllp_tls: bool = option(True, "with `tls_cert`: MLLP by TLS too, in and out; False: in plain text")
    max_message_bytes: int = option(
        2**20, "largest message; a larger one is rejected and ends its connection", low=1024, high=64 * 2**20,
        unit="BYTES",
    )  # fmt: skip
    max_mllp_peers: int = option(
        16,
        "senders of orders at once; then the one that was answered longest ago goes",
        low=1,
        high=256,
        unit="SENDERS",
    )
    max_orders: int = option(
        100_000, "most orders that are kept; then the oldest go", low=1, high=10_000_000, unit="ORDERS"
    )
    keep_orders_seconds: float = option(
        2_592_000.0, "an order is kept for so long after it came", above=0.0, unit="SECONDS"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        part = r"[ -%'-\[\]_-{}]{0,180}"
        if not re.fullmatch(rf"{part}\^?{part}", self.mllp_receiver):
            words = "must be APPLICATION^FACILITY, of printable ASCII signs without | ~ & \\"
            raise InputError(words, field="mllp_receiver", value=repr(self.mllp_receiver))
        if self.mllp is not None:
            self.peer  # noqa: B018  # refuses what is no address

    @property
    def peer(self) -> tuple[str, int]:
        """Host and port of `mllp`.

        Raises:
            InputError: it is no such address.
        """
        return host_and_port(self.mllp or "", "mllp", "ris.example:2575")

    def check_with(self, listen: ListenConfig) -> None:
        """Refuse what does not fit the other settings of the command.

        Raises:
            InputError: so it is.
        """
        is_used = self.mllp is not None or self.mllp_port is not None
        if self.mllp_receiver and self.mllp is None:
            raise InputError("`mllp_receiver` has an effect with `mllp` only")
        if not self.mllp_tls and not (is_used and listen.tls_cert is not None):
            raise InputError("`mllp_tls` False has an effect with `tls_cert` and `mllp` or `mllp_port` only")
        if self.mllp is not None and self.mllp_tls and listen.tls_cert is not None and listen.tls_ca is None:
            raise InputError("`tls_ca` is missing: by whom is the certificate of `mllp` (or `mllp_tls` False)?")
        if self.mllp_port and self.mllp_port == listen.port:
            raise InputError("is the port of films too", field="mllp_port", value=self.mllp_port)


@dataclass(frozen=True)
class WorklistConfig:
    """Which work items of a worklist server (UPS-RS) are performed, where claims are kept, and how much."""

    worklist: str = option("", "DICOMweb service that has the work items, as http://host:8042/dicom-web", unit="URL")
    archive: str | None = option(
        None, "DICOMweb service that has the films and gets the reports; None: that of `worklist`", unit="URL"
    )
    station: str = option(
        "R2GENGPT", "code value of the Scheduled Station Name: items that are scheduled for it are claimed", unit="CODE"
    )
    procedures: tuple[str, ...] = option(
        (), "code values of the Scheduled Workitem Code that are performed; none named: all", unit="CODE"
    )
    claims: str = option("claims", "directory of the claimed work items; holds patient data", unit="DIR")
    poll_seconds: float = option(
        10.0, "time between two searches for work items", low=0.0, high=86400.0, unit="SECONDS"
    )
    fetch_seconds: float = option(
        3600.0, "a work item whose films do not come for so long after its claim is canceled", low=0.0, unit="SECONDS"
    )
    max_claimed: int = option(4, "most work items that are claimed and not finished", low=1, high=100, unit="ITEMS")
    format: tuple[str, ...] = option(
        ("sr",), "forms of the reports, an object each; see `generate`", choices=OBJECT_FORMS
    )
    max_images: int = option(8, "most films of a work item", low=1, high=64, unit="FILMS")
    mixed_patients: bool = option(False, "report films that name two patients, or another one than the item, too")
    max_bytes: int = option(2**30, "most bytes of an answer with films", low=1, unit="BYTES")

    def __post_init__(self) -> None:
        check_fields(self)
        check_forms(self.format)
        if not self.worklist.strip():
            raise InputError("`worklist` is missing: name the URL of a DICOMweb service with work items")
        if not self.claims.strip():
            raise InputError("`claims` is empty: must name a directory")
        for field, codes in (("station", (self.station,)), ("procedures", self.procedures)):
            for code in codes:
                if not re.fullmatch(r"(?! )[ -\[\]-~]{1,16}(?<! )", code):
                    raise InputError("must be 1 to 16 printable ASCII signs without \\", field=field, value=repr(code))
