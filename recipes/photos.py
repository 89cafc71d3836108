"""Photos of your own, from scratch and without a GPU: a folder with a subfolder for each class.

    budgetnet run recipes/photos.py --data DIR --set model.classes=10 --scale 0.1 --precision bf16

DIR/photos holds a folder for each class (docs/data.md says what else it may look like; `--set data.root=DIR`
names another one). A fifth of the photos is held out where there is no folder val. The network and the views
are `stl10_afternoon`'s, in one phase: crops that grow from 32 to 64 pixels while they are learnt
(https://arxiv.org/abs/2104.00298), TrivialAugment, cutmix, an average of the weights, and a test at 80
pixels. A core of a CPU learns from 100 to 300 such photos a second, so that ten minutes are 60,000 to 180,000
views, and the 160 passes of this recipe are `--scale 1` for some 600 photos, 0.15 for 4,000.

Not measured at length yet; `benchmarks/peers.py` compares ten minutes of it with other libraries'.
"""

from dataclasses import replace
from pathlib import Path

from stl10_afternoon import learn
from stl10_afternoon import recipe as afternoon
from torch import nn

from budgetnet import Budget, Cosine, Data, Warmup, folder, layers, models


def model(classes: int = 10) -> nn.Module:
    return Budget(params="2M").build(
        models.resnet,
        classes=classes,
        widths=(40, 80, 160, 240),
        blocks=(2, 2, 2, 1),
        block=layers.basic,
        act=layers.relu,
        stem=40,
        stem_kernel=5,
        stem_stride=2,
        stem_pool=False,
    )


def data(root: str | Path = "photos", size: int = 96) -> Data:
    return folder(root, size=size)


recipe = replace(afternoon, phases=[replace(learn, name="", epochs=40, lr=Warmup(Cosine(0.1), epochs=1))])
