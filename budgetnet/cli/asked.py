"""What a command's options ask of a recipe, and what a run's record says of it."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from budgetnet.cli.failures import RECIPE, TYPED
from budgetnet.cli.options import environment

if TYPE_CHECKING:
    from budgetnet.plan import Plan
    from budgetnet.recipe import Recipe


@dataclass(frozen=True)
class Asked:
    """What the options ask of a recipe: first shortened by `scale`, then `settings`, then the `seed`.

    `recorded` settings were not typed now, but are those of a run's record; so is what was `fitted` to its
    data. `budget` is another way to say the setting of model() that is called so. `folds` asks for a run for
    each of so many folds, and `fold` is the record's of one of them.
    """

    root: str | None = None
    seed: int | None = None
    scale: float | None = None
    settings: tuple[str, ...] = ()
    recorded: bool = False
    budget: str | None = None
    fitted: tuple[str, ...] | None = None
    folds: int | None = None
    fold: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.budget is not None:
            object.__setattr__(self, "settings", (f"model.budget={self.budget}", *self.settings))
            object.__setattr__(self, "budget", None)

    def read(self, name: str) -> "Plan":
        """The plan in the file, or of the shipped recipe, `name`, as it is there."""
        from budgetnet.plan import read_plan

        context = click.get_current_context()
        if self.root is not None:
            context.with_resource(environment("BUDGETNET_DATA", self.root))
        plan = read_plan(name)
        context.meta[RECIPE] = str(plan.path)
        where = [text for text in self.settings if text.startswith("data.")]
        return plan.fit(self.fitted if self.fitted is not None else plan.settled(where).fit().fitted)

    def plan(self, name: str, *, before: Sequence[str] | None = None) -> "Plan":
        """The plan in the file, or of the shipped recipe, `name`, with `before` and what is asked changed.

        What was changed `before` has been fitted to the data of then, and those of now are not looked at.
        """
        from budgetnet.cli.recorded import admit, path

        plan = (self if before is None else replace(self, fitted=())).read(name)
        before = before or ()
        typed = {path(text) for text in self.settings}
        admit(plan, [text for text in before if path(text) not in typed])
        admit(plan, (*(self.fitted or ()), *self.settings) if self.recorded else ())
        return self.made(plan.settled(before))

    def made(self, plan: "Plan") -> "Plan":
        """A recipe file's plan with what is asked changed in it."""
        if self.scale is not None:
            plan = plan.scaled(self.scale)
        plan = plan.settled(self.settings)
        plan = plan if self.fold is None else plan.folded(int(self.fold["at"]), int(self.fold["of"]))
        return plan if self.seed is None else plan.changed(f"recipe.seed={self.seed}")

    def scaled(self, plan: "Plan", scale: float) -> "Recipe":
        """The recipe of a file's plan at a scale, with what else is asked changed in it."""
        return replace(self, scale=scale).made(plan).recipe

    def as_before(self, record: Mapping[str, Any]) -> "Asked":
        """What a run's record says was asked then, where nothing else is asked now."""
        settings = record.get("settings")
        before = tuple(s for s in settings if isinstance(s, str)) if isinstance(settings, list) else ()
        scale, seed = record.get("scale"), record.get("seed")
        return replace(
            self,
            scale=self.scale if self.scale is not None or not isinstance(scale, int | float) else scale,
            seed=self.seed if self.seed is not None or not isinstance(seed, int) else seed,
            settings=self.settings or before,
            recorded=not self.settings,
            fitted=tuple(str(text) for text in record.get("fitted") or ()),
            fold=record.get("fold"),
        )

    def record(self, plan: "Plan") -> dict[str, Any]:
        """What a run's record says of its recipe file, of what was changed in it, and of what was typed."""
        typed = click.get_current_context().meta.get(TYPED, [])
        command = shlex.join(["budgetnet", *(_portable(text) for text in typed)])
        asked = {"command": command, "scale": self.scale, "settings": list(self.settings)}
        fitted = {"fitted": list(plan.fitted)} if plan.fitted else {}
        fold = {"fold": dict(self.fold)} if self.fold is not None else {}
        return {**plan.record(), **asked, **fitted, **fold}


def _portable(text: str) -> str:
    """What was typed, with paths as from here or from home: they may hold the user's name."""
    for folder, short in ((os.getcwd(), "."), (os.path.expanduser("~"), "~")):
        if len(folder) > 1:
            text = re.sub(rf"(^|[=:]){re.escape(folder)}(?=[/\\]|$)", rf"\1{short}", text)
    # A database's password is nobody's business.
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", text)
