"""Figures of answers against scikit-learn, and intervals against tables and trials of them."""

import json
import math
import random
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)
from torch import Tensor, nn

from budgetnet import (
    Data,
    EarlyStop,
    Phase,
    Plateau,
    Recipe,
    Run,
    Split,
    Trainer,
    TrainingStep,
    arrays,
    metrics,
    models,
)
from budgetnet.compare import compare
from budgetnet.metrics import by_class, macro, scored
from budgetnet.schedule import rises


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


def test_intervals_of_impossible_figures_are_refused() -> None:
    for asked, said in [
        ((6, 5), "wilson's right should be a number from 0 to 5, not 6"),
        ((1, -5), "wilson's images should be a number above 0, not -5"),
        ((1, 5, 95), "wilson's level should be a number above 0 and below 1, not 95"),
    ]:
        with pytest.raises(ValueError, match=said):
            metrics.wilson(*asked)
    with pytest.raises(ValueError, match="student's level"):
        metrics.student(3, 95)


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


def answers(seed: int, classes: int, images: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    # Rounded, so that some are level.
    logits = (torch.randn(images, classes, generator=generator) * 2).round(decimals=1)
    return logits + 2 * F.one_hot(labels, classes), labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_metrics_are_scikit_learns(seed: int, classes: int) -> None:
    logits, labels = answers(seed, classes)
    said, chances = logits.argmax(1), logits.double().softmax(1)
    theirs = {
        "balanced_accuracy": balanced_accuracy_score(labels, said),
        "f1": f1_score(labels, said, average="macro"),
        "auc": roc_auc_score(
            labels, chances[:, 1] if classes == 2 else chances, multi_class="ovr", average="macro"
        ),
    }
    asked = [metrics.BalancedAccuracy(), metrics.F1(), metrics.AUC()]
    assert scored(asked, logits, labels, "abcdefg"[:classes]) == pytest.approx(theirs)
    for metric, their in [
        (metrics.Precision, precision_score),
        (metrics.Recall, recall_score),
        (metrics.F1, f1_score),
    ]:
        each = their(labels, said, average=None, labels=range(classes), zero_division=math.nan)
        assert metric(per_class=True)(logits, labels) == pytest.approx(list(each), nan_ok=True)
        assert metric()(logits, labels) == pytest.approx(
            their(labels, said, average="macro", zero_division=0)
        )
    if classes > 2:
        exact = logits.double() - 1e-6 * torch.arange(classes)
        assert metrics.TopK(2)(exact, labels) == pytest.approx(top_k_accuracy_score(labels, exact, k=2))


def test_the_calibration_error_is_the_mean_gap_of_equal_bins() -> None:
    logits, labels = answers(0, 4, 200)
    confidence, said = (each.numpy() for each in logits.double().softmax(1).max(1))
    expected = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            gap = abs((said == labels.numpy())[inside].mean() - confidence[inside].mean())
            expected += gap * inside.mean()
    assert metrics.ECE()(logits, labels) == pytest.approx(expected)


def test_areas_are_told_where_probabilities_round_to_one() -> None:
    sure = torch.arange(40.0, 60.0, 0.5)
    labels = (torch.arange(len(sure)) >= 15).long()
    assert metrics.AUC()(torch.stack([torch.zeros_like(sure), sure], dim=1), labels) == 1.0
    three = torch.stack([torch.zeros_like(sure), sure, -sure], dim=1)
    assert metrics.AUC(per_class=True)(three, labels) == pytest.approx([1.0, 1.0, math.nan], nan_ok=True)
    level = torch.tensor([[2.0, 2.0, 0.0], [0.0, 2.0, 2.0], [0.0, 5.0, 0.0], [5.0, 0.0, 0.0]])
    assert metrics.AUC(per_class=True)(level, torch.tensor([1, 0, 1, 0]))[1] == 1 - 0.5 / 4


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_of_logits_that_are_no_numbers_our_metrics_are_not_measured(wrong: float) -> None:
    logits, labels = answers(0, 3)
    masked = logits.clone()
    masked[:, 2] = -math.inf
    logits[7, 1] = wrong
    ours = [metrics.AUC(), metrics.ECE(), metrics.F1(), metrics.Precision(), metrics.Recall(per_class=True)]
    for metric in [*ours, metrics.BalancedAccuracy(), metrics.TopK(2)]:
        assert all(math.isnan(figure) for figure in scored([metric], logits, labels, "abc").values())
        assert not any(math.isnan(figure) for figure in scored([metric], masked, labels, "abc").values())


def test_any_function_is_a_metric_by_its_own_name() -> None:
    def wrong(logits: Tensor, labels: Tensor) -> Tensor:
        logits.zero_()
        return torch.tensor(0.25)

    logits, labels = answers(1, 3)
    halves = metrics.Metric("halves", lambda logits, labels: [0.5, float("inf"), 1])
    found = scored([wrong, halves, metrics.F1()], logits, labels, ("cat", "dog", "owl"))
    assert (found["wrong"], found["halves.cat"], found["halves.owl"]) == (0.25, 0.5, 1.0)
    assert math.isnan(found["halves.dog"])
    assert found["f1"] == metrics.F1()(logits, labels)
    with pytest.raises(ValueError, match=r"the metric pair should give a number, or one for each of the 3"):
        scored([metrics.Metric("pair", lambda logits, labels: (1, 2))], logits, labels, "abc")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("f1", "should be a list"),
        ([metrics.F1], "call it: F1()"),
        ([3], "should be functions"),
        ([lambda logits, labels: 0], "not '<lambda>'; give it one"),
        ([metrics.F1(), metrics.F1()], "two called 'f1'"),
        ([metrics.Metric("m", len), metrics.Metric("m", max)], "two called 'm'"),
    ],
)
def test_what_is_no_metric_is_refused(asked: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Recipe(phases=[Phase(epochs=1, resolution=8, lr=0.1)], metrics=asked)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a word of its own"):
        metrics.Metric("loss", len)


def learning(**options: object) -> tuple[nn.Module, Data, Recipe]:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (80, 3, 8, 8), dtype=torch.uint8)
    labels = torch.arange(80) % 2
    images[labels == 1, 0] //= 4
    whole = Split(images, labels, torch.arange(80))
    data = Data(
        whole.subset(torch.arange(60)), whole.subset(torch.arange(60, 80)), None, ("cat", "dog"), "two"
    )
    stop = options.pop("stop", None)
    phase = Phase(epochs=4, resolution=8, lr=options.pop("lr", 0.1), stop=stop)  # type: ignore[arg-type]
    recipe = Recipe(phases=[phase], batch_size=20, **options)  # type: ignore[arg-type]
    return models.convnet(2, widths=(8,)), data, recipe


