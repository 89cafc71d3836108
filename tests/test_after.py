"""Where a schedule begins: a run, a model file, a model that comes along; and what a dry run says of it."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

import budgetnet
from budgetnet import Data, Phase, Recipe, Trainer, arrays, models
from budgetnet.cli import main
from budgetnet.engine.forecast import Forecast, PhaseTimes
from budgetnet.modelfile import card
from budgetnet.run import MODEL, Run
from budgetnet.trainer import Session

RECIPE = """
import torch
from budgetnet import Budget, Cosine, Phase, Recipe, arrays, models

def model():
    return Budget(params="10k").build(models.convnet, classes=3, widths=(8, 16))

def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 12, 12), generator=generator, dtype=torch.uint8)
    labels = torch.arange(60) % 3
    return arrays(images[:48], labels[:48], val=(images[48:], labels[48:]), classes=("r", "g", "b"))

recipe = Recipe([Phase(EPOCHS, 12, Cosine(RATE), name="learn")], batch_size=24)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("BUDGETNET_DATA", "BUDGETNET_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    write("first.py", 3, 0.1)
    write("more.py", 1, 0.01)
    return tmp_path


def write(name: str, epochs: int, rate: float) -> None:
    Path(name).write_text(RECIPE.replace("EPOCHS", str(epochs)).replace("RATE", str(rate)))


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, arguments), "--device", "cpu"])


def told(*arguments: object) -> str:
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def shipped_model(seed: int = 0) -> nn.Module:
    """One that the weights of cifar10_100kb fit."""
    torch.manual_seed(seed)
    model = budgetnet.load("cifar10_100kb")
    for parameter in model.parameters():
        parameter.data.normal_(std=0.1)
    return model


def pictures() -> Data:
    """Noise that is called what CIFAR-10's images are."""
    known = card(budgetnet.load("cifar10_100kb"))
    assert known is not None
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    return arrays(images, torch.arange(40) % 10, classes=known.classes)


def test_a_model_that_comes_along_is_followed_with_its_history(tmp_path: Path) -> None:
    still = Recipe([Phase(1, 32, 1e-12)], batch_size=20)
    model = shipped_model()
    run = Trainer("cpu", out=tmp_path / "runs", show=False).fit(
        model, pictures(), still, after="cifar10_100kb"
    )
    for (name, found), there in zip(model.named_parameters(), budgetnet.load("cifar10_100kb").parameters()):
        assert torch.allclose(found, there, atol=1e-6), name
    assert run.record["after"] == "cifar10_100kb"
    assert run.history[-1].session == 2
    assert len(run.history) > 2
    assert [epoch.number for epoch in run.history] == list(range(1, len(run.history) + 1))


def test_a_model_file_is_followed_with_what_lies_beside_it(here: Path) -> None:
    told("first.py", "-q")
    within = Run.read(Path("runs/first-1"))
    assert "began" not in told("more.py", "-q", "--after", f"runs/first-1/{MODEL}")
    assert [epoch.session for epoch in Run.read(Path("runs/more-1")).history] == [1, 1, 1, 2]
    shutil.copy(f"runs/first-1/{MODEL}", "alone.safetensors")
    output = told("more.py", "--after", "alone.safetensors")
    assert "cannot be compared with those of the run that this one goes on from" in output
    run = Run.read(Path("runs/more-2"))
    assert run.record["after"] == "alone.safetensors"
    assert [epoch.session for epoch in run.history] == [2]
    assert run.history[0].train_loss < within.history[0].train_loss


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_what_is_not_there_to_follow_is_refused_alike(dry: tuple[str, ...], here: Path) -> None:
    for option in ("--after", "--resume"):
        result = command("more.py", option, "cifar10_100kbb", *dry)
        assert result.exit_code == 2
        assert "Error: there is no run" in result.output
        assert "Traceback" not in result.output
    assert "cifar10_100kb," in command("more.py", "--after", "nowhere", *dry).output
    assert "tells 10 classes apart" in command("more.py", "--after", "cifar10_100kb", *dry).output
    for option in ("--max-time", "--within"):
        assert f"{option} should be seconds or a time" in command("more.py", option, "soon", *dry).output
    allowed = command("more.py", "--allow-change", "recipe.loss", *dry)
    assert "none does" in allowed.output
    assert allowed.exit_code == 2
    assert not Path("runs").exists()
    model, data = models.convnet(10, widths=(8, 16)), pictures()
    with pytest.raises(ValueError, match="there is no run and no model file nowhere"):
        Trainer("cpu", out=None, show=False).fit(model, data, Recipe([Phase(1, 32, 0.1)]), after="nowhere")


