"""Freezing and calibration: what a phase does not train stays, and statistics move only where asked."""

from typing import Any

import pytest
import torch
from conftest import coloured
from torch import Tensor, nn

from budgetnet import EMA, Budget, Data, Phase, Recipe, Trainer, models
from budgetnet.augment import view
from budgetnet.randomness import drawn, order


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Budget(params="20k").build(models.convnet, classes=3, widths=(8, 16), dropout=0.3)


def trainer() -> Trainer:
    return Trainer("cpu", out=None, show=False)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def trained(data: Data) -> nn.Module:
    model = network()
    trainer().fit(model, data, Recipe([Phase(1, 12, 0.05)], batch_size=60))
    return model


def test_the_papers_fix_trains_the_classifier_and_moves_only_the_last_norms_statistics(data: Data) -> None:
    model = trained(data)
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    before = state(model)
    fix = Phase(2, 16, 0.01, trains=["head"], calibrates=[norms[-1]])
    trainer().fit(model, data, Recipe([fix], batch_size=60))
    moved = changed(before, state(model))
    statistics = {f"{norms[-1]}.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    weights = {name for name in before if name.startswith("head.") and name.endswith(("weight", "bias"))}
    assert moved == statistics | weights


def test_calibration_is_the_mean_of_the_batches_statistics(data: Data) -> None:
    model = trained(data)
    before = state(model)
    again = Recipe([Phase(2, 16, trains=(), calibrates=["*"])], batch_size=60)
    trainer().fit(model, data, again)
    after = state(model)
    names = ("running_mean", "running_var", "num_batches_tracked")
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert changed(before, after) == {f"{norm}.{name}" for norm in norms for name in names}
    # By hand: the same batches, in training mode, through each norm's inputs.
    first = next(iter(norms))
    seen: list[Tensor] = []
    hook = norms[first].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.eval()
    with torch.no_grad():
        for epoch in range(2):
            for step, chosen in enumerate(torch.split(order(240, 1, 0, epoch), 60)):
                generator = torch.Generator().manual_seed(drawn(0, 1, 4 * epoch + step))
                images, labels = data.train[chosen]
                images, _ = view(images, labels, (), resolution=16, classes=3, generator=generator)
                model(images.contiguous(memory_format=torch.channels_last))
    hook.remove()
    means = torch.stack([maps.mean(dim=(0, 2, 3)) for maps in seen])
    variances = torch.stack([maps.var(dim=(0, 2, 3)) for maps in seen])
    assert torch.allclose(after[f"{first}.running_mean"], means.mean(dim=0), atol=1e-6)
    assert torch.allclose(after[f"{first}.running_var"], variances.mean(dim=0), rtol=1e-5)
    assert int(after[f"{first}.num_batches_tracked"]) == 8
    assert norms[first].momentum == 0.1


def test_calibration_takes_no_learning_rate_and_makes_no_gradient(data: Data) -> None:
    model = trained(data)
    run = trainer().fit(model, data, Recipe([Phase(1, 16, trains=(), calibrates=["stages"])], batch_size=60))
    assert run.history[0].lr == 0.0
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_frozen_parts_dropout_is_off(data: Data) -> None:
    model = trained(data)
    drops = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert drops
    modes: list[bool] = []
    hook = drops[0].register_forward_hook(
        lambda module, inputs, output: modes.append(bool(torch.equal(inputs[0], output)))
    )
    trainer().fit(model, data, Recipe([Phase(1, 12, 0.01, trains=["stages.1"])], batch_size=60))
    hook.remove()
    assert all(modes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trains": ()}, "only a phase that calibrates may train nothing"),
        ({"calibrates": "head"}, "Phase's calibrates should be a list of module names"),
        ({"trains": ["head"], "calibrates": ["head"]}, "where the model has no batch norm"),
        (
            {"trains": ["head"], "calibrates": ["nothing"]},
            "names 'nothing', where the model has no batch norm",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused(changes: dict[str, object], words: str, data: Data) -> None:
    with pytest.raises(ValueError, match=words):
        trainer().fit(network(), data, Recipe([Phase(1, 12, 0.1, **changes)]))  # type: ignore[arg-type]


def test_every_split_asked_for_is_measured_after_every_epoch() -> None:
    whole = coloured()
    assert whole.val is not None
    data = Data(whole.train, whole.val, whole.val, whole.classes, "three")
    model = network()
    recipe = Recipe([Phase(2, 12, 0.05)], batch_size=60, measure=("val", "train", "test"))
    run = trainer().fit(model, data, recipe)
    last = run.history[-1]
    found = trainer().evaluate(model, data.train, classes=data.classes, resolution=12)
    assert last.train_eval_accuracy == found.accuracy
    assert last.train_eval_loss == pytest.approx(found.loss)
    # The running mean is over weights that still moved, with dropout.
    assert last.train_accuracy != last.train_eval_accuracy
    assert (last.test_accuracy, last.test_loss) == (last.val_accuracy, last.val_loss)
    plain = trainer().fit(network(), data, Recipe([Phase(1, 12, 0.05)], batch_size=60))
    assert plain.history[0].measure("test_accuracy") != plain.history[0].measure("test_accuracy")


def test_what_is_watched_must_be_measured(data: Data) -> None:
    with pytest.raises(ValueError, match="the recipe's measure leaves it out; add 'val' to it"):
        trainer().fit(network(), data, Recipe([Phase(1, 12, 0.1)], keep="best", measure=("train",)))
    with pytest.raises(ValueError, match="Recipe's measure should be one of train, val, test, not 'vall'"):
        Recipe([Phase(1, 12, 0.1)], measure=("vall",))


@pytest.mark.parametrize("keep", ["averaged", "last"])
def test_averaged_weights_are_calibrated_by_statistics_of_their_own(keep: Any, data: Data) -> None:
    model = network()
    learn, fix = Phase(4, 8, 0.1, batch_size=16), Phase(1, 12, trains=(), calibrates=["*"])
    recipe = Recipe([learn, fix], batch_size=240, average=EMA(0.99), keep=keep)
    run = trainer().fit(model, data, recipe)
    first = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    seen: list[Tensor] = []
    hook = first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images, labels = data.train[torch.arange(240)]
    images, _ = view(images, labels, (), resolution=12, classes=3, generator=torch.Generator())
    with torch.no_grad():
        model(images.contiguous(memory_format=torch.channels_last))
    hook.remove()
    # One batch of all images: its mean and variance are the statistics.
    assert first.running_mean is not None
    assert first.running_var is not None
    torch.testing.assert_close(first.running_mean, seen[0].mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.running_var, seen[0].var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not any(module.training for module in model.modules())
    assert first.momentum == 0.1
    assert data.val is not None
    if keep == "averaged":
        again = trainer().evaluate(model, data.val, classes=data.classes, resolution=12)
        assert run.history[-1].val_loss == pytest.approx(again.loss, rel=1e-5)


def test_a_weight_that_parts_share_learns_by_the_name_of_either(data: Data) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight

        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = self.head(self.second(self.first(images.mean(dim=(2, 3)))))
            return found

    for name in ("first", "second", "second.weight"):
        model = Shared()
        before = state(model)
        trainer().fit(model, data, Recipe([Phase(1, 12, 0.1, trains=[name])], batch_size=60))
        bias = {f"{name}.bias"} if "." not in name else set()
        assert changed(before, state(model)) == {"first.weight", "second.weight", *bias}
