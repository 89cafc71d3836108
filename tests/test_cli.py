"""The command line: real commands on tiny recipes; what they print, write, refuse and return."""

import csv
import hashlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import budgetnet
from budgetnet import Test, Trainer, load, read_plan
from budgetnet.cli import main
from budgetnet.cli.failures import Commands, verdict
from budgetnet.modelfile import card
from budgetnet.run import Run
from budgetnet.trainer import shortened

HEAD = '''"""Three colours told apart.

What follows the first line is not shown.
"""

from pathlib import Path

import torch
from torch import nn

from budgetnet import SGD, Budget, Cosine, Data, Flip, Phase, Recipe, arrays, models, stl10
from budgetnet.data import Source

'''

MODEL = """
def model(width: int = 8) -> nn.Module:
    return Budget(params="10k").build(models.convnet, classes=3, widths=(width, 16))
"""

DATA = """
def data(count: int = 192) -> Data:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count + 48) % 3
    images = torch.randint(0, 100, (count + 48, 3, 12, 12), generator=generator, dtype=torch.uint8)
    images[torch.arange(len(labels)), labels] += 100
    train, val = (images[:count], labels[:count]), (images[count:], labels[count:])
    return arrays(*train, val=val, classes=("red", "green", "blue"))
"""

RECIPE = """
learn = Phase(name="learn", epochs=2, resolution=8, lr=Cosine(0.1), augment=[Flip()])
fix = Phase(name="fix it", epochs=1, resolution=12, lr=0.02)
recipe = Recipe(phases=[learn, fix], optimizer=SGD(), batch_size=32)
"""

TINY = HEAD + MODEL + DATA + RECIPE

ANSI = re.compile(r"\x1b")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in a folder of its own, without the user's settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("BUDGETNET_DATA", "BUDGETNET_TRACEBACK", "BUDGETNET_OFFLINE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def written(folder: Path, text: str = TINY, name: str = "tiny.py") -> Path:
    """A recipe file."""
    path = folder / name
    path.write_text(text)
    return path


def command(*arguments: object) -> Result:
    """The command line with these arguments, in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def told(*arguments: object) -> str:
    """What a command that goes well prints: plain text."""
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    assert not ANSI.search(result.output)
    return result.output


def refused(*arguments: object, code: int = 2) -> str:
    """The sentence with which a command is refused."""
    result = command(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    *_, last = result.output.strip().splitlines()
    assert last.startswith("Error: ")
    return last.removeprefix("Error: ")


def started(*arguments: object, code: str = "main(prog_name='budgetnet')") -> list[str]:
    """The command line as a program of its own."""
    return [sys.executable, "-c", f"from budgetnet.cli import main; {code}", *map(str, arguments)]


def alone() -> dict[str, str]:
    """An environment in which one core is enough."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Made:
    """A finished run, the recipe that made it, and what the command printed."""

    folder: Path
    recipe: Path
    output: str

    @property
    def run(self) -> Run:
        return Run.read(self.folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    recipe = written(folder)
    output = told("run", recipe, "--out", folder / "runs", "--set", "recipe.batch_size=24", "--seed", 3)
    return Made(folder / "runs" / "tiny-1", recipe, output)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos of one colour each, one of them in a folder below."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for name, colour in (("1", 0), ("2", 1), ("10", 2), ("more/3", 1)):
        pixels = np.full((20, 16, 3), 50, dtype=np.uint8)
        pixels[..., colour] = 150
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


# --- starting


def test_help_imports_neither_torch_nor_rich() -> None:
    code = (
        "import sys\n"
        "for name in ['', *main.commands]: main([*name.split(), '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'torchvision', 'rich', 'numpy', 'PIL', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", f"from budgetnet.cli import main\n{code}"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def test_help_lists_every_command_with_a_whole_sentence() -> None:
    lines = told("--help").split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == [
        "run",
        "sweep",
        "count",
        "evaluate",
        "predict",
        "compress",
        "export",
        "check",
        "compare",
        "report",
        "list",
        "copy",
        "preview",
        "profile",
        "card",
        "completion",
        "doctor",
        "new",
        "push",
    ]
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


def test_the_version_is_the_packages() -> None:
    assert told("--version") == f"budgetnet {budgetnet.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'budgetnet run'?"),
        (["recipes/tiny.py"], "Did you mean 'budgetnet run recipes/tiny.py'?"),
        (["zzz"], "No such command 'zzz'."),
        (["run", "quickstart", "--devise", "cpu"], "--device"),
        (["run"], "Missing argument 'FILE|NAME'"),
        (["evaluate", "x", "--split", "tets"], "'tets' is not one of"),
        (
            ["run", "quickstart", "--seed", "three"],
            "'three' is not a valid integer",
        ),
    ],
)
def test_what_is_mistyped_is_told_its_neighbour(arguments: list[str], sentence: str) -> None:
    assert sentence in refused(*arguments)


# --- run


