"""An engineer: a recipe for photos, a budget in bytes, and an eight-bit file with all that goes with it."""

import csv
import json
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image
from walk import PLACES, command, has, photos

from budgetnet import Trainer, read_export

BYTES = 40_000
RECIPE = f'''"""Three places in {BYTES:,} bytes."""

from torch import nn

from budgetnet import Budget, Cosine, Data, Flip, Phase, Recipe, folder, models

BUDGET = Budget(bytes={BYTES}, stored="int8", ram="200KB", resolution=32)


def model() -> nn.Module:
    knobs = {{"widths": [(width, 2 * width, 4 * width) for width in range(4, 33)]}}
    return BUDGET.spend(models.convnet, knobs=knobs, classes=3).build()


def data() -> Data:
    return folder("photos", size=32)


recipe = Recipe([Phase(epochs=12, resolution=32, lr=Cosine(0.05), augment=[Flip()])], batch_size=16)
'''

photos("photos", 40)
photos("unseen", 4, seed=5)
Path("places.py").write_text(RECIPE)

command("count", "places.py", "--resolution", "32")
command("run", "places.py", "--quiet")
command("export", "runs/places-1", "places.py", "--int8", "--bytes", "4KB", "--tolerate", "10", code=2)
assert not Path("runs/places-1/model.onnx").exists(), "a file over its budget is not written"
command("export", "runs/places-1", "places.py", "--int8", "--bytes", BYTES, "--tolerate", "10")

# The file, and what says how a photo becomes its input.
file = Path("runs/places-1/model.onnx")
assert file.stat().st_size <= BYTES, file.stat().st_size
has("runs/places-1/preprocess.md", "32")
steps = json.loads(has("runs/places-1/preprocess.json"))
assert steps["input"]["shape"][1:] == [3, 32, 32], steps["input"]
has("runs/places-1/card.md", *PLACES, "## Figures")

# It is run as others would run it, and by budgetnet, which give the same.
command("predict", file, "unseen", "--format", "csv", "--out", "eight.csv")
command("predict", "runs/places-1", "unseen", "--format", "csv", "--out", "floats.csv")
eight, floats = (list(csv.reader(has(name).splitlines())) for name in ("eight.csv", "floats.csv"))
assert len(eight) == len(floats) == 1 + 12
assert sum(a[:2] == b[:2] for a, b in zip(eight[1:], floats[1:])) >= 10
session = InferenceSession(file)
(given,) = session.get_inputs()
photo = np.asarray(Image.open("unseen/beach/000.jpg").convert("RGB").resize((32, 32)), np.float32)
(logits,) = session.run(None, {given.name: photo.transpose(2, 0, 1)[None] / 255})
assert logits.shape == (1, 3)
said = Trainer(show=False, out=None).predict(read_export(file), ["unseen/beach/000.jpg"])
assert said.named()[0] in PLACES
