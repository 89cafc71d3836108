"""What the networks promise: seed 000's to the last parameter, torchvision's where the name is the same."""

import doctest
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from budgetnet import models
from budgetnet.budget import count, macs
from budgetnet.layers import (
    Residual,
    Standardise,
    StochasticDepth,
    basic,
    bottleneck,
    conv_norm_act,
    depthwise_separable,
    inverted_residual,
    relu,
    relu6,
    silu,
)

SMALL = {"channels": 1, "widths": (16, 32), "blocks": (2, 2), "block": basic, "stem": 16, "stem_kernel": 3}


def multiply_accumulates(model: nn.Module, resolution: int, channels: int = 3) -> int:
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, channels, resolution, resolution, device="meta"))
    return counter.get_total_flops() // 2


def on_meta(make: Callable[..., nn.Sequential], *args: object, **kwargs: object) -> nn.Sequential:
    with torch.device("meta"):
        return make(*args, **kwargs)


def randomise(model: nn.Module) -> None:
    """Give every weight and statistic a value that matters."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


# --- the residual network -----------------------------------------------------------------------------------


class Restated:
    """Seed 000's network in functions, written from its description and reading tensors in order of use."""

    def __init__(self, tensors: Iterator[Tensor], training: bool) -> None:
        self.tensors = tensors
        self.training = training

    def conv(self, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        x = F.conv2d(x, next(self.tensors), stride=stride, padding=padding)
        scale, shift, mean, variance, _ = (next(self.tensors) for _ in range(5))
        return F.batch_norm(x, mean.clone(), variance.clone(), scale, shift, self.training)

    def block(self, x: Tensor, stride: int, projected: bool) -> Tensor:
        y = F.leaky_relu(self.conv(x), 0.1)
        y = F.leaky_relu(self.conv(y, stride, padding=1), 0.1)
        y = self.conv(y)
        return F.leaky_relu(y + (self.conv(x, stride) if projected else x), 0.1)

    def logits(self, x: Tensor) -> Tensor:
        mean, std, _ = (next(self.tensors) for _ in range(3))
        x = F.max_pool2d(F.leaky_relu(self.conv((x - mean) / std), 0.1), 2, 2)
        for depth, stride in ((4, 1), (9, 2), (8, 2)):
            for index in range(depth):
                x = self.block(x, stride if index == 0 else 1, projected=index == 0)
        return F.linear(x.mean((2, 3)), next(self.tensors), next(self.tensors))


@pytest.mark.parametrize("training", [False, True])
def test_the_default_resnet_computes_what_seed_000_describes(training: bool) -> None:
    torch.manual_seed(0)
    model = models.resnet(10, mean=(0.45, 0.44, 0.41), std=(0.26, 0.25, 0.27)).double()
    randomise(model)
    images = torch.rand(4, 3, 38, 38, dtype=torch.float64)
    tensors = iter([tensor.clone() for tensor in model.state_dict().values()])
    expected = Restated(tensors, training).logits(images)
    assert next(tensors, None) is None
    torch.testing.assert_close(model.train(training)(images), expected)


def test_the_default_resnet_has_the_parameters_and_buffers_of_seed_000() -> None:
    model = on_meta(models.resnet, 10)
    parts = {name: sum(value.numel() for value in part.parameters()) for name, part in model.named_children()}
    assert parts == {"standardise": 0, "stem": 3_200, "stages": 1_989_936, "head": 3_850}
    stages = [sum(value.numel() for value in part.parameters()) for part in model.stages]
    assert stages == [68_880, 579_360, 1_341_696]
    assert count(models.resnet, 10) == 1_996_986
    assert sum(value.numel() for value in model.buffers()) == 18_819 + 3 + 3 + 1


@pytest.mark.parametrize(("resolution", "macs"), [(70, 370_819_440), (96, 683_631_696), (120, 1_081_499_088)])
def test_the_default_resnet_costs_what_seed_000_costs(resolution: int, macs: int) -> None:
    assert multiply_accumulates(on_meta(models.resnet, 10), resolution) == macs


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_one_more_plane_or_one_more_block_than_seed_000_is_over_two_million(stage: int) -> None:
    widths, blocks = [120, 240, 384], [4, 9, 8]
    widths[stage] += 4
    assert count(models.resnet, 10, widths=widths) > 2_000_000
    widths[stage] -= 4
    blocks[stage] += 1
    assert count(models.resnet, 10, blocks=blocks) > 2_000_000


def test_a_fresh_resnet_is_drawn_as_seed_000_draws() -> None:
    torch.manual_seed(0)
    model = models.resnet(10, zero_init=False)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            # Within six standard errors of a standard deviation.
            spread = 6 / (2 * module.weight.numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=spread), name
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
            assert not module.bias.any()
    assert model.head.linear.bias.any(), "torch's own initialisation draws this bias"


def test_the_children_have_names_that_read() -> None:
    names = dict(on_meta(models.resnet, 10).named_modules())
    for name in ("standardise", "stem.conv", "stem.pool", "stages.0.3", "stages.2.7.branch.spatial.conv"):
        assert name in names
    assert "stages.0.4" not in names
    assert "stages.1.0.shortcut.conv" in names
    assert names["head.linear"].out_features == 10


@pytest.mark.parametrize("size", [8, 12, 16])
@pytest.mark.parametrize("stem_pool", [False, True])
def test_a_small_resnet_reads_digits_within_50k(size: int, stem_pool: bool) -> None:
    assert count(models.resnet, 10, **SMALL, stem_pool=stem_pool) == 42_938
    model = models.resnet(10, **SMALL, stem_pool=stem_pool)
    assert model(torch.rand(2, 1, size, size)).shape == (2, 10)
    maps = model[:-1](torch.rand(2, 1, size, size))
    assert maps.shape[-1] == size // 2 // (1 + stem_pool)


def test_a_small_resnet_learns() -> None:
    torch.manual_seed(0)
    model = models.resnet(4, **SMALL, stem_pool=False)
    images, labels = torch.rand(16, 1, 8, 8), torch.arange(16) % 4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model(images).argmax(1).eq(labels).float().mean() == 1


def test_resnets_of_torchvision_have_the_same_counts() -> None:
    make = partial(models.resnet, 1000, stem_kernel=7)
    wide = (256, 512, 1024, 2048)
    resnext = partial(bottleneck, expansion=2, groups=32)
    assert count(make, widths=(64, 128, 256, 512), blocks=(3, 4, 6, 3), block=basic) == count(
        torchvision.models.resnet34
    )
    assert count(make, widths=wide, blocks=(3, 4, 6, 3)) == count(torchvision.models.resnet50)
    assert count(make, widths=wide, blocks=(3, 4, 6, 3), block=resnext) == count(
        torchvision.models.resnext50_32x4d
    )


def test_a_stem_of_stride_two_makes_torchvisions_resnet_of_the_same_work() -> None:
    ours = models.resnet(
        1000, widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2), block=basic, stem_kernel=7, stem_stride=2
    )
    assert macs(ours, 64) == macs(torchvision.models.resnet18(), 64)


