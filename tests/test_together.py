"""Several runs at once in processes: the bits of each alone, failures that stay alone, stops that go on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from test_sweep import LR, TINY

from budgetnet import Cosine, Data, Split, Trainer, read_plan
from budgetnet.cli import main
from budgetnet.data import KINDS, Finding
from budgetnet.plan import Plan
from budgetnet.run import Run
from budgetnet.sweep import seeds, sweep
from budgetnet.sweep.capacity import Capacity, capacity
from budgetnet.sweep.grid import changed
from budgetnet.sweep.job import told
from budgetnet.sweep.shared import share, shared

PROGRAM = "from budgetnet.cli import main; main(prog_name='budgetnet')"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUDGETNET_TRACEBACK", raising=False)
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


@pytest.fixture
def plan(here: Path) -> Plan:
    return read_plan(here / "tiny.py")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trainer(out: str | None = "runs") -> Trainer:
    return Trainer("cpu", out=out, show=False)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def bits(run: Run) -> list[Any]:
    """The weights that a run kept, and all that it measured."""
    assert run.folder is not None
    weights = load_file(run.folder / "model.safetensors")
    held = [{k: v for k, v in json.loads(epoch.line()).items() if "second" not in k} for epoch in run.history]
    return [{name: tensor.numpy().tobytes() for name, tensor in weights.items()}, held]


def alone(plan: Plan, n: int) -> list[list[Any]]:
    return [bits(run) for run in seeds(trainer("alone"), plan, n)]


def program(*typed: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, typed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(*paths: Path, seconds: float = 200) -> None:
    until = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert time.monotonic() < until, f"no {paths}"
        time.sleep(0.02)


# --- what is trained at once


@pytest.mark.slow
def test_runs_that_are_trained_together_have_the_bits_of_each_alone(plan: Plan) -> None:
    result = command("run", "tiny.py", "--seeds", 2, "--together", 2)
    assert result.exit_code == 0, result.output
    runs = [Run.read(f"runs/tiny-{k}") for k in (1, 2)]
    assert [run.record["seed"] for run in runs] == [0, 1]
    assert [run.record["threads"] for run in runs] == [1, 1]
    assert [bits(run) for run in runs] == alone(plan, 2)
    for what in (
        "seed 0: begins in runs/tiny-1",
        "2 runs in",
        "2 at a time, each with a thread",
        "n = 2; 95 %",
    ):
        assert what in result.output
    # What is so of all of them is said once.
    assert result.output.count("24 validation images tell") == 1
    assert not list(Path("runs").glob("*/checkpoints"))


@pytest.mark.slow
def test_a_sweep_that_is_trained_together_is_the_one_trained_one_by_one(plan: Plan) -> None:
    over = {LR: [0.05, 0.1], "recipe.batch_size": [16, 12]}
    found = sweep(trainer(), plan, over, seeds=2, name="s", together=2)
    expected = sweep(trainer("alone"), plan, over, seeds=2, name="s")
    for one, other in zip(found.trials, expected.trials):
        assert [bits(run) for run in one.runs] == [bits(run) for run in other.runs]
    assert found.selected is not None
    assert expected.selected is not None
    assert found.selected.settings == expected.selected.settings
    # No trial was shown the test images, but the selected one's figure is there.
    assert all("test" not in run.record["data"]["images"] for run in found.rows[-1].runs)
    assert found.test.values == expected.test.values


@pytest.mark.slow
def test_data_that_each_trial_makes_anew_are_loaded_by_the_workers(plan: Plan) -> None:
    over = {"data.seed": [0, 1]}
    found = sweep(trainer(), plan, over, name="s", together=2)
    expected = sweep(trainer("alone"), plan, over, name="s")
    pairs = zip(found.trials, expected.trials)
    assert all(bits(one.runs[0]) == bits(other.runs[0]) for one, other in pairs)


@pytest.mark.slow
def test_what_cannot_be_written_is_refused_by_the_worker_and_trained_alone_one_by_one(plan: Plan) -> None:
    found = sweep(trainer(), plan, {LR.removesuffix(".peak"): [Cosine(0.1)]}, name="s", together=2)
    (run,) = found.trials[0].runs
    assert run.status == "failed"
    assert "read again is not the recipe that was asked for" in run.record["error"]
    assert list(Path("runs/s").glob("trial-*")) == []


# --- how many


@pytest.mark.usefixtures("threads")
def test_auto_shares_out_torchs_threads_and_the_threads_do_not_follow_the_memory(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(asked: Any, runs: int) -> Capacity:
        return capacity(asked, trainer(), [plan], runs, 0)

    torch.set_num_threads(1)
    assert found("auto", 8) == Capacity(1, 1, False)
    assert found(3, 8) == Capacity(3, 1, True)
    torch.set_num_threads(8)
    assert found("auto", 3) == Capacity(3, 2, True)
    assert found("auto", 1) == Capacity(1, 8, False)
    assert found(1, 8) == Capacity(1, 8, False)
    assert found(4, 2) == Capacity(2, 2, True)
    large = plan.changed("recipe.batch_size=100000000")
    assert capacity("auto", trainer(), [large], 4, 0) == Capacity(1, 2, True)


@pytest.mark.parametrize("asked", [0, -1, True, 1.5, "two"])
def test_a_number_that_is_none_is_refused(plan: Plan, asked: Any) -> None:
    with pytest.raises(ValueError, match="together should be 'auto' or a whole number of 1 or more"):
        seeds(trainer(), plan, 2, together=asked)
    result = command("run", "tiny.py", "--seeds", 2, "--together", asked)
    assert result.exit_code == 2
    assert "is not in the range 1<=x<=1000" in result.output or "is not a valid integer" in result.output
    assert not Path("runs").exists()


def test_what_needs_folders_or_several_runs_says_so(plan: Plan) -> None:
    with pytest.raises(ValueError, match="give the Trainer an out"):
        seeds(trainer(None), plan, 2, together=2)
    assert len(seeds(trainer(None), plan.changed("recipe.phases.0.epochs=1"), 1, together="auto")) == 1
    assert "give --seeds too" in command("run", "tiny.py", "--together", 2).output


# --- what is handed over


def test_data_are_the_same_on_the_other_side_and_held_once() -> None:
    generator = torch.Generator().manual_seed(0)

    def split(count: int, names: tuple[str, ...] | None = None) -> Split:
        images = torch.randint(0, 256, (count, 3, 5, 7), generator=generator, dtype=torch.uint8)
        return Split(images, torch.arange(count) % 2, torch.arange(count) + 9, names)

    given = Data(
        split(5),
        split(3, ("a", "\udcff", "ü")),
        None,
        ("x", "y"),
        "made",
        split(2),
        ("a note",),
        (Finding(next(iter(KINDS)), "p", "d"),),
    )
    laid_out = json.loads(json.dumps(share(given)))
    try:
        found = shared(laid_out)
    finally:
        os.close(laid_out["memory"])
    assert list(found.splits) == list(given.splits) == ["train", "val", "unlabelled"]
    for name, there in found.splits.items():
        assert there.fingerprint() == given.splits[name].fingerprint()
        assert torch.equal(there.indices, given.splits[name].indices)
        assert there.names == given.splits[name].names
    assert (found.classes, found.name, found.notes) == (given.classes, given.name, given.notes)
    assert found.findings == given.findings


def test_a_plan_is_replayed_from_its_changes_in_their_order(plan: Plan, here: Path) -> None:
    asked = plan.changed("recipe.seed=3").scaled(0.5).changed("recipe.phases.0.epochs=4")
    asked = changed(asked.changed("model.width=3"), "recipe.phases.0.lr.peak", 0.3)
    again = read_plan(here / "tiny.py").replayed(asked.changes)
    assert again.describe() == asked.describe()
    assert told(again) == told(asked)
    assert told(again) != told(asked.changed("recipe.seed=4"))
    # A text that looks like a number is another value.
    assert told(changed(plan, "model.width", "3")) != told(plan.changed("model.width=3"))


# --- going on


def test_seeds_that_were_paused_go_on_exactly_and_finished_ones_are_kept(plan: Plan) -> None:
    expected = alone(plan, 3)
    (first,) = seeds(trainer(), plan, 1)
    assert [run.status for run in seeds(trainer(), plan, 3, resume=True, max_time=1e-3)] == [
        "finished",
        "paused",
    ]
    stamp = (first.folder or Path()).stat().st_mtime_ns
    runs = seeds(trainer(), plan, 3, resume=True)
    assert [str(run.folder) for run in runs] == ["runs/tiny-1", "runs/tiny-2", "runs/tiny-3"]
    assert [bits(run) for run in runs] == expected
    assert (first.folder or Path()).stat().st_mtime_ns == stamp
    assert len(runs[1].record["sessions"]) == 2
    # Another recipe or other data are another group.
    assert str(seeds(trainer(), plan.changed("recipe.batch_size=8"), 1, resume=True)[0].folder)[-1] == "4"
    assert str(seeds(trainer(), plan.changed("data.seed=1"), 1, resume=True)[0].folder)[-1] == "5"


def test_a_trial_that_was_interrupted_goes_on_exactly(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sweep(trainer("alone"), plan, {LR: [0.05, 0.1]}, name="s")

    def interrupted(self: Trainer, *of: Any) -> Any:
        return whole(self, *of[:4], replace(of[4], max_time=1e-3), *of[5:])

    whole = Trainer.start
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "start", interrupted)
        paused = sweep(trainer(), plan, {LR: [0.05, 0.1]}, name="s")
    assert [trial.status for trial in paused.trials] == ["unfinished", "unfinished"]
    found = sweep(trainer(), plan, {LR: [0.02, 0.05, 0.1]}, name="s", resume=True)
    folders = {str(trial.runs[0].folder) for trial in found.trials}
    assert folders == {"runs/s/trial-1-1", "runs/s/trial-1-2", "runs/s/trial-3-1"}
    gone_on = found.trials[1].runs[0]
    assert len(gone_on.record["sessions"]) == 2
    assert [bits(trial.runs[0]) for trial in found.trials[1:]] == [bits(t.runs[0]) for t in expected.trials]


def test_one_named_run_is_not_what_seeds_go_on_with() -> None:
    for option in (["--resume", "runs/x"], ["--after", "runs/x"]):
        result = command("run", "tiny.py", "--seeds", 2, *option)
        assert result.exit_code == 2
        assert "--seeds goes on with the runs of this recipe and name" in result.output


def test_a_change_is_allowed_in_one_run_not_in_several() -> None:
    result = command("run", "tiny.py", "--seeds", 2, "--resume", "", "--allow-change", "recipe.seed")
    assert result.exit_code == 2
    assert "--allow-change is for one run that goes on" in result.output
    assert not Path("runs").exists()


# --- what goes wrong with one of them

LOSS = """

