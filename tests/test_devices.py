"""What docs/devices.md shows in JavaScript makes of a photo what predict makes of it, where there is node."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from budgetnet.augment import test_view as seen_in_a_test
from budgetnet.exporting.preprocess import preprocess
from budgetnet.modelfile import Card
from budgetnet.trainer import gather

PAGE = Path(__file__).parents[1] / "docs" / "devices.md"
CARDS = [
    (Card(stored=(32, 32), resize=24, crop=20), (24, 20)),
    (Card(stored=(20, 30), resize=24, crop=24, shape="squash"), (24, 24)),
    (Card(resize=28, crop=28, channels=1), (28, 28)),
]
ASK = """import { preprocess } from "./preprocess.mjs";
import { readFileSync } from "node:fs";
const asked = JSON.parse(readFileSync("asked.json"));
console.log(JSON.stringify(asked.map(({ image, steps }) => Array.from(preprocess(image, steps)))));
"""


def test_the_pages_javascript_gives_the_tensors_that_predict_gives(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed here")
    script = re.search(r"```js preprocess.js\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert script is not None
    (tmp_path / "preprocess.mjs").write_text(script[1])
    (tmp_path / "ask.mjs").write_text(ASK)
    drawn, asked, ours = np.random.default_rng(0), [], []
    for known, sides in CARDS:
        for high, wide in [(50, 75), (120, 41)]:
            image = drawn.integers(0, 256, (high, wide, 4), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "a.png")
            batch = next(gather(str(tmp_path / "a.png"), known, batch_size=1).batches)
            ours.append(seen_in_a_test(batch, resize=sides[0], crop=sides[1]).flatten().numpy())
            pixels = {"data": image.ravel().tolist(), "width": wide, "height": high}
            asked.append({"image": pixels, "steps": preprocess(nn.Identity(), known, sides)})
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    done = subprocess.run([node, "ask.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    for theirs, one in zip(json.loads(done.stdout), ours, strict=True):
        assert np.abs(np.array(theirs) - one).max() < 2e-6
