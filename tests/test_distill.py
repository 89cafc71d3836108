"""Distillation: the step against a softmax written out, the loss against Hinton's and the seed's."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torchvision.transforms.v2 import functional as reference

from budgetnet import (
    Budget,
    Cutmix,
    Data,
    Distill,
    DistillationLoss,
    Flip,
    Mixup,
    Phase,
    Recipe,
    Trainer,
    models,
    save,
)
from budgetnet.augment import Act, view
from budgetnet.identity import described_value, file_mark
from budgetnet.loss import LabelSmoothingLoss
from budgetnet.modelfile import Card, weights

CLASSES = ("red", "green", "blue")


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def network(seed: int = 0, classes: int = 3, **options: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Budget(params="20k").build(models.convnet, classes=classes, widths=(8, 16), **options)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (8, 3, 12, 12), generator=seeded(1), dtype=torch.uint8)


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(8) % 3


def answered(step: Distill, images: Tensor, labels: Tensor) -> Tensor:
    """The labels that a step answers to float images of three classes."""
    return step.act(images.float() / 255, labels, classes=3, generator=seeded())[1]


def said(teacher: nn.Module, images: Tensor, temperature: float = 1.0) -> Tensor:
    """What a copy of the teacher says in evaluation mode, written out."""
    with torch.no_grad():
        logits = copy.deepcopy(teacher).eval()(images)
    exponentials = (logits / temperature).exp()
    return exponentials / exponentials.sum(dim=1, keepdim=True)


# --- the step


def test_labels_become_what_the_teacher_says(images: Tensor, labels: Tensor) -> None:
    teacher = network(1)
    step = Distill(teacher)
    assert isinstance(step, Act)
    found = answered(step, images, labels)
    torch.testing.assert_close(found, said(teacher, images.float() / 255))
    assert not torch.allclose(found, answered(Distill(network(2)), images, labels), atol=1e-3)


@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 1.0), (0.3, 1.0), (0.7, 4.0)])
def test_weight_mixes_the_teacher_with_the_labels(
    weight: float, temperature: float, images: Tensor, labels: Tensor
) -> None:
    teacher = network(1)
    found = answered(Distill(teacher, weight=weight, temperature=temperature), images, labels)
    taught = said(teacher, images.float() / 255, temperature)
    torch.testing.assert_close(found, weight * taught + (1 - weight) * F.one_hot(labels, 3).float())
    torch.testing.assert_close(found.sum(dim=1), torch.ones(8))


def test_labels_that_are_mixed_already_are_mixed_further(images: Tensor, labels: Tensor) -> None:
    teacher = network(1)
    mixed = 0.25 * F.one_hot(labels, 3).float() + 0.75 * F.one_hot((labels + 1) % 3, 3).float()
    found = answered(Distill(teacher, weight=0.5), images, mixed)
    torch.testing.assert_close(found, 0.5 * said(teacher, images.float() / 255) + 0.5 * mixed)
    apart = answered(Distill(teacher, beside=True), images, mixed)
    torch.testing.assert_close(apart[:, 1], mixed)


def test_beside_keeps_teacher_and_labels_apart(images: Tensor, labels: Tensor) -> None:
    teacher = network(1)
    found = answered(Distill(teacher, temperature=3.0, beside=True), images, labels)
    assert found.shape == (8, 2, 3)
    torch.testing.assert_close(found[:, 0], said(teacher, images.float() / 255, 3.0))
    assert torch.equal(found[:, 1], F.one_hot(labels, 3).float())


def test_a_raised_temperature_softens(images: Tensor, labels: Tensor) -> None:
    teacher = network(1)
    sharp, soft = (answered(Distill(teacher, temperature=t), images, labels) for t in (0.5, 20.0))
    assert torch.equal(sharp.argmax(dim=1), soft.argmax(dim=1))
    assert (sharp.max(dim=1).values > soft.max(dim=1).values).all()


def test_the_teacher_sees_the_very_views_that_the_student_sees(images: Tensor, labels: Tensor) -> None:
    teacher = network(1)
    steps = [Flip(), Mixup(1.0), Distill(teacher)]
    views, taught = view(images, labels, steps, resolution=10, classes=3, generator=seeded(5))
    torch.testing.assert_close(taught, said(teacher, views))
    plain, _ = view(images, labels, steps[:2], resolution=10, classes=3, generator=seeded(5))
    assert torch.equal(views, plain)


def plain(images: Tensor) -> Tensor:
    return images


@pytest.mark.parametrize("beside", [False, True])
def test_what_stands_behind_it_is_for_the_student_alone(beside: bool, images: Tensor, labels: Tensor) -> None:
    teacher = network(1)
    weak, taught = view(
        images, labels, [Flip(), Distill(teacher)], resolution=12, classes=3, generator=seeded(5)
    )
    torch.testing.assert_close(taught, said(teacher, weak))
    # What mixes, and steps from elsewhere, take what the teacher said on, as they do labels.
    behind = [plain, Cutmix(1.0), Mixup(0.4)]
    steps = [Flip(), Distill(teacher, weight=1.0 if beside else 0.0, beside=beside), *behind]
    views, found = view(images, labels, steps, resolution=12, classes=3, generator=seeded(5))
    alone, given = view(images, labels, [Flip(), *behind], resolution=12, classes=3, generator=seeded(5))
    assert torch.equal(views, alone)
    torch.testing.assert_close(found[:, 1] if beside else found, given)
    assert found.shape == ((8, 2, 3) if beside else (8, 3))
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(found.shape[:-1]))


def test_the_teacher_sees_the_views_at_its_own_resolution(images: Tensor, labels: Tensor) -> None:
    teacher = network(1)
    steps = [Flip(), Distill(teacher, resolution=16)]
    views, taught = view(images, labels, steps, resolution=10, classes=3, generator=seeded(5))
    assert views.shape == (8, 3, 10, 10)
    larger = reference.resize(views, [16, 16], antialias=True)
    torch.testing.assert_close(taught, said(teacher, larger))
    assert not torch.allclose(taught, said(teacher, views), atol=1e-4)


def test_a_teacher_computes_in_the_precision_that_is_asked_for(images: Tensor, labels: Tensor) -> None:
    teacher = network(1)
    found = answered(Distill(teacher, precision="bf16"), images, labels)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = copy.deepcopy(teacher).eval()(images.float() / 255)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(found, torch.softmax(logits.float(), dim=1))
    assert not torch.equal(found, answered(Distill(teacher), images, labels))
    with pytest.raises(ValueError, match=r"Distill's precision should be one of float32, bf16, not 'bf15'"):
        Distill(teacher, precision="bf15")  # type: ignore[arg-type]


def test_several_teachers_say_the_mean_of_their_probabilities(
    saved: Path, images: Tensor, labels: Tensor
) -> None:
    others = [network(seed) for seed in (1, 2, 3)]
    step = Distill([others[0], others[1], others[2]], temperature=2.0, beside=True)
    each = [said(teacher, images.float() / 255, 2.0) for teacher in others]
    torch.testing.assert_close(answered(step, images, labels)[:, 0], torch.stack(each).mean(dim=0))
    # One after the other gives the same where shares are halves, thirds and so on.
    mean = answered(Distill(others, weight=0.6), images, labels)
    steps = [Distill(teacher, weight=1 / (n + 1)) for n, teacher in enumerate(others)]
    after = labels
    for one in steps:
        after = answered(one, images, after)
    torch.testing.assert_close(mean, 0.6 * after + 0.4 * F.one_hot(labels, 3))
    # Files and modules go together, and a list of one is that one.
    both = answered(Distill([saved, others[1]]), images, labels)
    torch.testing.assert_close(both, answered(Distill([others[0], others[1]]), images, labels))
    assert torch.equal(
        answered(Distill([others[0]]), images, labels), answered(Distill(others[0]), images, labels)
    )


def test_each_of_several_teachers_is_told_and_looked_at(saved: Path, data: Data) -> None:
    file = saved / "model.safetensors"
    step = Distill([saved, network(2)])
    first, second = step.identity()["weights"]  # type: ignore[misc]
    assert first == file_mark(file)
    assert second == Distill(network(2)).identity()["weights"]
    assert described_value(step)["teacher"][0] == str(saved)
    assert step == Distill(step.teacher) != Distill(saved)
    assert len(step.pasts) == 1, "of a module that was never trained nothing is known"
    step.ready(data)
    with pytest.raises(ValueError, match="cannot be loaded: there is no model file"):
        Distill([saved, saved / "nobody"]).ready(data)
    with pytest.raises(ValueError, match="tells 4 classes apart"):
        Distill([saved, network(classes=4)]).ready(data)
    phase = Phase(epochs=1, resolution=8, lr=0.1, augment=[Flip(), Distill(saved)])
    changed = Recipe([phase]).changed("phases.0.augment.1.teacher", [str(saved), str(file)])
    assert changed.phases[0].augment[1].models[0] is not changed.phases[0].augment[1].models[1]


def test_the_users_module_is_left_as_it_was(images: Tensor, labels: Tensor) -> None:
    teacher = network(1, dropout=0.5).train()
    teacher[1].eval()
    modes = [module.training for module in teacher.modules()]
    state = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    step = Distill(teacher)
    first, again = (answered(step, images, labels) for _ in range(2))
    assert torch.equal(first, again)
    assert not first.requires_grad
    assert not first.is_inference()
    assert [module.training for module in teacher.modules()] == modes
    assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(state[name], tensor) for name, tensor in teacher.state_dict().items())
    assert step.models == [teacher]


def test_the_module_is_put_back_when_it_fails(labels: Tensor) -> None:
    teacher = network(1).train()
    with pytest.raises(ValueError, match="does not fit at 1x1"):
        Distill(teacher).act(torch.zeros(8, 3, 1, 1), labels, classes=3, generator=seeded())
    assert all(module.training for module in teacher.modules())


def test_a_teacher_that_learns_is_not_a_copy(images: Tensor, labels: Tensor) -> None:
    teacher = network(1)
    step = Distill(teacher)
    before = answered(step, images, labels)
    with torch.no_grad():
        teacher[-1][-1].bias.add_(torch.tensor([5.0, 0.0, 0.0]))
    assert (answered(step, images, labels)[:, 0] > before[:, 0]).all()


def test_nothing_in_it_waits_for_the_device_and_the_teacher_is_moved_there() -> None:
    """On the meta device a tensor has no values: whatever read one would raise."""
    images, labels = torch.rand(8, 3, 12, 12, device="meta"), torch.arange(8, device="meta") % 3
    for options in ({"weight": 0.5}, {"resolution": 16}, {"beside": True}):
        teacher = network(1)
        _, taught = Distill(teacher, **options).act(images, labels, classes=3, generator=seeded())
        assert taught.device.type == "meta"
        assert all(parameter.is_meta for parameter in teacher.parameters())
    logits = torch.randn(8, 3, device="meta", requires_grad=True)
    DistillationLoss(0.5, 2.0)(logits, taught).backward()
    assert logits.grad is not None


def test_it_draws_nothing(images: Tensor, labels: Tensor) -> None:
    generator, state = seeded(), torch.get_rng_state()
    before = generator.get_state()
    Distill(network(1, dropout=0.5)).act(images.float() / 255, labels, classes=3, generator=generator)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), state)


# --- a saved teacher


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "teacher-1"
    folder.mkdir()
    save(network(1), folder / "model.safetensors", classes=CLASSES, resolution=12)
    return folder


def test_a_saved_teacher_is_loaded_once_at_its_first_use(saved: Path, images: Tensor, labels: Tensor) -> None:
    file = saved / "model.safetensors"
    steps = [Distill(place) for place in (saved, str(saved), file)]
    found = [answered(step, images, labels) for step in steps]
    file.unlink()
    for step, before in zip(steps, found):
        assert torch.equal(before, found[0])
        assert torch.equal(answered(step, images, labels), before)
        assert not any(module.training for module in step.models[0].modules())
        assert not any(parameter.requires_grad for parameter in step.models[0].parameters())
    torch.testing.assert_close(found[0], said(network(1), images.float() / 255))


def test_a_model_that_comes_along_teaches_by_its_name() -> None:
    step = Distill("cifar10_300kb")
    assert step.identity()["weights"] == file_mark(weights()["cifar10_300kb"])
    assert sum(parameter.numel() for parameter in step.models[0].parameters()) == 271_810


def test_a_missing_teacher_is_one_sentence(
    tmp_path: Path, data: Data, images: Tensor, labels: Tensor
) -> None:
    step = Distill(tmp_path / "nobody-1")  # nothing is read yet
    with pytest.raises(
        ValueError, match=r"Distill's teacher cannot be loaded: there is no model file .*nobody-1"
    ):
        step.ready(data)
    with pytest.raises(ValueError, match="there is no model file"):
        answered(step, images, labels)
    (tmp_path / "half").mkdir()
    with pytest.raises(ValueError, match=r"half/model\.safetensors"):
        Distill(tmp_path / "half").ready(data)


# --- before the first step


def test_ready_takes_a_teacher_of_the_same_classes(saved: Path, data: Data) -> None:
    Distill(saved).ready(data)
    Distill(network(1)).ready(data)
    Distill(network(1), resolution=20).ready(data)


def test_ready_refuses_a_teacher_of_other_classes(tmp_path: Path, saved: Path, data: Data) -> None:
    with pytest.raises(ValueError, match="tells 4 classes apart, and arrays has 3"):
        Distill(network(classes=4)).ready(data)
    other = tmp_path / "other.safetensors"
    save(network(), other, classes=("red", "blue", "green"))
    with pytest.raises(ValueError, match="calls class 1 'blue', and arrays calls it 'green'"):
        Distill(other).ready(data)
    save(network(classes=4), other, classes=(*CLASSES, "grey"))
    with pytest.raises(ValueError, match="tells 4 classes apart"):
        Distill(other).ready(data)


def test_ready_asks_a_teacher_that_takes_larger_images_at_a_size_that_fits(data: Data) -> None:
    large = nn.Sequential(
        nn.Conv2d(3, 4, 9, stride=4), nn.Conv2d(4, 4, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    Distill(nn.Sequential(large, nn.Linear(4, 3))).ready(data)
    with pytest.raises(ValueError, match="tells 5 classes apart"):
        Distill(nn.Sequential(large, nn.Linear(4, 5))).ready(data)
    with pytest.raises(ValueError, match=r"cannot see the images: 0\.1 .* does not fit at 12x12"):
        Distill(nn.Sequential(large, nn.Linear(4, 3)), resolution=12).ready(data)
    with pytest.raises(ValueError, match=r"cannot see the images: .*\(B, 1, H, W\), not \(1, 3, 12, 12\)"):
        Distill(network(channels=1)).ready(data)
    with pytest.raises(ValueError, match=r"should give logits \(B, K\), gives \(1, 4, 10, 10\)"):
        Distill(nn.Conv2d(3, 4, 3)).ready(data)


def test_logits_of_another_shape_are_refused(images: Tensor, labels: Tensor) -> None:
    with pytest.raises(ValueError, match=r"should give logits \(8, 3\), gave \(8, 4\)"):
        answered(Distill(network(classes=4)), images, labels)
    step = Distill(network(), beside=True)
    apart = answered(step, images, labels)
    with pytest.raises(ValueError, match=r"found \(8, 2, 3\): give one step all teachers in a list"):
        answered(step, images, apart)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Distill(3), "should be a module, or the path"),  # type: ignore[arg-type]
        (lambda: Distill(nn.Linear), "should be a module, or the path"),  # type: ignore[arg-type]
        (lambda: Distill([]), "list of teachers is empty: name at least one"),
        (lambda: Distill(["x", 3]), "should be a module, or the path .* or a list of these, not 3"),  # type: ignore[list-item]
        (lambda: Distill("x", weight=1.5), r"weight should be a number from 0 to 1, not 1.5"),
        (lambda: Distill("x", temperature=0), "temperature should be a number above 0"),
        (lambda: Distill("x", temperature=-1), "temperature should be a number"),
        (lambda: Distill("x", resolution=0), "resolution should be a whole number"),
        (lambda: Distill("x", beside=1), "beside should be True or False"),  # type: ignore[arg-type]
        (lambda: Distill("x", weight=0.5, beside=True), r"DistillationLoss\(weight=0.5, temperature=1.0\)"),
        (lambda: DistillationLoss(1.5, 4.0), r"weight should be a number from 0 to 1, not 1.5"),
        (lambda: DistillationLoss(0.5, 0.0), "temperature should be a number above 0, not 0.0"),
        (lambda: DistillationLoss(0.5, float("nan")), "temperature should be a number above 0"),
        (lambda: DistillationLoss(0.5, 4.0, hard=LabelSmoothingLoss), "hard should be a loss"),  # type: ignore[arg-type]
    ],
)
def test_mistakes_are_refused_when_they_are_made(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


# --- as a value


def test_a_recipe_tells_its_teacher_in_a_few_words(saved: Path) -> None:
    teacher = network(1)
    count = sum(parameter.numel() for parameter in teacher.parameters())
    step = Distill(teacher, temperature=2.0)
    words = f"<Sequential of {count:,} parameters>"
    assert repr(step) == (
        f"Distill(teacher={words}, weight=1.0, temperature=2.0, resolution=None, beside=False, "
        "precision='float32')"
    )
    assert described_value(step)["teacher"] == words
    assert repr(Distill(Path("runs/large-1"))).startswith("Distill(teacher='runs/large-1', ")
    assert described_value(Distill(saved))["teacher"] == str(saved)
    phase = Phase(epochs=1, resolution=8, lr=0.1, augment=[Flip(), step])
    changed = Recipe([phase]).changed("phases.0.augment.1.weight", 0.5).phases[0].augment[1]
    assert (changed.weight, changed.temperature) == (0.5, 2.0)
    assert changed.models == [teacher]
    assert step == Distill(step.teacher, temperature=2.0) != changed


def test_external_weights_of_the_teacher_are_told(saved: Path) -> None:
    teacher = network(1)
    assert (Distill(teacher).external, Distill(saved).external) == ("", "")
    teacher.external = "torchvision IMAGENET1K_V1"
    assert Distill(teacher).external == "torchvision IMAGENET1K_V1"
    assert Distill([saved, teacher, teacher]).external == "torchvision IMAGENET1K_V1"


# --- the loss


def batch(classes: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a student, of a teacher, and labels."""
    generator = seeded(3)
    student, teacher = (3 * torch.randn(16, classes, generator=generator) for _ in range(2))
    return student, teacher, torch.randint(0, classes, (16,), generator=generator)


