"""Optimizers are torch's own, with the parameters grouped as asked."""

import pytest
import torch
from torch import nn

from budgetnet.optim import SGD, Adam, AdamW, OptimizerFactory


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            SGD(0.9, weight_decay=0.01),
            lambda p: torch.optim.SGD(p, 0.01, 0.9, weight_decay=0.01, nesterov=True),
        ),
        (Adam(weight_decay=0.01), lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.01)),
        (AdamW(weight_decay=0.01, decay_norms=True), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.01)),
    ],
)
def test_five_steps_are_torchs(ours: OptimizerFactory, theirs: OptimizerFactory) -> None:
    models = network(), network()
    optimizers = ours(models[0].parameters()), theirs(models[1].parameters())
    for group in optimizers[0].param_groups:
        group["lr"] = 0.01
    for k in range(5):
        images = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(k))
        for model, optimizer in zip(models, optimizers):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
    for mine, other in zip(models[0].parameters(), models[1].parameters()):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_decay_is_kept_off_biases_and_norms_on_request() -> None:
    model = network()
    groups = SGD(weight_decay=0.1, decay_norms=False)(model.parameters()).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(model[0].weight), id(model[3].weight)}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SGD(momentum=1.0), "momentum"),
        (lambda: SGD(momentum=0.0), "nesterov"),
        (lambda: SGD(weight_decay=-1), "weight_decay"),
        (lambda: Adam(betas=(0.9, 1.0)), "betas"),
        (lambda: Adam(betas=0.9), "betas should be two numbers, not 0.9"),
        (lambda: AdamW(weight_decay=-0.1), "weight_decay"),
    ],
)
def test_impossible_numbers_are_refused_by_name(make: OptimizerFactory, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[call-arg]


@pytest.mark.parametrize("make", [SGD(), SGD(decay_norms=False), SGD(0.0, nesterov=False), Adam(), AdamW()])
def test_a_first_gradient_may_come_late(make: OptimizerFactory) -> None:
    """As of a block that was skipped until then: its momentum begins as torch's own does."""
    models = network(), network()
    group = {"weight_decay": 5e-4, "nesterov": True}
    theirs = torch.optim.SGD(models[1].parameters(), 0.01, 0.9, fused=False, **group)
    optimizers = make(models[0].parameters()), theirs
    for entries in optimizers[0].param_groups:
        entries["lr"] = 0.01
    for k in range(4):
        images = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(k))
        for model, optimizer in zip(models, optimizers):
            optimizer.zero_grad()
            skipped = model if k % 2 else model[2:]
            skipped(images if k % 2 else images[:, :, :2, :2].flatten(1)[:, :4]).square().mean().backward()
            optimizer.step()
    if make == SGD():
        for mine, other in zip(models[0].parameters(), models[1].parameters()):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
