"""What is promised of small files: bytes as saved, quantised weights, pruning, one command for all."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from budgetnet import (
    EMA,
    Budget,
    Data,
    Flip,
    OverBudget,
    Phase,
    Recipe,
    Run,
    Split,
    Trainer,
    compress,
    layers,
    ledger,
    load,
    models,
    save,
)
from budgetnet.budget import NotFromScratch, built
from budgetnet.compression import shrink
from budgetnet.files import read_sealed, seal
from budgetnet.layers import Quantised, QuantisedConv2d, QuantisedLinear
from budgetnet.modelfile import BadModelFile, card, check_weight, described, read_card, write


def small(
    *, limit: int = 100_000, classes: int = 3, make: Callable[..., nn.Module] = models.resnet
) -> nn.Module:
    """A residual network of 13,000 parameters, for 16 pixels."""
    return Budget(bytes=limit).build(
        make,
        classes=classes,
        widths=(12, 24),
        blocks=(1, 1),
        block=layers.basic,
        stem=8,
        stem_kernel=3,
        stem_pool=False,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def quantised(bits: int = 4, *, limit: int = 100_000, **options: Any) -> nn.Module:
    """The same with few bits."""
    return small(limit=limit, make=layers.Quantised(models.resnet, bits=bits, **options))


def toy(classes: int = 3, *, names: tuple[str, ...] = ()) -> Data:
    """Images of one colour a class, with noise."""
    drawn = torch.Generator().manual_seed(0)
    labels = torch.arange(72) % classes
    noise = torch.randint(0, 60, (72, 3, 16, 16), generator=drawn)
    images = (noise + 190 * nn.functional.one_hot(labels, 3)[:, :, None, None]).to(torch.uint8)
    train, val = (Split(images[rows], labels[rows], rows) for rows in torch.arange(72).split([48, 24]))
    return Data(train, val, None, names or tuple("abc"[:classes]), "toy")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_file_weighs_what_was_checked_to_the_byte(tmp_path: Path, dtype: torch.dtype) -> None:
    model = small().to(dtype)
    save(model, tmp_path / "a", classes=["Ångström", 'a "b"', "c\\d"], resolution=16)
    weighs = (tmp_path / "a").stat().st_size
    assert weighs <= ledger(model).saved
    made = built(model)
    assert made is not None
    known = read_card(tmp_path / "a")
    model.built = replace(made, budget=Budget(bytes=weighs))  # type: ignore[assignment]
    check_weight(model, known)
    model.built = replace(made, budget=Budget(bytes=weighs - 1))  # type: ignore[assignment]
    with pytest.raises(OverBudget, match=f"{weighs:,} bytes as saved, .* is 1 over the budget of"):
        check_weight(model, known)


def test_a_budget_of_bytes_is_refused_before_memory_is_taken_for_what_the_file_would_weigh() -> None:
    costs = ledger(small()).saved
    small(limit=costs)
    with pytest.raises(OverBudget, match=f"{costs:,} bytes as saved is 1 over the budget of {costs - 1:,}"):
        small(limit=costs - 1)


def test_names_that_make_a_file_too_long_are_refused_before_training() -> None:
    model = small(limit=ledger(small()).saved)
    names = tuple(f"{letter * 900}" for letter in "abc")
    with pytest.raises(
        OverBudget, match=r"bytes as saved, .* the description of the model and its 3 classes"
    ):
        Trainer(show=False, out=None).fit(model, toy(names=names), Recipe([Phase(1, 16, lr=0.01)]))


def test_a_file_of_before_whose_tensors_alone_kept_the_budget_still_loads(tmp_path: Path) -> None:
    model = small()
    save(model, tmp_path / "a")
    made = built(model)
    assert made is not None
    # What an earlier budgetnet let pass: a limit just above the tensors.
    limit = Budget(bytes=ledger(model).bytes + 1)
    model.built = replace(made, budget=limit)  # type: ignore[assignment]
    write(model, model.state_dict(), described(model), tmp_path / "b")
    loaded = load(tmp_path / "b")
    again = built(loaded)
    assert again is not None
    assert again.budget == limit
    assert card(loaded) is not None


def learn(model: nn.Module, folder: Path, **options: Any) -> Run:
    """Two epochs of the toy with an average, kept in a run's folder."""
    recipe = Recipe(
        [Phase(options.pop("epochs", 2), 16, lr=0.05, augment=[Flip()])],
        batch_size=8,
        average=EMA(0.9),
        keep="averaged",
    )
    return Trainer(show=False, out=folder, **options).fit(model, toy(), recipe)


