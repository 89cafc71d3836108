"""What is promised of small files: bytes as saved, quantised weights, pruning, one command for all."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from budgetnet import (
    Budget,
    Data,
    OverBudget,
    Phase,
    Recipe,
    Split,
    Trainer,
    layers,
    ledger,
    load,
    models,
    save,
)
from budgetnet.budget import built
from budgetnet.modelfile import card, check_weight, described, read_card, write


def small(*, limit: int = 100_000, classes: int = 3) -> nn.Module:
    """A residual network of 13,000 parameters, for 16 pixels."""
    return Budget(bytes=limit).build(
        models.resnet,
        classes=classes,
        widths=(12, 24),
        blocks=(1, 1),
        block=layers.basic,
        stem=8,
        stem_kernel=3,
        stem_pool=False,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def toy(classes: int = 3, *, names: tuple[str, ...] = ()) -> Data:
    """Images of one colour a class, with noise."""
    drawn = torch.Generator().manual_seed(0)
    labels = torch.arange(72) % classes
    noise = torch.randint(0, 60, (72, 3, 16, 16), generator=drawn)
    images = (noise + 190 * nn.functional.one_hot(labels, 3)[:, :, None, None]).to(torch.uint8)
    train, val = (Split(images[rows], labels[rows], rows) for rows in torch.arange(72).split([48, 24]))
    return Data(train, val, None, names or tuple("abc"[:classes]), "toy")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_file_weighs_what_was_checked_to_the_byte(tmp_path: Path, dtype: torch.dtype) -> None:
    model = small().to(dtype)
    save(model, tmp_path / "a", classes=["Ångström", 'a "b"', "c\\d"], resolution=16)
    weighs = (tmp_path / "a").stat().st_size
    assert weighs <= ledger(model).saved
    made = built(model)
    assert made is not None
    known = read_card(tmp_path / "a")
    model.built = replace(made, budget=Budget(bytes=weighs))  # type: ignore[assignment]
    check_weight(model, known)
    model.built = replace(made, budget=Budget(bytes=weighs - 1))  # type: ignore[assignment]
    with pytest.raises(OverBudget, match=f"{weighs:,} bytes as saved, .* is 1 over the budget of"):
        check_weight(model, known)


def test_a_budget_of_bytes_is_refused_before_memory_is_taken_for_what_the_file_would_weigh() -> None:
    costs = ledger(small()).saved
    small(limit=costs)
    with pytest.raises(OverBudget, match=f"{costs:,} bytes as saved is 1 over the budget of {costs - 1:,}"):
        small(limit=costs - 1)


def test_names_that_make_a_file_too_long_are_refused_before_training() -> None:
    model = small(limit=ledger(small()).saved)
    names = tuple(f"{letter * 900}" for letter in "abc")
    with pytest.raises(
        OverBudget, match=r"bytes as saved, .* the description of the model and its 3 classes"
    ):
        Trainer(show=False, out=None).fit(model, toy(names=names), Recipe([Phase(1, 16, lr=0.01)]))


def test_a_file_of_before_whose_tensors_alone_kept_the_budget_still_loads(tmp_path: Path) -> None:
    model = small()
    save(model, tmp_path / "a")
    made = built(model)
    assert made is not None
    # What an earlier budgetnet let pass: a limit just above the tensors.
    limit = Budget(bytes=ledger(model).bytes + 1)
    model.built = replace(made, budget=limit)  # type: ignore[assignment]
    write(model, model.state_dict(), described(model), tmp_path / "b")
    loaded = load(tmp_path / "b")
    again = built(loaded)
    assert again is not None
    assert again.budget == limit
    assert card(loaded) is not None
