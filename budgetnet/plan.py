"""Plan: a recipe file as its three parts, model(), data() and recipe, and values set by their paths."""

import ast
import difflib
import inspect
import runpy
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from budgetnet.data import Data
from budgetnet.identity import RECIPE_FILE, commit, described_value, digests, sources, told
from budgetnet.process import beside, shipped
from budgetnet.recipe import Recipe

_SCALE, _FOLD = "scale=", "fold="
_LONGEST_SETTING = 1000


class PlanError(ValueError):
    """A recipe file that cannot be used: which, where in it, and why."""


@dataclass(frozen=True)
class Plan:
    """What a recipe file holds. Making it runs the file, which builds nothing and downloads nothing.

    `source` are the texts of the file and of what it imports beside itself, by name. `changes` are what was
    changed in it since, in order: settings as `changed` takes them, and "scale=0.5". `make_settings` is the
    file's settings(), where it has one, and `fitted` what that asked for. `fold` (at, of) says which of how
    many folds of the data are held out.
    """

    path: Path
    title: str
    make_model: Callable[..., nn.Module]
    make_data: Callable[..., Data]
    recipe: Recipe
    model_options: Mapping[str, Any] = field(default_factory=dict)
    data_options: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    source: Mapping[str, str] = field(default_factory=dict)
    make_settings: Callable[..., Mapping[str, object]] | None = None
    fitted: tuple[str, ...] = ()
    fold: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    def model(self) -> nn.Module:
        """The model, its weights drawn from the recipe's seed; torch's own randomness is left as found."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            model = _called(self.path, "model", self.make_model, self.model_options)
        if not isinstance(model, nn.Module):
            raise PlanError(f"{self.path}: model() should return an nn.Module, and returned {model!r:.100}")
        return model

    def data(self) -> Data:
        """The data; loaded, and downloaded where they are missing."""
        data = _called(self.path, "data", self.make_data, self.data_options)
        if not isinstance(data, Data):
            raise PlanError(
                f"{self.path}: data() should return a Data, such as digits(), and returned {data!r:.100}"
            )
        return data if self.fold is None else data.folds(self.fold[1])[self.fold[0]]

    def folded(self, at: int, of: int) -> "Plan":
        """The plan whose data are number `at`, from 0, of so many folds."""
        return replace(self, fold=(at, of), changes=(*self.changes, f"{_FOLD}{at}/{of}"))

    def changed(self, setting: str) -> "Plan":
        """The plan with one value changed, such as "recipe.batch_size=256" or "data.held_out=500".

        Values are Python literals; what is none is taken as text. `recipe.` paths go through the recipe's
        fields; `data.` and `model.` give keyword arguments to the file's functions.
        """
        if len(setting) > _LONGEST_SETTING:
            raise PlanError(
                f"a setting should have at most {_LONGEST_SETTING:,} characters, and {setting[:40]!r}... has "
                f"{len(setting):,}: write the value into the recipe file"
            )
        path, sign, text = setting.partition("=")
        room, dot, rest = path.strip().partition(".")
        if not sign or not dot or room not in ("recipe", "data", "model"):
            raise PlanError(
                "a setting should read recipe.batch_size=256, data.NAME=VALUE or model.NAME=VALUE, "
                f"not {setting!r}"
            )
        try:
            value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two of deeply nested ones
            value = text.strip()
        changes = (*self.changes, setting)
        if room == "recipe":
            return replace(self, recipe=self.recipe.changed(rest, value), changes=changes)
        make = self.make_data if room == "data" else self.make_model
        _check_option(self.path, room, make, rest)
        if room == "data":
            return replace(self, data_options={**self.data_options, rest: value}, changes=changes)
        return replace(self, model_options={**self.model_options, rest: value}, changes=changes)

    def fit(self, fitted: Sequence[str] | None = None) -> "Plan":
        """The plan with what the file's settings() asks of the data that are there, or with `fitted` instead.

        A recipe file may define settings(), which looks at the data and gives values by their paths, such as
        {"model.classes": 37}. Parameters that it shares with data() are given what data() is. Raises
        ValueError.
        """
        if fitted is None:
            if self.make_settings is None:
                return self
            known = inspect.signature(self.make_settings).parameters
            options = {name: value for name, value in self.data_options.items() if name in known}
            found = _called(self.path, "settings", self.make_settings, options)
            if not isinstance(found, Mapping):
                raise PlanError(
                    f'{self.path}: settings() should return a dictionary such as {{"model.classes": 3}}, and '
                    f"returned {found!r:.100}"
                )
            fitted = [f"{path}={value!r}" for path, value in found.items()]
        return replace(self.settled(fitted), fitted=tuple(fitted))

    def settled(self, settings: Sequence[str]) -> "Plan":
        """The plan with these settings, in whichever order they are valid: resize=66 may need crop=64."""
        plan, waiting, first = self, list(settings), None
        while waiting:
            refused = []
            for setting in waiting:
                try:
                    plan = plan.changed(setting)
                except ValueError as error:
                    refused.append(setting)
                    first = first or error
            if len(refused) == len(waiting) and first is not None:
                raise first
            waiting, first = refused, None
        return plan

    def scaled(self, factor: float) -> "Plan":
        """The plan with its whole recipe made shorter (or longer) in proportion: 0.05 is a twentieth."""
        changes = (*self.changes, f"{_SCALE}{factor!r}")
        return replace(self, recipe=self.recipe.scaled(factor), changes=changes)

    def replayed(self, changes: Sequence[str]) -> "Plan":
        """The plan with the `changes` of another one made in it too, in their order."""
        plan = self
        for change in changes:
            if change.startswith(_FOLD):
                at, _, of = change.removeprefix(_FOLD).partition("/")
                plan = plan.folded(int(at), int(of))
                continue
            scale = change.removeprefix(_SCALE)
            plan = plan.scaled(float(scale)) if scale != change else plan.changed(change)
        return plan

    def describe(self) -> dict[str, Any]:
        """What would be trained, as plain JSON: the file's name, recipe, and its functions, with options."""
        options = {
            room: {name: value if isinstance(value, str) else told(value) for name, value in held.items()}
            for room, held in (("data", self.data_options), ("model", self.model_options))
        }
        code = {"model": described_value(self.make_model), "data": described_value(self.make_data)}
        fold = {"fold": list(self.fold)} if self.fold is not None else {}
        return {
            "recipe_file": self.path.name,
            "recipe": self.recipe.describe(),
            **options,
            **fold,
            "code": code,
        }

    def record(self) -> dict[str, Any]:
        """What a run's record says of the recipe file: its place, its code and its commit, if any."""
        path, here = self.path.resolve(), Path.cwd()
        # One that comes along is known by its name, wherever it is run.
        along = path.parent == recipes_folder().resolve() or not path.is_relative_to(here)
        return {
            # The whole path may hold the user's name.
            "recipe_file": path.name if along else str(path.relative_to(here)),
            "source": digests(self.source),
            "commit": commit(path),
            "code": described_value(self.make_model),
        }


