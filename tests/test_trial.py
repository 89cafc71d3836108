"""The trial: what only a training step meets is refused or noted before the first, and leaves no trace."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import coloured
from torch import Tensor, nn
from torchvision.transforms import v2

from budgetnet import (
    SGD,
    Cutmix,
    Data,
    Distill,
    EarlyStop,
    FixMatch,
    Group,
    Groups,
    Mixup,
    Phase,
    PseudoLabels,
    Ramp,
    Recipe,
    Trainer,
    models,
)


def phase(**changes: Any) -> Phase:
    return Phase(**{"epochs": 1, "resolution": 12, "lr": 0.05, **changes})


def recipe(*phases: Phase, **changes: Any) -> Recipe:
    return Recipe(phases or [phase()], **{"batch_size": 32, **changes})


def network() -> nn.Module:
    return models.convnet(3, widths=(8, 16))


def check(model: nn.Module, made: Recipe, data: Data | None = None) -> list[str]:
    return Trainer("cpu", out=None, show=False).check(model, data or coloured(), made)


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    sure = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    return (-((1 - sure.exp()) ** 2) * sure).mean()


class Ends(nn.Module):
    """A network whose logits something is done with."""

    def __init__(self, ending: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head, self.ending = nn.Linear(8, 3), ending

    def forward(self, images: Tensor) -> Any:
        logits = self.head(self.body(images))
        return self.ending(logits) if self.training else logits


@pytest.mark.parametrize("step", [Mixup(0.2), Cutmix(1.0), v2.MixUp(num_classes=3)])
def test_a_loss_and_views_of_the_second_phase_that_do_not_go_together_are_refused(
    step: Any, tmp_path: Path
) -> None:
    made = recipe(phase(), phase(augment=[step], name="mixed"), loss=focal)
    words = (
        r"^phase 2 \(mixed\): the loss focal fails on logits \(32, 3\) and the probability labels \(32, 3\)"
    )
    with pytest.raises(ValueError, match=words):
        check(network(), made)
    with pytest.raises(ValueError, match=words):
        Trainer("cpu", out=tmp_path, show=False).fit(network(), coloured(), made)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (lambda logits: (logits, logits), "not a tuple of 2"),
        (lambda logits: {"out": logits, "aux": logits}, "not a dict of out, aux; build it with aux_logits"),
        (lambda logits: logits[:, :2], r"not float32 \(32, 2\)"),
        (lambda logits: logits[:1], r"not float32 \(1, 3\)"),
        (lambda logits: logits.argmax(1), r"not int64 \(32,\)"),
        (lambda logits: None, "not a NoneType"),
    ],
)
def test_what_a_model_gives_in_training_mode_alone_is_looked_at(ending: Any, words: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^phase 1: the model should give one tensor .* training .*{words}"
    ):
        check(Ends(ending), recipe())


def test_googlenets_auxiliary_logits_are_refused_with_the_way_out() -> None:
    model = torchvision.models.googlenet(num_classes=3, init_weights=False)
    with pytest.raises(
        ValueError, match=r"^phase 1: .* not a GoogLeNetOutputs .* build it with aux_logits=False"
    ):
        check(model, recipe(phase(resolution=32)), coloured(8, val=4, side=32))


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (
            lambda logits, labels: F.cross_entropy(logits, labels, reduction="none"),
            r"one number.* not \(32,\)",
        ),
        (lambda logits, labels: F.cross_entropy(logits, labels).item(), "one number.* not float"),
        (lambda logits, labels: F.cross_entropy(logits.detach(), labels), "depend on weights that learn"),
        (lambda logits, labels: F.cross_entropy(logits, labels[:, 0]), "IndexError"),
        (lambda logits: logits.sum(), "TypeError"),
    ],
)
def test_a_loss_that_fails_is_refused_in_one_sentence(loss: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^phase 1: the loss <lambda> .*{words}") as refused:
        check(network(), recipe(loss=loss))
    assert "\n" not in str(refused.value)


def test_an_optimizer_a_view_and_a_rate_that_fail_are_named() -> None:
    class Closing(torch.optim.LBFGS):
        pass

    with pytest.raises(ValueError, match=r"^phase 1: its optimizer cannot take a step .*closure"):
        check(network(), recipe(optimizer=Closing))
    with pytest.raises(ValueError, match=r"^phase 2: step .*no attribute 'nothing'"):
        check(network(), recipe(phase(), phase(augment=[lambda images, labels: images.nothing])))
    with pytest.raises(ValueError, match=r"^phase 1: its lr fails at 50 % of the phase .ZeroDivisionError"):
        check(network(), recipe(phase(lr=lambda t: 0.1 / (0.5 - t))))


def test_weights_that_the_model_does_not_own_are_found_by_their_gradient() -> None:
    outside = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"^phase 1: what learns should be .* a tensor \(3,\) that is none"):
        check(Ends(globals_scaled), recipe()) if SCALES.append(outside) is None else None


SCALES: list[Tensor] = []


def globals_scaled(logits: Tensor) -> Tensor:
    return logits * SCALES[-1]


def test_what_two_images_are_too_few_for_is_tried_with_a_batch() -> None:
    def hardest(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none").topk(16).values.mean()

    assert check(network(), recipe(loss=hardest)) == check(network(), recipe())


def everything() -> list[Recipe]:
    return [
        recipe(phase(resolution=Ramp(12, 24)), phase(trains=(), calibrates=["*"])),
        recipe(phase(pseudo=FixMatch()), phase(pseudo=PseudoLabels(0.3), trains=["head"])),
        recipe(phase(augment=[Distill(network())]), clip=1.0, batch_size=1),
    ]


@pytest.mark.parametrize("made", everything())
def test_a_trial_leaves_no_trace(made: Recipe) -> None:
    data = coloured()
    data = Data(data.train, data.val, None, data.classes, "coloured", coloured(40).train)
    model = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drawn = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    check(model, made, data)
    assert torch.equal(drawn[0], torch.get_rng_state())
    assert (drawn[1], drawn[2]) == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[union-attr]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_a_step_that_counts_its_calls_begins_at_the_first() -> None:
    class Counting:
        calls = 0

        def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            self.calls += 1
            return images, labels

    step = Counting()
    check(network(), recipe(phase(augment=[step])))
    assert step.calls == 0


def drawing(source: Callable[[], float]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return lambda images, labels: (images * (0.5 + source() / 2), labels)


class AlwaysDropped(nn.Module):
    def __init__(self, how: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.body, self.head, self.how = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), nn.Linear(8, 3), how

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.how(self.body(images).mean((2, 3)), self.training))


@pytest.mark.parametrize(
    ("model", "changes", "words"),
    [
        (Ends(lambda logits: logits.softmax(1)), {}, "ends with a softmax"),
        (Ends(nn.Softmax(dim=1)), {"loss": nn.CrossEntropyLoss()}, "ends with a softmax"),
        (Ends(torch.sigmoid), {}, "ends with a sigmoid"),
        (Ends(torch.relu), {}, "ends with a ReLU"),
        (network(), {"loss": nn.NLLLoss()}, "the model gives logits"),
        (network(), {"loss": nn.CrossEntropyLoss(reduction="sum")}, "adds up over the batch"),
        (AlwaysDropped(lambda x, training: F.dropout(x, 0.5)), {}, "random numbers in evaluation mode"),
    ],
)
def test_what_trains_and_is_hardly_meant_is_noted(model: nn.Module, changes: Any, words: str) -> None:
    assert [note for note in check(model, recipe(**changes)) if words in note]


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (network(), {}),
        (network(), {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}),
        (Ends(lambda logits: logits.log_softmax(1)), {"loss": nn.NLLLoss()}),
        (Ends(lambda logits: logits.softmax(1)), {"loss": lambda p, labels: F.nll_loss(p.log(), labels)}),
        (network(), {"loss": focal}),
        (network(), {"loss": nn.MultiMarginLoss()}),
        (AlwaysDropped(lambda x, training: F.dropout(x, 0.5, training)), {}),
    ],
)
def test_what_is_meant_is_not_noted(model: nn.Module, changes: Any) -> None:
    assert check(model, recipe(**changes)) == check(network(), recipe())


class Halving:
    """A schedule of history of somebody's own; `reads` is the figure that it asks for."""

    def __init__(self, reads: str = "val_loss", patience: int = 2) -> None:
        self.reads, self.patience = reads, patience

    def of(self, history: Any) -> float:
        figures = [getattr(epoch, self.reads) for epoch in history]
        since = len(figures) - 1 - figures.index(min(figures)) if figures else 0
        return 0.1 * 0.5 ** (since // self.patience)


def test_a_schedule_of_history_of_ones_own_is_checked_as_plateau_is() -> None:
    data = coloured()
    alone = Data(data.train, None, None, data.classes, "coloured")
    own = Group("head", SGD(), lr=Halving())
    for made in (recipe(phase(lr=Halving())), recipe(optimizer=Groups([own], rest=SGD()))):
        with pytest.raises(ValueError, match="phase 1 watches val_loss, and coloured has no"):
            check(network(), made, alone)
    with pytest.raises(ValueError, match=r"its lr should read figures that an epoch has.* reads 'val_top7'"):
        check(network(), recipe(phase(lr=Halving("val_top7"))))
    with pytest.raises(ValueError, match=r"EarlyStop ends .* after 3 .* Halving lowers .* after 4; .* 5"):
        phase(epochs=30, lr=Halving(patience=4), stop=EarlyStop(3))
    assert phase(epochs=40, lr=Halving(patience=8), stop=EarlyStop(12)).scaled(0.25).lr.patience == 2
    notes = check(network(), recipe(phase(epochs=3, lr=Halving(patience=5))))
    assert [note for note in notes if "can never drop: Halving waits for 5 epochs" in note]
    with pytest.raises(ValueError, match=r"^phase 1: its lr fails after 2 epochs .KeyError"):
        check(network(), recipe(phase(epochs=3, lr=Failing())))


class Failing:
    def of(self, history: Any) -> float:
        return 0.1 if len(history) < 2 else {}["nothing"]


def test_the_commands_try_a_step_too(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from budgetnet.cli import main

    path = tmp_path / "mixed.py"
    path.write_text(
        "import torch\nfrom budgetnet import *\n"
        "def focal(logits, labels): return logits.gather(1, labels[:, None]).mean()\n"
        "def model(): return models.convnet(10, channels=1, widths=(4,))\n"
        "def data(): return digits()\n"
        "recipe = Recipe([Phase(1, 8, 0.1), Phase(1, 8, 0.1, augment=[Mixup(0.2)])], loss=focal)\n"
    )
    out = ["--out", str(tmp_path / "runs")]
    for arguments in (["check", str(path)], ["run", str(path), "--dry-run"], ["run", str(path), *out]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2, result.output
        assert "phase 2: the loss focal fails on logits" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_what_cannot_be_copied_is_trained_all_the_same(tmp_path: Path) -> None:
    model = network()
    with (tmp_path / "sizes.txt").open("w") as file:
        model.register_forward_hook(Writing(file))
        run = Trainer("cpu", out=None, show=False).fit(model, coloured(64, val=16), recipe())
    assert run.status == "finished"
    assert (tmp_path / "sizes.txt").read_text().startswith("32\n")


class Writing:
    """A hook with an open file."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __call__(self, module: nn.Module, images: tuple[Tensor, ...], logits: Tensor) -> None:
        self.file.write(f"{len(logits)}\n")


def test_steps_that_draw_elsewhere_than_from_torch_are_noted() -> None:
    def darker(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images * random.uniform(0.9, 1), labels

    def cut(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images * float(np.random.uniform(0.9, 1)), labels

    def drawn(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images * torch.empty(len(images), 1, 1, 1).uniform_(0.9, 1), labels

    def told(*steps: object) -> list[str]:
        phases = phase(), phase(augment=steps)
        return [note for note in check(network(), recipe(*phases)) if "draws from" in note]

    assert told(drawn) == []
    assert [note.split(", which")[0] for note in told(darker)] == [
        "a step of phase 2 draws from Python's random"
    ]
    assert "draws from Python's random and NumPy's random," in told(cut, darker)[0]
