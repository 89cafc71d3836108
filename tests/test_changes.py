"""A run goes on as it was begun: what has changed is refused with both values, or let pass by name."""

import functools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import lives
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import coloured
from torch import nn

from budgetnet import (
    EMA,
    SGD,
    Adam,
    BackOff,
    Budget,
    Cosine,
    Flip,
    LabelSmoothingLoss,
    Phase,
    Recipe,
    Rotate,
    Run,
    Trainer,
    layers,
    models,
)
from budgetnet.cli import main
from budgetnet.compare.difference import differences
from budgetnet.files import checkpoint as checkpoints
from budgetnet.identity import without_rooms
from budgetnet.recipe import Test
from budgetnet.trainer.changes import with_defaults

DATA = coloured(48, val=12, side=8)
AUGMENT = [Rotate(10), Flip()]
RECIPE = Recipe([Phase(2, 8, Cosine(0.1), augment=AUGMENT)], SGD(), batch_size=12)


def network(params: str = "10k", seed: int = 0, **options: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        given: dict[str, Any] = {"classes": 3, "widths": (4, 8), "dropout": 0.1, **options}
        return Budget(params=params).build(models.convnet, **given)


def phase(**changes: Any) -> dict[str, Any]:
    return {"recipe": replace(RECIPE, phases=[replace(RECIPE.phases[0], **changes)])}


def recipe(**changes: Any) -> dict[str, Any]:
    return {"recipe": replace(RECIPE, **changes)}


def split(**changes: Any) -> dict[str, Any]:
    return {"data": replace(DATA, train=replace(DATA.train, **changes))}


def other_pixels() -> torch.Tensor:
    images = DATA.train.images.clone()
    images[5, 0, 0, 0] ^= 1
    return images


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "learning rate": (phase(lr=Cosine(0.2)), "recipe.phases[0].lr.peak: 0.1 -> 0.2"),
    "schedule": (phase(lr=0.05), "recipe.phases[0].lr: Cosine("),
    "epochs": (phase(epochs=3), "recipe.phases[0].epochs: 2 -> 3"),
    "resolution": (phase(resolution=10), "recipe.phases[0].resolution: 8 -> 10"),
    "strength of a step": (
        phase(augment=[Rotate(20), Flip()]),
        "recipe.phases[0].augment[0].degrees: 10 -> 20",
    ),
    "a step less": (phase(augment=[Rotate(10)]), "recipe.phases[0].augment"),
    "order of steps": (
        phase(augment=[Flip(), Rotate(10)]),
        "recipe.phases[0].augment[0]: Rotate(degrees=10, ",
    ),
    "phase added": (recipe(phases=[*RECIPE.phases, Phase(1, 8, 0.1)]), "recipe.phases[1]: - -> Phase("),
    "batch size": (recipe(batch_size=24), "recipe.batch_size: 12 -> 24"),
    "seed": (recipe(seed=1), "recipe.seed: 0 -> 1"),
    "loss": (recipe(loss=LabelSmoothingLoss(0.1)), "recipe.loss.smoothing: 0 -> 0.1"),
    "optimizer": (recipe(optimizer=Adam()), "recipe.optimizer: SGD("),
    "weight decay": (
        recipe(optimizer=SGD(weight_decay=0.1)),
        "recipe.optimizer.weight_decay: 0.0005 -> 0.1",
    ),
    "averaging": (recipe(average=EMA(0.9)), "recipe.average: None -> EMA(decay=0.9)"),
    "clipping": (recipe(clip=1.0), "recipe.clip: None -> 1"),
    "weights kept": (recipe(keep="best"), "recipe.keep: last -> best"),
    "back-off": (recipe(on_nan=BackOff()), "recipe.on_nan: None -> BackOff(factor=0.5, limit=3)"),
    "scale": ({"recipe": RECIPE.scaled(0.5)}, "recipe.phases[0].epochs: 2 -> 1"),
    "model's width": ({"model": network(widths=(4, 12))}, "model."),
    "model's activation": ({"model": network(act=layers.leaky)}, "ReLU(inplace=True) -> LeakyReLU("),
    "model's dropout": ({"model": network(dropout=0.2)}, "made.dropout: 0.1 -> 0.2"),
    "budget": ({"model": network("12k")}, "budget.params: 10000 -> 12000"),
    "a pixel": (split(images=other_pixels()), "data.fingerprints.train: "),
    "labels": (split(labels=DATA.train.labels.flip(0)), "data.fingerprints.train: "),
    "held-out images": ({"data": replace(DATA, val=coloured(12, side=8).train)}, "data.fingerprints.val: "),
    "names of classes": (
        {"data": replace(DATA, classes=("red", "green", "cyan"))},
        "data.classes[2]: blue -> cyan",
    ),
    "precision": ({"precision": "bf16"}, "precision: float32 -> bfloat16"),
}
"""What is given otherwise, and what the refusal says of it."""
NEVER = ("model's width", "names of classes")


