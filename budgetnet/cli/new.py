"""The recipe `photos` as the source of a recipe for one folder of photos."""

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path

from budgetnet.budget import Budget
from budgetnet.data import Look
from budgetnet.plan import read_plan
from budgetnet.text import inline

# Where that recipe begins to look at the photos.
REST = "\n# What follows looks at the photos;"


def recipe_for(folder: str, found: Look, budget: str, target: Path, columns: Mapping[str, str | None]) -> str:
    """The source of a recipe for the photos in `folder`, as they were `found`, to be written to `target`.

    A `folder` that is a table has `columns`.

    The last word of each setting that they ask for, in capitals, is a constant of the recipe `photos`,
    and its second phase follows from those of the first.
    """
    Budget(params=budget)
    stated = {name: repr(value) for name, value in {"root": folder, **columns}.items() if value is not None}
    plan = read_plan("photos")
    for name, value in stated.items():
        plan = plan.changed(f"data.{name}={value}")
    plan = plan.fit()
    fitted = [text.partition("=")[::2] for text in plan.fitted if not text.startswith("recipe.phases.1.")]
    values = {path.rpartition(".")[2]: _written(value) for path, value in fitted}
    values |= {name: _written(value) for name, value in {**stated, "budget": repr(budget)}.items()}
    source = plan.path.read_text(encoding="utf-8").partition(REST)[0]
    code = source.partition('"""\n\n')[2]
    for name, value in values.items():
        line = re.search(rf"(?m)^{name.upper()}\b[^=\n]*= ([^#\n]*?)(?=  #|$)", code)
        assert line, f"the recipe photos has no constant {name.upper()}"
        code = code[: line.start(1)] + value + code[line.end(1) :]
    head = inline(f"{found.root.resolve().name}: {found}").replace("\\", "\\\\").replace('"', "'")
    return f'"""{head}.\n\n    budgetnet run {inline(target.name)} --within 30m\n"""\n\n{code.rstrip()}\n'


def _written(value: str) -> str:
    """A value as recipes write it."""
    return json.dumps(ast.literal_eval(value)) if value.startswith("'") else value
