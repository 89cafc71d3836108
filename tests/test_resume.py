"""Chained sessions: interrupted anywhere and resumed, a run ends in the very bits it would have had."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import coloured
from torch import Tensor, nn

import budgetnet
from budgetnet import (
    EMA,
    SGD,
    Adam,
    Budget,
    Cosine,
    EarlyStop,
    Flip,
    Phase,
    Plateau,
    PseudoLabels,
    Recipe,
    Restarts,
    Rotate,
    Run,
    Trainer,
    layers,
    models,
)
from budgetnet.data import Data, Split
from budgetnet.files import checkpoint as checkpoints
from budgetnet.text import seconds
from budgetnet.trainer.saver import Stop

AT_ONCE = 1e-9


def small(dropout: float = 0.2) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Budget(params="20k").build(
            models.resnet,
            classes=3,
            widths=(8, 16),
            blocks=(1, 1),
            block=layers.basic,
            stem=8,
            stem_kernel=3,
            stem_pool=False,
            dropout=dropout,
        )


def trainer(out: Path, **changes: Any) -> Trainer:
    return Trainer("cpu", **{"out": out, "show": False, **changes})


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: nn.Module, second: nn.Module) -> bool:
    one, other = state(first), state(second)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def figures(run: Run) -> list[dict[str, Any]]:
    return [
        {k: repr(v) for k, v in asdict(epoch).items() if not k.endswith("_seconds")} for epoch in run.history
    ]


def with_unlabelled(data: Data) -> Data:
    pool = coloured(120, val=30, seed=5).train
    unknown = Split(pool.images, torch.full_like(pool.labels, -1), pool.indices)
    return Data(data.train, data.val, data.test, data.classes, data.name, unknown, data.notes)


@dataclass(frozen=True)
class Halving:
    """A schedule of history of somebody's own."""

    patience: int = 1

    def of(self, history: Sequence[Any]) -> float:
        losses = [epoch.measure("val_loss") for epoch in history]
        since = len(losses) - 1 - losses.index(min(losses)) if losses else 0
        return 0.05 * 0.5 ** (since // self.patience)


RECIPES = {
    "plain": Recipe([Phase(2, 12, Cosine(0.1), augment=[Rotate(10), Flip()])], SGD(), batch_size=60),
    "averaged, restarts, two resolutions": Recipe(
        [
            Phase(2, 12, Restarts(0.05, first=1), augment=[Flip()]),
            Phase(2, 16, 0.01, trains=["head"], calibrates=["stages.1"], start="best"),
        ],
        Adam(weight_decay=1e-4),
        batch_size=80,
        average=EMA(0.9),
        keep="averaged",
    ),
    "best weights, plateau, early stop": Recipe(
        [Phase(6, 12, Plateau(0.05, patience=0), stop=EarlyStop(2))], batch_size=120, keep="best", clip=1.0
    ),
    "a user's schedule of history": Recipe([Phase(4, 12, Halving(2), stop=EarlyStop(3))], batch_size=120),
    "pseudo-labels, then calibration": Recipe(
        [
            Phase(1, 12, 0.1),
            Phase(1, 12, 0.1, pseudo=PseudoLabels(threshold=0.35)),
            Phase(1, 16, trains=(), calibrates=["*"]),
        ],
        batch_size=100,
    ),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_paused_after_every_step_ends_in_the_bits_of_one_that_was_not(
    name: str, precision: str, data: Data, tmp_path: Path
) -> None:
    if precision == "bf16" and not name.startswith("averaged"):
        pytest.skip("one recipe is enough in bf16")
    data = with_unlabelled(data)
    mine = trainer(tmp_path, precision=precision)
    whole = small()
    expected = mine.fit(whole, data, RECIPES[name])
    cut = small()
    run = mine.fit(cut, data, RECIPES[name], max_time=AT_ONCE)
    pauses = 0
    while run.status == "paused":
        pauses += 1
        # Another process would build the model anew, with other weights.
        cut = small()
        nn.init.ones_(next(cut.parameters()))
        run = mine.fit(cut, data, RECIPES[name], resume=run.folder, max_time=AT_ONCE)
    steps = sum(epoch.steps for epoch in expected.history)
    assert pauses == steps
    assert same(whole, cut)
    assert figures(run) == figures(expected)
    assert figures(Run.read(run.folder)) == figures(expected)
    ignored = {"seconds"}
    assert {k: v for k, v in run.result.items() if k not in ignored} == {
        k: v for k, v in expected.result.items() if k not in ignored
    }
    assert not (run.folder / checkpoints.FOLDER).exists()
    assert len(run.record["sessions"]) == pauses + 1


def test_a_killed_sessions_time_counts_as_far_as_its_checkpoint_goes(data: Data, tmp_path: Path) -> None:
    mine, recipe = trainer(tmp_path), RECIPES[next(iter(RECIPES))]
    model = small()
    run = mine.fit(model, data, recipe, max_time=AT_ONCE)
    run = mine.fit(model, data, recipe, resume=run.folder, max_time=AT_ONCE)
    record = json.loads((run.folder / "run.json").read_text())
    first, second = record["sessions"]
    # As a kill leaves it: begun, and nothing told of its end.
    for entry in ("ended", "status", "seconds"):
        del second[entry]
    record["status"] = "running"
    first["seconds"] = 0.0
    (run.folder / "run.json").write_text(json.dumps(record))
    done = mine.fit(model, data, recipe, resume=run.folder)
    _, killed, last = done.record["sessions"]
    assert killed["status"] == "killed"
    assert 0 < killed["seconds"] < done.result["seconds"]
    assert done.result["seconds"] == pytest.approx(killed["seconds"] + last["seconds"], abs=0.01)


def test_a_paused_run_says_how_to_go_on_and_holds_weights(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe([Phase(3, 12, 0.1)], batch_size=240)
    run = Trainer("cpu", out=tmp_path).fit(small(), data, recipe, max_time=AT_ONCE)
    assert f"the time is up after 0 of 3 epochs; go on with --resume {run.folder}" in capsys.readouterr().out
    Trainer("cpu", out=tmp_path).fit(small(), data, recipe, resume=run.folder, max_time=AT_ONCE)
    out = capsys.readouterr().out
    assert f"going on in {run.folder} after step 1: phase 1, epoch 1" in out
    assert Run.read(run.folder).status == "paused"
    assert isinstance(budgetnet.load(run.folder), nn.Module)


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from conftest import coloured
from test_resume import RECIPES, small, trainer, with_unlabelled
from budgetnet.trainer import saver
saver.EVERY = saver.COST = 0.0
out, name, resume, kill_at = sys.argv[1], sys.argv[2], sys.argv[3] or None, int(sys.argv[4])
save = saver.Saver.save
def dying(self):
    save(self)
    if self.training.state.step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
saver.Saver.save = dying
model = small()
run = trainer(Path(out)).fit(model, with_unlabelled(coloured()), RECIPES[name], resume=resume)
print(run.folder)
"""


@pytest.mark.slow
def test_killed_runs_end_in_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    def life(name: str, resume: str, kill_at: int) -> subprocess.CompletedProcess[str]:
        script = SCRIPT.format(tests=str(Path(__file__).parent))
        arguments = [sys.executable, "-c", script, str(tmp_path), name, resume, str(kill_at)]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    for name in RECIPES:
        whole = small()
        expected = trainer(tmp_path / "whole").fit(whole, with_unlabelled(coloured()), RECIPES[name])
        before = set(tmp_path.glob("run-*"))
        assert life(name, "", 2).returncode == -signal.SIGKILL
        (folder,) = set(tmp_path.glob("run-*")) - before
        assert life(name, str(folder), 4).returncode in (-signal.SIGKILL, 0)
        found = life(name, str(folder), -1)
        if found.returncode:  # "finished" in the second life
            assert "is finished" in found.stderr
        assert same(whole, budgetnet.load(folder)), name
        assert figures(Run.read(folder)) == figures(expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipe": Recipe([Phase(2, 12, 0.2)], batch_size=240)}, "recipe.phases[0].lr: 0.1 -> 0.2"),
        ({"recipe": Recipe([Phase(2, 12, 0.1)], batch_size=120)}, "recipe.batch_size: 240 -> 120"),
        ({"model": small(0.1)}, ".p: 0.2 -> 0.1"),
        ({"data": coloured(seed=1)}, "data.fingerprints.train: "),
        ({"precision": "bf16"}, "precision: float32 -> bfloat16"),
    ],
)
def test_what_has_changed_is_refused_with_the_difference(
    changes: dict[str, Any], words: str, data: Data, tmp_path: Path
) -> None:
    recipe = Recipe([Phase(2, 12, 0.1)], batch_size=240)
    run = trainer(tmp_path).fit(small(), data, recipe, max_time=AT_ONCE)
    precision = changes.pop("precision", "float32")
    given = {"model": small(), "data": data, "recipe": recipe, **changes}
    with pytest.raises(ValueError, match="cannot go on exactly") as error:
        trainer(tmp_path, precision=precision).fit(**given, resume=run.folder)
    assert words in str(error.value)
    assert "after=" in str(error.value)


def test_another_model_is_refused_by_the_names_of_its_tensors(data: Data, tmp_path: Path) -> None:
    recipe = Recipe([Phase(2, 12, 0.1)], batch_size=240)
    run = trainer(tmp_path).fit(small(), data, recipe, max_time=AT_ONCE)
    with pytest.raises(ValueError, match=r"model\."):
        trainer(tmp_path).fit(models.convnet(3, widths=(8,)), data, recipe, resume=run.folder)


def test_only_an_unfinished_run_with_a_checkpoint_is_resumed(data: Data, tmp_path: Path) -> None:
    recipe = Recipe([Phase(1, 12, 0.1)], batch_size=240)
    done = trainer(tmp_path).fit(small(), data, recipe)
    with pytest.raises(ValueError, match="is finished; start a new schedule from its weights"):
        trainer(tmp_path).fit(small(), data, recipe, resume=done.folder)
    with pytest.raises(ValueError, match="a run's folder holds"):
        trainer(tmp_path).fit(small(), data, recipe, resume=tmp_path / "nowhere")
    paused = trainer(tmp_path).fit(small(), data, recipe, max_time=AT_ONCE)
    checkpoints.remove(paused.folder)
    with pytest.raises(ValueError, match="has no checkpoint to go on from; start it anew"):
        trainer(tmp_path).fit(small(), data, recipe, resume=paused.folder)
    with pytest.raises(ValueError, match="give one of them"):
        trainer(tmp_path).fit(small(), data, recipe, resume=paused.folder, after=done.folder)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe([Phase(4, 12, 0.1)], batch_size=240)
    whole, cut = small(), small()
    trainer(tmp_path).fit(whole, data, recipe)
    run = trainer(tmp_path).fit(cut, data, recipe, max_time=AT_ONCE)
    run = trainer(tmp_path).fit(cut, data, recipe, resume=run.folder, max_time=AT_ONCE)
    newest = max((run.folder / checkpoints.FOLDER).iterdir())
    content = bytearray((newest / checkpoints.TENSORS).read_bytes())
    content[-1] ^= 1
    (newest / checkpoints.TENSORS).write_bytes(content)
    Trainer("cpu", out=tmp_path).fit(cut, data, recipe, resume=run.folder)
    out = capsys.readouterr().out
    assert f"the checkpoint {newest} is damaged" in out
    assert same(whole, cut)


def test_a_new_schedule_follows_with_one_history_over_all(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = trainer(tmp_path).fit(small(), data, Recipe([Phase(2, 12, Cosine(0.1, 0.01))], batch_size=60))
    second = Recipe([Phase(1, 12, 0.1)], batch_size=60)
    run = Trainer("cpu", out=tmp_path).fit(small(), data, second, after=first.folder)
    assert "expect the accuracy to fall at first" in capsys.readouterr().out
    assert [epoch.number for epoch in run.history] == [1, 2, 3]
    assert [epoch.session for epoch in run.history] == [1, 1, 2]
    assert figures(run)[:2] == figures(first)
    assert figures(Run.read(run.folder)) == figures(run)
    assert run.record["after"] == str(first.folder)
    assert run.folder != first.folder
    third = trainer(tmp_path).fit(small(), data, Recipe([Phase(1, 12, 1e-4)]), after=run.folder)
    assert [epoch.session for epoch in third.history] == [1, 1, 2, 3]


def test_a_new_schedule_starts_from_the_weights_and_draws_anew(data: Data, tmp_path: Path) -> None:
    recipe = Recipe([Phase(1, 12, 1e-12)], SGD(0.0, nesterov=False, weight_decay=0.0), batch_size=60)
    first = trainer(tmp_path).fit(small(), data, Recipe([Phase(1, 12, 0.1)], batch_size=60))
    trained = budgetnet.load(first.folder)
    model = small()
    trainer(tmp_path).fit(model, data, recipe, after=first.folder)
    for (name, found), expected in zip(model.named_parameters(), trained.parameters()):
        assert torch.allclose(found, expected, atol=1e-7), name


def test_a_chained_session_can_be_interrupted_too(data: Data, tmp_path: Path) -> None:
    first = trainer(tmp_path).fit(small(), data, Recipe([Phase(1, 12, 0.1)], batch_size=120))
    second = Recipe([Phase(2, 12, 0.05)], batch_size=120)
    whole, cut = small(), small()
    expected = trainer(tmp_path).fit(whole, data, second, after=first.folder)
    run = trainer(tmp_path).fit(cut, data, second, after=first.folder, max_time=AT_ONCE)
    while run.status == "paused":
        cut = small()
        run = trainer(tmp_path).fit(cut, data, second, resume=run.folder, max_time=AT_ONCE)
    assert same(whole, cut)
    assert figures(run) == figures(expected)


def test_weights_of_other_classes_or_shapes_are_not_followed(data: Data, tmp_path: Path) -> None:
    recipe = Recipe([Phase(1, 12, 0.1)])
    run = trainer(tmp_path).fit(small(), data, recipe)
    with pytest.raises(ValueError, match="does not fit its model"):
        trainer(tmp_path).fit(models.convnet(3), data, recipe, after=run.folder)
    other = Data(data.train, data.val, None, ("a", "b", "c"), "others")
    with pytest.raises(ValueError, match="tells 3 classes apart"):
        trainer(tmp_path).fit(small(), other, recipe, after=run.folder)
    paused = trainer(tmp_path).fit(small(), data, recipe, max_time=AT_ONCE)
    with pytest.raises(ValueError, match=r"has saved no model\.safetensors to start from"):
        trainer(tmp_path).fit(small(), data, recipe, after=paused.folder)


@pytest.mark.parametrize(
    ("written", "found"),
    [(90, 90.0), ("90", 90.0), ("90s", 90.0), ("11h30m", 41400.0), ("1.5h", 5400.0), ("2m5s", 125.0)],
)
def test_times_are_read_as_people_write_them(written: float | str, found: float) -> None:
    assert seconds(written) == found


@pytest.mark.parametrize("written", ["", "0", -1, "11:30", "1d", float("nan"), float("inf"), True, "h"])
def test_what_is_no_time_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="max_time should be seconds or a time such as '11h30m'"):
        seconds(written)


def test_a_signal_ends_the_step_and_a_second_one_acts_at_once() -> None:
    # A shell's background job is started with the signal switched off.
    original = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGINT)
    stop = Stop(None)
    with stop.listening():
        assert stop.due() is None
        signal.raise_signal(signal.SIGINT)
        due = stop.due()
        assert due is not None
        assert (due.status, due.signal_number) == ("stopped", signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, original)


PATIENT = """
from torch import nn
from conftest import coloured
from budgetnet import Budget, Data, Phase, Recipe, models

def model() -> nn.Module:
    return Budget(params="10k").build(models.convnet, classes=3, widths=(8, 16))

def data() -> Data:
    return coloured()

recipe = Recipe([Phase(4000, 12, 0.05)], batch_size=60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_run_and_the_next_session_goes_on(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    (tmp_path / "patient.py").write_text(PATIENT)
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(budgetnet.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", "from budgetnet.cli import main; main(prog_name='budgetnet')"]
    command += ["run", "patient.py", "--resume"]
    metrics = tmp_path / "runs" / "patient-1" / "metrics.jsonl"

    def begun(least: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if metrics.exists() and len(metrics.read_text().splitlines()) >= least:
                break
            time.sleep(0.05)
        return process

    first = begun(2)
    first.send_signal(number)
    out, _ = first.communicate(timeout=60)
    assert first.returncode == code, out
    run = Run.read(tmp_path / "runs" / "patient-1")
    assert run.status == "stopped"
    assert "go on with --resume" in out
    before = len(run.history)
    second = begun(before + 2)
    second.send_signal(number)
    out, _ = second.communicate(timeout=60)
    assert "going on in" in out
    again = Run.read(tmp_path / "runs" / "patient-1")
    assert len(again.history) >= before + 2
    assert figures(again)[:before] == figures(run)
    assert len(again.record["sessions"]) == 2
