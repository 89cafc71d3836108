"""What the classic networks promise: torchvision's numbers and outputs, and those of the seeds' variants."""

import doctest
import importlib
import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms import v2

import budgetnet
from budgetnet import Budget, models
from budgetnet.budget import DoesNotFit, Ledger, check_fit, count, ledger, macs
from budgetnet.layers import Residual, conv_norm_act, head, stem

MEAN, STD = (0.45, 0.44, 0.41), (0.26, 0.25, 0.27)
HIDDEN_HEAD = partial(head, hidden=128, act=None)
SEED_001 = {"stem": partial(stem, padding=5, bias=True, pool=2), "head": HIDDEN_HEAD}
SMALL_VGG = {"widths": (4, 8, 12, 16, 16), "hidden": 24, "resolution": 64}
SMALL_MINI = {"width": 4, "hidden": 16, "blocks": 3, "resolution": 16}


def on_meta(make: Callable[..., nn.Module], *args: object, **kwargs: object) -> nn.Module:
    with torch.device("meta"):
        return make(*args, **kwargs)


def costs(make: Callable[..., nn.Module], resolution: int, *args: object, **kwargs: object) -> Ledger:
    return ledger(on_meta(make, *args, **kwargs), resolution)


def learnt(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a state, those of its standardisation apart."""
    return {name: tensor for name, tensor in model.state_dict().items() if "standardise" not in name}


def randomised(model: nn.Module) -> nn.Module:
    """The model with a value in every weight and statistic that matters."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d | nn.Conv2d | nn.Linear):
            nn.init.normal_(module.bias, 0, 0.2) if module.bias is not None else None
    return model.eval()


def same_tensors(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    """`theirs` with the tensors of `ours`, in their order: the names differ."""
    tensors = learnt(ours).values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)), assign=True)
    return theirs.eval()


def assert_same_outputs(ours: nn.Module, theirs: nn.Module, resolution: int) -> None:
    images = torch.rand(2, 3, resolution, resolution)
    normalise = v2.Normalize(MEAN, STD)
    with torch.no_grad():
        expected = theirs(normalise(images))
        assert expected.std() > 1e-3, "logits that are all alike would compare as equal"
        torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


# --- the networks of torchvision ----------------------------------------------------------------------------

TWINS = [
    (models.resnet18, torchvision.models.resnet18, 11_181_642),
    (models.resnet34, torchvision.models.resnet34, 21_289_802),
    (models.resnext50, torchvision.models.resnext50_32x4d, 23_000_394),
]


@pytest.mark.parametrize(("ours", "theirs", "parameters"), TWINS)
def test_a_residual_network_has_the_counts_of_torchvisions(
    ours: Callable[..., nn.Module], theirs: Callable[..., nn.Module], parameters: int
) -> None:
    assert count(ours, 10) == count(theirs, num_classes=10) == parameters
    assert count(ours, 1000) == count(theirs)
    for resolution in (97, 224):
        assert costs(ours, resolution, 10).macs == costs(theirs, resolution, num_classes=10).macs


@pytest.mark.parametrize(("ours", "theirs", "parameters"), TWINS)
def test_a_residual_network_computes_what_torchvisions_computes(
    ours: Callable[..., nn.Module], theirs: Callable[..., nn.Module], parameters: int
) -> None:
    torch.manual_seed(0)
    model = randomised(ours(10, mean=MEAN, std=STD))
    twin = same_tensors(model, on_meta(theirs, num_classes=10))
    assert_same_outputs(model, twin, 75)


def test_resnet34_of_seed_001_has_its_counts() -> None:
    assert count(models.resnet34, 10, **SEED_001) == 21_351_690
    expected = {32: 162_654_208, 64: 453_466_112, 128: 1_483_651_072, 256: 5_338_265_600}
    model = on_meta(models.resnet34, 10, **SEED_001)
    assert {resolution: macs(model, resolution) for resolution in expected} == expected
    assert costs(models.resnet34, 128, 10, head=HIDDEN_HEAD).macs == 1_196_229_888
    parts = {row.name: row.params for row in ledger(model).groups()}
    assert parts["head"] == 66_954
    assert parts["stem"] == 3 * 64 * 49 + 64 + 128