def logits(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(images)
    return found


@pytest.mark.parametrize("bits", [2, 4, 5, 8])
def test_a_loaded_file_predicts_exactly_what_was_evaluated(tmp_path: Path, bits: int) -> None:
    torch.manual_seed(0)
    model = quantised(bits)
    run = learn(model, tmp_path)
    assert run.folder is not None
    images = toy().val.images.float() / 255  # type: ignore[union-attr]
    ours = logits(model, images)
    for path in (run.folder, run.folder / "model.safetensors"):
        assert torch.equal(logits(load(path), images), ours)
    save(load(run.folder), tmp_path / "again")
    assert torch.equal(logits(load(tmp_path / "again"), images), ours)
    found = Trainer(show=False).evaluate(load(run.folder), toy().val, batch_size=8)  # type: ignore[arg-type]
    assert found.accuracy == run.record["result"]["val_accuracy"]
    assert found.loss == run.record["result"]["val_loss"]


def test_few_bits_are_counted_as_saved_and_in_four_bits_eight_times_as_many_fit(tmp_path: Path) -> None:
    plain, four = ledger(small()), ledger(quantised(4, ends=4))
    assert plain.params == four.params
    weights = sum(m.weight.numel() for m in small().modules() if isinstance(m, nn.Conv2d | nn.Linear))
    scales = sum(len(m.weight) for m in small().modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert abs(plain.bytes - four.bytes - (4 * weights - weights / 2 - 2 * scales)) <= 8
    save(quantised(4), tmp_path / "a")
    assert (tmp_path / "a").stat().st_size <= ledger(quantised(4)).saved
    with pytest.raises(OverBudget, match="bytes as saved"):
        small(limit=ledger(quantised(8)).saved)
    quantised(8, limit=ledger(quantised(8)).saved)


def test_the_first_and_the_last_layer_have_more_bits_and_what_is_kept_has_all() -> None:
    model = quantised(3, ends=6, keep=("stages.0",))
    found = {
        name: m.bits for name, m in model.named_modules() if isinstance(m, QuantisedConv2d | QuantisedLinear)
    }
    assert found.pop("stem.conv") == found.pop("head.linear") == 6
    assert set(found.values()) == {3}
    assert not any(name.startswith("stages.0") for name in found)
    assert any(name.startswith("stages.1") for name in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1}, "bits should be a whole number from 2 to 8, not 1"),
        ({"bits": True}, "bits should be a whole number from 2 to 8"),
        ({"bits": 4.0}, "bits should be a whole number from 2 to 8"),
        ({"ends": 16}, "ends should be a whole number from 2 to 8, not 16"),
        ({"activations": 16}, "activations should be a whole number from 2 to 8, not 16"),
        ({"keep": "head"}, "list of module names"),
        ({"keep": ["nose"]}, "which Sequential does not have; its outermost modules are standardise, stem"),
        ({"keep": [""]}, "has no convolution or linear layer"),
    ],
)
def test_what_cannot_be_quantised_is_refused_in_a_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantised(**options)


def test_weights_have_as_many_values_as_bits_and_the_gradient_passes() -> None:
    layer = layers.Quantised(nn.Conv2d, bits=8, ends=3)(4, 5, 3)
    weight = layer.rounded()
    assert all(len(row.unique()) <= 7 for row in weight)
    weight.square().sum().backward()
    assert torch.equal(layer.weight.grad, 2 * weight.detach())


def test_activations_are_rounded_in_training_alone_and_a_file_says_so(tmp_path: Path) -> None:
    layer = layers.Quantised(nn.Linear, bits=8, activations=3)(6, 2).train()
    x = torch.randn(50, 6, requires_grad=True)
    assert len(layer.taken(x).unique()) <= 8
    assert (layer.taken(x) - x).abs().max() <= (x.max() - x.min()) / 14 + 1e-6
    layer.taken(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))
    assert layer.taken(torch.zeros(3, 6)).abs().max() == 0
    assert layer.eval().taken(x) is x
    model = Budget(params="20k").build(
        layers.Quantised(models.convnet, bits=8, activations=8), classes=3, widths=(4, 8)
    )
    save(model, tmp_path / "a")
    assert read_card(tmp_path / "a").quantised == {"bits": 8, "ends": 8, "keep": [], "activations": 8}
    again = load(tmp_path / "a")
    assert all(each.activations == 8 for each in again.modules() if isinstance(each, QuantisedConv2d))
    assert "activations" not in layers.Quantised(models.convnet).options()


