"""EfficientNet: torchvision's to the last bit, from scratch unless weights are named, and then it says so."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import budgetnet
from budgetnet import Budget, models
from budgetnet.budget import NotFromScratch, count, external, ledger, macs
from budgetnet.data import Unavailable
from budgetnet.modelfile import card, read_card

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def torchvisions() -> nn.Module:
    """torchvision's B0 with seven classes, its statistics moved a little by three batches."""
    torch.manual_seed(1)
    network = torchvision.models.efficientnet_b0(num_classes=7)
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(4, 3, 32, 32))
    return network.eval()


@pytest.fixture
def file(torchvisions: nn.Module, tmp_path: Path) -> Path:
    """The weights of `torchvisions` as a safetensors file."""
    return stored(torchvisions.state_dict(), tmp_path / "b0.safetensors")


def stored(state: Mapping[str, Tensor], path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


@pytest.mark.parametrize(
    ("variant", "params"),
    [("b0", 4_020_358), ("b1", 6_525_994), ("b2", 7_715_084), ("b3", 10_711_602), ("b4", 17_566_546)],
)
def test_every_variant_has_the_parameters_that_it_is_known_for(variant: str, params: int) -> None:
    assert count(models.efficientnet, 10, variant=variant) == params


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "dropout"), [("b5", 0.4), ("b6", 0.5), ("b7", 0.5)])
def test_the_large_variants_are_torchvisions_too(variant: str, dropout: float) -> None:
    reference = getattr(torchvision.models, f"efficientnet_{variant}")
    assert count(models.efficientnet, 10, variant=variant) == count(reference, num_classes=10)
    with torch.device("meta"):
        model = models.efficientnet(10, variant=variant)
    assert model.get_submodule("features.0.1").eps == 1e-3  # not torch's default
    assert model.get_submodule("head.dropout").p == dropout


def test_multiply_accumulates_are_those_counted_for_the_seed() -> None:
    with torch.device("meta"):
        model = models.efficientnet(10, variant="b3")
    assert macs(model, 32) == 21_452_816
    assert macs(model, 300) == 1_825_620_752


def test_from_scratch_it_is_torchvisions_network_and_its_first_weights() -> None:
    torch.manual_seed(3)
    reference = torchvision.models.efficientnet_b0(num_classes=10).eval()
    torch.manual_seed(3)
    model = models.efficientnet(10).eval()
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images), rtol=0, atol=0)
    assert external(model) == ""
    assert not model.get_submodule("standardise").fitted


def test_grey_images_and_another_dropout_are_taken() -> None:
    model = models.efficientnet(3, channels=1, dropout=0.0).eval()
    assert model(torch.rand(1, 1, 33, 33)).shape == (1, 3)
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())
    entry = model.get_submodule("features.0.0").weight
    # kaiming, fan_out: 32 outputs of 3x3
    assert entry.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.2)


