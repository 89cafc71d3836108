"""Model files: what is saved comes back, by itself for budgetnet's builders, by the caller's for others."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import budgetnet
from budgetnet import Budget, OverBudget, Trainer, layers, models
from budgetnet.budget import NotFromScratch, external
from budgetnet.files import read_sealed, seal
from budgetnet.modelfile import BadModelFile, Card, card, described, read_card, write


def mine(classes: int, *, hidden: int = 4) -> nn.Module:
    """A builder that is not budgetnet's."""
    return nn.Sequential(nn.Flatten(), nn.Linear(12, hidden), nn.Linear(hidden, classes))


class Tied(nn.Module):
    """Two names for one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


BUILDERS = (
    lambda: Budget("100k").build(
        models.resnet, 5, channels=1, widths=(8, 16), blocks=(1, 1), block=layers.basic
    ),
    lambda: Budget("100k").build(models.convnet, classes=5, widths=[8, 16], act=nn.SiLU),
    lambda: Budget("3M").build(models.mobilenet, classes=5, width=0.25),
    lambda: Budget("1M").build(
        models.resnet, 5, widths=(32, 64), blocks=(1, 1), block=partial(layers.bottleneck, groups=2)
    ),
)


@pytest.mark.parametrize("make", BUILDERS)
def test_a_saved_model_comes_back_without_its_recipe(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = make().eval()
    budgetnet.save(model, tmp_path / "m.safetensors", classes=list("abcde"), resolution=16)
    found = budgetnet.load(tmp_path / "m.safetensors")
    images = torch.rand(2, 1 if model[0].mean.shape[0] == 1 else 3, 16, 16)
    torch.testing.assert_close(found(images), model(images), rtol=0, atol=0)
    assert not found.training
    about = card(found)
    assert about is not None
    assert (about.classes, about.resize, about.crop) == (tuple("abcde"), 16, 16)


def test_a_channels_last_model_is_saved_as_it_is(tmp_path: Path) -> None:
    model = Budget("100k").build(models.convnet, classes=5, widths=(8, 16))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    budgetnet.save(model.to(memory_format=torch.channels_last), tmp_path / "m")
    for name, tensor in budgetnet.load(tmp_path / "m").state_dict().items():
        assert torch.equal(tensor, before[name])


def test_others_builders_are_named_by_the_caller(tmp_path: Path) -> None:
    model = Budget(params=200).build(mine, classes=3)
    budgetnet.save(model, tmp_path / "m")
    with pytest.raises(
        ValueError, match=r"test_modelfile\.mine, which budgetnet cannot build by itself; name its"
    ):
        budgetnet.load(tmp_path / "m")
    found = budgetnet.load(tmp_path / "m", mine, 3)
    assert torch.equal(found[1].weight, model[1].weight)
    with pytest.raises(ValueError, match=r"should have shape \[5, 12\], found \[4, 12\]"):
        budgetnet.load(tmp_path / "m", mine, 3, hidden=5)


def test_a_model_of_no_builder_says_so(tmp_path: Path) -> None:
    budgetnet.save(nn.Linear(2, 2), tmp_path / "m")
    with pytest.raises(ValueError, match="holds a Linear"):
        budgetnet.load(tmp_path / "m")
    assert isinstance(budgetnet.load(tmp_path / "m", nn.Linear, 2, 2), nn.Linear)


@pytest.mark.parametrize("name", [name for name in models.__all__ if name != "inherit"])
def test_a_network_of_ours_comes_back_by_its_card_without_a_budget(name: str, tmp_path: Path) -> None:
    model = getattr(models, name)(5)
    about = described(model)
    assert (about.builder, about.arguments, about.budget) == (name, [[5], {"dict": {}}], None)
    if name == "convnet":
        budgetnet.save(copy.deepcopy(model), tmp_path / "m", resolution=16)
        again = budgetnet.load(tmp_path / "m")
        images = torch.rand(2, 3, 16, 16)
        assert torch.equal(again(images), model.eval()(images))
        budgetnet.save(again, tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()


def test_a_network_of_ours_with_other_layers_is_nobodys(tmp_path: Path) -> None:
    changed, quiet = models.convnet(5, widths=(4, 8)), models.convnet(5, widths=(4, 8))
    changed.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    quiet.stages[0][0].act = nn.Tanh()
    for model in (changed, quiet, layers.Quantised(models.convnet, bits=4)(5)):
        assert described(model).builder is None
    budgetnet.save(changed, tmp_path / "m", resolution=8)


@pytest.mark.parametrize("wrapper", ["model.", "_forward_module.", "net.module._orig_mod."])
def test_a_file_of_another_program_is_loaded_by_its_builder(wrapper: str, tmp_path: Path) -> None:
    model, path = models.convnet(3, widths=(4, 8)).eval(), tmp_path / "m.safetensors"
    checkpoint = {"state_dict": {f"{wrapper}{name}": value for name, value in model.state_dict().items()}}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    save_file(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"], path)
    again = budgetnet.load(path, models.convnet, 3, widths=(4, 8))
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(again(images), model(images))
    about = card(again)
    assert about is not None
    assert about.builder == "convnet"
    with pytest.raises(BadModelFile, match=r"has no budgetnet card.*make, \.\.\."):
        budgetnet.load(path)
    with pytest.raises(BadModelFile, match="does not fit its model"):
        budgetnet.load(path, models.convnet, 3, widths=(4, 9))


def test_shared_weights_are_saved_once_and_come_back_shared(tmp_path: Path) -> None:
    model = Tied()
    budgetnet.save(model, tmp_path / "m")
    with safe_open(tmp_path / "m", framework="pt") as file:
        assert list(file.keys()) == ["first.weight"]
    found = budgetnet.load(tmp_path / "m", Tied)
    assert found.first.weight is found.second.weight
    assert torch.equal(found.second.weight, model.first.weight)


def test_the_budget_travels_and_is_checked_again_on_save_and_load(tmp_path: Path) -> None:
    model = Budget(params=200).build(mine, classes=3)
    budgetnet.save(model, tmp_path / "m")
    assert read_card(tmp_path / "m").budget == {"params": 200}
    with pytest.raises(OverBudget):
        budgetnet.load(tmp_path / "m", mine, 3, hidden=50)
    model.append(nn.Linear(3, 100))
    with pytest.raises(OverBudget):
        budgetnet.save(model, tmp_path / "m")


def forged(path: Path, **entries: object) -> Path:
    model = Budget("100k").build(models.convnet, classes=3, widths=(8,))
    good = asdict(Card(builder="convnet", arguments=[[], {"dict": {"classes": 3}}]))
    words = {"format": 2, "version": "0", **good, **entries}
    path.write_bytes(seal({k: v.contiguous() for k, v in model.state_dict().items()}, words))
    return path


def first_format(path: Path, words: dict[str, object]) -> Path:
    """The same without digests, as files were before."""
    stored = read_sealed(path)
    assert stored.words is not None
    save_file(stored.tensors(), path, {"budgetnet": json.dumps({**stored.words, "format": 1, **words})})
    return path


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"builder": "os.system"}, "which budgetnet.models does not have"),
        ({"builder": "__init__"}, "which budgetnet.models does not have"),
        ({"arguments": [[], {"dict": {"classes": 3, "act": {"torch.nn": "Module.__init__"}}}]}, "card"),
        ({"arguments": [[], {"dict": {"classes": 3, "act": {"layers": "torch"}}}]}, "should name layers"),
        ({"arguments": [[], {"dict": {"classes": 3, "act": {"os": "system"}}}]}, "should name layers"),
        ({"arguments": [[], {"dict": {"classes": 10**9}}]}, "should have shape"),
        ({"arguments": [[], {"dict": {"classes": 3, "nonsense": 1}}]}, "damaged card"),
        ({"arguments": 5}, "damaged card"),
        ({"format": 99}, "format 99"),
        ({"unknown": 1}, "damaged card"),
    ],
)
def test_a_card_runs_nothing_and_is_refused_when_wrong(
    entries: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        budgetnet.load(forged(tmp_path / "m", **entries))


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a model")
    with pytest.raises(ValueError, match="should be a safetensors file"):
        budgetnet.load(tmp_path / "text")
    with pytest.raises(ValueError, match="there is no model file"):
        budgetnet.load(tmp_path / "absent")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="no budgetnet card"):
        budgetnet.load(tmp_path / "foreign")


def test_a_failed_write_leaves_the_file_before_it(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    budgetnet.save(model, tmp_path / "m")
    before = (tmp_path / "m").read_bytes()
    with pytest.raises(KeyError):
        write(model, {}, Card(), tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    with pytest.raises(ValueError, match="cannot be written"):
        budgetnet.save(model, tmp_path / "absent" / "m")


def test_a_loaded_model_predicts_by_its_card(tmp_path: Path) -> None:
    model = Budget("100k").build(models.convnet, classes=3, widths=(8, 16))
    budgetnet.save(model, tmp_path / "m", classes=("x", "y", "z"), resolution=12)
    found = Trainer("cpu", out=None).predict(budgetnet.load(tmp_path / "m"), torch.rand(4, 3, 20, 20))
    assert found.classes == ("x", "y", "z")
    assert found.probabilities.shape == (4, 3)


def adopted(classes: int) -> nn.Module:
    """A builder whose network says that it began from external weights."""
    model = mine(classes)
    model.external = "a friend's disk"
    return model


def test_external_weights_are_named_by_the_card_and_by_what_is_loaded(tmp_path: Path) -> None:
    budgetnet.save(Budget(params=200).build(adopted, 3), tmp_path / "m")
    assert read_card(tmp_path / "m").external == "a friend's disk"
    found = budgetnet.load(tmp_path / "m", mine, 3)
    assert external(found) == "a friend's disk"
    budgetnet.save(found, tmp_path / "again")
    assert read_card(tmp_path / "again").external == "a friend's disk"
    budgetnet.save(adopted(3), tmp_path / "bare")  # built by no budget
    assert read_card(tmp_path / "bare").external == "a friend's disk"
    budgetnet.save(mine(3), tmp_path / "scratch")
    assert read_card(tmp_path / "scratch").external == ""


def test_a_file_from_before_external_weights_were_recorded_still_loads(tmp_path: Path) -> None:
    path = forged(tmp_path / "m", arguments=[[], {"dict": {"classes": 3, "widths": [8]}}])
    stored = read_sealed(path)
    assert stored.words is not None
    entries = {name: held for name, held in stored.words.items() if name != "external"}
    save_file(stored.tensors(), path, {"budgetnet": json.dumps({**entries, "format": 1})})
    assert external(budgetnet.load(path)) == ""


def test_a_file_of_the_first_format_still_loads_and_is_saved_anew_with_digests(tmp_path: Path) -> None:
    model = Budget("100k").build(models.convnet, classes=5, widths=(8, 16))
    budgetnet.save(model, tmp_path / "m", classes=tuple("abcde"), resolution=16)
    found = budgetnet.load(first_format(tmp_path / "m", {}))
    assert all(torch.equal(held, model.state_dict()[name]) for name, held in found.state_dict().items())
    about = card(found)
    assert about is not None
    assert (about.classes, about.crop) == (tuple("abcde"), 16)
    assert not read_sealed(tmp_path / "m").sealed
    budgetnet.save(found, tmp_path / "again")
    assert read_sealed(tmp_path / "again").sealed
    # Neither format passes as the other: that would be a way around the digests.
    with pytest.raises(BadModelFile, match="digests are missing"):
        budgetnet.load(first_format(tmp_path / "m", {"format": 2}))
    with pytest.raises(BadModelFile, match="format 1 has no digests"):
        budgetnet.load(forged(tmp_path / "m", format=1))


def test_a_model_is_saved_as_the_same_bytes_each_time(tmp_path: Path) -> None:
    model = Budget("100k").build(models.convnet, classes=5, widths=(8, 16))
    for name in "ab":
        budgetnet.save(model, tmp_path / name, classes=tuple("abcde"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_would_not_be_taken_back_is_not_saved(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="from 1 to 4,096, not 5000"):
        budgetnet.save(model, tmp_path / "m", resolution=5000)
    with pytest.raises(ValueError, match="shorten the classes' names"):
        budgetnet.save(model, tmp_path / "m", classes=("a" * 2**20, "b"))
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_another_kind_are_no_weights(tmp_path: Path) -> None:
    tensors = {"weight": torch.zeros(2, 2, dtype=torch.int64), "bias": torch.zeros(2)}
    (tmp_path / "m").write_bytes(seal(tensors, {"format": 2, "version": "0", **asdict(Card())}))
    with pytest.raises(BadModelFile, match=r"\[2, 2\] of floats, found \[2, 2\] of integers"):
        budgetnet.load(tmp_path / "m", nn.Linear, 2, 2)


def test_a_budget_from_scratch_is_kept_by_save_and_load(tmp_path: Path) -> None:
    model = Budget(params=200, scratch=True).build(mine, 3)
    budgetnet.save(model, tmp_path / "m")
    assert read_card(tmp_path / "m").budget == {"params": 200, "scratch": True}
    budgetnet.load(tmp_path / "m", mine, 3)
    model.external = "put there later"
    with pytest.raises(NotFromScratch):
        budgetnet.save(model, tmp_path / "m")
    contradictory = forged(
        tmp_path / "forged",
        arguments=[[], {"dict": {"classes": 3, "widths": [8]}}],
        budget={"params": 10_000, "scratch": True},
        external="elsewhere",
    )
    with pytest.raises(NotFromScratch, match="elsewhere"):
        budgetnet.load(contradictory)


def test_a_card_that_asks_for_external_weights_fetches_nothing(tmp_path: Path) -> None:
    model = Budget("5M").build(models.efficientnet, 3)
    for weights in ("imagenet", str(tmp_path / "absent.safetensors")):
        asking = Card(builder="efficientnet", arguments=[[], {"dict": {"classes": 3, "weights": weights}}])
        words = {"format": 2, "version": "0", **asdict(asking)}
        (tmp_path / "m").write_bytes(seal(model.state_dict(), words))
        found = budgetnet.load(tmp_path / "m")
        assert torch.equal(found[1][0][0].weight, model[1][0][0].weight)


class Hidden(nn.Module):
    """A network whose scale no parameter and no buffer holds."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.inner = mine(classes)
        self.scale = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.scale


