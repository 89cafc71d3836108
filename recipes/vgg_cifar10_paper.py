"""VGG as its paper trains it: a shallow network first, a deeper one begun from it, three divisions by ten.

    budgetnet run vgg_cifar10_paper --data DIR --set model.configuration=A
    budgetnet run vgg_cifar10_paper --data DIR --set model.begun_from=runs/vgg_cifar10_paper-1

The procedure of https://arxiv.org/abs/1409.1556: SGD with momentum 0.9, batches of 256, weight decay 5e-4,
dropout of one half, a learning rate of 0.01 divided by ten three times, whenever the validation accuracy
stops improving; configuration A from random weights, and D with its first four convolutions and its three
linear layers taken from A. Random weights have a standard deviation fit for their layer
(https://arxiv.org/abs/1502.01852) instead of the paper's fixed 0.1 (a variance of 0.01), as the paper itself
later suggests. Tested at a resolution above that of the training, the linear layers become convolutions and
the map of scores is averaged:

    budgetnet evaluate runs/vgg_cifar10_paper-2 vgg_cifar10_paper --resolutions 64:96:32

Reached here: configuration A, 29.10 % of 1,000 validation images after one epoch of 10,848 views at 32 pixels
in batches of 32 (--scale 0.003, n = 1, one CPU thread, 7 minutes, torch 2.15.0). The deeper network was begun
from it in the tests only; none has been run at length here yet.
"""

from torch import nn

import budgetnet
from budgetnet import SGD, Budget, Crop, Data, Flip, Phase, Plateau, Recipe, cifar10, models


def model(configuration: str = "D", begun_from: str = "", resolution: int = 64) -> nn.Module:
    built = Budget(params="45M").build(
        models.vgg, classes=10, configuration=configuration, resolution=resolution
    )
    if begun_from:
        first_four = ["stages.0.0", "stages.1.0", "stages.2.0", "stages.2.1"]
        models.inherit(built, budgetnet.load(begun_from), [*first_four, "head"])
    return built


def data(held_out: int = 5000) -> Data:
    return cifar10(held_out=held_out)


learn = Phase(
    epochs=74,
    resolution=64,
    lr=Plateau(1e-2, factor=0.1, patience=5, monitor="val_accuracy", minimum=1e-5),
    augment=[Crop(scale=(0.5, 1.0)), Flip()],
)

recipe = Recipe(
    phases=[learn],
    optimizer=SGD(momentum=0.9, nesterov=False, weight_decay=5e-4),
    batch_size=256,
    keep="best",
)
