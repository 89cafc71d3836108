"""Figures against oracles of their own: losses and metrics in float64 numpy, budgets, and random draws.

BUDGETNET_TRIALS multiplies the number of cases: with 7 there are more than 1,000 of each kind.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from trials import trials

from budgetnet import Budget, Crop, Jitter, OverBudget, Rotate
from budgetnet.augment import Mixup, view
from budgetnet.augment.draw import uniform
from budgetnet.data import Split
from budgetnet.engine.evaluation import Scoring
from budgetnet.engine.measure import Engine, evaluate
from budgetnet.loss import DistillationLoss, LabelSmoothingLoss
from budgetnet.randomness import VIEW, drawn, order
from budgetnet.recipe import Test

CLOSE = 1e-6
Array = np.ndarray[Any, np.dtype[np.float64]]


def cases(count: int) -> settings:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=trials(count), deadline=None, suppress_health_check=quiet)


# --- losses


def log_softmax(logits: Array) -> Array:
    """Written with the largest taken out, row by row."""
    rows = []
    for row in logits:
        top = max(row)
        rows.append([x - top - math.log(sum(math.exp(y - top) for y in row)) for x in row])
    return np.array(rows, dtype=np.float64)


def smoothed(labels: Array, classes: int, smoothing: float, spread: str) -> Array:
    """What each class should get of each image: labels (B,) or (B, K), softened class by class."""
    targets = np.zeros((len(labels), classes))
    for image, label in enumerate(labels):
        given = {int(label): 1.0} if labels.ndim == 1 else dict(enumerate(label))
        for true, share in given.items():
            for other in range(classes):
                if spread == "all":
                    part = smoothing / classes + (1 - smoothing) * (other == true)
                else:
                    part = 1 - smoothing if other == true else smoothing / (classes - 1)
                targets[image, other] += share * part
    return targets


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits float64 (B, K), from tame to extreme, and labels: classes, soft labels, or those of a mixup."""
    size, classes = draw(st.integers(1, 9)), draw(st.integers(2, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 10.0, 60.0]))
    logits = scale * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (size,), generator=generator)
    kind = draw(st.sampled_from(["plain", "soft", "mixup"]))
    if kind == "soft":
        labels = torch.rand(size, classes, generator=generator, dtype=torch.float64)
        labels = labels / labels.sum(1, keepdim=True)
    elif kind == "mixup":
        images = torch.zeros(size, 1, 2, 2, dtype=torch.uint8)
        options = {"resolution": 2, "classes": classes, "generator": generator}
        labels = view(images, labels, [Mixup(draw(st.floats(0.1, 3.0)))], **options)[1].double()
        labels = labels / labels.sum(1, keepdim=True)  # float32 shares add up to 1 in seven digits
    return logits, labels


@cases(400)
@given(batch=batches(), smoothing=st.floats(0, 0.95), spread=st.sampled_from(["all", "others"]))
def test_the_loss_is_the_oracles(batch: tuple[Tensor, Tensor], smoothing: float, spread: Any) -> None:
    logits, labels = batch
    targets = smoothed(labels.double().numpy(), logits.shape[1], smoothing, spread)
    loss = LabelSmoothingLoss(smoothing, spread=spread)
    expected = -(targets * log_softmax(logits.numpy())).sum(1).mean()
    given = labels.double() if labels.ndim == 2 else labels
    assert float(loss(logits, given)) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    # What a training computes in: float32 holds seven digits of the largest logit.
    single = logits.float()
    expected = -(targets * log_softmax(single.double().numpy())).sum(1).mean()
    largest = max(1.0, float(single.abs().max()))
    found = float(loss(single, labels.float() if labels.ndim == 2 else labels))
    assert abs(found - expected) <= CLOSE * largest


