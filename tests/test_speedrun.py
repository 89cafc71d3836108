"""The pieces of airbench94, each against its formula, and some steps of all of them against a plain loop."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import coloured
from torch import Tensor, nn
from torch.nn import Parameter

import budgetnet
from budgetnet import (
    SGD,
    AlternatingFlip,
    Budget,
    Data,
    Early,
    Group,
    Groups,
    LabelSmoothingLoss,
    Linear,
    Muon,
    Phase,
    Recipe,
    Rotate,
    Run,
    Shift,
    Test,
    Trainer,
    arrays,
    layers,
    models,
)
from budgetnet.augment import Place, at_place, looks, view
from budgetnet.modelfile import BadModelFile, Card, read_card
from budgetnet.modelfile.file import write
from budgetnet.optim import orthogonal
from budgetnet.plan import read_plan

SMALL = {"widths": (8, 16), "classes": 3}


def trainer(out: Path | None = None) -> Trainer:
    return Trainer("cpu", out=out, show=False)


def speednet(**changes: object) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Budget(params="2M").build(models.speednet, **{**SMALL, **changes})


def photos(count: int, side: int = 16, seed: int = 0) -> Tensor:
    """Bytes whose neighbours are alike, as those of photos are."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(count, 3, side // 4, side // 4, generator=generator)
    smooth = F.interpolate(small, (side, side), mode="bilinear")
    noisy = smooth + 0.05 * torch.randn(count, 3, side, side, generator=generator)
    return noisy.clamp(0, 1).mul(255).to(torch.uint8)


class Reference(nn.Module):
    """The network as its paper describes it, written out."""

    def __init__(self, classes: int, widths: tuple[int, ...], scale: float) -> None:
        super().__init__()
        self.whiten, self.scale = nn.Conv2d(3, 24, 2), scale
        sizes = [
            size for inputs, width in zip((24, *widths), widths) for size in ((inputs, width), (width,) * 2)
        ]
        self.convs = nn.ModuleList(nn.Conv2d(*size, 3, padding="same", bias=False) for size in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(size[1], eps=1e-12, momentum=0.4) for size in sizes)
        self.head = nn.Linear(widths[-1], classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.whiten(x))
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            x = conv(x)
            x = F.gelu(norm(F.max_pool2d(x, 2) if number % 2 == 0 else x))
        return self.head(F.max_pool2d(x, 3).flatten(1)) * self.scale

    def copy(self, model: nn.Module) -> "Reference":
        """Take the weights of a speednet, which begins with a standardisation."""
        mine = [self.whiten.weight, self.whiten.bias]
        for conv, norm in zip(self.convs, self.norms):
            mine += [conv.weight, norm.weight, norm.bias]
        convs_norms = [m for m in model.groups.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
        theirs = [p for m in (model.whiten, *convs_norms, model.head.linear) for p in m.parameters()]
        with torch.no_grad():
            for one, other in zip([*mine, self.head.weight], theirs, strict=True):
                one.copy_(other)
        return self


def standard(model: nn.Module, images: Tensor) -> Tensor:
    return (images.float() / 255 - model.standardise.mean) / model.standardise.std


def test_speednet_has_as_many_parameters_as_torch_counts_in_the_original() -> None:
    original = Reference(10, (64, 256, 256), 1 / 9)
    assert sum(p.numel() for p in original.parameters()) == 1_972_792
    assert budgetnet.count(models.speednet, 10) == 1_972_792
    model = models.speednet(10)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 1_972_792 - 288 - 1_152


@pytest.mark.parametrize("training", [True, False])
def test_speednet_is_the_network_of_the_paper(training: bool) -> None:
    model = speednet(widths=(8, 16, 16), mean=(0.5,) * 3, std=(0.25,) * 3).train(training)
    theirs = Reference(3, (8, 16, 16), 1 / 9).copy(model).train(training)
    images = photos(12, 32)
    mine = model(images.float() / 255)
    torch.testing.assert_close(mine, theirs(standard(model, images)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.groups[1].norm2.running_var, theirs.norms[3].running_var)


def test_speednet_starts_as_the_same_function_whatever_its_factor() -> None:
    images = photos(4).float() / 255
    one, other = speednet(factor=1 / 9).eval(), speednet(factor=1 / 16).eval()
    assert other.head.linear.weight.std().item() == pytest.approx(1.0)
    torch.testing.assert_close(one(images), other(images))


def test_dirac_hands_the_first_channels_on() -> None:
    convolutions = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.Conv2d(5, 2, 1, bias=False))
    before = convolutions[0].weight.clone()
    layers.dirac(convolutions)
    x = torch.rand(2, 3, 6, 6)
    assert torch.equal(convolutions[0](x)[:, :3], x)
    assert torch.equal(convolutions[0].weight[3:], before[3:])
    assert torch.equal(convolutions(x), x[:, :2])
    grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2, bias=False)
    layers.dirac(grouped)
    y = torch.rand(1, 4, 5, 5)
    torch.testing.assert_close(grouped(y)[:, [0, 1, 4, 5]], y)
    with pytest.raises(ValueError, match="convolution that learns"):
        layers.dirac(layers.whiten(3))


