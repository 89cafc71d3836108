"""What a model file asks for is bounded before any of it is taken, whatever its card describes."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import budgetnet
from budgetnet import Budget, layers, models
from budgetnet.files import MOST_TENSORS, Damaged, read_sealed, seal
from budgetnet.modelfile import BadModelFile, Card, bounds
from budgetnet.modelfile.arguments import encoded


def forged(path: Path, act: Any = nn.ReLU, **entries: Any) -> Path:
    """A file of a small network's tensors whose card describes it with another activation."""
    model = models.convnet(3, widths=(4, 8))
    arguments = encoded([[], {"classes": 3, "widths": (4, 8), "act": act}])
    good = asdict(Card(("a", "b", "c"), 8, 8, builder="convnet", arguments=arguments))
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    path.write_bytes(seal(tensors, {"format": 2, "version": "0", **good, **entries}))
    return path


GROWING: dict[str, Any] = {
    "edges without end": partial(nn.ReplicationPad2d, 3000),
    "a margin without end": partial(nn.ConstantPad2d, 3000, 0.0),
    "zeros without end": partial(nn.ZeroPad2d, 10**9),
    "a thousandfold enlargement": partial(nn.Upsample, scale_factor=1000),
    "an enlargement to a size": partial(nn.Upsample, size=30_000),
    "a pool that grows": partial(nn.AdaptiveAvgPool2d, 20_000),
    "another pool that grows": partial(nn.AdaptiveMaxPool2d, 20_000),
    "windows as channels": partial(nn.Unfold, 3, padding=2000),
    "a row of tenfold margins": partial(layers.stage, partial(nn.MaxPool2d, 3, padding=1), 3, 1, 10**6),
    "a shape of its own": partial(nn.Unflatten, 1, (2**30, 2**30)),
}


@pytest.mark.parametrize("name", GROWING)
def test_a_card_whose_layers_grow_beyond_any_image_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match=r"m\.safetensors") as refused:
        budgetnet.load(forged(tmp_path / "m.safetensors", GROWING[name]))
    assert len(str(refused.value)) < 400


def test_a_pool_whose_windows_take_hours_is_refused(tmp_path: Path) -> None:
    endless = partial(nn.AvgPool2d, 2001, stride=1, padding=1000)
    with pytest.raises(BadModelFile, match=r"asks for more than .* operations for one image"):
        budgetnet.load(forged(tmp_path / "m", endless, resize=2048, crop=2048))


def test_a_wide_layer_at_many_pixels_is_refused(tmp_path: Path) -> None:
    model = models.convnet(3, widths=(600,))
    arguments = encoded([[], {"classes": 3, "widths": [600]}])
    tensors = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    words = asdict(Card(("a", "b", "c"), 4096, 4096, builder="convnet", arguments=arguments))
    (tmp_path / "m").write_bytes(seal(tensors, {"format": 2, "version": "0", **words}))
    with pytest.raises(BadModelFile, match="a tensor of 10,066,329,600 numbers for one image"):
        budgetnet.load(tmp_path / "m")


@pytest.mark.parametrize("entry", ["resize", "crop", "shift", "channels"])
@pytest.mark.parametrize("number", [0, -1, 4097, 10**12, float("nan"), float("inf"), 1.5, True, "8", [8]])
def test_a_number_of_a_card_beyond_reason_is_refused(entry: str, number: Any, tmp_path: Path) -> None:
    if (entry, number) == ("shift", 0):
        return
    with pytest.raises(BadModelFile, match=f"its {entry} should be a whole number from"):
        budgetnet.load(forged(tmp_path / "m", **{entry: number}))


@pytest.mark.parametrize(
    "act",
    [
        nn.GELU,
        nn.PReLU,
        layers.leaky,
        partial(nn.Softplus, 2),
        partial(nn.ZeroPad2d, 1),
        partial(nn.Upsample, scale_factor=2),
        partial(nn.MaxPool2d, 3, stride=1, padding=1),
    ],
)
def test_what_people_write_is_loaded(act: Any, tmp_path: Path) -> None:
    model = Budget("100k").build(models.convnet, 3, widths=(4, 8), act=act).eval()
    budgetnet.save(model, tmp_path / "m", classes=("a", "b", "c"), resolution=8)
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(budgetnet.load(tmp_path / "m")(images), model(images))


@pytest.mark.parametrize("make", [models.resnet, models.vgg, models.efficientnet, models.mobilenet])
def test_ordinary_networks_need_not_be_run_to_be_known_and_would_pass(make: Any) -> None:
    with torch.device("meta"):
        model = make(3)
    widest = max(len(tensor) for tensor in model.state_dict().values() if tensor.ndim)
    assert bounds.ordinary([[], {"classes": 3}], widest, 224)
    bounds.check_run(model, 3, 224)


def test_a_file_of_very_many_tensors_is_neither_read_nor_written(tmp_path: Path) -> None:
    many = {f"t{number}": torch.zeros(0) for number in range(MOST_TENSORS + 1)}
    with pytest.raises(ValueError, match=r"takes 10,000 tensors, found 10,001"):
        seal(many, {})
    from safetensors.torch import save_file

    save_file(many, tmp_path / "m")
    with pytest.raises(Damaged, match="holds 10,001 tensors, and 10,000 are taken"):
        read_sealed(tmp_path / "m")
    with pytest.raises(BadModelFile, match="holds 10,001 tensors"):
        budgetnet.load(tmp_path / "m")


def test_a_network_of_thousands_of_layers_is_filled_without_looking_at_all_names_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Budget("100k").build(models.convnet, 3, widths=(4, 8))
    budgetnet.save(model, tmp_path / "m")

    def quadratic(*_: object, **__: object) -> None:
        raise AssertionError("torch's load_state_dict goes over every name for every module")

    monkeypatch.setattr(nn.Module, "load_state_dict", quadratic)
    found = budgetnet.load(tmp_path / "m")
    assert all(torch.equal(held, model.state_dict()[name]) for name, held in found.state_dict().items())
