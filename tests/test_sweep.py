"""Many runs of one plan: seeds and their spread, grids chosen on validation, the test split left alone."""

import csv
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from budgetnet import Cosine, Epoch, Trainer, load, read_plan
from budgetnet.cli import main
from budgetnet.compare import compare
from budgetnet.plan import Plan
from budgetnet.randomness import MODEL, drawn
from budgetnet.run import Run
from budgetnet.sweep import Sweep, over, read_over, seeds, sweep
from budgetnet.sweep.grid import grid, split
from budgetnet.sweep.trials import Trial

TINY = '''"""Three colours told apart."""

import torch
from torch import nn

from budgetnet import SGD, Budget, Cosine, Data, Phase, Recipe, arrays, models


def model(width: int = 4) -> nn.Module:
    return Budget(params="10k").build(models.convnet, classes=3, widths=(width, 8))


def data(count: int = 48, tested: bool = True, held_out: int = 24, seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count + 48) % 3
    images = torch.randint(0, 160, (count + 48, 3, 8, 8), generator=generator, dtype=torch.uint8)
    images[torch.arange(len(labels)), labels] += 40
    places = (0, count, count + 24, count + 48)
    parts = [(images[a:b], labels[a:b]) for a, b in zip(places, places[1:])]
    val, test = parts[1] if held_out else None, parts[2] if tested else None
    return arrays(*parts[0], val=val, test=test, classes=("red", "green", "blue"))


learn = Phase(name="learn", epochs=2, resolution=8, lr=Cosine(0.1))
recipe = Recipe(phases=[learn], optimizer=SGD(), batch_size=16, measure=("val", "test"))
'''

LR = "recipe.phases.0.lr.peak"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUDGETNET_TRACEBACK", raising=False)
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


@pytest.fixture
def plan(here: Path) -> Plan:
    return read_plan(here / "tiny.py")


def trainer() -> Trainer:
    return Trainer("cpu", show=False)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def told(*arguments: object) -> str:
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object, code: int = 2) -> str:
    result = command(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    *_, last = result.output.strip().splitlines()
    assert last.startswith("Error: ")
    return last.removeprefix("Error: ")


def folders(name: str) -> list[str]:
    return sorted(path.name for path in Path("runs", name).iterdir() if path.is_dir())


# --- seeds


def test_seeds_are_runs_of_their_own_with_the_seeds_that_follow(plan: Plan) -> None:
    runs = seeds(trainer(), plan.changed("recipe.seed=5"), 3)
    assert [run.record["seed"] for run in runs] == [5, 6, 7]
    assert [str(run.folder) for run in runs] == ["runs/tiny-1", "runs/tiny-2", "runs/tiny-3"]
    assert len({run.history[0].train_loss for run in runs}) == 3
    (group,) = compare(runs).groups
    assert group.figure("val_accuracy").n == 3


def test_each_of_the_seeds_is_the_run_that_it_would_be_alone(plan: Plan) -> None:
    first, second = seeds(Trainer("cpu", out=None, show=False), plan, 2)
    assert first.folder is None
    alone = plan.changed("recipe.seed=1")
    expected = trainer().fit(alone.model(), alone.data(), alone.recipe)
    assert [epoch.train_loss for epoch in second.history] == [e.train_loss for e in expected.history]


def test_seeds_are_watched_one_after_another_and_not_together(plan: Plan) -> None:
    events: list[object] = []
    watched = Trainer("cpu", show=False, watch=[events.append])
    runs = seeds(watched, plan, 2)
    epochs = [event for event in events if isinstance(event, Epoch)]
    assert epochs == [epoch for run in runs for epoch in run.history]
    with pytest.raises(ValueError, match="watchers are functions of this process"):
        seeds(watched, plan, 2, together=2)


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "3"])
def test_a_number_of_seeds_that_is_none_is_refused(plan: Plan, n: Any) -> None:
    with pytest.raises(ValueError, match="seeds should be a whole number of 1 or more"):
        seeds(trainer(), plan, n)
    with pytest.raises(ValueError, match="seeds should be a whole number of 1 or more"):
        sweep(trainer(), plan, {LR: [0.1]}, seeds=n)
    assert not Path("runs").exists()


