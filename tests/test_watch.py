"""Watchers: who is told of the steps, epochs and notes of a training, and may end it."""

import copy
import importlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from budgetnet import (
    EMA,
    Data,
    EndTraining,
    Epoch,
    Note,
    Phase,
    PseudoLabels,
    Recipe,
    Run,
    Trainer,
    TrainingFailed,
    TrainingStep,
    every,
)
from budgetnet.trainer import Watcher

RECIPE = Recipe([Phase(2, 12, 0.05), Phase(1, 12, 0.01, name="fix")], batch_size=60, average=EMA(0.9))
STEPS = 4
"""In an epoch of RECIPE."""


def fit(model: nn.Module, data: Data, *watch: Watcher, out: Path | None = None, **options: object) -> Run:
    trainer = Trainer("cpu", out=out, show=False, watch=watch)
    return trainer.fit(model, data, RECIPE, **options)  # type: ignore[arg-type]


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def fresh(model: nn.Module) -> nn.Module:
    """The model as it is, in another object."""
    return copy.deepcopy(model)


def ending(at: int, events: list[object]) -> Watcher:
    def watcher(event: object) -> None:
        events.append(event)
        if isinstance(event, TrainingStep) and event.number == at:
            raise EndTraining

    return watcher


def test_each_step_and_epoch_is_told_in_its_order(model: nn.Module, data: Data) -> None:
    events: list[TrainingStep | Epoch | Note] = []
    run = fit(model, data, events.append)
    kinds = [type(event) for event in events if not isinstance(event, Note)]
    assert kinds == ([TrainingStep] * STEPS + [Epoch]) * 3
    assert [event for event in events if isinstance(event, Epoch)] == run.history
    steps = [event for event in events if isinstance(event, TrainingStep)]
    assert [step.number for step in steps] == list(range(1, 3 * STEPS + 1))
    assert [(step.phase, step.epoch, step.done) for step in steps[STEPS - 1 : STEPS + 1]] == [
        (1, 1, STEPS),
        (1, 2, 1),
    ]
    assert (steps[-1].name, steps[-1].lr, steps[-1].resolution, steps[-1].images) == ("fix", 0.01, 12, 60)
    last = steps[-STEPS:]
    assert run.history[-1].train_loss == pytest.approx(sum(step.loss for step in last) / STEPS)
    assert run.history[-1].train_accuracy == pytest.approx(sum(step.accuracy for step in last) / STEPS)
    assert 0 < last[0].seconds < last[-1].seconds <= run.history[-1].train_seconds


def test_who_watches_changes_no_bit(model: nn.Module, data: Data) -> None:
    def drawing(event: object) -> None:
        torch.rand(3)
        if isinstance(event, TrainingStep):
            assert event.loss >= 0

    other = fresh(model)
    fit(model, data)
    fit(other, data, drawing)
    assert all(map(torch.equal, weights(model), weights(other)))


def test_every_nth_step_and_all_else(model: nn.Module, data: Data) -> None:
    events: list[object] = []
    fit(model, data, every(5, events.append))
    assert [event.number for event in events if isinstance(event, TrainingStep)] == [5, 10]
    assert sum(isinstance(event, Epoch) for event in events) == 3


def test_end_training_is_an_ordinary_end(model: nn.Module, data: Data, tmp_path: Path) -> None:
    events: list[object] = []
    run = fit(model, data, ending(STEPS + 2, events), out=tmp_path)
    assert (run.status, len(run.history), run.result["epoch"]) == ("ended early", 1, 1)
    assert sum(isinstance(event, TrainingStep) for event in events) == STEPS + 2
    assert run.folder is not None
    assert (run.folder / "model.safetensors").exists()
    assert run.model is not None
    assert not run.model.training


