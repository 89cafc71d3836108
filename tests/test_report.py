"""The report room: plots say what the schedules do, grids show what the model is given."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from budgetnet import Cosine, Crop, Flip, Phase, Plateau, Ramp, Recipe, Restarts, Split, Step
from budgetnet.reporting import curve, plot, save_png, save_schedules, views
from budgetnet.schedule import value


def split(count: int = 20, channels: int = 3, side: int = 10) -> Split:
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, side, side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return Split(images, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def two_phases() -> Recipe:
    learn = Phase(name="learn", epochs=30, resolution=70, lr=Restarts(0.1, first=10, grow=2, decay=0.5))
    return Recipe(phases=[learn, Phase(epochs=10, resolution=120, lr=0.02)])


def test_a_curve_is_its_schedule_over_the_epochs_of_the_run() -> None:
    recipe = two_phases()
    learn, fix = curve(recipe, "lr")
    for epoch, rate in learn.points:
        assert rate == pytest.approx(value(recipe.phases[0].lr, epoch / 30, epochs=30), abs=1e-12)
    assert learn.points[0] == (0.0, 0.1)
    assert (fix.points[0], fix.title, fix.label) == ((30.0, 0.02), "phase 2", "phase 2, 10 epochs")
    assert all(30 <= epoch <= 40 for epoch, _ in fix.points)
    assert [{y for _, y in stretch.points} for stretch in curve(recipe, "resolution")] == [{70.0}, {120.0}]


def test_a_ramps_curve_reaches_both_ends() -> None:
    (stretch,) = curve(Recipe(phases=[Phase(epochs=1, resolution=Ramp(128, 192), lr=0.1)]), "resolution")
    assert (stretch.points[0][1], stretch.points[-1][1]) == (128.0, 192.0)


def test_a_plateau_is_drawn_as_nothing_had_happened_yet() -> None:
    (stretch,) = curve(Recipe(phases=[Phase(epochs=3, resolution=8, lr=Plateau(0.3))]), "lr")
    assert {y for _, y in stretch.points} == {0.3}


def test_a_falling_curve_falls_from_the_highest_label_to_zero() -> None:
    text = plot(curve(Recipe(phases=[Phase(epochs=9, resolution=8, lr=Cosine(0.25))]), "lr"), ascii_only=True)
    rows = text.splitlines()[:-2]
    assert rows[0].split("|")[0].strip() == "0.25"
    assert rows[-1].split("|")[0].strip() == "0"
    assert all(row.split("|")[0].strip() == "" for row in rows[1:-1])
    drawn = [row.split("|")[1] for row in rows]
    assert drawn[0].startswith("*")
    assert drawn[-1].endswith("*")
    firsts = [row.index("*") for row in drawn]
    assert firsts == sorted(firsts)


def test_a_steps_edge_is_joined_and_its_levels_are_flat() -> None:
    recipe = Recipe(phases=[Phase(epochs=10, resolution=8, lr=Step(1.0, every=5, factor=0.5))])
    rows = plot(curve(recipe, "lr"), width=48, height=9, ascii_only=True).splitlines()[:9]
    drawn = [row.split("|")[1].ljust(40) for row in rows]
    assert drawn[0] == "*" * 21 + " " * 19
    assert drawn[1] == drawn[2] == drawn[3] == " " * 20 + "*" + " " * 19
    assert drawn[4] == " " * 20 + "*" * 20
    assert all(row.strip() == "" for row in drawn[5:])


def test_a_spike_narrower_than_a_column_is_seen() -> None:
    recipe = Recipe(phases=[Phase(epochs=1, resolution=8, lr=lambda t: 1.0 if 0.5 <= t < 0.506 else 0.1)])
    assert plot(curve(recipe, "lr"), width=30, ascii_only=True).splitlines()[0].count("*") == 1


def test_braille_dots_stand_where_the_asterisks_do() -> None:
    recipe = Recipe(phases=[Phase(epochs=3, resolution=8, lr=0.1)])
    fine = plot(curve(recipe, "resolution"), width=20, height=2).splitlines()
    assert fine[0] == "      8│" + "⠉" * 12
    assert fine[1] == "      0│"
    assert fine[2] == "       └" + "─" * 12


@given(
    st.lists(st.tuples(st.integers(1, 400), st.floats(1e-6, 10)), min_size=1, max_size=4),
    st.integers(20, 120),
    st.integers(2, 12),
    st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_a_plot_keeps_to_its_size(
    phases: list[tuple[int, float]], width: int, height: int, ascii_only: bool
) -> None:
    recipe = Recipe(
        phases=[Phase(epochs=epochs, resolution=8, lr=Cosine(peak), name="name") for epochs, peak in phases]
    )
    text = plot(curve(recipe, "lr"), width=width, height=height, ascii_only=ascii_only)
    lines = text.splitlines()
    assert len(lines) == height + 2
    assert all(len(line) <= width and line == line.rstrip() for line in lines)
    assert text.isascii() is ascii_only


def test_schedules_become_a_png(tmp_path: Path) -> None:
    save_schedules(two_phases(), tmp_path / "schedule.png")
    with Image.open(tmp_path / "schedule.png") as drawn:
        assert drawn.size == (1080, 600)
        # Two phases in matplotlib's first two colours.
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(1 << 20) or ()}
    assert {(31, 119, 180), (255, 127, 14)} <= colours


def test_without_matplotlib_one_sentence_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"pip install 'budgetnet\[report\]'"):
        save_schedules(two_phases(), tmp_path / "schedule.png")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be written: No such file"):
        save_schedules(two_phases(), tmp_path / "nowhere" / "schedule.png")
    with pytest.raises(ValueError, match="cannot be written: No such file"):
        save_png(torch.zeros(3, 2, 2, dtype=torch.uint8), tmp_path / "nowhere" / "grid.png")


def tile(grid: torch.Tensor, row: int, column: int, side: int) -> torch.Tensor:
    y, x = 4 + row * (side + 4), 4 + column * (side + 4)
    return grid[:, y : y + side, x : x + side]


def test_a_grid_begins_with_the_stored_images_pixel_by_pixel() -> None:
    images = split()
    grid = views(images, Phase(epochs=1, resolution=10, lr=0.1), classes=1, columns=5, rows=5)
    # 10 pixels are enlarged ninefold, six rows and five columns with gaps of 4.
    assert grid.shape == (3, 6 * 94 + 4, 5 * 94 + 4)
    assert grid.dtype == torch.uint8
    for column, position in enumerate((0, 5, 10, 14, 19)):
        stored = images.images[position].repeat_interleave(9, 1).repeat_interleave(9, 2)
        for row in range(6):
            # Without augmentation and at the stored size, the views are the images too.
            assert torch.equal(tile(grid, row, column, 90), stored)


def test_views_differ_from_row_to_row_and_repeat_with_the_seed() -> None:
    phase = Phase(epochs=1, resolution=10, lr=0.1, augment=[Crop(scale=(0.3, 0.9)), Flip()])
    state = torch.random.get_rng_state()
    once, again = (views(split(), phase, classes=1, seed=3) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(once, again)
    assert not torch.equal(once, views(split(), phase, classes=1, seed=4))
    rows = [tile(once, row, 0, 90) for row in range(7)]
    assert all(not torch.equal(a, b) for k, a in enumerate(rows) for b in rows[:k])


def test_a_ramp_grows_from_row_to_row_in_tiles_of_one_size() -> None:
    white = Split(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.zeros(4).long(), torch.arange(4))
    grid = views(white, Phase(epochs=1, resolution=Ramp(16, 48, multiple=16), lr=0.1), classes=1, rows=3)
    side = 96
    widths = [int((tile(grid, row, 0, side)[0, side // 2] == 0).sum()) for row in range(4)]
    # 32, 16, 32 and 48 pixels, each enlarged by the largest whole factor that fits into 96.
    assert widths == [96, 96, 96, 96]
    assert grid.shape == (3, 4 * 100 + 4, 4 * 100 + 4)


def test_a_smaller_view_stands_in_the_middle_of_its_tile() -> None:
    black = Split(torch.zeros(1, 1, 100, 100, dtype=torch.uint8), torch.zeros(1).long(), torch.arange(1))
    grid = views(black, Phase(epochs=1, resolution=60, lr=0.1), classes=1, rows=1)
    seen = tile(grid, 1, 0, 100)
    assert (seen[:, 20:80, 20:80] == 0).all()
    assert int((seen == 0).sum()) == 3 * 60 * 60


def test_an_empty_split_has_nothing_to_show() -> None:
    empty = split(20).subset(slice(0, 0))
    with pytest.raises(ValueError, match="empty"):
        views(empty, Phase(epochs=1, resolution=8, lr=0.1), classes=1)


def test_a_png_holds_what_was_written(tmp_path: Path) -> None:
    image = split(1).images[0]
    save_png(image, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as found:
        assert np.array_equal(np.asarray(found), image.permute(1, 2, 0).numpy())


def test_points_never_reach_the_end_of_a_phase() -> None:
    (stretch,) = curve(Recipe(phases=[Phase(epochs=7, resolution=8, lr=Cosine(0.1, final=0.01))]), "lr")
    assert stretch.points[-1][0] <= 7
    assert stretch.points[-1][1] == pytest.approx(0.01, abs=1e-6)
    assert all(math.isfinite(y) for _, y in stretch.points)


def test_above_each_column_of_a_grid_stands_its_class() -> None:
    images, phase = split(), Phase(epochs=1, resolution=10, lr=0.1)
    plain = views(images, phase, classes=1, columns=5, rows=2)
    named = views(
        replace(images, classes=("Großer Alexandersittich, \u202e<b>",)), phase, classes=1, columns=5, rows=2
    )
    line = named.shape[1] - plain.shape[1]
    assert line > 10
    assert torch.equal(named[:, line:], plain)
    for column in range(5):
        assert (tile(named[:, :line], 0, column, 90)[:, : line - 4] < 128).any()
    assert bool((named[:, :line, :4] == 255).all())
