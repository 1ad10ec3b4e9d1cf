"""Rows beside a model's scores that need the model itself: nearest training image, images shuffled. Scores nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from r2gengpt.config import DataConfig
from r2gengpt.data.study import Study
from r2gengpt.errors import InputError
from r2gengpt.evaluation.nearest import NAME, nearest_image, training_studies
from r2gengpt.evaluation.run import BaselineRows, Evaluation, predict_studies
from r2gengpt.metrics.baselines import Baseline, derangement
from r2gengpt.metrics.score import IMAGES_SHUFFLED
from r2gengpt.metrics.verdict import TEXT_ONLY
from r2gengpt.processes import Share, agreed
from r2gengpt.reporter import Reporter
from r2gengpt.settings import HonestyConfig

SEED = 0
"""Of the shuffling; that of `score`, so that both shuffled rows move the studies alike."""


@dataclass(frozen=True)
class Honesty:
    """What is to be made: training studies to look among (none: `missing` says why), studies with shuffled images."""

    train: tuple[Study, ...]
    shuffled: tuple[Study, ...]
    missing: dict[str, str]


def plan_honesty(config: HonestyConfig, data: DataConfig, studies: Sequence[Study], split: str) -> Honesty:
    """Settle which rows there will be, before a model is loaded.

    Raises:
        InputError: what is asked for cannot be, or the train split is wrong.
    """
    shuffled = with_shuffled_images(studies, SEED) if config.shuffle_images else ()
    try:
        train = training_studies(data, split, config.nearest_image)
    except LookupError as reason:
        return Honesty((), shuffled, {NAME: str(reason)})
    return Honesty(train, shuffled, {})


def nearest_row(reporter: Reporter, plan: Evaluation, honesty: Honesty, share: Share) -> dict[str, Baseline]:
    """The nearest-image row in the first process, before anything is predicted; none in the others, which wait.

    `plan.features`, where there are any, must hold the training studies' images too.

    Raises:
        InputError: an image cannot be read; in every process.
    """
    if not honesty.train:
        return {}
    threads = max(1, plan.num_workers)

    def work() -> dict[str, Baseline]:
        if share.rank:
            return {}
        return {NAME: nearest_image(reporter, honesty.train, plan.studies, features=plan.features, threads=threads)}

    return agreed(work)


def with_shuffled_row(
    rows: Mapping[str, Baseline], reporter: Reporter, plan: Evaluation, honesty: Honesty, share: Share
) -> BaselineRows:
    """The rows and, where asked for, that of the second pass, in which every process has a part.

    Raises:
        InputError: an image cannot be read; in every process.
    """
    if not honesty.shuffled:
        return BaselineRows(rows)
    second = replace(plan, studies=honesty.shuffled)
    predictions = predict_studies(reporter, second, share.rank, share.world, title="images shuffled")
    about = f"the model's texts for images that were shuffled between studies, seed {SEED}"
    texts = {report.id: report.text for report in predictions}
    return BaselineRows({**rows, IMAGES_SHUFFLED: Baseline(about, texts, human=False)}, tuple(predictions))


def text_only_row(
    rows: Mapping[str, Baseline], reporter: Reporter, plan: Evaluation, config: HonestyConfig, share: Share
) -> tuple[dict[str, Baseline], dict[str, str]]:
    """The rows with that of the model without films, in which every process has a part; or why there is none.

    Raises:
        InputError: lengths do not fit; in every process.
    """
    if config.text_only == "False":
        return dict(rows), {TEXT_ONLY: "`text_only` False"}
    if config.text_only == "auto" and not reporter.context_fields:
        return dict(rows), {}
    blank = replace(plan, blank=True, features=None)
    predictions = predict_studies(reporter, blank, share.rank, share.world, title="without films")
    about = "the model's texts where every view is one grey: what it writes from the context alone"
    texts = {report.id: report.text for report in predictions}
    return {**rows, TEXT_ONLY: Baseline(about, texts, human=False)}, {}


def with_shuffled_images(studies: Sequence[Study], seed: int) -> tuple[Study, ...]:
    """The studies with each other's images: every study gets those of another one, all of its views.

    So do the earlier studies that they name, among each other; one alone keeps its own.
    The places are those by which `score` moves the texts in its row `texts_shuffled` where the seed is the same: a
    model whose text depends on nothing but the images scores the same in both.

    Raises:
        InputError: fewer than two studies.
    """
    if len(studies) < 2:
        raise InputError(f"needs two studies, there is {len(studies)}", field="shuffle_images", value=True)
    before = {place: study.earlier for place, study in enumerate(studies) if study.earlier is not None}
    moved = dict(zip(before, _moved(list(before.values()), seed), strict=True))
    return tuple(replace(study, earlier=moved.get(place)) for place, study in enumerate(_moved(studies, seed)))


def _moved(studies: Sequence[Study], seed: int) -> list[Study]:
    """The studies with each other's images; one alone as it is."""
    places = derangement(len(studies), seed) if len(studies) > 1 else range(len(studies))
    donors = [studies[place] for place in places]
    return [
        replace(study, image_paths=donor.image_paths, views=donor.views)
        for study, donor in zip(studies, donors, strict=True)
    ]