def test_a_run_shows_what_it_does_before_it_does_it(made: Made) -> None:
    order = [
        "Three colours told apart.",
        "MACs at 12 px",
        "of 10,000 parameters",
        "data: arrays, 192 training, 48 validation images of 12x12 pixels, 3 classes",
        "device: cpu",
        "learning rate",
        "learn 1/2",
        "learn 2/2",
        "fix it 1/1",
        "validation: ",
        str(made.folder),
    ]
    places = [made.output.index(text) for text in order]
    assert places == sorted(places)
    assert "What follows" not in made.output


def test_a_run_leaves_a_model_that_predicts_and_a_record_of_what_was_typed(made: Made) -> None:
    files = {"model.safetensors", "run.json", "metrics.jsonl", "seen.safetensors", "report.html"}
    files.add(made.recipe.name)
    assert {path.name for path in made.folder.iterdir()} == files
    assert (made.folder / made.recipe.name).read_text() == made.recipe.read_text()
    record = made.run.record
    assert record["source"] == {made.recipe.name: hashlib.sha256(made.recipe.read_bytes()).hexdigest()}
    assert record["recipe_file"] == made.recipe.name
    assert record["command"].startswith("budgetnet run ")
    assert "--set recipe.batch_size=24" in record["command"]
    assert record["settings"] == ["recipe.batch_size=24"]
    assert (record["recipe"]["batch_size"], record["seed"]) == (24, 3)
    assert made.run.status == "finished"
    assert [epoch.steps for epoch in made.run.history] == [8, 8, 8]
    assert made.run.result["val_accuracy"] > 0.9
    model = budgetnet.load(made.folder)
    red = torch.full((1, 3, 12, 12), 50, dtype=torch.uint8)
    red[:, 0] = 150
    assert Trainer("cpu", out=None, show=False).predict(model, red).named() == ["red"]


def test_quiet_prints_the_result_and_nothing_else(here: Path) -> None:
    output = told("run", written(here), "--quiet", "--scale", 0.5)
    assert re.fullmatch(r"validation \d+\.\d\d %  .* s  runs/tiny-1\n", output)
    assert len(Run.read("runs/tiny-1").history) == 2


def test_runs_are_numbered_and_named(here: Path) -> None:
    recipe = written(here)
    for options in ([], [], ["--name", "mine"]):
        told("run", recipe, "-q", "--set", "recipe.phases.0.epochs=1", "--out", "there", *options)
    assert sorted(path.name for path in Path("there").iterdir()) == ["mine-1", "tiny-1", "tiny-2"]


def test_the_same_seed_gives_the_same_run_and_another_another(here: Path) -> None:
    recipe = written(here)
    for seed in (1, 1, 2):
        told("run", recipe, "-q", "--seed", seed, "--scale", 0.5)
    once, again, other = (Run.read(f"runs/tiny-{k}").history[-1].train_loss for k in (1, 2, 3))
    assert once == again != other


def test_settings_may_be_written_in_any_order(here: Path) -> None:
    recipe = written(here, TINY)
    # The resize is below the crop until that is changed too.
    sizes = ["--set", "recipe.phases.0.test.resize=6", "--set", "recipe.phases.0.test.crop=5"]
    crop_first = ["--set", "recipe.phases.0.test.crop=12", "--set", "recipe.phases.0.test.resize=12"]
    told("run", recipe, *crop_first, "--dry-run")
    told("run", recipe, *reversed_pairs(crop_first), "--dry-run")
    told("run", recipe, *sizes, "--dry-run")
    sentence = refused("run", recipe, "--set", "recipe.batch_size=0", "--set", "recipe.seed=1")
    assert "Recipe's batch_size should be a whole number of 1 or more, not 0" in sentence


def reversed_pairs(options: list[str]) -> list[str]:
    """The options with their values, the last one first."""
    pairs = list(zip(options[::2], options[1::2]))
    return [part for pair in reversed(pairs) for part in pair]


def test_settings_reach_the_functions_of_the_recipe(here: Path) -> None:
    recipe = written(here)
    output = told("run", recipe, "--dry-run", "--set", "model.width=4", "--set", "data.count=99")
    assert "99 training" in output
    counted = json.loads(told("count", recipe, "--set", "model.width=4", "--json"))["params"]
    assert f"{counted:,} of 10,000 parameters" in output
    assert f"{counted:,} of 10,000 parameters" not in told("run", recipe, "--dry-run")


def test_data_names_the_root_for_this_command_only(here: Path) -> None:
    text = HEAD + MODEL + DATA.replace("count + 48) % 3", "count + 48) % 3; print(root())", 1) + RECIPE
    text = text.replace(
        "def data", "def root():\n    import os\n    return os.environ['BUDGETNET_DATA']\n\ndef data"
    )
    output = told("run", written(here, text), "--dry-run", "--data", "/some/where")
    assert "/some/where\n" in output
    assert "BUDGETNET_DATA" not in os.environ


# --- dry run


