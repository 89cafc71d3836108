"""Images of other channels than a photo's: trained on, predicted, exported; and which steps refuse them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from budgetnet import (
    Crop,
    Data,
    Erase,
    Flip,
    Grayscale,
    Jitter,
    Mixup,
    Phase,
    RandAugment,
    Recipe,
    Rotate,
    Run,
    Trainer,
    TrivialAugmentWide,
    arrays,
    export,
    load,
)
from budgetnet.augment import view
from budgetnet.models import convnet

RNG = np.random.default_rng(0)
BANDS = RNG.integers(256, size=(48, 12, 12, 5), dtype=np.uint8)
BANDS[24:] //= 3
LABELS = ["light"] * 24 + ["dark"] * 24


@pytest.fixture(scope="module")
def data() -> Data:
    return arrays(BANDS, LABELS, channels=5, held_out=8)


@pytest.fixture(scope="module")
def run(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    augment = [Flip(), Rotate(20), Crop(), Erase(), Mixup(0.2)]
    recipe = Recipe([Phase(2, 12, 0.1, augment=augment), Phase(1, 10, 0.1)], batch_size=16)
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("bands") / "runs"
    return Trainer("cpu", out=out, show=False).fit(convnet(2, channels=5, widths=(4,)), data, recipe)


def test_channels_are_stated_where_they_are_neither_one_nor_three() -> None:
    last = arrays(BANDS, LABELS, channels=5).train.images
    first = arrays(BANDS.transpose(0, 3, 1, 2), LABELS, channels=5).train.images
    assert torch.equal(last, first)
    assert len(arrays(BANDS, LABELS, channels=5).train.mean_std()[0]) == 5
    with pytest.raises(ValueError, match="channels should be a whole number"):
        arrays(BANDS, LABELS, channels=0)
    with pytest.raises(ValueError, match=r"with 4 channels, but found .*: drop the other channels"):
        arrays(BANDS, LABELS, channels=4)


@pytest.mark.parametrize(
    "step", [Jitter(0.1), Jitter(hue=0.1, exact_hue=True), Grayscale(), RandAugment(), TrivialAugmentWide()]
)
def test_a_step_that_knows_red_green_and_blue_refuses_them_before_the_training(step: Any, data: Data) -> None:
    recipe = Recipe([Phase(1, 12, 0.1, augment=[step])])
    said = r"recolours grey or RGB images, and these have 5 channels: leave it out"
    with pytest.raises(ValueError, match=said):
        Trainer("cpu", out=None, show=False).fit(convnet(2, channels=5, widths=(4,)), data, recipe)
    images, labels = data.train[:4]
    with pytest.raises(ValueError, match=said):
        view(images, labels, [step], resolution=12, classes=2, generator=torch.Generator())


def test_a_model_keeps_its_channels_and_predicts_from_arrays_and_their_files(
    run: Run, tmp_path: Path
) -> None:
    model = load(run.folder)
    trainer = Trainer("cpu", show=False)
    expected = trainer.predict(model, BANDS).probabilities
    assert torch.equal(trainer.predict(model, BANDS.transpose(0, 3, 1, 2)).probabilities, expected)
    assert torch.allclose(trainer.predict(model, BANDS[3]).probabilities, expected[3:4], atol=1e-5)
    np.save(tmp_path / "bands.npy", BANDS)
    assert torch.equal(trainer.predict(model, tmp_path / "bands.npy").probabilities, expected)
    Image.fromarray(BANDS[0, ..., :3]).save(tmp_path / "photo.png")
    with pytest.raises(
        ValueError, match="takes images of 5 channels, which photos have not: give an array, or"
    ):
        trainer.predict(model, tmp_path / "photo.png")
    (tmp_path / "broken.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"broken\.npy cannot be read as an array"):
        trainer.predict(model, tmp_path / "broken.npy")
    with pytest.raises(ValueError, match=r"there is no file .*gone\.npy"):
        trainer.predict(model, tmp_path / "gone.npy")


@pytest.mark.slow
def test_an_export_says_how_its_input_comes_of_an_array(run: Run, data: Data, tmp_path: Path) -> None:
    export(run.folder, "pt2", out=tmp_path / "bands.pt2", data=data)
    page = (tmp_path / "preprocess.md").read_text()
    assert "Take the image as bytes, 5 channels" in page
    assert "Decode the photo" not in page