def test_a_map_of_one_pixel_is_pointed_out() -> None:
    with torch.device("meta"):
        model = models.efficientnet(10)
    noted = [row.name for row in ledger(model, 32).rows if "meets a map of 1x1" in row.note]
    # The last block of the sixth stage that sees one pixel, and the seventh stage.
    assert noted[-1].startswith("features.7.")
    assert "5x5 kernel" in next(row.note for row in ledger(model, 32).rows if row.name == noted[0])
    assert not any("meets a map" in row.note for row in ledger(model, 64).rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": 0}, "classes should be a whole number"),
        ({"classes": 10, "variant": "b8"}, "variant should be one of b0, .*, b7, not 'b8'"),
        ({"classes": 10, "variant": 3}, "variant should be one of"),
        ({"classes": 10, "dropout": 1.0}, "dropout should be a number from 0 to below 1"),
        ({"classes": 10, "channels": 1, "weights": "imagenet"}, "3 channels, found channels=1"),
        ({"classes": 10, "weights": True}, "weights should be the path"),
        ({"classes": 10, "mean": (0.5,) * 3}, "mean was given without std"),
        ({"classes": 10, "weights": "absent.safetensors"}, "there is no file absent.safetensors"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        models.efficientnet(**options)  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)


def test_a_file_of_as_many_classes_gives_torchvisions_answers(file: Path, torchvisions: nn.Module) -> None:
    model = models.efficientnet(7, weights=file).eval()
    images = torch.rand(2, 3, 40, 40)
    seen = torchvision.transforms.functional.normalize(images, list(MEAN), list(STD))
    with torch.no_grad():
        torch.testing.assert_close(model(images), torchvisions(seen))


def test_a_file_of_other_classes_leaves_the_head_to_chance(file: Path, torchvisions: nn.Module) -> None:
    torch.manual_seed(5)
    chance = models.efficientnet(10).state_dict()
    torch.manual_seed(5)
    model = models.efficientnet(10, weights=str(file))
    found, given = model.state_dict(), torchvisions.state_dict()
    for name in given:
        if name.startswith("features."):
            assert torch.equal(found[name], given[name]), name
    assert torch.equal(found["head.linear.weight"], chance["head.linear.weight"])
    assert found["standardise.mean"].flatten().tolist() == pytest.approx(MEAN)
    assert found["standardise.std"].flatten().tolist() == pytest.approx(STD)


def test_the_model_says_which_file_it_began_from(file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    model = Budget("5M").build(models.efficientnet, 10, weights=file)
    assert external(model) == model.external == f"b0.safetensors (sha256 {digest})"
    assert external(nn.Sequential(nn.Identity(), model)) == model.external


def test_own_statistics_are_kept_and_a_files_are_taken_before_imagenets(file: Path, tmp_path: Path) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.25, 0.5, 0.125)
    model = models.efficientnet(7, weights=file, mean=mean, std=std)
    assert model.state_dict()["standardise.mean"].flatten().tolist() == pytest.approx(mean)
    budgetnet.save(model, tmp_path / "mine.safetensors")
    again = models.efficientnet(7, weights=tmp_path / "mine.safetensors")
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    other = models.efficientnet(7, weights=tmp_path / "mine.safetensors", mean=(0.1,) * 3, std=(0.2,) * 3)
    assert other.state_dict()["standardise.std"].flatten().tolist() == pytest.approx((0.2,) * 3)


def test_half_precision_and_missing_counters_are_taken(torchvisions: nn.Module, tmp_path: Path) -> None:
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in torchvisions.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    model = models.efficientnet(7, weights=stored(state, tmp_path / "half"))
    weight = model.get_submodule("features.0.0").weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state["features.0.0.weight"].float())


def test_weights_of_other_networks_are_refused_counted_or_built(file: Path, tmp_path: Path) -> None:
    stored({"features.0.0.weight": torch.zeros(2, 2)}, tmp_path / "other")
    for make in (Budget("50M").build, lambda make, *args, **options: make(*args, **options)):
        with pytest.raises(ValueError, match=r"features\.0\.0\.weight should have shape \[40, 3, 3, 3\]"):
            make(models.efficientnet, 10, variant="b3", weights=file)
        with pytest.raises(ValueError, match=r"found \[2, 2\]; name the variant"):
            make(models.efficientnet, 10, weights=tmp_path / "other")
    # b1 has all of b0's names and more.
    with torch.device("meta"):
        larger = models.efficientnet(10, variant="b1").state_dict()
    smaller = models.efficientnet(10).state_dict()
    extra = {name: torch.zeros(tensor.shape) for name, tensor in larger.items() if name not in smaller}
    assert extra
    with pytest.raises(ValueError, match=r"b0, which has no features\."):
        models.efficientnet(10, weights=stored(smaller | extra, tmp_path / "larger"))


