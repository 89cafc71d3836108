"""Photos of your own, from scratch and without a GPU: a folder with a subfolder for each class.

    budgetnet run recipes/photos.py --data DIR --set model.classes=10 --within 10m

DIR holds a folder for each class (docs/data.md says what else it may look like). A fifth of the photos is
held out where there is no folder val. The network and the views are `stl10_afternoon`'s, in one phase: crops
that grow from 32 to 64 pixels while they are learnt (https://arxiv.org/abs/2104.00298), TrivialAugment,
cutmix, an average of the weights, and a test at 80 pixels. Its 600 passes over the photos are more than most
have time for: `--within` makes them as many as end in the time. A core of a CPU learns from 100 to 300 such
photos a second, of which the upper end takes `--precision bf16` and a processor that has it.

Not measured at length yet; `benchmarks/peers.py` compares ten minutes of it with other libraries'.
"""

from dataclasses import replace
from pathlib import Path

from stl10_afternoon import learn
from stl10_afternoon import model as model
from stl10_afternoon import recipe as afternoon

from budgetnet import Cosine, Data, Warmup, folder


def data(root: str | Path | None = None, size: int = 96) -> Data:
    return folder(root, size=size)


recipe = replace(afternoon, phases=[replace(learn, name="", epochs=150, lr=Warmup(Cosine(0.1), epochs=1))])