def test_what_a_run_was_made_from_travels_in_its_record(plan: Plan) -> None:
    (run,) = seeds(trainer(), plan.changed("model.width=3").changed("data.count=45"), 1, name="mine")
    assert str(run.folder) == "runs/mine-1"
    assert run.record["settings"] == ["data.count=45", "model.width=3"]
    assert Path(run.record["recipe_file"]).name == "tiny.py"


def test_run_with_seeds_prints_each_figure_and_their_spread() -> None:
    output = told(
        "run", "tiny.py", "--seeds", 3, "--seed", 4, "--scale", 0.5, "--set", "recipe.batch_size=12"
    )
    runs = [Run.read(f"runs/tiny-{k}") for k in (1, 2, 3)]
    assert [run.record["seed"] for run in runs] == [4, 5, 6]
    assert all(len(run.history) == 1 for run in runs)
    assert [run.record["settings"] for run in runs] == [["recipe.batch_size=12"]] * 3
    assert [run.record["scale"] for run in runs] == [0.5] * 3
    found = [100 * run.result["val_accuracy"] for run in runs]
    mean, sd = statistics.mean(found), statistics.stdev(found)
    assert (
        f"validation {mean:.2f} ± {sd:.2f} % ({min(found):.2f}..{max(found):.2f} %, n = 3; 95 %: " in output
    )
    for run, accuracy in zip(runs, found):
        assert re.search(rf"{run.folder} +finished +{run.record['seed']} +{accuracy:.2f} %", output)
    for k, seed in enumerate((4, 5, 6), start=1):
        assert f"seed {seed} ({k} of 3)" in output


def test_quiet_seeds_are_a_line_each_and_the_spread() -> None:
    lines = told("run", "tiny.py", "--seeds", 2, "-q").splitlines()
    assert [line.split()[-1] for line in lines[:2]] == ["runs/tiny-1", "runs/tiny-2"]
    assert [line.split()[0] for line in lines[2:]] == ["validation", "test", "train"]
    assert all(re.search(r"n = 2; 95 %: [0-9.]+ %\)$", line) for line in lines[2:])


FAILS_WITH_SEED_1 = TINY.replace(
    "batch_size=16",
    "batch_size=16, loss=loss",
).replace(
    "learn = ",
    """def loss(logits, labels):
    found = nn.functional.cross_entropy(logits, labels)
    return found * float("nan") if torch.initial_seed() in SEEDS else found


learn = """,
)


def test_a_run_that_fails_is_reported_and_the_others_still_run(here: Path) -> None:
    chosen = {drawn(1, MODEL, step) for step in range(99)}
    text = FAILS_WITH_SEED_1.replace("SEEDS", repr(chosen))
    (here / "tiny.py").write_text(text)
    result = command("run", "tiny.py", "--seeds", 3)
    assert result.exit_code == 4
    assert "Traceback" not in result.output
    assert "Error: 1 of 3 runs failed, with seed 1: the loss became nan" in result.output
    assert re.search(r"runs/tiny-2 +failed +1 +-", result.output)
    assert "n = 2; 95 %" in result.output
    assert [Run.read(f"runs/tiny-{k}").status for k in (1, 2, 3)] == ["finished", "failed", "finished"]


def test_a_mistake_is_refused_before_the_first_seed() -> None:
    assert "batch_size should be" in refused("run", "tiny.py", "--seeds", 2, "--set", "recipe.batch_size=0")
    assert "without slashes" in refused("run", "tiny.py", "--seeds", 2, "--name", "a/b")
    assert "not in the range 1<=x<=10000" in refused("run", "tiny.py", "--seeds", 0)
    assert not Path("runs").exists()


