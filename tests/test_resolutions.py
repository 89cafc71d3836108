"""A model over a range of resolutions: rows against evaluate, what does not fit, the plot, the command."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

import budgetnet
from budgetnet import Data, Phase, Ramp, Recipe, Run, Split, Test, Trainer, by_resolution, macs, models
from budgetnet.cli import main
from budgetnet.modelfile import Card
from budgetnet.reporting import AtResolution, NoPlot, Resolutions, save_plot, trained_at

TINY = '''"""Three colours told apart."""

import torch
from torch import nn

from budgetnet import Budget, Cosine, Data, Phase, Recipe, Test, arrays, models


def model() -> nn.Module:
    return Budget(params="10k").build(models.convnet, classes=3, widths=(8, 16, 16))


def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(240) % 3
    images = torch.randint(0, 100, (240, 3, 16, 16), generator=generator, dtype=torch.uint8)
    images[torch.arange(240), labels] += 60
    test = (images[216:], labels[216:])
    return arrays(
        images[:192], labels[:192], val=(images[192:216], labels[192:216]), test=test,
        classes=("red", "green", "blue"),
    )


learn = Phase(epochs=2, resolution=8, lr=Cosine(0.1))
fix = Phase(epochs=1, resolution=12, lr=0.02, test=Test(resize=14, crop=12))
recipe = Recipe(phases=[learn, fix], batch_size=32)
'''


def trainer() -> Trainer:
    return Trainer("cpu", out=None, show=False)


@pytest.fixture
def net() -> nn.Module:
    """Two halvings: nothing below 4 pixels fits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.convnet(3, widths=(8, 16, 16))


# --- rows


def test_each_row_is_what_evaluate_says(net: nn.Module, data: Data) -> None:
    assert data.val is not None
    found = by_resolution(trainer(), net, data.val, [12, 8, 16, 8], classes=data.classes)
    assert [row.resolution for row in found.rows] == [8, 12, 16]
    for row in found.rows:
        expected = trainer().evaluate(net, data.val, classes=data.classes, resolution=row.resolution)
        assert (row.accuracy, row.top5, row.loss) == (expected.accuracy, expected.top5, expected.loss)
        assert row.macs == macs(net, row.resolution)
        assert row.resize == row.resolution
        assert 0 < row.images_per_second < math.inf
    assert found.images == 60
    assert len({row.loss for row in found.rows}) == 3


def test_images_are_resized_in_the_cards_proportion(net: nn.Module, data: Data) -> None:
    assert data.val is not None
    net.card = Card(classes=data.classes, resize=16, crop=12)
    found = by_resolution(trainer(), net, data.val, [9, 12])
    assert [row.resize for row in found.rows] == [12, 16]
    own = trainer().evaluate(net, data.val)  # at the card's own resize and crop
    assert found.rows[1].loss == own.loss
    smaller = trainer().evaluate(net, data.val, test=Test(resize=12, crop=9))
    assert found.rows[0].loss == smaller.loss
    assert found.rows[0].loss != trainer().evaluate(net, data.val, resolution=9).loss


def test_what_does_not_fit_is_a_row_that_says_so(net: nn.Module, data: Data) -> None:
    assert data.val is not None
    found = by_resolution(trainer(), net, data.val, [2, 3, 4, 8], classes=data.classes)
    assert [row.fits for row in found.rows] == [False, False, True, True]
    assert math.isnan(found.rows[0].accuracy)
    assert found.rows[0].macs is None
    assert found.best.fits
    lines = str(found).splitlines()
    assert lines[1].split()[:2] == ["2", "px"]
    assert lines[1].endswith("does not fit")
    assert any(
        line.startswith("note: 2 px: ") and "the smallest resolution that fits is 4" in line for line in lines
    )
    told = json.loads(found.json())
    assert [row["fits"] for row in told["rows"]] == [False, False, True, True]
    assert told["rows"][0]["accuracy"] is None


def test_one_whose_head_fits_a_single_size_is_measured_there(data: Data) -> None:
    assert data.val is not None
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))
    found = by_resolution(trainer(), model, data.val, range(6, 11, 2), classes=data.classes)
    assert [row.fits for row in found.rows] == [False, True, False]
    assert found.best.resolution == 8
    dense = nn.Sequential(nn.Conv2d(3, 3, 8), nn.Flatten(2), nn.Flatten(1))
    found = by_resolution(trainer(), dense, data.val, [8, 9], classes=data.classes)
    assert "one logit for each of the 3 classes" in found.rows[1].reason


