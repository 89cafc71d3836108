"""What is not finite: told within a step wherever it appears, and kept out of everything that is saved."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import budgetnet
from budgetnet import EMA, SGD, Adam, BackOff, Data, Phase, Recipe, Run, Trainer, TrainingFailed
from budgetnet.engine import loop, step
from budgetnet.engine.training import Training
from budgetnet.files import checkpoint as checkpoints
from budgetnet.trainer import NotFinite, saver

STEPS = 20
PLACES = (
    "images",
    "labels",
    "logits",
    "loss",
    "gradient",
    "weight",
    "head",
    "statistic",
    "average",
    "optimizer",
)


def recipe(**changes: Any) -> Recipe:
    # 5 steps an epoch.
    return Recipe([Phase(4, 12, 0.01)], **{"optimizer": Adam(), "batch_size": 48, **changes})


class Poison:
    """A step of augment and a loss that spoil one thing at one step of the training."""

    training: Training | None = None

    def __init__(self, model: nn.Module, place: str, at: int, value: float) -> None:
        self.model, self.place, self.at, self.value = model, place, at, value
        self.seen = -1

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.training is None:
            # A trial step, on copies, is not the training's first.
            return images, labels
        self.seen += 1
        if self.seen != self.at:
            return images, labels
        if self.place == "images":
            images = images.clone()
            images[0, 0, 0, 0] = self.value
        elif self.place == "labels":
            labels = torch.nn.functional.one_hot(labels, 3).float()
            labels[0, 0] = self.value
        with torch.no_grad():
            if self.place == "weight":
                next(self.model.parameters())[0, 0, 0, 0] = self.value
            elif self.place == "head":
                list(self.model.parameters())[-1][0] = self.value
            elif self.place == "statistic":
                norm = next(m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d))
                assert norm.running_var is not None
                norm.running_var[0] = self.value
            elif self.place == "average":
                assert self.training is not None
                assert self.training.state.average is not None
                next(self.training.state.average.model.parameters())[0, 0, 0, 0] = self.value
            elif self.place == "optimizer":
                assert self.training is not None
                assert self.training.state.optimizer is not None
                for entries in list(self.training.state.optimizer.state.values())[:1]:
                    # Where this is infinite the weights stay as they are, and look sound.
                    entries["exp_avg_sq"][0, 0, 0, 0] = self.value
        return images, labels

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.seen == self.at and self.place == "logits":
            logits = logits.index_fill(1, torch.tensor([1]), self.value)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        if self.seen != self.at:
            return loss
        if self.place == "loss":
            return loss * self.value
        if self.place == "gradient":
            logits.register_hook(lambda gradient: gradient * self.value)
        return loss


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_it_stops_the_run_within_a_step(
    place: str, value: float, model: nn.Module, data: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The last step of an epoch, and one within.
    spoilt(place, value, (4,) if math.isnan(value) else (7,), model, data, monkeypatch, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_it_stops_the_run_within_a_step_at_each_of_twenty(
    place: str, model: nn.Module, data: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoilt(place, math.nan, range(STEPS), model, data, monkeypatch, tmp_path)


def watch_training(poison: Poison, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the poison the training at hand, for what is out of reach of a loss and a step."""
    take = step.take

    def seen(training: Training, *rest: Any) -> Tensor:
        poison.training = training
        return take(training, *rest)

    monkeypatch.setattr(loop, "take", seen)