def test_rounding_to_eight_bits_hardly_moves_a_network() -> None:
    torch.manual_seed(0)
    plain = small()
    images = torch.rand(4, 3, 16, 16)
    few = quantised(8)
    few.load_state_dict(plain.state_dict(), strict=False)
    ours, theirs = logits(plain, images), logits(few, images)
    assert (ours - theirs).abs().max() < 0.05 * ours.abs().max()


def test_a_layer_whose_weights_are_all_zero_stays_zero(tmp_path: Path) -> None:
    model = quantised(4)
    with torch.no_grad():
        model.get_submodule("stem.conv").weight.zero_()  # type: ignore[union-attr, operator]
    save(model, tmp_path / "a")
    assert not load(tmp_path / "a").get_submodule("stem.conv").weight.any()  # type: ignore[union-attr, operator]


def test_a_quantised_run_that_is_cut_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def fresh() -> nn.Module:
        torch.manual_seed(0)
        return quantised(4)

    recipe = Recipe(
        [Phase(3, 16, lr=0.05, augment=[Flip()])], batch_size=8, average=EMA(0.9), keep="averaged"
    )
    whole = Trainer(show=False, out=None).fit(fresh(), toy(), recipe)
    trainer = Trainer(show=False, out=tmp_path)
    cut = trainer.fit(fresh(), toy(), recipe, max_time=1e-6)
    assert cut.status == "paused"
    resumed = trainer.fit(fresh(), toy(), recipe, resume=cut.folder)
    assert resumed.model is not None
    assert whole.model is not None
    ours, theirs = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_bf16_and_a_file_in_bf16_agree(tmp_path: Path) -> None:
    model = quantised(4)
    run = learn(model, tmp_path, precision="bf16")
    trainer = Trainer(show=False, precision="bf16")
    val = toy().val
    assert val is not None
    assert run.folder is not None
    assert trainer.evaluate(load(run.folder), val, batch_size=8).loss == run.record["result"]["val_loss"]


def test_a_loaded_model_that_is_trained_on_follows_its_weights_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save(quantised(4), tmp_path / "a")
    model = load(tmp_path / "a")
    layer = model.get_submodule("stem.conv")
    assert isinstance(layer, QuantisedConv2d)
    told = layer.pack(layer.state_dict())["scale"]
    assert torch.equal(told.float(), layer.scale)
    with torch.no_grad():
        layer.weight += 0.001
    fresh = layers.Quantised(nn.Conv2d, bits=8, ends=8)(3, 8, 3)
    fresh.weight = layer.weight
    assert torch.equal(layer.rounded(), fresh.rounded())
    # An average of its weights has scales of its own, too, and what is saved is what was evaluated.
    run = learn(load(tmp_path / "a"), tmp_path)
    assert run.folder is not None
    assert run.model is not None
    images = torch.rand(4, 3, 16, 16)
    assert torch.equal(logits(load(run.folder), images), logits(run.model, images))


def test_damaged_codes_and_scales_are_refused(tmp_path: Path) -> None:
    layer = layers.Quantised(nn.Linear, bits=8, ends=4)(6, 3)
    packed = layer.pack(layer.state_dict())
    for name, wrong in (
        ("scale", torch.full((3,), float("nan"), dtype=torch.bfloat16)),
        ("scale", torch.zeros(3, dtype=torch.bfloat16)),
        ("scale", torch.ones(3)),
        ("weight", torch.full((9,), 255, dtype=torch.uint8)),
        ("weight", torch.zeros(8, dtype=torch.uint8)),
        ("weight", torch.zeros(3, 6)),
    ):
        with pytest.raises(ValueError, match=r"scales should|codes should|should be torch"):
            layer.unpack({**packed, name: wrong})
    model = quantised(4)
    state = model.state_dict()
    state["stem.conv.weight"][0, 0, 0, 0] = float("inf")
    write(model, state, described(model), tmp_path / "a")
    with pytest.raises(BadModelFile, match=r"is damaged: its packed weights of stem.conv: its scales should"):
        load(tmp_path / "a")


def test_a_builder_of_ones_own_is_quantised_as_the_card_says(tmp_path: Path) -> None:
    def mine(width: int) -> nn.Module:
        """A builder that no card can name."""
        return nn.Sequential(
            nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)
        )

    model = Budget(bytes="20KB").build(layers.Quantised(mine, bits=4), 8)
    save(model, tmp_path / "a", resolution=16)
    assert read_card(tmp_path / "a").quantised == {"bits": 4, "ends": 8, "keep": []}
    images = torch.rand(2, 3, 16, 16)
    model.to(memory_format=torch.channels_last)
    for make in (mine, layers.Quantised(mine, bits=4)):
        assert torch.equal(logits(load(tmp_path / "a", make, 8), images), logits(model, images))


