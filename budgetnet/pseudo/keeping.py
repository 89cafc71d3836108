"""Kept: the unlabelled images that a model is sure of, by their sharpened probabilities or within a step."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from budgetnet.data import Split
from budgetnet.values import above_zero, described, share, whole


@dataclass(frozen=True, eq=False)
class Kept:
    """The unlabelled images that were kept: their `positions` in the split, int64 (n,) rising, with the
    `labels` int64 (n,) that they were given and the `confidence` float32 (n,) in it, all on the CPU.

    `threshold` and `temperature` are those that they were kept at, NaN where a list does not say. Raises
    ValueError unless these fit together.
    """

    positions: Tensor
    labels: Tensor
    confidence: Tensor
    threshold: float
    temperature: float

    def __post_init__(self) -> None:
        kinds = (("positions", torch.int64), ("labels", torch.int64), ("confidence", torch.float32))
        for name, kind in kinds:
            values: Tensor = getattr(self, name)
            if values.dtype != kind or values.shape != (len(self.positions),):
                dtype = str(kind).removeprefix("torch.")
                raise ValueError(
                    f"Kept's {name} should be {dtype} ({len(self.positions)},), not {described(values)}"
                )
        if len(self) and (int(self.positions[0]) < 0 or not bool((self.positions.diff() > 0).all())):
            raise ValueError("Kept's positions should rise from 0 or more, each image once: sort them")

    def __len__(self) -> int:
        return self.positions.numel()

    def __repr__(self) -> str:
        return f"Kept({len(self):,} images above {self.threshold:g} at temperature {self.temperature:g})"

    def counts(self, classes: int) -> tuple[int, ...]:
        """How many images of each class from 0 to classes - 1 were kept."""
        return tuple(torch.bincount(self.labels, minlength=classes).tolist())


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """p ** (1 / temperature), rows summing to one again: (..., K) -> float64 (..., K).

    Below 1 it moves probability towards the largest, above 1 away from it; it never changes their order.
    Computed as a softmax of logarithms, so that small temperatures are safe. Raises ValueError for anything
    but probabilities and a temperature above 0. Reference: https://arxiv.org/abs/1905.02249.

    >>> sharpen(torch.tensor([0.6, 0.4], dtype=torch.float64), 0.5).tolist()
    [0.6923076923076923, 0.3076923076923077]
    """
    above_zero("sharpen's temperature", temperature)
    _check_probabilities("sharpen", probabilities)
    logarithms = probabilities.double().log()
    # Divided after the largest is at 0: so nothing overflows however small the temperature is.
    return ((logarithms - logarithms.amax(dim=-1, keepdim=True)) / temperature).softmax(dim=-1)


def keep(
    probabilities: Tensor,
    threshold: float,
    temperature: float = 1.0,
    per_class: int | None = None,
    *,
    labels: Tensor | None = None,
) -> Kept:
    """The images whose largest probability, sharpened, is strictly above `threshold`.

    `probabilities` are (N, K), one row for each unlabelled image, and `labels` (N,) what each is called: its
    most probable class by default, the first of equals. Compared are float32 confidences; with
    `per_class` only so many of each class are kept, the most confident ones, the first among equals. Of two
    classes, a `temperature` T keeps exactly what T = 1 keeps above t ** T / (t ** T + (1 - t) ** T): for t =
    0.8 and T = 0.5 that is 0.667. With more classes it depends on how the rest is spread, and is lower still
    for T < 1. So a threshold says nothing without its temperature, and `Kept` records both. Raises ValueError
    as `PseudoLabels` does, and for anything but probabilities.

        kept = keep(trainer.predict(model, data.unlabelled).probabilities, 0.8)
    """
    share("keep's threshold", threshold)
    above_zero("keep's temperature", temperature)
    if per_class is not None:
        whole("keep's per_class", per_class)
    if probabilities.ndim != 2:
        raise ValueError(f"keep takes probabilities (N, K), found {tuple(probabilities.shape)}")
    if labels is not None and labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"keep's labels should be one for each of the {len(probabilities):,} images, not "
            f"{described(labels)}"
        )
    if not len(probabilities):
        nothing = torch.zeros(0, dtype=torch.int64)
        return Kept(nothing, nothing, torch.zeros(0), threshold, temperature)
    chances = probabilities.detach().cpu()
    confidence = sharpen(chances, temperature).amax(dim=1).float()
    labels = chances.argmax(dim=1) if labels is None else labels.cpu()
    positions = (confidence > torch.tensor(threshold)).nonzero().flatten()
    if per_class is not None:
        positions = _most_confident(positions, labels, confidence, per_class)
    return Kept(positions, labels[positions], confidence[positions], threshold, temperature)


def _most_confident(positions: Tensor, labels: Tensor, confidence: Tensor, per_class: int) -> Tensor:
    """At most `per_class` of the positions of each label, in rising order."""
    order = positions[confidence[positions].argsort(descending=True, stable=True)]
    order = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels[order])
    ranks = torch.arange(len(order)) - (counts.cumsum(0) - counts)[labels[order]]
    return order[ranks < per_class].sort().values


def fixmatch_loss(weak_logits: Tensor, strong_logits: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The loss of B unlabelled images, and the share of them that counted: two float32 scalars on their
    device.

    Both logits are (B, K). The label of an image is what its weak view is called; it counts when that
    probability is at least `threshold`, and then its loss is the cross-entropy of the strong view with it.
    The mean is over all B, so that few sure labels weigh little. No gradient flows through the weak view, and
    nothing waits for the device. Raises ValueError for logits of two shapes. Reference:
    https://arxiv.org/abs/2001.07685, equation 4.
    """
    if weak_logits.ndim != 2 or weak_logits.shape != strong_logits.shape:
        raise ValueError(
            "fixmatch_loss takes the logits (B, K) of a weak and a strong view of the same images, found "
            f"{tuple(weak_logits.shape)} and {tuple(strong_logits.shape)}"
        )
    weak = weak_logits.detach().float()
    confidence, labels = weak.softmax(dim=1).amax(dim=1), weak.argmax(dim=1)
    sure = confidence >= threshold
    losses = F.cross_entropy(strong_logits.float(), labels, reduction="none")
    return torch.where(sure, losses, 0.0).mean(), sure.float().mean()


def check_within(kept: Kept, unlabelled: Split) -> None:
    """Refuse a `Kept` of another split."""
    if len(kept) and int(kept.positions[-1]) >= len(unlabelled):
        raise ValueError(
            f"image {int(kept.positions[-1]):,} was kept, and the unlabelled images are {len(unlabelled):,}: "
            "give the split that the model labelled"
        )


def _check_probabilities(owner: str, probabilities: Tensor) -> None:
    """Refuse anything but probabilities over the last dimension."""
    if probabilities.is_floating_point() and probabilities.ndim and probabilities.shape[-1]:
        # What is summed in half precision is this far from one.
        tolerance = 1e-4 if torch.finfo(probabilities.dtype).eps < 1e-5 else 2e-2
        sums = probabilities.double().sum(dim=-1)
        if bool((probabilities >= 0).all()) and bool(((sums - 1).abs() <= tolerance).all()):
            return
    raise ValueError(
        f"{owner} takes probabilities, at least 0 and with rows that sum to one, found "
        f"{described(probabilities)} that are not: apply softmax to logits"
    )