def read_plan(name: str | Path) -> Plan:
    """The plan of a recipe file, or of a recipe that budgetnet brings along, by its name."""
    path = _find(str(name))
    source = sources(path, recipes_folder())
    with beside(path, recipes_folder(), source):
        try:
            names = runpy.run_path(str(path), run_name=RECIPE_FILE)
        except (Exception, SystemExit) as error:
            raise PlanError(f"{_where(path, error)}: {type(error).__name__}: {error}") from error
    for part, kind in (("model", "a function"), ("data", "a function"), ("recipe", "a Recipe")):
        if part not in names:
            raise PlanError(
                f"{path} should define model(), data() and recipe, and has no {part}; "
                f"`budgetnet copy quickstart` gives an example"
            )
        good = isinstance(names[part], Recipe) if part == "recipe" else callable(names[part])
        if not good:
            raise PlanError(f"{path}: {part} should be {kind}, not {names[part]!r:.100}")
    title = (names.get("__doc__") or path.stem).strip().splitlines()[0]
    return Plan(
        path,
        title,
        names["model"],
        names["data"],
        names["recipe"],
        source=source,
        make_settings=names.get("settings"),
    )


def recipes_folder() -> Path:
    """The folder of the recipes that come along."""
    return shipped("recipes")


def titles() -> dict[str, str]:
    """The names of the recipes that budgetnet brings along, each with the first line of its docstring."""
    by_name = {}
    for path in sorted(recipes_folder().glob("*.py")):
        if not path.stem.startswith("_"):
            text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            by_name[path.stem] = text.splitlines()[0] if text else ""
    return by_name


def _find(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        # Python would run an archive with a program in it, whatever it is called.
        if path.suffix != ".py":
            raise PlanError(f"{name} should be a recipe, which is a file of Python code: NAME.py")
        return path
    along = recipes_folder() / f"{name}.py"
    if path.name == name and along.is_file():
        return along
    if path.is_dir():
        raise PlanError(
            f"{name} is a folder and no recipe: `budgetnet run photos --data {name}` trains on the photos in "
            f"it, and `budgetnet new {name}` writes a recipe for them that you can edit"
        )
    known = list(titles())
    near = difflib.get_close_matches(path.stem, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"budgetnet brings {', '.join(known)}"
    raise PlanError(f"there is no recipe file {name}; {hint}")


def _where(path: Path, error: BaseException) -> str:
    """The file and, where it can be told, the line in it that an error comes from."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{error.filename or path}, line {error.lineno}"
    lines = [
        f.lineno
        for f in traceback.extract_tb(error.__traceback__)
        if Path(f.filename).resolve() == path.resolve()
    ]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _called(path: Path, part: str, make: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    try:
        with beside(path, recipes_folder()):
            return make(**options)
    except ValueError:
        raise
    except Exception as error:
        raise PlanError(f"{_where(path, error)}: {part}() failed: {type(error).__name__}: {error}") from error


def _check_option(path: Path, part: str, make: Callable[..., Any], name: str) -> None:
    parameters: Sequence[inspect.Parameter] = list(inspect.signature(make).parameters.values())
    names = [p.name for p in parameters]
    if name in names or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return
    takes = f"it takes {', '.join(names)}" if names else "it takes nothing"
    raise PlanError(f"{path}: {part}() has no parameter {name!r}; {takes}")
