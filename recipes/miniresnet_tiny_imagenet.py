"""A small residual network of six blocks on Tiny-ImageNet at 64 pixels, with a cyclic learning rate.

    budgetnet run miniresnet_tiny_imagenet --data DIR

A student's study (seed 004): 200 classes, 64 pixels, SGD, and a triangular learning rate from 1e-4 to 0.1 in
five epochs and back, half as high after every cycle, was its best at that size, 48.97 % after 21 epochs; at
224 pixels the same network reached 55 %. torch's CyclicLR counts batches or epochs, as it is called, and
writes the momentum too; here the five are epochs, and the momentum stays 0.9. The head fits whatever the
resolution is: 1,024 features at 64 pixels (24,604,584 parameters), 9,216 at 224. Reference:
https://arxiv.org/abs/1506.01186. Reached here on 20 of the classes (--scale 0.03, 5,952 views in batches of
64, a peak of 0.02, n = 1, one CPU thread, 6 minutes, torch 2.15.0): 28.10 % of 1,000 images. With the peak of
0.1 and batches of 32 so short a training stayed at chance. It has not been run at full length yet.
"""

from torch import nn

from budgetnet import SGD, Budget, Data, Flip, Phase, Recipe, Rotate, Triangular, models, tiny_imagenet


def model(classes: int = 200, resolution: int = 64, dropout: float = 0.0) -> nn.Module:
    return Budget(params="60M").build(
        models.mini_resnet, classes=classes, resolution=resolution, dropout=dropout
    )


def data() -> Data:
    return tiny_imagenet()


learn = Phase(
    epochs=20,
    resolution=64,
    lr=Triangular(1e-4, 0.1, up=5, mode="triangular2"),
    augment=[Rotate(10), Flip()],
)

recipe = Recipe(
    phases=[learn], optimizer=SGD(momentum=0.9, nesterov=False, weight_decay=0.0), batch_size=128, keep="best"
)