def test_the_maps_of_seed_001_do_not_halve_and_the_standard_ones_do() -> None:
    def sizes(found: Ledger) -> list[int]:
        rows = {row.name: row.shape for row in found.rows}
        return [rows[name][-1] for name in ("stem.conv", "stem", "stages.1", "stages.2", "stages.3")]

    assert sizes(costs(models.resnet34, 128, 10, **SEED_001)) == [66, 33, 17, 9, 5]
    assert sizes(costs(models.resnet34, 128, 10)) == [64, 32, 16, 8, 4]


def test_the_ledger_notes_the_stem_and_the_head_of_seed_001_and_nothing_on_the_standard_network() -> None:
    notes = {row.name: row.note for row in costs(models.resnet34, 128, 10, **SEED_001).rows if row.note}
    assert notes.keys() == {"stem.conv", "head.linear"}
    assert notes["stem.conv"] == "padding 5 takes 128 to 66, where padding 3 would give 64"
    assert "one Linear(512, 10) computes the same with 5,130 instead of 66,954" in notes["head.linear"]
    assert not any(row.note for row in costs(models.resnet34, 128, 10).rows)
    acting = costs(models.resnet34, 128, 10, head=partial(head, hidden=128))
    assert not any(row.note for row in acting.rows)


def test_the_ledger_notes_kernels_on_a_map_of_one_pixel() -> None:
    notes = {row.name: row.note for row in costs(models.resnet34, 32, 10).rows if row.note}
    assert {name.rsplit(".", 1)[-1] for name in notes} == {"conv"}
    assert all(name.startswith("stages.3") and "1x1" in note for name, note in notes.items())
    assert "stages.3.0.branch.first.conv" not in notes, "it reads a map of 2x2"
    assert len(notes) == 5


def test_resnext50_with_the_classes_of_tiny_imagenet_costs_what_seed_004_costs() -> None:
    model = on_meta(models.resnext50, 200)
    assert sum(parameter.numel() for parameter in model.parameters()) == 23_389_704
    expected = {64: 345_587_712, 224: 4_228_841_472, 232: 4_805_092_352}
    assert {resolution: macs(model, resolution) for resolution in expected} == expected


def test_each_block_starts_as_its_shortcut_unless_it_is_asked_not_to() -> None:
    def silent(model: nn.Module) -> list[bool]:
        blocks = [module for module in model.modules() if isinstance(module, Residual)]
        return [not list(block.branch.modules())[-1].weight.any() for block in blocks]

    assert silent(models.resnet18(10)) == [True] * 8
    assert silent(models.resnet18(10, zero_init=False)) == [False] * 8


def test_a_stem_for_small_images_is_any_builder() -> None:
    found = costs(models.resnet18, 32, 10, stem=conv_norm_act)
    shapes = {row.name: row.shape for row in found.rows}
    assert shapes["stem"] == (1, 64, 32, 32)
    assert shapes["stages.3"] == (1, 512, 4, 4)


# --- VGG ----------------------------------------------------------------------------------------------------