def test_stochastic_depth_rises_linearly_to_the_last_block() -> None:
    model = on_meta(models.resnet, 10, drop=0.21)
    rates = [module.rate for module in model.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0.01 * (index + 1) for index in range(21)])
    without = on_meta(models.resnet, 10)
    assert not any(isinstance(module, StochasticDepth) for module in without.modules())
    assert model.state_dict().keys() == without.state_dict().keys()


def test_zero_init_makes_every_block_start_as_its_shortcut() -> None:
    model = models.resnet(4, **SMALL)
    for block in model.modules():
        if isinstance(block, Residual):
            x = torch.rand(2, block.branch.first.conv.in_channels, 4, 4)
            torch.testing.assert_close(block(x), block.act(block.shortcut(x)))


@pytest.mark.parametrize("block", [bottleneck, inverted_residual, depthwise_separable, conv_norm_act])
def test_a_resnet_takes_any_builder_for_its_blocks(block: Callable[..., nn.Module]) -> None:
    model = models.resnet(3, widths=(8, 16), blocks=(1, 2), stem=8, block=block, act=silu)
    assert model(torch.rand(2, 3, 20, 20)).shape == (2, 3)
    assert any(isinstance(module, nn.SiLU) for module in model.stages.modules())


# --- the mobile and the plain network -----------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75, 1.0, 1.3])
def test_mobilenet_has_the_counts_of_torchvisions(width: float) -> None:
    theirs = partial(torchvision.models.mobilenet_v2, num_classes=10, width_mult=width)
    assert count(models.mobilenet, 10, width=width) == count(theirs)
    with torch.device("meta"):
        assert multiply_accumulates(models.mobilenet(10, width=width), 64) == multiply_accumulates(
            theirs(), 64
        )


