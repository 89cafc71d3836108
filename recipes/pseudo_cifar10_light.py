"""Pseudo-labels on CIFAR-10 for a CPU: 4,500 labels from scratch, then 45,500 images labelled by itself.

    budgetnet run recipes/pseudo_cifar10_light.py --data DIR --precision bf16

`pseudo_cifar10` with `stl10_afternoon`'s network of under two million parameters in place of EfficientNet,
and its views: crops that grow from 32 to 48 pixels, TrivialAugment (https://arxiv.org/abs/2103.10158) and
cutmix (https://arxiv.org/abs/1905.04899), an average of the weights, a test above
the training's size. 500 images stay untouched to validate on; the test images are measured once, at the end.
Reference: Lee, "Pseudo-Label", 2013. Not run at full length yet: no accuracy is claimed of it. The project's
figure is 84.77 %, with external weights and 10.7 million parameters.
"""

from dataclasses import replace

from stl10_afternoon import model as model

from budgetnet import (
    EMA,
    SGD,
    Cosine,
    Crop,
    Cutmix,
    Data,
    Flip,
    Phase,
    PseudoLabels,
    Ramp,
    Recipe,
    Test,
    TrivialAugmentWide,
    Warmup,
    cifar10,
)


def data(per_class: int = 450, held_out: int = 500) -> Data:
    return cifar10(per_class=per_class, held_out=held_out, unlabelled=True)


test = Test(resize=48, crop=48)
views = (Crop(scale=(0.4, 1.0)), Flip(), TrivialAugmentWide(), Cutmix(1.0, p=0.5))

labels = Phase(
    name="labels",
    epochs=30,
    views=4,
    resolution=Ramp(32, 48),
    lr=Warmup(Cosine(0.1, final=0.001), epochs=1),
    augment=views,
    test=test,
)
first = Phase(
    name="round 1",
    epochs=8,
    resolution=Ramp(32, 48),
    lr=Warmup(Cosine(0.05, final=0.001), epochs=0.5),
    augment=views,
    pseudo=PseudoLabels(threshold=0.8),
    test=test,
)
second = replace(first, name="round 2", epochs=16, lr=Warmup(Cosine(0.05, final=0.0), epochs=0.5))

recipe = Recipe(
    phases=[labels, first, second],
    optimizer=SGD(weight_decay=5e-4),
    batch_size=64,
    average=EMA(0.998),
    keep="averaged",
)
