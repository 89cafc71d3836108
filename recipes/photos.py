"""Photos of your own, from scratch and without a GPU: a folder with a subfolder for each class.

    budgetnet run photos --data DIR --budget 2M --within 30m

looks at the photos first: how many there are, of how many classes, how large, whether they are grey and how
rare the rarest class is. It stores and shows them at a size that suits theirs, spends the budget on a network
for that size, and passes over few photos more often than over many. `budgetnet new DIR` writes what it would
do as a recipe file to edit; any value can be set, as in `--set recipe.phases.0.epochs=50`. Where a table says
what the photos show, it stands for DIR: `--data train.csv --set data.images=train --set data.label=breed`.

The network is `stl10_afternoon`'s, and so are the views of the first two thirds: crops that grow while they
are learnt (https://arxiv.org/abs/2104.00298), TrivialAugment and cutmix. The last third has mild views, which
is what a short training gains most by. Filters learn with Muon (https://kellerjordan.github.io/posts/muon/),
the rest with SGD; the weights are averaged, and the test has more pixels than were learnt at
(https://arxiv.org/abs/1906.06423). A fifth of the photos is held out where there is no folder val. As many
passes as few photos ask for take long: `--within` makes them as many as end in the time. A core of a CPU
learns from 100 to 500 photos a second, of which the upper end takes `--precision bf16` and a processor that
has it. Reached here in ten minutes of it: 76.20 % of STL-10's 1,000 held-out images, from 4,000 (--within 10m
--precision bf16; n = 1; an Intel Xeon with AMX, torch 2.14.1); not measured at length. `benchmarks/peers.py`
compares that with other libraries.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from budgetnet import (
    EMA,
    SGD,
    Budget,
    Crop,
    Cutmix,
    Data,
    Flip,
    Group,
    Groups,
    LabelSmoothingLoss,
    Linear,
    Muon,
    Phase,
    Ramp,
    Recipe,
    Test,
    TrivialAugmentWide,
    Warmup,
    folder,
    layers,
    models,
    table,
)
from budgetnet.data import data_root

ROOT: str | Path | None = None  # None: the folder, or the table of labels, that --data names
IMAGES: str | None = None  # of a table: the folder of its photos,
NAME: str | None = None  # the column of their names,
LABEL: str | None = None  # and that of their classes
BUDGET = "2M"  # parameters, or as "bytes=300KB, stored=int8, ram=256KB, resolution=64"
CLASSES = 10
CHANNELS: Literal[1, 3] = 3  # 1 makes greys
SIZE = 96  # pixels at which photos are stored
FIRST = 32  # pixels of the first training views
LAST = 64  # and of the last
RESIZE = 80  # pixels to which the shorter side is brought for a test
CROP = 80  # and what is seen of them
STRIDE = 2  # of the first convolution
EPOCHS = 100  # with strong views, and then half as many with mild ones
VIEWS = 4  # an epoch shows each photo so many times
WIDTHS = (*range(1, 32), *range(32, 513, 8))  # of the first stage; the widest within the budget is taken
WEIGHTS: Literal["balanced"] | None = None  # "balanced": rare classes count as much as common ones


def model(
    classes: int = CLASSES, channels: int = CHANNELS, stride: int = STRIDE, budget: str | int = BUDGET
) -> nn.Module:
    def shape(width: int) -> dict[str, Any]:
        return {
            "classes": classes,
            "channels": channels,
            "widths": (width, 2 * width, 4 * width, 6 * width),
            "blocks": (2, 2, 2, 1),
            "block": layers.basic,
            "act": layers.relu,
            "stem": width,
            "stem_kernel": 2 * stride + 1,
            "stem_stride": stride,
            "stem_pool": False,
        }

    allowed = Budget(params=budget)
    spent = allowed.spend(lambda width: models.resnet(**shape(width)), {"width": WIDTHS})
    return allowed.build(models.resnet, **shape(spent.knobs["width"]))


def data(
    root: str | Path | None = ROOT,
    size: int = SIZE,
    channels: Literal[1, 3] = CHANNELS,
    held_out: float | None = None,
    images: str | None = IMAGES,
    name: str | None = NAME,
    label: str | None = LABEL,
) -> Data:
    place = data_root(root) if root is None else Path(root)
    if place.suffix.lower() in (".csv", ".tsv", ".txt"):
        columns: dict[str, Any] = {"images": images, "name": name, "label": label}
        return table(place, size=size, channels=channels, held_out=held_out, **columns)
    return folder(root, size=size, channels=channels, held_out=held_out)


learn = Phase(
    name="learn",
    epochs=EPOCHS,
    views=VIEWS,
    resolution=Ramp(FIRST, LAST),
    lr=Warmup(Linear(0.06, 0.02), epochs=1),
    augment=[Crop(scale=(0.25, 1.0)), Flip(), TrivialAugmentWide(), Cutmix(1.0, p=0.5)],
    test=Test(resize=RESIZE, crop=CROP),
)
settle = replace(
    learn,
    name="settle",
    epochs=max(1, EPOCHS // 2),
    resolution=LAST,
    lr=Linear(0.02),
    augment=[Crop(scale=(0.35, 1.0)), Flip()],
)

recipe = Recipe(
    phases=[learn, settle],
    optimizer=Groups(
        [Group(["*.norm*", "head*"], SGD(weight_decay=5e-4))],
        rest=Muon(momentum=0.9, steps=3, normalise=True),
    ),
    loss=LabelSmoothingLoss(0.1, weights=WEIGHTS),
    batch_size=128,
    average=EMA(0.996),
    keep="averaged",
)

# What follows looks at the photos; `budgetnet new` leaves it out, and writes what was found above.

MOST, PASSES = 96, 2_400_000


def settings(
    root: str | Path | None = ROOT,
    images: str | None = IMAGES,
    name: str | None = NAME,
    label: str | None = LABEL,
) -> dict[str, object]:
    """What the photos ask for, as --set takes it.

    The last word of each, in capitals, is a constant above, from which the second phase follows.
    """
    from budgetnet.data import look

    photos = look(root, images=images, name=name, label=label)
    count, size = sum(photos.counts), max(8, min(MOST, photos.side))
    large = size > 48
    first, last, test = (round(size * share / 8) * 8 if large else size for share in (1 / 3, 2 / 3, 5 / 6))
    # Few photos are seen some hundred times, and so often that there are a thousand steps.
    passes = max(30, min(600, PASSES // count), 128_000 // count)
    views = max(1, round(passes / 150))
    epochs = max(1, round(passes / views * 2 / 3))
    found: dict[str, object] = {
        "model.classes": len(photos.classes),
        "model.channels": 1 if photos.grey else 3,
        "model.stride": 2 if last >= 48 else 1,
        "data.channels": 1 if photos.grey else 3,
        "data.size": size,
        "recipe.phases.0.resolution.first": first,
        "recipe.phases.0.resolution.last": last,
        "recipe.phases.0.epochs": epochs,
        "recipe.phases.1.resolution": last,
        "recipe.phases.1.epochs": max(1, epochs // 2),
    }
    for phase in ("recipe.phases.0", "recipe.phases.1"):
        found |= {f"{phase}.test.resize": test, f"{phase}.test.crop": test, f"{phase}.views": views}
    if max(photos.counts) >= 10 * max(1, min(photos.counts)):
        found["recipe.loss.weights"] = "balanced"
    return found