def test_whitening_filters_are_the_formulas_and_whiten() -> None:
    images = photos(60).float() / 255 - 0.5
    layer = layers.whiten(3)
    layer.fit_to([images[:25], images[25:]])
    # As airbench writes it.
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).transpose(1, 3).reshape(-1, 12).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    expected = (vectors.T / (values[:, None] + 5e-4).sqrt()).flip(0)
    found = layer.weight.flatten(1).double()
    signs = (found[:12] * expected).sum(dim=1).sign()[:, None]
    torch.testing.assert_close(found[:12], expected * signs, rtol=1e-4, atol=1e-4)
    assert torch.equal(found[12:], -found[:12])
    for row in found[:12]:
        assert float(row[row.abs() >= 0.5 * row.abs().max()][0]) > 0
    white = F.conv2d(images, layer.weight[:12]).transpose(0, 1).flatten(1).double()
    share = values.flip(0) / (values.flip(0) + 5e-4)
    torch.testing.assert_close(white @ white.T / white.shape[1], share.diag(), rtol=1e-3, atol=1e-3)


def test_whitening_has_the_same_signs_whatever_the_order_of_the_sums() -> None:
    images = photos(40).float() / 255 - 0.5
    one, other = layers.whiten(3), layers.whiten(3).double()
    one.fit_to([images])
    other.fit_to(images.flip(0).split(7))
    torch.testing.assert_close(one.weight.double(), other.weight, rtol=1e-4, atol=1e-4)
    assert other.weight.dtype == torch.float64
    with pytest.raises(ValueError, match="set already"):
        one.fit_to([images])
    with pytest.raises(ValueError, match="no patch"):
        layers.whiten(3).fit_to([])
    with pytest.raises(ValueError, match="not finite"):
        layers.whiten(3).fit_to([images / 0])
    with pytest.raises(ValueError, match="kernel"):
        layers.whiten(3, 0)


def test_fit_takes_the_filters_from_the_training_images_and_the_file_keeps_them(tmp_path: Path) -> None:
    images = photos(60)
    data = arrays(images[:50], torch.arange(50) % 3, val=(images[50:], torch.arange(10) % 3))
    model = speednet()
    trainer(tmp_path).fit(model, data, Recipe([Phase(2, 16, 0.01)], batch_size=25))
    expected = layers.whiten(3)
    expected.fit_to([standard(model, images[:50])])
    torch.testing.assert_close(model.whiten.weight, expected.weight, rtol=1e-4, atol=1e-4)
    loaded = budgetnet.load(tmp_path / "run-1")
    assert loaded.whiten.fitted
    assert torch.equal(loaded.whiten.weight, model.whiten.weight)
    assert not loaded.whiten.weight.requires_grad
    before = model.whiten.weight.clone()
    other = arrays(photos(50, seed=9), torch.arange(50) % 3)
    trainer().fit(model, other, Recipe([Phase(1, 16, 0.01)], batch_size=25))
    assert torch.equal(model.whiten.weight, before)


