"""The layer table: torchsummary's rows and numbers, and the totals that it gets wrong."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from click.testing import CliRunner
from torch import Tensor, nn

import budgetnet
from budgetnet import Budget, DoesNotFit, ledger, macs, models
from budgetnet.budget import Summary, summary
from budgetnet.cli import main


class Reused(nn.Module):
    """A convolution called three times and aliased, a bare parameter, and a Linear that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.mix = nn.Conv2d(8, 8, 3, padding=1)
        self.again = self.mix
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.head = nn.Linear(8, 10)
        self.forgotten = nn.Linear(8, 100)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.mix(self.again(self.mix(self.stem(images)))) * self.scale
        return self.head(maps.mean((2, 3)))


class Functional(nn.Module):
    """A convolution without a convolution module, and a Linear whose weight is read without a call."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(16, 3, 3, 3))
        self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.conv2d(images, self.kernel, padding=1).mean((2, 3))
        return F.linear(maps, self.head.weight, self.head.bias)


class Tied(nn.Module):
    """Two Linears of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Linear(12, 12)
        self.up = nn.Linear(12, 12)
        self.up.weight = self.down.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.up(self.down(images.flatten(1)))


def rows(found: Summary) -> list[tuple[str, str, str]]:
    """The lines between the double rules: label, shape, parameters."""
    lines = str(found).splitlines()
    first, last = (at for at, line in enumerate(lines) if line.startswith("==="))
    cut = []
    for line in lines[first + 1 : last]:
        label, _, rest = line.strip().partition("  ")
        shape, _, params = rest.strip().rpartition("]") if "]" in rest else rest.strip().rpartition("called")
        cut.append((label, (shape + ("]" if "]" in rest else "called")).strip(), params.strip()))
    return cut


def torchsummary(model: nn.Module, *shape: int) -> list[tuple[str, str, str]]:
    """The rows that torchsummary 1.5.1 prints, in our own words: hooks on all but lists and the model."""
    found: list[tuple[str, str, str]] = []

    def hook(module: nn.Module, given: Any, output: Tensor) -> None:
        own = [getattr(module, name, None) for name in ("weight", "bias")]
        params = sum(each.numel() for each in own if isinstance(each, Tensor))
        label = f"{type(module).__name__}-{len(found) + 1}"
        found.append((label, str([-1, *output.shape[1:]]), f"{params:,}"))

    handles = [
        module.register_forward_hook(hook)
        for module in model.modules()
        if module is not model and not isinstance(module, nn.Sequential | nn.ModuleList)
    ]
    with torch.no_grad():
        model.eval()(torch.zeros(2, *shape))
    for handle in handles:
        handle.remove()
    return found


# --- rows


@pytest.mark.parametrize(
    ("make", "resolution"),
    [
        (lambda: models.resnet(10, widths=(16, 24), blocks=(2, 1), stem=8), 32),
        (lambda: models.convnet(10, widths=(8, 16)), 16),
        (lambda: torchvision.models.vgg11(num_classes=10), 32),
        (lambda: torchvision.models.resnet18(num_classes=10), 32),
    ],
    ids=["resnet", "convnet", "vgg", "torchvision's resnet"],
)
def test_with_blocks_rows_and_numbers_are_torchsummarys(
    make: Callable[[], nn.Module], resolution: int
) -> None:
    model = make()
    expected = torchsummary(model, 3, resolution, resolution)
    assert len(expected) > 5
    assert rows(summary(model, resolution, blocks=True)) == expected


def test_without_blocks_the_same_layers_are_numbered_by_themselves() -> None:
    model = models.resnet(10, widths=(16, 24), blocks=(2, 1), stem=8)
    with_blocks = rows(summary(model, 32, blocks=True))
    plain = rows(summary(model, 32))
    expected = [row for row in with_blocks if not row[0].startswith("Residual")]
    assert len(expected) < len(with_blocks)
    assert [(label.split("-")[0], *rest) for label, *rest in plain] == [
        (label.split("-")[0], *rest) for label, *rest in expected
    ]
    assert [int(label.split("-")[1]) for label, *_ in plain] == list(range(1, len(plain) + 1))


