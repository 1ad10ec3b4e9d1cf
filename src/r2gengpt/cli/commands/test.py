"""`r2gengpt test`: a trained model on a split of an annotation file → predictions, scores, report page."""

from dataclasses import replace

from r2gengpt.cli import bridge
from r2gengpt.cli.evaluating import Asked, evaluate
from r2gengpt.config import DataConfig, DecodeConfig, ModelConfig, ReinforceConfig, TrainConfig
from r2gengpt.errors import InputError
from r2gengpt.settings import EvidenceConfig, HonestyConfig, PlacementConfig, ReviewConfig, WriterConfig

FLAGS = (
    ModelConfig,
    PlacementConfig,
    DataConfig,
    DecodeConfig,
    TrainConfig,
    ReinforceConfig,
    HonestyConfig,
    WriterConfig,
    ReviewConfig,
    EvidenceConfig,
)
COMMON = (
    "model", "annotation", "base_dir", "split", "output",
    "details", "test_batch_size", "beam_size", "shuffle_images", "calibrate",
)  # fmt: skip
"""The flags that most calls need."""


def parser() -> bridge.Parser:
    """Flags of the command."""
    made = bridge.Parser(
        "r2gengpt test",
        "Score a trained model on a split of an annotation file: verdict and table here, predictions, "
        "scores.json and report.html beside the model.",
        common=COMMON,
        example="r2gengpt test --ckpt_file save/mimic/v1",
    )
    bridge.add_flags(made, FLAGS)
    made.add_argument("--model", metavar="DIR", help="trained model: a checkpoint or run directory, or embedded")
    made.add_argument("--split", default="test", choices=("test", "val", "train"), help="which split to score")
    made.add_argument("--output", metavar="DIR", help="where the files go (default: results-SPLIT beside the model)")
    records = "ReXrank's JSON of the split's studies: writes rexrank.json too, in the layout that its evaluation reads"
    made.add_argument("--rexrank", metavar="FILE", help=records)
    every_row = "print every baseline and label average too, in a table wider than 100 columns (default: False)"
    made.add_argument("--details", type=bridge.parse_bool, nargs="?", const=True, default=False, metavar="True|False",
                      help=every_row)  # fmt: skip
    return made


def main(argv: list[str]) -> None:
    """Parse and run; prints the verdict, the scores and the path of the page."""
    parsed = bridge.parsed(parser(), argv, FLAGS)
    maps, space = parsed.settled(EvidenceConfig), parsed.space
    for name in ("evidence_studies", "evidence_method"):
        if name in parsed.values and not maps.evidence:
            raise InputError("belongs to `evidence` True: give that", field=name, value=parsed.values[name])
    honesty, review = parsed.settled(HonestyConfig), parsed.settled(ReviewConfig)
    asked = Asked(space.split, space.model, space.output, honesty, review.abstain_below, maps, space.details)
    evaluate(parsed, replace(asked, rexrank=space.rexrank))