def test_a_dry_run_foretells_the_steps_of_the_run_and_writes_nothing(made: Made, here: Path) -> None:
    output = told("run", made.recipe, "--dry-run", "--set", "recipe.batch_size=24")
    phases = {line[:6]: line[6:].split() for line in output.splitlines() if line[:6] in ("learn ", "fix it")}
    assert phases["learn "] == ["2", "16", "1", "8", "px", "8", "px", "0.1", "to", "0", "(Cosine)"]
    assert phases["fix it"] == ["1", "8", "1", "12", "px", "12", "px", "0.02"]
    history = made.run.history
    assert [sum(e.steps for e in history[:2]), history[2].steps] == [16, 8]
    seen = sum(epoch.images for epoch in history)
    assert f"in all: {seen} views of training images and 144 of validation images, " in output
    macs = [budgetnet.macs(budgetnet.load(made.folder), resolution) for resolution in (8, 12)]
    expected = 3 * (384 * macs[0] + 192 * macs[1]) + 96 * macs[0] + 48 * macs[1]
    assert f"{shortened(expected)} MACs" in output
    assert output.endswith("dry run: nothing was trained\n")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("pseudo", "most", "steps", "views", "looks", "passes"),
    [
        # 48 labelled images and at most 30 and 20 of the unlabelled ones, in batches of 24; three epochs.
        ("PseudoLabels(0.9)", "at most ", "up to 9", 216, 30, 1),
        ("PseudoLabels(0.9, per_class=5)", "at most ", "up to 6", 144, 30, 1),
        ("FixMatch(ratio=2)", "", "6", 144, 576, 3),
    ],
)
def test_a_dry_run_counts_the_unlabelled_images_too(
    pseudo: str, most: str, steps: str, views: int, looks: int, passes: int, here: Path
) -> None:
    text = (
        "import torch\nfrom budgetnet import *\n\n"
        "def model():\n    return Budget(params='1k').build(models.convnet, classes=4, widths=(4,))\n\n"
        "def part(n, label):\n    g = torch.Generator().manual_seed(n)\n"
        "    images = torch.randint(0, 256, (n, 3, 8, 8), generator=g, dtype=torch.uint8)\n"
        "    labels = torch.arange(n) % 4 if label else torch.full((n,), -1)\n"
        "    return Split(images, labels, torch.arange(n))\n\n"
        "def data():\n    return Data(part(48, 1), None, None, tuple('abcd'), 'made', part(30, 0))\n\n"
        f"recipe = Recipe([Phase(3, 8, 0.1, pseudo={pseudo})], batch_size=24)\n"
    )
    output = told("run", written(here, text), "--dry-run")
    (row,) = [line for line in output.splitlines() if line.startswith("phase 1")]
    assert f" {steps}  " in row
    made = budgetnet.Budget(params="1k").build(budgetnet.models.convnet, classes=4, widths=(4,))
    macs = budgetnet.macs(made, 8)
    total = shortened(macs * (3 * views + passes * looks))
    assert (
        f"in all: {most}{views} views of training images and {looks} of unlabelled images, {total} MACs"
        in output
    )


@pytest.mark.parametrize("count", [1, 2])
def test_a_dry_run_counts_what_teachers_compute(count: int, made: Made, here: Path) -> None:
    teachers = f"augment=[Flip(), Distill({[str(made.folder)] * count!r}, resolution=9)]"
    text = TINY.replace("augment=[Flip()]", teachers).replace("Flip, ", "Distill, Flip, ")
    output = told("run", written(here, text), "--dry-run")
    model = budgetnet.load(made.folder)
    own, taught = (budgetnet.macs(model, resolution) for resolution in (8, 9))
    fix = 3 * 192 * budgetnet.macs(model, 12) + 48 * budgetnet.macs(model, 12)
    expected = 2 * 192 * (3 * own + count * taught) + 2 * 48 * own + fix
    assert f", {shortened(expected)} MACs (a training view as 3 passes, and one of each teacher)\n" in output


def test_a_dry_run_without_the_data_goes_on_and_fetches_nothing(here: Path) -> None:
    text = (
        HEAD
        + MODEL.replace("classes=3", "classes=10")
        + "\ndef data() -> Data:\n    return stl10()\n"
        + RECIPE
    )
    output = told("run", written(here, text), "--dry-run", "--data", here / "nothing")
    assert f"data: {here}/nothing/stl10_binary/train_X.bin is not there" in output
    assert "what needs the data was not checked" in output
    assert "fix it" in output
    assert not (here / "nothing").exists()


def test_numbers_are_shortened_to_three_digits() -> None:
    assert [shortened(number) for number in (7, 999.4, 999.6, 1234, 335.4e9, 2e15, 5e21)] == [
        "7",
        "999",
        "1 k",
        "1.23 k",
        "335 G",
        "2 P",
        "5e+03 E",
    ]


# --- mistakes


