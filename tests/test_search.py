"""Search: Optuna suggests, each trial is a run that goes on exactly, the test set waits for the winner."""

import json
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_sweep import TINY

from budgetnet import Cosine, Trainer, compare, read_plan
from budgetnet.cli import main
from budgetnet.plan import Plan
from budgetnet.run import Run
from budgetnet.sweep import Between, Effort, Sweep, search, sweep
from budgetnet.sweep import search as searched
from budgetnet.sweep.effort import chosen
from budgetnet.sweep.folder import TAKING
from budgetnet.sweep.space import read_domain
from budgetnet.sweep.study import Study

LR = "recipe.phases.0.lr.peak"
RATES = {LR: Between(1e-3, 1.0, log=True)}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUDGETNET_TRACEBACK", raising=False)
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


@pytest.fixture
def plan(here: Path) -> Plan:
    return read_plan(here / "tiny.py").changed("recipe.phases.0.epochs=1")


def trainer(**options: Any) -> Trainer:
    return Trainer("cpu", show=False, **options)


def settings(result: Sweep) -> list[Mapping[str, str]]:
    return [trial.settings for trial in result.trials]


def runs(result: Sweep) -> list[Run]:
    return [run for trial in result.trials for run in trial.runs]


# --- what is searched


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("log:1e-3..1", Between(1e-3, 1, log=True)),
        ("8..64", Between(8, 64)),
        ("8..64:8", Between(8, 64, step=8)),
        ("-0.5..0.5", Between(-0.5, 0.5)),
        ("0.0..1.0:0.25", Between(0.0, 1.0, step=0.25)),
        ("(8, 16),(16, 32)", ((8, 16), (16, 32))),
        ("adam,sgd", ("adam", "sgd")),
        ("a..b,c", ("a..b", "c")),
    ],
)
def test_a_domain_is_read_as_it_is_typed(text: str, domain: object) -> None:
    assert read_domain(text) == domain
    if isinstance(domain, Between):
        assert read_domain(str(domain)) == domain