def test_mistakes_are_one_sentence(net: nn.Module, data: Data) -> None:
    assert data.val is not None
    with pytest.raises(ValueError, match="whole number of 1 or more, not 0"):
        by_resolution(trainer(), net, data.val, [8, 0])
    with pytest.raises(ValueError, match=r"not 8\.5"):
        by_resolution(trainer(), net, data.val, [8.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="there are no resolutions"):
        by_resolution(trainer(), net, data.val, [])
    with pytest.raises(ValueError, match="should hold images, and is empty"):
        by_resolution(trainer(), net, data.val.subset([]), [8])
    with pytest.raises(ValueError, match=r"none of these resolutions can be measured: .*does not fit at 2x2"):
        by_resolution(trainer(), net, data.val, [1, 2], classes=data.classes)
    with pytest.raises(ValueError, match="one logit for each of the 2 classes"):
        by_resolution(trainer(), net, data.val.subset(data.val.labels < 2), [8], classes=data.classes[:2])


def test_classes_without_names_are_counted_in_the_split(net: nn.Module) -> None:
    images = torch.zeros(6, 3, 8, 8, dtype=torch.uint8)
    split = Split(images, torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))
    assert by_resolution(trainer(), net, split, [8]).rows[0].accuracy == pytest.approx(1 / 3)


def test_the_model_is_left_in_its_mode(net: nn.Module, data: Data) -> None:
    assert data.val is not None
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    by_resolution(trainer(), net.train(), data.val, [8], classes=data.classes)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


# --- as a value


def made(accuracies: Sequence[float], trained: tuple[int, ...] = ()) -> Resolutions:
    rows = [
        AtResolution(8 * k, 8 * k, accuracy, 1.0, 0.5, 1_000_000 * k, 250.0)
        for k, accuracy in enumerate(accuracies, start=1)
    ]
    return Resolutions((*rows, AtResolution(4, 4, reason="too small")), 1_000, trained)


def test_the_best_and_the_trained_are_marked() -> None:
    found = made([0.5, 0.75, 0.75, 0.6], trained=(16, 24))
    assert found.best.resolution == 16  # the cheaper of two equals
    assert [found.marks(row) for row in found.rows] == ["", "trained, best", "trained", "", ""]
    header, *lines = str(found).splitlines()
    assert header.split() == ["resolution", "accuracy", "top-5", "loss", "MACs", "images/s"]
    assert lines[1] == "     16 px   75.00 %  100.00 %  0.5000  2,000,000       250  trained, best"
    assert lines[0] == "      8 px   50.00 %  100.00 %  0.5000  1,000,000       250"
    assert len(lines) == 6
    told = json.loads(found.json())
    assert (told["best"], told["trained"], told["images"]) == (16, [16, 24], 1_000)
    assert [row["marks"] for row in told["rows"]] == ["", "trained, best", "trained", "", ""]


def test_a_runs_training_resolutions_are_in_its_record(net: nn.Module, data: Data, tmp_path: Path) -> None:
    phases = [
        Phase(epochs=1, resolution=Ramp(4, 12, multiple=4), lr=0.01, views=0.3),
        Phase(epochs=1, resolution=16, lr=0.01, views=0.3),
    ]
    run = Trainer("cpu", out=tmp_path, show=False).fit(net, data, Recipe(phases, batch_size=32))
    assert run.folder is not None
    for each in (run, Run.read(run.folder)):
        assert trained_at(each) == (4, 12, 16)
    for odd in ({}, {"recipe": None}, {"recipe": {"phases": 3}}, {"recipe": {"phases": [None, {"x": 1}]}}):
        assert trained_at(Run(record=odd)) == ()


# --- the plot


def test_the_plot_is_a_picture_that_shows_both_curves(tmp_path: Path) -> None:
    found = made([0.5, 0.75, 0.7], trained=(8,))
    save_plot(found, tmp_path / "plot.png", title="mine")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (960, 540)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    assert {(31, 119, 180), (255, 127, 14), (214, 39, 40)} <= colours  # accuracy, MACs, the best


