"""Which model a name means: a checkpoint, a run, a whole model, an original file, or the embedded one. Loads none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r2gengpt.checkpoint_files import (
    EMBEDDED,
    SENTENCES,
    check_writes,
    find_checkpoint,
    is_original,
    is_whole_model,
    read_settings,
    tells_findings_only,
)
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, Stored
from r2gengpt.data.strict import read_json_object
from r2gengpt.errors import InputError
from r2gengpt.files import check_part, check_readable
from r2gengpt.generation.beams import Decodings, decodings
from r2gengpt.options import Override, check_choice
from r2gengpt.settings import ACCELERATORS, GENERATE, RETRIEVE, RUNTIMES, WARN, PlacementConfig, ReviewConfig

MOVABLE = ("vision_model", "lm_model")
"""Model settings that may differ from the checkpoint's: where the parts lie."""
HINT = "train with `findings_head` True and `keep_sentences` True to make it"


@dataclass(frozen=True)
class ModelChoice:
    """Which model is wanted, where it lies on this machine, and how it decodes.

    Attributes:
        name: embedded, a directory, or an original `.pth` file.
        field: the setting that gave the name, for errors.
        model: settings of the model that the user gave; all but `MOVABLE` must be the checkpoint's own.
        data: settings of the data that the user gave.
        decode: settings of decoding that the user gave.
        preset: a name of `DECODE_PRESETS`, or None.
        placement: settings of where the weights lie that the user gave.
        accelerator: auto, cpu, gpu, cuda or mps.
        runtime: torch, openvino, or auto: what the directory was made for.
        abstain_below: sentences less sure than this are marked for review; None marks none.
        writer: who writes the reports, by `WriterConfig`.
        film_guard: what becomes of a film that shows no chest, by `GuardConfig`.
        alias: how reports call the model; empty: by its directory.
        drafts: whether other studies' reports may be drafted from, where the model was trained to.

    Raises:
        InputError: words for `accelerator` or `runtime` that there are not, or an `abstain_below` that is none.
    """

    name: str = "embedded"
    field: str = "model"
    model: Override[ModelConfig] = Override(ModelConfig)
    data: Override[DataConfig] = Override(DataConfig)
    decode: Override[DecodeConfig] = Override(DecodeConfig)
    preset: str | None = None
    placement: Override[PlacementConfig] = Override(PlacementConfig)
    accelerator: str = "auto"
    runtime: str = "auto"
    abstain_below: float | None = None
    writer: str = GENERATE
    film_guard: str = WARN
    alias: str = ""
    drafts: bool = True

    def __post_init__(self) -> None:
        for name, words in (("accelerator", ACCELERATORS), ("runtime", RUNTIMES)):
            check_choice(getattr(self, name), words, name)
        ReviewConfig(self.abstain_below)

    @property
    def where(self) -> PlacementConfig:
        """How the weights are held, open settings by default."""
        return self.placement.settled()

    def device(self) -> str:
        """The torch device of the accelerator.

        Raises:
            InputError: it is not there.
        """
        from r2gengpt.parts.placement import device_of

        return device_of(self.accelerator)

    @property
    def retrieves(self) -> bool:
        """Whether reports are composed of training sentences."""
        return self.writer == RETRIEVE


@dataclass(frozen=True)
class TrainTexts:
    """Reports of a train split, which an index of drafts is made of where none lies beside the weights.

    Attributes:
        reports: the texts.
        dataset: whose cleaner to use.
        keep: whether the index is kept beside the weights: False in all but one of several processes.
    """

    reports: Sequence[str]
    dataset: str
    keep: bool


@dataclass(frozen=True)
class Located:
    """A model that is known by its settings; nothing of it is loaded.

    Attributes:
        choice: what was wanted.
        directory: of the checkpoint, or the original file.
        stored: how the model was made, under what the user gave.
        whole: a plain Hugging Face directory, whose parts are settled.
    """

    choice: ModelChoice
    directory: Path
    stored: Stored
    whole: bool = False

    def decodings(self, stored: Stored) -> Decodings:
        """How reports are decoded, whole and streamed.

        Args:
            stored: how the model was made, once it is loaded; else the located one's.

        Raises:
            InputError: a value is refused, or decoding.json is damaged.
        """
        choice, own = self.choice, stored.decode
        if not choice.drafts or choice.retrieves:
            own = own.under(Override(DecodeConfig, {"speculate": False}))
        return decodings(own, choice.decode, choice.preset, dataset=stored.dataset, directory=self.directory)

    @property
    def name(self) -> str:
        """As reports call the model."""
        return self.directory.name or str(self.directory)