def beside(teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return torch.stack(
        (torch.softmax(teacher / temperature, 1), F.one_hot(labels, teacher.shape[1]).float()), 1
    )


@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 2.0), (0.9, 4.0), (1.0, 1.0)])
def test_the_loss_is_hintons(weight: float, temperature: float) -> None:
    student, teacher, labels = batch()
    taught = torch.softmax(teacher.double() / temperature, dim=1)
    learnt = torch.log_softmax(student.double() / temperature, dim=1)
    divergence = sum(float((p * (p.log() - q)).sum()) for p, q in zip(taught, learnt)) / 16
    hard = -sum(float(row.log_softmax(0)[label]) for row, label in zip(student.double(), labels)) / 16
    expected = weight * temperature**2 * divergence + (1 - weight) * hard
    found = DistillationLoss(weight, temperature)(student, beside(teacher, labels, temperature))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def published(
    student: Tensor, teacher: Tensor, labels: Tensor, alpha: float, t: float, reduction: str
) -> Tensor:
    """The loss of the seed's report."""
    soft = nn.KLDivLoss(reduction=reduction)(F.log_softmax(student / t, dim=1), F.softmax(teacher / t, dim=1))
    return soft * t * t * 2 * alpha + F.cross_entropy(student, labels) * (1 - alpha)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("t", [1.0, 6.0])
