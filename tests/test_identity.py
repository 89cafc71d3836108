"""What computes otherwise is described otherwise, and the same is described alike wherever it is met."""

import functools
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from budgetnet import SGD, Adam, Distill, Phase, Recipe
from budgetnet.identity import UNKNOWN, described_value, modules_of, sources, told
from budgetnet.identity.source import commit


def smoothed(smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=smoothing)


def with_default(logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


class Warm:
    """A schedule with a private attribute."""

    def __init__(self, peak: float) -> None:
        self._peak = peak

    def __call__(self, t: float) -> float:
        return self._peak * t

    def squared(self, t: float) -> float:
        return self._peak * t * t


class Slotted:
    __slots__ = ("peak",)

    def __init__(self, peak: float) -> None:
        self.peak = peak

    def __call__(self, t: float) -> float:
        return self.peak


@dataclass(frozen=True)
class Shift:
    by: float
    how: Callable[[float], float] = math.floor

    def __call__(self, images: Tensor) -> Tensor:
        return images + self.how(self.by)


class Focal(nn.Module):
    def __init__(self, gamma: float, weight: Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.inner = nn.CrossEntropyLoss(weight, reduction="none")

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return (self.inner(logits, labels) ** self.gamma).mean()


def linear(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(2, 3)


PAIRS: dict[str, tuple[Any, Any]] = {
    "an attribute of torch's loss": (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.5)),
    "how a loss is reduced": (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum")),
    "weights of classes": (
        nn.CrossEntropyLoss(torch.ones(3)),
        nn.CrossEntropyLoss(torch.tensor([1.0, 1, 2])),
    ),
    "lambdas": (lambda t: 0.1, lambda t: 0.9),
    "what a lambda calls": (lambda p: SGD()([*p]), lambda p: Adam()([*p])),
    "a closure": (smoothed(0.1), smoothed(0.2)),
    "partial arguments": (functools.partial(with_default, smoothing=0.3), functools.partial(with_default)),
    "positional partial arguments": (functools.partial(torch.add, 1), functools.partial(torch.add, 2)),
    "a private attribute": (Warm(0.1), Warm(0.2)),
    "a slot": (Slotted(0.1), Slotted(0.2)),
    "whose method it is": (Warm(0.1).squared, Warm(0.2).squared),
    "which method it is": (Warm(0.1).squared, Warm(0.1).__call__),
    "a field": (Shift(1.0), Shift(2.0)),
    "a function in a field": (Shift(1.0), Shift(1.0, math.ceil)),
    "an attribute of a module": (Focal(1.0), Focal(2.0)),
    "a part of a module": (Focal(1.0), Focal(1.0, torch.ones(3))),
    "weights": (linear(0), linear(1)),
    "weights of a teacher": (Distill(linear(0)), Distill(linear(1))),
    "arguments of a torchvision step": (v2.RandomErasing(0.1), v2.RandomErasing(0.2)),
    "a step in a torchvision step": (
        v2.Compose([v2.Lambda(lambda x: x)]),
        v2.Compose([v2.Lambda(lambda x: 1 - x)]),
    ),
    "the order of steps": ([v2.Grayscale(), v2.RandomErasing()], [v2.RandomErasing(), v2.Grayscale()]),
    "tensors": (torch.zeros(3), torch.ones(3)),
    "types of tensors": (torch.zeros(4, dtype=torch.int32), torch.zeros(4)),
    "arrays": (torch.zeros(3).numpy(), torch.ones(3).numpy()),
    "long arrays": (torch.arange(5000).numpy(), torch.arange(5000).flip(0).numpy()),
    "generators": (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
    "distributions": (torch.distributions.Beta(0.2, 0.2), torch.distributions.Beta(0.2, 0.4)),
    "built-in functions": (torch.relu, torch.tanh),
    "classes": (Warm, Slotted),
    "bytes": (b"a", b"b"),
    "what a library wraps": (torch.no_grad()(smoothed(0.1)), torch.no_grad()(smoothed(0.2))),
    "what is kept of calls": (functools.lru_cache(math.sin), functools.lru_cache(math.cos)),
    "what is compiled": (torch.compile(smoothed(0.1)), torch.compile(smoothed(0.2))),
    "modules that are compiled": (torch.compile(linear(0)), torch.compile(linear(1))),
    "long lists": (list(range(5000)), list(range(5000, 0, -1))),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_computes_otherwise_is_described_otherwise(name: str) -> None:
    one, other = PAIRS[name]
    assert json.loads(json.dumps(described_value(one))) != described_value(other)
    assert described_value(one) == described_value(one)
    assert told(one) != told(other)


def of(text: str, name: str = "f") -> Any:
    """What is called `name` in a module of this text, as a file's would be."""
    path = Path(f"part{len(list(Path().iterdir()))}.py").absolute()
    path.write_text(text)
    names: dict[str, Any] = {"__name__": "part"}
    exec(compile(text, str(path), "exec"), names)
    return names[name]


EDITS: dict[str, tuple[str, str]] = {
    "a function": ("def f(t): return t", "def f(t): return 2 * t"),
    "a global that it reads": ("A = 1\ndef f(t): return A * t", "A = 2\ndef f(t): return A * t"),
    "a function that it calls": (
        "def g(t): return t\ndef f(t): return g(t)",
        "def g(t): return -t\ndef f(t): return g(t)",
    ),
    "what that one calls": (
        "B = [1]\ndef h(t): return B\ndef g(t): return h(t)\ndef f(t): return g(t)",
        "B = [2]\ndef h(t): return B\ndef g(t): return h(t)\ndef f(t): return g(t)",
    ),
    "a default": ("def f(t, k=1): return k", "def f(t, k=2): return k"),
    "a keyword's default": ("def f(t, *, k=1): return k", "def f(t, *, k=2): return k"),
    "a default that is a global's value": (
        "A = 1\ndef f(t, k=A): return k",
        "A = 2\ndef f(t, k=A): return k",
    ),
    "a method": (
        "class C:\n def __call__(self, t): return t\nf = C()",
        "class C:\n def __call__(self, t): return -t\nf = C()",
    ),
    "a method of its base": (
        "class B:\n def of(self, t): return t\nclass C(B): pass\nf = C().of",
        "class B:\n def of(self, t): return -t\nclass C(B): pass\nf = C().of",
    ),
    "an attribute of its class": ("class f:\n peak = 1", "class f:\n peak = 2"),
    "a property": (
        "class C:\n @property\n def lr(self): return 1\nf = C()",
        "class C:\n @property\n def lr(self): return 2\nf = C()",
    ),
    "a static method": (
        "class C:\n @staticmethod\n def lr(): return 1\nf = C()",
        "class C:\n @staticmethod\n def lr(): return 2\nf = C()",
    ),
    "a lambda beside another": (
        "f, g = lambda t: 1, lambda t: 2",
        "f, g = lambda t: 3, lambda t: 2",
    ),
    "a number that it changes": (
        "N = 1\ndef f(t):\n global N\n N *= 2\n return N",
        "N = 3\ndef f(t):\n global N\n N *= 2\n return N",
    ),
    "which module a name stands for": (
        "import math as m\ndef f(t): return m.exp(t)",
        "import cmath as m\ndef f(t): return m.exp(t)",
    ),
    "an attribute of the function": (
        "def f(t): return f.scale * t\nf.scale = 1",
        "def f(t): return f.scale * t\nf.scale = 2",
    ),
    "a method put in its place later": (
        "class C:\n def lr(self): return 1\nf = C()",
        "class C:\n def lr(self): return 1\nC.lr = lambda self: 2\nf = C()",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_what_a_function_does_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, after = EDITS[name]
    assert described_value(of(before)) != described_value(of(after))
    assert described_value(of(before)) == described_value(of(before))


SAME: dict[str, tuple[str, str]] = {
    "comments and blank lines": ("def f(t):\n    return t", "# why\n\ndef f(t):\n    # so\n    return t"),
    "a docstring": ("def f(t):\n    return t", 'def f(t):\n    """Same."""\n    return t'),
    "blanks and brackets": ("f = lambda t: 1+t", "f = (lambda t:  (1 + t))"),
    "another function beside it": ("def f(t): return t", "def g(t): return 1\ndef f(t): return t"),
    "annotations": ("def f(t): return t", "def f(t: float) -> float: return t"),
}


@pytest.mark.parametrize("name", SAME)
def test_an_edit_that_changes_nothing_does_not_show(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, after = SAME[name]
    assert described_value(of(before)) == described_value(of(after))


def test_two_lambdas_in_one_line_are_told_apart() -> None:
    first, second, third = (lambda t: 1, lambda t: 2, lambda t: lambda s: t + s)
    codes = [described_value(f)["code"] for f in (first, second, third, third(1))]
    assert codes == ["lambda t: 1", "lambda t: 2", "lambda t: lambda s: t + s", "lambda s: t + s"]


def test_what_has_no_source_is_unknown_and_equal_to_itself_alone() -> None:
    names: dict[str, Any] = {}
    exec("def f(t): return t\ndef g(t): return t", names)
    described = described_value(names["f"])
    assert described["code"].startswith(UNKNOWN)
    assert described == described_value(names["f"])
    assert described != described_value(names["g"])
    exec("def f(t): return t", names)
    assert described != described_value(names["f"])


def test_a_file_edited_after_it_was_read_says_nothing_of_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loss = of("def f(t): return t")
    (path,) = tmp_path.iterdir()
    path.write_text("def f(t): return 2 * t")
    assert described_value(loss)["code"].startswith(UNKNOWN)


def test_calls_leave_nothing_in_the_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = """
LOG, CACHE = [], {}
class C:
    def __init__(self): self.calls, self._kept, self.rate = 0, None, 0.5
    def __call__(self, t):
        self.calls += 1
        self.keep(t)
        LOG.append(t)
        CACHE[t] = t
        return g(t)
    def keep(self, t): self._kept = t
    def set(self, rate): self.rate = rate
def g(t, cache={}):
    cache[t] = t
    g.calls += 1
    return t
g.calls = 0
f = C()
"""
    step = of(text)
    before = described_value(step)
    step(1)
    assert described_value(step) == before
    step.set(0.9)
    assert described_value(step) != before


def test_what_is_set_between_two_trainings_shows() -> None:
    config = SimpleNamespace(alpha=0.1)
    options = {"alpha": 0.1}
    losses = [lambda x: config.alpha * x, lambda x: options["alpha"] * x, Warm(0.1), nn.CrossEntropyLoss()]
    before = [described_value(loss) for loss in losses]
    config.alpha = options["alpha"] = 0.9
    losses[2]._peak, losses[3].label_smoothing = 0.2, 0.5  # type: ignore[attr-defined]
    assert all(one != described_value(loss) for one, loss in zip(before, losses))


def test_places_and_environments_are_no_part_of_a_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
from os import environ
from pathlib import Path
HERE = Path(__file__).parent
def f(t): return HERE, __file__, environ["PATH"]
"""
    found = []
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        path = Path("mine.py").absolute()
        path.write_text(text)
        names: dict[str, Any] = {"__name__": "mine", "__file__": str(path)}
        exec(compile(text, str(path), "exec"), names)
        found.append(described_value(names["f"]))
    assert found[0] == found[1]
    assert str(tmp_path) not in json.dumps(found)


def test_circles_come_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    described = described_value(of("def g(t): return f(t)\ndef f(t): return g(t) if t else [f, g]"))
    assert "again" in json.dumps(described)
    held: list[Any] = []
    held.append(held)
    assert described_value(held) == ["list again"]


def test_functions_that_use_one_another_are_each_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["def f0(t): return t"]
    lines += [f"def f{n}(t): return f{n - 1}(t) + f{n - 1}(-t) + f{max(0, n - 2)}(0)" for n in range(1, 20)]
    described = described_value(of("\n".join(lines), "f19"))
    assert len(json.dumps(described)) < 10_000
    assert described != described_value(of("\n".join(["def f0(t): return 1", *lines[1:]]), "f19"))


def test_the_model_that_learns_is_no_part_of_what_reads_it() -> None:
    model = nn.Linear(2, 3)
    recipe = Recipe([Phase(1, 8, 0.1)], loss=lambda x, y: F.cross_entropy(x, y) + model.weight.norm())
    before = recipe.describe(model=model)
    with torch.no_grad():
        model.weight += 1
    assert recipe.describe(model=model) == before
    assert before["loss"]["closure"]["model"] == "Linear of the model"


def test_what_cannot_be_looked_at_is_unknown() -> None:
    class Shy:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        @property
        def __dict__(self) -> Any:
            raise RuntimeError

    assert described_value(Shy()).startswith(UNKNOWN)


RECIPE = '''"""Told apart."""
import parts
from torch import nn
from budgetnet import Budget, Phase, Recipe, digits, models
class Net(nn.Module):
    def forward(self, x): return parts.double(x)
def model(): return Budget(params="10k").build(models.convnet, classes=10)
def data(): return digits()
def loss(logits, labels): return parts.double(nn.functional.cross_entropy(logits, labels))
recipe = Recipe([Phase(1, 8, lr=lambda t: 0.1 * (1 - t))], loss=loss, optimizer=lambda p: parts.sgd(p))
'''
PARTS = """import torch
SCALE = {"b": 1, "a": {3, 2, 1}}
def double(x): return x * SCALE["b"]
def sgd(parameters): return torch.optim.SGD(parameters, 0.1)
"""
PRINTED = """import json, sys
from budgetnet import read_plan
from budgetnet.identity import modules_of
plan = read_plan(sys.argv[1])
print(json.dumps([plan.describe(), plan.record(), modules_of(plan.make_model.__globals__["Net"]())]))
"""


@pytest.mark.slow
def test_a_recipe_is_described_alike_in_every_process_and_place(tmp_path: Path) -> None:
    found = []
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "mine.py").write_text(RECIPE)
        (tmp_path / place / "parts.py").write_text(PARTS)
        for path in (Path(place) / "mine.py", tmp_path / place / "mine.py"):
            done = subprocess.run(
                [sys.executable, "-c", PRINTED, str(path)],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
            )
            described, record, modules = json.loads(done.stdout)
            assert sorted(record["source"]) == ["mine.py", "parts.py"]
            assert UNKNOWN not in done.stdout
            assert str(tmp_path) not in done.stdout
            found.append((described, record["code"], record["source"], modules))
    assert found.count(found[0]) == 4


def test_a_models_code_is_told_once_for_each_class() -> None:
    modules, code = modules_of(nn.Sequential(Focal(1.0), Focal(2.0), nn.ReLU()))
    assert list(code) == ["Focal"]
    assert modules["2"] == {"class": "ReLU", "inplace": False}
    assert (modules["0"]["gamma"], modules["1"]["gamma"]) == (1.0, 2.0)


def test_what_a_recipe_imports_beside_itself_is_its_source(tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    for name, text in {
        "mine.py": "import kit.deep\nimport torch\ndef f():\n    from late import x",
        "kit/__init__.py": "",
        "kit/deep.py": "from . import other\nfrom .third import y",
        "kit/other.py": "z = 1",
        "kit/third.py": "y = 1",
        "late.py": "x = 1",
        "unused.py": "",
    }.items():
        (tmp_path / name).write_text(text)
    found = sources(tmp_path / "mine.py")
    assert sorted(found) == ["kit.deep.py", "kit.other.py", "kit.third.py", "late.py", "mine.py"]


def test_the_commit_is_told_where_there_is_one(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.py"
    recipe.write_text("A = 1")
    assert commit(recipe) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    try:
        subprocess.run([*git, "init", "-q"], check=True, capture_output=True)
    except OSError:
        pytest.skip("git is not installed")
    assert commit(recipe) is None  # nothing is committed yet
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a"], check=True, capture_output=True)
    found = commit(recipe)
    assert found is not None
    assert (len(found["id"]), found["clean"]) == (40, False)  # the recipe is no part of it
    subprocess.run([*git, "add", "mine.py"], check=True, capture_output=True)
    subprocess.run([*git, "commit", "-q", "-m", "b"], check=True, capture_output=True)
    assert (commit(recipe) or {})["clean"] is True
    recipe.write_text("A = 2")
    assert (commit(recipe) or {})["clean"] is False


def test_the_case_of_the_issue() -> None:
    def recipe(**options: Any) -> Any:
        phase = Phase(epochs=1, resolution=8, lr=options.pop("lr", 0.1))
        return Recipe([phase], **options).describe()

    assert recipe(loss=nn.CrossEntropyLoss()) != recipe(loss=nn.CrossEntropyLoss(label_smoothing=0.5))
    assert recipe(lr=lambda t: 0.1) != recipe(lr=lambda t: 0.9)
    assert recipe(optimizer=lambda p: SGD()([*p])) != recipe(optimizer=lambda p: Adam()([*p]))


def test_a_dataclass_of_the_users_is_told_whole_with_what_python_generates_for_it() -> None:
    described = json.dumps(described_value(Shift(3)))
    assert UNKNOWN not in described
    assert "__repr__" not in described
    assert described_value(Shift(3)) != described_value(Shift(4))