def locate(choice: ModelChoice) -> Located:
    """The model that a choice means.

    Raises:
        InputError: no model there, or settings that contradict it.
    """
    located = _locate(choice)
    if choice.retrieves:
        check_retrieves(located)
    elif not located.whole and not tells_findings_only(located.stored):
        check_parts(located.stored.model.values)
    return located


def check_parts(values: Mapping[str, Any]) -> None:
    """Refuse parts that are not where settings name them; nothing is loaded, and no hub is asked.

    Raises:
        InputError: no such directory, none of Hugging Face's, or an embedded part that is not in the cache.
    """
    from r2gengpt.parts.embedded.cache import resolve

    for name in MOVABLE:
        check_part(resolve(str(values[name])), name)


def check_retrieves(located: Located) -> None:
    """Refuse to write by retrieval where there is nothing to retrieve.

    Raises:
        InputError: no finding head, no sentences beside the weights, or marks that need token probabilities.
    """
    choice = located.choice
    about = f"`{choice.field}` {choice.name}"
    if not (located.whole or located.stored.model.values.get("findings_head", False)):
        raise InputError(f"{about} has no finding head: {HINT}", field="writer", value=choice.writer)
    if not (located.directory / SENTENCES).is_file():
        raise InputError(f"{about} has no {SENTENCES}: {HINT}", field="writer", value=choice.writer)
    if choice.abstain_below is not None:
        words = "sentences that `writer` retrieve takes from reports have no probability"
        raise InputError(words, field="abstain_below", value=choice.abstain_below)


def _locate(choice: ModelChoice) -> Located:
    """`locate`, whoever writes."""
    asked = choice.model
    if is_original(choice.name):
        path = Path(choice.name)
        check_readable(path, str(path))  # before PyTorch is loaded
        from r2gengpt.original.convert import model_settings
        from r2gengpt.original.read import read_original

        original = read_original(path)
        model = Override(ModelConfig, vars(model_settings(original, asked, path)))
        data = Override(DataConfig, {"dataset": DataConfig().dataset}).under(original.stored.data).under(choice.data)
        return Located(choice, path, replace(original.stored, model=model, data=data))
    directory = EMBEDDED if choice.name == "embedded" else find_checkpoint(choice.name, choice.field)
    if not is_whole_model(directory, choice.field):
        stored = read_settings(directory, choice.field)
        check_agreement(stored.model, asked)
        return Located(
            choice, directory, replace(stored, model=stored.model.under(asked), data=stored.data.under(choice.data))
        )
    whole = {**choice.placement.values, **asked.values}
    for name, value in whole.items():
        if name not in ("dtype", "lm_endpoint") and (name, value) != ("quantization", "w8a8"):
            words = f"`{choice.field}` {choice.name} is a whole model, its parts are settled"
            raise InputError(words, field=name, value=value)
    stored = Stored.of({"vision_model": choice.name, "lm_model": choice.name})
    return Located(choice, directory, replace(stored, data=choice.data), whole=True)


def locate_writer(choice: ModelChoice) -> Located:
    """`locate`, for what needs reports.

    Raises:
        InputError: as there; the model's finding head was trained alone, and the language model is to write.
    """
    located = locate(choice)
    check_writer(located)
    return located


def check_writer(located: Located) -> None:
    """Refuse what writes no reports.

    Raises:
        InputError: as `locate_writer`.
    """
    choice = located.choice
    if not choice.retrieves:
        check_writes(located.stored, choice.name, choice.field)


def check_agreement(stored: Override[ModelConfig], asked: Override[ModelConfig]) -> None:
    """Refuse model settings that contradict what was trained.

    Raises:
        InputError: one differs from the checkpoint's value; both are named.
    """
    for name, value in asked.values.items():
        if name in stored and name not in MOVABLE and value != stored.values[name]:
            raise InputError(f"the checkpoint was trained with {stored.values[name]}", field=name, value=value)


def encoder_side(located: Located) -> int:
    """The side in pixels that the model's films are resized to.

    Told by the files beside its encoder, without a library; a hub's name is asked through the library.

    Raises:
        InputError: the encoder's files cannot be read.
    """
    from r2gengpt.parts.embedded.cache import resolve

    name = resolve(str(located.stored.model.values["vision_model"]))
    for file in ("preprocessor_config.json", "processor_config.json"):
        path = Path(name) / file
        if path.is_file():
            content = read_json_object(path, f"`vision_model` {name}")
            sizes = content.get("image_processor", content).get("size")
            found = [value for value in sizes.values() if isinstance(value, int)] if isinstance(sizes, dict) else []
            if found:
                return max(found)
    from r2gengpt.model.processing import film_side
    from r2gengpt.parts.loading import load_image_processor

    remote = located.choice.where.trust_remote_code
    return film_side(load_image_processor(name, trust_remote_code=remote, whole=located.whole))
