"""Ensemble: what one model says of images, and the mean of several, or of several resolutions."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.budget import check_fit
from budgetnet.data import Split
from budgetnet.engine import Engine, Evaluation, Prediction, Scoring, answers, evaluation_of, no_numbers
from budgetnet.modelfile import card
from budgetnet.recipe import Test
from budgetnet.run import Run
from budgetnet.text import inline
from budgetnet.trainer.images import Images, gather, tested
from budgetnet.values import whole


def models_of(model: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    """The models of an ensemble, or the one. Raises ValueError for what is none."""
    given: object = model
    models = [*given] if isinstance(given, Iterable) and not isinstance(given, nn.Module | str) else [given]
    strange = next((each for each in models if not isinstance(each, nn.Module)), None)
    if strange is not None or not models:
        what = "a Run" if isinstance(strange, Run) else f"{given if strange is None else strange!r:.100}"
        named = isinstance(strange, Run | str | os.PathLike)
        way = "run.model, or budgetnet.load(folder)" if named else "one of these"
        raise ValueError(f"evaluate and predict take a model or a list of models, not {what}: give {way}")
    return [each for each in models if isinstance(each, nn.Module)]


def sizes_of(resolution: int | Sequence[int] | None) -> list[int | None]:
    """The resolutions at which each model is asked; None stands for its own."""
    several = isinstance(resolution, Sequence) and not isinstance(resolution, str)
    sizes: list[int | None] = list(resolution) or [None] if several else [resolution]  # type: ignore[arg-type, list-item]
    for size in sizes:
        if size is not None:
            whole("resolution", size)
    return sizes


def predicted(
    model: nn.Module,
    images: Images,
    *,
    engine: Engine,
    classes: Sequence[str],
    resolution: int | None,
    test: Test | None,
    batch_size: int,
    skip: bool,
) -> Prediction:
    """What one model says of images at one resolution."""
    known = card(model)
    given = gather(images, known, batch_size=batch_size, resolution=resolution, skip=skip)
    side = given.size if resolution is None and known is None else resolution
    asked, size = tested(known, test, side)
    resize, crop = asked.at(size)
    model.to(engine.device)
    try:
        labels, chances = answers(model, given.batches, engine=engine, resize=resize, crop=crop, test=asked)
    except Exception:
        if known is None and given.channels is not None:
            check_fit(model, crop, channels=given.channels)
        raise
    check_answered(chances, given.names)
    names = tuple(classes) or (known.classes if known is not None else ())
    names = names or tuple(str(k) for k in range(chances.shape[1]))
    if len(names) != chances.shape[1]:
        raise ValueError(
            f"the model tells {chances.shape[1]} classes apart, and {len(names)} names were given"
        )
    return Prediction(labels, chances, names, given.names, given.findings)


def check_answered(chances: Tensor, names: Sequence[str]) -> None:
    """Refuse probabilities (N, K) of the images with these names where some are no numbers."""
    wrong = chances.isnan().any(dim=1).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            f"{no_numbers(len(wrong), len(chances))}, such as {inline(names[wrong[0]])}: leave these out, or "
            "train it anew"
        )


def mean(predictions: Sequence[Prediction]) -> Prediction:
    """The mean of the probabilities of several predictions of the same images; itself of a single one.

    Classes are told apart by their names, in the order of the first. Raises ValueError where they differ.
    """
    first = predictions[0]
    if len(predictions) == 1:
        return first
    total = torch.zeros_like(first.probabilities, dtype=torch.float64)
    for each in predictions:
        check_same(first.classes, each.classes)
        assert each.names == first.names, "the images are the same"
        total += each.probabilities[:, [each.classes.index(name) for name in first.classes]].double()
    probabilities = (total / len(predictions)).to(first.probabilities.dtype)
    return replace(first, labels=total.argmax(dim=1), probabilities=probabilities)


def together(
    models: Sequence[nn.Module],
    images: Split,
    labels: Tensor,
    scoring: Scoring,
    *,
    sizes: Sequence[int | None],
    **asked: Any,
) -> Evaluation:
    """The figures of the mean of what several models, or one at several resolutions, say of images.

    `asked` is what `predicted` is asked. Labels (N,) count in the classes of `scoring`.
    """
    names = scoring.classes

    def ask(model: nn.Module, size: int | None) -> Prediction:
        known = card(model)
        called = asked["classes"] or (() if known is not None and known.classes else names)
        return predicted(model, images, resolution=size, skip=False, **{**asked, "classes": called})

    said = mean([ask(model, size) for model in models for size in sizes])
    check_same(names, said.classes)
    chances = said.probabilities[:, [said.classes.index(name) for name in names]]
    size = tested(card(models[0]), asked["test"], sizes[0])[1]
    return evaluation_of(chances, labels, scoring, size)


def check_same(classes: Sequence[str], others: Sequence[str]) -> None:
    """Refuse models that tell different classes apart."""
    if set(classes) != set(others):
        odd = sorted(set(classes) ^ set(others))
        raise ValueError(
            f"the models of an ensemble should tell the same classes apart, and only some know {odd[0]}; "
            "predict with each of them alone"
        )
