"""One's own photos in one command: what the recipe `photos` finds and trains, and what `new` writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from budgetnet.cli import main
from budgetnet.data import DataError, look
from budgetnet.plan import read_plan

RNG = np.random.default_rng(0)


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


def right(*arguments: str) -> str:
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `pics` with photos of three classes, one of which is rare."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BUDGETNET_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, count in (("ant", 20), ("bee", 10), ("wasp", 2)):
        make(name, count, (40, 50, 3))
    return tmp_path


def make(name: str, count: int, shape: tuple[int, ...], root: str = "pics") -> None:
    for number in range(count):
        path = Path(root, name, f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(256, size=shape, dtype=np.uint8)).save(path)


def fitted(root: str) -> dict[str, Any]:
    plan = read_plan("photos").changed(f"data.root={root!r}").fit()
    return dict(text.split("=", 1) for text in plan.fitted)


@pytest.mark.usefixtures("here")
def test_a_look_reads_headers_alone() -> None:
    found = look("pics")
    assert (found.classes, found.counts) == (("ant", "bee", "wasp"), (20, 10, 2))
    assert (found.side, found.grey, found.parts) == (40, False, {"train": 32})
    assert str(found) == "32 train; 3 classes, 2 to 20 each; 40 pixels high or wide"
    for path in Path("pics").rglob("*.png"):
        path.write_text("<html>")
    with pytest.raises(DataError, match="can be read: see `budgetnet check`"):
        look("pics")


@pytest.mark.usefixtures("here")
def test_the_recipe_suits_sizes_colours_numbers_and_imbalance() -> None:
    found = fitted("pics")
    assert found["model.classes"] == "3"
    assert found["data.size"] == found["recipe.phases.0.test.crop"] == "40"
    assert found["recipe.loss.weights"] == "'balanced'"
    for name in ("ant", "bee"):
        make(name, 4, (300, 200), "grey")
    grey = fitted("grey")
    assert grey["data.channels"] == grey["model.channels"] == "1"
    assert (grey["data.size"], grey["recipe.phases.0.resolution.last"], grey["model.stride"]) == (
        "96",
        "64",
        "2",
    )
    assert "recipe.loss.weights" not in grey
    passes = [
        int(grey[f"recipe.phases.{at}.epochs"]) * int(grey[f"recipe.phases.{at}.views"]) for at in (0, 1)
    ]
    assert 900 < sum(passes) * 8 / 128 < 1100
    assert passes[0] == pytest.approx(2 * passes[1], rel=0.05)
    assert grey["recipe.phases.1.resolution"] == "64"


def test_run_photos_trains_pauses_and_goes_on_with_what_it_found(here: Path) -> None:
    short = ["run", "photos", "--data", "pics", "--budget", "20k", "--scale", "0.01"]
    paused = command(*short, "--max-time", "0.000001")
    assert paused.exit_code == 75, paused.output
    assert "as the data ask: model.classes=3" in paused.output
    record = json.loads((here / "runs/photos-1/run.json").read_text())
    assert "model.classes=3" in record["fitted"]
    assert record["settings"] == ["model.budget=20k"]
    assert 10_000 < record["model"]["parameters"] <= 20_000
    make("moth", 3, (9, 9, 3))
    changed = command("run", "photos", "--data", "pics", "--resume")
    assert changed.exit_code == 2
    assert "data" in changed.stderr
    for path in Path("pics/moth").iterdir():
        path.unlink()
    Path("pics/moth").rmdir()
    whole = right("run", "photos", "--data", "pics", "--resume")
    assert "validation" in whole
    assert len(list(Path("runs").iterdir())) == 1
    assert "balanced accuracy" in right("evaluate", "runs/photos-1", "photos", "--data", "pics")


@pytest.mark.usefixtures("here")
def test_new_writes_what_run_photos_would_do_and_overwrites_nothing() -> None:
    assert "32 train; 3 classes" in right("new", "pics", "--budget", "20k")
    text = Path("pics.py").read_text()
    assert text.startswith('"""pics: 32 train; 3 classes')
    assert 'ROOT: str | Path | None = "pics"' in text
    assert "settings(" not in text
    mine, theirs = read_plan("pics.py"), read_plan("photos").changed("data.root='pics'").fit()
    assert mine.recipe == theirs.recipe
    assert mine.model().built.kwargs == theirs.changed("model.budget=20k").model().built.kwargs
    assert len(mine.data().train) == 26
    again = command("new", "pics")
    assert again.exit_code == 2
    assert "is there already, and is not overwritten" in again.stderr
    assert command("new", "pics", "--budget", "much").exit_code == 2
    assert "is not there" in command("new", "nowhere").stderr


@pytest.mark.usefixtures("here")
def test_run_of_a_folder_says_what_to_type() -> None:
    result = command("run", "pics")
    assert result.exit_code == 2
    assert "`budgetnet run photos --data pics` trains on the photos in it" in result.stderr
    assert "model() has no parameter 'budget'" in command("run", "quickstart", "--budget", "1M").stderr


@pytest.mark.usefixtures("here")
def test_settings_of_a_recipe_of_ones_own_are_refused_where_they_are_no_settings() -> None:
    source = Path(read_plan("quickstart").path).read_text()
    Path("mine.py").write_text(
        source + "\n\ndef settings(held_out=0.2):\n    return {'recipe.batch_size': 32}\n"
    )
    assert read_plan("mine.py").fit().recipe.batch_size == 32
    Path("mine.py").write_text(source + "\n\ndef settings():\n    return 3\n")
    assert "settings() should return a dictionary" in command("count", "mine.py").stderr


@pytest.mark.usefixtures("here")
def test_a_table_of_labels_stands_for_the_folder() -> None:
    rows = [
        f"{path.relative_to('pics')},{path.parent.name},7" for path in sorted(Path("pics").rglob("*.png"))
    ]
    Path("train.csv").write_text("\n".join(["file,kind,age", *rows]))
    assert look("train.csv", images="pics", name="file", label="kind").counts == look("pics").counts
    right("new", "train.csv", "--images", "pics", "--name", "file", "--label", "kind", "--out", "mine.py")
    plan = read_plan("mine.py")
    assert plan.data().classes == ("ant", "bee", "wasp")
    columns = ("data.images=pics", "data.name=file", "data.label=kind")
    shipped = read_plan("photos").changed("data.root=train.csv")
    for text in columns:
        shipped = shipped.changed(text)
    assert repr(shipped.fit().recipe) == repr(plan.recipe)