CONFIGURATIONS = {"A": ("vgg11", 11), "B": ("vgg13", 13), "D": ("vgg16", 16), "E": ("vgg19", 19)}


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_vgg_has_the_counts_and_depth_of_torchvisions(configuration: str) -> None:
    name, depth = CONFIGURATIONS[configuration]
    theirs = getattr(torchvision.models, name)
    model = on_meta(models.vgg, 1000, configuration=configuration)
    assert sum(parameter.numel() for parameter in model.parameters()) == count(theirs)
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == depth
    assert macs(model, 224) == costs(theirs, 224).macs
    normed = getattr(torchvision.models, f"{name}_bn")
    redundant = sum(module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    assert count(models.vgg, 1000, configuration=configuration, batch_norm=True) == count(normed) - redundant


def test_configuration_c_is_d_with_three_of_its_kernels_1x1() -> None:
    assert count(models.vgg, 1000, configuration="C") == 133_638_952  # 134 million in the paper's table 2
    saved = 8 * (256**2 + 2 * 512**2)
    assert count(models.vgg, 1000, configuration="D") - 133_638_952 == saved
    model = on_meta(models.vgg, 10, configuration="C")
    points = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
    ]
    assert points == [f"stages.{stage}.2.conv" for stage in (2, 3, 4)]
    for side in (224, 256):  # a 1x1 convolution moves no border
        assert ledger(model, side).rows[-1].shape == (1, side // 32 - 6, side // 32 - 6, 10)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_vgg_computes_what_torchvisions_computes(configuration: str) -> None:
    torch.manual_seed(0)
    ours = models.vgg(
        7,
        configuration=configuration,
        resolution=64,
        hidden=32,
        mean=MEAN,
        std=STD,
        batch_norm=configuration == "A",
    )
    randomised(ours)
    name, _ = CONFIGURATIONS[configuration]
    if configuration == "A":
        theirs = on_meta(torchvision.models.vgg11_bn)
        for conv in (module for module in theirs.features if isinstance(module, nn.Conv2d)):
            conv.bias = None
    else:
        theirs = on_meta(getattr(torchvision.models, name))
    theirs.avgpool = nn.AdaptiveAvgPool2d(2)  # nothing to do at 64 pixels, as theirs of 7x7 at 224
    theirs.classifier = nn.Sequential(
        nn.Linear(512 * 2 * 2, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 32), nn.ReLU(), nn.Dropout(),
        nn.Linear(32, 7),
    )  # fmt: skip
    assert_same_outputs(ours, same_tensors(ours, theirs), 64)


def test_the_default_vgg_at_128_pixels_is_that_of_seed_002() -> None:
    model = on_meta(models.vgg, 10, resolution=128)
    parts = {row.name: row.params for row in ledger(model).groups() if row.name}
    assert parts == {"standardise": 0, "stages": 9_404_992, "head": 50_380_810}
    assert sum(parts.values()) == 59_785_802
    assert macs(model, 128) == 3_702_562_816
    drops = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout)]
    assert drops == ["head.first.dropout", "head.second.dropout"]


def test_vgg_starts_with_logits_near_zero_and_signals_that_reach_its_head() -> None:
    torch.manual_seed(0)
    model = models.vgg(10, configuration="E", **SMALL_VGG, mean=MEAN, std=STD).eval()
    images = torch.rand(8, 3, 64, 64)
    assert 0.01 < model[:2](images).std() < 10
    assert model(images).abs().max() < 0.5
    assert model.head.linear.weight.std().item() == pytest.approx(0.01, rel=0.4)
    first = model.head.first.linear.weight
    assert first.std().item() == pytest.approx((2 / first.shape[1]) ** 0.5, rel=0.1)
    assert not any(tensor.any() for name, tensor in model.named_parameters() if name.endswith("bias"))


def test_a_vgg_reads_larger_images_densely_and_averages_the_scores() -> None:
    torch.manual_seed(0)
    model = randomised(models.vgg(10, configuration="A", **SMALL_VGG))
    images = torch.rand(2, 3, 96, 128)
    maps = model[:2](images)
    assert maps.shape == (2, 16, 3, 4)
    windows = [maps[:, :, top : top + 2, left : left + 2] for top in range(2) for left in range(3)]
    expected = torch.stack([plain_head(model.head, window) for window in windows]).mean(0)
    torch.testing.assert_close(model(images), expected)
    assert expected.std() > 1e-3


def test_at_the_training_size_a_vgg_is_exactly_its_fully_connected_layers() -> None:
    torch.manual_seed(0)
    model = randomised(models.vgg(10, configuration="B", **SMALL_VGG))
    for side in (64, 80, 95):  # maps of 2x2 all of them
        images = torch.rand(3, 3, side, side)
        assert torch.equal(model(images), plain_head(model.head, model[:2](images)))


def plain_head(dense: nn.Module, maps: Tensor) -> Tensor:
    hidden = torch.relu(dense.first.linear(maps.flatten(1)))
    return dense.linear(torch.relu(dense.second.linear(hidden)))


