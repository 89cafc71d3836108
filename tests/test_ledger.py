"""The ledger: exact counts of any module, against torch's own parameters() and FlopCounterMode."""

import copy
import json
import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from budgetnet.budget import Budget, DoesNotFit, Ledger, OverBudget, Row, count, ledger, macs
from tests.work import calls


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
    """A convolution without a convolution module."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(16, 3, 3, 3))
        self.head = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.conv2d(images, self.kernel, padding=1).mean((2, 3)))


class Doubled(nn.Module):
    """Changes its input in place, around an nn.Identity that returns it."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        return self.same(maps.relu_())


class Residual(nn.Module):
    """Bottleneck block: 1x1 to `planes`, 3x3 that carries the stride, 1x1 to four times `planes`."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * planes
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, planes, 1, bias=False),
            nn.BatchNorm2d(planes),
            nn.LeakyReLU(0.1),
            nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(planes),
            nn.LeakyReLU(0.1),
            nn.Conv2d(planes, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, maps: Tensor) -> Tensor:
        return F.leaky_relu(self.branch(maps) + self.shortcut(maps), 0.1)


def seed_000(blocks: tuple[int, ...] = (4, 9, 8), planes: tuple[int, ...] = (30, 60, 96)) -> nn.Module:
    """The network of seed 000 in our own words, see seeds.md."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 4, bias=False), nn.BatchNorm2d(64), nn.LeakyReLU(0.1)]
    layers.append(nn.MaxPool2d(2))
    inputs = 64
    for stage, (length, width) in enumerate(zip(blocks, planes, strict=True)):
        for block in range(length):
            layers.append(Residual(inputs, width, 2 if stage > 0 and block == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def real_macs(model: nn.Module, *shape: int) -> int:
    """The reference: the real model, really run."""
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2


def row(found: Ledger, name: str) -> Row:
    return next(row for row in found.rows if row.name == name)


def test_a_conv_reused_three_times_an_alias_a_bare_parameter_and_an_unused_linear_count_1806() -> None:
    model = Reused()
    found = ledger(model, 32)
    assert found.params == 1_806 == sum(parameter.numel() for parameter in model.parameters())
    assert row(found, "").params == 8  # the bare parameter is the model's own
    assert row(found, "mix").params == 584
    assert [each.name for each in found.rows].count("mix") == 1
    assert "again" not in [each.name for each in found.rows]
    assert "also again" in row(found, "mix").note
    assert "called 3 times" in row(found, "mix").note
    assert row(found, "mix").macs == 3 * 576 * 32 * 32
    assert row(found, "mix").activation_bytes == 3 * 8 * 32 * 32 * 4
    assert "unused" in row(found, "forgotten").note
    assert row(found, "forgotten").params == 900
    assert row(found, "forgotten").shape is None
    assert not row(found, "head").note
    assert found.macs == real_macs(model, 3, 32, 32)


def test_a_functional_convolution_on_a_bare_parameter_is_counted_in_the_module_that_runs_it() -> None:
    model = Functional()
    found = ledger(model, 16)
    assert found.params == 602
    assert found.macs == 110_752 == real_macs(model, 3, 16, 16)
    assert row(found, "").params == 432
    assert row(found, "").macs == 110_592
    assert macs(model, 16) == 110_752


def test_seed_000_counts_as_published() -> None:
    model = seed_000()
    found = ledger(model)
    assert (found.params, found.trainable, found.buffers) == (1_996_986, 1_996_986, 18_819)
    assert found.bytes == 1_996_986 * 4 + 18_752 * 4 + 67 * 8  # float statistics and 67 counters of batches
    assert found.macs is None
    assert [macs(model, size) for size in (70, 96, 120)] == [370_819_440, 683_631_696, 1_081_499_088]
    assert Budget(params="2M").check(model).params == 1_996_986


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_one_more_plane_or_block_of_seed_000_is_over_two_million(stage: int) -> None:
    budget = Budget(params="2M")
    blocks, planes = [4, 9, 8], [30, 60, 96]
    blocks[stage] += 1
    with pytest.raises(OverBudget) as refusal:
        budget.build(seed_000, blocks=tuple(blocks))
    assert refusal.value.ledger.params > 2_000_000
    planes[stage] += 1
    with pytest.raises(OverBudget):
        budget.build(seed_000, planes=tuple(planes))


def test_a_ledgers_work_grows_with_the_modules_and_not_with_their_square() -> None:
    def deep(blocks: int) -> nn.Module:
        return nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(blocks)))

    few, many = deep(20), deep(80)
    ledger(few, 8)  # imports the counter
    assert calls(lambda: ledger(many, 8)) < 6 * calls(lambda: ledger(few, 8))