@cases(150)
@given(batch=batches(), weight=st.floats(0, 1), temperature=st.floats(0.5, 10), seed=st.integers(0, 10**6))
def test_distillation_is_the_oracles(
    batch: tuple[Tensor, Tensor], weight: float, temperature: float, seed: int
) -> None:
    logits, _ = batch
    generator = torch.Generator().manual_seed(seed)
    teacher, given = (torch.rand(logits.shape, generator=generator).double().softmax(1) for _ in range(2))
    found = DistillationLoss(weight, temperature)(logits, torch.stack([teacher, given], 1))
    student = log_softmax(logits.numpy() / temperature)
    soft = (teacher.numpy() * (np.log(teacher.numpy()) - student)).sum(1).mean() * temperature**2
    hard = -(given.numpy() * log_softmax(logits.numpy())).sum(1).mean()
    assert float(found) == pytest.approx(weight * soft + (1 - weight) * hard, rel=1e-9, abs=1e-9)


# --- metrics


class Table(nn.Module):
    """A model that answers an image with the row of `logits` whose number is in its pixels."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.register_buffer("logits", logits)

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images[:, :, 0, 0] * 255).round().long()
        return self.logits[pixels @ torch.tensor([1, 256, 65_536])]


def numbered(count: int) -> Tensor:
    """uint8 (count, 3, 1, 1) images that carry their number."""
    number = torch.arange(count)
    return torch.stack([number % 256, number // 256 % 256, number // 65_536], 1).to(torch.uint8)[
        ..., None, None
    ]


def figures(logits: Array, labels: Array) -> dict[str, Any]:
    """Accuracy, top-5, loss, confusion and recalls, image by image and by sorting."""
    count, classes = logits.shape
    confusion = np.zeros((classes, classes), dtype=int)
    top = 0
    for row, label in zip(logits, labels):
        best = sorted(range(classes), key=lambda k: -row[k])
        confusion[label, best[0]] += 1
        top += label in best[:5]
    loss = -log_softmax(logits)[np.arange(count), labels].mean()
    sums = confusion.sum(1)
    recalls = [confusion[k, k] / sums[k] if sums[k] else math.nan for k in range(classes)]
    return {
        "accuracy": np.trace(confusion) / count,
        "top5": top / count,
        "loss": loss,
        "confusion": confusion.tolist(),
        "per_class": recalls,
    }


@cases(250)
@given(
    count=st.integers(1, 70),
    classes=st.integers(1, 14),
    batch_size=st.integers(1, 80),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_metrics_are_the_oracles(
    count: int, classes: int, batch_size: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, classes, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    if any(len(row.unique()) < classes for row in logits):
        return  # which of two equal logits is the best is nobody's business
    names = tuple(map(str, range(classes)))
    split = Split(numbered(count), labels, torch.arange(count))
    engine = Engine(torch.device("cpu"))
    found = evaluate(
        Table(logits), split, Scoring(names), Test(1), engine=engine, resolution=1, batch_size=batch_size
    )
    wanted = figures(logits.double().numpy(), labels.numpy())
    assert found.images == count
    assert [list(row) for row in found.confusion] == wanted["confusion"]
    for name in ("accuracy", "top5"):
        assert getattr(found, name) == pytest.approx(wanted[name], abs=1e-12)
    assert abs(found.loss - wanted["loss"]) <= CLOSE * max(1.0, float(logits.abs().max()))
    assert found.per_class == pytest.approx(wanted["per_class"], abs=1e-12, nan_ok=True)


# --- budgets at the limit


class Odd(nn.Module):
    """Parts in a row and in a list, with bare parameters, and weights shared between them as drawn."""

    def __init__(self, plan: list[tuple[str, int, int]], shared: list[tuple[int, int]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        for kind, one, two in plan:
            self.parts.append(part(kind, one, two))
        self.again = self.parts[0]  # the same module under a second name
        for first, second in shared:
            owner, other = self.parts[first % len(plan)], self.parts[second % len(plan)]
            names = list(owner._parameters)
            if names:
                other.register_parameter("borrowed", owner._parameters[names[-1]])


class Bare(nn.Module):
    """A parameter and a buffer without a layer around them."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(one, two))
        self.frozen = nn.Parameter(torch.zeros(two), requires_grad=False)
        self.register_buffer("seen", torch.zeros(one))