MISTAKES = {
    "the file does not parse": (TINY + "\ndef (", r"tiny\.py, line \d+: SyntaxError"),
    "an import fails": ("import nothing_of_this_name\n" + TINY, r"tiny\.py, line 1: ModuleNotFoundError"),
    "the file ends the program": (TINY + "\nraise SystemExit(0)\n", r"tiny\.py, line \d+: SystemExit: 0"),
    "a value is impossible": (
        TINY.replace("epochs=2", "epochs=0"),
        r"tiny\.py, line \d+: ValueError: Phase's epochs should be a whole number of 1 or more, not 0",
    ),
    "a part is missing": (HEAD + DATA + RECIPE, r"has no model; `budgetnet copy quickstart`"),
    "a part is of another kind": (TINY + "\nrecipe = 3\n", r"recipe should be a Recipe, not 3"),
    "the model is over its budget": (TINY.replace('"10k"', '"1k"'), r"over the budget of 1,000"),
    "the model fails": (
        TINY.replace("classes=3,", "clases=3,"),
        r"tiny\.py, line \d+: model\(\) failed: TypeError",
    ),
    "the model is none": (
        TINY.replace("(width, 16))", "(width, 16)) and 3"),
        r"model\(\) should return an nn\.Module, and returned 3",
    ),
    "the images do not fit": (
        TINY.replace("resolution=8", "resolution=1"),
        r"phase 1 does not fit its model: .*the smallest resolution that fits is \d",
    ),
    "the classes do not match": (
        TINY.replace("classes=3,", "classes=4,"),
        r"one logit for each of the 3 class",
    ),
    "the data fail": (TINY.replace("% 3", "% missing"), r"tiny\.py, line \d+: data\(\) failed: NameError"),
    "the data are none": (
        TINY.replace('"blue"))', '"blue")) and 3'),
        r"data\(\) should return a Data, such as digits\(\), and returned 3",
    ),
    "a label is wrong": (TINY.replace("labels[:count])", "labels[:count] + 1)"), r"the label 3, outside 0"),
    "a part that trains is unknown": (
        TINY.replace('name="fix it",', 'name="fix it", trains=["haed"],'),
        r"'haed', which the model does not have",
    ),
}


@pytest.mark.parametrize("where", MISTAKES)
@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_a_mistake_in_the_recipe_is_one_sentence_before_anything_is_written(
    where: str, options: Sequence[str], here: Path
) -> None:
    text, sentence = MISTAKES[where]
    recipe = written(here, text)
    assert re.search(sentence, refused("run", recipe, *options))
    assert not [path for path in here.rglob("*") if path.is_file() and path != recipe]
    assert not list(here.glob("runs/*"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--set", "recipe.batch_sice=3"], "did you mean 'batch_size'?"),
        (["--set", "recipe.phases.2.epochs=3"], "has the numbers 0 to 1, not '2'"),
        (["--set", "recipe.batch_size=-1"], "batch_size should be a whole number of 1 or more, not -1"),
        (["--set", "batch_size=3"], "a setting should read recipe.batch_size=256"),
        (["--set", "model.depth=3"], "model() has no parameter 'depth'; it takes width"),
        (["--scale", "0"], "0.0 is not in the range 1e-09<=x<=1000000000.0"),
        (["--seed", "-1"], "-1 is not in the range 0<=x<="),
        (["--device", "gpu"], "device should be 'cuda', 'cuda:1', 'mps' or 'cpu'"),
        (["--name", "a/b"], "without slashes, not 'a/b'"),
        (["--out", "tiny.py"], "choose another with out= (--out)"),
    ],
)
def test_a_mistake_in_an_option_is_one_sentence(options: list[str], sentence: str, here: Path) -> None:
    assert sentence in refused("run", written(here), *options)
    assert [path.name for path in here.iterdir()] == ["tiny.py"]


def test_a_recipe_that_is_not_there_is_told_its_neighbour() -> None:
    assert "did you mean quickstart?" in refused("run", "quikstart")
    assert "budgetnet brings cifar10_100kb, cifar10_300kb" in refused("run", "zzz.py")


def test_code_of_the_recipe_that_fails_in_a_step_is_named_by_its_line_before_the_first(here: Path) -> None:
    text = TINY.replace("optimizer=SGD()", "optimizer=SGD(), loss=lambda logits, labels: logits.nothing()")
    line = 1 + text.splitlines().index(next(x for x in text.splitlines() if "logits.nothing" in x))
    sentence = refused("run", written(here, text))
    assert f"tiny.py, line {line}: AttributeError: 'Tensor' object has no attribute 'nothing'" in sentence
    assert not Path("runs/tiny-1").exists()


def test_a_training_that_fails_is_no_mistake_of_the_users(here: Path) -> None:
    sentence = refused("run", written(here), "--set", "recipe.phases.0.lr=1e30", code=4)
    assert "the loss became " in sentence or "holds a NaN" in sentence
    assert Run.read("runs/tiny-1").status == "failed"


def test_data_that_cannot_be_fetched_are_no_mistake_of_the_users(here: Path) -> None:
    source = 'Source("http://127.0.0.1:9/stl10_binary.tar.gz", "0" * 32, "stl10_binary", 1000)'
    text = HEAD + MODEL.replace("=3", "=10") + f"\ndef data() -> Data:\n    return stl10(download={source})\n"
    sentence = refused("run", written(here, text + RECIPE), code=1)
    assert "http://127.0.0.1:9/stl10_binary.tar.gz cannot be fetched" in sentence
    assert not Path("runs").exists()


def test_ctrl_c_while_options_are_read_exits_with_130_too() -> None:
    def interrupted(*ignored: object) -> None:
        raise KeyboardInterrupt

    @click.group(cls=Commands)
    @click.option("--early", is_flag=True, callback=interrupted)
    def tool() -> None: ...

    @tool.command()
    def work() -> None: ...

    assert CliRunner().invoke(tool, ["--early", "work"]).exit_code == 130