@pytest.mark.parametrize(
    ("name", "classes", "params", "size"),
    [
        ("efficientnet_b0", 10, 4_020_358, 32),
        ("resnet18", 1000, 11_689_512, 64),
        ("mobilenet_v2", 10, 2_236_682, 64),
        ("resnext50_32x4d", 200, 23_389_704, 64),
        ("vit_b_16", 1000, 86_567_656, 224),
    ],
)
def test_torchvisions_models_count_as_torch_counts_them(
    name: str, classes: int, params: int, size: int
) -> None:
    make = getattr(torchvision.models, name)
    assert count(make, num_classes=classes) == params
    with torch.device("meta"):
        model = make(num_classes=classes)
    found = ledger(model, size)
    assert found.params == params == sum(parameter.numel() for parameter in model.parameters())
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        model.eval()(torch.empty(1, 3, size, size))
    assert found.macs == counter.get_total_flops() // 2
    if name == "resnext50_32x4d":
        assert found.macs == 345_587_712


def test_a_real_run_and_the_meta_copy_count_the_same() -> None:
    model = torchvision.models.mobilenet_v3_small(num_classes=10)
    assert macs(model, 64) == real_macs(model, 3, 64, 64)


# Random trees: leaves of several kinds, some modules and parameters shared between places.
LEAVES: list[Callable[[], nn.Module]] = [
    lambda: nn.Linear(3, 4),
    lambda: nn.Linear(5, 2, bias=False),
    lambda: nn.BatchNorm1d(6),
    lambda: nn.Conv2d(2, 4, 3, groups=2),
    lambda: nn.LayerNorm(7),
    nn.ReLU,
    lambda: nn.BatchNorm2d(3, track_running_stats=False),
]


def grown(seed: int, size: int) -> nn.Module:
    chance = random.Random(seed)
    places: list[nn.Module] = [nn.Module()]
    leaves: list[nn.Module] = []
    for index in range(size):
        home = chance.choice(places)
        act = chance.randrange(7)
        if act == 0:
            place = nn.Module()
            home.add_module(f"p{index}", place)
            places.append(place)
        elif act == 1 and leaves:
            home.add_module(f"a{index}", chance.choice(leaves))
        elif act == 2 and leaves:
            parameters = list(chance.choice(leaves).parameters())
            if parameters:
                home.register_parameter(f"s{index}", parameters[0])
        elif act == 3:
            frozen = nn.Parameter(torch.zeros(chance.randint(0, 9)), requires_grad=chance.random() < 0.5)
            home.register_parameter(f"b{index}", frozen)
        elif act == 4:
            home.register_buffer(f"f{index}", torch.zeros(3), persistent=chance.random() < 0.5)
        else:
            leaf = chance.choice(LEAVES)()
            home.add_module(f"m{index}", leaf)
            leaves.append(leaf)
    return places[0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9), size=st.integers(0, 30))