class Trap:
    """Leaves a trace where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_never_read_from_a_file(tmp_path: Path) -> None:
    torch.save({"features.0.0.weight": Trap(tmp_path / "sprung")}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"should be a safetensors file, .* safetensors\.torch\.save_file"):
        models.efficientnet(10, weights=tmp_path / "weights.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps what it fetched, empty, and nothing may be fetched."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("BUDGETNET_OFFLINE", "1")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


NAME = "efficientnet_b0_rwightman-7f5810bc.pth"


def test_published_weights_come_from_torchs_cache(cache: Path, torchvisions: nn.Module) -> None:
    torch.save(torchvisions.state_dict(), cache / NAME)
    model = Budget("5M").build(models.efficientnet, 10, weights="imagenet")
    assert external(model) == "torchvision EfficientNet_B0_Weights.IMAGENET1K_V1"
    found = model.state_dict()
    assert torch.equal(found["features.8.0.weight"], torchvisions.state_dict()["features.8.0.weight"])
    assert found["standardise.mean"].flatten().tolist() == pytest.approx(MEAN)


def test_the_statistics_are_those_that_torchvision_states_for_its_weights() -> None:
    for number in range(8):
        weights = torchvision.models.get_weight(f"EfficientNet_B{number}_Weights.IMAGENET1K_V1")
        assert (tuple(weights.transforms().mean), tuple(weights.transforms().std)) == (MEAN, STD)


@pytest.mark.usefixtures("cache")
def test_offline_they_are_counted_and_not_fetched() -> None:
    assert count(models.efficientnet, 10, weights="imagenet") == 4_020_358
    with pytest.raises(Unavailable, match=rf"BUDGETNET_OFFLINE is set: unset it, or put {NAME} from https"):
        models.efficientnet(10, weights="imagenet")


def test_a_failed_download_is_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUDGETNET_OFFLINE")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(Unavailable, match=r"cannot be had .*: try again, or put") as refusal:
        models.efficientnet(10, weights="imagenet")
    assert "\n" not in str(refusal.value)
    assert list(cache.iterdir()) == []


def test_a_damaged_or_hostile_file_in_the_cache_is_refused(cache: Path, tmp_path: Path) -> None:
    (cache / NAME).write_bytes(b"half of it")
    with pytest.raises(Unavailable, match="cannot be had"):
        models.efficientnet(10, weights="imagenet")
    torch.save({"features.0.0.weight": Trap(tmp_path / "sprung")}, cache / NAME)
    with pytest.raises(Unavailable, match="cannot be had"):
        models.efficientnet(10, weights="imagenet")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.usefixtures("cache")
def test_a_budget_from_scratch_refuses_them_before_anything_is_fetched(file: Path) -> None:
    budget = Budget("5M", scratch=True)
    with pytest.raises(NotFromScratch, match=r"IMAGENET1K_V1, and the budget says scratch=True"):
        budget.build(models.efficientnet, 10, weights="imagenet")
    with pytest.raises(NotFromScratch, match=r"b0\.safetensors"):
        budget.build(models.efficientnet, 10, weights=file)
    with pytest.raises(NotFromScratch):
        budget.check(nn.Sequential(models.efficientnet(10, weights=file)))
    assert external(budget.build(models.efficientnet, 10)) == ""


@pytest.mark.slow
def test_a_saved_model_needs_its_external_weights_no_more(file: Path, tmp_path: Path) -> None:
    model = Budget("5M").build(models.efficientnet, 10, weights=file).eval()
    budgetnet.save(model, tmp_path / "m", classes=[str(k) for k in range(10)], resolution=32)
    file.unlink()
    found = budgetnet.load(tmp_path / "m")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found(images), model(images), rtol=0, atol=0)
    about = read_card(tmp_path / "m")
    assert about.arguments == [[10], {"dict": {"weights": None}}]
    assert about.external == external(model) == external(found)
    assert about.external.startswith("b0.safetensors (sha256 ")
    found.card = None  # described anew, as after another training
    budgetnet.save(found, tmp_path / "again")
    assert read_card(tmp_path / "again").external == about.external
    assert card(budgetnet.load(tmp_path / "again")) is not None
