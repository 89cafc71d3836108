"""Overview: what a training is about to do and to cost, as lines and rows that are to be shown."""

import math
from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import nn

from budgetnet.augment import teaching
from budgetnet.budget import Budget, Ledger, built, latency, ledger, macs, measures, shown, unit
from budgetnet.data import Data
from budgetnet.recipe import FixMatch, Phase, PseudoLabels, Recipe
from budgetnet.schedule import Reactive, value
from budgetnet.text import counted

MOMENTS = 16
"""How many moments of a phase its resolution is asked at, to add up its MACs."""

TRAINING = 3
"""Passes that a training step is counted as: one forward, and backward to inputs and to weights."""


def part_rows(costs: Ledger, resolution: int) -> list[tuple[str, str, str, str]]:
    """What the outermost parts of a model cost at a resolution, below a row of titles, and the total."""
    rows = [
        (
            row.name or "(itself)",
            f"{row.params:,}",
            "x".join(map(str, row.shape[1:])) if row.shape else "",
            f"{row.macs or 0:,}",
        )
        for row in costs.groups(1)
        if row.params or row.macs
    ]
    title = ("part", "parameters", "output", f"MACs at {resolution} px")
    return [title, *rows, ("total", f"{costs.params:,}", "", f"{costs.macs:,}")]


def budget_lines(model: nn.Module, costs: Ledger, budget: Budget | None = None) -> list[str]:
    """One line for each limit of `budget` (else the model's own): what is used of it, and what is left."""
    origin = built(model)
    limits = budget or (origin.budget if origin else None)
    if limits is None:
        return ["budget: none; Budget(params=...).build(...) in model() would set one"]
    lines = []
    costs = ledger(model, limits.resolution or costs.resolution, stored=limits.stored)
    if limits.latency is not None and limits.resolution is not None and measures():
        costs = replace(costs, latency=latency(model, limits.resolution))
    for limit, most in limits.limits.items():
        used = costs.cost(limit)
        if used is None:  # a latency, where none is measured
            continue
        left = shown(limit, abs(most - used))
        rest = f"{left} left" if used <= most else f"{left} too many"
        lines.append(f"budget: {shown(limit, used)} of {shown(limit, most)} {unit(limit, costs)}, {rest}")
    return lines


def data_line(data: Data) -> str:
    """The data in one line."""
    kinds = {"train": "training", "val": "validation", "test": "test", "unlabelled": "unlabelled"}
    splits = ", ".join(f"{len(split):,} {kinds[name]}" for name, split in data.splits.items())
    channels, height, width = data.train.shape[1:]
    kind = {1: "grey ", 3: ""}.get(channels, f"{channels}-channel ")
    return f"data: {data.name}, {splits} images of {height}x{width} {kind}pixels, {len(data.classes)} classes"


def device_line(device: torch.device) -> str:
    """The device in one line."""
    if device.type == "cuda":
        return f"device: {device} ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return "device: mps (Apple)"
    threads = torch.get_num_threads()
    return f"device: cpu ({counted(threads, 'thread')})"


def phase_rows(recipe: Recipe, data: Data | None) -> list[list[str]]:
    """The phases below a row of titles; with `data` also how many steps, at most where images may join."""
    columns = ["phase", "epochs", "steps", "views", "resolution", "tested at", "learning rate"]
    rows = []
    for number, phase in enumerate(recipe.phases, start=1):
        images = 0 if data is None else _images(phase, data)
        most = "up to " if data is not None and images > len(data.train) else ""
        steps = f"{most}{phase.epochs * phase.steps(images, recipe.batch_size)[0]:,}"
        row = [phase.name or f"phase {number}", str(phase.epochs), steps, f"{phase.views:g}"]
        rows.append([*row, _resolution(phase), _tested(phase), _rate(phase)])
    rows = [columns, *rows]
    return rows if data is not None else [[*row[:2], *row[3:]] for row in rows]


def _images(phase: Phase, data: Data) -> int:
    unlabelled = len(data.unlabelled) if data.unlabelled is not None else 0
    return phase.most_images(len(data.train), unlabelled, len(data.classes))