def test_the_stl10_network_has_the_rows_and_totals_that_are_known() -> None:
    model = models.resnet(10)[1:]  # without the standardisation, which the original has in its data
    found = summary(model, 96)
    assert rows(found)[:7] == [
        ("Conv2d-1", "[-1, 64, 93, 93]", "3,072"),
        ("BatchNorm2d-2", "[-1, 64, 93, 93]", "128"),
        ("LeakyReLU-3", "[-1, 64, 93, 93]", "0"),
        ("MaxPool2d-4", "[-1, 64, 46, 46]", "0"),
        ("Conv2d-5", "[-1, 30, 46, 46]", "1,920"),
        ("BatchNorm2d-6", "[-1, 30, 46, 46]", "60"),
        ("LeakyReLU-7", "[-1, 30, 46, 46]", "0"),
    ]
    label, *rest = rows(found)[-1]
    assert label.startswith("Linear-")
    assert rest == ["[-1, 10]", "3,850"]
    assert rows(summary(model, 96, blocks=True)) == torchsummary(model, 3, 96, 96)
    assert (found.params, found.trainable, found.macs) == (1_996_986, 1_996_986, 683_631_696)
    assert sum(layer.params for layer in found.layers) == 1_996_986
    text = str(found)
    assert "\nTotal params: 1,996,986\nTrainable params: 1,996,986\nNon-trainable params: 0\n" in text
    assert "\nMACs: 683,631,696 at 3x96x96\n" in text
    assert "\nInput size (MiB): 0.11\n" in text
    assert "\nParams size (MiB): 7.62\n" in text


def test_a_layer_called_three_times_a_bare_parameter_and_an_unused_linear_count_1806() -> None:
    model = Reused()
    found = summary(model, 32)
    assert rows(found) == [
        ("Conv2d-1", "[-1, 8, 32, 32]", "224"),
        ("Conv2d-2", "[-1, 8, 32, 32]", "584"),
        ("Conv2d-3", "[-1, 8, 32, 32]", "as Conv2d-2"),
        ("Conv2d-4", "[-1, 8, 32, 32]", "as Conv2d-2"),
        ("Linear-5", "[-1, 10]", "90"),
        ("Reused-6", "[-1, 10]", "8"),
        ("forgotten (Linear)", "not called", "900"),
    ]
    assert found.params == 1_806
    # What torchsummary adds up: each call anew, no bare parameter, nothing that is not called.
    theirs = torchsummary(model, 3, 32, 32)
    assert sum(int(params.replace(",", "")) for *_, params in theirs) == 2_066


def test_weights_that_are_read_without_a_call_are_counted() -> None:
    found = summary(Functional(), 16)
    assert (found.params, found.macs) == (602, 110_752)
    assert rows(found) == [("Functional-1", "[-1, 10]", "432"), ("head (Linear)", "not called", "170")]
    assert "note: head (Linear): used without a call of its own" in str(found)


def test_a_shared_weight_is_counted_in_its_first_owner() -> None:
    found = summary(Tied(), 2)
    assert [layer.params for layer in found.layers] == [12 * 12 + 12, 12]
    assert found.params == 168
    assert re.search(r"^note: Linear-2: .*weight shared with down\.weight", str(found), re.MULTILINE)


def test_a_layer_without_parameters_may_be_called_again() -> None:
    act = nn.ReLU()
    found = summary(nn.Sequential(nn.Conv2d(3, 4, 1), act, nn.Conv2d(4, 4, 1), act), 4)
    assert [(layer.label, layer.params) for layer in found.layers] == [
        ("Conv2d-1", 16),
        ("ReLU-2", 0),
        ("Conv2d-3", 20),
        ("ReLU-4", 0),
    ]
    assert "as ReLU" not in str(found)


def test_frozen_parameters_are_not_trainable() -> None:
    model = models.convnet(10, widths=(8,))
    model[-1].requires_grad_(False)
    found = summary(model, 8)
    frozen = sum(parameter.numel() for parameter in model[-1].parameters())
    assert frozen > 0
    assert found.trainable == found.params - frozen
    assert f"Non-trainable params: {frozen:,}" in str(found)


# --- totals


@pytest.mark.parametrize("resolution", [32, (24, 40)])
def test_the_totals_are_the_ledgers(resolution: int | tuple[int, int]) -> None:
    model = models.resnet(10, widths=(16, 24), blocks=(2, 1), stem=8)
    found, counts = summary(model, resolution), ledger(model, resolution)
    assert (found.params, found.trainable) == (counts.params, counts.trainable)
    assert found.macs == counts.macs == macs(model, resolution)
    assert found.forward_bytes == counts.activation_bytes
    height, width = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    assert found.image == (1, 3, height, width)
    assert found.input_bytes == 3 * height * width * 4
    assert found.params_bytes == 4 * counts.params


