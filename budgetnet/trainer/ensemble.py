"""Ensemble: what one model says of images, and the mean of several, or of several resolutions."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from budgetnet.budget import check_fit
from budgetnet.engine import Engine, Prediction, answers
from budgetnet.modelfile import card
from budgetnet.recipe import Test
from budgetnet.trainer.images import Images, gather, tested


def models_of(model: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    """The models of an ensemble, or the one. Raises ValueError for what is none."""
    models = [model] if isinstance(model, nn.Module) else list(model)
    if not models or not all(isinstance(each, nn.Module) for each in models):
        raise ValueError(f"predict takes a model or a list of models, not {model!r:.100}")
    return models


def sizes_of(resolution: int | Sequence[int] | None) -> list[int | None]:
    """The resolutions at which each model is asked; None stands for its own."""
    return list(resolution) or [None] if isinstance(resolution, Sequence) else [resolution]


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
    asked, size = tested(known, test, resolution or (given.size if known is None else None))
    resize, crop = asked.at(size)
    model.to(engine.device)
    try:
        labels, chances = answers(model, given.batches, engine=engine, resize=resize, crop=crop, test=asked)
    except Exception:
        if known is None and given.channels is not None:
            check_fit(model, crop, channels=given.channels)
        raise
    names = tuple(classes) or (known.classes if known is not None else ())
    names = names or tuple(str(k) for k in range(chances.shape[1]))
    if len(names) != chances.shape[1]:
        raise ValueError(
            f"the model tells {chances.shape[1]} classes apart, and {len(names)} names were given"
        )
    return Prediction(labels, chances, names, given.names, given.findings)


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


def check_same(classes: Sequence[str], others: Sequence[str]) -> None:
    """Refuse models that tell different classes apart."""
    if set(classes) != set(others):
        odd = sorted(set(classes) ^ set(others))
        raise ValueError(
            f"the models of an ensemble should tell the same classes apart, and only some know {odd[0]}; "
            "predict with each of them alone"
        )