def test_any_tree_counts_unique_parameters_and_its_rows_add_up(seed: int, size: int) -> None:
    model = grown(seed, size)
    found = ledger(model)
    parameters, buffers = list(model.parameters()), list(model.buffers())
    assert found.params == sum(parameter.numel() for parameter in parameters)
    assert found.trainable == sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    assert found.buffers == sum(buffer.numel() for buffer in buffers)
    saved = {tensor.untyped_storage()._cdata: tensor.nbytes for tensor in model.state_dict().values()}
    assert found.bytes == sum(saved.values())
    assert [each.name for each in found.rows] == [name for name, _ in model.named_modules()]
    for depth in (1, 2, 3):
        groups = found.groups(depth)
        assert sum(group.params for group in groups) == found.params
        assert sum(group.bytes for group in groups) == found.bytes
        assert all(group.name.count(".") < depth for group in groups)
    assert count(grown, seed, size) == found.params


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**9), size=st.integers(1, 30))
def test_any_tree_is_refused_one_below_its_count_where_the_running_total_crosses(
    seed: int, size: int
) -> None:
    model = grown(seed, size)
    params = ledger(model).params
    if params < 2:
        return
    assert Budget(params=params).check(model).params == params
    with pytest.raises(
        OverBudget, match=f"^{params:,} parameters is 1 over the budget of {params - 1:,}; "
    ) as over:
        Budget(params=params - 1).check(model)
    last = [name for name, module in model.named_modules() if row(over.value.ledger, name).params][-1]
    assert f"the line is crossed in {last or '(the model itself)'};" in str(over.value)


@settings(max_examples=15, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2)), min_size=1, max_size=6),
    size=st.integers(8, 20),
)
def test_any_network_of_shared_convolutions_has_the_macs_of_a_real_run(
    steps: list[tuple[int, int]], size: int
) -> None:
    pool = [nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)]
    body = [pool[kind] for kind, times in steps for _ in range(times)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    found = ledger(model, size)
    assert found.macs == real_macs(model, 3, size, size)
    assert found.macs == sum(group.macs or 0 for group in found.groups(1))


def test_shared_weights_are_counted_at_their_first_owner_and_noted_at_the_later() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    found = ledger(model)
    assert (row(found, "0").params, row(found, "2").params) == (20, 4)
    assert row(found, "2").note == "weight shared with 0.weight"
    assert found.bytes == 24 * 4


def test_frozen_parameters_are_counted_and_told_apart() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].requires_grad_(False)
    found = ledger(model)
    assert (found.params, found.trainable) == (40, 20)


def test_bytes_follow_the_stored_type_and_leave_out_what_is_not_saved() -> None:
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.BatchNorm1d(10)).half()
    model.register_buffer("table", torch.zeros(1000), persistent=False)
    found = ledger(model)
    assert found.bytes == 100 * 2 + 4 * 10 * 2 + 8
    assert found.buffers == 1021


def test_shapes_and_activation_bytes_are_those_of_a_real_run() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(5 * 8 * 8, 7),
    )
    found = ledger(model, (16, 16))
    assert row(found, "0").shape == (1, 5, 8, 8)
    assert row(found, "5").shape == (1, 7)
    new = [each.activation_bytes for each in found.rows[1:]]
    assert new == [1280, 1280, 0, 0, 0, 28]  # in place, switched off, a view: nothing new in memory
    assert row(found, "").activation_bytes == 0  # the model returns what its last module made
    assert found.activation_bytes == 2 * 1280 + 28


def test_weights_used_without_calling_their_module_are_not_called_unused() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 2, batch_first=True)  # never calls its out_proj
            self.classes = nn.Embedding(10, 12)
            self.layers = nn.ModuleList([nn.LayerNorm(12)])
            self.spare = nn.LayerNorm(12)

        def forward(self, images: Tensor) -> Tensor:
            tokens = images.flatten(1).reshape(1, -1, 12)
            mixed = self.layers[0](self.attention(tokens, tokens, tokens)[0])
            return F.linear(mixed.mean(1), self.classes.weight)

    found = ledger(Tied(), 8)
    assert [each.name for each in found.rows if "unused" in each.note] == ["spare"]