def test_a_bug_is_called_one() -> None:
    code, sentence = verdict(KeyError("stem"))
    assert code == 1
    assert sentence == (
        "KeyError: 'stem'; this is a bug of budgetnet; set BUDGETNET_TRACEBACK=1 to see where"
    )
    assert verdict(PermissionError(13, "Permission denied", "x")) == (1, "[Errno 13] Permission denied: 'x'")
    assert verdict(ValueError("one\n  line")) == (2, "one line")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_too_little_memory_is_no_bug(error: Exception) -> None:
    code, sentence = verdict(error)
    assert code == 1
    assert "--set recipe.batch_size=" in sentence
    assert "bug" not in sentence


def test_a_traceback_is_shown_when_asked_for(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUDGETNET_TRACEBACK", "1")
    result = command("run", written(here, TINY.replace("epochs=2", "epochs=0")))
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.output
    assert "PlanError: " in result.output


# --- count


def test_count_gives_the_known_numbers_of_the_stl10_network() -> None:
    output = told("count", "fixres_stl10", "--depth", 1)
    assert "1,996,986 of 2,000,000 parameters, 3,014 left" in output
    assert "370,819,440 MACs at 70x70" in output
    assert "1,081,499,088" in output
    found = json.loads(told("count", "fixres_stl10", "--resolution", 96, "--json"))
    assert found["params"] == 1_996_986
    assert found["budget"] == {"params": 2_000_000}
    assert found["macs"] == {"96": 683_631_696}
    assert sum(row["params"] for row in found["rows"]) == 1_996_986


def test_count_says_the_same_of_recipe_run_and_model(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.folder.parent.parent)
    targets = (made.recipe, made.folder, "tiny-1", made.folder / "model.safetensors")
    recipe, *others = (json.loads(told("count", target, "--resolution", 12, "--json")) for target in targets)
    assert all(other == recipe for other in others)
    assert len(recipe["rows"]) > len(json.loads(told("count", made.folder, "--depth", 1, "--json"))["rows"])
    assert "at 12x12" in told("count", made.folder)


def test_count_refuses_what_is_over_the_budget_asked_about(made: Made) -> None:
    assert "of 20,000 parameters" in told("count", made.recipe, "--budget", "20k")
    result = command("count", made.recipe, "--budget", "1k")
    assert result.exit_code == 2
    assert "too many" in result.output
    assert "over the budget of 1,000" in result.output
    assert "is not a budget" in refused("count", made.recipe, "--budget", "many")


def test_count_refuses_a_resolution_that_does_not_fit(made: Made) -> None:
    assert "does not fit at 1x1" in refused("count", made.recipe, "--resolution", 1)


# --- evaluate


def test_evaluate_repeats_the_figures_of_the_run(made: Made) -> None:
    output = told("evaluate", made.folder, made.recipe)
    result = made.run.result
    assert f"val: accuracy {100 * result['val_accuracy']:.2f} %" in output
    assert "on 48 images at 12 px" in output
    assert [line.split()[0] for line in output.splitlines()[-3:]] == ["red", "green", "blue"]
    assert "note" not in output
    found = json.loads(told("evaluate", made.folder / "model.safetensors", made.recipe, "--json"))
    assert found["loss"] == pytest.approx(result["val_loss"])
    assert sum(map(sum, found["confusion"])) == 48
    other = json.loads(told("evaluate", made.folder, made.recipe, "--resolution", 8, "--json"))
    assert other["resolution"] == 8


def test_evaluate_at_several_resolutions_measures_their_mean(made: Made) -> None:
    both = command(
        "evaluate",
        made.folder,
        made.recipe,
        "--resolution",
        8,
        "--resolution",
        12,
        "--json",
        "--split",
        "val",
    )
    assert "note: each image is seen at 8, 12 px, and the mean counts" in both.stderr
    split = read_plan(made.recipe).data().val
    measured = Trainer("cpu", show=False).evaluate(load(made.folder), split, resolution=[8, 12])
    assert json.loads(both.stdout)["loss"] == pytest.approx(measured.loss)
    sizes = ("--resolution", 8, "--resolution", 12)
    sentence = refused("evaluate", made.folder, made.recipe, *sizes, "--resize", 14)
    assert sentence == "--resize should come with one --resolution, not 2: leave --resize out"


@pytest.mark.parametrize(
    ("arguments", "named", "times"),
    [
        (("evaluate", "m", "r", "--split", "val", "--split=test"), "--split", 2),
        (("run", "r", "--seed", 1, "--seed", 2, "--seed", 3), "--seed", 3),
        (("evaluate", "m", "r", "--mirror", "--no-mirror"), "--mirror/--no-mirror", 2),
        (("sweep", "r", "--trials", 3, "--trials", 3), "--trials", 2),
    ],
)
def test_an_option_of_one_value_is_not_given_twice(
    arguments: tuple[object, ...], named: str, times: int
) -> None:
    assert refused(*arguments) == f"{named} should be given once, not {times} times"


def test_what_may_be_said_twice_may(made: Made) -> None:
    told("evaluate", made.folder, made.recipe, "-v", "-v", "--json", "--json", "--with", made.folder)
    told("predict", "-h", "--top", 1, "--top", 2)


def test_evaluate_measures_what_predict_would_say(made: Made) -> None:
    model = made.folder / "model.safetensors"
    looked = json.loads(told("evaluate", model, made.recipe, "--mirror", "--shift", 1, "--json"))
    trainer, run = Trainer("cpu", show=False), load(model)
    split = read_plan(made.recipe).data().val
    test = Test(mirror=True, shift=1)
    assert looked["loss"] == pytest.approx(trainer.evaluate(run, split, test=test).loss)
    both = json.loads(told("evaluate", model, made.recipe, "--with", model, "--json"))
    alone = json.loads(told("evaluate", model, made.recipe, "--json"))
    assert both["accuracy"] == alone["accuracy"]
    assert both["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    sentence = refused("evaluate", model, made.recipe, "--resolutions", "8,12", "--mirror")
    assert sentence == "--resolutions asks one model at every size by itself; leave out --mirror"


def test_evaluate_says_where_images_are_looked_at_again_and_measures_plainly(tmp_path: Path) -> None:
    recipe = written(tmp_path)
    looks = ("--set", "recipe.phases.1.test.mirror=True", "--set", "recipe.phases.1.test.shift=1")
    told("run", recipe, "--out", "runs", *looks)
    result = Run.read("runs/tiny-1").result
    both = command("evaluate", "runs/tiny-1", recipe, "--json")
    assert json.loads(both.stdout)["loss"] == pytest.approx(result["val_loss"])
    said = "note: each image is looked at 6 times, as the model was tested"
    assert f"{said}; --no-mirror --shift 0 gives the plain figure" in both.stderr
    plain = command("evaluate", "runs/tiny-1", recipe, "--no-mirror", "--shift", 0, "--json")
    split = read_plan(recipe).data().val
    expected = Trainer("cpu", show=False).evaluate(load("runs/tiny-1"), split, test=Test()).loss
    assert json.loads(plain.stdout)["loss"] == pytest.approx(expected)
    assert not plain.stderr
    assert expected != pytest.approx(result["val_loss"])
    only = command("evaluate", "runs/tiny-1", recipe, "--no-mirror", "--json")
    assert f"{said.replace('6', '3')}; --shift 0 gives the plain figure" in only.stderr
    told("run", recipe, "--out", "runs")
    for first, other in (("tiny-1", "tiny-2"), ("tiny-2", "tiny-1")):
        mixed = command("evaluate", f"runs/{first}", recipe, "--with", f"runs/{other}", "--json")
        assert (
            "looked at 1 or 6 times, as the models were tested; --no-mirror --shift 0 gives" in mixed.stderr
        )


def test_evaluate_takes_the_split_that_is_asked_for(made: Made) -> None:
    assert "train: accuracy" in told("evaluate", made.folder, made.recipe, "--split", "train")
    sentence = refused("evaluate", made.folder, made.recipe, "--split", "test")
    assert sentence == (
        "arrays has no test split: add its images to the data, or choose --split from train, val"
    )


def test_evaluate_changes_the_data_as_the_run_had_them_changed(here: Path) -> None:
    recipe = written(here)
    told("run", recipe, "-q", "--set", "data.count=96", "--scale", 0.5)
    output = told("evaluate", "tiny-1", recipe)
    assert output.count("note") == output.count("note: as the run's record says: --set data.count=96") == 1
    assert "note: these val images are not those of the run" in told(
        "evaluate", "tiny-1", recipe, "--set", "data.count=192"
    )


def test_evaluate_refuses_data_of_other_classes(made: Made, here: Path) -> None:
    other = written(here, TINY.replace('"red", "green", "blue"', '"a", "b", "c"'))
    sentence = refused("evaluate", made.folder, other)
    assert "tells apart 3 classes (red, green, blue)" in sentence
    assert "have 3 classes (a, b, c)" in sentence


def test_a_recipe_is_executed_only_when_it_is_named(here: Path, photos: Path) -> None:
    recipe = written(here)
    told("run", recipe, "-q", "--scale", 0.5)
    recipe.write_text(TINY + "\nPath('executed').touch()\n")
    told("count", "tiny-1")
    told("predict", "tiny-1", photos)
    told("list")
    sentence = refused("evaluate", "tiny-1")
    assert sentence.endswith("name it: budgetnet evaluate tiny-1 tiny.py")
    assert not Path("executed").exists()
    told("evaluate", "tiny-1", recipe)
    assert Path("executed").exists()


def test_a_model_of_the_recipes_own_is_built_by_it_when_it_is_named(here: Path, photos: Path) -> None:
    own = "\ndef model(width: int = 4) -> nn.Module:\n    return nn.Sequential(nn.Conv2d(3, width, 3), "
    own += "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))\n"
    recipe = written(here, HEAD + own + DATA + RECIPE)
    assert "budget: none" in told("run", recipe, "--scale", 0.5, "--set", "model.width=5")
    for arguments in (["count", "tiny-1"], ["predict", "tiny-1", photos]):
        assert refused(*arguments).endswith("name the recipe: --recipe tiny.py")
        told(*arguments, "--recipe", recipe)
    assert "5x10x10" in told("count", "tiny-1", "--recipe", recipe)
    told("evaluate", "tiny-1", recipe)


# --- compare on the same images


def test_runs_are_compared_on_the_same_images_of_a_named_recipe(made: Made) -> None:
    recipe = made.recipe
    first, second = told("compare", made.folder, made.folder, "--paired", recipe).splitlines()
    assert first.startswith(f"{made.folder} on val: accuracy ")
    assert f"{made.folder} less {made.folder}: +0.00 points (95 %: " in second
    assert second.endswith("right alone 0 and 0 times, McNemar's exact test p = 1")
    assert "name two or more" in refused("compare", made.folder, "--paired", recipe)


# --- predict


def test_predictions_are_a_table(made: Made, photos: Path) -> None:
    header, *lines = told("predict", made.folder, photos).splitlines()
    assert header.split() == ["file", "class", "probability"]
    assert [line.split()[:2] for line in lines] == [
        [str(photos / "1.png"), "red"],
        [str(photos / "10.png"), "blue"],
        [str(photos / "2.png"), "green"],
        [str(photos / "more/3.png"), "green"],
    ]


def test_predictions_are_csv(made: Made, photos: Path) -> None:
    text = told(
        "predict", made.folder / "model.safetensors", photos / "2.png", photos / "1.png", "--format", "csv"
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["file"], row["class"], row["index"]) for row in rows] == [
        (str(photos / "2.png"), "green", "1"),
        (str(photos / "1.png"), "red", "0"),
    ]
    assert all(1 / 3 < float(row["probability"]) <= 1 for row in rows)


def test_predictions_are_a_submission(made: Made, photos: Path) -> None:
    submission = ("predict", made.folder, photos, "--format", "submission")
    assert told(*submission) == "Id,Category\n1,red\n10,blue\n2,green\n3,green\n"
    result = command(*submission, "--indices", "--out", "answers.csv")
    assert result.exit_code == 0
    assert Path("answers.csv").read_text() == "Id,Category\n1,0\n10,2\n2,1\n3,1\n"
    assert "4 predictions are in answers.csv" in result.output


def test_predictions_of_a_model_that_began_from_external_weights_are_marked(made: Made, photos: Path) -> None:
    model = budgetnet.load(made.folder)
    model.card = replace(card(model), external="ImageNet\x1b[2J")
    budgetnet.save(model, "began.safetensors")
    result = command("predict", "began.safetensors", photos, "--format", "csv")
    assert result.exit_code == 0
    assert "note: not from scratch: it began from external weights, ImageNet\\x1b[2J" in result.stderr
    assert "external" not in result.stdout
    assert "external" not in command("predict", made.folder, photos).output


def test_predict_refuses_what_it_cannot_do(made: Made, photos: Path, here: Path) -> None:
    (here / "1.png").write_bytes((photos / "1.png").read_bytes())
    assert "have the same: give one of them" in refused(
        "predict", made.folder, photos, here / "1.png", "--format", "submission"
    )
    (here / "bad.png").write_text("not an image")
    assert "bad.png: not an image" in refused("predict", made.folder, here / "bad.png")
    assert "there is no image file or folder nowhere.png" in refused("predict", made.folder, "nowhere.png")
    assert "add --format submission" in refused("predict", made.folder, photos, "--indices")
    assert "cannot be written" in refused(
        "predict", made.folder, photos, "--format", "csv", "--out", here / "no" / "x.csv"
    )
    assert "there is no run and no model file" in refused("predict", "nothing-1", photos)
    (here / "runs").symlink_to(made.folder.parent)
    assert "did you mean 'runs/tiny-1'?" in refused("predict", "runs/tiny", photos)
    assert "did you mean 'tiny-1'?" in refused("run", made.recipe, "--resume", "tiny")
    assert "did you mean 'tiny-1'?" in refused("compare", "tiny-1", "tiny1")


# --- list, copy


def test_list_shows_recipes_and_runs(made: Made) -> None:
    (made.folder.parent / "broken-1").mkdir(exist_ok=True)
    (made.folder.parent / "broken-1" / "run.json").write_text("{")
    output = told("list", "--out", made.folder.parent)
    assert re.search(r"quickstart +Handwritten digits in under 50,000 parameters", output)
    lines = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.startswith("/")}
    assert lines[str(made.folder)][0] == "finished"
    assert f"{100 * made.run.result['val_accuracy']:.2f}" in lines[str(made.folder)]
    assert lines[str(made.folder.parent / "broken-1")] == ["unreadable"]
    assert "no runs in runs yet" in told("list")