def test_a_dry_run_says_what_it_would_go_on_with_and_writes_nothing(here: Path) -> None:
    assert command("first.py", "-q", "--max-time", "0.001s").exit_code == 75
    before = files(here)
    output = told("first.py", "--resume", "--dry-run")
    assert "what is left of the training takes about" in output
    assert "0 of 3 epochs are behind it" in output
    assert "which is paused" in output
    assert files(here) == before
    result = command("first.py", "--resume", "runs/first-1", "--dry-run", "--set", "recipe.batch_size=12")
    assert result.exit_code == 2
    assert "recipe.batch_size: 24 -> 12" in result.output
    assert files(here) == before
    told("first.py", "-q", "--resume")
    assert "nothing is left to do" in told("first.py", "--resume", "runs/first-1", "--dry-run")
    after = told("more.py", "--dry-run", "--after", "runs/first-1")
    assert "dry run: nothing was trained" in after
    several = command("first.py", "--dry-run", "--resume", "--seeds", "2")
    assert several.exit_code == 2
    assert "leave out --resume" in several.output
    assert not Path("runs/more-1").exists()
    write("more.py", 1, 0.1)
    assert "expect the accuracy to fall at first" in told("more.py", "--dry-run", "--after", "runs/first-1")


def test_to_check_leaves_model_and_run_as_they_are(here: Path) -> None:
    data, model = pictures(), shipped_model()
    before = state(model)
    recipe = Recipe([Phase(1, 32, 0.5)], batch_size=20)
    trainer = Trainer("cpu", out=None, show=False)
    notes = trainer.check(model, data, recipe, session=Session(after="cifar10_100kb"))
    assert any("expect the accuracy to fall" in note for note in notes)
    assert not any("expect the accuracy to fall" in note for note in trainer.check(model, data, recipe))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_what_is_left_is_foretold_by_the_epochs_that_are_left() -> None:
    times = PhaseTimes({16: 0.1, 32: 0.4}, size=10, turn=0.0, first=0.0, look=0.01)
    recipe = Recipe(
        [Phase(4, budgetnet.Ramp(16, 32), 0.1), Phase(2, 32, 0.1)], batch_size=10, keep="last", measure=()
    )
    measured = Forecast((times, times), {"train": 100}, 10)
    whole = measured.seconds(recipe)
    assert measured.seconds(recipe, [0]) == whole
    left = [measured.seconds(recipe, [done, 0]) for done in range(5)]
    assert left == sorted(left, reverse=True)
    # The later epochs of a ramp are the dearer ones.
    assert left[2] > (left[0] + left[4]) / 2
    assert measured.seconds(recipe, [4]) == pytest.approx(measured.seconds(recipe, [4, 1]) * 2, rel=0.01)
    assert measured.seconds(recipe, [4, 2]) == pytest.approx(0, abs=1e-9)


def test_a_run_that_follows_counts_its_own_epochs(here: Path) -> None:
    told("first.py", "-q")
    write("more.py", 2, 0.01)
    assert command("more.py", "-q", "--after", "first-1", "--max-time", "0.001s").exit_code == 75
    output = told("more.py", "--after", "first-1", "--resume", "--dry-run")
    assert re.search(r"runs/more-1.* 0 of 2 epochs are behind it", output)
