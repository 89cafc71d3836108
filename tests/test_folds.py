"""Runs over folds: each image is held out once, the figures are one group, predictions are out of fold."""

import csv
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from budgetnet import Trainer, compare, read_plan
from budgetnet.cli import main
from budgetnet.run import Run
from budgetnet.sweep import OutOfFold, out_of_fold, seeds

RECIPE = '''"""Two colours."""
import torch
from budgetnet import Cosine, Phase, Recipe, arrays, models

def model():
    return models.convnet(2, widths=(8,))

def data():
    labels = torch.arange(24) % 2
    noise = torch.randint(0, 60, (24, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    images = (noise + 150 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    return arrays(images, labels, held_out=0.25, classes=["a", "b"])

recipe = Recipe([Phase(epochs=3, resolution=8, lr=Cosine(0.05))], batch_size=8)
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(RECIPE)
    return tmp_path


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


def test_folds_are_trained_shown_written_and_one_group_in_compare() -> None:
    result = command("run", "mine.py", "--folds", "3", "--seeds", "2")
    assert result.exit_code == 0, result.output
    assert "n = 6" in result.output
    assert "out of fold" in result.output
    rows = list(csv.DictReader(Path("runs/mine-1-out-of-fold.csv").read_text().splitlines()))
    assert len({row["image"] for row in rows}) == len(rows) == 24
    assert [row["fold"] for row in rows] == ["1"] * 8 + ["2"] * 8 + ["3"] * 8
    for row in rows:
        assert float(row["a"]) + float(row["b"]) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == ("a" if float(row["a"]) > float(row["b"]) else "b")
        assert row["label"] == "ab"[int(row["image"]) % 2]
    runs = sorted(Path("runs").glob("mine-*/run.json"))
    record = json.loads(runs[0].read_text())
    assert (record["fold"]["at"], record["fold"]["of"]) == (0, 3)
    assert record["data"]["images"] == {"train": 16, "val": 8}
    together = compare.compare([path.parent for path in runs])
    assert len(together.groups) == 1
    assert not [note for note in together.notes if "not the same" in note or "counts" in note]
    again = command("run", "mine.py", "--folds", "3", "--seeds", "2", "--resume")
    assert again.exit_code == 0
    assert again.output.count("finished already") == 6
    assert "8 images" in command("evaluate", "runs/mine-1", "mine.py").output
    alone = command("run", "mine.py")
    assert alone.exit_code == 0
    letters = compare.compare([*(path.parent for path in runs), "runs/mine-7"]).groups
    assert len(letters) == 2


def test_an_interrupted_fold_goes_on_as_that_fold() -> None:
    paused = command("run", "mine.py", "--folds", "2", "--max-time", "0.05")
    assert paused.exit_code == 75, paused.output
    alone = command("run", "mine.py", "--resume", "runs/mine-1")
    assert alone.exit_code == 0, alone.output
    rest = command("run", "mine.py", "--folds", "2", "--resume")
    assert rest.exit_code == 0, rest.output
    assert "fold 1: finished already" in rest.output
    folds = [Run.read(Path("runs") / name).record["fold"]["at"] for name in ("mine-1", "mine-2")]
    assert folds == [0, 1]


def test_folds_in_python_one_by_one_and_in_processes_are_the_same(tmp_path: Path) -> None:
    plan = read_plan("mine.py")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = seeds(Trainer("cpu", out=tmp_path / "a", show=False), plan, 1, folds=2)
    finally:
        torch.set_num_threads(threads)
    outside = out_of_fold(Trainer("cpu", show=False), plan, one)
    assert outside.probabilities.shape == (24, 2)
    assert outside.accuracy == outside.right / 24
    assert {run.record["fold"]["at"] for run in one} == {0, 1}
    with pytest.raises(ValueError, match="takes finished runs of folds, and there are none"):
        out_of_fold(Trainer("cpu", show=False), plan, [])
    again = plan.replayed(plan.folded(1, 2).changed("recipe.seed=3").changes)
    assert (again.fold, again.recipe.seed) == ((1, 2), 3)
    assert len(again.data().val or ()) == 12


def test_classes_called_like_columns_and_formulas_stay_apart_in_the_file(tmp_path: Path) -> None:
    classes = ("=1+2", "image", "fold", "p_fold")
    outside = OutOfFold(classes, ("@x.png", "b.png"), (0, 1), torch.tensor([0, 2]), torch.eye(4)[[0, 2]])
    outside.write(tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_text().splitlines() == [
        "image,fold,label,predicted,'=1+2,p_image,p_p_fold,p_fold",
        "./@x.png,1,'=1+2,'=1+2,1.000000,0.000000,0.000000,0.000000",
        "b.png,2,fold,fold,0.000000,0.000000,1.000000,0.000000",
    ]
    said = "'@x.png' (and 1 more like it) would be a formula to a spreadsheet, and is written with ./ or '"
    assert [note.startswith(said) for note in outside.notes] == [True]


@pytest.mark.slow
def test_folds_in_processes_of_their_own(tmp_path: Path) -> None:
    result = command("run", "mine.py", "--folds", "3", "--together", "2")
    assert result.exit_code == 0, result.output
    assert sorted(Run.read(path.parent).record["fold"]["at"] for path in Path("runs").glob("*/run.json")) == [
        0,
        1,
        2,
    ]
    assert Path("runs/mine-1-out-of-fold.csv").is_file()


def test_a_model_of_a_fold_is_measured_on_what_it_held_out() -> None:
    built = 'Budget("10k").build(models.convnet, classes=2, widths=(8,))'
    text = RECIPE.replace("models.convnet(2, widths=(8,))", built).replace(
        "import Cosine", "import Budget, Cosine"
    )
    Path("mine.py").write_text(text)
    assert command("run", "mine.py", "--folds", "3").exit_code == 0
    both = command("evaluate", "mine-1", "mine.py", "--with", "mine-2")
    assert " on 8 images" in both.output
    known = "these val images are not those of mine-2: 8 of the 8 were trained on, and the figures flatter"
    assert f"note: {known}" in both.output.replace("\n", " ")
    alone = command("evaluate", "mine-1", "mine.py")
    assert "trained on" not in alone.output
    paired = command("compare", "mine-1", "mine-2", "--paired", "mine.py")
    assert paired.output.splitlines()[0] == f"note: {known}"
    assert " on 8 images" in paired.output
    shown = command("report", "mine-1", "--recipe", "mine.py")
    assert shown.exit_code == 0, shown.output
    smaller = command("compress", "mine-1", "mine.py", "--bytes", "12KB", "--epochs", "1")
    assert smaller.exit_code == 0, smaller.output
    first, second = (Run.read(Path("runs") / name).record["data"] for name in ("mine-1", "mine_12kb-1"))
    assert first["fingerprints"] == second["fingerprints"]
    exported = command("export", "mine-1", "mine.py", "--to", "pt2")
    assert exported.exit_code == 0, exported.output
    assert exported.output.startswith("8 val images")


def test_out_of_fold_refuses_models_that_may_know_the_images(tmp_path: Path) -> None:
    plan, trainer = read_plan("mine.py"), Trainer("cpu", out=None, show=False)
    two, three = (seeds(trainer, plan, 1, folds=count) for count in (2, 3))
    for mixed in (two + three, three + two):
        with pytest.raises(ValueError, match="takes runs of one set of folds"):
            out_of_fold(trainer, plan, mixed)
    Path("other.py").write_text(RECIPE.replace("torch.arange(24) % 2", "1 - torch.arange(24) % 2"))
    with pytest.raises(ValueError, match="and one is of others than the 2 of these data"):
        out_of_fold(trainer, read_plan("other.py"), two)
    assert len(out_of_fold(trainer, plan, two).labels) == 24