def test_a_layer_that_the_model_never_asks_cannot_be_fitted(data: Data) -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.aside, self.head = layers.whiten(3), layers.head(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.head(x)
            return found

    with pytest.raises(ValueError, match="aside"):
        trainer().fit(Apart(), data, Recipe([Phase(1, 12, 0.01)]))


def crops(images: Tensor, pixels: int) -> Tensor:
    """All crops of the padded images, (25, B, C, H, W) for 2 pixels."""
    side = images.shape[-1]
    wide = F.pad(images.float() / 255, (pixels,) * 4, "reflect")
    reach = range(2 * pixels + 1)
    return torch.stack([wide[..., y : y + side, x : x + side] for y in reach for x in reach])


def seen(images: Tensor, steps: list[object], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    labels, side = torch.zeros(len(images), dtype=torch.int64), images.shape[-1]
    return view(images, labels, steps, resolution=side, classes=2, generator=generator)[0]


def test_shift_is_the_random_crop_of_the_reflected_image() -> None:
    images = photos(1, 12).expand(2000, -1, -1, -1)
    found = seen(images, [Shift(2)])
    apart = (found[None] - crops(images[:1], 2)).abs().amax(dim=(2, 3, 4))
    assert apart.min(dim=0).values.max() < 1e-5
    counts = torch.bincount(apart.argmin(dim=0), minlength=25).double()
    assert ((counts - 80).square() / 80).sum() < 60  # 99.99 % of a chi square with 24 degrees


def test_shift_reads_through_mirrors_and_after_anything_else_by_itself() -> None:
    images = photos(40, 12)
    mirror = AlternatingFlip().placed(Place(torch.arange(40), torch.zeros(40, dtype=torch.int64), 7))
    assert 8 < int(mirror.which.sum()) < 32
    mirrored = torch.where(mirror.which[:, None, None, None], images.flip(-1), images)
    torch.testing.assert_close(seen(images, [mirror, Shift(3)]), seen(mirrored, [Shift(3)]))
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(40, dtype=torch.int64)
    both = view(images, labels, [Rotate(30), Shift(2)], resolution=12, classes=2, generator=generator)[0]
    turned = seen(images, [Rotate(30)])
    wide = F.pad(turned, (2,) * 4, "reflect")
    shifts = [wide[..., y : y + 12, x : x + 12] for y in range(5) for x in range(5)]
    apart = (both[None] - torch.stack(shifts)).abs().amax(dim=(2, 3, 4))
    assert apart.min(dim=0).values.max() < 1e-5
    black = seen(images, [Shift(2, fill=0.0)])
    padded = F.pad(images.float() / 255, (2,) * 4)
    shifts = [padded[..., y : y + 12, x : x + 12] for y in range(5) for x in range(5)]
    assert (black[None] - torch.stack(shifts)).abs().amax(dim=(2, 3, 4)).min(dim=0).values.max() < 1e-5


@pytest.mark.parametrize(("wrong", "words"), [({"pixels": 0}, "pixels"), ({"fill": "edge"}, "reflect")])
def test_shift_refuses_what_it_cannot_do(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Shift(**wrong)


class Watching:
    """A step of the user's that changes nothing, and keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(images.clone())
        return images, labels


@pytest.mark.parametrize("views", [1, 2])
def test_alternating_flips_show_each_image_both_ways_round_in_turn(views: int) -> None:
    count, epochs = 60, 4
    images = photos(count, 12)
    # One pixel, in a column that a mirror leaves in place by symmetry, tells which image it is.
    images[:, :, 0, 0] = images[:, :, 0, 11] = torch.arange(count, dtype=torch.uint8)[:, None]
    data = arrays(images, torch.arange(count) % 3)
    watching = Watching()
    phase = Phase(epochs, 12, 0.01, augment=[AlternatingFlip(), watching], views=views)
    trainer().fit(speednet(widths=(4,)), data, Recipe([phase], batch_size=20))
    shown = torch.cat(watching.seen)
    order = (shown[:, 0, 0, 0] * 255).round().long().view(epochs * views, count)
    mirrored = torch.zeros(epochs * views, count, dtype=torch.bool)
    for number, rows in enumerate(order):
        assert sorted(rows.tolist()) == list(range(count))
        plain = images[rows].float() / 255
        found = (shown.view(epochs * views, count, 3, 12, 12)[number] - plain).abs().amax(
            dim=(1, 2, 3)
        ) > 1e-3
        mirrored[number, rows] = found
    assert torch.equal(mirrored[1:], ~mirrored[:-1])
    assert 15 < int(mirrored[0].sum()) < 45


def test_alternating_flips_have_fair_coins_of_their_own_seed_and_disturb_no_other_step() -> None:
    rows, none = torch.arange(20_000), torch.zeros(20_000, dtype=torch.int64)
    one, other = (AlternatingFlip().placed(Place(rows, none, seed)).which for seed in (3, 2**31 + 5))
    for part in (one, other, one ^ other, one[1:] ^ one[:-1]):
        assert part.double().mean().item() == pytest.approx(0.5, abs=0.02)
    images = photos(30, 12)
    place = Place(rows[:30], none[:30], 3)
    found = seen(images, [*at_place([Rotate(20), AlternatingFlip()], place)])
    turned = seen(images, [Rotate(20)])
    expected = torch.where(one[:30, None, None, None], turned.flip(-1), turned)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="vertical"):
        AlternatingFlip(vertical=1)


def test_without_a_place_an_alternating_flip_is_a_coin() -> None:
    images = photos(400, 8)
    found = seen(images, [AlternatingFlip()])
    flipped = (found - images.float() / 255).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert 150 < int(flipped.sum()) < 250
    upright = seen(images, [AlternatingFlip(vertical=True)])
    torch.testing.assert_close(upright[flipped], images[flipped].flip(-2).float() / 255)


def looked(model: nn.Module, x: Tensor) -> Tensor:
    """Six looks, as airbench's evaluation takes them."""

    def mirrored(y: Tensor) -> Tensor:
        return 0.5 * model(y) + 0.5 * model(y.flip(-1))

    wide, side = F.pad(x, (1,) * 4, "reflect"), x.shape[-1]
    shifted = [mirrored(wide[..., k : k + side, k : k + side]) for k in (0, 2)]
    with torch.no_grad():
        return 0.5 * mirrored(x) + 0.5 * torch.stack(shifted).mean(dim=0)


def test_six_looks_are_airbenchs(tmp_path: Path) -> None:
    images = photos(50)
    data = arrays(images[:40], torch.arange(40) % 3, val=(images[40:], torch.arange(10) % 3))
    model = speednet()
    test = Test(mirror=True, shift=1)
    run = trainer(tmp_path).fit(model, data, Recipe([Phase(1, 16, 0.01, test=test)], batch_size=20))
    expected = looked(model.eval(), images[40:].float() / 255)
    assert run.result["val_loss"] == pytest.approx(
        F.cross_entropy(expected, data.val.labels).item(), rel=1e-4
    )
    assert "val_plain_loss" not in run.result
    assert (model.card.mirror, model.card.shift) == (True, 1)
    loaded = budgetnet.load(tmp_path / "run-1")
    found = trainer().predict(loaded, images[40:]).probabilities
    torch.testing.assert_close(found, expected.softmax(dim=1), rtol=1e-4, atol=1e-6)
    assert trainer().evaluate(loaded, data.val).loss == pytest.approx(run.result["val_loss"], rel=1e-5)
    once = trainer().evaluate(loaded, data.val, test=Test(crop=16)).loss
    assert once == pytest.approx(F.cross_entropy(model(images[40:] / 255), data.val.labels).item(), rel=1e-4)
    assert once != pytest.approx(run.result["val_loss"], rel=1e-6)


def test_looks_have_weights_of_one_in_all() -> None:
    x = torch.rand(2, 3, 8, 8)
    for mirror, shift, count in ((False, 0, 1), (True, 0, 2), (False, 2, 3), (True, 2, 6)):
        taken = looks(x, mirror=mirror, shift=shift)
        assert len(taken) == count == Test(mirror=mirror, shift=shift).looks
        assert sum(weight for weight, _ in taken) == pytest.approx(1.0)
        assert all(look.shape == x.shape for _, look in taken)
    with pytest.raises(ValueError, match="below the sides"):
        looks(x, shift=8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Test(shift=-1), "shift"),
        (lambda: Test(mirror=1), "mirror"),
        (lambda: Test(crop=8, shift=8), "below its crop"),
        (lambda: Phase(1, 8, 0.1, test=Test(shift=8)), "below its crop"),
    ],
)
def test_impossible_looks_are_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_card_says_looks_only_where_there_are_any(tmp_path: Path) -> None:
    model = models.convnet(3, widths=(4,))
    path = tmp_path / "model.safetensors"
    write(model, model.state_dict(), Card(), path)
    assert b"mirror" not in path.read_bytes()
    write(model, model.state_dict(), Card(mirror=True, shift=2), path)
    assert (read_card(path).mirror, read_card(path).shift) == (True, 2)
    for wrong in ({"mirror": 1}, {"shift": -1}, {"shift": True}, {"shift": 10**6}):
        with pytest.raises((BadModelFile, ValueError), match=next(iter(wrong))):
            write(model, model.state_dict(), replace(Card(), **wrong), path)


def orthogonalised(gradient: Tensor) -> Tensor:
    """Three iterations of Newton and Schulz, as airbench writes them, in float32."""
    x = gradient / (gradient.norm() + 1e-7)
    x = x.T if len(x) > x.shape[1] else x
    for _ in range(3):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if gradient.shape[0] > gradient.shape[1] else x


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (6, 6)])
def test_newton_schulz_is_the_formula(shape: tuple[int, int]) -> None:
    given = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    found = orthogonal(given, 3)
    for one, other in zip(given, found):
        torch.testing.assert_close(other, orthogonalised(one), rtol=1e-4, atol=1e-5)
    values = torch.linalg.svdvals(orthogonal(given, 8))
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.3