# --- the grid


def test_values_are_split_at_commas_outside_of_brackets_and_quotes() -> None:
    assert split("1, 2") == ["1", "2"]
    assert split("(8, 16),[1,2],{'a': 1, 'b': 2}") == ["(8, 16)", "[1,2]", "{'a': 1, 'b': 2}"]
    assert split("'a,b',\"c(\",d") == ["'a,b'", '"c("', "d"]
    over = read_over(["recipe.phases.0.lr=0.01,1e-3", "model.widths=(8,16),(16,32)", "recipe.keep=last,best"])
    assert over == {
        "recipe.phases.0.lr": [0.01, 0.001],
        "model.widths": [(8, 16), (16, 32)],
        "recipe.keep": ["last", "best"],
    }


LITERALS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text("ab,()[]'\"\\ ", max_size=4).map(lambda text: f"x{text}"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text("k"), inner)
    ),
    max_leaves=6,
)


@given(st.lists(LITERALS, min_size=1, max_size=4))
def test_whatever_python_writes_is_read_again(values: list[Any]) -> None:
    assert read_over([f"model.x={','.join(map(repr, values))}"]) == {"model.x": values}


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        (["recipe.batch_size"], "should read PATH=VALUE,VALUE"),
        (["recipe.batch_size="], "should read PATH=VALUE,VALUE"),
        (["recipe.batch_size=8,"], "one of them is empty"),
        (["recipe.batch_size=8", "recipe.batch_size=9"], "names recipe.batch_size twice"),
        (["recipe.batch_size=8,8"], "has 8 twice"),
        (["recipe.seed=1,2"], "does not vary recipe.seed"),
        (["recipe.batch_size=8,0"], "recipe.batch_size=0 is impossible"),
        (["recipe.batch_sice=8"], "did you mean 'batch_size'?"),
        (["batch_size=8"], "a setting should read"),
        (["recipe=8"], "a setting should read"),
        (["model.depth=8"], "has no parameter 'depth'; it takes width"),
        (["model.width=4,400"], "model.width=400 is impossible: .* over the budget of 10,000"),
        (["recipe.phases.0.resolution=8,1"], "resolution=1 is impossible: phase 1 does not fit"),
        (["data.held_out=24,0"], "chooses on validation images, and arrays has none"),
    ],
)
def test_what_is_impossible_is_refused_before_the_first_run(over: list[str], sentence: str) -> None:
    options = [option for text in over for option in ("--over", text)]
    assert re.search(sentence, refused("sweep", "tiny.py", *options))
    assert not Path("runs").exists()


def test_python_refuses_the_same(plan: Plan) -> None:
    with pytest.raises(ValueError, match="needs something to vary"):
        sweep(trainer(), plan, {})
    with pytest.raises(ValueError, match=r"should be a list of values, not '0\.1'"):
        sweep(trainer(), plan, {LR: "0.1"})
    with pytest.raises(
        ValueError, match="metric should be one of val_accuracy, val_loss, not 'test_accuracy'"
    ):
        sweep(trainer(), plan, {LR: [0.1]}, metric="test_accuracy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give its Trainer an out"):
        sweep(Trainer("cpu", out=None), plan, {LR: [0.1]})
    with pytest.raises(ValueError, match="without slashes"):
        sweep(trainer(), plan, {LR: [0.1]}, name="a/b")
    Path("file").write_text("")
    with pytest.raises(ValueError, match="cannot be made"):
        sweep(Trainer("cpu", out="file", show=False), plan, {LR: [0.1]}, name="x")
    assert not Path("runs").exists()


def test_the_last_path_changes_fastest() -> None:
    found = [str(setting) for setting in grid({"recipe.a": [1, 2], "recipe.b": ["x", (3,)]})]
    assert found == [f"recipe.a={a} recipe.b={b}" for a in (1, 2) for b in ("x", "(3,)")]