def test_the_plot_needs_matplotlib_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="cannot be written: No such file"):
        save_plot(made([0.5]), tmp_path / "no" / "plot.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NoPlot, match=r"pip install 'budgetnet\[report\]'"):
        save_plot(made([0.5]), tmp_path / "plot.png")


# --- the command


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe tiny.py and its run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.py").write_text(TINY)
    result = CliRunner().invoke(main, ["run", str(folder / "tiny.py"), "-q", "--out", str(folder / "runs")])
    assert result.exit_code == 0, result.output
    return folder


def evaluated(folder: Path, *arguments: object, target: str = "runs/tiny-1") -> Result:
    return CliRunner().invoke(
        main, ["evaluate", str(folder / target), str(folder / "tiny.py"), *map(str, arguments)]
    )


def test_one_command_gives_the_table_and_the_plot(finished: Path) -> None:
    result = evaluated(finished, "--resolutions", "2:18:4")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "val: 24 images"
    assert [line.split()[0] for line in lines[2:7]] == ["2", "6", "10", "14", "18"]  # both ends
    assert lines[2].endswith("does not fit")
    assert sum("best" in line for line in lines) == 1
    plot = finished / "runs" / "tiny-1" / "resolutions.png"
    assert lines[-1] == f"the plot is in {plot}"
    assert plot.read_bytes()[:4] == b"\x89PNG"


def test_the_row_of_the_runs_own_resolution_is_its_figure(finished: Path) -> None:
    result = evaluated(finished, "--resolutions", "8,12,16:20:4", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["trained"] == [8, 12]
    rows = {row["resolution"]: row for row in found["rows"]}
    assert list(rows) == [8, 12, 16, 20]
    own = Run.read(finished / "runs" / "tiny-1").result
    assert rows[12]["resize"] == 14
    assert rows[12]["accuracy"] == own["val_accuracy"]
    assert rows[12]["loss"] == pytest.approx(own["val_loss"], rel=1e-6)
    assert [("trained" in row["marks"]) for row in rows.values()] == [True, True, False, False]
    assert rows[8]["macs"] == macs(budgetnet.load(finished / "runs" / "tiny-1"), 8)


def test_a_model_outside_a_run_is_plotted_where_asked(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes((finished / "runs/tiny-1/model.safetensors").read_bytes())
    model = str(tmp_path / "m.safetensors")
    plain = evaluated(finished, "--resolutions", "8,12", target=model)
    assert plain.exit_code == 0, plain.output
    assert "the plot" not in plain.output
    assert "trained" not in plain.output
    picture = tmp_path / "here.png"
    result = evaluated(finished, "--resolutions", "8,12", "--plot", picture, target=model)
    assert result.output.endswith(f"the plot is in {picture}\n")
    assert picture.exists()


def test_without_matplotlib_the_table_comes_with_a_note(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = evaluated(finished, "--resolutions", "8,12")
    assert result.exit_code == 0
    assert "     12 px" in result.output
    *_, last = result.output.splitlines()
    assert last.startswith("note: a plot as PNG needs matplotlib")
    assert "budgetnet[report]" in last
    told = evaluated(finished, "--resolutions", "8,12", "--json")
    assert json.loads(told.stdout)["best"] in (8, 12)


def test_choosing_on_the_test_images_is_noted(finished: Path, tmp_path: Path) -> None:
    plot = ("--plot", tmp_path / "plot.png")
    assert (
        "chosen on the test images"
        in evaluated(finished, "--resolutions", "8", "--split", "test", *plot).output
    )
    assert "chosen on the test images" not in evaluated(finished, "--resolutions", "8", *plot).output


def test_test_images_that_were_measured_in_several_ways_are_noted(finished: Path, tmp_path: Path) -> None:
    plot = ("--split", "test", "--plot", tmp_path / "plot.png")
    evaluated(finished, "--resolutions", "8", *plot)
    told = evaluated(finished, "--resolutions", "10,12", *plot)
    assert "test images have been measured" in told.stdout
    told = evaluated(finished, "--resolutions", "10,12", "--json", *plot)
    assert "test images have been measured" in told.stderr
    assert json.loads(told.stdout)["best"] in (10, 12)


def test_evaluate_takes_a_resize_apart_from_the_crop(finished: Path) -> None:
    def loss(*options: object) -> float:
        result = evaluated(finished, "--json", *options)
        assert result.exit_code == 0, result.output
        return float(json.loads(result.stdout)["loss"])

    model = budgetnet.load(finished / "runs" / "tiny-1")
    val = budgetnet.read_plan(finished / "tiny.py").data().val
    assert val is not None
    for options, test in (
        ((), Test(14, 12)),
        (("--resize", 14), Test(14, 12)),
        (("--resize", 16), Test(16, 12)),
        (("--resize", 16, "--resolution", 10), Test(16, 10)),
        (("--resolution", 10), Test(10, 10)),
    ):
        assert loss(*options) == pytest.approx(trainer().evaluate(model, val, test=test).loss)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--resolutions", "60-200"],
            "should read 60:200:20 (first, last, step) or 64,96,128 in pixels, not '60-200'",
        ),
        (["--resolutions", "60:200"], "not '60:200'"),
        (["--resolutions", "8,,12"], "not ''"),
        (["--resolutions", "20:8:4"], "20:8:4 names none"),
        (["--resolutions", "8:20:0"], "names none"),
        (["--resolutions", "0"], "names none"),
        (["--resolutions", "8", "--resolution", "8"], "leave out --resolution"),
        (["--resolutions", "8", "--resize", "8"], "leave out --resize"),
        (["--resolutions", "1:2:1"], "none of these resolutions can be measured"),
        (["--plot", "x.png"], "--plot draws several resolutions"),
        (["--resize", "8"], "Test's resize should be at least its crop of 12 pixels, not 8"),
        (["--resolutions", "8", "--plot", "no/where.png"], "no/where.png cannot be written"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: list[str], said: str, finished: Path) -> None:
    result = evaluated(finished, *options)
    assert result.exit_code == 2, result.output
    assert said in result.output.splitlines()[-1]