def _resolution(phase: Phase) -> str:
    first, last = phase.resolution_at(0.0), phase.last_resolution
    return f"{first} px" if first == last else f"{first} to {last} px"


def _tested(phase: Phase) -> str:
    resize, crop = phase.test.at(phase.last_resolution)
    size = f"{crop} px" if resize == crop else f"{crop} px of {resize}"
    return size if phase.test.looks == phase.test.views else f"{size}, {phase.test.looks} looks"


def _rate(phase: Phase) -> str:
    rates = [value(phase.lr, k / 1000, epochs=phase.epochs) for k in range(1000)]
    first, last = rates[0], value(phase.lr, 1 - 1e-6, epochs=phase.epochs)
    middle = f" up to {max(rates):.3g}" if max(rates) > 1.001 * max(first, last) else ""
    kind = "" if isinstance(phase.lr, int | float) else f" ({type(phase.lr).__name__})"
    if isinstance(phase.lr, Reactive):
        return f"{first:.3g} and falling{kind}"
    if not middle and abs(first - last) < 1e-3 * abs(first):
        return f"{first:.3g}{kind}"
    return f"{first:.3g}{middle} to {0.0 if last < 1e-6 * max(rates) else last:.3g}{kind}"


@dataclass(frozen=True)
class Work:
    """How much a training is: `views`, `tests` and looks at `unlabelled` images, and the `macs` of all.

    It is the `most` that it may be where pseudo-labels add images; `taught` where teachers look at views too.
    """

    views: int
    tests: int
    unlabelled: int
    macs: float
    most: bool
    taught: bool


def work(model: nn.Module, recipe: Recipe, data: Data) -> Work:
    """The work of a recipe over the data; MACs count a view that is learnt from as three passes.

    A teacher's look at a view is one pass of the teacher.
    """
    known: dict[int, int] = {}
    taught = False
    views, tests, looks, total = 0, 0, 0, 0.0
    validation, unlabelled = (len(part) if part is not None else 0 for part in (data.val, data.unlabelled))
    for phase in recipe.phases:
        seen = phase.epochs * math.prod(phase.steps(_images(phase, data), recipe.batch_size))
        tried = phase.epochs * validation * phase.test.looks
        pseudo = phase.pseudo
        labelled = unlabelled * phase.test.looks if isinstance(pseudo, PseudoLabels) else 0
        beside = 2 * seen * pseudo.ratio if isinstance(pseudo, FixMatch) else 0
        resolutions = Counter(phase.resolution_at((k + 0.5) / MOMENTS) for k in range(MOMENTS))
        crop = phase.test.at(phase.last_resolution)[1]
        for resolution in {*resolutions, crop} - set(known):
            known[resolution] = macs(model, resolution)
        teachers = [step.teaching_macs for step in teaching(phase.augment)]
        taught = taught or bool(teachers)
        views, tests, looks = views + seen, tests + tried, looks + labelled + beside
        for resolution, times in resolutions.items():
            own, asked = known[resolution], sum(ask(resolution) for ask in teachers)
            total += (TRAINING * (seen + beside) * own + seen * asked) * times / MOMENTS
        total += (tried + labelled) * known[crop]
    most = any(_images(phase, data) > len(data.train) for phase in recipe.phases)
    return Work(views, tests, looks, total, most, taught)


def work_line(effort: Work) -> str:
    """The work in one line."""
    parts = [f"{effort.views:,} views of training images"]
    parts += [f"{effort.unlabelled:,} of unlabelled images"] if effort.unlabelled else []
    parts += [f"{effort.tests:,} of validation images"] if effort.tests else []
    listed = " and ".join([*([", ".join(parts[:-1])] if parts[1:] else []), parts[-1]])
    taught = ", and one of each teacher" if effort.taught else ""
    return (
        f"in all: {'at most ' if effort.most else ''}{listed}, {shortened(effort.macs)} MACs "
        f"(a training view as {TRAINING} passes{taught})"
    )


def shortened(number: float) -> str:
    """A number with three digits and its unit: 1.90 G."""
    at, units = 0, ("", "k", "M", "G", "T", "P", "E")
    while number >= 999.5 and at + 1 < len(units):
        number, at = number / 1000, at + 1
    return f"{number:.3g} {units[at]}".rstrip()