def test_a_linear_straight_after_a_linear_is_noted_with_and_without_a_resolution() -> None:
    class Ends(nn.Module):  # seed 001's head, defined apart from each other
        def __init__(self, between: nn.Module | None = None, middle: int = 128) -> None:
            super().__init__()
            self.fc2 = nn.Linear(middle, 10)
            self.fc1 = nn.Linear(512, middle)
            self.between = between

        def forward(self, images: Tensor) -> Tensor:
            features = self.fc1(images.flatten(1)[:, :512])
            return self.fc2(features if self.between is None else self.between(features))

    note = row(ledger(Ends(), 16), "fc2").note
    assert "follows fc1 with nothing between" in note
    assert "5,130 instead of 66,954 parameters" in note
    for between in (nn.ReLU(inplace=True), nn.ReLU(), nn.Dropout(), nn.LayerNorm(128)):
        assert not row(ledger(Ends(between), 16), "fc2").note
    assert row(ledger(Ends(nn.Identity()), 16), "fc2").note
    changed = nn.Sequential(nn.Linear(192, 9), Doubled(), nn.Linear(9, 9))
    assert not row(ledger(nn.Sequential(nn.Flatten(), changed), 8), "1.2").note
    assert not row(ledger(Ends(middle=8), 16), "fc2").note  # a bottleneck on purpose
    row_of_sequence = row(ledger(nn.Sequential(nn.Linear(512, 128), nn.Linear(128, 10))), "1")
    assert row_of_sequence.note == note.replace("fc1", "0")
    assert not row(ledger(nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9))), "2").note


def test_padding_that_does_not_halve_is_noted() -> None:
    def stem(padding: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 7, stride=2, padding=padding), nn.MaxPool2d(2))

    assert row(ledger(stem(5), 128), "0").note == "padding 5 takes 128 to 66, where padding 3 would give 64"
    assert not row(ledger(stem(3), 128), "0").note
    assert not row(ledger(stem(5), 128), "1").note  # 66 to 33 is half
    assert not any(each.note for each in ledger(torchvision.models.resnet18(), 97).rows)  # odd sizes round
    assert not row(ledger(seed_000(), 96), "0").note  # stride 1 is not meant to halve
    pool = ledger(nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(3, 2)), 64)
    assert row(pool, "1").note == "padding 0 takes 64 to 31, where padding 1 would give 32"


def test_lazy_modules_are_refused_in_one_sentence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.LazyConv2d(8, 3))
    for ask in (lambda: ledger(model), lambda: ledger(model, 8), lambda: macs(model, 8)):
        with pytest.raises(
            ValueError, match=r"^0 \(LazyConv2d\) has weights that do not exist before its first"
        ):
            ask()


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 2)
    )
    model[1].eval()
    model[0].weight.requires_grad_(False)
    calls: list[str] = []
    model[0].register_forward_hook(lambda *_: calls.append("after"))
    model.register_forward_pre_hook(lambda *_: calls.append("before"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    identities = [id(tensor) for tensor in (*model.parameters(), *model.buffers())]
    random_state, python_state = torch.get_rng_state(), random.getstate()
    ledger(model, 8)
    macs(model, 8)
    assert calls == []
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True]
    assert [id(tensor) for tensor in (*model.parameters(), *model.buffers())] == identities
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == [
        False,
        True,
        True,
        True,
        True,
        True,
    ]
    assert torch.equal(torch.get_rng_state(), random_state)
    assert random.getstate() == python_state
    assert len(model[0]._forward_hooks) == 1
    model.train()(torch.zeros(2, 3, 8, 8))
    assert calls == ["before", "after"]


def parametrized() -> nn.Module:
    first, second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
    return nn.Sequential(parametrizations.spectral_norm(first), parametrizations.weight_norm(second))


def hooked() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.Sequential(
            nn.utils.spectral_norm(nn.Conv2d(3, 8, 3)), nn.utils.weight_norm(nn.Conv2d(8, 8, 3))
        )
    model(torch.ones(1, 3, 8, 8))  # its weight is now the result of a computation, which deepcopy refuses
    return model


def pruned() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    prune.l1_unstructured(model[0], "weight", 0.5)
    return model


@pytest.mark.parametrize("make", [parametrized, hooked, pruned])
def test_weights_computed_by_torchs_own_reparametrizations_are_counted_once(
    make: Callable[[], nn.Module],
) -> None:
    model = make()
    found = ledger(model, 8)
    assert found.params == sum(parameter.numel() for parameter in model.parameters())
    assert found.macs == real_macs(model, 3, 8, 8) == 216 * 36 + 576 * 16


def test_a_parametrization_stays_on_the_model() -> None:
    model = parametrized()
    ledger(model, 8)
    assert parametrize.is_parametrized(model[0], "weight")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_any_precision_are_counted(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).to(dtype)
    found = ledger(model, 8)
    assert found.macs == 216 * 36
    assert found.activation_bytes == 2 * 8 * 36 * dtype.itemsize


def test_a_forward_that_reads_values_is_counted_on_a_cpu_copy() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.calls = 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            maps = self.conv(images)
            return maps * 2 if maps.mean().item() > 0 else maps

    model = Gate()
    assert ledger(model, 8).macs == 108 * 36
    assert model.calls == 0


def test_tensors_that_forward_makes_for_itself_are_made_on_the_copys_device() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, images: Tensor) -> Tensor:
            grid = torch.linspace(0, 1, images.shape[-1]).expand(1, 1, images.shape[-1], -1)
            return self.conv(torch.cat([images, grid], 1))

    assert ledger(Positions(), 8, channels=3).macs == 16 * 64


