"""What changes in training beside tensors and place goes on exactly too; what no model file holds is told."""

import io
import logging
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import coloured
from foreign_checkpoints import KINDS, counting, small
from torch import Tensor, nn

from budgetnet import EMA, SGD, Flip, Phase, Recipe, Run, Trainer
from budgetnet.files import checkpoint as checkpoints

AT_ONCE = 1e-9
DATA = coloured(48, val=12, side=8)


def trainer(out: Path) -> Trainer:
    return Trainer("cpu", out=out, show=False)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def ends_alike(make: Callable[[], nn.Module], recipe: Callable[[], Recipe], folder: Path) -> Run:
    """Assert that a run paused after every step ends in the bits of one that was not; gives the run."""
    whole, cut = make(), make()
    expected = trainer(folder / "whole").fit(whole, DATA, recipe())
    run = trainer(folder / "cut").fit(cut, DATA, recipe(), max_time=AT_ONCE)
    while run.status == "paused":
        assert run.folder is not None
        cut = make()
        run = trainer(folder / "cut").fit(cut, DATA, recipe(), resume=run.folder, max_time=AT_ONCE)
    one, other = weights(whole), weights(cut)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [e.train_loss for e in run.history] == [e.train_loss for e in expected.history]
    assert [e.val_loss for e in run.history] == [e.val_loss for e in expected.history]
    return run


TORCHS = [
    partial(torch.optim.SGD, lr=0.0),
    partial(torch.optim.SGD, lr=0.0, momentum=0.9, foreach=False),
    partial(torch.optim.Adam, lr=0.0, amsgrad=True),
    partial(torch.optim.AdamW, lr=0.0, fused=True),
    partial(torch.optim.Adagrad, lr=0.0),
    partial(torch.optim.Adadelta, lr=0.0),
    partial(torch.optim.Adamax, lr=0.0),
    partial(torch.optim.ASGD, lr=0.0),
    partial(torch.optim.NAdam, lr=0.0),
    partial(torch.optim.RAdam, lr=0.0),
    partial(torch.optim.RMSprop, lr=0.0, momentum=0.9, centered=True),
    partial(torch.optim.Rprop, lr=1e-3),
    partial(torch.optim.Adafactor, lr=0.0),
]


@pytest.mark.parametrize("make", TORCHS, ids=lambda make: make.func.__name__)
def test_torchs_optimizers_go_on_and_none_is_taken_for_anothers(make: Any, tmp_path: Path) -> None:
    recipe = Recipe([Phase(1, 8, 0.001)], make, batch_size=12)
    whole, cut = small(), small()
    trainer(tmp_path / "whole").fit(whole, DATA, recipe)
    run = trainer(tmp_path / "cut").fit(cut, DATA, recipe, max_time=AT_ONCE)
    again = small()
    trainer(tmp_path / "cut").fit(again, DATA, recipe, resume=run.folder)
    assert all(torch.equal(held, weights(again)[name]) for name, held in weights(whole).items())


class ScheduleFree(torch.optim.Optimizer):
    """Weights that are averages, as schedule-free optimizers keep them; progress as numbers and a tensor."""

    def __init__(self, parameters: Any) -> None:
        defaults = {"lr": 0.0, "k": 0, "weight_sum": 0.0, "d": torch.tensor(1e-2), "train_mode": False}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["k"], group["train_mode"] = group["k"] + 1, True
            weight = group["k"] ** 0.5 * group["lr"]
            group["weight_sum"] += weight
            ratio = weight / group["weight_sum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                z = state.setdefault("z", parameter.clone())
                group["d"].mul_(1 + 1e-3 * float(parameter.grad.abs().mean()))
                z.sub_(parameter.grad, alpha=group["lr"] * (1 + float(group["d"])))
                parameter.lerp_(z, ratio)


def test_schedule_free_progress_goes_on_in_every_group(tmp_path: Path) -> None:
    def make(named: Any) -> torch.optim.Optimizer:
        chosen = list(named)
        return ScheduleFree([{"params": chosen[:3]}, {"params": chosen[3:]}])

    ends_alike(small, lambda: Recipe([Phase(2, 8, 0.05)], make, batch_size=24, average=EMA(0.9)), tmp_path)


def test_progress_in_parameter_groups_and_attributes_of_an_optimizer_and_a_model_goes_on(
    tmp_path: Path,
) -> None:
    _, recipe = KINDS["a user's own"]
    ends_alike(counting, lambda: recipe, tmp_path)


class Annealed:
    """A loss that sharpens with each call, remembers the last ones, and draws from generators of its own."""

    def __init__(self) -> None:
        self.calls = 0
        self.recent: deque[float] = deque([1.0], maxlen=3)
        self.running = torch.zeros(())
        self.own = np.random.default_rng(0)
        self.torchs = torch.Generator().manual_seed(0)
        self.pythons = random.Random(0)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        noise = self.own.random() + torch.rand((), generator=self.torchs).item() + self.pythons.random()
        loss = F.cross_entropy(logits * (1 + 0.1 * self.calls), labels) * (1 + 0.1 * noise)
        self.recent.append(loss.item())
        self.running = 0.9 * self.running + 0.1 * loss.detach()
        return loss + 0.1 * sum(self.recent) * logits.square().mean() * (1 + self.running)


def test_a_losss_own_counters_running_values_and_generators_go_on(tmp_path: Path) -> None:
    ends_alike(small, lambda: Recipe([Phase(2, 8, 0.05)], SGD(), batch_size=24, loss=Annealed()), tmp_path)


def counted() -> Callable[[Tensor, Tensor], Tensor]:
    calls = 0

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return F.cross_entropy(logits, labels) / calls

    return loss


def test_what_a_loss_closes_over_goes_on(tmp_path: Path) -> None:
    ends_alike(small, lambda: Recipe([Phase(2, 8, 0.05)], SGD(), batch_size=24, loss=counted()), tmp_path)


def drawing(images: Tensor) -> Tensor:
    shift = random.random() + float(np.random.rand())
    return (images + 0.1 * shift).clamp(0, 1)


def test_steps_that_draw_from_python_and_numpy_are_a_function_of_seed_and_step(tmp_path: Path) -> None:
    def recipe() -> Recipe:
        return Recipe([Phase(2, 8, 0.05, augment=[drawing, Flip()])], SGD(), batch_size=24)

    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].copy()
    ends_alike(small, recipe, tmp_path)
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()


