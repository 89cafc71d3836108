"""What a command is pointed at: a run's folder, a saved model, or else a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from budgetnet.data import Split
from budgetnet.exporting import SUFFIXES, read_export
from budgetnet.files import checkpoint
from budgetnet.guard import flattered, record_of
from budgetnet.modelfile import load, read_card, resolved, weights
from budgetnet.plan import Plan, recipes_folder, titles
from budgetnet.run import MODEL, RECORD, Run
from budgetnet.values import nearest

if TYPE_CHECKING:
    from budgetnet.cli.asked import Asked

RUNS = "runs"


@dataclass(frozen=True)
class Trained:
    """A trained model: its file, or an export of it, and the run that it lies in, if any.

    Nothing of a recipe is executed, nor a `.pt2` file unless `trust` says so.
    """

    file: Path
    run: Run | None
    trust: bool = False

    @property
    def settings(self) -> list[str]:
        """What the run had changed about its data and its model, as `--set` takes it."""
        record = self.run.record if self.run is not None else {}
        chosen = [*(record.get("fitted") or []), *(record.get("settings") or [])]
        return [text for text in chosen if isinstance(text, str) and text.startswith(("data.", "model."))]

    def plan(self, asked: "Asked", recipe: str) -> Plan:
        """The plan of the recipe that is named, with what the run had changed, and the fold it held out."""
        changed = [text for text in asked.settings if text.startswith("model.")]
        if changed and self._builds_itself:
            raise ValueError(
                f"--set {changed[0]} would do nothing: the network is the trained one, as its file has it; "
                "leave it out, or train another"
            )
        plan = asked.plan(recipe, before=self.settings)
        return plan if not self.fold else plan.folded(int(self.fold["at"]), int(self.fold["of"]))

    @property
    def _builds_itself(self) -> bool:
        """Whether the network follows from the file, whatever a recipe's model() would build."""
        if self.file.suffix in SUFFIXES:
            return True
        return self.file.is_file() and read_card(self.file).builder is not None

    @property
    def fold(self) -> Mapping[str, Any] | None:
        """The fold of the data that the run held out, as its record has it, if any."""
        return self.run.record.get("fold") if self.run is not None else None

    def flattered(self, split: Split | None, name: str, *, whose: str = "the run") -> list[str]:
        """Whether the images that the model is measured on may be some that it was trained on."""
        if split is None:
            return []
        folder = self.run.folder if self.run is not None else None
        return flattered(split, name, self._record, folder, whose=whose)

    @property
    def _record(self) -> Mapping[str, Any]:
        """What is known of the run: of weights that come along, the record that lies beside them."""
        return self.run.record if self.run is not None else record_of(self.file)

    @property
    def recipe_file(self) -> str:
        """The recipe that the run names, as it can be named here; "" where it names none."""
        file = str(self.run.record.get("recipe_file", "")) if self.run is not None else ""
        shipped = recipes_folder() / Path(file).name
        # Of one that budgetnet brings along the record has the file's name alone.
        return shipped.stem if file and not Path(file).is_file() and shipped.is_file() else file


def is_trained(name: str) -> bool:
    """Whether `name` is a run's folder or a model file, rather than a recipe."""
    return name.endswith(".safetensors") or _folder(name) is not None


def trained(name: str, *, trust: bool = False) -> Trained:
    """The run or model that `name` is. Raises ValueError where there is neither."""
    folder = _folder(name)
    if folder is not None:
        run = Run.read(folder) if (folder / RECORD).exists() else None
        if not (folder / MODEL).exists():
            status = f", its status is {run.status}" if run is not None else ""
            raise ValueError(f"the run in {folder} has saved no {MODEL}{status}")
        return Trained(folder / MODEL, run)
    path = resolved(name)
    if not path.is_file():
        raise ValueError(_nowhere(name))
    beside = path.stem == Path(MODEL).stem and (path.parent / RECORD).exists()
    return Trained(path, Run.read(path.parent) if beside else None, trust)


def _nowhere(name: str, out: Path = Path(RUNS)) -> str:
    known = ", ".join(weights())
    along = f", and the models that come along are {known}" if known else ""
    near = nearest(name, [*_runs(out), *weights()])
    return f"there is no run and no model file {name}; `budgetnet list` shows the runs in {out}/{along}{near}"


def _runs(out: Path) -> list[str]:
    """What the runs below `out` can be called: by their names, and as paths."""
    folders = [path.parent for path in sorted(out.glob(f"*/{RECORD}"))]
    return [called for folder in folders for called in (folder.name, str(folder))]


def _folder(name: str, out: Path = Path(RUNS)) -> Path | None:
    """The run's folder that `name` is, as a path or below `out`."""
    for path in (Path(name), out / name):
        if path.is_dir() and ((path / RECORD).exists() or (path / MODEL).exists() or checkpoint.any_in(path)):
            return path
    return None


def not_from_scratch(external: str) -> list[str]:
    """What is to be said of a model that began from these external weights; nothing of one from scratch."""
    return [f"not from scratch: it began from external weights, {external}"] if external else []


def find_run(name: str, out: Path = Path(RUNS)) -> Path:
    """The run's folder that `name` is, as a path or below `out`. Raises ValueError where there is none."""
    folder = _folder(name, out)
    if folder is None and Path(name).is_dir():
        raise ValueError(f"a run's folder holds {RECORD}, and {name} does not; runs lie in {out}/ by default")
    if folder is None:
        near = nearest(name, _runs(out))
        raise ValueError(f"there is no run {name}; `budgetnet list` shows the runs in {out}/{near}")
    return folder


def followed(name: str, out: Path) -> Path:
    """What a new schedule begins from: a run's folder as of `find_run`, or what `name` is for `load`.

    Raises ValueError where there is neither.
    """
    folder = _folder(name, out)
    if folder is None and not resolved(name).exists():
        raise ValueError(_nowhere(name, out))
    return folder or Path(name)


def shipped_recipe(loaded: Trained, name: str) -> str | None:
    """The recipe of what `name` is, where budgetnet brings it along: no other is executed unnamed."""
    return next((recipe for recipe in (loaded.recipe_file, name) if recipe in titles()), None)


def load_trained(loaded: Trained, plan: Plan | None, device: torch.device | str = "cpu") -> nn.Module:
    """The trained model; built by the plan's model() where budgetnet cannot build it by itself."""
    if loaded.file.suffix in SUFFIXES:
        return read_export(loaded.file, trusted=loaded.trust)
    card = read_card(loaded.file)
    if card.builder is not None:
        return load(loaded.file, device=device)
    if plan is None:
        recipe = loaded.recipe_file or "FILE"
        raise ValueError(
            f"{loaded.file} holds {card.origin or 'a model'}, which only its recipe can build; "
            f"name the recipe: --recipe {recipe}"
        )
    return load(loaded.file, plan.make_model, device=device, **plan.model_options)
