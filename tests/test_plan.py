"""Plan: recipe files, the mistakes in them, and values set by their paths."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from budgetnet import ledger
from budgetnet.plan import PlanError, read_plan, recipes_folder, titles

GOOD = '''"""A tiny recipe.

More words.
"""
import torch
from budgetnet import Data, Phase, Recipe, arrays, models

def model(classes: int = 2):
    return models.convnet(classes, widths=(4,))

def data(count: int = 8) -> Data:
    return arrays(torch.zeros(count, 3, 8, 8, dtype=torch.uint8), torch.arange(count) % 2)

recipe = Recipe([Phase(epochs=1, resolution=8, lr=0.1)], batch_size=4)
'''


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(text)
    return path


def test_a_file_gives_its_three_parts(tmp_path: Path) -> None:
    plan = read_plan(file(tmp_path, GOOD))
    assert plan.title == "A tiny recipe."
    assert plan.name == "mine"
    assert len(plan.data().train) == 8
    assert plan.recipe.batch_size == 4


def test_the_seed_decides_the_first_weights_and_nothing_else(tmp_path: Path) -> None:
    plan = read_plan(file(tmp_path, GOOD))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = plan.model().state_dict(), plan.model().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = plan.changed("recipe.seed=5").model().state_dict()
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_values_are_set_by_their_paths(tmp_path: Path) -> None:
    plan = read_plan(file(tmp_path, GOOD))
    assert plan.changed("recipe.batch_size=2").recipe.batch_size == 2
    assert plan.changed("recipe.phases.0.lr = 0.5").recipe.phases[0].lr == 0.5
    assert len(plan.changed("data.count=4").data().train) == 4
    model = plan.changed("model.classes=7").model()
    assert list(model.parameters())[-1].shape == (7,)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("recipe.batchsize=2", "did you mean 'batch_size'"),
        ("batch_size=2", r"should read recipe\.batch_size=256"),
        ("recipe.batch_size", r"should read recipe\.batch_size=256"),
        ("data.cuont=2", r"data\(\) has no parameter 'cuont'; it takes count"),
        ("recipe.batch_size=many", "whole number of 1 or more, not 'many'"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        read_plan(file(tmp_path, GOOD)).changed(setting)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epochs=1", "epoch=1", r"mine\.py, line 14: TypeError: .*'epoch'"),
        ("epochs=1", "epochs=0", r"mine\.py, line 14: ValueError: Phase's epochs"),
        ("lr=0.1)]", "lr=0.1]", r"mine\.py, line 14: SyntaxError"),
        ("import Data,", "import Dat,", r"mine\.py, line 6: ImportError"),
        ("recipe =", "recip =", "has no recipe"),
        ("recipe = Recipe", "recipe = dict", r"line 14: TypeError"),
        ("def model(", "def modle(", "has no model"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(old: str, new: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=words):
        read_plan(file(tmp_path, GOOD.replace(old, new)))


def test_a_file_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_mine.py").write_text("count = 6\n")
    before = list(sys.path)
    text = GOOD.replace("import torch\n", "import torch\nimport beside_mine\n").replace(
        "= 8)", "= beside_mine.count)"
    )
    plan = read_plan(file(tmp_path, text))
    assert len(plan.data().train) == 6
    assert sys.path == before


def helped(folder: Path, count: int, helper: str = "helper_of_mine") -> Path:
    """A recipe file whose helper says how large its data are, when it is read and when they are made."""
    folder.mkdir(exist_ok=True)
    (folder / f"{helper}.py").write_text(f"count = {count}\n")
    text = GOOD.replace("import torch\n", f"import torch\nfrom {helper} import count\n")
    lazy = f"import {helper}\n    assert {helper}.count == count\n    "
    return file(
        folder, text.replace("= 8)", "= count)").replace("    return arrays", f"    {lazy}return arrays")
    )


def test_helpers_of_one_name_are_each_folders_own(tmp_path: Path) -> None:
    one, two = helped(tmp_path / "one", 6), helped(tmp_path / "two", 7)
    first, second = read_plan(one), read_plan(two)
    for _ in range(2):
        assert len(first.data().train) == 6
        assert len(second.data().train) == 7
    assert len(read_plan(one).data().train) == 6
    # And without one of its own a recipe gets none of the others'.
    three = helped(tmp_path / "three", 8)
    (tmp_path / "three" / "helper_of_mine.py").unlink()
    with pytest.raises(PlanError, match="No module named 'helper_of_mine'"):
        read_plan(three)


def test_a_helper_that_changed_is_read_again(tmp_path: Path) -> None:
    path = helped(tmp_path, 6)
    assert len(read_plan(path).data().train) == 6
    helped(tmp_path, 10)
    assert len(read_plan(path).data().train) == 10


def test_an_unchanged_helper_stays_the_same_module(tmp_path: Path) -> None:
    path = helped(tmp_path, 6)
    read_plan(path)
    module = sys.modules["helper_of_mine"]
    read_plan(path)
    assert sys.modules["helper_of_mine"] is module


def test_a_package_beside_a_recipe_is_its_own_whole(tmp_path: Path) -> None:
    plans = []
    for count in (6, 7):
        folder = tmp_path / str(count)
        (folder / "parts_of_mine").mkdir(parents=True)
        (folder / "parts_of_mine" / "__init__.py").write_text("")
        (folder / "parts_of_mine" / "sizes.py").write_text(f"count = {count}\n")
        lazy = "import parts_of_mine\n    from parts_of_mine.sizes import count\n    "
        text = GOOD.replace("= 8)", "= 0)").replace("    return arrays", f"    {lazy}return arrays")
        plans.append(read_plan(file(folder, text)))
    assert [len(plan.data().train) for plan in plans] == [6, 7]


@pytest.mark.parametrize("helper", ["random", "somebody_elses"])
def test_a_helper_by_the_name_of_what_is_imported_already_is_refused(
    helper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "somebody_elses.py").write_text("count = 5\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    importlib.import_module(helper)
    path = helped(tmp_path / "here", 6, helper)
    with pytest.raises(
        ValueError, match=f"imports {helper} from its own folder, .* another {helper}, from /.*"
    ):
        read_plan(path)
    sys.modules.pop("somebody_elses", None)


def test_what_the_functions_return_is_checked(tmp_path: Path) -> None:
    plan = read_plan(file(tmp_path, GOOD.replace("return models.convnet(classes, widths=(4,))", "return 5")))
    with pytest.raises(PlanError, match=r"model\(\) should return an nn.Module, and returned 5"):
        plan.model()
    plan = read_plan(file(tmp_path, GOOD.replace("return arrays", "return 1 / 0, arrays")))
    with pytest.raises(PlanError, match=r"mine\.py, line 12: data\(\) failed: ZeroDivisionError"):
        plan.data()


def test_a_name_that_is_not_there_gets_a_suggestion() -> None:
    with pytest.raises(PlanError, match="did you mean quickstart"):
        read_plan("quickstrat")
    with pytest.raises(PlanError, match=r"no recipe file absent\.py"):
        read_plan("absent.py")


def test_every_shipped_recipe_reads_and_builds_within_its_budget() -> None:
    assert set(titles()) == {path.stem for path in recipes_folder().glob("*.py")}
    for name, title in titles().items():
        plan = read_plan(name)
        assert plan.title == title
        plan.model()
        assert plan.recipe.scaled(0.01).phases


def test_fixres_is_seed_000s_network_under_two_million() -> None:
    for name in ("fixres_stl10", "fixres_stl10_seed"):
        assert sum(p.numel() for p in read_plan(name).model().parameters()) == 1_996_986


def test_the_light_fixres_writes_a_sixth_of_the_activations_and_keeps_the_rest() -> None:
    heavy, light = (read_plan(name) for name in ("fixres_stl10", "fixres_stl10_light"))
    written = []
    for plan in (heavy, light):
        model = plan.model()
        rows = [row for row in ledger(model, 70).rows if row.name]
        leaves = [row for row in rows if not list(model.get_submodule(row.name).children())]
        written.append(sum(row.activation_bytes or 0 for row in leaves))
    assert written[1] < written[0] / 6
    assert light.recipe.describe() == heavy.recipe.describe()
