"""Films that are inverted, turned, tilted or cut off are told from those as they should be, and from what is none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from r2gengpt.confidence.film_guard import (
    AGE,
    CUT_OFF,
    GRID,
    GUARD,
    INVERTED,
    LATERAL,
    LEFT,
    NO_CHEST,
    ODD,
    OVER,
    RIGHT,
    TILTED,
    UPRIGHT,
    WRITING,
    FilmGuard,
    Floats,
    put_right,
    read_guard,
    write_guard,
)
from r2gengpt.confidence.findings import all_doubts, check_shows_chest
from r2gengpt.confidence.review import judged
from r2gengpt.edge.record import FilmSettings, view_pixels
from r2gengpt.errors import InputError
from r2gengpt.films.facts import FilmFacts
from r2gengpt.model.vision import regional_means
from r2gengpt.report import Doubt, Finding, Report
from r2gengpt.testing import noise_image
from r2gengpt.text.observations import CHILD, LATERAL_VIEW, LIKELY, UNLIKELY
from r2gengpt.training.guarding import COMPONENTS, fit_guard

WIDTH = 24
"""Of the features of whole films; a part of them varies among films."""


class World:
    """Features as an encoder might give them: films vary in a few directions, each odd kind is shifted in its own."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        size = WIDTH * GRID * GRID
        self.ways = rng.normal(size=(4, WIDTH)).repeat(GRID * GRID, axis=1)
        self.shifts = {kind: rng.normal(size=size) * 2 for kind in ODD}
        self.rng = rng

    def films(self, count: int, kind: str = UPRIGHT) -> Floats:
        noise = self.rng.normal(size=(count, WIDTH * GRID * GRID)) * 0.3
        return (self.rng.normal(size=(count, 4)) @ self.ways + noise + self.shifts.get(kind, 0.0)).astype(np.float32)

    def sample(self, count: int) -> tuple[Floats, list[str]]:
        kinds = [UPRIGHT] * 4 + list(ODD)
        return np.concatenate([self.films(count, kind) for kind in kinds]), [k for k in kinds for _ in range(count)]


WORLD = World()


@pytest.fixture(scope="module")
def guard() -> FilmGuard:
    return fit_guard(*WORLD.sample(60), *WORLD.sample(40))


def kinds_of(doubts: tuple[Doubt, ...]) -> list[str]:
    return [doubt.kind for doubt in doubts]


def test_films_as_they_should_be_raise_no_doubt(guard: FilmGuard) -> None:
    assert len(guard.doubts(WORLD.films(200))) <= 6


@pytest.mark.parametrize("kind", ODD)
def test_each_odd_kind_is_told_by_its_name(guard: FilmGuard, kind: str) -> None:
    films = WORLD.films(1, kind)
    usual = WORLD.films(1)[0]

    def relook(place: int, tried: str) -> Floats:
        return usual if tried == kind else films[place]

    (doubt,) = guard.doubts(films, relook)
    if kind in (TILTED, CUT_OFF):  # nothing puts them right, so they may as well show no chest
        assert doubt.kind in (kind, NO_CHEST)
    else:
        assert (doubt.kind, doubt.refused) == (kind, False)


def test_what_nothing_puts_right_shows_no_chest_and_is_refused(guard: FilmGuard) -> None:
    films = WORLD.rng.normal(size=(3, WIDTH * GRID * GRID)).astype(np.float32) * 4
    doubts = guard.doubts(films, lambda place, kind: films[place])
    assert [(doubt.film, doubt.kind, doubt.refused) for doubt in doubts] == [(n, NO_CHEST, True) for n in (1, 2, 3)]
    assert doubts[0].line.startswith("film 1 looks like no whole chest film (")


def test_a_usual_film_is_looked_at_once(guard: FilmGuard) -> None:
    asked: list[str] = []

    def relook(place: int, kind: str) -> Floats:
        asked.append(kind)
        return WORLD.films(1)[0]

    films = WORLD.films(30)
    guard.doubts(films[guard.strangeness(films) < 0.8][:5], relook)
    assert asked == []


def test_what_seems_turned_but_is_stranger_put_right_is_taken_as_it_is(guard: FilmGuard) -> None:
    near = WORLD.films(40, LEFT) * 0.5 + WORLD.films(40) * 0.5
    far = WORLD.rng.normal(size=near.shape[1]).astype(np.float32) * 9
    for film in near[guard.strangeness(near) < 1]:
        assert guard.doubts(film[None], lambda place, kind: far) == ()