def test_a_file_that_gives_other_logits_than_the_model_says_so_and_stays(tmp_path: Path) -> None:
    model = Budget(params=200).build(Hidden, 3)
    budgetnet.save(model, tmp_path / "same", resolution=2)
    model.scale = 3.0
    with pytest.warns(RuntimeWarning, match=r"does not give what the model gives.*register_buffer"):
        budgetnet.save(model, tmp_path / "m", resolution=2)
    assert torch.equal(budgetnet.load(tmp_path / "m", Hidden, 3).inner[1].weight, model.inner[1].weight)
    assert model.training


def test_a_model_whose_card_builds_another_one_is_told_when_it_is_saved(tmp_path: Path) -> None:
    model = Budget("100k").build(models.convnet, 5, widths=(4, 8))
    model.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    with pytest.warns(RuntimeWarning, match="cannot be loaded again"):
        budgetnet.save(model, tmp_path / "m", resolution=8)


def test_of_no_known_builder_a_copy_without_its_values_is_filled_and_compared(tmp_path: Path) -> None:
    plain = mine(3).eval()
    budgetnet.save(plain, tmp_path / "plain", resolution=2)
    model = Undecided()
    budgetnet.save(model, tmp_path / "drawing", resolution=2)


class Undecided(nn.Module):
    """Dropout that is always on: what it gives is told by the generators, which are the same for both."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mine(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.inner(x), 0.5, training=True)


class Sliced(nn.Module):
    """Two weights in the memory of one."""

    def __init__(self) -> None:
        super().__init__()
        memory = torch.arange(12.0)
        self.first, self.second = nn.Parameter(memory[:8]), nn.Parameter(memory[4:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :8] * self.first + self.second


def test_weights_in_the_memory_of_one_another_are_saved_each(tmp_path: Path) -> None:
    budgetnet.save(Sliced(), tmp_path / "m")
    found = budgetnet.load(tmp_path / "m", Sliced)
    assert torch.equal(found.second, torch.arange(4.0, 12.0))