def test_channels_are_those_of_the_first_convolution_or_whichever_fit() -> None:
    grey = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4))
    assert macs(grey, 8) == 36 * 36 + 36 * 16
    grouped = nn.Sequential(nn.Conv2d(6, 6, 3, groups=3))
    assert macs(grouped, 8) == 108 * 36
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(DoesNotFit, match=r"1 \(Linear\).*takes 64 features"):
        macs(flat, 8, channels=3)
    assert macs(flat, 8) == macs(flat, 8, channels=1) == 128
    with pytest.raises(ValueError, match="channels should be a whole number of 1 or more, not 0"):
        macs(flat, 8, channels=0)


def test_compiled_and_parallel_models_count_as_the_one_inside() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    for wrapped in (torch.compile(model), nn.DataParallel(model)):
        assert ledger(wrapped, 8) == ledger(model, 8)


def test_a_copy_that_cannot_be_made_is_said() -> None:
    import threading

    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    model.lock = threading.Lock()  # type: ignore[assignment]
    assert ledger(model).params == 112
    with pytest.raises(ValueError, match="Sequential cannot be copied, so it cannot be tried"):
        ledger(model, 8)


def test_nothing_large_is_allocated_for_a_copy() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 100_000))
    made: list[Tensor] = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.numel() >= 100_000:
                made.append(result)
            return result

    with Recorder():
        ledger(model, 8)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    assert any(tensor.is_meta for tensor in made)
    assert all(tensor.is_meta or tensor.data_ptr() in own for tensor in made)


def test_the_table_is_plain_aligned_text_with_totals_and_its_convention() -> None:
    text = str(ledger(Reused(), 32))
    lines = text.splitlines()
    assert text.isascii()
    assert all(line == line.rstrip() for line in lines)
    assert lines[0].split("  ")[0] == "module"
    head = next(line for line in lines if line.startswith("head"))
    assert head.split() == ["head", "Linear", "90", "0", "10", "80", "40"]
    total = next(line for line in lines if line.startswith("total"))
    assert total.split() == ["total", "1,806", "0", "1,990,736", "131,112"]
    assert "note: forgotten: unused" in text
    assert "multiply-accumulates of convolutions and matrix products, batch 1, at 32x32" in text
    assert "MACs" not in str(ledger(Reused()))
    assert "1,806 unique parameters (1,806 trainable), 0 buffer elements, " in text
    assert len(ledger(seed_000()).table(depth=1).splitlines()) < len(str(ledger(seed_000())).splitlines())