def test_copy_writes_a_recipe_that_works_and_overwrites_nothing(here: Path) -> None:
    assert told("copy", "quickstart").startswith("quickstart.py: ")
    assert "42,938 of 50,000" in told("count", "quickstart.py")
    Path("quickstart.py").write_text("mine")
    assert "is there already, and is not overwritten" in refused("copy", "quickstart")
    assert Path("quickstart.py").read_text() == "mine"
    Path("folder").mkdir()
    told("copy", "quickstart", "folder")
    told("copy", "quickstart", "folder/other.py")
    assert Path("folder/quickstart.py").read_bytes() == Path("folder/other.py").read_bytes()
    assert "did you mean quickstart?" in refused("copy", "quickstrt")
    assert "cannot be written: No such file" in refused("copy", "quickstart", "no/where.py")


# --- preview


def test_preview_plots_and_writes_pictures(made: Made) -> None:
    output = told("preview", made.recipe)
    assert "learning rate\n    0.1│" in output
    assert "resolution in pixels\n     12│" in output
    names = ["phase-1-learn.png", "phase-2-fix-it.png", "schedule.png"]
    assert sorted(path.name for path in Path("preview/tiny").iterdir()) == names
    for name in names[:2]:
        with Image.open(Path("preview/tiny") / name) as grid:
            # The classes, a row of originals and six of views, eight images each, of 96 pixels.
            assert grid.size == (8 * 100 + 4, 7 * 100 + 4 + 20)
    told("preview", made.recipe, "--out", "pictures")
    assert (Path("pictures") / "schedule.png").read_bytes()[:4] == b"\x89PNG"


