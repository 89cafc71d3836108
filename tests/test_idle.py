"""Options that would do nothing are refused by name, and what one command asks holds in the next session."""

import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from budgetnet.cli import main
from budgetnet.run import Run

RECIPE = '''"""Three colours."""
import torch
from budgetnet import Budget, Cosine, Phase, Recipe, arrays, models

def model(width: int = 8):
    return Budget(params="10k").build(models.convnet, classes=3, widths=(width, 16))

def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(60) % 3
    return arrays(images[:48], labels[:48], val=(images[48:], labels[48:]), classes=("r", "g", "b"))

recipe = Recipe([Phase(40, 8, Cosine(0.05))], batch_size=24)
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, two runs of it, and an export of the first."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("mine.py").write_text(RECIPE)
        told("run", "mine.py", "--scale", "0.05", "--seeds", "2", "-q")
        told("export", "runs/mine-1", "mine.py", "--out", "m.onnx")
    return folder


@pytest.fixture(autouse=True)
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    for name in ("BUDGETNET_DATA", "BUDGETNET_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    photos = Path("photos")
    for k in range(12):
        path = photos / "ab"[k % 2] / f"p{k // 2}-{k}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (10 * k, 0, 0)).save(path)
    return made


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def told(*arguments: str) -> str:
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("compare mine-1 mine-2 --paired mine.py --ci --format csv", "--ci, --format would do nothing"),
        ("compare mine-1 mine-2 --split test --device nonsense", "--split, --device would do nothing"),
        ("check mine.py --groups p[ --size 8", "--size, --groups would do nothing"),
        ("check photos/ --set recipe.seed=1", "--set would do nothing"),
        ("check --policies --json", "--json would do nothing"),
        ("report runs/mine-1 runs/mine-2 --set a=1 --device cpu", "--set, --device would do nothing"),
        ("report runs/mine-1 --set garbage", "--set would do nothing"),
        ("count runs/mine-1 --set model.width=16", "--set would do nothing"),
        ("count runs/mine-1 --recipe mine.py --set model.width=16", "--set model.width=16 would do nothing"),
        ("count mine.py --summary --depth 1", "--depth would do nothing"),
        ("count mine.py --recipe nope.py", "--recipe would do nothing"),
        ("evaluate runs/mine-1 mine.py --set model.width=9", "--set model.width=9 would do nothing"),
        ("export runs/mine-1 mine.py --to pt2 --tolerate 3", "--tolerate would do nothing"),
        ("export runs/mine-1 --set garbage", "--set would do nothing"),
        ("new photos --label foo --name x", "--name, --label would do nothing"),
        ("evaluate m.onnx mine.py --resolutions 8,12", "an exported file takes images of one"),
        ("evaluate m.onnx mine.py --resolution 12", "takes images of 8 pixels, not 12"),
        ("count m.onnx", "does not tell its layers"),
        ("run photos.zip", "should be a recipe, which is a file of Python code"),
        *(
            (f"compress runs/mine-1 mine.py --bytes 20KB --set {text}", f"--set {text} would do nothing")
            for text in (
                "recipe.phases.0.epochs=7",
                "recipe.phases.0.lr=5",
                "recipe.optimizer.momentum=0.5",
                "model.width=4",
            )
        ),
    ],
)
def test_what_would_do_nothing_is_refused(typed: str, words: str) -> None:
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.writestr("__main__.py", "print('executed')")
    result = command(*typed.split())
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert "executed" not in result.output
    assert "Traceback" not in result.output


def test_a_program_in_a_file_of_another_kind_is_never_executed() -> None:
    with zipfile.ZipFile("evil.pt2", "w") as archive:
        archive.writestr("__main__.py", "print('executed')")
    for typed in (
        ("count", "evil.pt2"),
        ("run", "evil.pt2"),
        ("check", "evil.pt2"),
        ("evaluate", "evil.pt2", "mine.py"),
    ):
        result = command(*typed)
        assert result.exit_code == 2, result.output
        assert "executed" not in result.output


def test_a_paired_comparison_is_one_object() -> None:
    found = json.loads(told("compare", "mine-1", "mine-2", "--paired", "mine.py", "--json"))
    assert list(found["runs"]) == ["mine-1", "mine-2"]
    assert found["less"] == "mine-1"
    assert found["paired"]["mine-2"]["images"] == 12
    counts = [found["paired"]["mine-2"][name] for name in ("both", "first", "second", "neither")]
    assert sum(counts) == 12
    apart = found["runs"]["mine-2"]["accuracy"] - found["runs"]["mine-1"]["accuracy"]
    assert found["paired"]["mine-2"]["difference"] == pytest.approx(apart)
    assert "McNemar" in told("compare", "mine-1", "mine-2", "--paired", "mine.py")


def test_what_compress_takes_from_the_recipe_can_be_set() -> None:
    told(
        *("compress", "runs/mine-1", "mine.py", "--bytes", "20KB", "--epochs", "1", "--name", "small"),
        *("--set", "recipe.batch_size=12"),
    )
    assert Run.read(Path("runs/small-1")).history[0].steps == 4


def test_verbose_shows_more_and_changes_no_code() -> None:
    plain, verbose = (command("run", "mine.py", "--set", "recipe.foo=1", *more) for more in ((), ("-v",)))
    assert plain.exit_code == verbose.exit_code == 2
    assert "Traceback" not in plain.output
    assert "Traceback" in verbose.output
    assert verbose.output.strip().endswith(plain.output.strip())


def test_a_dry_run_of_folds_looks_at_the_folds() -> None:
    assert "40 training, 20 validation" in told("run", "mine.py", "--folds", "3", "--dry-run")
    result = command("run", "mine.py", "--folds", "61", "--dry-run")
    assert result.exit_code == 2
    assert "for 61 folds" in result.output


@pytest.mark.parametrize("first", [("--scale", "0.05"), ("--within", "1000h")])
def test_seeds_go_on_as_they_were_begun(
    first: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(RECIPE)
    begun = command("run", "mine.py", "--seeds", "2", "--max-time", "0.001s", "-q", *first)
    assert begun.exit_code == 75, begun.output
    scale = Run.read(Path("runs/mine-1")).record["scale"]
    again = command("run", "mine.py", "--seeds", "2", "--resume", "--max-time", "0.001s", "-q")
    assert again.exit_code == 75, again.output
    if "--scale" in first:
        told("run", "mine.py", "--seeds", "2", "--resume", "-q")
        runs = [Run.read(path.parent) for path in sorted(Path("runs").glob("*/run.json"))]
        assert [run.record["scale"] for run in runs] == [0.05, 0.05]
        assert [len(run.history) for run in runs] == [2, 2]
        assert {run.record["seed"] for run in runs} == {0, 1}
    else:
        other = command("run", "mine.py", "--seeds", "2", "--resume", "--within", "999h")
        assert other.exit_code == 2, other.output
        assert "was begun to end within" in other.output
        assert scale == 1.0


def test_a_shipped_recipe_is_known_by_its_name_wherever_it_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from budgetnet.plan import read_plan, recipes_folder

    monkeypatch.chdir(recipes_folder().parent)
    assert read_plan("quickstart").record()["recipe_file"] == "quickstart.py"
    monkeypatch.chdir("/")
    assert read_plan("quickstart").record()["recipe_file"] == "quickstart.py"