ASKED = [metrics.F1(), metrics.Recall(per_class=True), metrics.ECE(), metrics.TopK(1)]


def test_a_recipes_metrics_are_in_the_epochs_the_result_and_the_file(tmp_path: Path) -> None:
    trainer = Trainer("cpu", out=tmp_path, show=False)
    run = trainer.fit(*learning(metrics=ASKED, measure=("train", "val")))
    names = ["f1", "recall.cat", "recall.dog", "ece", "top1_accuracy"]
    last = run.history[-1]
    assert list(last.metrics) == [f"{split}_{name}" for split in ("train_eval", "val") for name in names]
    assert last.measure("val_top1_accuracy") == last.val_accuracy == run.result["val_top1_accuracy"]
    assert run.folder is not None
    assert Run.read(run.folder).history == run.history
    line = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["metrics"]["val_f1"] == last.measure("val_f1") == run.result["val_f1"]


def test_a_recipe_without_metrics_is_described_and_recorded_as_before(tmp_path: Path) -> None:
    model, data, recipe = learning()
    assert "metrics" not in recipe.describe()
    assert "metrics" in replace(recipe, metrics=ASKED).describe()
    run = Trainer("cpu", out=tmp_path, show=False).fit(model, data, recipe)
    assert run.folder is not None
    assert "metrics" not in (run.folder / "metrics.jsonl").read_text()
    assert "metrics" not in json.loads((run.folder / "run.json").read_text())["recipe"]


def test_metrics_change_no_bit_of_a_training() -> None:
    trainer, weights = Trainer("cpu", out=None, show=False), []
    for asked in ((), ASKED):
        model, data, recipe = learning(metrics=asked)
        trainer.fit(model, data, recipe)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def falls(logits: Tensor, labels: Tensor) -> float:
    """Another one each time: 5, 4, 3 ..., after the check's own."""
    falls.left -= 1  # type: ignore[attr-defined]
    return float(falls.left)  # type: ignore[attr-defined]


def test_keep_early_stop_and_plateau_read_metrics() -> None:
    trainer = Trainer("cpu", out=None, show=False)

    def train(**options: object) -> Run:
        falls.left = 9  # type: ignore[attr-defined]
        return trainer.fit(*learning(metrics=[falls], **options))

    assert train(keep="val_falls").result["epoch"] == 1
    assert train(keep="val_loss").result["epoch"] >= 1
    assert len(train(stop=EarlyStop(2, monitor="val_falls")).history) == 3
    rates = [epoch.lr for epoch in train(lr=Plateau(0.1, patience=1, monitor="val_falls")).history]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01])


