"""On a CUDA GPU trainings are those of the CPU within rounding, at each speed, whole or in parts."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from budgetnet import EMA, SGD, AdamW, Group, Groups, Muon, Quantised, Trainer, load, models
from budgetnet.augment import Crop, Flip, Jitter, Rotate, TrivialAugmentWide
from budgetnet.engine.speed import Speed
from budgetnet.run import Run
from tests.test_pretended import CASES, phase, recipe, trained
from tests.test_speed import network, photos

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = "cuda"


@pytest.fixture(autouse=True)
def float32_as_a_cpu_has_it() -> Iterator[None]:
    """Convolutions in float32: TensorFloat-32 keeps three digits."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield


def same(found: Run, expected: Run, within: float = 2e-3) -> None:
    """Losses, epoch by epoch, and what the models hold in the end agree within rounding that has grown."""
    for figure in ("train_loss", "val_loss"):
        theirs = [getattr(epoch, figure) for epoch in expected.history]
        assert [getattr(epoch, figure) for epoch in found.history] == pytest.approx(theirs, rel=within)
    there, here = held(found), held(expected)
    assert there.keys() == here.keys()
    for name, value in here.items():
        torch.testing.assert_close(there[name], value, atol=within, rtol=0.01, msg=name)


def held(run: Run) -> dict[str, Tensor]:
    assert run.model is not None
    return {name: value.cpu().double() for name, value in run.model.state_dict().items()}


@pytest.mark.parametrize("name", CASES)
def test_a_training_there_is_the_training_here(name: str) -> None:
    found = trained(GPU, **CASES[name])
    assert found.record["device"].startswith(GPU)
    same(found, trained("cpu", **CASES[name]))


def residual() -> nn.Module:
    torch.manual_seed(0)
    return models.resnet(classes=4, widths=(8, 16), blocks=(1, 2), stem=8, stem_kernel=3, stem_pool=False)


VIEWS = [Rotate(20), Crop(), Jitter(0.3, 0.3, 0.3, 0.3), Flip()]


MATRICES = Groups([Group("*norm*", SGD()), Group("head*", SGD())], rest=Muon())


@pytest.mark.parametrize(
    ("speed", "optimizer"),
    [("compile", SGD()), ("graphs", AdamW()), ("graphs", MATRICES)],
    ids=["compile", "graphs", "graphs and muon"],
)
def test_each_speed_learns_what_eager_steps_learn(speed: Speed, optimizer: Any) -> None:
    made = recipe(
        phase(epochs=3, augment=VIEWS),
        phase(epochs=3, resolution=24, lr=0.005, augment=VIEWS),
        optimizer=optimizer,
        average=EMA(0.9),
        keep="averaged",
        clip=1.0,
    )
    eager = trained(GPU, made, residual, speed="eager")
    quick = trained(GPU, made, residual, speed=speed)
    assert quick.record["speed"]["chosen"] == speed
    assert not [note for note in quick.record["notes"] if "could not be compiled" in note]
    same(quick, eager, within=0.01)


@pytest.mark.parametrize("speed", ["eager", "graphs"])
def test_the_last_epochs_know_what_they_were_shown(speed: Speed) -> None:
    made = recipe(phase(epochs=30, lr=0.1), optimizer=SGD())
    found = trained(GPU, made, residual, speed=speed, precision="auto")
    assert found.record["precision"] == "bfloat16"
    assert found.history[-1].train_accuracy > 0.9


@pytest.mark.parametrize("speed", ["eager", "graphs"])
def test_a_training_goes_on_there_from_where_it_was(speed: Speed, tmp_path: Path) -> None:
    made = recipe(
        phase(epochs=4, augment=[Crop(), TrivialAugmentWide()]), average=EMA(0.9), optimizer=AdamW()
    )
    trainer = Trainer(GPU, speed=speed, out=tmp_path, show=False, precision="float32")
    whole = trainer.fit(network(), photos(64), made, name="whole")
    cut = trainer.fit(network(), photos(64), made, name="cut", max_time=1e-9)
    assert cut.status == "paused"
    cut = trainer.fit(network(), photos(64), made, resume=cut.folder)
    same(cut, whole)
    assert load(tmp_path / "cut-1", network).state_dict().keys() == held(whole).keys()


def test_weights_of_few_bits_are_the_same_numbers_there() -> None:
    torch.manual_seed(0)
    model = Quantised(models.convnet, bits=8)(classes=4, widths=(8, 16)).eval()
    images = torch.rand(8, 3, 16, 16)
    with torch.no_grad():
        here, there = model(images), model.to(GPU)(images.to(GPU)).cpu()
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)


def test_a_trained_model_is_measured_and_asked_there() -> None:
    data, model = photos(64), network()
    assert data.val is not None
    here = Trainer("cpu", out=None, show=False)
    here.fit(model, data, recipe())
    expected = here.evaluate(model, data.val, classes=data.classes)
    asked = here.predict(model, data.val.images[:], classes=data.classes)
    there = Trainer(GPU, out=None, show=False, precision="float32")
    found = there.evaluate(model, data.val, classes=data.classes)
    answered = there.predict(model, data.val.images[:], classes=data.classes)
    assert found == replace(expected, loss=found.loss)
    assert found.loss == pytest.approx(expected.loss, rel=1e-3)
    assert torch.equal(answered.labels, asked.labels)