def paused(out: Path, **given: Any) -> Path:
    """The folder of a run that was paused after its first step."""
    run = Trainer("cpu", out=out, show=False).fit(
        **{"model": network(), "data": DATA, "recipe": RECIPE, **given}, max_time=1e-9
    )
    assert run.folder is not None
    return run.folder


def go_on(folder: Path, given: dict[str, Any], **options: Any) -> Run:
    trainer = Trainer("cpu", precision=given.get("precision", "float32"), show=False)
    asked = {"model": network(), "data": DATA, "recipe": RECIPE, **given}
    asked.pop("precision", None)
    return trainer.fit(**asked, resume=folder, **options)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paused(tmp_path_factory.mktemp("begun"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [name if at % 2 else pytest.param(name, marks=pytest.mark.slow) for at, name in enumerate(CHANGES)],
)
def test_a_change_is_refused_with_its_path_and_both_values(name: str, begun: Path) -> None:
    given, words = CHANGES[name]
    before = contents(begun)
    with pytest.raises(ValueError, match="cannot go on") as error:
        go_on(begun, given)
    assert words in str(error.value)
    assert contents(begun) == before
    if name not in NEVER:
        assert "--allow-change " in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CHANGES) - set(NEVER)))
def test_a_change_passes_by_the_names_that_its_refusal_gives(name: str, tmp_path: Path) -> None:
    folder = paused(tmp_path)
    given, _ = CHANGES[name]
    with pytest.raises(ValueError, match="cannot go on exactly") as error:
        go_on(folder, given)
    named = re.findall(r"--allow-change (\S+)", str(error.value))
    run = go_on(folder, given, allow=named)
    assert run.status == "finished"
    assert len(run.record["sessions"][-1]["changed"]) >= len(named) > 0


@pytest.mark.parametrize("name", NEVER)
def test_shapes_and_classes_never_change(name: str, begun: Path) -> None:
    with pytest.raises(ValueError, match="another model or other classes"):
        go_on(begun, CHANGES[name][0], allow=("model", "data", "made", "modules", "recipe"))


def test_what_is_let_pass_is_in_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = paused(tmp_path)
    given = phase(epochs=1, lr=Cosine(0.2))
    Trainer("cpu").fit(
        network(),
        DATA,
        given["recipe"],
        resume=folder,
        allow=("recipe.phases.0.epochs", "recipe.phases[0].lr"),
    )
    out = capsys.readouterr().out
    assert "note: not the run that was begun: recipe.phases[0].epochs: 2 -> 1" in out
    record = Run.read(folder).record
    assert record["sessions"][-1]["changed"] == [
        "recipe.phases[0].epochs: 2 -> 1",
        "recipe.phases[0].lr.peak: 0.1 -> 0.2",
    ]
    assert record["recipe"]["phases"][0]["epochs"] == 1
    assert "changed" not in record["sessions"][0]


def test_one_change_let_pass_lets_no_other_pass(begun: Path) -> None:
    given = {**phase(epochs=3), "precision": "bf16"}
    with pytest.raises(ValueError, match=r"this has changed: precision: float32 -> bfloat16; change"):
        go_on(begun, given, allow=("recipe.phases.0.epochs",))


@pytest.mark.parametrize(
    ("allow", "words"),
    [
        ("recipe.phases.0.epoch", "did you mean 'recipe.phases.0.epochs'?"),
        ("budget.macs", "what has changed is recipe.phases.0.epochs"),
    ],
)
def test_a_name_that_has_not_changed_is_refused(allow: str, words: str, begun: Path) -> None:
    with pytest.raises(ValueError, match="was to be allowed to change") as error:
        go_on(begun, phase(epochs=3), allow=allow)
    assert words in str(error.value)


def test_names_without_a_change_or_a_run_are_refused(begun: Path) -> None:
    with pytest.raises(ValueError, match="nothing has changed; leave it out"):
        go_on(begun, {}, allow=("recipe.loss",))
    with pytest.raises(ValueError, match="give resume="):
        Trainer("cpu", out=None, show=False).fit(network(), DATA, RECIPE, allow=("recipe.loss",))


def test_a_loop_of_sessions_may_name_its_change_each_time(tmp_path: Path) -> None:
    folder = paused(tmp_path)
    for _ in range(3):
        run = go_on(folder, phase(epochs=1), allow=("recipe.phases.0.epochs",), max_time=1e-9)
    assert run.status == "paused"
    assert go_on(folder, phase(epochs=1), allow="recipe.phases.0.epochs").status == "finished"