SETTINGS = FilmSettings(64, (48, 48), None, 3, None, 1 / 255, (0.48, 0.45, 0.4), (0.22, 0.23, 0.24))


@pytest.mark.parametrize(("kind", "degrees"), [(LEFT, 90), (OVER, 180), (RIGHT, 270)])
def test_a_turned_film_is_put_right(kind: str, degrees: int) -> None:
    film = noise_image(1, 48)
    wanted = view_pixels([film], SETTINGS)[0]
    turned = view_pixels([film.rotate(degrees, expand=True)], SETTINGS)[0]
    assert np.array_equal(put_right(turned, kind, SETTINGS.mean, SETTINGS.std), wanted)


@pytest.mark.parametrize(("kind", "stays"), [(LEFT, True), (OVER, False), (RIGHT, True)])
def test_what_is_not_square_is_not_turned_by_a_quarter(kind: str, stays: bool) -> None:
    pixels = np.arange(3 * 4 * 6, dtype=np.float32).reshape(3, 4, 6)
    made = put_right(pixels, kind, None, None)
    assert (made.shape, np.array_equal(made, pixels)) == (pixels.shape, stays)


@pytest.mark.parametrize("settings", [SETTINGS, FilmSettings(64, (48, 48), None, 3, None, 1 / 255, None, None)])
def test_an_inverted_film_is_put_right(settings: FilmSettings) -> None:
    film = noise_image(2, 48)
    inverted = view_pixels([ImageOps.invert(film)], settings)[0]
    right = put_right(inverted, INVERTED, settings.mean, settings.std)
    assert np.allclose(right, view_pixels([film], settings)[0], atol=1e-5)


def test_a_guard_reads_back_as_it_was_written(guard: FilmGuard, tmp_path: Path) -> None:
    write_guard(tmp_path / GUARD, guard)
    first = (tmp_path / GUARD).read_bytes()
    back = read_guard(tmp_path, "model")
    assert back is not None
    films = WORLD.films(50)
    assert np.allclose(back.strangeness(films), guard.strangeness(films), rtol=0.02)
    write_guard(tmp_path / GUARD, guard)
    assert (tmp_path / GUARD).read_bytes() == first, "the same guard is the same file"
    assert read_guard(tmp_path.parent, "model") is None


@pytest.mark.parametrize("damage", ["cut", "empty", "shape", "nan", "missing", "zero"])
def test_a_damaged_guard_is_refused_in_one_line(guard: FilmGuard, tmp_path: Path, damage: str) -> None:
    path = tmp_path / GUARD
    write_guard(path, guard)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    if damage in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[: -300 if damage == "cut" else 0])
    else:
        changed = {
            "shape": {"kinds.centres": arrays["kinds.centres"][:-1]},
            "nan": {"subspace.mean": arrays["subspace.mean"] * np.nan},
            "zero": {"kinds.deviation": arrays["kinds.deviation"] * 0},
        }.get(damage, {})
        kept = {k: v for k, v in arrays.items() if damage != "missing" or k != "subspace.basis"}
        np.savez(path, **{**kept, **changed})  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught:
        read_guard(tmp_path, "model")
    assert f"{GUARD} is damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_guard_needs_films_of_every_kind_in_both_splits() -> None:
    films, kinds = WORLD.sample(4)
    some = [at for at, kind in enumerate(kinds) if kind != TILTED]
    with pytest.raises(InputError, match="no film is tilted"):
        fit_guard(films, kinds, films[some], [kinds[at] for at in some])


def test_few_films_make_a_guard_too() -> None:
    made = fit_guard(*WORLD.sample(2), *WORLD.sample(2))
    assert len(made.subspace.basis) < COMPONENTS
    assert np.isfinite(made.strangeness(WORLD.films(3))).all()


@pytest.mark.parametrize(("patches", "same"), [(49, False), (576, False), (1, True), (50, True)])
def test_means_are_of_the_films_parts(patches: int, same: bool) -> None:
    features = torch.randn(3, patches, 8, generator=torch.Generator().manual_seed(0))
    means = regional_means(features, GRID).reshape(3, 8, GRID * GRID)
    assert torch.allclose(means, means[..., :1].expand_as(means)) == same
    if patches in (1, 576):
        assert torch.allclose(means.mean(-1), features.mean(1), atol=1e-6)