def part(kind: str, one: int, two: int) -> nn.Module:
    made = {
        "linear": lambda: nn.Linear(one, two),
        "bare": lambda: Bare(one, two),
        "conv": lambda: nn.Conv2d(one, 2 * one, two, groups=one, bias=two % 2 == 0),
        "norm": lambda: nn.BatchNorm2d(one),
        "embedding": lambda: nn.Embedding(one, two),
        "attention": lambda: nn.MultiheadAttention(2 * one, 2),
        "prelu": lambda: nn.PReLU(two),
        "recurrent": lambda: nn.GRU(one, two),
    }
    return made[kind]()


KINDS = ("linear", "bare", "conv", "norm", "embedding", "attention", "prelu", "recurrent")
PLANS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6
)
SHARED = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4)


def elements(plan: list[tuple[str, int, int]], shared: list[tuple[int, int]]) -> int:
    """The different numbers that learn or could: by where they lie in memory, not by name."""
    model = Odd(plan, shared)
    return len({tensor.data_ptr() + 4 * k for tensor in every(model) for k in range(tensor.numel())})


def every(module: nn.Module) -> list[Tensor]:
    own = [tensor for tensor in module._parameters.values() if tensor is not None]
    return own + [tensor for child in module._modules.values() if child for tensor in every(child)]


@cases(150)
@given(plan=PLANS, shared=SHARED)
def test_a_budget_is_exact_at_the_limit_and_one_over(
    plan: list[tuple[str, int, int]], shared: list[tuple[int, int]]
) -> None:
    count = elements(plan, shared)
    model = Budget(params=count).build(Odd, plan, shared)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    if count > 1:
        with pytest.raises(OverBudget) as refused:
            Budget(params=count - 1).build(Odd, plan, shared)
        assert refused.value.ledger.params == count


# --- random draws


def draws(seed: int, step: int, count: int) -> Tensor:
    """What a step draws for each of its images: its turn, its crop and its colours, float64 (count, n)."""
    generator = torch.Generator().manual_seed(drawn(seed, VIEW, step))
    turned = Rotate(45).maps(generator, count, 96, 96)
    cropped = Crop().maps(generator, count, 96, 96)
    factors, places = Jitter(0.3, 0.3, 0.3, 0.3).factors(generator, count)
    return torch.cat([turned.flatten(1), cropped.flatten(1), factors, places.double()], 1)


def shared_draws(seed: int, pairs: int, batch: int) -> int:
    """How many of the first `pairs` (epoch, image) pairs of a training draw what another one draws."""
    rows = torch.cat([draws(seed, step, batch) for step in range(math.ceil(pairs / batch))])
    return len(rows) - len({row.tobytes() for row in rows.numpy()})


def test_no_two_views_of_a_training_share_their_random_draws() -> None:
    assert shared_draws(seed=0, pairs=trials(20_000), batch=64) == 0


@pytest.mark.slow
def test_no_two_views_of_a_long_training_share_their_random_draws() -> None:
    for seed in (0, 1):
        assert shared_draws(seed, trials(100_000), batch=64) == 0


def test_the_search_for_shared_draws_finds_them() -> None:
    rows = torch.cat([draws(0, 1, 8), draws(0, 2, 8), draws(0, 1, 8)])
    assert len({row.tobytes() for row in rows.numpy()}) == 16


def test_orders_and_views_of_one_training_are_seeded_apart() -> None:
    first = uniform(torch.Generator().manual_seed(drawn(0, VIEW, 1)), (4,), 0, 1)
    for other in (drawn(0, VIEW, 2), drawn(1, VIEW, 1), drawn(0, VIEW + 1, 1)):
        assert not torch.equal(first, uniform(torch.Generator().manual_seed(other), (4,), 0, 1))
    epochs = {tuple(order(50, 1.0, 0, epoch).tolist()) for epoch in range(trials(200))}
    assert len(epochs) == trials(200)