def test_external_weights_are_seen_through_quantising() -> None:
    with pytest.raises(NotFromScratch):
        Budget("50M", scratch=True).build(layers.Quantised(torchvision.models.resnet18), weights="DEFAULT")


def beside(large: nn.Module) -> None:
    """Let every second channel of a network add nothing."""
    with torch.no_grad():
        for norm in large.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.uniform_(0.5, 1.5)
                for tensor in (norm.bias, norm.running_mean):
                    tensor.normal_()  # type: ignore[union-attr]
                norm.weight[1::2] = 0
                norm.bias[1::2] = 0


@pytest.mark.parametrize("block", [layers.basic, layers.bottleneck])
def test_a_network_without_its_idle_channels_says_the_same(block: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    options = {
        "blocks": (2, 1),
        "block": block,
        "stem_kernel": 3,
        "stem_pool": False,
        "mean": [0.5],
        "std": [0.2],
    }
    large = models.resnet(5, channels=1, widths=(16, 32), stem=16, **options).eval()
    small = models.resnet(5, channels=1, widths=(8, 16), stem=8, **options).eval()
    beside(large)
    shrink(large, small, (1, 1, 16, 16))
    images = torch.rand(4, 1, 16, 16)
    torch.testing.assert_close(logits(small, images), logits(large, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda share: models.mobilenet(5, width=share, last=int(64 * share), mean=[0.5] * 3, std=[0.2] * 3),
        lambda share: models.speednet(5, widths=(int(16 * share), int(32 * share), int(32 * share))),
        lambda share: models.mini_resnet(5, resolution=32, blocks=2, width=int(16 * share), hidden=64),
        lambda share: models.convnet(5, widths=(int(16 * share), int(32 * share))),
    ],
    ids=["depthwise", "speednet", "flattened", "plain"],
)
def test_a_narrower_network_of_each_kind_is_filled(make: Callable[[float], nn.Module]) -> None:
    small = make(0.5)
    shrink(make(1.0), small, (1, 3, 32, 32))
    assert logits(small, torch.rand(2, 3, 32, 32)).isfinite().all()


def test_what_is_no_narrower_copy_is_refused() -> None:
    with pytest.raises(ValueError, match="narrower one of the same builder"):
        shrink(models.convnet(3, widths=(8, 16)), models.convnet(4, widths=(8, 16)), (1, 3, 16, 16))
    dense = [models.vgg(5, resolution=32, widths=(8,) * 4 + (last,), hidden=16) for last in (16, 8)]
    with pytest.raises(ValueError, match="cannot be left out one by one"):
        shrink(*dense, (1, 3, 32, 32))


def test_a_run_is_compressed_to_the_bytes_that_are_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = learn(small(), tmp_path)
    trainer = Trainer(show=False, out=tmp_path)
    few = compress(run, toy(), bytes=ledger(quantised(5)).saved, epochs=1, trainer=trainer)
    assert (few.before.bits, few.after.bits, few.after.params) == (32, 5, few.before.params)
    limit = ledger(quantised(4)).saved - 1500
    done = compress(run.folder or "", toy(), bytes=limit, epochs=2, trainer=trainer, name="small")
    assert done.run.folder == tmp_path / "small-1"
    assert done.after.bytes == (tmp_path / "small-1" / "model.safetensors").stat().st_size <= limit
    assert done.after.params < done.before.params
    assert done.after.accuracy == done.run.record["result"]["val_accuracy"]
    assert done.run.record["compressed"]["after"]["bytes"] == done.after.bytes
    assert "bytes as saved" in str(done)
    again = compress(done.run, toy(), bytes=limit - 1000, epochs=1, trainer=trainer, name="smaller")
    assert again.after.bytes <= limit - 1000


def test_a_cut_compression_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = learn(small(), tmp_path)
    trainer = Trainer("cpu", show=False, out=tmp_path)
    options: dict[str, Any] = {"bytes": ledger(quantised(4)).saved - 1500, "epochs": 3, "trainer": trainer}
    whole = compress(run, toy(), name="whole", **options)
    cut = compress(run, toy(), name="cut", max_time=0.001, **options)
    assert cut.run.status == "paused"
    assert cut.after.accuracy is None
    assert "not measured" in str(cut)
    assert cut.after.params == whole.after.params
    again = compress(run, toy(), resume=cut.run.folder, **options)
    assert again.run.folder == cut.run.folder
    assert again.run.status == "finished"
    assert again.after == whole.after
    weights, expected = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    other = compress(run, toy(), name="cut", max_time=0.001, **options)
    with pytest.raises(ValueError, match="epochs"):
        compress(run, toy(), resume=other.run.folder, **{**options, "epochs": 4})


def test_a_compression_ends_within_a_time_and_goes_on_at_its_scale(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = learn(small(), tmp_path)
    trainer = Trainer("cpu", show=False, out=tmp_path)
    options: dict[str, Any] = {"bytes": "40KB", "epochs": 90_000, "trainer": trainer}
    cut = compress(run, toy(), within=20, max_time=0.001, **options)
    planned = cut.run.record["planned"]
    assert planned < 90_000
    assert cut.run.record["within"]["seconds"] == 20
    again = compress(run, toy(), resume=cut.run.folder, max_time=0.001, **options)
    assert again.run.folder == cut.run.folder
    assert again.run.record["planned"] == planned


def test_a_run_is_compressed_to_whatever_its_budget_limits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    large = small()
    trainer = Trainer(show=False, out=tmp_path)
    limit = Budget(
        bytes="300KB", stored="int8", ram=(ledger(large, 16, stored="int8").ram or 0) - 1, resolution=16
    )
    done = compress(large, toy(), bytes=limit, epochs=1, trainer=trainer)
    assert (ledger(done.model, 16, stored="int8").ram or 0) <= (limit.ram or 0)
    assert done.after.params < done.before.params
    with pytest.raises(OverBudget, match="of RAM at 16x16"):
        compress(large, toy(), bytes=Budget(bytes="300KB", ram=100, resolution=16), trainer=trainer)
    with pytest.raises(ValueError, match="does not limit: give bytes, too"):
        compress(large, toy(), bytes=Budget("2M"), trainer=trainer)


def test_what_cannot_be_compressed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"should be of Budget\.build"):
        compress(models.convnet(3), toy())
    trainer = Trainer(show=False, out=tmp_path)
    with pytest.raises(OverBudget, match=r"a file of 3,000 bytes should hold .* but that takes [\d,]+; give"):
        compress(small(), toy(), bytes="3KB", trainer=trainer)
    mine = Budget("1M").build(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    )
    with pytest.raises(OverBudget, match="bytes as saved"):
        compress(mine, toy(), bytes="1KB", trainer=trainer)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_compresses_a_run_by_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from budgetnet.cli import main

    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(main, ["run", "quickstart", "--scale", "0.1"])
    assert told.exit_code == 0, told.output
    told = CliRunner().invoke(
        main, ["compress", "quickstart-1", "--bytes", "30KB", "--epochs", "1", "--int8"]
    )
    assert told.exit_code == 0, told.output
    file = tmp_path / "runs" / "quickstart_30kb-1" / "model.safetensors"
    assert file.stat().st_size <= 30_000
    assert f"{file.stat().st_size:,}" in told.output
    assert (read_card(file).quantised or {})["activations"] == 8


def test_the_command_is_cut_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from budgetnet.cli import main

    def told(code: int, *arguments: str) -> str:
        found = CliRunner().invoke(main, [*arguments])
        assert found.exit_code == code, found.output
        return found.output

    monkeypatch.chdir(tmp_path)
    told(0, "run", "quickstart", "--scale", "0.05", "--set", "data.held_out=0.3")
    asked = ("compress", "quickstart-1", "--bytes", "30KB", "--epochs", "2", "--device", "cpu")
    told(0, *asked, "--name", "whole")
    output = told(75, *asked, "--resume", "--max-time", "0.001")
    assert "no unfinished run of quickstart_30kb lies in runs: a new one begins" in output
    assert "go on with --resume runs/quickstart_30kb-1" in output
    told(75, *asked, "--resume", "--max-time", "0.001")
    assert "the file is runs/quickstart_30kb-1/model.safetensors" in told(0, *asked, "--resume")
    whole, cut = (tmp_path / "runs" / name / "model.safetensors" for name in ("whole-1", "quickstart_30kb-1"))
    assert read_sealed(whole).tensors().keys() == read_sealed(cut).tensors().keys()
    for name, tensor in read_sealed(whole).tensors().items():
        assert torch.equal(tensor, read_sealed(cut).tensors()[name])
    assert "is finished: nothing is left to do" in told(0, *asked, "--resume", "runs/quickstart_30kb-1")
    record = Run.read(cut.parent).record
    assert (record["recipe_file"], record["settings"]) == ("quickstart.py", ["data.held_out=0.3"])
    # Its images are those that the larger one held out.
    assert "trained on" not in told(0, "evaluate", "quickstart_30kb-1", "quickstart")


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 4},
        {"bits": 4, "ends": 8, "keep": "head"},
        {"bits": [4], "ends": 8, "keep": []},
        {"bits": 4, "ends": 8, "keep": [], "activations": 99},
        {"bits": 400, "ends": 8, "keep": []},
        {"bits": 4, "ends": 8, "keep": [], "make": "os.system"},
        [4, 8],
    ],
)
def test_a_card_that_asks_for_other_bits_is_refused(tmp_path: Path, options: Any) -> None:
    model = quantised(4)
    save(model, tmp_path / "a")
    stored = read_sealed(tmp_path / "a")
    words = {**(stored.words or {}), "quantised": options}
    (tmp_path / "b").write_bytes(seal(stored.tensors(), words))
    with pytest.raises(BadModelFile, match="has a damaged card"):
        load(tmp_path / "b")