class Plain:
    """airbench's optimizers and rates on a Reference, for a loss that is summed over the batch."""

    def __init__(self, model: Reference, decay: float, head: float, bias: float, early: int) -> None:
        self.model, self.early = model, early
        biases = [norm.bias for norm in model.norms]
        groups = [([model.whiten.bias], bias), (biases, bias), ([model.head.weight], head)]
        self.sgd = torch.optim.SGD(
            [{"params": p, "lr": lr, "first": lr, "weight_decay": decay / lr} for p, lr in groups],
            momentum=0.85,
            nesterov=True,
        )
        self.filters: list[Parameter] = [conv.weight for conv in model.convs]
        self.momenta = [torch.zeros_like(p) for p in self.filters]

    def step(self, number: int, steps: int) -> None:
        for group in self.sgd.param_groups[:1]:
            group["lr"] = group["first"] * (1 - number / self.early)
        for group in self.sgd.param_groups[1:]:
            group["lr"] = group["first"] * (1 - number / steps)
        if number >= self.early:
            self.model.whiten.bias.grad = None
        self.sgd.step()
        with torch.no_grad():
            for p, momentum in zip(self.filters, self.momenta):
                momentum.mul_(0.6).add_(p.grad)
                update = orthogonalised((p.grad + 0.6 * momentum).flatten(1)).view_as(p)
                p.mul_(len(p) ** 0.5 / p.norm()).add_(update, alpha=-0.24 * (1 - number / steps))
        self.model.zero_grad()


