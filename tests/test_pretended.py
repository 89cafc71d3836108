"""The CUDA paths on a pretended device: all lies where it should, nothing waits, the bits are the CPU's."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from budgetnet import (
    EMA,
    SGD,
    AdamW,
    BackOff,
    Early,
    EarlyStop,
    FixMatch,
    Group,
    Groups,
    LabelSmoothingLoss,
    Linear,
    Phase,
    Plateau,
    PseudoLabels,
    Ramp,
    Recipe,
    Test,
    Trainer,
    load,
    models,
)
from budgetnet.augment import (
    AlternatingFlip,
    Crop,
    Cutmix,
    Erase,
    Flip,
    Grayscale,
    Jitter,
    Mixup,
    RandAugment,
    Rotate,
    Shift,
    TrivialAugmentWide,
)
from budgetnet.data import Data
from budgetnet.distill import Distill
from budgetnet.run import Run
from tests.pretended import pretended
from tests.test_speed import network, photos

AT_AN_EPOCHS_END = {"finite.<genexpr>", "loop._learned", "measure.evaluation"}
AT_THE_BEGINNING = {
    "splits.to",
    "splits._moved",
    "splits.__post_init__",
    "data.__post_init__",
    "training.prepare",
    "whiten.fit_to",
}
TRIED = ("trial.", "ready.", "viewed.")
ALSO = {
    # It looks at each step before it goes on; and torch's clip asks for the tensors' true device.
    "back off": {"finite._wrong", "step.move"},
    "pseudo-labels": {"measure.answers"},
    # Its weights are told once, before the first step.
    "teacher": {"distill.logits", "tensors._of_one"},
}


def phase(**changes: Any) -> Phase:
    return Phase(**{"epochs": 2, "resolution": 16, "lr": 0.02, **changes})


def recipe(*phases: Phase, **changes: Any) -> Recipe:
    return Recipe(**{"phases": list(phases) or [phase()], "optimizer": SGD(), "batch_size": 16, **changes})


def trained(device: str, made: Recipe, model: Callable[[], nn.Module] = network, **given: Any) -> Run:
    data = given.pop("data", None) or photos(64)
    options = {"out": None, "show": False, "precision": "float32", **given}
    return Trainer(device, **options).fit(model(), data, made)


def unlabelled() -> Data:
    return replace(photos(64), unlabelled=photos(40).train)


def speednet() -> nn.Module:
    torch.manual_seed(0)
    return models.speednet(classes=4)


GROUPS = [
    Group("whiten", SGD(), lr=Early(Linear(0.1), epochs=1)),
    Group("*.norm*", SGD()),
    Group("head", SGD()),
]
CASES: dict[str, dict[str, Any]] = {
    "plain": {"made": recipe()},
    "average": {"made": recipe(average=EMA(0.9), optimizer=AdamW())},
    "views": {
        "made": recipe(
            phase(augment=[Rotate(20, fill=(0.1, 0.2, 0.3)), Crop(), Jitter(0.3, 0.3, 0.3, 0.3), Mixup(0.4)])
        )
    },
    "noise": {
        "made": recipe(
            phase(
                augment=[
                    Jitter(0.3, hue=0.3, exact_hue=True),
                    Erase(0.5, value="noise"),
                    Cutmix(1.0),
                    Grayscale(),
                ]
            )
        )
    },
    "whole numbers": {"made": recipe(phase(augment=[Crop(), RandAugment(), TrivialAugmentWide()]))},
    "looks": {"made": recipe(phase(augment=[AlternatingFlip(), Shift(2)], test=Test(mirror=True, shift=1)))},
    "two sizes": {"made": recipe(phase(resolution=12), phase(resolution=20, trains=["head"]))},
    "ramp": {"made": recipe(phase(resolution=Ramp(12, 20), augment=[Crop()]))},
    "calibration": {"made": recipe(phase(), phase(trains=(), calibrates=["*"], resolution=20))},
    "back off": {"made": recipe(on_nan=BackOff(), clip=1.0)},
    "plateau": {
        "made": recipe(
            phase(lr=Plateau(0.05), stop=EarlyStop(30)),
            loss=LabelSmoothingLoss(0.1),
            keep="best",
            measure=("train", "val"),
        )
    },
    "fixmatch": {
        "made": recipe(phase(pseudo=FixMatch(weak=[Flip()], strong=[Crop(), RandAugment()]))),
        "data": unlabelled(),
    },
    "pseudo-labels": {
        "made": recipe(phase(), phase(pseudo=PseudoLabels(threshold=0.3))),
        "data": unlabelled(),
    },
    "teacher": {"made": recipe(phase(augment=[Flip(), Distill(network())]))},
    "test views": {"made": recipe(phase(test=Test(augment=[Crop()], views=2)))},
    "speednet": {
        "made": recipe(phase(resolution=32), optimizer=Groups(GROUPS, rest=SGD())),
        "model": speednet,
        "data": photos(64, 32),
    },
}
QUICK = ("plain", "views")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_training_there_is_the_training_here_and_no_step_waits(name: str) -> None:
    expected = trained("cpu", **CASES[name])
    with pretended() as waits:
        found = trained("cuda", **CASES[name])
        counted = Counter(waits)
    assert found.record["device"] == "a pretended GPU"
    assert found.model is not None
    assert expected.model is not None
    assert {p.device.type for p in found.model.parameters()} == {"cuda"}
    # Colours are summed in another order there.
    for figure in ("train_loss", "val_loss"):
        theirs = [getattr(epoch, figure) for epoch in expected.history]
        assert [getattr(epoch, figure) for epoch in found.history] == pytest.approx(theirs, rel=1e-5)
    there = found.model.state_dict()
    for key, value in expected.model.state_dict().items():
        assert torch.allclose(there[key].held.double(), value.double(), atol=1e-4), key
    beyond = {place for place in counted if not place.startswith(TRIED)} - AT_AN_EPOCHS_END - AT_THE_BEGINNING
    assert beyond == ALSO.get(name, set())
    for place in AT_AN_EPOCHS_END:
        assert counted[place] <= 4 * len(found.history), place
    if name == "teacher":
        # Once, to bring it there.
        assert counted["distill.logits"] == len(network().state_dict())


def test_half_precision_goes_there_too() -> None:
    with pretended():
        found = trained("cuda", recipe(phase(augment=[Crop()])), precision="auto")
    assert found.record["precision"] == "bfloat16"
    assert found.history[-1].train_loss < 2


def test_fused_views_are_made_there_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    made = recipe(phase(augment=[Rotate(20), Crop(), Jitter(0.3, 0.3, 0.3, 0.3), Flip()]))
    expected = trained("cpu", made)
    with pretended() as waits:
        found = trained("cuda", made, speed="compile")
        beyond = {place for place in waits if not place.startswith(TRIED)}
        assert beyond <= AT_AN_EPOCHS_END | AT_THE_BEGINNING
    assert found.record["speed"]["chosen"] == "compile"
    assert found.history[-1].train_loss == pytest.approx(expected.history[-1].train_loss, rel=1e-4)


def test_graphs_that_cannot_be_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    with pretended():
        found = trained("cuda", recipe(phase(resolution=Ramp(12, 16, multiple=1), epochs=5)), speed="graphs")
    assert found.record["speed"]["chosen"] == "compile"
    assert (
        "speed 'graphs' is 'compile' here: graphs are recorded for up to 4 resolutions, and the recipe has 5"
        in found.record["notes"]
    )


@pytest.mark.slow
def test_a_training_there_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    made = recipe(phase(epochs=4, augment=[Crop()]), average=EMA(0.9), optimizer=AdamW())
    with pretended():
        trainer = Trainer("cuda", out=tmp_path, show=False, precision="float32")
        whole = trainer.fit(network(), photos(64), made, name="whole")
        cut = trainer.fit(network(), photos(64), made, name="cut", max_time=1e-9)
        sessions = 1
        while cut.status == "paused":
            sessions += 1
            cut = trainer.fit(network(), photos(64), made, resume=cut.folder, max_time=0.2)
        assert sessions > 2
        assert whole.model is not None
        assert cut.model is not None
        there = cut.model.state_dict()
        assert all(torch.equal(there[name].held, one.held) for name, one in whole.model.state_dict().items())
    assert load(tmp_path / "cut-1", network).state_dict().keys() == there.keys()


def test_a_trained_model_is_measured_and_asked_there() -> None:
    data, made = photos(64), recipe()
    assert data.val is not None
    model = network()
    trainer = Trainer("cpu", out=None, show=False)
    trainer.fit(model, data, made)
    expected = trainer.evaluate(model, data.val, classes=data.classes)
    asked = trainer.predict(model, data.val.images[:], classes=data.classes)
    with pretended():
        there = Trainer("cuda", out=None, show=False, precision="float32")
        found = there.evaluate(model, data.val, classes=data.classes)
        answered = there.predict(model, data.val.images[:], classes=data.classes)
    assert found == replace(expected, loss=found.loss)
    assert found.loss == pytest.approx(expected.loss)
    assert torch.equal(answered.labels, asked.labels)
    assert answered.labels.device.type == "cpu"


def test_what_mixes_devices_is_refused_and_what_waits_is_counted() -> None:
    with pretended() as waits:
        there = torch.arange(4, device="cuda")
        assert (there.device.type, there.is_cuda, (there * 2).device.index) == ("cuda", True, 0)
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.arange(4)
        assert not waits
        reads: list[Callable[[], object]] = [
            there.tolist,
            lambda: int(there.sum()),
            lambda: there[there > 1],
            there.cpu,
            lambda: torch.arange(4).to("cuda"),
            lambda: there.new_tensor(1.0),
            lambda: torch.zeros(4).copy_(there),
        ]
        for number, read in enumerate(reads, start=1):
            read()
            assert waits.total() == number
        torch.arange(4).to("cuda", non_blocking=True)
        assert waits.total() == len(reads)
