"""A recipe file that is edited between two lives of a run: what changed is named, what did not goes on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from conftest import coloured
from torch import nn

from budgetnet import Phase, Recipe, Run, Trainer, read_plan
from budgetnet.cli import main
from budgetnet.compare import compare
from budgetnet.compare.difference import differences
from budgetnet.sweep import seeds, sweep
from budgetnet.trainer.chain import contract as contract_of
from budgetnet.trainer.changes import brought_up

HEAD = '''"""Three colours told apart."""
import torch
import parts
from torch import nn
from torch.nn import functional as F
from budgetnet import Phase, Recipe, arrays

class Net(nn.Module):
    def __init__(self, width, rate):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, width), nn.Dropout(rate), nn.Linear(width, 3))
    def forward(self, x):
        return parts.scaled(self.body(x))

def model(width=4, rate=0.0):
    return Net(width, rate)

def data(count=36, seed=0, root="none", **more):
    images = torch.randint(0, 99, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed)).byte()
    labels = torch.arange(count) % 3
    images[torch.arange(count), labels] += 90
    return arrays(images[12:], labels[12:], val=(images[:12], labels[:12]), classes=("r", "g", "b"))

def warm(t):
    return 0.1 * (1 - t)

def loss(logits, labels):
    return F.cross_entropy(logits, labels, label_smoothing=0.0)

def brighter(images):
    return images.clamp(max=0.9)

def optimizer(parameters):
    return torch.optim.Adam(parameters, betas=(0.9, 0.99))

phase = Phase(epochs=2, resolution=8, lr=warm, augment=[brighter])
recipe = Recipe([phase], optimizer=optimizer, loss=loss, batch_size=12)
'''
PARTS = "FACTOR = 1.0\ndef scaled(x):\n    return x * FACTOR\n"

EDITS = {
    "the schedule": ("0.1 * (1 - t)", "0.1 * (1 - t) ** 2", "recipe.phases[0].lr.code: edited"),
    "the loss": ("label_smoothing=0.0", "label_smoothing=0.5", "recipe.loss.code: edited"),
    "a step": ("max=0.9", "max=0.8", "recipe.phases[0].augment[0].code: edited"),
    "the forward pass": ("parts.scaled(self", "-parts.scaled(self", "code.Net.methods.forward.code: edited"),
    "the optimizer's betas": ("(0.9, 0.99)", "(0.8, 0.99)", "recipe.optimizer.code: edited"),
    "a number of dropout": ("rate=0.0", "rate=0.5", "modules.body.2.p: 0 -> 0.5"),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "parts", raising=False)
    Path("mine.py").write_text(HEAD)
    Path("parts.py").write_text(PARTS)
    return tmp_path


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def edit(before: str, after: str, file: str = "mine.py") -> None:
    text = Path(file).read_text()
    assert before in text
    Path(file).write_text(text.replace(before, after))


def paused() -> None:
    result = command("run", "mine.py", "-q", "--max-time", "0.001")
    assert Run.read("runs/mine-1").status == "paused", result.output


@pytest.mark.parametrize("name", EDITS)
def test_a_run_does_not_go_on_with_what_was_edited_and_says_what(name: str) -> None:
    paused()
    before, after, words = EDITS[name]
    edit(before, after)
    result = command("run", "mine.py", "--resume", "-q")
    assert result.exit_code == 2
    assert words in result.output


def test_what_changes_nothing_goes_on_with_a_note_and_both_texts_are_kept() -> None:
    paused()
    edit("def warm(t):", "# why\ndef warm(t):\n    '''So.'''")
    result = command("run", "mine.py", "--resume")
    assert result.exit_code == 0, result.output
    assert (
        "note: mine.py was edited since the run was begun, in nothing that it is trained by" in result.output
    )
    assert Path("runs/mine-1/mine.py").read_text() == HEAD
    assert Path("runs/mine-1/mine-2.py").read_text() == Path("mine.py").read_text()
    assert Path("runs/mine-1/parts.py").read_text() == PARTS


def test_a_module_beside_the_recipe_is_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    paused()
    edit("FACTOR = 1.0", "FACTOR = 2.0", "parts.py")
    monkeypatch.delitem(__import__("sys").modules, "parts")  # as a new process would
    result = command("run", "mine.py", "--resume", "-q")
    assert result.exit_code == 2
    assert "FACTOR: 1 -> 2" in result.output


def test_seeds_of_an_edited_recipe_are_trained_anew() -> None:
    seeds(Trainer("cpu", show=False), read_plan("mine.py"), 1)
    same = seeds(Trainer("cpu", show=False), read_plan("mine.py"), 1, resume=True)
    assert [str(run.folder) for run in same] == ["runs/mine-1"]
    edit("label_smoothing=0.0", "label_smoothing=0.5")
    other = seeds(Trainer("cpu", show=False), read_plan("mine.py"), 1, resume=True)
    assert [str(run.folder) for run in other] == ["runs/mine-2"]
    edit("return Net(width, rate)", "return Net(width + 1, rate)")
    third = seeds(Trainer("cpu", show=False), read_plan("mine.py"), 1, resume=True)
    assert [str(run.folder) for run in third] == ["runs/mine-3"]


def test_compare_pools_what_is_equal_and_shows_what_differs() -> None:
    runs = seeds(Trainer("cpu", show=False), read_plan("mine.py"), 2)
    edit("loss=loss", "loss=nn.CrossEntropyLoss(label_smoothing=0.5)")
    runs += seeds(Trainer("cpu", show=False), read_plan("mine.py"), 2)
    edit("label_smoothing=0.5)", "label_smoothing=0.9)")
    runs += seeds(Trainer("cpu", show=False), read_plan("mine.py"), 1)
    found = compare(runs)
    assert [len(group.runs) for group in found.groups] == [2, 2, 1]
    (difference,) = compare(runs[2:]).differences
    assert str(difference) == "recipe.loss.label_smoothing  0.5 | 0.9"


def test_a_sweep_goes_over_losses_and_over_functions() -> None:
    losses = [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.5)]
    trainer, plan = Trainer("cpu", show=False), read_plan("mine.py")
    found = sweep(trainer, plan, {"recipe.loss": losses}, name="a")
    settings = [trial.settings["recipe.loss"] for trial in found.trials]
    assert "label_smoothing=0.0" in settings[0]
    assert "label_smoothing=0.5" in settings[1]
    again = sweep(
        Trainer("cpu", show=False), read_plan("mine.py"), {"recipe.loss": losses}, name="a", resume=True
    )
    assert [str(t.runs[0].folder) for t in again.trials] == [str(t.runs[0].folder) for t in found.trials]
    with pytest.raises(ValueError, match="each value once"):
        sweep(
            Trainer("cpu", show=False),
            read_plan("mine.py"),
            {"recipe.loss": [losses[0], nn.CrossEntropyLoss()]},
        )


def unknown(factor: float) -> Any:
    names: dict[str, Any] = {"F": nn.functional}
    exec(f"def loss(logits, labels): return {factor} * F.cross_entropy(logits, labels)", names)
    return names["loss"]


def test_what_has_no_source_goes_on_in_its_process_and_is_else_said_to_be_unknown() -> None:
    data = coloured(24, val=12, side=8)
    losses = unknown(1.0), unknown(1.0)
    recipes = [Recipe([Phase(1, 8, 0.1)], loss=loss, batch_size=12) for loss in losses]
    trainer = Trainer("cpu", show=False)

    def network() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))

    run = trainer.fit(network(), data, recipes[0], max_time=1e-9)
    with pytest.raises(ValueError, match=r"recipe\.loss\.code: cannot be told, as it has no source"):
        trainer.fit(network(), data, recipes[1], resume=run.folder)
    assert trainer.fit(network(), data, recipes[0], resume=run.folder).status == "finished"
    first, second = (trainer.fit(network(), data, recipe) for recipe in recipes)
    assert len(compare([first, second]).groups) == 2


def test_what_has_no_source_goes_on_where_its_files_are_the_same() -> None:
    edit("def loss(", "made = {}\nexec('def one(x): return x', made)\ndef loss(")
    edit("return F.cross_entropy(logits", "return F.cross_entropy(made['one'](logits)")
    paused()
    assert command("run", "mine.py", "--resume", "-q").exit_code == 0
    assert Run.read("runs/mine-1").status == "finished"


def test_threads_that_changed_are_in_the_record_and_quiet_hides_them_not() -> None:
    paused()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        result = command("run", "mine.py", "--resume", "-q")
    finally:
        torch.set_num_threads(before)
    words = f"threads: {before} -> {before + 1}"
    assert result.exit_code == 0, result.output
    assert words in result.stderr
    assert words not in result.stdout
    first, second = Run.read("runs/mine-1").record["sessions"]
    assert (first["threads"], second["threads"]) == (before, before + 1)
    assert words in second["moved"][0]
    assert "moved" not in first


def test_a_record_says_what_it_asks_of_a_recipe_before_it_is_used() -> None:
    assert command("run", "mine.py", "-q", "--set", "data.count=48").exit_code == 0
    result = command("evaluate", "runs/mine-1", "mine.py", "--json")
    assert result.exit_code == 0, result.output
    assert "note: as the run's record says: --set data.count=48" in result.stderr
    typed = command("evaluate", "runs/mine-1", "mine.py", "--json", "--set", "data.count=60")
    assert "as the run's record says" not in typed.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.path=/etc", "data() takes count, seed, root, more"),
        ("data.count=/etc/passwd", "data() has count=36"),
        ("data.root=3", "data() has root='none'"),
        ("model.width='4'", "model() has width=4"),
    ],
)
def test_a_record_from_elsewhere_gives_no_function_what_it_does_not_name(setting: str, words: str) -> None:
    assert command("run", "mine.py", "-q").exit_code == 0
    path = Path("runs/mine-1/run.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "settings": [setting]}))
    result = command("evaluate", "runs/mine-1", "mine.py")
    assert result.exit_code == 2
    assert words in result.output


def test_a_record_names_no_place_of_its_users() -> None:
    folder = Path("deep").absolute()
    folder.mkdir()
    for name in ("mine.py", "parts.py"):
        Path(name).rename(folder / name)
    assert command("run", folder / "mine.py", "-q", "--out", Path("runs").absolute()).exit_code == 0
    record = Path("runs/mine-1/run.json").read_text()
    assert str(Path.cwd()) not in record
    assert json.loads(record)["recipe_file"] == "deep/mine.py"
    assert json.loads(record)["command"] == "budgetnet run ./deep/mine.py -q --out ./runs"


def told_less(described: Any) -> Any:
    """A description as records had it before they told code and attributes."""
    if isinstance(described, list):
        return [told_less(item) for item in described]
    if not isinstance(described, dict):
        return described
    name = str(described.get("class", ""))
    if name.startswith("function "):
        return f"budgetnet.recipe_file.{name[9:]}"
    return f"{name}()" if name == "CrossEntropyLoss" else {k: told_less(v) for k, v in described.items()}


def test_a_contract_of_before_code_was_told_goes_on_and_says_what_it_cannot_tell() -> None:
    edit("loss=loss", "loss=nn.CrossEntropyLoss()")
    plan = read_plan("mine.py")
    model, engine = plan.model(), Trainer("cpu").engine
    now = contract_of(model, plan.data(), plan.recipe, engine)
    modules = {name or "model": f"{type(m).__name__}({m.extra_repr()})" for name, m in model.named_modules()}
    held = {"recipe": told_less(now["recipe"]), "modules": modules, "made": None}
    found, notes = brought_up(held, now, model)
    assert {key: found[key] for key in held} == {key: now[key] for key in held}
    (note,) = notes
    assert note.startswith("whether the model's code, recipe.phases[0].lr, recipe.phases[0].augment[0]")
    assert "cannot be told" in note
    held["recipe"]["batch_size"], modules["body.2"] = 6, "Dropout(p=0.9, inplace=False)"
    found, _ = brought_up(held, now, model)
    paths = [
        d.path for d in differences([{key: found[key] for key in held}, {key: now[key] for key in held}])
    ]
    assert paths == ["recipe.batch_size", "modules.body.2"]


def test_runs_of_before_code_was_told_are_compared_with_a_note_and_not_taken_for_finished(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = seeds(Trainer("cpu", show=False), read_plan("mine.py"), 2)
    for run in runs:
        assert run.folder is not None
        record = {key: item for key, item in run.record.items() if key not in ("described", "code")}
        (run.folder / "run.json").write_text(json.dumps(record))
    found = compare([str(run.folder) for run in runs])
    assert any("whether they are equal in those cannot be told" in note for note in found.notes)
    again = seeds(Trainer("cpu"), read_plan("mine.py"), 1, resume=True)
    assert [str(run.folder) for run in again] == ["runs/mine-3"]
    assert "note: whether earlier runs are of this recipe cannot be told" in capsys.readouterr().out