def test_the_recipes_steps_are_those_of_airbench_written_out() -> None:
    batch, steps = 24, 4
    data = arrays(photos(batch), torch.arange(batch) % 3)
    model = speednet()
    shipped = read_plan("cifar10_speedrun").recipe
    # The recipe's rates are for a mean over 2,000 images and logits over 9.
    assert isinstance(shipped.optimizer, Groups)
    of_mean = batch / 2000
    groups = []
    for group, rate in zip(shipped.optimizer.groups, (106.0, 106.0, 1.656), strict=True):
        decay = replace(group.optimizer, weight_decay=0.004 / rate)
        lr = Linear(rate * of_mean)
        groups.append(replace(group, optimizer=decay, lr=Early(lr, 2) if group.parts == "whiten" else lr))
        assert group.optimizer.weight_decay == pytest.approx(decay.weight_decay)
    phase = replace(shipped.phases[0], epochs=steps, resolution=16, augment=(), test=Test())
    recipe = replace(
        shipped, phases=[phase], optimizer=replace(shipped.optimizer, groups=groups), batch_size=batch
    )
    theirs: list[Reference] = []

    class First:
        """Copies the model once its filters are fitted, just before the first step."""

        def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            # It is tried before that, on images that nothing is learnt from.
            if not theirs and model.whiten.fitted:
                theirs.append(Reference(3, SMALL["widths"], 1 / 9).copy(model))
            return images, labels

    trainer().fit(model, data, replace(recipe, phases=[replace(phase, augment=[First()])]))
    reference = theirs[0]
    head = 1.656 / 2000  # for logits over 9; airbench's 0.67 is for logits over 256
    assert head == pytest.approx(0.67 * (9 / 256) ** 2, rel=1e-3)
    # In the sum a step takes 0.004 of the weights at the first rate; here as much of a smaller rate.
    plain = Plain(reference, decay=0.004 * of_mean, head=head, bias=0.053, early=2)
    before = reference.convs[2].weight.clone()
    images = standard(model, data.train.images)
    for number in range(steps):
        logits = reference(images)
        F.cross_entropy(logits, data.train.labels, label_smoothing=0.2, reduction="sum").backward()
        plain.step(number, steps)
    assert (reference.convs[2].weight - before).norm() > 0.1 * before.norm()
    expected = Reference(3, SMALL["widths"], 1 / 9).copy(model).state_dict()
    for name, tensor in reference.named_parameters():
        torch.testing.assert_close(tensor, expected[name], rtol=2e-3, atol=2e-4)