def test_values_in_python_may_be_any_object(plan: Plan) -> None:
    found = sweep(trainer(), plan, {"recipe.phases.0.lr": [Cosine(0.1), 0.02], "data.tested": [False]})
    described = [trial.runs[0].record["recipe"]["phases"][0]["lr"] for trial in found.trials]
    assert described[0]["class"] == "Cosine"
    assert described[1] == 0.02
    assert found.test.n == 0
    assert "test: the data have no test split" in str(found)


# --- the sweep


def test_a_sweep_is_ranked_by_the_mean_over_seeds_on_validation(plan: Plan) -> None:
    found = sweep(trainer(), plan, {LR: [1e-6, 0.1], "recipe.batch_size": [8, 16]}, seeds=2)
    assert folders("tiny-sweep-1") == [f"trial-{k}-{seed}" for k in range(1, 5) for seed in (1, 2)]
    means = [trial.figure("val_accuracy").mean for trial in found.rows]
    assert means == sorted(means, reverse=True)
    assert found.selected is found.rows[0]
    assert found.selected.settings[LR] == "0.1"
    assert {run.record["seed"] for run in found.selected.runs} == {0, 1}
    for trial in found.trials:
        values = [Run.read(run.folder or "").result["val_accuracy"] for run in trial.runs]
        assert trial.figure("val_accuracy").mean == pytest.approx(statistics.mean(values))
        assert trial.figure("val_accuracy").sd == pytest.approx(statistics.stdev(values))
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == [str(trial.number) for trial in found.rows]
    assert f"selected by validation accuracy, the best of 4 on these images: {found.selected}" in lines


def test_trials_never_see_the_test_split_and_the_selected_setting_once(plan: Plan) -> None:
    found = sweep(trainer(), plan, {LR: [1e-6, 0.1]}, seeds=2)
    assert found.selected is not None
    for trial in found.trials:
        for run in trial.runs:
            held = Run.read(run.folder or "")
            assert all(epoch.test_loss != epoch.test_loss for epoch in held.history)
            assert ("test_accuracy" in held.result) is (trial is found.selected)
            assert ("test" in held.record["data"]["images"]) is (trial is found.selected)
    test = plan.data().test
    assert test is not None
    for run in found.selected.runs:
        expected = trainer().evaluate(load(run.folder or ""), test)
        assert run.result["test_accuracy"] == expected.accuracy
        assert run.result["test_loss"] == pytest.approx(expected.loss)
        assert run.record["data"]["fingerprints"]["test"] == test.fingerprint()
    assert found.test.n == 2
    assert f"test: {found.test.percent()} (n = 2) on 24 images, measured once" in str(found)


def test_the_metric_may_be_the_loss(plan: Plan) -> None:
    found = sweep(trainer(), plan, {LR: [0.05, 1e-6, 0.1]}, metric="val_loss")
    losses = [trial.figure("val_loss").mean for trial in found.rows]
    assert losses == sorted(losses)
    assert "selected by validation loss" in str(found)


def trial(number: int, accuracy: float, loss: float, *statuses: str) -> Trial:
    runs = [
        Run(record={"status": status, "result": {"val_accuracy": accuracy, "val_loss": loss}, "error": "why"})
        for status in statuses
    ]
    return Trial(number, {"recipe.batch_size": str(number)}, tuple(runs), len(statuses) or 1)


def test_ranks_put_ties_by_the_other_figure_and_what_is_no_number_last() -> None:
    nan = float("nan")
    trials = (
        trial(1, 0.9, 0.1, "finished", "failed"),
        trial(2, 0.5, 0.9, "finished"),
        trial(3, 0.5, 0.8, "finished"),
        trial(4, nan, nan, "finished"),
        trial(5, 0.4, 0.2, "finished"),
    )
    found = Sweep(Path("x"), "val_accuracy", trials, {})
    assert [row.number for row in found.rows] == [3, 2, 5, 4, 1]
    assert [row.number for row in Sweep(Path("x"), "val_loss", trials, {}).rows] == [5, 3, 2, 4, 1]
    assert found.selected is trials[2]
    assert Sweep(Path("x"), "val_accuracy", (*trials, trial(6, 0.1, 1.0)), {}).selected is None
    assert Sweep(Path("x"), "val_accuracy", trials[:1], {}).selected is None
    assert Sweep(Path("x"), "val_accuracy", trials[3:4], {}).selected is None
    assert Sweep(Path("x"), "val_accuracy", (), {}).selected is None