class Undecided(nn.Module):
    """Dropout that is always on."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small()

    def forward(self, images: Tensor) -> Tensor:
        return F.dropout(self.inner(images), 0.5, training=True)


def test_a_model_that_draws_in_tests_is_measured_the_same_each_time(tmp_path: Path) -> None:
    ends_alike(Undecided, lambda: Recipe([Phase(2, 8, 0.05)], SGD(), batch_size=24), tmp_path)


class Table(nn.Module):
    """A network that makes constants when it is first called, as tables of positions are made."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small()
        self.register_buffer("rows", torch.zeros(0), persistent=False)
        self.cache: dict[int, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        side = images.shape[-1]
        if len(self.rows) != side:
            self.rows = torch.linspace(0, 0.1, side)
        self.cache.setdefault(side, torch.ones(side))
        shifted: Tensor = self.inner(images + self.rows * self.cache[side])
        return shifted


def test_tables_that_a_model_makes_of_shapes_are_no_trouble(tmp_path: Path) -> None:
    run = ends_alike(Table, lambda: Recipe([Phase(2, 8, 0.05)], SGD(), batch_size=24), tmp_path)
    assert not any("rows" in note or "cache" in note for note in run.record["notes"])


class Wrapped(torch.optim.Optimizer):
    """An optimizer around another one, whose state it does not tell of."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(list(parameters), {"lr": 0.1})
        self.base = torch.optim.SGD(self.param_groups, lr=0.1, momentum=0.9)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.base.step()


def test_what_no_checkpoint_can_hold_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Trainer("cpu", out=tmp_path).fit(
        small(), DATA, Recipe([Phase(2, 8, 0.05)], Wrapped, batch_size=24), max_time=AT_ONCE
    )
    assert run.folder is not None
    told = " ".join(capsys.readouterr().out.split())
    assert "the run cannot be resumed: the state of Wrapped.base changes" in told
    assert not checkpoints.any_in(run.folder)


class Statistics(nn.Module):
    """A network that subtracts a running mean, which lies in a buffer or in an attribute."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.inner = small()
        self.where = where
        if where == "attribute":
            self.mean = 0.0
        else:
            self.register_buffer("mean", torch.zeros(()), persistent=where == "saved")

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        if self.training:
            now = images.mean().item()
            self.mean = self.mean * 0.9 + 0.1 * now  # type: ignore[assignment]
        return logits * (1 + self.mean)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("buffer", r"mean changes in training.*with persistent=True"),
        ("attribute", r"is no buffer.*register_buf"),
    ],
)
def test_what_tests_depend_on_and_no_file_holds_is_refused_before_the_first_step(
    where: str, words: str, tmp_path: Path
) -> None:
    recipe = Recipe([Phase(1, 8, 0.05)], SGD(), batch_size=24)
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path).fit(Statistics(where), DATA, recipe)
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path).check(Statistics(where), DATA, recipe)
    assert trainer(tmp_path).fit(Statistics("saved"), DATA, recipe).status == "finished"


def test_what_only_training_asks_for_may_change(tmp_path: Path) -> None:
    recipe = Recipe([Phase(1, 8, 0.05)], SGD(), batch_size=24)
    notes = trainer(tmp_path).fit(counting(), DATA, recipe).record["notes"]
    assert not any("calls" in note or "seen" in note for note in notes)


class Logging(nn.Module):
    """A network that holds what others wrote: a logger, an open file, and counts nothing itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small()
        self.log = logging.getLogger("budgetnet.tests")
        self.file = io.StringIO()
        self.seen: list[object] = [object()]

    def forward(self, images: Tensor) -> Tensor:
        self.log.debug("a batch")
        self.file.write("x")
        logits: Tensor = self.inner(images)
        return logits


def test_what_a_model_holds_of_others_is_left_alone(tmp_path: Path) -> None:
    run = trainer(tmp_path).fit(
        Logging(), DATA, Recipe([Phase(1, 8, 0.05)], SGD(), batch_size=24), max_time=AT_ONCE
    )
    assert run.folder is not None
    held, _ = checkpoints.newest(run.folder)
    assert held is not None
    assert "hidden" not in held.state


def test_an_ordinary_training_has_nothing_beside_its_tensors(tmp_path: Path) -> None:
    recipe = Recipe([Phase(1, 8, 0.05, augment=[Flip()])], SGD(), batch_size=24, average=EMA(0.9))
    run = trainer(tmp_path).fit(small(), DATA, recipe, max_time=AT_ONCE)
    assert run.folder is not None
    held, _ = checkpoints.newest(run.folder)
    assert held is not None
    assert "hidden" not in held.state
    assert not any(name.startswith("hidden") for name in held.tensors)