def finding(name: str, probability: float, verdict: str) -> Finding:
    return Finding(name, probability, (0.0, 1.0), verdict)


def test_a_study_of_one_lateral_film_is_doubted_and_one_with_a_frontal_film_is_not() -> None:
    seen = (finding(LATERAL_VIEW, 0.97, LIKELY),)
    (doubt,) = all_doubts(seen, (), [FilmFacts("a", 0)])
    assert (doubt.kind, doubt.line) == (LATERAL, "film 1 looks lateral (.97): a report needs a frontal one")
    assert all_doubts(seen, (), [FilmFacts("a", 0), FilmFacts("b", 0)]) == ()
    for kind in (NO_CHEST, TILTED, CUT_OFF):
        assert kinds_of(all_doubts(seen, (Doubt(1, kind, "looks odd"),), [FilmFacts("a", 0)])) == [LATERAL]
    refused = Doubt(1, NO_CHEST, "looks strange", refused=True)
    assert kinds_of(all_doubts(seen, (refused,), [FilmFacts("a", 0)])) == [NO_CHEST]


@pytest.mark.parametrize(
    ("years", "verdict", "doubted"),
    [(54.0, LIKELY, True), (4.0, LIKELY, False), (4.0, UNLIKELY, True), (54.0, UNLIKELY, False), (12.0, LIKELY, False),
     (12.0, UNLIKELY, False), (None, LIKELY, False)],
)  # fmt: skip
def test_an_age_that_the_film_does_not_show_is_doubted(years: float | None, verdict: str, doubted: bool) -> None:
    found = all_doubts((finding(CHILD, 0.9 if verdict == LIKELY else 0.1, verdict),), (), [FilmFacts("a", 0, years)])
    assert kinds_of(found) == [AGE] * doubted
    if doubted:
        assert f"its header tells an age of {years:.0f} years" in found[0].line


def test_much_writing_is_doubted_and_one_word_is_not() -> None:
    found = all_doubts((), (), [FilmFacts("a", 8), FilmFacts("b", 24)])
    assert [(one.film, one.kind) for one in found] == [(2, WRITING)]
    assert "24 characters" in found[0].words


def test_doubts_are_told_once() -> None:
    facts = [FilmFacts("a", 24, 54.0)]
    seen = (finding(CHILD, 0.9, LIKELY),)
    once = all_doubts(seen, (), facts)
    assert all_doubts(seen, once, facts) == once
    assert len(once) == 2


@pytest.mark.parametrize("kind", [NO_CHEST, TILTED, CUT_OFF])
def test_a_doubt_that_the_facts_replace_leaves_no_line(kind: str) -> None:
    seen, odd = finding(LATERAL_VIEW, 0.97, LIKELY), Doubt(1, kind, "looks odd")
    written = Report("1", "Clear.", findings=(seen,), doubts=(odd,))
    facts = [FilmFacts("a", 0)]
    twice = judged(judged(written, None, None), None, None, facts)  # a reporter judges before it knows the facts
    assert twice == judged(written, None, None, facts)
    assert "film 1 looks odd" not in twice.review


def test_what_shows_no_chest_is_refused_by_its_name() -> None:
    doubts = (Doubt(1, INVERTED, "looks inverted"), Doubt(2, NO_CHEST, "looks like no chest", refused=True))
    with pytest.raises(InputError) as caught:
        check_shows_chest(doubts, [FilmFacts("a.png", 0), FilmFacts("b.png", 0)])
    assert str(caught.value) == "image b.png: looks like no chest (`force` reads it all the same)".replace("`", "")
    assert caught.value.field == "force"
    check_shows_chest(doubts[:1], [FilmFacts("a.png", 0)])


def test_pictures_are_whole_films_in_the_order_of_the_kinds() -> None:
    from r2gengpt.training.guarding import changed

    film = Image.fromarray(np.arange(40 * 30, dtype=np.uint8).reshape(40, 30)).convert("RGB")
    made = list(changed(film, np.random.default_rng(0)))
    assert [kind for kind, _ in made] == [*ODD, CUT_OFF]
    assert made[0][1].getpixel((0, 0)) == (255, 255, 255)
    assert made[1][1].size == (40, 30), "turned"
    assert all(cut.size[0] * cut.size[1] < 0.8 * 30 * 40 for kind, cut in made if kind == CUT_OFF)