def test_mobilenet_computes_what_torchvisions_computes() -> None:
    torch.manual_seed(0)
    ours = models.mobilenet(10, width=0.25).eval()
    randomise(ours)
    theirs = torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.25).eval()
    tensors = list(ours.state_dict().values())[3:]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_the_stem_of_a_mobilenet_keeps_small_images() -> None:
    for stride, size in ((1, 2), (2, 1)):
        model = on_meta(models.mobilenet, 10, stem_stride=stride)
        assert model[:-1](torch.empty(2, 3, 32, 32, device="meta")).shape[-1] == size
    assert count(models.mobilenet, 10, stem_stride=1) == count(models.mobilenet, 10)


def test_a_lower_last_convolution_makes_a_small_mobilenet() -> None:
    saved = count(models.mobilenet, 10, width=0.25) - count(models.mobilenet, 10, width=0.25, last=160)
    assert saved == (1280 - 160) * (80 + 2 + 10)


def test_convnet_is_two_convolutions_a_stage_and_a_pool_between() -> None:
    channels = [3, 32, 32, 64, 64, 128, 128]
    convs = sum(9 * inputs * outputs + 2 * outputs for inputs, outputs in pairwise(channels))
    assert count(models.convnet, 10) == convs + 128 * 10 + 10 == 288_746
    model = on_meta(models.convnet, 10)
    kinds = [type(module).__name__ for module in model.stages.modules() if not list(module.children())]
    pair = ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert kinds == [*pair, "MaxPool2d", *pair, "MaxPool2d", *pair]
    assert model[:-1](torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 128, 8, 8)


# --- all of them --------------------------------------------------------------------------------------------

EVERY: list[Callable[..., nn.Sequential]] = [
    models.convnet,
    partial(models.mobilenet, width=0.25),
    partial(models.resnet, widths=(16, 32), blocks=(1, 2), stem=8),
]


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_takes_any_resolution_and_any_number_of_channels(
    make: Callable[..., nn.Sequential], channels: int
) -> None:
    model = make(7, channels=channels).eval()
    for shape in ((40, 40), (33, 48)):
        assert model(torch.rand(2, channels, *shape)).shape == (2, 7)


@pytest.mark.parametrize("make", EVERY)
def test_a_model_begins_with_its_own_statistics(make: Callable[..., nn.Sequential]) -> None:
    fresh, given = make(4), make(4, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))
    assert next(iter(fresh.named_children()))[0] == "standardise"
    assert isinstance(fresh.standardise, Standardise)
    assert not fresh.standardise.fitted
    assert given.standardise.fitted
    fresh.load_state_dict(given.state_dict())
    images = torch.rand(2, 3, 36, 36)
    torch.testing.assert_close(fresh.eval()(images), given.eval()(images))