def test_a_falling_figure_is_better() -> None:
    assert [rises(name) for name in ("val_loss", "val_ece", "val_my_error", "val_f1", "val_accuracy")] == [
        False,
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": "val_f2", "metrics": [metrics.F1()]}, "did you mean 'val_f1'"),
        ({"stop": EarlyStop(monitor="val_recall.dgo"), "metrics": ASKED}, "did you mean 'val_recall.dog'"),
        ({"lr": Plateau(0.1, monitor="val_auc")}, "val_auc"),
        ({"metrics": [metrics.Metric("broken", lambda logits, labels: 1 / 0)]}, "the metric broken fails"),
        (
            {"metrics": [metrics.Metric("three", lambda logits, labels: [1, 2, 3])]},
            "the metric three should give",
        ),
    ],
)
def test_what_no_epoch_will_have_is_refused_before_the_first(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Trainer("cpu", out=None, show=False).fit(*learning(**options))


def test_a_run_with_metrics_goes_on_exactly(tmp_path: Path) -> None:
    options = {"metrics": ASKED, "keep": "val_f1"}
    whole = Trainer("cpu", out=tmp_path / "whole", show=False).fit(*learning(**options))

    def stop(event: object) -> None:
        if isinstance(event, TrainingStep) and event.number == 5:
            signal.raise_signal(signal.SIGTERM)

    trainer = Trainer("cpu", out=tmp_path / "parts", show=False, watch=[stop])
    with pytest.raises(SystemExit):
        trainer.fit(*learning(**options))
    folder = tmp_path / "parts" / "run-1"
    run = Trainer("cpu", out=None, show=False).fit(*learning(**options), resume=folder)
    assert [epoch.metrics for epoch in run.history] == [epoch.metrics for epoch in whole.history]
    same = ("epoch", "val_f1", "val_ece", "val_recall.cat", "val_loss")
    assert [run.result[name] for name in same] == [whole.result[name] for name in same]
    assert (folder / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "run-1" / "model.safetensors"
    ).read_bytes()


def bits(text: str) -> Tensor:
    return torch.tensor([letter == "1" for letter in text])


def test_two_models_on_the_same_images_are_tested_exactly() -> None:
    found = metrics.paired(bits("1111100000" + "1" * 20), bits("0000010000" + "1" * 20))
    assert (found.both, found.first, found.second, found.neither) == (20, 5, 1, 4)
    assert found.difference == pytest.approx(4 / 30)
    # Twice the chance of at most 1 head in 6 tosses.
    assert found.p == pytest.approx(2 * (1 + 6) / 2**6)
    low, high = found.interval
    assert low < found.difference < high
    assert metrics.paired(bits("101"), bits("101")).p == 1
    assert metrics.paired(torch.ones(5000).bool(), torch.zeros(5000).bool()).p == 0
    with pytest.raises(ValueError, match="the same images"):
        metrics.paired(bits("10"), bits("101"))
    for odd in ([True], torch.tensor(True)):
        with pytest.raises(ValueError, match=r"paired's answers should be tensors \(N,\), not "):
            metrics.paired(odd, odd)  # type: ignore[arg-type]


def test_mcnemars_p_is_that_of_a_coin() -> None:
    for first, second in [(0, 1), (3, 9), (40, 60), (500, 430)]:
        said = metrics.Paired(7, first, second, 3).p
        assert said == pytest.approx(binomtest(first, first + second).pvalue)


def test_evaluations_are_compared_on_one_split_alone() -> None:
    model, data, _ = learning()
    trainer = Trainer("cpu", out=None, show=False)
    assert data.val is not None
    one = trainer.evaluate(model, data.val, resolution=8, classes=data.classes)
    same = trainer.evaluate(model, data.val, resolution=6, classes=data.classes)
    assert same.against(one).images == 20
    assert same.against(one).difference == pytest.approx(same.accuracy - one.accuracy)
    with pytest.raises(ValueError, match="the same images"):
        one.against(trainer.evaluate(model, data.train, resolution=8, classes=data.classes))
    turned = trainer.evaluate(model, data.val, resolution=6, classes=data.classes[::-1])
    right = turned.said == turned.truth
    assert turned.classes == one.classes[::-1]
    assert turned.against(one) == metrics.paired(right, one.said == one.truth)
    other = replace(one, classes=(*one.classes[:-1], "newt"))
    with pytest.raises(ValueError, match=r"only one knows .*evaluate each by itself"):
        one.against(other)


def test_pandas_is_asked_for_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        ValueError, match="to_pandas needs pandas, which is not installed: pip install pandas"
    ):
        Run().to_pandas()


def test_what_pandas_is_given_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    trainer = Trainer("cpu", out=None, show=False)
    model, data, recipe = learning(metrics=ASKED)
    run = trainer.fit(model, data, recipe)
    assert [row["val_f1"] for row in run.to_pandas()] == [epoch.measure("val_f1") for epoch in run.history]
    assert data.val is not None
    measured = trainer.evaluate(model, data.val)
    assert [row["f1"] for row in measured.to_pandas()] == [each.f1 for each in measured.by_class]
    said = trainer.predict(model, data.val)
    assert [row["class"] for row in said.to_pandas()] == said.named()
    (row,) = compare(run).to_pandas()
    assert (row["val"], row["val_low"], row["val_high"]) == (run.result["val_accuracy"], *measured.interval)


def test_other_images_of_the_same_classes_are_other_images() -> None:
    model, data, _ = learning()
    trainer = Trainer("cpu", out=None, show=False)
    dark = arrays(255 - data.train.images, data.train.labels, held_out=0, classes=data.classes)
    asked: dict[str, Any] = {"resolution": 8, "classes": data.classes}
    one, other = (trainer.evaluate(model, split, **asked) for split in (data.train, dark.train))
    with pytest.raises(ValueError, match="the same images"):
        one.against(other)
    two = trainer.evaluate([model, model], data.train, **asked)
    assert two.against(one).difference == 0
    assert "mark" not in one.json()