def test_the_recipe_resumes_in_the_bits_it_would_have_had(tmp_path: Path) -> None:
    data = coloured(80, val=20)
    shipped = read_plan("cifar10_speedrun").recipe
    slow = [replace(group, lr=Linear(0.1)) for group in shipped.optimizer.groups[1:]]
    groups = [Group("whiten", SGD(), lr=Early(Linear(0.1), 1)), *slow]
    recipe = replace(
        shipped,
        phases=[replace(shipped.phases[0], epochs=2, resolution=12)],
        optimizer=Groups(groups, rest=Muon(momentum=0.6, steps=3, normalise=True)),
        loss=LabelSmoothingLoss(0.2),
        batch_size=40,
    )
    whole, again = (speednet(widths=(8,)) for _ in range(2))
    expected = trainer(tmp_path).fit(whole, data, recipe)
    run = trainer(tmp_path).fit(again, data, recipe, max_time=1e-9)
    sessions = 1
    while run.status == "paused":
        again = speednet(widths=(8,))
        run = trainer(tmp_path).fit(again, data, recipe, resume=run.folder, max_time=1e-9)
        sessions += 1
    assert sessions > 4
    assert [epoch.train_loss for epoch in run.history] == [epoch.train_loss for epoch in expected.history]
    mine, theirs = whole.state_dict(), again.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert Run.read(run.folder).record["recipe"] == recipe.describe()
