"""What a model or a loss holds where torch does not find it: refused by name, and what is found passes."""

import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import coloured
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import budgetnet
from budgetnet import Budget, DistillationLoss, Phase, Recipe, Trainer, count, ledger, models
from tests.pretended import pretended


@dataclass
class Parts:
    head: nn.Module


class Plain:
    __slots__ = ("inner",)

    def __init__(self, inner: object) -> None:
        self.inner = inner


class Holds(nn.Module):
    """A network that keeps something in a plain attribute."""

    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3)
        self.kept = kept

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stem(images).mean((2, 3)))


def conv() -> nn.Module:
    return nn.Conv2d(4, 4, 3)


def closing(module: nn.Module) -> Any:
    return lambda images: module(images) * 1


HIDING = [
    (
        lambda: [conv(), conv()],
        r"kept\[0\] \(Conv2d\) and 1 more, of 296 .* an nn.ModuleList",
    ),
    (lambda: {"a": conv()}, r"kept\['a'\] \(Conv2d\), of 148 .* nn.ModuleDict"),
    (lambda: (nn.BatchNorm2d(4, affine=False),), r"kept\[0\] \(BatchNorm2d\)"),
    (lambda: {"a": [({"b": conv()},)]}, r"kept\['a'\]\[0\]\[0\]\['b'\] \(Conv2d\)"),
    (lambda: Parts(conv()), r"kept.head \(Conv2d\)"),
    (lambda: Plain([conv()]), r"kept.inner\[0\] \(Conv2d\)"),
    (lambda: partial(conv().forward), r"kept \(Conv2d\)"),
    (lambda: closing(conv()), r"kept \(Conv2d\)"),
    (lambda: [nn.Parameter(torch.zeros(7))], r"kept\[0\] \(tensor that learns\), of 7 .* nn.ParameterList"),
    (lambda: torch.zeros(7, requires_grad=True), r"kept \(tensor that learns\), of 7 .* nn.Parameter "),
]


@pytest.mark.parametrize(("make", "words"), HIDING)
def test_weights_in_a_plain_attribute_are_refused_by_name(make: Any, words: str, tmp_path: Path) -> None:
    def build() -> nn.Module:
        return Holds(make())

    recipe = Recipe([Phase(1, 12, 0.1)], batch_size=32)
    for asked in (
        lambda: Budget(params="50k").build(build),
        lambda: Budget(params="50k").check(build()),
        lambda: ledger(build()),
        lambda: ledger(build(), 12),
        lambda: count(build),
        lambda: budgetnet.save(build(), tmp_path / "model.safetensors"),
        lambda: Trainer("cpu", out=None, show=False).fit(build(), coloured(), recipe),
    ):
        with pytest.raises(ValueError, match=words):
            asked()


def test_weights_in_an_attribute_of_a_class_are_refused() -> None:
    class Shared(Holds):
        inner = conv()

    with pytest.raises(ValueError, match=r"inner \(Conv2d\)"):
        ledger(Shared(None))


class Reads(Holds):
    def forward(self, images: Tensor) -> Tensor:
        kept = self.kept[0] if isinstance(self.kept, list) else self.kept
        return super().forward(images) * kept


@pytest.mark.parametrize("make", [lambda: torch.rand(3), lambda: [torch.arange(3)]])
def test_a_constant_that_the_forward_reads_is_to_be_a_buffer(make: Any) -> None:
    trainer, recipe = Trainer("cpu", out=None, show=False), Recipe([Phase(1, 12, 0.1)], batch_size=32)
    words = r"register .* and kept(\[0\])?, of 3 numbers, .* write self.register_buffer\('kept', \.\.\.\)"
    with pytest.raises(ValueError, match=words):
        trainer.check(Reads(make()), coloured(), recipe)
    assert trainer.check(Holds(make()), coloured(), recipe) == trainer.check(Holds(0), coloured(), recipe)


def test_a_weight_that_is_computed_before_each_forward_is_no_constant() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    recipe = Recipe([Phase(1, 12, 0.1)], batch_size=32)
    trainer = Trainer("cpu", out=None, show=False)
    for old in (
        torch.nn.utils.weight_norm,
        torch.nn.utils.spectral_norm,
        partial(prune.l1_unstructured, amount=0.5),
    ):
        other = copy.deepcopy(model)
        old(other[0], "weight")
        assert trainer.fit(other, coloured(), recipe).status == "finished"