def loss(logits, labels):
    import os, signal, time
    from pathlib import Path
    found = nn.functional.cross_entropy(logits, labels)
    seed = SEEDS.get(torch.initial_seed())
    BODY
    return found

learn = """


def troubled(here: Path, body: str) -> Plan:
    """The recipe with a loss that does `body`, in which `seed` is that of the run, None in its first step.

    What fails in that one is refused before the training.
    """
    from budgetnet.randomness import MODEL, drawn

    of = {drawn(seed, MODEL, step): seed for seed in range(6) for step in range(1, 60)}
    text = TINY.replace("\nlearn = ", LOSS.replace("SEEDS", repr(of)).replace("BODY", body), 1)
    (here / "tiny.py").write_text(text.replace("batch_size=16", "batch_size=16, loss=loss"))
    return read_plan(here / "tiny.py")


FAILURES = {
    1: ("found = found * float('nan')", "the loss became nan"),
    2: ("raise KeyError('x')", "'x'"),
    3: ("print('dying'); os._exit(7)", "its process ended with status 7"),
    4: ("raise ValueError('a mistake')", "a mistake"),
}


@pytest.mark.slow
def test_those_that_fail_hurt_no_other(here: Path) -> None:
    expected = [*alone(read_plan(here / "tiny.py"), 1)]
    body = "\n    ".join(f"if seed == {seed}: {act}" for seed, (act, _) in FAILURES.items())
    troubled(here, body)
    result = command("run", "tiny.py", "--seeds", 6, "--together", 2)
    # The code of the worst: a number that was none.
    assert result.exit_code == 4, result.output
    assert "Traceback" not in result.output.splitlines()[-1]
    runs = [Run.read(f"runs/tiny-{k}") for k in range(1, 7)]
    assert [run.status for run in runs] == ["finished", *["failed"] * 4, "finished"]
    assert [run.record["seed"] for run in runs] == list(range(6))
    assert bits(runs[0]) == expected[0]
    for seed, (_, words) in FAILURES.items():
        assert re.search(f"seed {seed}.*{words}", result.output), seed
        assert re.search(rf"runs/tiny-{seed + 1} +failed +{seed} +-", result.output)


def test_one_by_one_those_that_fail_hurt_no_other_either(here: Path) -> None:
    body = "\n    ".join(f"if seed == {seed}: {FAILURES[seed][0]}" for seed in (2, 4))
    troubled(here, body)
    result = command("run", "tiny.py", "--seeds", 6, "--together", 1)
    # The code of the worst: a mistake.
    assert result.exit_code == 2, result.output
    runs = [Run.read(f"runs/tiny-{k}") for k in range(1, 7)]
    expected = ["finished", "finished", "failed", "finished", "failed", "finished"]
    assert [run.status for run in runs] == expected
    assert [run.record.get("failure") for run in runs if run.status == "failed"] == ["failed", "mistake"]
    assert "Error: 2 of 6 runs failed, with seed 4: a mistake" in result.output


def test_a_sweep_one_by_one_goes_on_after_a_trial_that_fails(here: Path) -> None:
    troubled(here, "if seed == 0 and not Path('tried').exists(): Path('tried').touch(); raise KeyError('x')")
    result = command("sweep", "tiny.py", "--over", f"{LR}=0.05,0.1", "--together", 1, "--name", "s")
    assert result.exit_code == 0, result.output
    assert "trial 1 failed with seed 0: 'x'" in result.output
    assert f"selected by validation accuracy: {LR}=0.1" in result.output


def test_what_the_first_of_them_is_refused_for_is_refused(here: Path) -> None:
    path = here / "tiny.py"
    path.write_text(path.read_text().replace("classes=3", "classes=2"))
    result = command("run", "tiny.py", "--seeds", 2, "--together", 1)
    assert result.exit_code == 2, result.output
    assert not list(here.glob("runs/*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("if seed == 1: raise KeyError('x')", 1, "'x'"),
        ("if seed == 1: raise ValueError('a mistake')", 2, "a mistake"),
    ],
)
def test_the_exit_code_is_that_of_the_failure(here: Path, body: str, code: int, words: str) -> None:
    troubled(here, body)
    result = command("run", "tiny.py", "--seeds", 2, "--together", 2)
    assert result.exit_code == code, result.output
    assert re.search(f"Error: 1 of 2 runs failed, with seed 1: .*{words}", result.output)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raise torch.OutOfMemoryError('full')", "os.kill(os.getpid(), 9)"])
def test_one_without_memory_beside_the_others_is_trained_alone_after_them(here: Path, how: str) -> None:
    expected = alone(read_plan(here / "tiny.py"), 3)
    troubled(here, f"if seed == 1 and not Path('tried').exists(): Path('tried').touch(); {how}")
    result = command("run", "tiny.py", "--seeds", 3, "--together", 2)
    assert result.exit_code == 0, result.output
    assert "seed 1: the memory did not suffice beside the others" in result.output
    runs = [Run.read(f"runs/tiny-{k}") for k in (1, 2, 3)]
    assert [bits(run) for run in runs] == expected
    assert "error" not in runs[1].record


@pytest.mark.slow
def test_one_without_memory_even_alone_has_failed(here: Path) -> None:
    troubled(here, "if seed == 1: os.kill(os.getpid(), 9)")
    result = command("run", "tiny.py", "--seeds", 2, "--together", 2)
    assert result.exit_code == 1
    assert "with seed 1: its process was ended by SIGKILL" in result.output
    assert [Run.read(f"runs/tiny-{k}").status for k in (1, 2)] == ["finished", "failed"]


# --- stops

SLOWLY = "time.sleep(0.05)"

LATE = """
import signal
from pathlib import Path

