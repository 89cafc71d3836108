"""The page room: the report of a run says what it measured, and every name in it is text."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import budgetnet
from budgetnet import Cosine, Data, Flip, Phase, Recipe, Run, Trainer, report, save_curves
from budgetnet.cli import main
from budgetnet.engine.evaluation import Scoring
from budgetnet.engine.measure import _Tally
from budgetnet.page import Extra, page
from budgetnet.pictures import NoPlot, charts_figure, confusion_figure, ticks
from budgetnet.run import curves

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a\u202eb & {{ 7 * 7 }} $x_1$")
RECIPE = Recipe(
    phases=[
        Phase(name="learn", epochs=2, resolution=12, lr=Cosine(0.1), augment=[Flip()]),
        Phase(epochs=1, resolution=16, lr=0.01),
    ]
)


def fitted(data: Data, model: nn.Module, out: Path | None, *, seed: int = 0) -> Run:
    return Trainer("cpu", show=False, out=out).fit(model, data, RECIPE.changed("seed", seed))


def renamed(data: Data) -> Data:
    """The same images, whose classes and files are called what nobody should believe."""
    assert data.val is not None
    names = tuple(f"{HOSTILE[1]}/{k}.png" for k in range(len(data.val)))
    val = budgetnet.Split(data.val.images, data.val.labels, data.val.indices, names)
    train = budgetnet.Split(data.train.images, data.train.labels, data.train.indices)
    return Data(train, val, None, HOSTILE, "<b>data</b>")


def test_a_finished_run_leaves_a_page_that_needs_nothing_but_itself(
    data: Data, model: nn.Module, tmp_path: Path
) -> None:
    run = fitted(data, model, tmp_path)
    assert run.folder is not None
    text = (run.folder / "report.html").read_text()
    assert f"{100 * run.result['val_accuracy']:.2f} %" in text
    assert "95 % interval" in text
    assert all(name in text for name in ("red", "green", "blue", "learn", "10,000 parameters"))
    assert text.count('<figure class="chart">') == 4
    assert "budgetnet report" in text, "it says how resolutions are measured"
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", text)
    assert "<script" not in text


def test_names_are_text_and_nothing_else(data: Data, model: nn.Module, tmp_path: Path) -> None:
    hostile = renamed(data)
    run = fitted(hostile, model, tmp_path)
    assert run.folder is not None
    run.record["notes"] = [HOSTILE[0]]
    text = page(
        run, Extra(evaluation=Trainer("cpu", show=False).evaluate(model, hostile.val), split=hostile.val)
    )  # type: ignore[arg-type]
    for page_ in (text, (run.folder / "report.html").read_text(), run._repr_html_()):
        assert "<script" not in page_
        assert "<img src=x" not in page_
        assert "\u202e" not in page_
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text


def test_a_page_that_fails_costs_no_run(
    data: Data, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("no page today")

    monkeypatch.setattr("budgetnet.trainer.report.page", broken)
    told: list[str] = []
    trainer = Trainer("cpu", show=False, out=tmp_path, watch=[lambda event: told.append(str(event))])
    run = trainer.fit(model, data, RECIPE)
    assert run.status == "finished"
    assert [line for line in told if "no page today" in line] == [
        "note: report.html was not written: no page today"
    ]


def test_a_page_draws_nothing_from_the_users_generators(data: Data, model: nn.Module, tmp_path: Path) -> None:
    states = []
    for out in (None, tmp_path):
        torch.manual_seed(3)
        np.random.seed(3)
        fitted(data, model, out)
        states.append((torch.rand(1).item(), np.random.rand()))
    assert states[0] == states[1]


def test_a_report_measures_what_needs_images_and_draws_its_pictures(
    data: Data, model: nn.Module, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    run = fitted(data, model, tmp_path)
    assert run.folder is not None
    done = report(run.folder, data=data, recipe=RECIPE, out=tmp_path / "there")
    text = done.page.read_text()
    assert done.page == tmp_path / "there" / "report.html"
    assert "MACs per image (millions)" in text
    names = {path.name for path in done.pictures}
    both = {
        f"{name}.{ending}" for name in ("curves", "confusion", "resolutions") for ending in ("png", "svg")
    }
    assert names == {*both, "views-1.png", "views-2.png"}
    assert all(path.stat().st_size for path in done.pictures)
    without = report(run.folder, out=tmp_path / "bare").page.read_text()
    assert "its data were not given" in without
    assert "10,000 parameters" in without


def test_runs_of_several_seeds_are_one_line_in_a_band(data: Data, model: nn.Module, tmp_path: Path) -> None:
    runs = [fitted(data, model, tmp_path, seed=seed) for seed in (0, 1)]
    (accuracy, *_) = curves({"both": runs})
    train = accuracy.lines[0]
    values = [100 * run.history[1].train_accuracy for run in runs]
    assert train.points[1] == (2.0, pytest.approx(sum(values) / 2))
    assert train.band[1][2] - train.points[1][1] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    assert accuracy.borders == (2.5,)
    assert accuracy.kept is None
    assert curves({"": runs[:1]})[0].kept == runs[0].result["epoch"]
    text = report(runs, out=tmp_path / "many").page.read_text()
    assert 'polygon class="band' in text


def test_more_than_ten_runs_are_told_apart(data: Data, model: nn.Module) -> None:
    pytest.importorskip("matplotlib")
    run = fitted(data, model, None)
    charts = curves({f"run {k}": [run] for k in range(23)})
    figure = charts_figure(charts)
    drawn = {
        (line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines if len(line.get_xdata()) > 2
    }
    assert len(drawn) == 23
    assert len(figure.legends[0].get_texts()) >= 23


def test_runs_and_evaluations_plot_themselves(data: Data, model: nn.Module) -> None:
    pytest.importorskip("matplotlib")
    run = fitted(data, model, None)
    assert len(run.plot().axes) == 4
    assert run.plot()._repr_png_().startswith(b"\x89PNG"), "a notebook shows it"
    assert "<svg" in run._repr_html_()
    assert data.val is not None
    evaluation = Trainer("cpu", show=False).evaluate(model, data.val)
    assert evaluation.plot().axes[0].get_ylabel() == "true class"
    assert "<table" in evaluation._repr_html_()
    assert len(evaluation.mistakes) == min(24, round((1 - evaluation.accuracy) * evaluation.images))
    for mistake in evaluation.mistakes:
        assert data.val.labels[mistake.image] == mistake.truth != mistake.called
    sure = [mistake.confidence for mistake in evaluation.mistakes]
    assert sure == sorted(sure, reverse=True)
    with pytest.raises(NoPlot, match="none of these runs has finished an epoch"):
        Run().plot()


def test_the_command_reports_a_run_without_its_data_and_several_runs(
    data: Data, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        fitted(data, model, Path("runs"), seed=seed)
    result = CliRunner().invoke(main, ["report", "run-1"])
    assert result.exit_code == 0, result.output
    assert "name it: budgetnet report run-1 --recipe RECIPE" in result.output
    assert "wrote runs/run-1/report.html" in result.output
    result = CliRunner().invoke(main, ["report", "run-1", "run-2"])
    assert result.exit_code == 0, result.output
    assert "2 runs" in Path("report/report.html").read_text()
    assert CliRunner().invoke(main, ["report", "nothing"]).exit_code == 2


def test_an_svg_is_drawn_where_the_name_says_so(data: Data, model: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    save_curves(fitted(data, model, None), tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("ends", [(0, 1), (0.1, 0.11), (-3, 1e9), (12, 96)])
def test_ticks_are_few_round_and_within(ends: tuple[float, float]) -> None:
    found = ticks(*ends, 5)
    assert 1 <= len(found) <= 6
    assert all(ends[0] - 1e-9 <= each <= ends[1] + 1e-9 for each in found)


@pytest.mark.parametrize("count", [30, 400])
def test_many_classes_are_a_picture_and_the_worst_of_them_a_table(
    data: Data, model: nn.Module, count: int
) -> None:
    run = fitted(data, model, None)
    truth = torch.arange(2 * count) % (count - 1)
    logits = nn.functional.one_hot((truth + (torch.arange(2 * count) % 7 == 0)) % count, count).float()
    tally = _Tally(Scoring(tuple(f"class {k}" for k in range(count))), torch.device("cpu"))
    tally.add(logits, truth)
    evaluation = tally.evaluation(2 * count, 12)
    text = page(run, Extra(evaluation=evaluation))
    assert f"Confusion matrix of {count} classes" in text
    assert text.count('data-name="recall %"') == min(count, 300)
    assert "not measured" in text
    assert "<table" in evaluation._repr_html_()
    assert confusion_figure(evaluation.pairs, evaluation.classes).axes


def test_a_wheel_has_the_templates() -> None:
    folder = Path(budgetnet.__file__).parent
    for room in ("page", "pictures"):
        assert {path.suffix for path in (folder / room / "templates").iterdir()} == {".html", ".css"}


def test_every_limit_of_a_budget_is_on_the_page_and_on_the_card(data: Data, tmp_path: Path) -> None:
    every = budgetnet.Budget(
        params="1M", macs="10M", bytes="1MB", ram="1MB", latency="9s", stored="int8", resolution=16
    )
    model = every.build(budgetnet.models.convnet, classes=3, widths=(4,))
    run = Trainer("cpu", out=tmp_path, show=False).fit(model, data, RECIPE, name="small")
    text = Path(run.folder, "report.html").read_text()
    for words in ("parameters", "MACs at 16 px", "bytes as int8", "bytes of RAM at 16 px"):
        assert words in text
    card = budgetnet.model_card(run)
    assert "ram 1,000,000" in card
    assert "latency 9,000 ms" in card
    assert "stored int8" in card