def test_the_seeds_formula_is_a_special_case(alpha: float, t: float) -> None:
    student, teacher, labels = batch()
    loss = DistillationLoss(weight=2 * alpha / (1 + alpha), temperature=t)
    found = (1 + alpha) * loss(student, beside(teacher, labels, t))
    torch.testing.assert_close(found, published(student, teacher, labels, alpha, t, "batchmean"))


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize("alpha", [0.1, 0.9])
def test_so_is_the_seeds_formula_with_torchs_default_reduction(alpha: float) -> None:
    student, teacher, labels = batch(classes=10)
    factor = 1 - alpha + 2 * alpha / 10
    loss = DistillationLoss(weight=2 * alpha / (factor * 10), temperature=3.0)
    found = factor * loss(student, beside(teacher, labels, 3.0))
    torch.testing.assert_close(found, published(student, teacher, labels, alpha, 3.0, "mean"))


def test_at_temperature_1_the_step_and_the_loss_learn_the_same() -> None:
    """Cross-entropy with mixed labels is the weighed loss plus the teacher's entropy, without a gradient."""
    student, teacher, labels = batch()
    both = beside(teacher, labels, 1.0)
    gradients = []
    for loss, given in (
        (DistillationLoss(0.3, 1.0), both),
        (LabelSmoothingLoss(0.0), 0.3 * both[:, 0] + 0.7 * both[:, 1]),
    ):
        logits = student.clone().requires_grad_()
        loss(logits, given).backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients)


