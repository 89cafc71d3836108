"""Figures of answers against scikit-learn, and intervals against tables and trials of them."""

import math
import random

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from budgetnet import Split, Trainer, metrics, models
from budgetnet.metrics import by_class, macro


def pairs_of(truth: list[int], said: list[int]) -> list[tuple[int, int, int]]:
    counted = [(t, s) for t, s in zip(truth, said)]
    return [(t, s, counted.count((t, s))) for t, s in sorted(set(counted))]


@pytest.mark.parametrize("seed", range(5))
def test_precision_recall_and_f1_are_scikit_learns(seed: int) -> None:
    draw = random.Random(seed)
    classes = draw.randint(2, 6)
    truth = [draw.randrange(classes) for _ in range(40)]
    said = [t if draw.random() < 0.6 else draw.randrange(classes) for t in truth]
    ours = by_class(pairs_of(truth, said), "abcdef"[:classes])
    theirs = precision_recall_fscore_support(truth, said, labels=range(classes), zero_division=math.nan)
    for name, column in zip(("precision", "recall", "f1"), theirs):
        assert [getattr(each, name) for each in ours] == pytest.approx(list(column), nan_ok=True)
    whole = precision_recall_fscore_support(truth, said, average="macro", zero_division=0)
    assert macro(ours, lambda each: each.f1) == pytest.approx(whole[2])
    assert macro(ours, lambda each: each.precision) == pytest.approx(whole[0])


def test_a_class_that_is_nowhere_has_no_figures_and_counts_in_no_mean() -> None:
    a, b, c = by_class([(0, 0, 3), (1, 0, 1)], "abc")
    assert (a.precision, a.recall, b.recall, b.f1) == (0.75, 1.0, 0.0, 0.0)
    assert all(map(math.isnan, (b.precision, c.recall, c.f1)))
    assert macro((a, b, c), lambda each: each.recall) == 0.5


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    # Newcombe (1998), table I, method 3.
    for right, images, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert metrics.wilson(right, images) == pytest.approx((low, high), abs=5e-5)
    assert (metrics.wilson(0, 20)[0], metrics.wilson(20, 20)[1]) == (0, 1)
    assert all(map(math.isnan, metrics.wilson(0, 0)))


def test_students_t_is_that_of_the_table() -> None:
    table = {1: 12.7062, 2: 4.3027, 3: 3.1824, 9: 2.2622, 30: 2.0423, 1000: 1.9623}
    assert {n: metrics.student(n) for n in table} == pytest.approx(table, abs=5e-5)
    assert metrics.student(4, 0.99) == pytest.approx(4.6041, abs=5e-5)
    assert math.isnan(metrics.student(0))


def test_an_evaluation_says_what_each_class_and_the_largest_alone_reach() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8)
    labels = torch.tensor([0] * 40 + [1] * 19 + [2])
    model = models.convnet(3, widths=(8,))
    found = Trainer("cpu", out=None, show=False).evaluate(
        model, Split(images, labels, torch.arange(60)), classes=("cat", "dog", "owl"), resolution=8
    )
    assert [each.recall for each in found.by_class] == list(found.per_class)
    assert found.balanced_accuracy == pytest.approx(sum(found.per_class) / 3)
    assert (found.majority.name, found.majority.images) == ("cat", 40)
    assert found.interval == metrics.wilson(round(found.accuracy * 60), 60)
    assert {each.name for each in found.unrecognised} == {
        name for name, recall in zip(found.classes, found.per_class) if recall == 0
    }
    assert found.json()["interval"] == list(found.interval)
