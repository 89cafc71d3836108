"""A competitor: labels in a table, folds, an ensemble, and a submission like the sample."""

import csv
from pathlib import Path

import numpy as np
from walk import PLACES, command, photo

from budgetnet import read_plan

RECIPE = '''"""Places, from a table of labels."""

from torch import nn

from budgetnet import Budget, Cosine, Crop, Data, Flip, Phase, Recipe, models, table


def model() -> nn.Module:
    return Budget(params="50k").build(models.convnet, classes=3, widths=(8, 16, 32))


def data() -> Data:
    return table("train.csv", images="train", name="image_id", label="place", size=32)


learn = Phase(epochs=12, resolution=24, lr=Cosine(0.05), augment=[Crop(scale=(0.5, 1.0)), Flip()])
recipe = Recipe([learn], batch_size=16)
'''

# What a competition gives out: a table, two folders, and a sample with a column for each class.
draw, names = np.random.default_rng(1), sorted(PLACES)
for part, count in (("train", 90), ("test", 12)):
    Path(part).mkdir()
    rows = []
    for number in range(count):
        place = names[number % 3]
        photo(place, draw).save(f"{part}/{part}_{number:03}.jpg")
        rows.append((f"{part}_{number:03}", place))
    Path(f"{part}.csv").write_text("image_id,place\n" + "".join(f"{a},{b}\n" for a, b in rows))
truth = dict(rows)
Path("test.csv").unlink()
Path("train/Thumbs.db").write_bytes(b"\0")
order = [str(name) for name in draw.permutation(list(truth))]
head = ["image_id", "meadow", "beach", "forest"]
lines = [",".join(head), *(f"{name},0.3333,0.3333,0.3334" for name in order)]
Path("sample_submission.csv").write_text("\n".join(lines) + "\n")
Path("mine.py").write_text(RECIPE)

command("check", "train.csv", "--images", "train", "--name", "image_id", "--label", "place")
command("run", "mine.py", "--folds", "3", "--quiet", "--together", "1")
command("compare", "runs/mine-1", "runs/mine-2", "runs/mine-3", "--ci")

# Out of fold: every training image, called by a network that had not seen it.
with open("runs/mine-1-out-of-fold.csv", newline="") as file:
    found = list(csv.DictReader(file))
assert len(found) == 90, found[:3]
assert len(read_plan("mine.py").data().classes) == 3

others = ["--with", "runs/mine-2", "--with", "runs/mine-3", "--mirror"]
like = ["--like", "sample_submission.csv", "--out", "submission.csv"]
command("predict", "runs/mine-1", "test", *others, *like)
command("predict", "runs/mine-1", "test", *like, code=2)  # nothing is overwritten without --force

# The submission: the sample's columns, Ids and order, and probabilities in them.
with open("submission.csv", newline="") as file:
    rows = list(csv.DictReader(file))
assert list(rows[0]) == head
assert [row["image_id"] for row in rows] == order
for row in rows:
    assert abs(sum(float(row[name]) for name in names) - 1) < 1e-3, row
right = sum(max(names, key=lambda name: float(row[name])) == truth[row["image_id"]] for row in rows)
assert right >= 8, f"{right} of 12"

# A photo that nobody can read: named, its row as the sample has it, and the exit code says so.
Path("test/test_003.jpg").write_bytes(b"\xff\xd8\xff")
command("predict", "runs/mine-1", "test", *like, "--force", code=2)
command("predict", "runs/mine-1", "test", *like, "--force", "--skip-unreadable", code=3)
assert "test_003,0.3333,0.3333,0.3334" in Path("submission.csv").read_text()