def test_a_phase_that_the_run_is_in_cannot_go(tmp_path: Path) -> None:
    two = Recipe([Phase(1, 8, 0.1), Phase(1, 8, 0.1)], batch_size=48)
    folder = paused(tmp_path, recipe=two)
    go_on(folder, {"recipe": two}, max_time=1e-9)
    with pytest.raises(ValueError, match="is in its phase 2, and the recipe now has 1"):
        go_on(folder, {"recipe": Recipe([Phase(1, 8, 0.1)], batch_size=48)}, allow=("recipe",))


def test_an_optimizer_whose_state_is_of_no_use_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = paused(tmp_path)
    Trainer("cpu").fit(
        network(), DATA, replace(RECIPE, optimizer=Adam()), resume=folder, allow=("recipe.optimizer",)
    )
    assert "the optimizer begins anew" in capsys.readouterr().out
    folder = paused(tmp_path)
    Trainer("cpu").fit(
        network(), DATA, replace(RECIPE, optimizer=SGD(0.5)), resume=folder, allow=("recipe.optimizer",)
    )
    assert "the optimizer begins anew" not in capsys.readouterr().out


def test_first_weights_of_another_seed_are_no_change(begun: Path, tmp_path: Path) -> None:
    folder = paused(tmp_path)
    assert go_on(folder, {"model": network(seed=7)}).status == "finished"


def test_a_checkpoint_of_before_an_option_was_there_is_as_if_it_was_left_out(begun: Path) -> None:
    held, _ = checkpoints.newest(begun)
    assert held is not None
    contract = held.state["contract"]
    older = {k: v for k, v in contract["recipe"].items() if k != "on_nan"}
    older["phases"] = [{k: v for k, v in phase.items() if k != "calibrates"} for phase in older["phases"]]
    older["phases"][0]["test"] = {k: v for k, v in older["phases"][0]["test"].items() if k != "mirror"}
    assert differences([older, contract["recipe"]])
    assert not differences([with_defaults(older, RECIPE), contract["recipe"]])
    other = replace(RECIPE, phases=[replace(phase, test=Test(mirror=True)) for phase in RECIPE.phases])
    assert differences([with_defaults(older, other), other.describe()])


def test_what_budgetnet_keeps_in_another_file_by_now_is_no_change() -> None:
    older = {"uses": ["budgetnet.augment.erase.Erase", "budgetnet.data.stl10.stl10", "mine.stl10"]}
    newer = {"uses": ["budgetnet.augment.mix.Erase", "budgetnet.data.publishers.stl10", "mine.stl10"]}
    assert differences([older, newer])
    assert not differences(without_rooms([older, newer]))
    other = {"uses": ["budgetnet.augment.mix.Erase", "budgetnet.data.publishers.cifar10", "yours.stl10"]}
    assert [each.path for each in differences(without_rooms([older, other]))] == ["uses[1]", "uses[2]"]


def test_what_a_description_holds_tells_contents_apart() -> None:
    def described(loss: Any) -> Any:
        return replace(RECIPE, loss=loss).describe()["loss"]

    smooth = functools.partial(nn.functional.cross_entropy, label_smoothing=0.1)
    assert described(smooth) == described(functools.partial(nn.functional.cross_entropy, label_smoothing=0.1))
    assert described(smooth) != described(nn.functional.cross_entropy)
    heavy, light = (nn.CrossEntropyLoss(weight=torch.tensor([w, 1.0, 1.0])) for w in (2.0, 3.0))
    assert described(heavy) != described(light)
    assert described(heavy) == described(nn.CrossEntropyLoss(weight=torch.tensor([2.0, 1.0, 1.0])))


def test_on_the_command_line_a_change_is_let_pass_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.py").write_text(lives.RECIPE.replace("EPOCHS", "1"))
    monkeypatch.chdir(tmp_path)
    begin, change = ["run", "tiny.py", "--resume"], ["--set", "recipe.phases.1.lr=0.02"]

    def asked(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*begin, *arguments], prog_name="budgetnet")

    assert asked("--max-time", "0.000001").exit_code == 75
    refused = asked(*change)
    assert refused.exit_code == 2
    assert "recipe.phases[1].lr: 0.01 -> 0.02" in refused.output
    mistyped = asked(*change, "--allow-change", "recipe.phases.1.rl")
    assert mistyped.exit_code == 2
    assert "did you mean 'recipe.phases.1.lr'?" in mistyped.output
    assert asked(*change, "--allow-change", "recipe.phases.1.lr", "--max-time", "0.000001").exit_code == 75
    # From now on the run is the changed one, without saying so again.
    assert asked().exit_code == 0
    assert Run.read("runs/tiny-1").record["settings"] == ["recipe.phases.1.lr=0.02"]