def test_preview_without_matplotlib_names_the_extra(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'budgetnet[report]'" in told("preview", made.recipe)
    assert Path("preview/tiny/phase-1-learn.png").exists()


def test_preview_without_the_data_shows_the_schedules(here: Path) -> None:
    text = HEAD + MODEL + "\ndef data() -> Data:\n    return stl10()\n" + RECIPE
    output = told("preview", written(here, text), "--data", here / "nothing")
    assert "no images are shown: " in output
    assert [path.name for path in Path("preview/tiny").iterdir()] == ["schedule.png"]


# --- pipes, terminals, signals


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["list"], ["count", "quickstart", "--json"], ["--help"]])
def test_a_closed_pipe_is_quiet(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    found = subprocess.run(
        started(*arguments), stdout=writer, stderr=subprocess.PIPE, text=True, env=alone(), check=False
    )
    os.close(writer)
    assert (found.returncode, found.stderr) == (1, "")


def waited(path: Path, process: "subprocess.Popen[str]", seconds: float = 60) -> None:
    """Wait until a running process has written `path`."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_ctrl_c_keeps_a_model_that_loads_and_exits_with_130(here: Path) -> None:
    recipe = written(here, TINY.replace("epochs=2", "epochs=100_000"))
    process = subprocess.Popen(
        started("run", recipe), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=alone()
    )
    waited(here / "runs/tiny-1/metrics.jsonl", process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "stopped\n"
    assert not ANSI.search(output)
    assert "learn 1/100000" in output
    assert Run.read("runs/tiny-1").status == "stopped"
    assert budgetnet.load("runs/tiny-1") is not None


def on_terminal(arguments: list[str], **variables: str) -> tuple[int, str]:
    """The exit code and all that a command writes to a terminal of 100 columns."""
    leader, follower = pty.openpty()
    environment = {**alone(), "TERM": "xterm-256color", "COLUMNS": "100", **variables}
    environment = {name: text for name, text in environment.items() if text or name != "NO_COLOR"}
    process = subprocess.Popen(arguments, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    seen = b""
    try:
        while block := os.read(leader, 1 << 16):
            seen += block
    except OSError:
        pass  # Linux says so when the other end is closed.
    os.close(leader)
    return process.wait(60), seen.decode()


@pytest.mark.slow
def test_a_terminal_gets_a_live_bar_and_no_color_takes_its_colours_away(here: Path) -> None:
    text = TINY.replace("count: int = 192", "count: int = 3_000").replace("epochs=2", "epochs=3")
    arguments = started("run", written(here, text))
    colours = re.compile(r"\x1b\[[0-9;]*[0-9]m")
    code, seen = on_terminal(arguments)
    assert code == 0
    assert re.search(r"learn 1/3 .* images/s .* left", seen)
    assert colours.search(seen.replace("\x1b[0m", ""))
    code, seen = on_terminal(arguments, NO_COLOR="1")
    assert code == 0
    assert re.search(r"learn 1/3 .* images/s .* left", seen)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", seen)


def test_a_runs_result_is_one_json_object(here: Path) -> None:
    recipe = written(here)
    said = json.loads(command("run", recipe, "--json").stdout)
    assert (said["run"], said["status"], said["epochs"]) == ("runs/tiny-1", "finished", said["planned"])
    assert "val_accuracy" in said["result"]
    result = command("run", recipe, "--seeds", 2, "--together", 1, "--out", "more", "--json")
    assert [run["seed"] for run in json.loads(result.stdout)["runs"]] == [0, 1]
    assert "--json is of a result" in refused("run", recipe, "--dry-run", "--json")


def test_every_command_is_quiet_or_says_more() -> None:
    for name, each in main.commands.items():  # type: ignore[attr-defined]
        named = [text for option in each.params for text in option.opts]
        assert named.count("-q") == named.count("-v") == 1, name
    assert "Traceback" in command("count", "nosuch.py", "-v").output
    assert "BUDGETNET_TRACEBACK" not in os.environ


def test_a_recipe_is_copied_into_a_folder_that_is_made_for_it(here: Path) -> None:
    told("copy", "quickstart", "new/deep/")
    assert (here / "new" / "deep" / "quickstart.py").is_file()