@pytest.mark.parametrize("make", EVERY)
def test_a_model_on_meta_draws_nothing_and_has_every_name_and_shape(
    make: Callable[..., nn.Sequential],
) -> None:
    state = torch.get_rng_state()
    planned = on_meta(make, 4, dropout=0.3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(tensor.is_meta for tensor in planned.state_dict().values())
    real = make(4, dropout=0.3)
    shapes = {name: tensor.shape for name, tensor in real.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in planned.state_dict().items()}
    assert any(isinstance(module, nn.Dropout) and module.p == 0.3 for module in real.modules())


@pytest.mark.parametrize("make", EVERY)
def test_a_seed_decides_every_weight(make: Callable[..., nn.Sequential]) -> None:
    torch.manual_seed(4)
    first = make(4).state_dict()
    torch.manual_seed(4)
    second = make(4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("make", EVERY)
def test_a_model_uses_the_activation_it_is_given(make: Callable[..., nn.Sequential]) -> None:
    kinds = {type(module) for module in on_meta(make, 4, act=silu).modules()}
    assert nn.SiLU in kinds
    assert not kinds & {nn.ReLU, nn.ReLU6, nn.LeakyReLU}


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: models.resnet(0), "resnet: classes .* not 0"),
    (lambda: models.resnet(10, channels=0), "resnet: channels"),
    (lambda: models.resnet(10, widths=(8, 16)), "resnet: widths and blocks .* not 2 widths and 3 blocks"),
    (lambda: models.resnet(10, widths=(), blocks=()), r"resnet: widths should be a tuple .* not \(\)"),
    (lambda: models.resnet(10, widths=64), "resnet: widths should be a tuple .* not 64"),  # type: ignore[arg-type]
    (lambda: models.resnet(10, blocks=(4, 0, 8)), r"resnet: blocks\[1\] .* not 0"),
    (
        lambda: models.resnet(10, widths=(120, 242, 384)),
        r"resnet: widths\[1\]=242 .* expansion=4.*240 or 244",
    ),
    (lambda: models.resnet(10, stem_stride=0), "resnet: stem_stride"),
    (lambda: models.resnet(10, stem_kernel=0), "resnet: stem_kernel"),
    (lambda: models.resnet(10, drop=1.0), "resnet: drop "),
    (lambda: models.resnet(10, dropout=1.0), "resnet: dropout"),
    (lambda: models.resnet(10, act=nn.ReLU()), "resnet: act .* pass ReLU itself"),
    (lambda: models.resnet(10, mean=(0.5,), std=(0.5,)), "mean should have one number for each of 3"),
    (lambda: models.convnet(10, widths=(8, -1)), r"convnet: widths\[1\] .* not -1"),
    (lambda: models.convnet(10, dropout=-1), "convnet: dropout"),
    (lambda: models.mobilenet(10, width=0), "mobilenet: width .* above 0, not 0"),
    (lambda: models.mobilenet(10, stem_stride=0), "mobilenet: stem_stride"),
    (lambda: models.mobilenet(10, drop=2), "mobilenet: drop "),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_a_bad_argument_is_refused_in_one_sentence_by_the_model(case: int) -> None:
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as refusal:
        build()
    assert "\n" not in str(refusal.value)


def test_a_resnet_of_billions_is_counted_at_once() -> None:
    assert count(models.resnet, 10, widths=(12_000, 24_000, 38_400)) > 10_000_000_000


def test_importing_the_models_does_not_import_torchvision() -> None:
    code = "import sys; from budgetnet import models; models.resnet; assert 'torchvision' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_activations_by_default_are_those_of_the_sources() -> None:
    def kinds(make: Callable[..., nn.Sequential]) -> set[type[nn.Module]]:
        acts = {type(relu()), type(relu6()), nn.LeakyReLU}
        return acts & {type(module) for module in on_meta(make, 4).modules()}

    assert kinds(models.resnet) == {nn.LeakyReLU}
    assert kinds(models.mobilenet) == {nn.ReLU6}
    assert kinds(models.convnet) == {nn.ReLU}


@pytest.mark.parametrize("room", ["", ".residual"])
def test_the_examples_in_docstrings_hold(room: str) -> None:
    tested = doctest.testmod(importlib.import_module(f"budgetnet.models{room}"))
    assert tested.attempted > 0
    assert tested.failed == 0


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("make", [models.convnet, models.resnet, models.mobilenet])
def test_torchscript_reads_whole_networks(make: Callable[..., nn.Module]) -> None:
    model, images = make(3).eval(), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(torch.jit.script(model)(images), model(images), rtol=1e-4, atol=1e-4)
