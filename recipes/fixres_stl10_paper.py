"""FixRes as its paper fixes it: only the classifier and the last batch norm's statistics, on the test's view.

    budgetnet run fixres_stl10_paper --data DIR

The network, data and first phase of `fixres_stl10`. There the second phase retrains everything, as the
project behind it did; here it is that of https://arxiv.org/abs/1906.06423: all weights stay but the
classifier's (3,850 of 1,996,986), of the norms only the last moves its statistics, the views are those of the
test (shorter side to 256/224 of the resolution, then the centre), and SGD learns for 56 epochs at a rate
divided by ten every 30. A third way trains nothing and measures all batch-norm statistics anew at 120 pixels,
in one epoch:

    fix = Phase(epochs=1, resolution=120, trains=(), calibrates=["*"], augment=[CenterCrop()])

`benchmarks/fixres.py` compares the three, from one first phase. At 0.07 % of their length (n = 1, CPU) none
of the three was better than simply testing at 120 pixels; docs/log.md has the table. It has not been run at
full length yet.
"""

from dataclasses import replace

import fixres_stl10
from fixres_stl10 import data as data
from fixres_stl10 import model as model

from budgetnet import SGD, CenterCrop, Phase, Step, Test

fix = Phase(
    name="fix",
    epochs=56,
    resolution=120,
    lr=Step(1e-3, every=30),
    batch_size=64,
    optimizer=SGD(momentum=0.9, nesterov=False, weight_decay=1e-4),
    trains=["head"],
    calibrates=["stages.2.7.branch.expand.norm"],
    augment=[CenterCrop(224 / 256)],
    test=Test(resize=137, crop=120),
)

recipe = replace(fixres_stl10.recipe, phases=[fixres_stl10.learn, fix])
