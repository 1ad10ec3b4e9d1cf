"""`r2gengpt train`: flags to a training run. With --test or --validate it scores instead, as the original does."""

import logging
from collections.abc import Sequence
from pathlib import Path

from r2gengpt.checkpoint_files import find_checkpoint, is_original, read_settings, stored_prompt
from r2gengpt.cli import bridge
from r2gengpt.cli.console import return_large_blocks, start_logging
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, ReinforceConfig, RunConfig, TrainConfig
from r2gengpt.files import check_readable
from r2gengpt.locate import check_parts
from r2gengpt.options import Override
from r2gengpt.settings import PlacementConfig, SeedsConfig

log = logging.getLogger("r2gengpt.cli")
FLAGS = (ModelConfig, DataConfig, DecodeConfig, TrainConfig, ReinforceConfig, PlacementConfig, SeedsConfig)
COMMON = (
    "annotation", "base_dir", "dataset", "savedmodel_path", "vision_model",
    "lm_model", "llm_use_lora", "max_epochs", "batch_size", "learning_rate",
)  # fmt: skip
"""The flags that most calls need."""
ONLY_WITH = {
    "llm_use_lora": ("llm_r", "llm_alpha", "llm_lora_targets"),
    "vis_use_lora": ("vis_r", "vis_alpha", "vis_lora_targets"),
    "context": ("context_fields",),
}
"""Setting that is True or False → those that nothing reads where it is False."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt train",
        "Train a model on an annotation file. Stopped or killed, the same command goes on where the run was. "
        "Prints the path of the best checkpoint.",
        common=COMMON,
        example="r2gengpt train --annotation iu/annotation.json --base_dir iu/images",
    )
    bridge.add_flags(made, FLAGS)
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints where the best checkpoint is."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    options, where = parsed.settled(TrainConfig), parsed.settled(PlacementConfig)
    config = RunConfig(
        model=parsed.settled(ModelConfig),
        data=parsed.settled(DataConfig),
        decode=parsed.decode.settled(),
        train=options,
        reinforce=parsed.settled(ReinforceConfig),
    )
    seeds = parsed.settled(SeedsConfig).seeds
    if seeds == 1 and (options.test or options.validate):
        from r2gengpt.cli.evaluating import Asked, evaluate

        evaluate(parsed, Asked(split="test" if options.test else "val"))
        return
    if options.stage == "reinforce":
        config = as_supervised(config, parsed)
    check_named(config)
    start_logging()
    for switch, names in ONLY_WITH.items():
        if (unread := set_among(names, parsed)) and not getattr(config.model, switch):
            log.warning("%s: no effect without `%s` True", ", ".join(unread), switch)
    if seeds > 1:
        from r2gengpt.cli.seeding import train_seeds

        train_seeds(started(config, parsed), where, seeds)
        return
    if options.gradient_checkpointing:  # memory is dearer than time
        return_large_blocks()
    from r2gengpt.training.run import train

    summary = train(started(config, parsed), where)
    if summary.is_first:
        if summary.result is not None:
            print(summary.result.table())
        print(summary.checkpoint)


def set_among(names: Sequence[str], parsed: bridge.Parsed) -> list[str]:
    """Settings of the model that the user chose: flags, and what a `--config` file, which may hold all, has changed."""
    chosen = [name for name in names if parsed.values.get(name, default := getattr(ModelConfig(), name)) != default]
    return [f"`{name}`" for name in names if name in chosen or hasattr(parsed.space, name)]


def check_named(config: RunConfig) -> None:
    """Refuse what is not where the flags name it, before anything large is loaded.

    Raises:
        InputError: no such checkpoint, annotation file or part.
    """
    source = config.train.start_from
    if source is not None and is_original(source):
        check_readable(Path(source), source)
        return  # its settings name parts, and are read next
    if source is not None:
        find_checkpoint(source, "ckpt_file")
    check_readable(Path(config.data.annotation), f"`annotation` {config.data.annotation}")
    check_parts(vars(config.model))


def as_supervised(config: RunConfig, parsed: bridge.Parsed) -> RunConfig:
    """The settings of a reinforcement run: the supervised checkpoint's under the user's; an original file has its own.

    Raises:
        InputError: no such checkpoint, or its settings contradict the user's.
    """
    source = config.train.start_from
    if source is None or is_original(source):
        return config
    from dataclasses import replace

    directory = find_checkpoint(source, "ckpt_file")
    stored = read_settings(directory, "ckpt_file")
    prompt = Override(ModelConfig, stored_prompt(directory, "ckpt_file"))
    texts = Override(DataConfig, {k: v for k, v in stored.data.values.items() if k in ("dataset", "max_length")})
    return replace(
        config,
        model=stored.model.under(prompt).under(parsed.override(ModelConfig)).settled(),
        data=texts.under(parsed.override(DataConfig)).settled(),
        decode=stored.decode.under(parsed.decode).settled(),
    )


def started(config: RunConfig, parsed: bridge.Parsed) -> RunConfig:
    """The settings of the run; where it starts from an original file, those of the file under the user's."""
    source = config.train.start_from
    if source is None or not is_original(source):
        return config
    from dataclasses import replace

    from r2gengpt.original.convert import training_settings

    model, data = training_settings(Path(source), parsed.override(ModelConfig), parsed.override(DataConfig))
    return replace(config, model=model, data=data)