def test_a_trial_that_fails_is_shown_as_failed_and_ranked_last() -> None:
    output = told("sweep", "tiny.py", "--over", f"{LR}=1e30,0.1", "-q")
    rows = [line.split() for line in output.splitlines()[1:3]]
    assert [row[:2] for row in rows] == [["2", "0.1"], ["1", "1e+30"]]
    assert rows[1][2] == "failed"
    assert "trial 1 failed with seed 0: the loss became" in output
    assert f"selected by validation accuracy: {LR}=0.1" in output


def test_a_sweep_of_which_nothing_is_left_is_a_failure() -> None:
    result = command("sweep", "tiny.py", "--over", f"{LR}=1e30,1e31", "-q")
    assert result.exit_code == 1
    assert "nothing is selected: no trial finished" in result.output
    assert "Error: no trial of the sweep came to a validation figure" in result.output


def test_the_command_leaves_a_table_as_json_and_csv() -> None:
    output = told(
        *("sweep", "tiny.py", "--over", f"{LR}=0.1,1e-6", "--over", "model.width=3,4"),
        *("--set", "recipe.batch_size=12", "--scale", 0.5, "--seed", 3, "--name", "mine", "--out", "there"),
    )
    folder = Path("there/mine")
    assert f"the sweep lies in {folder}" in output
    assert "trial 4 of 4: recipe.phases.0.lr.peak=1e-06 model.width=4 (seed 3)" in output
    held = json.loads((folder / "sweep.json").read_text())
    with (folder / "sweep.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["trial"] for row in rows] == [str(entry["number"]) for entry in held["trials"]]
    assert [row["selected"] for row in rows] == ["true", "false", "false", "false"]
    assert held["selected"] == int(rows[0]["trial"])
    assert rows[0]["test_accuracy_mean"]
    assert not rows[1]["test_accuracy_mean"]
    for row, entry in zip(rows, held["trials"]):
        assert entry["settings"] == {LR: row[LR], "model.width": row["model.width"]}
        assert float(row["val_accuracy_mean"]) == pytest.approx(
            entry["figures"]["val_accuracy"]["mean"], rel=1e-5
        )
        (found,) = entry["runs"]
        run = Run.read(folder / found["folder"])
        assert run.record["settings"][0] == "recipe.batch_size=12"
        assert f"model.width={row['model.width']}" in run.record["settings"]
        assert (run.record["seed"], run.record["scale"], len(run.history)) == (3, 0.5, 1)


def test_trials_validated_on_different_images_are_told(plan: Plan) -> None:
    found = sweep(trainer(), plan, {"data.seed": [0, 1]})
    assert any("validated on different images" in note for note in found.notes)
    assert not sweep(trainer(), plan, {LR: [0.1]}).notes


def test_data_that_changed_between_trials_are_told_and_a_run_that_never_began_has_none() -> None:
    def trial(number: int, held_out: str, **prints: str) -> Trial:
        record = {"status": "finished", "seed": 0, **({"data": {"fingerprints": prints}} if prints else {})}
        return Trial(number, {"data.held_out": held_out}, (Run(record=record),), 1)

    def notes(*trials: Trial) -> list[str]:
        return list(over.notes(Sweep(Path(), "val_accuracy", trials, {})))

    same = trial(1, "9", train="a", val="v")
    assert notes(same, trial(2, "9", train="a", val="v"), trial(3, "9")) == []
    assert notes(same, trial(2, "8", train="b", val="v")) == []
    (note,) = notes(same, trial(2, "9", train="b", val="v"))
    assert "were trained on different images" in note


def test_a_model_that_only_its_recipe_can_build_is_tested_too(here: Path) -> None:
    own = TINY.replace(
        'Budget(params="10k").build(models.convnet, classes=3, widths=(width, 8))',
        "nn.Sequential(nn.AdaptiveAvgPool2d(width), nn.Flatten(), nn.Linear(3 * width**2, 3))",
    )
    (here / "own.py").write_text(own)
    found = sweep(trainer(), read_plan(here / "own.py"), {"model.width": [1, 2]})
    assert found.test.n == 1


def test_torchs_randomness_is_left_as_found(plan: Plan) -> None:
    state = torch.random.get_rng_state()
    sweep(trainer(), plan, {LR: [0.1]})
    assert torch.equal(state, torch.random.get_rng_state())


# --- going on


def stamps(folder: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path("runs", folder).glob("trial-*")}


def test_what_is_finished_is_not_trained_again(plan: Plan) -> None:
    first = sweep(trainer(), plan, {LR: [0.05, 0.1]}, name="s")
    losses = {trial.settings[LR]: trial.runs[0].history[-1].train_loss for trial in first.trials}
    second = sweep(trainer(), plan, {LR: [0.02, 0.05, 0.1]}, seeds=2, name="s", resume=True)
    assert len(folders("s")) == 6
    for found in second.trials:
        assert len(found.runs) == 2
        assert losses.get(found.settings[LR]) in (None, found.runs[0].history[-1].train_loss)
    kept = {run.folder.name for found in first.trials for run in found.runs if run.folder}
    assert kept <= {run.folder.name for found in second.trials for run in found.runs if run.folder}


def test_nothing_left_to_do_does_nothing_and_says_the_same(plan: Plan) -> None:
    first = sweep(trainer(), plan, {LR: [0.05, 0.1]}, seeds=2)
    before = Path("runs/tiny-sweep-1/sweep.json").read_text()
    records = {path: path.stat().st_mtime_ns for path in Path("runs/tiny-sweep-1").glob("*/run.json")}
    again = sweep(trainer(), plan, {LR: [0.05, 0.1]}, seeds=2, resume=True)
    assert str(again) == str(first)
    assert Path("runs/tiny-sweep-1/sweep.json").read_text() == before
    # Not even the test split is looked at again.
    assert {path: path.stat().st_mtime_ns for path in records} == records


def test_a_second_selection_by_the_same_test_split_is_told(plan: Plan) -> None:
    sweep(trainer(), plan, {LR: [1e-6]}, name="s")
    found = sweep(trainer(), plan, {LR: [1e-6, 0.1]}, name="s", resume=True)
    assert found.selected is not None
    assert found.selected.settings[LR] == "0.1"
    assert any("used for 2 settings of this sweep" in note for note in found.notes)


def test_what_failed_or_is_not_there_any_more_is_trained_again(plan: Plan) -> None:
    found = sweep(trainer(), plan, {LR: [0.05, 0.1]}, name="s")
    one, other = (run.folder for found in found.trials for run in found.runs)
    assert one is not None
    assert other is not None
    Run.read(one).note(status="failed")
    other.rename("elsewhere")
    again = sweep(trainer(), plan, {LR: [0.05, 0.1]}, name="s", resume=True)
    assert folders("s") == ["trial-1-1", "trial-1-2", "trial-2-1"]
    assert [trial.status for trial in again.trials] == ["finished", "finished"]


def test_a_sweep_of_something_else_is_not_gone_on_with(plan: Plan) -> None:
    sweep(trainer(), plan, {LR: [0.1]}, name="s")
    with pytest.raises(ValueError, match=r"made from something else: recipe\.batch_size  16 \| 8"):
        sweep(trainer(), plan.changed("recipe.batch_size=8"), {LR: [0.1]}, name="s", resume=True)
    with pytest.raises(ValueError, match=r"made from something else: data\.count"):
        sweep(trainer(), plan.changed("data.count=45"), {LR: [0.1]}, name="s", resume=True)
    # Another seed is no other sweep.
    sweep(trainer(), plan.changed("recipe.seed=1"), {LR: [0.1]}, name="s", resume=True)
    assert folders("s") == ["trial-1-1", "trial-1-2"]


def test_a_folder_in_use_is_refused_and_one_that_is_new_begun(plan: Plan) -> None:
    Path("runs/used").mkdir(parents=True)
    with pytest.raises(ValueError, match="runs/used is there already; choose another name"):
        sweep(trainer(), plan, {LR: [0.1]}, name="used")
    with pytest.raises(ValueError, match="runs/used holds no sweep to go on with"):
        sweep(trainer(), plan, {LR: [0.1]}, name="used", resume=True)
    output = told("sweep", "tiny.py", "--over", f"{LR}=0.1", "--resume")
    assert "no sweep lies in runs/tiny-sweep-N: a new one begins" in output
    for text in ("{", "[]", '{"format": 1}', '{"format": 2}', '{"format": 1, "trials": 3, "plan": {}}'):
        Path("runs/tiny-sweep-1/sweep.json").write_text(text)
        assert "sweep.json should be a sweep's" in refused(
            "sweep", "tiny.py", "--over", f"{LR}=0.1", "--resume"
        )


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_can_be_gone_on_with(here: Path) -> None:
    (here / "tiny.py").write_text(TINY.replace("epochs=2", "epochs=20"))
    typed = ["sweep", "tiny.py", "--over", f"{LR}=0.1,0.05,0.02,0.01,0.005", "--name", "s"]
    code = "from budgetnet.cli import main; main(prog_name='budgetnet')"
    program = subprocess.Popen(
        [sys.executable, "-c", code, *typed],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    path, until = here / "runs/s/sweep.json", time.monotonic() + 60
    while time.monotonic() < until and not (path.exists() and '"status": "finished"' in path.read_text()):
        time.sleep(0.02)
    program.send_signal(signal.SIGINT)
    output, errors = program.communicate(timeout=60)
    assert program.returncode == 130, errors
    assert "Traceback" not in errors
    assert "stopped: what is finished lies in runs/s, and --name s --resume goes on" in output
    held = json.loads(path.read_text())
    done = [run["folder"] for entry in held["trials"] for run in entry["runs"]]
    assert 0 < len(done) < 5
    output = told(*typed, "--resume")
    assert "selected by validation accuracy, the best of 5" in output
    assert set(done) <= {run["folder"] for e in json.loads(path.read_text())["trials"] for run in e["runs"]}


def test_the_command_sorts_by_the_metric_that_is_named(here: Path) -> None:
    (here / "tiny.py").write_text(
        TINY.replace('measure=("val", "test")', "metrics=[metrics.F1()]").replace(
            "arrays, models", "arrays, metrics, models"
        )
    )
    asked = ("tiny.py", "--over", f"{LR}=0.1,0.0001", "--together", 1, "--device", "cpu", "-q")
    for name, best in (("val_f1", max), ("val_loss", min)):
        output = told("sweep", *asked, "--metric", name, "--name", name)
        runs = [Run.read(path) for path in (here / "runs" / name).iterdir() if path.is_dir()]
        chosen = best(runs, key=lambda run: run.result[name])
        value = next(text for text in chosen.record["settings"] if text.startswith(LR))
        assert f", the best of 2 on these images: {value}\n" in output
    result = CliRunner().invoke(
        main, ["sweep", "tiny.py", "--over", "recipe.batch_size=2,4", "--metric", "val_f2"]
    )
    assert (
        "should be one of val_accuracy, val_loss, val_f1, not 'val_f2'; did you mean 'val_f1'?"
        in result.output
    )
