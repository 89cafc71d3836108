"""FixRes on STL-10 with the same budget spent on less memory traffic: basic blocks behind a stem of stride 2.

    budgetnet run recipes/fixres_stl10_light.py --data DIR

The phases, schedule and views of `fixres_stl10`, and another network of under two million parameters. That
one's bottlenecks write 27.4 MB of activations for an image at 70 pixels, which is what its steps spend their
time on; this one, with basic blocks at 33 pixels and below, writes 4.4 MB, with 230 million
multiply-accumulates in place of 371 million. References: https://arxiv.org/abs/1512.03385 (the blocks),
https://arxiv.org/abs/1906.06423 (FixRes).

Reached here, with --precision bf16 --set recipe.batch_size=32 on the original's split (n = 1 each, one thread
of a CPU, torch 2.15.0): 39.50 % with --scale 0.0023, in 21 minutes, where `fixres_stl10` reached 34.20 % with
--scale 0.001, in 25 minutes. On as many views, --scale 0.001, it reached 33.10 %, in 9 minutes. Neither has
been run at full length, where more views may no longer be what counts.
"""

from torch import nn

from budgetnet import (
    Adam,
    Budget,
    Crop,
    Data,
    Flip,
    Jitter,
    Phase,
    Recipe,
    Restarts,
    Rotate,
    layers,
    models,
    stl10,
)


def model() -> nn.Module:
    return Budget(params="2M").build(
        models.resnet,
        classes=10,
        widths=(40, 80, 160, 240),
        blocks=(2, 2, 2, 1),
        block=layers.basic,
        act=layers.relu,
        stem=40,
        stem_kernel=5,
        stem_stride=2,
        stem_pool=False,
    )


def data(held_out: int | str = 1000) -> Data:
    return stl10(held_out=held_out)


views = (
    Rotate(45),
    Crop(scale=(0.08, 1.0)),
    Jitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.3),
    Flip(),
    Flip(vertical=True),
)

learn = Phase(
    name="learn",
    epochs=300,
    views=20,
    resolution=70,
    lr=Restarts(1e-3, first=10, grow=2, decay=0.6),
    augment=views,
)
fix = Phase(
    name="fix",
    epochs=140,
    views=20,
    resolution=120,
    lr=Restarts(5e-4, first=10, grow=2, decay=0.6),
    batch_size=64,
    augment=views,
)

recipe = Recipe(phases=[learn, fix], optimizer=Adam(weight_decay=1e-4), batch_size=128)