def test_end_training_before_there_are_weights_waits_for_the_first_epoch(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    events: list[object] = []
    run = fit(model, data, ending(2, events), out=tmp_path)
    assert (run.status, len(run.history)) == ("ended early", 1)


def test_end_training_in_an_epoch_is_as_a_break(model: nn.Module, data: Data, tmp_path: Path) -> None:
    def enough(event: object) -> None:
        if isinstance(event, Epoch) and event.number == 2:
            raise EndTraining

    other = fresh(model)
    run = fit(model, data, enough, out=tmp_path)
    for epoch in Trainer("cpu", out=None, show=False).epochs(other, data, RECIPE):
        if epoch.number == 2:
            break
    assert all(map(torch.equal, weights(model), weights(other)))
    assert len(run.history) == 2


@pytest.mark.parametrize("at", [2, STEPS, 2 * STEPS + 1])
def test_a_watcher_that_fails_is_told_of_and_the_run_goes_on_exactly(
    at: int, model: nn.Module, data: Data, tmp_path: Path
) -> None:
    def failing(event: object) -> None:
        if isinstance(event, TrainingStep) and event.number == at:
            raise KeyError("loss")

    whole, again = fresh(model), fresh(model)
    fit(whole, data)
    with pytest.raises(
        TrainingFailed, match=rf"the watcher .*failing failed after step {at}: KeyError: 'loss'"
    ):
        fit(model, data, failing, out=tmp_path)
    folder = tmp_path / "run-1"
    assert Run.read(folder).status == "failed"
    events: list[object] = []
    run = fit(again, data, events.append, out=tmp_path, resume=folder)
    assert run.status == "finished"
    assert all(map(torch.equal, weights(again), weights(whole)))
    steps = [event.number for event in events if isinstance(event, TrainingStep)]
    assert steps == list(range(at + 1, 3 * STEPS + 1))
    assert "resume" in {event.kind for event in events if isinstance(event, Note)}


def test_a_watcher_that_fails_at_an_epoch_leaves_it_recorded(
    model: nn.Module, data: Data, tmp_path: Path
) -> None:
    def failing(event: object) -> None:
        if isinstance(event, Epoch):
            raise OSError("no network")

    whole, again = fresh(model), fresh(model)
    fit(whole, data)
    with pytest.raises(TrainingFailed, match="failed after epoch 1: OSError: no network"):
        fit(model, data, failing, out=tmp_path)
    assert len(Run.read(tmp_path / "run-1").history) == 1
    run = fit(again, data, out=tmp_path, resume=tmp_path / "run-1")
    assert [epoch.number for epoch in run.history] == [1, 2, 3]
    assert all(map(torch.equal, weights(again), weights(whole)))


def test_a_watcher_sees_a_time_limit_as_an_end(model: nn.Module, data: Data, tmp_path: Path) -> None:
    events: list[object] = []
    run = fit(model, data, events.append, out=tmp_path, max_time=1e-6)
    assert run.status == "paused"
    notes = [event for event in events if isinstance(event, Note)]
    assert notes[-1].kind == "end"
    assert "the time is up" in str(notes[-1])


def test_a_signal_reaches_a_training_that_is_watched(model: nn.Module, data: Data, tmp_path: Path) -> None:
    def stopping(event: object) -> None:
        if isinstance(event, TrainingStep) and event.number == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        fit(model, data, stopping, out=tmp_path)
    assert Run.read(tmp_path / "run-1").status == "stopped"


def test_notes_are_values(model: nn.Module, data: Data, tmp_path: Path) -> None:
    events: list[object] = []
    unlabelled = replace(data, unlabelled=data.val)
    recipe = Recipe([Phase(1, 12, 0.05), Phase(1, 12, 0.05, pseudo=PseudoLabels(0.1))], batch_size=60)
    trainer = Trainer("cpu", out=tmp_path, show=False, watch=[events.append])
    trainer.fit(model, unlabelled, recipe)
    notes = {event.kind: event for event in events if isinstance(event, Note)}
    assert {"labels", "end"} <= set(notes)
    assert notes["labels"].text.endswith(f"they are listed in {tmp_path / 'run-1' / 'pseudo-labels-2.csv'}")
    assert str(Note("guard", "so")) == "note: so"
    assert str(Note("end", "so")) == "so"


class Named:
    """A watcher for each run, by its folder's name."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.ended: list[str] = []

    @contextmanager
    def begin(self, run: Run) -> Iterator[Watcher]:
        assert run.place is not None
        self.runs.append(run.place.name)
        yield lambda event: None
        self.ended.append(run.place.name)


def test_a_watcher_may_be_another_one_for_each_run(model: nn.Module, data: Data, tmp_path: Path) -> None:
    named = Named()
    trainer = Trainer("cpu", out=tmp_path, show=False, watch=[every(2, named)])
    trainer.fit(model, data, RECIPE)
    trainer.fit(model, data, RECIPE)
    assert named.runs == named.ended == ["run-1", "run-2"]


def test_what_cannot_watch_is_refused() -> None:
    for watch in (print, [3], [Named], "print"):
        with pytest.raises(ValueError, match="watcher"):
            Trainer("cpu", watch=watch)  # type: ignore[arg-type]
    for n in (0, True, 1.5):
        with pytest.raises(ValueError, match="every's n should be a whole number of 1 or more"):
            every(n, print)  # type: ignore[arg-type]


def test_tensorboard_names_its_extra_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from budgetnet.trainer import TensorBoard, tensorboard

    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'budgetnet\[tensorboard\]'"):
        TensorBoard()


def test_tensorboard_reads_what_was_written(model: nn.Module, data: Data, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from budgetnet import TensorBoard

    trainer = Trainer("cpu", out=tmp_path, show=False, watch=[TensorBoard(every=2)])
    run = trainer.fit(model, data, RECIPE)
    read = EventAccumulator(str(tmp_path / "run-1" / "tensorboard")).Reload()
    assert [point.step for point in read.Scalars("step/loss")] == [2, 4, 6, 8, 10, 12]
    losses = [point.value for point in read.Scalars("epoch/train_loss")]
    assert losses == pytest.approx([epoch.train_loss for epoch in run.history])
    with pytest.raises(TrainingFailed, match="TensorBoard needs a folder"):
        Trainer("cpu", out=None, show=False, watch=[TensorBoard()]).fit(model, data, RECIPE)


def figures(event: object) -> dict[str, float]:
    """What the one-liners of docs/watching.md log."""
    return {"loss": event.train_loss, "accuracy": event.val_accuracy} if isinstance(event, Epoch) else {}


def test_weights_and_biases_offline(
    model: nn.Module, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    wandb = importlib.import_module("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with wandb.init(project="tiny") as board:
        fit(model, data, lambda event: isinstance(event, Epoch) and board.log(figures(event)))
        assert board.summary["loss"] > 0


def test_mlflow_in_a_folder(
    model: nn.Module, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    pytest.importorskip("mlflow")
    mlflow = importlib.import_module("mlflow")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    mlflow.set_experiment("tiny")
    with mlflow.start_run() as board:
        fit(model, data, lambda e: isinstance(e, Epoch) and mlflow.log_metrics(figures(e), step=e.number))
    logged = mlflow.get_run(board.info.run_id).data.metrics
    assert set(logged) == {"loss", "accuracy"}