def test_a_file_of_other_bits_than_its_card_says_is_refused(tmp_path: Path) -> None:
    save(quantised(4), tmp_path / "a")
    stored = read_sealed(tmp_path / "a")
    for bits in (3, 5, 8):
        words = {**(stored.words or {}), "quantised": {"bits": bits, "ends": 8, "keep": []}}
        (tmp_path / "b").write_bytes(seal(stored.tensors(), words))
        with pytest.raises(BadModelFile, match="does not fit its model"):
            load(tmp_path / "b")


def test_phases_that_calibrate_or_learn_a_part_keep_the_promise(tmp_path: Path) -> None:
    torch.manual_seed(0)
    phases = [
        Phase(1, 16, lr=0.05),
        Phase(1, 24, trains=(), calibrates=["*"]),
        Phase(1, 24, lr=0.01, trains=["head"]),
    ]
    model = quantised(4)
    run = Trainer(show=False, out=tmp_path).fit(model, toy(), Recipe(phases, batch_size=8))
    assert run.folder is not None
    images = torch.rand(4, 3, 24, 24)
    assert torch.equal(logits(load(run.folder), images), logits(model, images))
    # What did not learn in the last phase is what it was: the rounded weights are, too.
    after = Trainer(show=False, out=tmp_path).fit(
        quantised(4), toy(), Recipe([Phase(1, 24, lr=0.01, trains=["head"])], batch_size=8), after=run.folder
    )
    assert after.model is not None
    ours, theirs = run.model.get_submodule("stem.conv"), after.model.get_submodule("stem.conv")  # type: ignore[union-attr]
    assert torch.equal(ours.rounded(), theirs.rounded())  # type: ignore[operator]


