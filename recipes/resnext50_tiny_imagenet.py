"""ResNeXt-50 on Tiny-ImageNet in sessions of limited length: warm restarts, TrivialAugment, random erasing.

    until budgetnet run resnext50_tiny_imagenet --data DIR --resume --max-time 11h30m; do :; done

A student's study (seed 004) trained ResNeXt-50 32x4d at 224 pixels on a service that ends sessions after
twelve hours, with torchvision's newer recipe: a warm-up of five epochs in each cycle of a cosine from 0.5 to
0, TrivialAugmentWide, random erasing 0.1, label smoothing 0.1, no weight decay on biases and norms, and a
test that resizes to 232 and crops 224. Three chained sessions reached 64, 67 and 67.46 % (test: 65.32 %);
each began its schedule anew, at a rate that first cost what had been learnt. Here a session's end changes
nothing: the next one goes on with the schedule exactly, in the same run and history. To begin a new schedule
from the weights instead: --after RUN, which says so where the rate rises far. Reference:
https://arxiv.org/abs/1611.05431; https://arxiv.org/abs/2103.10158;
https://github.com/pytorch/vision/issues/3995.

Reached here on 20 of the classes at 64 pixels, tested at 64 of 66, in six epochs of a single cycle: 29.00 %
of their 1,000 official validation images, where chance is 5 % (--scale 0.03 and the other settings in
docs/log.md; n = 1; 19 min 19 s on one core of an Intel Xeon with AMX, bf16; torch 2.14.1). It was cut in the
middle of its third and of its sixth epoch and chained over three sessions: after the epochs it stood at 15.9,
19.6, 23.3, 26.9, 30.1 and 29.0 %. It has not been run at full length.
"""

from torch import nn

from budgetnet import (
    SGD,
    Budget,
    Crop,
    Data,
    Erase,
    Flip,
    LabelSmoothingLoss,
    Phase,
    Recipe,
    Restarts,
    Test,
    TrivialAugmentWide,
    models,
    tiny_imagenet,
)


def model(classes: int = 200) -> nn.Module:
    return Budget(params="25M").build(models.resnext50, classes=classes)


def data() -> Data:
    return tiny_imagenet()


learn = Phase(
    epochs=204,
    resolution=224,
    lr=Restarts(0.5, first=68, grow=1, decay=0.3, warmup=5),
    augment=[Crop(scale=(0.08, 1.0)), Flip(), TrivialAugmentWide(), Erase(0.1)],
    test=Test(resize=232, crop=224),
)

recipe = Recipe(
    phases=[learn],
    optimizer=SGD(momentum=0.9, nesterov=False, weight_decay=2e-5, decay_norms=False),
    loss=LabelSmoothingLoss(0.1),
    batch_size=128,
)