measured = []


def asks(logits: torch.Tensor, labels: torch.Tensor) -> int:
    '''Sends its process a signal once, after the last of a trial's two validations.'''
    measured.extend([len(labels)] * (len(labels) == 24))
    if len(measured) == 2 and not Path("asked").exists():
        Path("asked").touch()
        signal.raise_signal(signal.NUMBER)
    return 0


learn = """


def asking(here: Path, number: str) -> None:
    """The recipe, that sends its process a signal when a trial of it has nothing left to be stopped at."""
    text = TINY.replace("\nlearn = ", LATE.replace("NUMBER", number), 1)
    (here / "tiny.py").write_text(text.replace("batch_size=16", "batch_size=16, metrics=[asks]"))


SWEEP = ("sweep", "tiny.py", "--over", f"{LR}=0.1,0.05,0.01", "--name", "s")


def trials_of(folder: Path) -> dict[str, str]:
    return {path.parent.name: Run.read(path.parent).status for path in folder.glob("trial-*/run.json")}


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_comes_when_a_trial_is_done_begins_no_other(
    here: Path, number: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asking(here, number)
        result = command(*SWEEP, "--together", 1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == code, result.output
    assert "stopped: what is finished lies in runs/s, and --name s --resume goes on" in result.output
    assert trials_of(here / "runs/s") == {"trial-1-1": "finished"}
    result = command(*SWEEP, "--together", 1, "--resume")
    assert result.exit_code == 0, result.output
    names = {f"trial-{k}-1" for k in (1, 2, 3)}
    assert trials_of(here / "runs/s") == dict.fromkeys(names, "finished")


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_when_its_trial_is_done_gets_no_other(here: Path) -> None:
    asking(here, "SIGTERM")
    result = command(*SWEEP, "--together", 2)
    assert result.exit_code == 0, result.output
    assert (here / "asked").exists()
    assert set(trials_of(here / "runs/s").values()) == {"finished"}
    assert "selected by validation accuracy" in result.output


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_ends_all_of_them_and_the_same_command_goes_on(
    here: Path, number: signal.Signals, code: int
) -> None:
    (here / "tiny.py").write_text(TINY.replace("epochs=2", "epochs=10"))
    expected = alone(read_plan(here / "tiny.py"), 3)
    text = troubled(here, SLOWLY).path.read_text().replace("epochs=2", "epochs=10")
    (here / "tiny.py").write_text(text)
    typed = ("run", "tiny.py", "--seeds", 3, "--together", 2)
    running = program(*typed)
    wait_for(*(here / f"runs/tiny-{k}/metrics.jsonl" for k in (1, 2)))
    running.send_signal(number)
    output, errors = running.communicate(timeout=250)
    assert running.returncode == code, errors
    assert "Traceback" not in errors + output
    assert "the same command with --resume goes on" in output
    assert [Run.read(f"runs/tiny-{k}").status for k in (1, 2)] == ["stopped", "stopped"]
    assert not Path("runs/tiny-3").exists()
    result = command(*typed, "--resume")
    assert result.exit_code == 0, result.output
    assert "seed 0: goes on in runs/tiny-1" in result.output
    assert [bits(Run.read(f"runs/tiny-{k}")) for k in (1, 2, 3)] == expected


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found]


def gone(*processes: int) -> bool:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        states = [Path(f"/proc/{process}/stat") for process in processes]
        # A zombie that nobody waits for is gone, too.
        if all(not path.exists() or ") Z" in path.read_text() for path in states):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_a_second_ctrl_c_ends_them_at_once(here: Path) -> None:
    troubled(here, "if seed is not None: time.sleep(300)")
    running = program("run", "tiny.py", "--seeds", 2, "--together", 2)
    wait_for(*(here / f"runs/tiny-{k}/run.json" for k in (1, 2)))
    workers = children(running.pid)
    assert len(workers) == 2
    running.send_signal(signal.SIGINT)
    time.sleep(1)
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert gone(*workers)


@pytest.mark.slow
def test_workers_end_with_the_one_who_started_them_and_are_ready_to_go_on(here: Path) -> None:
    troubled(here, SLOWLY)
    path = here / "tiny.py"
    path.write_text(path.read_text().replace("epochs=2", "epochs=500"))
    running = program("run", "tiny.py", "--seeds", 2, "--together", 2)
    wait_for(*(here / f"runs/tiny-{k}/metrics.jsonl" for k in (1, 2)))
    workers = children(running.pid)
    running.kill()
    running.communicate(timeout=60)
    assert gone(*workers)
    for k in (1, 2):
        assert Run.read(f"runs/tiny-{k}").status == "stopped"
        assert list(Path(f"runs/tiny-{k}/checkpoints").glob("[0-9]*"))


@pytest.mark.slow
def test_the_time_limit_pauses_all_and_begins_no_more(here: Path) -> None:
    troubled(here, SLOWLY)
    path = here / "tiny.py"
    path.write_text(path.read_text().replace("epochs=2", "epochs=200"))
    result = command("run", "tiny.py", "--seeds", 3, "--together", 2, "--max-time", "15s")
    assert result.exit_code == 75, result.output
    assert [Run.read(f"runs/tiny-{k}").status for k in (1, 2)] == ["paused", "paused"]
    assert not Path("runs/tiny-3").exists()


@pytest.mark.slow
def test_a_recipe_that_is_edited_meanwhile_changes_nothing_of_what_was_asked(here: Path) -> None:
    expected = alone(read_plan(here / "tiny.py"), 3)
    body = "Path('tiny.py').write_text('nonsense') if seed == 0 else time.sleep(0.2)"
    troubled(here, body)
    result = command("run", "tiny.py", "--seeds", 3, "--together", 2)
    assert result.exit_code == 0, result.output
    assert [bits(Run.read(f"runs/tiny-{k}")) for k in (1, 2, 3)] == expected