def test_suggested_numbers_have_few_digits_and_stay_within() -> None:
    assert Between(1e-3, 1.0).value(0.123456) == 0.1235
    assert Between(0.123443, 1.0).value(0.123443) == 0.123443
    assert Between(1, 9).value(3.0) == 3
    assert isinstance(Between(1, 9).value(3.0), int)


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({}, "a search needs something to search"),
        ({"recipe.seed": "1..9"}, "does not vary recipe.seed"),
        ({LR: "1..0.1"}, "low should be below its high"),
        ({LR: "log:0..1"}, "above 0 with log"),
        ({LR: "log:a..1"}, "should read log:LOW..HIGH"),
        ({LR: "log:0.1..1:0.1"}, "a log or a step"),
        ({"recipe.phases.0.nothing": "1..2"}, "nothing"),
        ({"model.nothing": "1..2"}, "has no parameter 'nothing'"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_a_folder_is_made(
    plan: Plan, over: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        search(trainer(), plan, over, trials=1)
    assert not Path("runs").exists()


def test_data_without_validation_images_are_refused(plan: Plan) -> None:
    with pytest.raises(ValueError, match="chooses on validation images"):
        search(trainer(), plan.changed("data.held_out=0"), RATES, trials=1)


def test_without_optuna_the_extra_is_named(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'budgetnet\[search\]'"):
        search(trainer(), plan, RATES, trials=1)


# --- what comes of it


def test_a_trial_is_a_run_blind_to_the_test_images_and_the_winner_is_measured_once(plan: Plan) -> None:
    result = search(trainer(), plan, RATES, trials=2)
    assert [trial.status for trial in result.trials] == ["finished"] * 2
    assert result.selected is not None
    for trial in result.trials:
        (run,) = trial.runs
        assert run.status == "finished"
        assert f"{LR}={trial.settings[LR]}" in run.record["settings"]
        assert run.record["recipe"]["phases"][0]["lr"]["peak"] == float(trial.settings[LR])
        assert ("test" in run.record["data"]["fingerprints"]) == (trial is result.selected)
    best = max(trial.figure("val_accuracy").mean for trial in result.trials)
    assert result.selected.figure("val_accuracy").mean == best
    assert result.test.n == 1
    assert "measured once" in str(result)
    assert len(compare.compare(runs(result)).groups) == 2


def test_a_suggestion_over_the_budget_is_refused_and_no_try(plan: Plan) -> None:
    result = search(trainer(), plan, {"model.width": Between(4, 400)}, trials=2)
    assert [trial.status for trial in result.trials] == ["finished"] * 2
    assert result.refused
    assert all("over the budget of 10,000" in why for _, _, why in result.refused)
    numbers = {number for number, _, _ in result.refused} | {trial.number for trial in result.trials}
    assert numbers == set(range(1, len(numbers) + 1))
    assert {int(run.record["search"]["trial"]) for run in runs(result)} == {t.number for t in result.trials}
    assert f"{len(result.refused)} suggestion" in str(result)


def test_nothing_within_the_budget_is_said(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budgetnet.sweep.taker._REFUSED", 3)
    with pytest.raises(ValueError, match="3 suggestions in a row were refused, the last"):
        search(trainer(), plan, {"model.width": Between(400, 500)}, trials=2)


def test_the_same_again_goes_on_with_the_same_search(plan: Plan) -> None:
    first = search(trainer(), plan, RATES, trials=1)
    before = {run.folder: run.started for run in runs(first)}
    again = search(trainer(), plan, RATES, trials=1)
    assert again.folder == first.folder
    assert {run.folder: run.started for run in runs(again)} == before
    more = search(trainer(), plan, RATES, trials=2)
    assert settings(more)[:1] == settings(first)
    assert len(more.trials) == 2
    whole = search(trainer(), plan, RATES, trials=2, name="whole")
    assert settings(whole) == settings(more)
    other = search(trainer(), plan, {LR: Between(1e-2, 1.0, log=True)}, trials=1)
    assert other.folder != first.folder


def test_another_search_under_the_same_name_is_refused(plan: Plan) -> None:
    search(trainer(), plan, RATES, trials=1, name="mine")
    with pytest.raises(ValueError, match="was begun as something else"):
        search(trainer(), plan, {LR: [0.1, 0.2]}, trials=1, name="mine")


@pytest.mark.parametrize(
    ("number", "end"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_what_was_interrupted_goes_on_exactly(plan: Plan, number: int, end: type[BaseException]) -> None:
    plan = plan.changed("recipe.phases.0.epochs=2")
    told: list[object] = []

    def stop(event: object) -> None:
        told.append(event)
        if len(told) == 5:
            os.kill(os.getpid(), number)

    with pytest.raises(end):
        search(trainer(watch=[stop]), plan, RATES, trials=2, name="stopped")
    result = search(trainer(), plan, RATES, trials=2, name="stopped")
    whole = search(trainer(), plan, RATES, trials=2, name="whole")
    assert settings(result) == settings(whole)
    assert len(list(Path("runs/stopped").glob("trial-*/run.json"))) == 2
    for one, other in zip(runs(result), runs(whole), strict=True):
        assert [epoch.val_loss for epoch in one.history] == [epoch.val_loss for epoch in other.history]


def test_several_seeds_are_one_trial_whose_mean_counts(plan: Plan) -> None:
    result = search(trainer(), plan, RATES, trials=1, effort=Effort(seeds=2))
    (trial,) = result.trials
    assert [run.record["seed"] for run in trial.runs] == [0, 1]
    assert result.test.n == 2


@pytest.mark.slow
def test_halving_trains_a_ninth_first_and_few_to_the_end(plan: Plan) -> None:
    plan = plan.changed("recipe.phases.0.epochs=9")
    result = search(trainer(), plan, RATES, trials=4, effort=Effort(prune="halving"))
    pruned = [trial for trial in result.trials if trial.status == "pruned"]
    finished = [trial for trial in result.trials if trial.status == "finished"]
    assert pruned
    assert finished
    assert len(pruned) + len(finished) == 4
    assert all(len(run.history) == 9 for trial in finished for run in trial.runs)
    assert result.selected in finished
    stages = {
        run.record["search"]["rung"]: run.record["scale"]
        for run in map(Run.read, result.folder.glob("trial-*"))
    }
    assert stages[1] == pytest.approx(1 / 9)
    assert stages[9] is None


def test_halving_is_chosen_where_it_pays(plan: Plan) -> None:
    short, long = plan.recipe, plan.changed("recipe.phases.0.epochs=60").recipe
    assert chosen("auto", short, 100, many=False) == "none"
    assert chosen("auto", long, 100, many=False) == "halving"
    assert chosen("auto", long, 3, many=False) == "none"
    assert chosen("auto", long, 100, many=True) == "none"
    with pytest.raises(ValueError, match="leave prune='median'"):
        chosen("median", long, 100, many=True)


@pytest.mark.slow
@pytest.mark.parametrize("prune", ["median", "hyperband"])
def test_a_trial_that_promises_too_little_ends_after_an_epoch(plan: Plan, prune: str) -> None:
    plan = plan.changed("recipe.phases.0.epochs=3")
    result = search(trainer(), plan, RATES, trials=9, effort=Effort(prune=prune))
    assert {trial.status for trial in result.trials} == {"finished", "pruned"}
    (*_, last) = (trial for trial in result.trials if trial.status == "pruned")
    (run,) = last.runs
    assert run.status == "pruned"
    assert len(run.history) < 3


def test_accuracy_against_costs_gives_a_front(plan: Plan) -> None:
    over = {"model.width": Between(2, 40), **RATES}
    result = search(trainer(), plan, over, trials=3, against=("params", "latency"))
    assert all(set(trial.costs) == {"params", "latency"} for trial in result.trials)
    front = result.front
    assert front
    assert [trial.costs["params"] for trial in front] == sorted(trial.costs["params"] for trial in front)
    assert result.selected in front
    for trial in result.trials:
        if trial not in front:
            assert any(
                other.figure("val_accuracy").mean >= trial.figure("val_accuracy").mean
                and all(other.costs[cost] <= trial.costs[cost] for cost in trial.costs)
                for other in front
            )
    table = str(result).partition("the Pareto front: ")[2]
    assert all(
        re.search(rf"^ *{t.costs['params']:,.0f} .* {t.number}: {re.escape(str(t))}$", table, re.M)
        for t in front
    )
    assert "validation accuracy against params" in (result.folder / "front.svg").read_text()
    assert json.loads((result.folder / "sweep.json").read_text())["front"] == [t.number for t in front]


def test_a_search_ends_in_its_time_and_goes_on(plan: Plan) -> None:
    slow = plan.changed("recipe.phases.0.epochs=100000")
    result = search(trainer(), slow, RATES, trials=3, name="slow", effort=Effort(within=1.0, prune="none"))
    assert [trial.status for trial in result.trials] == ["left"]
    assert not result.done
    assert result.selected is None
    (folder,) = Path("runs/slow").glob("trial-*")
    assert Run.read(folder).status == "paused"


def test_trainings_that_fail_are_tries_and_the_others_go_on(plan: Plan) -> None:
    result = search(trainer(), plan, {LR: [0.1, 1e30]}, trials=3)
    assert {trial.status for trial in result.trials} == {"finished", "failed"}
    assert result.selected is not None
    assert result.selected.settings == {LR: "0.1"}


def test_a_trial_of_another_machine_is_taken_once_that_gives_no_sign_of_life(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path("runs") / "mine" / TAKING).mkdir(parents=True)
    options: dict[str, Any] = {"seed": 0, "rises": [True], "prune": "none", "epochs": 1}
    study = Study(Path("runs/mine"), "mine", None, {LR: Between(0.1, 1.0)}, **options)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("platform.node", lambda: "elsewhere")
        taken = study.take(1, lambda setting: (0.0, "", {}))
    assert taken is not None
    taken.holds.close()  # as when its machine goes
    assert study.take(1, lambda setting: (0.0, "", {})) is None
    (entry,) = study.entries()
    assert entry.state == "running"
    monkeypatch.setattr(
        type(study._storage), "_get_stale_trial_ids", lambda self, study: [taken.trial._trial_id]
    )
    again = study.take(1, lambda setting: (0.0, "", {}))
    assert again is not None
    assert (again.number, again.setting, again.again) == (1, taken.setting, True)
    study.complete(again, [0.5])
    assert study.take(1, lambda setting: (0.0, "", {})) is None


def test_a_grid_and_a_search_keep_out_of_one_anothers_folders(plan: Plan) -> None:
    sweep(trainer(), plan, {LR: [0.1]}, name="grid")
    with pytest.raises(ValueError, match="holds no search"):
        search(trainer(), plan, RATES, name="grid", trials=1)
    (Path("runs") / "search" / TAKING).mkdir(parents=True)
    with pytest.raises(ValueError, match="holds a search and no grid"):
        sweep(trainer(), plan, {LR: [0.1]}, name="search", resume=True)


def test_values_that_cannot_be_written_are_for_one_worker(plan: Plan) -> None:
    over = {"recipe.phases.0.lr": [Cosine(0.1), lambda t: 0.1]}
    with pytest.raises(ValueError, match="search with one worker"):
        search(trainer(), plan, over, trials=2, effort=Effort(together=2))


def test_the_command_prints_json_and_hides_passwords(plan: Plan) -> None:
    arguments = ["sweep", "tiny.py", "--search", f"{LR}=log:1e-3..1", "--trials", "2", "--device", "cpu"]
    storage = f"sqlite:///{Path.cwd()}/own.db"
    result = CliRunner().invoke(main, [*arguments, "--json", "--storage", storage])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert len(told["trials"]) == 2
    assert Path("own.db").exists()
    assert Path(told["folder"], "sweep.csv").exists()
    refused = CliRunner().invoke(main, [*arguments, "--storage", "postgresql://me:secret@127.0.0.1:1/no"])
    assert refused.exit_code == 2
    assert "secret" not in refused.output
    assert "cannot be opened" in refused.output
    assert (
        "--over tries all"
        in CliRunner().invoke(main, ["sweep", "tiny.py", "--over", "a=1", "--trials", "2"]).output
    )
    assert "give what is tried" in CliRunner().invoke(main, ["sweep", "tiny.py"]).output
    assert searched is search
