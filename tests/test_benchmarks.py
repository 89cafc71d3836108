"""What the benchmarks of issue 12 do with figures once they have them: scores, means, fronts and tables."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import ablations
import fixres_curve
import pareto
import peer
import peers
import report

from budgetnet import Cutmix, Groups, TrivialAugmentWide, read_plan


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(4.2, "4.2 s"), (59.97, "1 min"), (159, "2 min 39 s"), (3599.7, "1 h"), (20049, "5 h 34 min 9 s")],
)
def test_times_of_hours_are_not_taken_for_minutes(seconds: float, written: str) -> None:
    assert report.spent(seconds) == written


def test_a_photo_without_an_answer_counts_as_wrong(tmp_path: Path) -> None:
    for name in ("ant/1.jpg", "ant/2.jpg", "bee/1.jpg", "bee/2.jpg"):
        (tmp_path / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "val" / name).touch()
    answers = {"val/ant/1.jpg": "ant", "val/ant/2.jpg": "bee", "val/bee/1.jpg": "bee"}
    assert peers.scored(answers, tmp_path) == 0.5


def test_the_most_accurate_library_comes_first_and_seeds_are_one_line() -> None:
    common = {"photos": "dogs", "parameters": 10, "pixels": 96, "views": 5, "seconds": 2.0, "versions": {}}
    found = [{"library": "timm", "accuracy": 0.2} | common]
    found += [{"library": "keras", "accuracy": each} | common for each in (0.3, 0.5)]
    lines = peers.rows(found)
    assert [line[1:5] for line in lines] == [
        ["keras", "40.00 %", "14.14", "2"],
        ["timm", "20.00 %", "-", "1"],
    ]


def test_the_pace_leaves_the_first_step_out_and_says_how_many_epochs_there_are_time_for() -> None:
    clock = peer.Clock(1000.0)
    pace = peer.Pace(clock, ends=[30.0, 32.0, 34.0])
    assert pace.step == 2.0
    assert pace.epoch(steps=10, tests=6) == 24.0
    assert clock.epochs(24.0) == 41
    assert clock.epochs(1e6) == 1


def test_every_ablation_changes_its_piece_and_keeps_the_views() -> None:
    whole = ablations.base(read_plan("stl10_afternoon"), 10)
    changed = {name: change(whole) for name, change in ablations.PIECES.items()}
    seen = {round(each.phases[0].epochs * each.phases[0].views, 6) for each in changed.values()}
    assert seen == {10}
    assert not any(
        isinstance(step, TrivialAugmentWide) for step in changed["without TrivialAugment"].phases[0].augment
    )
    assert any(isinstance(step, Cutmix) for step in changed["without TrivialAugment"].phases[0].augment)
    optimizer = changed["Muon in place of SGD"].optimizer
    assert isinstance(optimizer, Groups)
    optimizer(read_plan("stl10_afternoon").model().named_parameters())
    same = [name for name, each in changed.items() if each == whole]
    assert same == [ablations.BASE, "float32 in place of bf16"]


def test_differences_are_taken_seed_by_seed() -> None:
    def cells(*accuracies: float) -> list[dict[str, float]]:
        return [{"accuracy": each, "seconds": 1.0, "views": 10} for each in accuracies]

    lines = ablations.rows({ablations.BASE: cells(0.5, 0.7), "without cutmix": cells(0.4, 0.7)})
    assert [line[4] for line in lines] == ["", "-5.00"]


def test_the_original_projects_claim_is_told_beside_the_plain_difference() -> None:
    accuracies = {
        ("nothing", "crops", 70): 0.74,
        ("nothing", "plain", 70): 0.79,
        ("nothing", "plain", 120): 0.78,
        ("whole network", "plain", 70): 0.77,
        ("whole network", "plain", 120): 0.82,
        ("whole network", "whole", 120): 0.84,
    }
    found = [fixres_curve.Point(0, *key, accuracy) for key, accuracy in accuracies.items()]
    (said,) = fixres_curve.claims(found)
    assert "+10.00 points as the project compares" in said
    assert "plainly +4.00 at 120 px and +3.00 best to best" in said


def test_the_last_norm_is_that_of_the_last_blocks_main_path() -> None:
    model = read_plan("fixres_stl10_light").model()
    name = fixres_curve.last_norm(model)
    assert model.get_submodule(name).num_features == 240
    assert name.startswith("stages.3.0.branch.")


def test_weights_and_finished_runs_are_read_and_others_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"status": "finished", "data": {"name": "stl10"}, "model": {"parameters": 9}, "threads": 2}
    record |= {"device": "cpu (x86_64)", "result": {"val_accuracy": 0.5, "seconds": 1800}}
    for name, status in (("done", "finished"), ("going", "running")):
        run = tmp_path / name
        run.mkdir()
        (run / "run.json").write_text(json.dumps(record | {"status": status}))
        (run / "model.safetensors").write_bytes(b"12345")
        (run / "metrics.jsonl").write_text('{"train_seconds": 1800, "val_accuracy": 0.4}\n')
    weights = Path(__file__).parents[1] / "weights"
    trained = pareto.found(weights, [tmp_path / "done", tmp_path / "going"])
    assert "going is passed over" in capsys.readouterr().out
    done = next(each for each in trained if each.name == "done")
    assert (done.bytes, done.hours, done.curve) == (5, 1.0, ((1.0, 0.4),))
    assert {each.stem for each in weights.glob("*.json")} == {each.name for each in trained} - {"done"}


def test_the_front_holds_what_nothing_cheaper_reaches() -> None:
    def trained(name: str, size: int, accuracy: float) -> pareto.Trained:
        return pareto.Trained(name, "stl10", "val", accuracy, size, size, 1.0, "CPU")

    found = [trained("large", 9, 0.9), trained("poor", 5, 0.6), trained("small", 3, 0.7)]
    assert [each.name for each in pareto.front(found, "bytes")] == ["small", "large"]


def test_the_plot_is_a_small_svg_that_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = pareto.found(Path(__file__).parents[1] / "weights", [])
    for name in ("one.svg", "two.svg"):
        pareto.draw(found, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.svg").stat().st_size < 100_000