def test_json_holds_the_totals_and_every_row() -> None:
    found = ledger(Reused(), 32)
    read = json.loads(found.json())
    assert read["params"] == 1806
    assert read["resolution"] == [32, 32]
    assert sum(each["macs"] for each in read["rows"]) == read["macs"] == found.macs
    assert [each["name"] for each in read["rows"]] == [each.name for each in found.rows]
    assert json.loads(ledger(Reused()).json())["macs"] is None


def test_groups_add_up_by_the_first_parts_of_the_names() -> None:
    found = ledger(torchvision.models.resnet18(num_classes=10), 64)
    groups = {group.name: group for group in found.groups(1)}
    assert groups["layer1"].params == 147_968
    assert groups["layer1"].kind == "Sequential"
    assert groups["layer1"].shape == (1, 64, 16, 16)
    assert sum(group.macs or 0 for group in groups.values()) == found.macs
    assert "layer1.0" in {group.name for group in found.groups(2)}
    assert found.groups(9) == found.rows
    with pytest.raises(ValueError, match="depth should be a whole number of 1 or more, not 0"):
        found.groups(0)


def test_a_module_inside_itself_is_walked_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model.add_module("me", model)
    found = ledger(model)
    assert found.params == 6
    assert row(found, "").note == "also me"


def test_a_very_deep_model_is_walked() -> None:
    model: nn.Module = nn.Linear(2, 2)
    for _ in range(900):
        model = nn.Sequential(model)
    assert ledger(model).params == 6


def test_a_ledger_survives_copy_and_comparison() -> None:
    found = ledger(Reused(), 16)
    assert copy.deepcopy(found) == found == ledger(Reused(), 16)
    assert found != ledger(Reused(), 17)


def test_grey_networks_without_a_convolution_are_counted() -> None:
    digits = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    assert macs(digits, 8) == 64 * 32 + 32 * 10
    assert Budget(macs="3k", resolution=8).check(digits).macs == macs(digits, 8)
    with pytest.raises(DoesNotFit, match=r"^1 \(Linear\) does not fit at 9x9: .* the smallest .* is 8$"):
        ledger(digits, 9)


def test_a_convolution_inside_does_not_say_what_the_images_are() -> None:
    inside = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Unflatten(1, (16, 2, 2)), nn.Conv2d(16, 4, 1))
    assert macs(inside, 8) == 64 * 64 + 16 * 4 * 4


def test_one_half_parameter_does_not_make_the_images_half() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, 1, 1, dtype=torch.float16))
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.conv(images * self.scale.float())

    assert macs(Scaled(), 8) == macs(nn.Conv2d(3, 4, 3), 8)
    assert ledger(nn.Conv2d(3, 4, 3).half(), 8).activation_bytes == 4 * 6 * 6 * 2


def test_each_weight_of_a_bilinear_layer_meets_each_image_once() -> None:
    class Paired(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = nn.Bilinear(12, 12, 7)

        def forward(self, images: Tensor) -> Tensor:
            return self.pair(images.flatten(1), images.flatten(1))

    assert macs(Paired(), 2) == 7 * 12 * 12


class Pooled(nn.Module):
    """Attention pooling by one query, and a layer that is given one image's features after another's."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.bias = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1, 5))
        self.head, self.more = nn.Linear(3, 10), nn.Parameter(torch.ones(10, 5))

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).transpose(1, 2)
        shares = (tokens @ self.query).softmax(dim=1)
        pooled = (tokens * shares[..., None]).sum(dim=1)
        each = torch.stack([self.head(one) * torch.dot(one, self.query) for one in pooled])
        return torch.addbmm(self.bias, each[None], self.more[None])


def test_a_matrix_times_a_vector_is_counted() -> None:
    assert ledger(Pooled(), 8).macs == 64 * 3 + 30 + 3 + 50