def found() -> list[nn.Module]:
    """Networks whose plain attributes hold what is registered too, or nothing that counts."""
    listed = Holds([])
    listed.kept = [listed.stem, list(listed.parameters()), listed.head.weight.detach(), closing(listed.head)]
    cached = Holds(None)
    cached.kept = [cached(torch.zeros(1, 3, 8, 8)), torch.zeros(3)]
    normed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    torch.nn.utils.weight_norm(normed[0])
    parametrizations.spectral_norm(normed[2])
    pruned = nn.Conv2d(3, 4, 3)
    prune.l1_unstructured(pruned, "weight", 0.5)
    old = torch.nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))
    nested = nn.ModuleDict({"a": nn.ModuleList([nn.LSTM(3, 4, 2), nn.GRU(3, 4)])})
    parametrized = nn.Linear(3, 3)
    parametrize.register_parametrization(parametrized, "weight", nn.Softplus(), unsafe=True)
    heads = nn.MultiheadAttention(4, 2), nn.Transformer(4, 2, 1, 1, 8)
    return [listed, cached, normed, pruned, old, nested, parametrized, *heads]


def test_what_torch_finds_passes() -> None:
    for model in found():
        assert ledger(model).params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["swin_t", "vit_b_16", "googlenet", "maxvit_t", "shufflenet_v2_x1_0"])
def test_torchvisions_networks_pass(name: str) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    assert ledger(model).params == sum(parameter.numel() for parameter in model.parameters())


def test_quantised_layers_are_refused_and_what_stands_for_them_in_training_passes() -> None:
    from torch.ao.nn import qat, quantized

    with pytest.raises(ValueError, match=r"0 \(Linear\) is quantised.*quantise what comes out"):
        ledger(nn.Sequential(quantized.Linear(3, 4)))
    assert (
        ledger(nn.Sequential(qat.Linear(3, 4, qconfig=torch.ao.quantization.default_qat_qconfig))).params
        == 16
    )
    assert ledger(nn.Sequential(nn.Linear(3, 4), quantized.FloatFunctional())).params == 16


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits * self.scale, labels)


def beside(module: nn.Module) -> Any:
    return lambda logits, labels: module(logits, labels) * 1


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (Scaled(), "the loss Scaled should have nothing that learns, and has scale"),
        (DistillationLoss(0.5, 1.0, hard=Scaled()), "the loss DistillationLoss .* has hard.scale"),
        (beside(Scaled()), "the loss <lambda> .* has scale"),
        (nn.CrossEntropyLoss(weight=torch.ones(3, requires_grad=True)), "has weight"),
    ],
)
def test_a_loss_that_learns_is_refused_with_the_way_out(loss: Any, words: str) -> None:
    recipe = Recipe([Phase(1, 12, 0.1)], loss=loss, batch_size=32)
    with pytest.raises(ValueError, match=f"{words}.* put them into the model"):
        Trainer("cpu", out=None, show=False).fit(models.convnet(3, widths=(4,)), coloured(), recipe)


def test_a_loss_may_look_at_the_models_own_weights() -> None:
    model = models.convnet(3, widths=(4,))

    def decayed(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels) + 1e-4 * sum(p.square().sum() for p in model.parameters())

    run = Trainer("cpu", out=None, show=False).fit(
        model, coloured(64, val=16), Recipe([Phase(1, 12, 0.1)], loss=decayed, batch_size=32)
    )
    assert run.status == "finished"


def test_class_weights_go_to_the_device_and_the_users_own_stay() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0])
    loss = nn.CrossEntropyLoss(weight=weights)
    recipe = Recipe([Phase(1, 12, 0.1)], loss=loss, batch_size=32)
    here = Trainer("cpu", out=None, show=False).fit(models_of_a_seed(), coloured(64, val=16), recipe)
    with pretended():
        trainer = Trainer("cuda", out=None, show=False, precision="float32")
        there = trainer.fit(models_of_a_seed(), coloured(64, val=16), recipe)
    assert there.history[0].train_loss == pytest.approx(here.history[0].train_loss, rel=1e-4)
    assert loss.weight is weights
    assert loss.weight.device.type == "cpu"


def models_of_a_seed() -> nn.Module:
    torch.manual_seed(0)
    return models.convnet(3, widths=(4,))


def test_state_that_is_no_tensor_is_refused() -> None:
    class Extra(Holds):
        def get_extra_state(self) -> Any:
            return {"kept": 1}

        def set_extra_state(self, state: Any) -> None:
            pass

    with pytest.raises(ValueError, match=r"\(Extra\) should keep its state in tensors.*register_buffer"):
        Trainer("cpu", out=None, show=False).check(Extra(0), coloured(), Recipe([Phase(1, 12, 0.1)]))