def test_the_hard_loss_is_any() -> None:
    student, teacher, labels = batch()
    given = beside(teacher, labels, 2.0)
    smoothed = DistillationLoss(0.0, 2.0, hard=LabelSmoothingLoss(0.1))(student, given)
    torch.testing.assert_close(smoothed, F.cross_entropy(student, labels, label_smoothing=0.1))


def test_a_sure_teacher_gives_no_nan() -> None:
    student, _, labels = batch()
    sure = torch.stack([F.one_hot(labels, 10).float()] * 2, dim=1)
    found = DistillationLoss(0.5, 1.0)(student, sure)
    torch.testing.assert_close(found, F.cross_entropy(student, labels))


def test_labels_of_another_shape_name_the_way_out() -> None:
    student, teacher, labels = batch()
    for given in (labels, F.one_hot(labels, 10).float(), torch.zeros(16, 3, 10)):
        with pytest.raises(ValueError, match=r"labels of shape \(16, 2, 10\), found .*beside=True"):
            DistillationLoss(0.5, 1.0)(student, given)
    with pytest.raises(ValueError, match=r"found \(16, 2, 10\): .* for DistillationLoss"):
        LabelSmoothingLoss()(student, beside(teacher, labels, 1.0))


# --- training


def taught_by(teacher: nn.Module | Path, data: Data, **options: Any) -> tuple[float, nn.Module]:
    """Accuracy on validation after learning from a teacher, from images with wrong labels."""
    wrong = Data(
        type(data.train)(data.train.images, (data.train.labels + 1) % 3, data.train.indices),
        data.val,
        data.test,
        data.classes,
        data.name,
    )
    beside = options.get("beside", False)
    recipe = Recipe(
        phases=[Phase(epochs=4, resolution=8, lr=0.05, augment=[Flip(), Distill(teacher, **options)])],
        loss=DistillationLoss(1.0, options["temperature"]) if beside else LabelSmoothingLoss(0.0),
        batch_size=32,
    )
    student = network(7)
    run = Trainer("cpu", out=None, show=False).fit(student, wrong, recipe)
    return float(run.result["val_accuracy"]), student


@pytest.mark.parametrize("options", [{}, {"temperature": 4.0, "beside": True}], ids=["mixed", "beside"])
def test_a_student_learns_from_its_teacher_against_the_labels(data: Data, options: dict[str, Any]) -> None:
    teacher = network(1)
    recipe = Recipe([Phase(epochs=4, resolution=8, lr=0.05)], batch_size=32)
    Trainer("cpu", out=None, show=False).fit(teacher, data, recipe)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    accuracy, student = taught_by(teacher, data, **options)
    assert accuracy > 0.9
    again, same = taught_by(teacher, data, **options)
    assert again == accuracy
    assert all(torch.equal(a, b) for a, b in zip(student.state_dict().values(), same.state_dict().values()))
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert len(list(student.parameters())) == len(list(network(7).parameters()))


def test_a_card_travels_with_the_teacher(data: Data) -> None:
    teacher = network(1)
    teacher.card = Card(classes=CLASSES, resize=12, crop=12)
    Distill(teacher).ready(data)
    teacher.card = Card(classes=("a", "b", "c"))
    with pytest.raises(ValueError, match="calls class 0 'a'"):
        Distill(teacher).ready(data)