def test_sizes_are_in_mebibytes_and_the_forward_pass_counts_each_output_once() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(65536, 32)
    )
    found = summary(model, 64)
    # The ReLU and the Flatten share the convolution's memory.
    assert found.forward_bytes == 4 * (16 * 64 * 64 + 32)
    text = str(found)
    assert "Forward pass size (MiB): 0.25" in text
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert f"Params size (MiB): {size / 2**20:.2f}" in text
    total = size + found.forward_bytes + 3 * 64 * 64 * 4
    assert f"Estimated total size (MiB): {total / 2**20:.2f}" in text


def test_half_precision_is_half_the_size() -> None:
    model = models.convnet(10, widths=(8,))
    whole, half = summary(model, 8), summary(model.half(), 8)
    assert half.params_bytes * 2 == whole.params_bytes
    assert half.input_bytes * 2 == whole.input_bytes


def test_grey_images_and_other_channels() -> None:
    grey = models.convnet(10, channels=1, widths=(8,))
    assert summary(grey, 8).image == (1, 1, 8, 8)
    assert summary(nn.Sequential(nn.Flatten(), nn.Linear(20, 2)), 2, channels=5).image == (1, 5, 2, 2)


def test_the_model_is_left_as_it_was() -> None:
    model = models.convnet(10, widths=(8,), dropout=0.5).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    summary(model, 8, blocks=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_large_network_is_listed_without_its_weights() -> None:
    with torch.device("meta"):
        vgg = torchvision.models.vgg19()
    found = summary(vgg, 224)
    assert found.params == 143_667_240
    assert math.isclose(found.params_bytes / 2**20, 548.05, abs_tol=0.01)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DoesNotFit, match="the smallest resolution that fits is 32"):
        summary(torchvision.models.vgg11(), 16)
    with pytest.raises(ValueError, match="not lazy"):
        summary(nn.LazyConv2d(8, 3), 16)


def test_the_conventions_stand_below_and_lines_are_of_one_width() -> None:
    lines = str(summary(Reused(), 32)).splitlines()
    assert "1 MiB is 1,048,576 bytes" in lines[-1]
    bars = {line for line in lines if set(line) <= {"-"} or set(line) <= {"="}}
    assert {len(line) for line in bars} == {64}
    assert max(map(len, lines)) <= 110
    model = Reused()
    model.add_module("a_name_so_long_that_it_would_move_every_other_column", nn.Linear(2, 2))
    lines = str(summary(model, 32)).splitlines()
    assert len(lines[0]) == 64
    assert any(
        line.startswith("a_name_so_long_that_it_would_move_every_other_column (Linear)") for line in lines
    )


def test_the_json_says_the_same() -> None:
    found = json.loads(summary(Reused(), 32).json())
    assert (found["params"], found["macs"], found["image"]) == (1_806, 1_990_736, [1, 3, 32, 32])
    assert [row["first"] for row in found["layers"]] == [None, None, 2, 2, None, None, None]
    assert found["layers"][-1] | {} == {
        "number": None,
        "name": "forgotten",
        "kind": "Linear",
        "shape": None,
        "params": 900,
        "first": None,
        "note": "",
    }


# --- the command


def told(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_count_prints_the_layers_of_a_recipe_and_of_a_model(tmp_path: Path) -> None:
    output = told("count", "fixres_stl10", "--summary")
    assert "Total params: 1,996,986" in output
    assert "MACs: 1,081,499,088 at 3x120x120" in output
    assert "MACs: 370,819,440 at 3x70x70" in told("count", "fixres_stl10", "--summary", "--resolution", 70)
    model = Budget("10k").build(models.convnet, classes=3, widths=(8, 16))
    budgetnet.save(model, tmp_path / "m.safetensors", resolution=12)
    found = json.loads(told("count", tmp_path / "m.safetensors", "--summary", "--json"))
    assert found["image"] == [1, 3, 12, 12]
    assert found["params"] == found["trainable"] == ledger(model).params


def test_count_refuses_layers_over_a_budget_or_without_a_size(tmp_path: Path) -> None:
    model = Budget("10k").build(models.convnet, classes=3, widths=(8, 16))
    budgetnet.save(model, tmp_path / "m.safetensors")
    file = tmp_path / "m.safetensors"
    assert "add --resolution 32" in told("count", file, "--summary", code=2)
    output = told("count", file, "--summary", "--resolution", 8, "--budget", "1k", code=2)
    assert "Conv2d-2" in output
    assert "over the budget of 1,000" in output
