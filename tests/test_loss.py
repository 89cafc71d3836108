"""LabelSmoothingLoss against torch's cross-entropy and against seed 000's written-out definition."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from budgetnet.loss import LabelSmoothingLoss


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(16, 10, generator=generator), torch.randint(0, 10, (16,), generator=generator)


def others(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """1 - s on the true class, s / (K - 1) on each other one."""
    classes = logits.shape[1]
    target = torch.full_like(logits, smoothing / (classes - 1))
    target[torch.arange(len(labels)), labels] = 1 - smoothing
    return -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_all_is_torchs_convention(batch: tuple[Tensor, Tensor], smoothing: float) -> None:
    expected = F.cross_entropy(*batch, label_smoothing=smoothing)
    torch.testing.assert_close(LabelSmoothingLoss(smoothing)(*batch), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 0.95])
def test_others_is_the_seeds_convention(batch: tuple[Tensor, Tensor], smoothing: float) -> None:
    found = LabelSmoothingLoss(smoothing, spread="others")(*batch)
    torch.testing.assert_close(found, others(*batch, smoothing))


def test_the_two_conventions_differ(batch: tuple[Tensor, Tensor]) -> None:
    mine, theirs = LabelSmoothingLoss(0.1, spread="others")(*batch), LabelSmoothingLoss(0.1)(*batch)
    assert abs(mine - theirs) > 1e-3


@pytest.mark.parametrize("spread", ["all", "others"])
def test_it_is_linear_in_mixed_labels(batch: tuple[Tensor, Tensor], spread: str) -> None:
    logits, labels = batch
    loss = LabelSmoothingLoss(0.1, spread=spread)  # type: ignore[arg-type]
    first, second = F.one_hot(labels, 10).float(), F.one_hot(labels.roll(1), 10).float()
    mixed = loss(logits, 0.3 * first + 0.7 * second)
    torch.testing.assert_close(mixed, 0.3 * loss(logits, labels) + 0.7 * loss(logits, labels.roll(1)))


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to below 1, not"):
        LabelSmoothingLoss(1.5)
    with pytest.raises(ValueError, match="'all'"):
        LabelSmoothingLoss(0.1, spread="some")  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_weights_of_classes_count_alike_on_both_sides_of_what_torch_takes(classes: int) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(16, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (16,), generator=generator)
    edge, weights = (classes - 1) / classes, [1.0 + k for k in range(classes)]
    below, above = (
        LabelSmoothingLoss(edge + side, spread="others", weights=weights).of_counts([1] * classes)
        for side in (-1e-9, 1e-9)
    )
    torch.testing.assert_close(below(logits, labels), above(logits, labels), rtol=1e-6, atol=1e-6)
