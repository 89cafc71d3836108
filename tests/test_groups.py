"""Groups of parameters with optimizers and rates of their own, Muon, and rates that end early."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from budgetnet import (
    SGD,
    Adam,
    Cosine,
    Data,
    Early,
    Group,
    Groups,
    Linear,
    Muon,
    Phase,
    Plateau,
    Recipe,
    Trainer,
    Warmup,
)
from budgetnet.optim import Joint, OptimizerFactory, orthogonal
from budgetnet.plan import read_plan
from budgetnet.recipe import optimizer_of, set_rates
from budgetnet.schedule import value


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, *, loss: float = 1.0) -> None:
    for k in range(steps):
        images = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(k))
        optimizer.zero_grad()
        (loss * model(images).square().mean()).backward()
        optimizer.step()


def names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[list[str]]:
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[known[id(p)] for p in group["params"]] for group in optimizer.param_groups]


def test_each_parameter_is_in_the_first_group_that_names_it_and_frozen_ones_in_none() -> None:
    model = network()
    model[1].weight.requires_grad_(False)
    make = Groups([Group("0.bias", SGD()), Group(["*.bias", "3"], Adam())], rest=Muon())
    optimizer = make(model.named_parameters())
    assert isinstance(optimizer, Joint)
    assert names(model, optimizer) == [["0.bias"], ["1.bias", "3.weight", "3.bias"], ["0.weight"]]
    assert isinstance(optimizer.optimizers[0], torch.optim.SGD)
    assert isinstance(optimizer.optimizers[1], torch.optim.Adam)


def test_groups_step_as_optimizers_of_their_own_would() -> None:
    ours, theirs = network(), network()
    make = Groups([Group("3", Adam(weight_decay=0.1), lr=0.02), Group("1", SGD(), times=3)], rest=SGD(0.5))
    optimizer = make(ours.named_parameters())
    set_rates(optimizer, 0.01, 0.5, epochs=1, history=())
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.03, 0.01]
    alone = [
        torch.optim.Adam(theirs[3].parameters(), 0.02, weight_decay=0.1),
        torch.optim.SGD(theirs[1].parameters(), 0.03, 0.9, weight_decay=5e-4, nesterov=True),
        torch.optim.SGD(theirs[0].parameters(), 0.01, 0.5, weight_decay=5e-4, nesterov=True),
    ]
    stepped(ours, optimizer, 4)
    for k in range(4):
        images = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(k))
        theirs.zero_grad()
        theirs(images).square().mean().backward()
        for one in alone:
            one.step()
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_the_state_of_groups_can_be_saved_and_loaded() -> None:
    make = Groups([Group("3", Adam()), Group(["*.bias", "1"], SGD())], rest=Muon())
    whole, cut = network(), network()
    optimizers = [make(model.named_parameters()) for model in (whole, cut)]
    for optimizer in optimizers:
        set_rates(optimizer, 0.01, 0.0, epochs=1, history=())
    stepped(whole, optimizers[0], 3)
    stepped(whole, optimizers[0], 2)
    stepped(cut, optimizers[1], 3)
    fresh = make(cut.named_parameters())
    fresh.load_state_dict(optimizers[1].state_dict())
    stepped(cut, fresh, 2)
    for mine, other in zip(whole.parameters(), cut.parameters()):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("normalise", [False, True])
def test_muon_on_matrices_is_torchs(normalise: bool) -> None:
    one, other = (nn.Linear(6, 12, bias=False) for _ in range(2))
    other.load_state_dict(one.state_dict())
    mine = Muon(momentum=0.9, weight_decay=0.5, normalise=normalise)(one.parameters())
    theirs = torch.optim.Muon(other.parameters(), lr=0.1, momentum=0.9, weight_decay=0.5)
    mine.param_groups[0]["lr"] = 0.1
    for k in range(4):
        gradient = torch.randn(12, 6, generator=torch.Generator().manual_seed(k))
        one.weight.grad, other.weight.grad = gradient.clone(), gradient.clone()
        if normalise:
            with torch.no_grad():
                other.weight.mul_(12**0.5 / other.weight.norm())
        mine.step()
        theirs.step()
    # torch's iterates in bf16 on a CPU too, of which 20 products remain 2 % or so.
    apart = (one.weight - other.weight).detach().norm() / one.weight.detach().norm()
    assert float(apart) < 0.02


def test_muon_moves_weights_that_begin_at_zero() -> None:
    layer = nn.Linear(6, 4, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = Muon(normalise=True)(layer.parameters())
    optimizer.param_groups[0]["lr"] = 0.1
    layer.weight.grad = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    assert bool(layer.weight.isfinite().all())
    assert bool(layer.weight.any())


def test_gradients_too_small_for_their_products_move_nothing_and_nan_is_not_hidden() -> None:
    given = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))
    scales = torch.tensor([1.0, 1e-10, 1e-16, 1e-23, float("nan")])
    found = orthogonal(given * scales[:, None, None], 3)
    torch.testing.assert_close(found[:1], orthogonal(given[:1], 3), rtol=0, atol=0)
    assert bool(found[1].any())
    assert not bool(found[2:4].any())
    assert bool(found[4].isnan().all())


def test_muon_sees_filters_as_rows_and_not_how_large_the_loss_is() -> None:
    flat, conv = nn.Linear(27, 8, bias=False), nn.Conv2d(3, 8, 3, bias=False)
    with torch.no_grad():
        conv.weight.copy_(flat.weight.view(8, 3, 3, 3))
    conv.to(memory_format=torch.channels_last)
    for module in (flat, conv):
        optimizer = Muon(steps=3, normalise=True)(module.parameters())
        optimizer.param_groups[0]["lr"] = 0.1
        for k in range(3):
            gradient = torch.randn(8, 27, generator=torch.Generator().manual_seed(k))
            module.weight.grad = (gradient if module is flat else 1000 * gradient).view_as(module.weight)
            optimizer.step()
    torch.testing.assert_close(conv.weight.flatten(1), flat.weight, rtol=1e-4, atol=1e-5)


def test_weights_of_one_shape_are_each_made_orthogonal_alone() -> None:
    both, alone = nn.ModuleList(nn.Linear(5, 4, bias=False) for _ in range(2)), nn.Linear(5, 4, bias=False)
    alone.load_state_dict(both[1].state_dict())
    for module, count in ((both, 2), (alone, 1)):
        optimizer = Muon()(module.parameters())
        optimizer.param_groups[0]["lr"] = 0.1
        for k, parameter in enumerate(module.parameters(), start=2 - count):
            parameter.grad = torch.randn(4, 5, generator=torch.Generator().manual_seed(k))
        optimizer.step()
    torch.testing.assert_close(both[1].weight, alone.weight)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Muon()(network().parameters()), "another optimizer"),
        (lambda: Muon(momentum=1.0), "momentum"),
        (lambda: Muon(momentum=0.0), "nesterov"),
        (lambda: Muon(steps=0), "steps"),
        (lambda: Muon(weight_decay=-1), "weight_decay"),
        (lambda: Group("", SGD()), "parts"),
        (lambda: Group("a", SGD), "call it"),
        (lambda: Group("a", SGD(), lr=-1.0), "lr"),
        (lambda: Group("a", SGD(), lr=Cosine), "lr"),
        (lambda: Group("a", SGD(), times=0), "times"),
        (lambda: Group("a", Groups([Group("b", SGD())], rest=SGD())), "not Groups"),
        (lambda: Groups([], rest=SGD()), "groups"),
        (lambda: Groups([Group("a", SGD())], rest=None), "rest"),
        (lambda: Groups([Group("0", SGD())], rest=SGD())(network().parameters()), "named_parameters"),
        (lambda: Groups([Group("4", SGD())], rest=SGD())(network().named_parameters()), "'4'.*has 0, 1, 3"),
        (lambda: Early(Linear(1.0), epochs=0), "epochs"),
        (lambda: Early(Linear(1.0), epochs=1, after=-1), "after"),
        (lambda: Early(Plateau(1.0), epochs=1), "then"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make: OptimizerFactory, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[call-arg]


def test_early_is_its_schedule_squeezed_into_the_first_epochs() -> None:
    early = Early(Linear(0.6), epochs=3)
    assert [round(value(early, k / 80, epochs=8), 6) for k in (0, 10, 29, 30, 79)] == [0.6, 0.4, 0.02, 0, 0]
    held = Early(Warmup(Linear(1.0, 0.5), epochs=1), epochs=2, after=0.25)
    assert [value(held, k / 16, epochs=8) for k in (0, 1, 2, 3, 4, 9)] == [0, 0.5, 1.0, 0.75, 0.25, 0.25]
    assert held.stretched(0.5) == Early(Warmup(Linear(1.0, 0.5), epochs=0.5), epochs=1.0, after=0.25)


def grouped(*, epochs: int = 8, lr: object = None, **changes: object) -> Recipe:
    groups = Groups([Group("head", SGD(), lr=lr or Early(Linear(0.1), epochs=3))], rest=SGD())
    return Recipe([Phase(epochs, 12, Linear(0.1))], groups, batch_size=60, **changes)


def test_a_scaled_recipe_scales_the_rates_of_its_groups() -> None:
    assert grouped(epochs=80).scaled(0.25).optimizer == grouped(lr=Early(Linear(0.1), epochs=0.75)).optimizer
    assert grouped().scaled(1.0) == grouped()
    phases = [Phase(40, 12, 0.1), Phase(1, 12, 0.1), Phase(1, 12, 0.1, optimizer=SGD())]
    short = replace(grouped(), phases=phases).scaled(0.5)
    assert [phase.epochs for phase in short.phases] == [20, 1, 1]
    first, second, third = (phase.optimizer for phase in short.phases)
    assert first.groups[0].lr.epochs == 1.5
    assert second.groups[0].lr.epochs == 3
    assert third == SGD()


def test_groups_are_values_like_any_other() -> None:
    recipe = grouped()
    assert eval(repr(recipe.optimizer)) == recipe.optimizer
    assert hash(recipe.optimizer) == hash(grouped().optimizer)
    changed = recipe.changed("optimizer.groups.0.lr.epochs", 2)
    assert changed.optimizer.groups[0].lr == Early(Linear(0.1), epochs=2)
    described = recipe.describe()["optimizer"]
    assert described["class"] == "Groups"
    assert described["groups"][0]["lr"]["then"] == {"class": "Linear", "start": 0.1, "end": 0.0}


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_a_group_whose_rate_has_ended_no_longer_learns(data: Data, model: nn.Module) -> None:
    recipe = grouped(epochs=3, lr=Early(Linear(0.1), epochs=1))
    seen = []
    for _ in Trainer("cpu", out=None, show=False).epochs(model, data, recipe):
        seen.append(weights(model))
    for name in seen[0]:
        assert torch.equal(seen[1][name], seen[2][name]) == name.startswith("head"), name


def test_a_group_whose_rate_has_ended_asks_for_no_gradient(data: Data, model: nn.Module) -> None:
    recipe = grouped(epochs=3, lr=Early(Linear(0.1), epochs=1))
    asked = [
        {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        for _ in Trainer("cpu", out=None, show=False).epochs(model, data, recipe)
    ]
    named = {name for name, _ in model.named_parameters()}
    assert asked == [named, *[{name for name in named if not name.startswith("head")}] * 2]
    assert all(parameter.requires_grad for parameter in model.parameters())
    # Where every group has ended the training still goes to its end.
    early = Early(Linear(0.1), epochs=1)
    groups = Groups([Group("head", SGD(), lr=early), Group("stages", SGD(), lr=early)], rest=SGD())
    run = Trainer("cpu", out=None, show=False).fit(model, data, replace(recipe, optimizer=groups))
    assert len(run.history) == 3


def test_a_name_that_the_model_does_not_have_is_refused_before_the_first_step(
    data: Data, model: nn.Module, tmp_path: Path
) -> None:
    recipe = replace(grouped(), optimizer=Groups([Group("haed", SGD())], rest=SGD()))
    with pytest.raises(ValueError, match=r"'haed'.*it has stages, head"):
        Trainer("cpu", out=tmp_path, show=False).fit(model, data, recipe)
    assert not list(tmp_path.iterdir())
    only = replace(grouped(), phases=[Phase(1, 12, 0.1, trains=["stages.0"])])
    before = weights(model)
    Trainer("cpu", out=None, show=False).fit(model, data, only)
    assert torch.equal(weights(model)["head.linear.weight"], before["head.linear.weight"])
    late = grouped(epochs=2, lr=Warmup(Linear(0.1), epochs=3))
    with pytest.raises(ValueError, match="Warmup's epochs"):
        Trainer("cpu", out=None, show=False).check(model, data, late)
    bare = replace(grouped(), optimizer=Groups([Group("head", SGD())], rest=Muon()))
    with pytest.raises(ValueError, match="Muon is for matrices"):
        Trainer("cpu", out=None, show=False).check(model, data, bare)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_shipped_recipe_names_every_part_as_it_means_to() -> None:
    plan = read_plan("cifar10_speedrun")
    model = plan.model()
    optimizer = plan.recipe.optimizer(model.named_parameters())
    whitening, norms, head, filters = names(model, optimizer)
    assert whitening == ["whiten.bias"]
    assert norms == [f"groups.{group}.norm{norm}.bias" for group in range(3) for norm in (1, 2)]
    assert head == ["head.linear.weight"]
    assert filters == [f"groups.{group}.conv{conv}.weight" for group in range(3) for conv in (1, 2)]
    rates = []
    for step in (0, 74, 75, 199):
        set_rates(optimizer, 0.24 * (1 - step / 200), step / 200, epochs=8, history=())
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert rates[0] == [106.0, 106.0, 1.656, 0.24]
    assert [row[0] for row in rates[1:]] == [pytest.approx(106 / 75), 0, 0]
    assert rates[3][1:] == pytest.approx([106 / 200, 1.656 / 200, 0.24 / 200])


class Thrifty:
    """An optimizer of somebody's own that takes names, and has a schedule of its own."""

    takes_names = True
    monitors = frozenset({"val_loss"})

    def __init__(self, every: float) -> None:
        self.every = every

    def __call__(self, named: Iterable[Any]) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": [p for _, p in named], "schedule": Linear(1.0)}], lr=0.1)

    def stretched(self, factor: float) -> "Thrifty":
        return Thrifty(self.every * factor)


def test_an_optimizer_of_ones_own_may_take_names_and_have_schedules() -> None:
    phase = Phase(epochs=20, resolution=8, lr=0.1, optimizer=Thrifty(4))
    assert phase.monitors == {"val_loss"}
    shorter = phase.scaled(0.5).optimizer
    assert isinstance(shorter, Thrifty)
    assert shorter.every == 2
    model = nn.Linear(2, 2)
    (group,) = optimizer_of(shorter, model, model.parameters()).param_groups
    assert len(group["params"]) == 2


def test_a_parameter_that_parts_share_is_in_the_first_group_that_names_it_by_any_name() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    for part, expected in (("1", ["0.weight", "1.bias"]), ("0", ["0.weight", "0.bias"])):
        optimizer = optimizer_of(Groups([Group(part, SGD())], rest=Adam()), model, model.parameters())
        chosen, rest = names(model, optimizer)
        assert sorted(chosen) == sorted(expected)
        assert len(rest) == 1
    assert names(
        model, optimizer_of(Groups([Group("*.bias", SGD())], rest=Adam()), model, model.parameters())
    ) == [
        ["0.bias", "1.bias"],
        ["0.weight"],
    ]
