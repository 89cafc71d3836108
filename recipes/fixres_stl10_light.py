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

from fixres_stl10 import data as data
from fixres_stl10 import recipe as recipe
from torch import nn

from budgetnet import Budget, layers, models


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