def test_dense_evaluation_costs_a_head_for_each_window() -> None:
    model = on_meta(models.vgg, 10, resolution=128)
    small, large = ledger(model, 128), ledger(model, 192)
    heads = [sum(row.macs for row in found.rows if row.name.startswith("head")) for found in (small, large)]
    assert heads == [50_372_608, 9 * 50_372_608]  # maps of 4x4 and 6x6


def test_an_image_smaller_than_the_head_is_refused_in_one_sentence() -> None:
    with pytest.raises(DoesNotFit, match=r"^head \(DenseHead\) does not fit at 64x64") as refusal:
        check_fit(on_meta(models.vgg, 10, resolution=128), 64)
    assert refusal.value.smallest == 128
    assert "maps of at least 4x4, found 2x2" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    check_fit(on_meta(models.vgg, 10, resolution=128), 300)


# --- the network of blocks ----------------------------------------------------------------------------------


class Restated(nn.Module):
    """Seed 004's network, written from its description."""

    def __init__(self, classes: int, width: int, blocks: int, flat: int, hidden: int, dropout: float) -> None:
        super().__init__()
        widths = [3, *(width * 2**index for index in range(blocks))]
        self.blocks = nn.ModuleList()
        for inputs, outputs in pairwise(widths):
            branch = nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding="same"), nn.BatchNorm2d(outputs), nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding="same"), nn.BatchNorm2d(outputs),
            )  # fmt: skip
            self.blocks.append(nn.ModuleList([branch, nn.Conv2d(inputs, outputs, 1)]))
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(flat, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        for branch, skip in self.blocks:
            x = torch.max_pool2d(torch.relu(branch(x) + skip(x)), 2)
        return self.head(x.flatten(1))


@pytest.mark.parametrize("training", [False, True])
def test_mini_resnet_computes_what_seed_004_describes(training: bool) -> None:
    torch.manual_seed(0)
    ours = randomised(models.mini_resnet(7, **{**SMALL_MINI, "resolution": 30}, dropout=0.3)).double()
    theirs = same_tensors(ours, Restated(7, 4, 3, 16 * 9, 16, 0.3).double())
    images = torch.rand(5, 3, 30, 30, dtype=torch.float64)
    outputs = []
    for model in (ours, theirs):
        torch.manual_seed(1)
        outputs.append(model.train(training)(images))
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize(
    ("resolution", "parameters", "expected"),
    [
        (64, 24_604_584, {64: 340_295_680}),
        (192, 58_159_016, {192: 3_056_107_520, 224: 4_145_774_592}),
        (255, 58_159_016, {192: 3_056_107_520}),
    ],
)
def test_mini_resnet_has_the_head_that_its_resolution_needs(
    resolution: int, parameters: int, expected: dict[int, int]
) -> None:
    model = on_meta(models.mini_resnet, 200, resolution=resolution)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert {side: macs(model, side) for side in expected} == expected
    assert sum(value.numel() for value in model.buffers()) == 16_269 + 7


def test_mini_resnet_takes_the_resolutions_of_its_map_and_no_others() -> None:
    model = on_meta(models.mini_resnet, 10, resolution=28, blocks=3, width=4)
    for side in (24, 28, 31):
        check_fit(model, side)
    for side in (23, 32):
        with pytest.raises(DoesNotFit, match=r"head.hidden \(Linear\).* takes 144 features") as refusal:
            check_fit(model, side)
        assert refusal.value.smallest == 24


@pytest.mark.parametrize(
    ("resolution", "blocks", "first", "pixels", "most"),
    [(224, 9, 7, 512, 7), (64, 7, 6, 128, 6), (63, 6, 5, 64, 5), (1, 2, 0, 4, 0)],
)
def test_a_block_whose_map_collapses_is_named_with_the_ways_out(
    resolution: int, blocks: int, first: int, pixels: int, most: int
) -> None:
    with pytest.raises(ValueError, match=rf"at {resolution} pixels block stages\.{first} ") as refusal:
        models.mini_resnet(10, resolution=resolution, blocks=blocks)
    assert f"at least {pixels} pixels" in str(refusal.value)
    assert ("at most" in str(refusal.value)) == (most > 0)
    assert count(models.mini_resnet, 10, resolution=pixels, blocks=blocks, width=2) > 0
    if most:
        model = on_meta(models.mini_resnet, 10, resolution=resolution, blocks=most, width=2)
        assert ledger(model, resolution).rows[-1].shape == (1, 10)


def test_the_dropouts_of_mini_resnet_are_the_seeds_and_move_no_name() -> None:
    with_noise = on_meta(models.mini_resnet, 10, dropout=0.5).head
    kinds = [type(module).__name__ for module in with_noise]
    assert kinds == ["Flatten", "Dropout", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    assert with_noise.state_dict().keys() == on_meta(models.mini_resnet, 10).head.state_dict().keys()


# --- inheriting ---------------------------------------------------------------------------------------------

FIRST_FOUR = ("stages.0.0", "stages.1.0", "stages.2.0", "stages.2.1")


def small_vgg(configuration: str, classes: int = 10, **options: object) -> nn.Module:
    return models.vgg(classes, configuration=configuration, **{**SMALL_VGG, **options})


@pytest.mark.parametrize("deeper", ["B", "C", "D", "E"])
def test_a_deeper_vgg_begins_with_the_paper_s_layers_of_a(deeper: str) -> None:
    torch.manual_seed(0)
    trained, model = randomised(small_vgg("A")), small_vgg(deeper)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copied = models.inherit(model, trained, (*FIRST_FOUR, "head"))
    convolutions = [f"{part}.conv.{kind}" for part in FIRST_FOUR for kind in ("weight", "bias")]
    linear = [
        f"head.{part}.{kind}"
        for part in ("first.linear", "second.linear", "linear")
        for kind in ("weight", "bias")
    ]
    assert copied == convolutions + linear
    source = [name for name, module in trained.named_modules() if isinstance(module, nn.Conv2d)]
    assert convolutions[::2] == [f"{name}.weight" for name in source[:4]], "the first four of A"
    for name, tensor in model.state_dict().items():
        expected = trained.state_dict()[name] if name in copied else before[name]
        assert torch.equal(tensor, expected), name
    assert not any(torch.equal(before[name], trained.state_dict()[name]) for name in copied)


def test_without_parts_everything_that_fits_is_copied_and_the_rest_left_as_it_was() -> None:
    torch.manual_seed(0)
    trained, model = small_vgg("A", mean=MEAN, std=STD), small_vgg("B", classes=4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copied = models.inherit(model, trained)
    # A has no second convolution in its first two stages.
    own = {f"stages.{index}.1.conv.{kind}" for index in (0, 1) for kind in ("weight", "bias")}
    own |= {"head.linear.weight", "head.linear.bias"}
    assert set(copied) == model.state_dict().keys() - own
    assert model.standardise.fitted
    assert all(torch.equal(model.state_dict()[name], trained.state_dict()[name]) for name in copied)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in own)


def test_a_network_of_the_same_build_becomes_the_trained_one() -> None:
    torch.manual_seed(0)
    trained = randomised(models.resnet18(5, stem=conv_norm_act, mean=MEAN, std=STD))
    model = models.resnet18(5, stem=conv_norm_act).eval()
    assert models.inherit(model, trained) == list(trained.state_dict())
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(model(images), trained(images))
    nn.init.zeros_(trained.head.linear.weight)
    assert model.head.linear.weight.any(), "a copy, not the same tensor"


def test_inheriting_keeps_dtypes_frozen_parts_and_modes() -> None:
    trained, model = nn.Linear(2, 2).double(), nn.Linear(2, 2).requires_grad_(False).eval()
    models.inherit(model, trained)
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(model.weight, trained.weight.float())
    assert not model.weight.requires_grad
    assert not model.training


def test_what_begins_with_external_weights_is_not_from_scratch_either() -> None:
    trained, model = nn.Linear(2, 2), nn.Linear(2, 2)
    models.inherit(model, trained)
    assert not getattr(model, "external", "")
    trained.external = "ImageNet"
    for _ in range(2):
        models.inherit(model, trained)
        assert model.external == "ImageNet"


class Ends(nn.Module):
    """A module with a head as VGG has one, of another size, and a tail that VGG has not."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = nn.Linear(2, 2), nn.Linear(2, 2)


REFUSED_PARTS: list[tuple[Callable[[], object], object, str]] = [
    (partial(small_vgg, "A"), ("stages.0.1",), r"the trained model has no part 'stages\.0\.1'; it has stand"),
    (partial(small_vgg, "A"), ("stages.0.0", "tail"), "the trained model has no part 'tail'"),
    (Ends, ("tail",), "the model has no part 'tail'; it has standardise, stages, head"),
    (Ends, ("head",), r"nothing in part 'head' fits: the trained model's has weight \(2, 2\) and bias"),
    (
        partial(small_vgg, "A", hidden=20),
        ("stages.0.0", "head.first"),
        r"nothing in part 'head\.first' fits: .*linear\.weight \(20, 64\).*linear\.weight \(24, 64\)",
    ),
    (partial(small_vgg, "A"), ("stages.0.pool",), r"nothing in part 'stages\.0\.pool' fits: .* no tensors"),
    (partial(small_vgg, "A"), "head", "parts should be a tuple of one name or more, not 'head'"),
    (partial(small_vgg, "A"), (), r"parts should be a tuple of one name or more, not \(\)"),
    (Ends, None, "no parameter of the trained Ends fits this model.* it has head.weight"),
    (partial(models.convnet, 3, widths=(5, 6)), None, "no parameter of the trained Sequential fits"),
    (nn.Flatten, None, "no parameter of the trained Flatten fits this model .* it has none"),
    (dict, None, "trained should be a module, not dict"),
]


@pytest.mark.parametrize("case", range(len(REFUSED_PARTS)))
def test_what_cannot_be_inherited_is_refused_before_anything_is_copied(case: int) -> None:
    make, parts, message = REFUSED_PARTS[case]
    model, trained = small_vgg("D"), make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"^inherit: .*{message}") as refusal:
        models.inherit(model, trained, parts)  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_part_is_a_module_and_not_the_beginning_of_a_name() -> None:
    trained, model = (nn.Sequential(*(nn.Linear(2, 2) for _ in range(12))) for _ in range(2))
    assert models.inherit(model, trained, ("1",)) == ["1.weight", "1.bias"]
    assert not torch.equal(model[11].weight, trained[11].weight)


def test_a_part_may_be_named_by_either_of_its_names() -> None:
    trained, model = Ends(), Ends()
    for network in (trained, model):
        network.tail = network.head
    assert models.inherit(model, trained, ("tail",)) == ["tail.weight", "tail.bias"]
    assert torch.equal(model.head.weight, trained.head.weight)


# --- all of them --------------------------------------------------------------------------------------------

EVERY: list[tuple[Callable[..., nn.Module], int]] = [
    (partial(models.resnet18, head=partial(head, dropout=0.3)), 40),
    (partial(models.resnet34, **SEED_001), 33),
    (models.resnext50, 32),
    (partial(models.vgg, **SMALL_VGG, batch_norm=True), 70),
    (partial(models.vgg, **SMALL_VGG, configuration="C"), 64),
    (partial(models.mini_resnet, **SMALL_MINI, dropout=0.2), 16),
]


@pytest.mark.parametrize(("make", "side"), EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_begins_with_its_statistics_and_takes_any_channels(
    make: Callable[..., nn.Module], side: int, channels: int
) -> None:
    model = on_meta(make, 6, channels=channels, mean=MEAN[:channels], std=STD[:channels])
    assert next(iter(model.named_children()))[0] == "standardise"
    assert model(torch.empty(2, channels, side, side, device="meta")).shape == (2, 6)


@pytest.mark.parametrize(("make", "side"), EVERY)
def test_a_network_on_meta_draws_nothing_and_a_seed_decides_it(
    make: Callable[..., nn.Module], side: int
) -> None:
    state = torch.get_rng_state()
    planned = on_meta(make, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(tensor.is_meta for tensor in planned.state_dict().values())
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(make(4).state_dict())
    assert {name: value.shape for name, value in states[0].items()} == {
        name: value.shape for name, value in planned.state_dict().items()
    }
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not all(torch.equal(value, states[2][name]) for name, value in states[0].items())


@pytest.mark.parametrize(("make", "side"), EVERY)
def test_a_saved_network_comes_back_by_itself(
    make: Callable[..., nn.Module], side: int, tmp_path: Path
) -> None:
    builder, options = (make.func, make.keywords) if isinstance(make, partial) else (make, {})
    torch.manual_seed(0)
    model = Budget("30M").build(builder, 5, mean=MEAN, std=STD, **options).eval()
    budgetnet.save(model, tmp_path / "m.safetensors", resolution=side)
    found = budgetnet.load(tmp_path / "m.safetensors")
    images = torch.rand(2, 3, side, side)
    assert torch.equal(found(images), model(images))


@pytest.mark.parametrize(
    "make",
    [
        models.resnet18,
        partial(models.vgg, widths=(16, 32, 32, 64, 64), hidden=64, resolution=32, dropout=0.0),
        partial(models.mini_resnet, width=8, blocks=3, hidden=32, resolution=32),
    ],
)
def test_a_network_learns(make: Callable[..., nn.Module]) -> None:
    """Four colours are told apart, with a loss far below chance, from any of three seeds."""

    def lowest(seed: int) -> float:
        torch.manual_seed(seed)
        model = make(4, mean=(0.5,) * 3, std=(0.29,) * 3)
        images, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % 4
        images[:, 0] *= labels[:, None, None] / 3
        optimizer, least = torch.optim.Adam(model.parameters(), lr=1e-3), math.inf
        for _ in range(80):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            assert all(parameter.grad is not None for parameter in model.parameters())
            optimizer.step()
            least = min(least, loss.item())
            if least < 0.3:
                break
        return least

    # Chance is log 4, 1.39.
    assert any(lowest(seed) < 0.3 for seed in range(3))


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: models.resnet18(0), "resnet18: classes .* not 0"),
    (lambda: models.resnet34(10, channels=0), "resnet34: channels .* not 0"),
    (lambda: models.resnext50(True), "resnext50: classes .* not True"),
    (lambda: models.resnet34(10, stem=64), "resnet34: stem should be a function that makes a module"),  # type: ignore[arg-type]
    (lambda: models.resnet18(10, head=nn.Linear(512, 10)), "resnet18: head should be a function"),
    (lambda: models.resnet18(10, stem=partial(stem, pool=0)), "stem: pool .* not 0"),
    (lambda: models.resnet18(10, mean=(0.5,), std=(0.5,)), "mean should have one number for each of 3"),
    (lambda: models.vgg(10, configuration="F"), "vgg: configuration should be one of A, B, C, D, E, not 'F'"),
    (lambda: models.vgg(10, resolution=31), "vgg: resolution should be at least 32, .* not 31"),
    (lambda: models.vgg(10, resolution=64.0), "vgg: resolution should be a whole number"),  # type: ignore[arg-type]
    (lambda: models.vgg(10, widths=(64, 128)), "vgg: widths should be 5 numbers.* not 2"),
    (lambda: models.vgg(10, widths=(1, 2, 3, 4, 0)), r"vgg: widths\[4\] .* not 0"),
    (lambda: models.vgg(10, hidden=0), "vgg: hidden"),
    (lambda: models.vgg(10, dropout=1.0), "vgg: dropout"),
    (lambda: models.mini_resnet(10, blocks=0), "mini_resnet: blocks"),
    (lambda: models.mini_resnet(10, resolution=0), "mini_resnet: resolution"),
    (lambda: models.mini_resnet(10, dropout=-0.1), "mini_resnet: dropout"),
    (lambda: models.mini_resnet(10, width=0), "mini_resnet: width"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_a_bad_argument_is_refused_in_one_sentence(case: int) -> None:
    build, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as refusal:
        build()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("room", ["imagenet", "inherit", "vgg"])
def test_the_examples_in_docstrings_hold(room: str) -> None:
    tested = doctest.testmod(importlib.import_module(f"budgetnet.models.{room}"))
    assert tested.attempted > 0
    assert tested.failed == 0
