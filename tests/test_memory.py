"""Out of memory: the batch goes through in parts, the gradient is that of the whole, nothing is lost."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from budgetnet import SGD, Adam, Data, LabelSmoothingLoss, Mixup, Phase, Recipe, Run, Test, Trainer
from budgetnet.augment import Flip
from budgetnet.trainer import out_of_memory


class Tight(nn.Module):
    """A network without batch norm whose memory holds so many images, going forward or coming back."""

    def __init__(self, most: int, *, backward: bool = False, error: type[Exception] | None = None) -> None:
        super().__init__()
        self.most, self.fails_backward = most, backward
        self.error: Any = error or torch.OutOfMemoryError
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Linear(8, 3)
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training and images.device.type != "meta":
            self.sizes.append(len(images))
            if not self.fails_backward and len(images) > self.most:
                raise self.error("not enough memory: you tried to allocate 1 bytes")
        found: Tensor = self.head(self.body(images))
        if self.fails_backward and self.training and len(images) > self.most and found.requires_grad:
            found.register_hook(self._fail)
        return found

    def _fail(self, gradient: Tensor) -> None:
        raise self.error("not enough memory: you tried to allocate 1 bytes")


def made(most: int, **options: Any) -> Tight:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Tight(most, **options)


def recipe(**changes: Any) -> Recipe:
    # One step an epoch, of 60 images: the weights after it show the gradient.
    plain = SGD(momentum=0.0, nesterov=False, weight_decay=0.0)
    return Recipe([Phase(**{"epochs": 2, "resolution": 12, "lr": 1.0, **changes})], plain, batch_size=60)


def trainer(**changes: Any) -> Trainer:
    return Trainer("cpu", **{"out": None, "show": False, **changes})


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_the_gradient_is_that_of_the_whole_batch(backward: bool, error: type[Exception], data: Data) -> None:
    roomy, tight = made(1000), made(17, backward=backward, error=error)
    whole = trainer().fit(roomy, data, recipe())
    parts = trainer().fit(tight, data, recipe())
    for one, other in zip(roomy.parameters(), tight.parameters()):
        assert torch.allclose(one, other, atol=1e-6)
    # 60, 30 and 15: then 15 each time.
    assert list(dict.fromkeys(tight.sizes)) == [60, 30, 15]
    assert set(tight.sizes[tight.sizes.index(15) :]) == {15}
    for one, other in zip(whole.history, parts.history):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-6)
        assert one.train_accuracy == pytest.approx(other.train_accuracy, abs=1e-6)


def test_soft_labels_and_uneven_parts_agree_too(data: Data) -> None:
    soft = Recipe(
        [Phase(1, 12, 0.5, augment=[Mixup(0.4)])],
        SGD(momentum=0.0, nesterov=False, weight_decay=0.0),
        LabelSmoothingLoss(0.1),
        batch_size=50,
        clip=0.5,
    )
    roomy, tight = made(1000), made(7)
    trainer().fit(roomy, data, soft)
    trainer().fit(tight, data, soft)
    assert max(tight.sizes[4:]) == 7
    for one, other in zip(roomy.parameters(), tight.parameters()):
        assert torch.allclose(one, other, atol=1e-6)


def test_it_is_said_once_and_kept_over_a_pause(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tight = made(30)
    run = trainer(out=tmp_path, show=True).fit(tight, data, recipe(), max_time=1e-9)
    out = capsys.readouterr().out
    assert out.count("from here on each batch goes through the model in 2 parts") == 1
    again = made(30)
    trainer(out=tmp_path, show=True).fit(again, data, recipe(), resume=run.folder)
    assert "parts" not in capsys.readouterr().out
    # What the model has listed goes on with the run, as any attribute that changes does.
    assert again.sizes[: len(tight.sizes)] == tight.sizes
    assert set(again.sizes[len(tight.sizes) :]) == {30}


@pytest.mark.slow
def test_one_image_that_does_not_fit_ends_the_run(data: Data, tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        trainer(out=tmp_path).fit(made(0), data, recipe())


def test_other_errors_are_not_taken_for_it() -> None:
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("not enough memory"))
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))


def failing_once(at: int) -> Callable[[], None]:
    """What runs out of memory when it is called for the n-th time, from 0."""
    left = [at]

    def called() -> None:
        left[0] -= 1
        if left[0] == -1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return called


@pytest.mark.parametrize("place", ["view", "forward", "backward", "update", "evaluation"])
@pytest.mark.parametrize("at", [0, *(pytest.param(at, marks=pytest.mark.slow) for at in (1, 2, 3))])
def test_memory_that_runs_out_once_anywhere_is_recovered_from(place: str, at: int, data: Data) -> None:
    # Four steps; each is the one at which the memory runs out.
    def trained(fail: Callable[[], None]) -> tuple[list[Tensor], Run]:
        model = made(1000)

        def viewed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            if place == "view":
                fail()
            return images, labels

        def ran(module: nn.Module, images: tuple[Tensor, ...]) -> None:
            evaluated = not module.training and images[0].device.type != "meta"
            if (place == "forward" and module.training) or (place == "evaluation" and evaluated):
                fail()

        def optimizer(parameters: Any) -> torch.optim.Optimizer:
            made = Adam()(parameters)
            if place == "update":
                made.register_step_pre_hook(lambda *ignored: fail())
            return made

        model.register_forward_pre_hook(ran)
        if place == "backward":
            model.register_forward_hook(lambda module, images, found: _failing_back(found, fail))
        steps = Recipe([Phase(2, 12, 0.01, augment=[Flip(), viewed])], optimizer, batch_size=120)
        run = trainer().fit(model, data, steps)
        return [parameter.detach() for parameter in model.parameters()], run

    whole, expected = trained(lambda: None)
    parts, run = trained(failing_once(at))
    for one, other in zip(whole, parts):
        assert torch.allclose(one, other, atol=1e-6)
    for one, other in zip(expected.history, run.history):
        assert one.val_loss == pytest.approx(other.val_loss, abs=1e-6)
        assert one.val_accuracy == other.val_accuracy


def _failing_back(found: Tensor, fail: Callable[[], None]) -> None:
    if found.requires_grad:
        found.register_hook(lambda gradient: fail())


class Hungry(torch.optim.Adam):
    """An Adam whose memory ends while it makes its state for the second parameter."""

    failures = 1

    def _init_group(self, group: Any, *lists: Any) -> Any:
        made = super()._init_group(group, *lists)
        if self.failures:
            self.failures -= 1
            later = group["params"][1]
            del self.state[later]["exp_avg_sq"]
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made


def test_a_state_half_made_by_an_optimizer_is_made_again(data: Data) -> None:
    def hungry(parameters: Any) -> torch.optim.Optimizer:
        return Hungry(list(parameters), lr=0.0, fused=True)

    def sated(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(list(parameters), lr=0.0, fused=True)

    found = []
    for optimizer in (hungry, sated):
        model = made(1000)
        trainer().fit(model, data, Recipe([Phase(1, 12, 0.01)], optimizer, batch_size=60))
        found.append(model)
    for one, other in zip(*(model.parameters() for model in found)):
        assert torch.equal(one, other)


def test_an_update_that_was_half_done_is_not_done_again(data: Data) -> None:
    class Halfway(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            with torch.no_grad():
                self.param_groups[0]["params"][0].add_(1.0)
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        trainer().fit(made(1000), data, Recipe([Phase(1, 12, 0.1)], lambda p: Halfway(list(p), lr=0.1)))


class Narrow(Tight):
    """A network that evaluates so many images at once."""

    def __init__(self, most: int) -> None:
        super().__init__(1000)
        self.evaluated: list[int] = []
        self.at_once = most

    def forward(self, images: Tensor) -> Tensor:
        if not self.training and images.device.type != "meta":
            self.evaluated.append(len(images))
            if len(images) > self.at_once:
                raise self.error("not enough memory: you tried to allocate 1 bytes")
        return super().forward(images)


@pytest.mark.parametrize("test", [Test(), Test(augment=[Flip()], views=2)])
def test_an_evaluation_goes_through_in_halves(
    test: Test, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    def narrow(most: int) -> Narrow:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Narrow(most)

    steps = recipe(test=test)
    roomy = trainer().fit(narrow(1000), data, steps)
    model = narrow(20)
    tight = trainer(show=True).fit(model, data, steps)
    assert capsys.readouterr().out.count("to evaluate 60 images at once: from here on they go through") == 2
    # 60, 30 and 15, and then 15 in the later evaluations too.
    assert model.evaluated[:3] == [60, 30, 15]
    assert max(model.evaluated[2:]) == 15
    for one, other in zip(roomy.history, tight.history):
        assert not math.isnan(one.val_loss)
        assert one.val_loss == pytest.approx(other.val_loss, abs=1e-6)
        assert one.val_accuracy == other.val_accuracy
    split = data.val
    assert split is not None
    assert trainer().evaluate(model, split, classes=data.classes).images == len(split)
    assert len(trainer().predict(model, split, classes=data.classes).labels) == len(split)


@pytest.mark.slow
def test_one_image_too_large_to_evaluate_ends_the_run(data: Data) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Narrow(0)
    with pytest.raises(torch.OutOfMemoryError):
        trainer().fit(model, data, recipe())


WEIGHTS = torch.tensor([10.0, 0.1, 1.0])


def summed(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="sum") / 60


def together(logits: Tensor, labels: Tensor) -> Tensor:
    """A loss that compares the images of a batch."""
    return F.cross_entropy(logits, labels, WEIGHTS) + (logits.mean(dim=0) ** 2).sum() + logits.std()


@pytest.mark.parametrize(
    ("loss", "steps"),
    [
        (LabelSmoothingLoss(0.1, weights=(10.0, 0.1, 1.0)), ()),
        (LabelSmoothingLoss(0.1, weights=(10.0, 0.1, 1.0)), (Mixup(0.4),)),
        (LabelSmoothingLoss(0.9, spread="others", weights=(10.0, 0.1, 1.0)), ()),
        (nn.CrossEntropyLoss(weight=WEIGHTS), (Mixup(0.4),)),
        (nn.CrossEntropyLoss(ignore_index=0), ()),
        (summed, ()),
        (together, ()),
        (together, (Mixup(0.4),)),
    ],
)
def test_the_gradient_is_that_of_the_whole_whatever_the_loss(loss: Any, steps: Any, data: Data) -> None:
    roomy, tight = made(1000), made(17)
    weighted = Recipe(
        [Phase(2, 12, 0.5, augment=steps)],
        SGD(momentum=0.0, nesterov=False, weight_decay=0.0),
        loss,
        batch_size=60,
    )
    whole, parts = (trainer().fit(each, data, weighted) for each in (roomy, tight))
    for one, other in zip(roomy.parameters(), tight.parameters()):
        assert torch.allclose(one, other, atol=1e-5)
    for first, second in zip(whole.history, parts.history):
        assert first.train_loss == pytest.approx(second.train_loss, abs=1e-5)