def spoilt(
    place: str,
    value: float,
    steps: Iterable[int],
    model: nn.Module,
    data: Data,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Train once for each of the steps, spoiling this place there, and look at what is left."""
    monkeypatch.setattr(saver, "EVERY", 0.0)
    monkeypatch.setattr(saver, "COST", 0.0)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for at in steps:
        model.load_state_dict(fresh)
        poison = Poison(model, place, at, value)
        watch_training(poison, monkeypatch)
        if place == "optimizer" and at == 0:
            continue
        averaged = EMA(0.9) if place == "average" else None
        recipe_ = Recipe(
            [Phase(4, 12, 0.01, augment=[poison])], Adam(), poison.loss, batch_size=48, average=averaged
        )
        with pytest.raises(NotFinite, match=r"became|holds a NaN or an infinity") as error:
            Trainer("cpu", out=tmp_path / str(at), show=False).fit(model, data, recipe_)
        assert poison.seen == at
        words = str(error.value)
        assert f"step {at % 5 + 1} of epoch {at // 5 + 1}" in words or f"after step {at + 1};" in words
        assert isinstance(error.value, TrainingFailed)
        run = Run.read(tmp_path / str(at) / "run-1")
        assert run.status == "failed"
        assert len(run.history) <= at // 5 + 1
        found, bad = checkpoints.newest(tmp_path / str(at) / "run-1")
        assert not bad
        assert (found is not None) == (at > 0)
        if found is not None:
            assert all(bool(t.isfinite().all()) for t in found.tensors.values() if t.is_floating_point())
        if len(run.history):
            kept = budgetnet.load(run.folder).state_dict().values()
            assert all(bool(tensor.isfinite().all()) for tensor in kept if tensor.is_floating_point())


def test_averaged_weights_are_looked_at_too(
    model: nn.Module, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Poison(model, "gradient", 4, math.nan)
    watch_training(poison, monkeypatch)
    averaged = Recipe(
        [Phase(2, 12, 0.01, augment=[poison])],
        loss=poison.loss,
        batch_size=48,
        average=EMA(0.9),
        keep="averaged",
    )
    with pytest.raises(NotFinite, match="after step 5"):
        Trainer("cpu", out=None, show=False).fit(model, data, averaged)


def test_a_sound_training_is_left_alone(model: nn.Module, data: Data) -> None:
    assert Trainer("cpu", out=None, show=False).fit(model, data, recipe()).status == "finished"


def backing_off(poison: Poison, optimizer: Any = None, **changes: Any) -> Recipe:
    given = {"batch_size": 48, "average": EMA(0.9), "on_nan": BackOff(0.25, 2), **changes}
    return Recipe([Phase(2, 12, 0.01, augment=[poison])], optimizer or Adam(), poison.loss, **given)


@pytest.mark.parametrize("place", [place for place in PLACES if place != "average"])
@pytest.mark.parametrize("at", [pytest.param(0, marks=pytest.mark.slow), 6])
def test_a_step_that_is_not_finite_is_undone_to_the_bit(
    place: str, at: int, model: nn.Module, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "optimizer" and at == 0:
        pytest.skip("it remembers nothing yet")
    poison = Poison(model, place, at, math.nan)
    take, seen = step.take, {}

    def snapshot(training: Training) -> list[Tensor]:
        assert training.state.average is not None
        assert training.state.optimizer is not None
        state = [
            entries[name] for entries in training.state.optimizer.state.values() for name in sorted(entries)
        ]
        models = [*training.model.state_dict().values(), *training.state.average.model.state_dict().values()]
        count = torch.tensor(training.state.average.updates)
        return [count, *(tensor.clone() for tensor in [*models, *state])]

    def looking(training: Training, *rest: Any) -> Tensor:
        poison.training = training
        seen[training.state.step] = snapshot(training)
        return take(training, *rest)

    monkeypatch.setattr(loop, "take", looking)
    run = Trainer("cpu", out=None, show=False).fit(model, data, backing_off(poison))
    assert run.status == "finished"
    for one, other in zip(seen[at], seen[at + 1], strict=True):
        assert torch.equal(one, other)
    assert any(not torch.equal(one, other) for one, other in zip(seen[at + 1], seen[at + 2]))
    assert [epoch.undone for epoch in run.history] == [int(at < 5), int(at >= 5)]
    assert run.history[-1].lr == pytest.approx(0.01 * 0.25)
    assert all(math.isfinite(epoch.train_loss) for epoch in run.history)


def test_after_so_many_times_it_stops(
    model: nn.Module, data: Data, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    poison = Poison(model, "weight", 0, math.nan)
    # Once it is spoilt from the first step on, every step is.
    poison.loss = lambda logits, labels: logits.sum() * math.nan  # type: ignore[method-assign]
    with pytest.raises(NotFinite, match="had taken back 2 steps before"):
        Trainer("cpu", out=tmp_path).fit(model, data, backing_off(poison))
    assert "(2 of 2 times)" in capsys.readouterr().out
    assert all(bool(t.isfinite().all()) for t in model.state_dict().values())


def test_backing_off_is_exact_over_a_pause(model: nn.Module, data: Data, tmp_path: Path) -> None:
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    class Spiky:
        """A loss that is infinite for some batches, whenever they come."""

        def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
            loss = nn.functional.cross_entropy(logits, labels)
            return loss / 0 if int(labels[:4].sum()) in (1, 7) else loss

    rule = Recipe(
        [Phase(2, 12, 0.05)], SGD(), Spiky(), batch_size=48, average=EMA(0.9), on_nan=BackOff(limit=99)
    )
    trainer = Trainer("cpu", out=tmp_path, show=False)
    expected = trainer.fit(model, data, rule)
    final = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert 1 <= sum(epoch.undone for epoch in expected.history) < 10
    model.load_state_dict(fresh)
    run = trainer.fit(model, data, rule, max_time=1e-9)
    while run.status == "paused":
        run = trainer.fit(model, data, rule, resume=run.folder, max_time=1e-9)
    assert all(torch.equal(final[name], tensor) for name, tensor in model.state_dict().items())
    assert [(e.undone, e.lr, e.train_loss) for e in run.history] == [
        (e.undone, e.lr, e.train_loss) for e in expected.history
    ]


def test_without_trouble_a_back_off_changes_no_bit(model: nn.Module, data: Data) -> None:
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Trainer("cpu", out=None, show=False).fit(model, data, recipe())
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(fresh)
    Trainer("cpu", out=None, show=False).fit(model, data, recipe(on_nan=BackOff()))
    assert all(torch.equal(plain[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("wrong", [{"factor": 1.0}, {"factor": 0}, {"limit": 0}, {"factor": True}])
def test_a_back_off_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="BackOff's"):
        BackOff(**wrong)
    with pytest.raises(ValueError, match="on_nan should be a BackOff"):
        recipe(on_nan=0.5)


@pytest.mark.parametrize("place", ["average", "optimizer"])
def test_what_would_show_in_no_loss_is_looked_at_after_each_step(
    place: str, model: nn.Module, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a folder there is no checkpoint to be looked over.
    poison = Poison(model, place, 2, math.inf)
    watch_training(poison, monkeypatch)
    average = EMA(0.9) if place == "average" else None
    spoiling = Recipe([Phase(1, 12, 0.01, augment=[poison])], Adam(), batch_size=48, average=average)
    with pytest.raises(NotFinite, match=rf"{place}.* holds a NaN or an infinity after step 3"):
        Trainer("cpu", out=None, show=False).fit(model, data, spoiling)


class Complex(nn.Module):
    """Weights in the frequency domain, and complex ones that no loss sees."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Parameter(0.1 * torch.randn(3, 12, 7, dtype=torch.complex64))
        self.register_buffer("aside", torch.zeros(2, dtype=torch.complex64))
        self.head = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        filtered = torch.fft.irfft2(torch.fft.rfft2(images) * self.filters, s=images.shape[-2:])
        return self.head(filtered.square().mean((2, 3)))


def test_complex_weights_learn_and_are_looked_at_too(data: Data, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Complex()
    before = model.filters.detach().clone()
    for optimizer in (SGD(), Adam()):
        run = Trainer("cpu", out=tmp_path, show=False).fit(model, data, recipe(optimizer=optimizer))
        assert not torch.equal(model.filters, before)
        assert run.folder is not None
        saved = budgetnet.load(run.folder, Complex)
        assert torch.equal(saved.get_parameter("filters"), model.filters)

    def spoil(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            model.get_buffer("aside")[0] = complex(0, math.nan)
        return images, labels

    made = Recipe([Phase(1, 12, 0.01, augment=[spoil])], batch_size=48)
    with pytest.raises(NotFinite, match="model aside holds a NaN"):
        Trainer("cpu", out=None, show=False).fit(model, data, made)
