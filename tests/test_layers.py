"""What the layer builders promise, with torch and torchvision as the reference."""

import doctest
import importlib
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models.efficientnet import MBConv, MBConvConfig
from torchvision.models.mobilenetv2 import InvertedResidual as MobileV2
from torchvision.models.mobilenetv3 import InvertedResidual as MobileV3
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.transforms.v2.functional import normalize

from budgetnet import layers
from budgetnet.budget import count
from budgetnet.layers import (
    Residual,
    Standardise,
    avg_pool,
    basic,
    bottleneck,
    conv_norm_act,
    dense_head,
    depthwise_separable,
    dropout,
    gelu,
    global_pool,
    hardswish,
    head,
    inverted_residual,
    kaiming,
    leaky,
    max_pool,
    relu,
    relu6,
    rising,
    silu,
    squeeze_excite,
    stage,
    standardise,
    stem,
    stochastic_depth,
)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give target the tensors of source, in their order: names differ between us and torchvision."""
    ours, theirs = list(source.state_dict().values()), target.state_dict()
    assert [value.shape for value in ours] == [value.shape for value in theirs.values()]
    target.load_state_dict(dict(zip(theirs, ours)))


def not_in_place(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return model


def assert_same(ours: nn.Module, theirs: nn.Module, inputs: int, size: int = 9) -> None:
    """The same output, input gradient and weight gradients while training, and the same output after it."""
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    copy_weights(ours, theirs)
    not_in_place(theirs)
    grads = []
    for model in (ours.double(), theirs.double()):
        torch.manual_seed(1)
        images = torch.randn(4, inputs, size, size, dtype=torch.float64, requires_grad=True)
        torch.manual_seed(2)
        out = model.train()(images)
        out.square().sum().backward()
        assert images.grad is not None
        grads.append([out, images.grad, *[parameter.grad for parameter in model.parameters()]])
        model.eval()
    torch.testing.assert_close(grads[0], grads[1])
    images = torch.randn(2, inputs, size, size, dtype=torch.float64)
    torch.testing.assert_close(ours(images), theirs(images))


# --- convolutions -------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 24),
    kernel=st.integers(0, 3).map(lambda half: 2 * half + 1),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
)
def test_the_default_padding_divides_the_resolution_by_the_stride_rounded_up(
    size: int, kernel: int, stride: int, dilation: int
) -> None:
    with torch.device("meta"):
        conv = conv_norm_act(2, 3, kernel, stride=stride, dilation=dilation)
        out = conv(torch.empty(2, 2, size, size + 1))
    assert out.shape == (2, 3, -(-size // stride), -(-(size + 1) // stride))


def test_an_even_kernel_is_refused_at_stride_1_and_halves_at_stride_2() -> None:
    with pytest.raises(ValueError, match=r"kernel should be odd .* not 4; say padding"):
        conv_norm_act(3, 8, 4)
    assert conv_norm_act(3, 8, 4, padding=0)(torch.rand(2, 3, 9, 9)).shape == (2, 8, 6, 6)
    assert conv_norm_act(3, 8, 4, stride=2)(torch.rand(2, 3, 8, 8)).shape == (2, 8, 4, 4)
    assert conv_norm_act(3, 8, 2, stride=2)(torch.rand(2, 3, 9, 9)).shape == (2, 8, 4, 4)


def test_an_even_kernel_with_an_even_dilation_keeps_the_resolution() -> None:
    assert conv_norm_act(3, 8, 2, dilation=2)(torch.rand(2, 3, 9, 9)).shape == (2, 8, 9, 9)


def test_a_convolution_has_a_bias_only_where_there_is_no_norm() -> None:
    assert count(conv_norm_act, 3, 8) == 3 * 8 * 9 + 16
    assert count(conv_norm_act, 3, 8, norm=None) == 3 * 8 * 9 + 8
    assert [name for name, _ in conv_norm_act(3, 8).named_children()] == ["conv", "norm", "act"]
    assert [name for name, _ in conv_norm_act(3, 8, act=None).named_children()] == ["conv", "norm"]


def test_conv_norm_act_is_what_torch_says_in_full() -> None:
    ours = conv_norm_act(4, 6, 5, stride=2, groups=2, act=nn.Tanh)
    conv = nn.Conv2d(4, 6, 5, stride=2, padding=2, groups=2, bias=False)
    assert_same(ours, nn.Sequential(conv, nn.BatchNorm2d(6), nn.Tanh()), inputs=4)


def test_the_stem_is_torchvisions() -> None:
    theirs = torchvision.models.resnet18()
    assert_same(stem(3, 64), nn.Sequential(theirs.conv1, theirs.bn1, theirs.relu, theirs.maxpool), 3, size=37)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [({}, {224: 56, 97: 25, 32: 8}), ({"pool": 2}, {224: 56, 97: 24}), ({"padding": 5}, {224: 57, 128: 33})],
)
def test_a_stem_divides_by_four_unless_its_padding_is_too_large(
    options: dict[str, int], sizes: dict[int, int]
) -> None:
    with torch.device("meta"):
        for before, after in sizes.items():
            assert stem(3, 4, **options)(torch.empty(2, 3, before, before)).shape == (2, 4, after, after)


def test_a_stem_has_a_bias_where_it_is_asked_for_or_has_no_norm() -> None:
    assert stem(3, 4).conv.bias is None
    assert stem(3, 4, bias=True).conv.bias is not None
    assert stem(3, 4, norm=None).conv.bias is not None
    assert [name for name, _ in stem(3, 4, norm=None, act=None).named_children()] == ["conv", "pool"]


def test_depthwise_separable_is_a_grouped_and_a_pointwise_convolution() -> None:
    theirs = nn.Sequential(
        nn.Conv2d(4, 4, 5, stride=2, padding=2, groups=4, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 7, 1, bias=False),
        nn.BatchNorm2d(7),
        nn.ReLU(),
    )
    assert_same(depthwise_separable(4, 7, stride=2, kernel=5), theirs, inputs=4)


def test_a_norm_is_any_function_of_channels() -> None:
    block = bottleneck(8, 16, norm=partial(nn.GroupNorm, 2))
    kinds = {type(module) for module in block.modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds
    assert block(torch.rand(1, 8, 4, 4)).shape == (1, 16, 4, 4)


# --- residual blocks ----------------------------------------------------------------------------------------


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


@pytest.mark.parametrize(
    ("inputs", "outputs", "stride"), [(16, 16, 1), (16, 24, 1), (16, 16, 2), (12, 32, 2)]
)
def test_bottleneck_is_torchvisions(inputs: int, outputs: int, stride: int) -> None:
    changes = stride != 1 or inputs != outputs
    theirs = torchvision.models.resnet.Bottleneck(
        inputs, outputs // 4, stride, projection(inputs, outputs, stride) if changes else None
    )
    assert_same(bottleneck(inputs, outputs, stride=stride), theirs, inputs)


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 12, 1), (8, 8, 2)])
def test_basic_is_torchvisions(inputs: int, outputs: int, stride: int) -> None:
    changes = stride != 1 or inputs != outputs
    theirs = torchvision.models.resnet.BasicBlock(
        inputs, outputs, stride, projection(inputs, outputs, stride) if changes else None
    )
    assert_same(basic(inputs, outputs, stride=stride), theirs, inputs)


def test_bottleneck_with_groups_is_resnexts() -> None:
    theirs = torchvision.models.resnet.Bottleneck(64, 64, 1, projection(64, 256, 1), groups=32, base_width=4)
    assert_same(bottleneck(64, 256, expansion=2, groups=32), theirs, inputs=64, size=4)
    assert count(bottleneck, 64, 256, width=128, groups=32) == count(
        bottleneck, 64, 256, expansion=2, groups=32
    )


def test_a_bottleneck_of_seed_000_counts_84000() -> None:
    convs = 120 * 60 + 60 * 60 * 9 + 60 * 240 + 120 * 240
    norms = 2 * (60 + 60 + 240 + 240)
    assert count(bottleneck, 120, 240, stride=2) == convs + norms == 84_000


@pytest.mark.parametrize(
    "act", [relu, relu6, leaky, silu, hardswish, gelu, nn.ReLU, lambda: nn.ELU(inplace=True)]
)
def test_activations_are_safe_for_the_sum_and_its_gradient(act: layers.Act) -> None:
    block = stage(bottleneck, 4, 8, 2, stride=2, act=act)
    theirs = stage(bottleneck, 4, 8, 2, stride=2, act=lambda: not_in_place(act()))
    assert_same(block, theirs, inputs=4)


def test_a_residual_block_leaves_its_input_as_it_was() -> None:
    images = torch.randn(2, 8, 5, 5)
    before = images.clone()
    for block in (basic(8, 8), bottleneck(8, 8), inverted_residual(8, 8), inverted_residual(8, 8, expand=1)):
        block(images)
    assert torch.equal(images, before)


def test_activations_are_torchs() -> None:
    x = torch.linspace(-4, 8, 99)
    pairs: list[tuple[layers.Act, Callable[[Tensor], Tensor]]] = [
        (relu, F.relu),
        (relu6, F.relu6),
        (leaky, lambda value: F.leaky_relu(value, 0.1)),
        (silu, F.silu),
        (hardswish, F.hardswish),
        (gelu, F.gelu),
    ]
    for act, function in pairs:
        torch.testing.assert_close(act()(x.clone()), function(x))


def test_only_the_first_block_of_a_stage_is_strided() -> None:
    strides = [block.branch.first.conv.stride for block in stage(basic, 4, 8, 3, stride=2)]
    assert strides == [(2, 2), (1, 1), (1, 1)]
    assert stage(basic, 4, 8, 3, stride=2)(torch.rand(2, 4, 9, 9)).shape == (2, 8, 5, 5)
    assert count(stage, basic, 4, 8, 3) == count(basic, 4, 8) + 2 * count(basic, 8, 8)


def test_a_stage_hands_its_options_to_every_block() -> None:
    wide = stage(bottleneck, 8, 16, 2, expansion=2)
    assert [block.branch.reduce.conv.out_channels for block in wide] == [8, 8]
    assert count(stage, conv_norm_act, 3, 8, 2, kernel=5) == 3 * 8 * 25 + 8 * 8 * 25 + 32
    with pytest.raises(TypeError, match="squash"):
        stage(basic, 4, 8, 2, squash=2)


def test_a_stage_takes_one_rate_of_stochastic_depth_or_one_for_each_block() -> None:
    def rates(blocks: nn.Sequential) -> list[float]:
        return [getattr(block.drop, "rate", 0.0) for block in blocks]

    assert rates(stage(basic, 4, 4, 3, drop=0.2)) == [0.2, 0.2, 0.2]
    assert rates(stage(basic, 4, 4, 3, drop=(0.0, 0.1, 0.3))) == [0.0, 0.1, 0.3]
    with pytest.raises(ValueError, match="one for each of the 3 blocks, not 2 rates"):
        stage(basic, 4, 4, 3, drop=(0.1, 0.2))


def test_rising_rates_reach_the_given_one_in_the_last_block() -> None:
    assert rising(0.5, [1, 3]) == [(0.125,), (0.25, 0.375, 0.5)]
    assert rising(0.3, [4, 9, 8])[-1][-1] == 0.3
    assert rising(0.0, [2]) == [(0.0, 0.0)]


# --- mobile blocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "outputs", "stride", "expand"), [(8, 8, 1, 6), (8, 12, 1, 6), (8, 8, 2, 4), (8, 8, 1, 1)]
)
def test_inverted_residual_is_torchvisions_mobilenet_v2_block(
    inputs: int, outputs: int, stride: int, expand: int
) -> None:
    ours = inverted_residual(inputs, outputs, stride=stride, expand=expand)
    assert_same(ours, MobileV2(inputs, outputs, stride, expand), inputs)


@pytest.mark.parametrize(("outputs", "stride"), [(16, 1), (24, 2)])
def test_inverted_residual_with_squeeze_excite_is_torchvisions_mobilenet_v3_block(
    outputs: int, stride: int
) -> None:
    theirs = MobileV3(InvertedResidualConfig(16, 5, 64, outputs, True, "HS", stride, 1, 1.0), nn.BatchNorm2d)
    gated = partial(squeeze_excite, reduction=4, gate=nn.Hardsigmoid)
    ours = inverted_residual(16, outputs, stride=stride, expand=4, kernel=5, squeeze=gated, act=hardswish)
    assert_same(ours, theirs, inputs=16)


@pytest.mark.parametrize("expand", [1, 6])
def test_inverted_residual_with_stochastic_depth_is_torchvisions_efficientnet_block(expand: int) -> None:
    theirs = MBConv(MBConvConfig(expand, 5, 1, 8, 8, 1), 0.4, nn.BatchNorm2d)
    squeeze = partial(squeeze_excite, reduction=4 * expand, act=silu)
    ours = inverted_residual(8, 8, expand=expand, kernel=5, squeeze=squeeze, act=silu, drop=0.4)
    assert_same(ours, theirs, inputs=8)


def test_squeeze_excite_is_torchvisions() -> None:
    assert_same(squeeze_excite(12, reduction=3), torchvision.ops.SqueezeExcitation(12, 4), inputs=12)


def test_squeeze_excite_keeps_at_least_one_hidden_value() -> None:
    assert count(squeeze_excite, 3, reduction=16) == (3 + 1) + (3 + 3)


# --- noise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64,), (64, 3), (64, 3, 2, 2)])
def test_stochastic_depth_is_torchvisions_row_mode(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    torch.manual_seed(3)
    ours = stochastic_depth(0.3)(x)
    torch.manual_seed(3)
    torch.testing.assert_close(ours, torchvision.ops.stochastic_depth(x, 0.3, "row"))


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    out = stochastic_depth(0.25)(torch.ones(20_000, 2, 2, 1))
    assert torch.equal(out.amin((1, 2, 3)), out.amax((1, 2, 3)))
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert out.mean().item() == pytest.approx(1, abs=0.02)


def test_noise_is_silent_in_evaluation() -> None:
    x = torch.rand(8, 4, 2, 2)
    for noise in (dropout(0.5), stochastic_depth(0.5)):
        assert torch.equal(noise.eval()(x), x)
        assert not torch.equal(noise.train()(x), x)


# --- pooling and head ---------------------------------------------------------------------------------------


def test_pools_are_torchs() -> None:
    x = torch.rand(2, 3, 9, 9)
    assert torch.equal(max_pool()(x), F.max_pool2d(x, 2, 2))
    assert torch.equal(max_pool(3, stride=2, padding=1)(x), F.max_pool2d(x, 3, 2, 1))
    assert torch.equal(avg_pool(3)(x), F.avg_pool2d(x, 3, 3))
    torch.testing.assert_close(global_pool()(x), x.mean((2, 3)))


def test_a_head_gives_logits_at_any_resolution() -> None:
    end = head(5, 7)
    for size in (1, 3, 8):
        x = torch.rand(2, 5, size, size)
        expected = F.linear(x.mean((2, 3)), end.linear.weight, end.linear.bias)
        torch.testing.assert_close(end(x), expected)


def test_dropout_in_a_head_moves_no_name_of_a_weight() -> None:
    assert head(5, 7, dropout=0.2).dropout.p == 0.2
    assert head(5, 7, dropout=0.2).state_dict().keys() == head(5, 7).state_dict().keys()


def test_a_hidden_layer_in_a_head_has_an_activation_unless_it_is_left_out() -> None:
    end, x = head(5, 7, hidden=4, dropout=0.3).eval(), torch.randn(2, 5, 3, 3)
    assert [name for name, _ in end.named_children()] == ["pool", "dropout", "hidden", "act", "linear"]
    torch.testing.assert_close(end(x), end.linear(F.relu(end.hidden(x.mean((2, 3))))))
    straight = head(5, 7, hidden=4, act=None)
    torch.testing.assert_close(straight(x), straight.linear(straight.hidden(x.mean((2, 3)))))


@pytest.mark.parametrize("training", [False, True])
def test_a_dense_head_at_its_size_is_three_linear_layers(training: bool) -> None:
    end, x = dense_head(5, 7, size=3, hidden=6, dropout=0.4).train(training), torch.randn(2, 5, 3, 3)
    plain = nn.Sequential(
        nn.Flatten(), end.first.linear, nn.ReLU(), nn.Dropout(0.4), end.second.linear, nn.ReLU(),
        nn.Dropout(0.4), end.linear,
    ).train(training)  # fmt: skip
    torch.manual_seed(3)
    expected = plain(x)
    torch.manual_seed(3)
    assert torch.equal(end(x), expected)


@pytest.mark.parametrize("shape", [(3, 3), (5, 5), (3, 6), (7, 4)])
def test_a_dense_head_on_a_larger_map_is_a_convolution_whose_scores_are_averaged(
    shape: tuple[int, int],
) -> None:
    end, x = dense_head(5, 7, size=3, hidden=6).eval(), torch.randn(2, 5, *shape)
    first, second, last = end.first.linear, end.second.linear, end.linear
    y = F.relu(F.conv2d(x, first.weight.view(6, 5, 3, 3), first.bias))
    assert y.shape[2:] == (shape[0] - 2, shape[1] - 2)
    y = F.relu(F.conv2d(y, second.weight[:, :, None, None], second.bias))
    expected = F.conv2d(y, last.weight[:, :, None, None], last.bias).mean((2, 3))
    torch.testing.assert_close(end(x), expected)


def test_a_dense_head_refuses_a_map_below_its_own() -> None:
    with pytest.raises(ValueError, match="at least 3x3, found 5x2: show the model larger images"):
        dense_head(5, 7, size=3, hidden=6)(torch.rand(2, 5, 5, 2))


# --- standardisation ----------------------------------------------------------------------------------------

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def test_standardise_is_torchvisions_normalize() -> None:
    images = torch.rand(2, 3, 4, 5)
    expected = normalize(images, list(MEAN), list(STD))
    torch.testing.assert_close(standardise(MEAN, STD)(images), expected)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_standardise_is_read_by_torchscript() -> None:
    module, images = standardise(MEAN, STD), torch.rand(2, 3, 4, 4)
    for script in (torch.jit.script(module), torch.jit.trace(module, images)):
        assert torch.equal(script(images), module(images))
    with pytest.raises(torch.jit.Error, match=r"not \(2, 1, 4, 4\)"):
        torch.jit.script(module)(images[:, :1])


def test_standardise_passes_images_on_until_it_is_fitted() -> None:
    module, images = standardise(), torch.rand(2, 3, 4, 4)
    assert not module.fitted
    assert torch.equal(module(images), images)
    module.fit(MEAN, STD)
    assert module.fitted
    assert torch.equal(module(images), standardise(MEAN, STD)(images))


def test_statistics_once_set_are_never_changed() -> None:
    given_ones, fitted = standardise(MEAN, STD), standardise()
    fitted.fit(MEAN, STD)
    for module in (given_ones, fitted):
        with pytest.raises(ValueError, match=r"set already, at mean \[0.4, 0.5, 0.6\]"):
            module.fit((0.1, 0.1, 0.1), STD)
        torch.testing.assert_close(module.mean.flatten(), torch.tensor(MEAN))


def test_statistics_travel_in_the_state_dict() -> None:
    fitted, fresh = standardise(), standardise()
    fitted.fit(MEAN, STD)
    fresh.load_state_dict(fitted.state_dict())
    assert fresh.fitted
    assert torch.equal(fresh.mean, fitted.mean)
    assert set(fitted.state_dict()) == {"mean", "std", "fitted"}
    assert fitted.mean.shape == fitted.std.shape == (3, 1, 1)
    assert not list(fitted.parameters())


def test_statistics_survive_an_average_of_weights_and_buffers() -> None:
    model = nn.Sequential(standardise(MEAN, STD), nn.Conv2d(3, 4, 1))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
    for _ in range(5):
        average.update_parameters(model)
    assert average.module[0].fitted
    torch.testing.assert_close(average.module[0].mean, model[0].mean)


def test_fit_keeps_the_dtype_of_the_module() -> None:
    module = standardise().to(torch.float64)
    module.fit(torch.tensor(MEAN), torch.tensor(STD))
    assert module.mean.dtype == torch.float64
    assert module(torch.rand(1, 3, 2, 2, dtype=torch.float64)).dtype == torch.float64


def test_images_of_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"floats in \[0, 1\], not torch.uint8; divide bytes by 255"):
        standardise()(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))


def test_grey_images_do_not_broadcast_into_a_model_of_three_channels() -> None:
    with pytest.raises(ValueError, match=r"should be \(B, 3, H, W\), not \(2, 1, 4, 4\)"):
        standardise()(torch.rand(2, 1, 4, 4))


# --- initialisation -----------------------------------------------------------------------------------------


def test_kaiming_draws_by_fan_out_with_a_gain_of_root_two() -> None:
    model = nn.Sequential(conv_norm_act(64, 128, 3), conv_norm_act(128, 32, 3, norm=None))
    model[0].norm.weight.data.fill_(7)
    model[0].norm.bias.data.fill_(7)
    torch.manual_seed(0)
    kaiming(model)
    for conv, outputs in ((model[0].conv, 128), (model[1].conv, 32)):
        assert conv.weight.std().item() == pytest.approx((2 / (outputs * 9)) ** 0.5, rel=0.02)
        assert conv.weight.mean().item() == pytest.approx(0, abs=1e-3)
    assert not model[1].conv.bias.any()
    assert torch.equal(model[0].norm.weight, torch.ones(128))
    assert not model[0].norm.bias.any()


def test_kaiming_draws_what_torchvisions_resnet_draws() -> None:
    theirs = torchvision.models.resnet.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])
    theirs_convs = [module for module in theirs.modules() if isinstance(module, nn.Conv2d)]
    torch.manual_seed(5)
    for conv in theirs_convs:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    expected = [conv.weight.clone() for conv in theirs_convs]
    torch.manual_seed(5)
    kaiming(theirs)
    for conv, weight in zip(theirs_convs, expected):
        torch.testing.assert_close(conv.weight, weight)


def test_kaiming_leaves_linear_layers_as_torch_made_them() -> None:
    end = head(8, 4)
    before = end.linear.weight.clone()
    kaiming(end)
    assert torch.equal(end.linear.weight, before)


@pytest.mark.parametrize("block", [basic, bottleneck, inverted_residual])
def test_with_zero_init_every_block_starts_as_its_shortcut(block: Callable[..., nn.Module]) -> None:
    model = stage(block, 8, 8, 2, act=nn.Identity)
    kaiming(model, zero_init=True)
    images = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(model(images), images)
    kaiming(model)
    assert not torch.allclose(model(images), images)


def test_zero_init_without_a_norm_or_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"zero_init needs a norm .* none in 1;"):
        kaiming(nn.Sequential(basic(4, 4), basic(4, 4, norm=None)), zero_init=True)
    with pytest.raises(ValueError, match="zero_init needs Residual blocks"):
        kaiming(conv_norm_act(3, 4), zero_init=True)


# --- refusals -----------------------------------------------------------------------------------------------

REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: conv_norm_act(0, 8), "conv_norm_act: inputs .* not 0"),
    (lambda: conv_norm_act(3, -8), "conv_norm_act: outputs .* not -8"),
    (lambda: conv_norm_act(3, 8.0), r"conv_norm_act: outputs should be a whole number .* not 8\.0"),  # type: ignore[arg-type]
    (lambda: conv_norm_act(3, True), "conv_norm_act: outputs .* not True"),
    (lambda: conv_norm_act(3, 8, stride=0), "conv_norm_act: stride .* not 0"),
    (lambda: conv_norm_act(3, 8, padding=-1), "conv_norm_act: padding .* of 0 or more, not -1"),
    (
        lambda: conv_norm_act(6, 8, groups=4),
        "inputs should be a multiple of groups=4, not 6; 4 or 8 would do",
    ),
    (lambda: conv_norm_act(8, 6, groups=4), "outputs should be a multiple of groups=4, not 6"),
    (lambda: conv_norm_act(3, 8, act=nn.ReLU()), "act should be a function .* pass ReLU itself"),
    (lambda: conv_norm_act(3, 8, act="relu"), "act should be a function that makes a module, not 'relu'"),  # type: ignore[arg-type]
    (lambda: conv_norm_act(3, 8, norm=nn.BatchNorm2d(8)), "norm should be a function"),
    (lambda: depthwise_separable(0, 8), "depthwise_separable: inputs"),
    (lambda: depthwise_separable(3, 8, kernel=2), "depthwise_separable: kernel should be odd, not 2; 1 or 3"),
    (lambda: basic(3, 0), "basic: outputs"),
    (lambda: basic(3, 8, drop=1.0), r"basic: drop should be a number from 0 to below 1, not 1\.0"),
    (lambda: bottleneck(3, 30), "bottleneck: outputs should be a multiple of expansion=4, not 30; 28 or 32"),
    (lambda: bottleneck(3, 2), "bottleneck: outputs should be a multiple of expansion=4, not 2; 4 would do"),
    (
        lambda: bottleneck(3, 32, groups=3),
        r"bottleneck: width \(outputs=32 / expansion=4\) .* groups=3, not 8",
    ),
    (lambda: bottleneck(3, 32, width=7, groups=2), "bottleneck: width should be a multiple of groups=2"),
    (lambda: bottleneck(3, 32, width=0), "bottleneck: width"),
    (lambda: bottleneck(3, 32, drop=-0.1), "bottleneck: drop"),
    (lambda: stage(basic, 3, 8, 0), "stage: blocks .* not 0"),
    (lambda: stage(basic(3, 8), 3, 8, 1), "stage: block should be a function"),
    (lambda: stage(None, 3, 8, 1), "stage: block should be a function"),  # type: ignore[arg-type]
    (lambda: stage(basic, 3, 8, 2, drop=(0.0, 2.0)), r"stage: drop\[1\] .* not 2\.0"),
    (lambda: Residual(nn.Identity(), drop=1.5), "Residual: drop"),
    (lambda: inverted_residual(8, 8, expand=0), "inverted_residual: expand .* above 0, not 0"),
    (lambda: inverted_residual(8, 8, kernel=4), "inverted_residual: kernel should be odd, not 4"),
    (lambda: inverted_residual(8, 8, squeeze=0.25), "inverted_residual: squeeze"),  # type: ignore[arg-type]
    (lambda: inverted_residual(8, 8, drop=float("nan")), "inverted_residual: drop .* not nan"),
    (lambda: squeeze_excite(8, reduction=0), "squeeze_excite: reduction"),
    (lambda: max_pool(0), "max_pool: size"),
    (lambda: avg_pool(2, padding=2), "avg_pool: padding should be at most half the size, 1 of 2, not 2"),
    (lambda: head(8, 0), "head: classes .* not 0"),
    (lambda: head(8, 2, dropout=1), "head: dropout .* not 1"),
    (lambda: head(8, 2, hidden=0), "head: hidden .* not 0"),
    (lambda: head(8, 2, act=nn.ReLU()), "head: act should be a function"),
    (lambda: stem(0, 8), "stem: inputs .* not 0"),
    (lambda: stem(3, 8, padding=-1), "stem: padding .* of 0 or more, not -1"),
    (lambda: stem(3, 8, pool=0), "stem: pool .* not 0"),
    (lambda: stem(3, 8, act="relu"), "stem: act should be a function"),  # type: ignore[arg-type]
    (lambda: dense_head(8, 2, size=0), "dense_head: size .* not 0"),
    (lambda: dense_head(8, 2, size=1, hidden=0), "dense_head: hidden .* not 0"),
    (lambda: dense_head(8, 2, size=1, dropout=1), "dense_head: dropout .* not 1"),
    (lambda: dense_head(8, 2, size=1, act=nn.ReLU()), "dense_head: act should be a function"),
    (lambda: dropout(-0.5), "dropout: rate"),
    (lambda: stochastic_depth(1), "stochastic_depth: rate"),
    (lambda: rising(1.0, [2]), "rising: rate"),
    (lambda: standardise(channels=0), "standardise: channels"),
    (lambda: standardise(MEAN), "standardise: mean was given without std"),
    (lambda: standardise(std=STD), "standardise: std was given without mean"),
    (lambda: standardise(MEAN, STD, channels=1), "mean should have one number for each of 1 channels, not 3"),
    (lambda: standardise((127.0, 127.0, 127.0), STD), r"mean should lie in \[0, 1\].*divide by 255"),
    (lambda: standardise(MEAN, (0.1, 0.0, 0.1)), "std should be finite and above 0"),
    (lambda: Standardise(3).fit(MEAN, (0.1, float("nan"), 0.1)), "Standardise.fit: std should be finite"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_a_bad_argument_is_refused_in_one_sentence_that_names_the_builder(case: int) -> None:
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as refusal:
        build()
    text = str(refusal.value)
    assert "found" in text or ", not " in text or "own, not" in text or "given without" in text
    assert "\n" not in text
    assert not text.endswith(".")


# --- where the modules run ----------------------------------------------------------------------------------


def everything() -> nn.Sequential:
    """One of each layer, in a network from (B, 3, 16, 16) to (B, 5)."""
    return nn.Sequential(
        standardise(MEAN, STD),
        conv_norm_act(3, 8, act=leaky),
        max_pool(2),
        stage(basic, 8, 16, 2, stride=2, drop=0.1),
        stage(bottleneck, 16, 32, 2, act=silu),
        depthwise_separable(32, 32, act=hardswish),
        inverted_residual(32, 32, squeeze=squeeze_excite),
        avg_pool(2),
        stochastic_depth(0.1),
        dropout(0.1),
        head(32, 5, dropout=0.1),
    )


def test_on_meta_nothing_is_allocated_or_drawn() -> None:
    state = torch.get_rng_state()
    with torch.device("meta"):
        model = everything()
        kaiming(model, zero_init=True)
        out = model(torch.empty(2, 3, 16, 16))
    assert out.shape == (2, 5)
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert torch.equal(torch.get_rng_state(), state)


def test_initialising_on_meta_imports_nothing_more() -> None:
    code = (
        "import sys, torch\n"
        "from budgetnet import layers\n"
        "assert 'torchvision' not in sys.modules\n"
        "before = set(sys.modules)\n"
        "with torch.device('meta'): layers.kaiming(layers.stage(layers.bottleneck, 8, 16, 2))\n"
        "more = set(sys.modules) - before\n"
        "assert len(more) < 50, f'{len(more)} modules'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_channels_last_gives_the_same_and_stays_channels_last() -> None:
    torch.manual_seed(0)
    model, images = everything().eval(), torch.rand(2, 3, 16, 16)
    expected = model(images)
    last = model.to(memory_format=torch.channels_last)
    given = images.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(given), expected, rtol=1e-4, atol=1e-5)
    assert last[:6](given).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_one_graph_is_compiled_and_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    model, images = everything(), torch.rand(4, 3, 16, 16)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, layers.StochasticDepth):
            module.rate = 0.0
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    results = []
    for call in (model, compiled):
        model.zero_grad()
        out = call(images)
        out.square().sum().backward()
        results.append([out, *[parameter.grad.clone() for parameter in model.parameters()]])
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


def test_stochastic_depth_compiles_into_one_graph() -> None:
    compiled = torch.compile(stochastic_depth(0.5), backend="eager", fullgraph=True)
    torch.manual_seed(0)
    assert set(compiled(torch.ones(64, 1)).unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("room", ["", ".convolution", ".dense", ".noise", ".pixels", ".residual"])
def test_the_examples_in_docstrings_hold(room: str) -> None:
    tested = doctest.testmod(importlib.import_module(f"budgetnet.layers{room}"))
    assert tested.attempted > 0
    assert tested.failed == 0