class Reads(nn.Module):
    """Computes with a layer's weight without calling the layer; `spare` is not used at all."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first, self.spare = nn.Conv2d(3, 8, 3), nn.Linear(4, 4)
        self.read, self.head = nn.Linear(8, 8), nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images).relu().mean(dim=(2, 3))
        found: Tensor = self.head(nn.functional.linear(features, self.read.weight).relu())
        return found


class Encodes(nn.Module):
    """Torch's own transformer block, which in evaluation reads its layers' weights past them."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 4, stride=4)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.first(images).flatten(2).transpose(1, 2)
        found: Tensor = self.head(self.block(tokens).mean(dim=1))
        return found


def test_a_weight_that_is_used_without_its_layer_is_refused_before_the_training(data: Data) -> None:
    recipe, trainer = Recipe([Phase(1, 12, 0.01)], batch_size=60), Trainer("cpu", out=None, show=False)
    with pytest.raises(ValueError, match=r"that of read is used without calling it: .*keep=\['read'\]"):
        trainer.fit(Quantised(Reads, bits=2)(), data, recipe)
    trainer.fit(Quantised(Reads, bits=2, keep=("read",))(), data, recipe)


def test_what_is_evaluated_of_a_transformer_is_what_is_trained() -> None:
    model = Quantised(Encodes, bits=2)().eval()
    images = torch.rand(4, 3, 12, 12)
    with torch.no_grad():
        fast = model(images)
    torch.testing.assert_close(model(images), fast, rtol=1e-4, atol=1e-5)
