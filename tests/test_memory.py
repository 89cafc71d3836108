"""Out of memory: the batch goes through in parts, the gradient is that of the whole, nothing is lost."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from budgetnet import SGD, Data, LabelSmoothingLoss, Mixup, Phase, Recipe, Trainer
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
    assert tight.sizes[:3] == [60, 30, 15]
    assert set(tight.sizes[3:]) == {15}
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
    assert set(again.sizes) == {30}


def test_one_image_that_does_not_fit_ends_the_run(data: Data, tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        trainer(out=tmp_path).fit(made(0), data, recipe())


def test_other_errors_are_not_taken_for_it() -> None:
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("not enough memory"))
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
