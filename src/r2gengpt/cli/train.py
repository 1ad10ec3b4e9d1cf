"""`r2gengpt train`: flags to a training run. With --test or --validate it scores instead, as the original does."""

from pathlib import Path

from r2gengpt.cli import bridge
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, PlacementConfig, TrainConfig

CONFIGS = (ModelConfig, DataConfig, DecodeConfig, TrainConfig)


def main(argv: list[str]) -> None:
    """Parse and run; prints where the best checkpoint is."""
    parser = bridge.Parser(prog="r2gengpt train", allow_abbrev=False, description=__doc__)
    bridge.add_flags(parser, (*CONFIGS, PlacementConfig))
    given = bridge.with_preset(bridge.given_values(bridge.parse(parser, argv), (*CONFIGS, PlacementConfig)))
    where = bridge.make(PlacementConfig, given)
    settings = tuple(bridge.make(config, given) for config in CONFIGS)
    options = settings[3]
    assert isinstance(options, TrainConfig)
    if options.test or options.validate:
        from r2gengpt.cli.test import evaluate_given

        evaluate_given(given, split="test" if options.test else "val")
        return
    from r2gengpt.cli.console import return_large_blocks, start_logging

    start_logging()
    if options.gradient_checkpointing:  # memory is dearer than time
        return_large_blocks()
    from r2gengpt.original.convert import is_original, training_settings
    from r2gengpt.training.run import train

    if options.start_from is not None and is_original(options.start_from):
        settings = (*training_settings(Path(options.start_from), given), *settings[2:])
    summary = train(settings, where)  # type: ignore[arg-type]  # made from CONFIGS, in order
    if summary.is_first:
        print(summary.checkpoint)
