"""Grid: which values are tried of which settings, and the plans of all their combinations."""

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from budgetnet.identity import told
from budgetnet.plan import Plan

_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


@dataclass(frozen=True)
class Setting:
    """One combination: a value for each path, such as "recipe.phases.0.lr"."""

    values: Mapping[str, Any]

    @property
    def texts(self) -> dict[str, str]:
        """The values as `--set` takes them."""
        return {path: written(value) for path, value in self.values.items()}

    def __str__(self) -> str:
        return " ".join(f"{path}={text}" for path, text in self.texts.items())

    def applied(self, plan: Plan) -> Plan:
        """The plan with these values. Raises ValueError naming the combination where it is impossible."""
        for path, value in self.values.items():
            try:
                plan = changed(plan, path, value)
            except ValueError as error:
                raise ValueError(f"the combination {self} is impossible: {error}") from error
        return plan


def grid(over: Mapping[str, Iterable[Any]]) -> list[Setting]:
    """All combinations of the values of each path, the last path changing fastest."""
    if not over:
        raise ValueError("a sweep needs something to vary: over={'recipe.phases.0.lr': [0.01, 0.1]} (--over)")
    columns = {path: values_of(path, values) for path, values in over.items()}
    return [Setting(dict(zip(columns, values, strict=True))) for values in product(*columns.values())]


def changed(plan: Plan, path: str, value: Any) -> Plan:
    """The plan with one value changed by its path; unlike Plan.changed, the value need not be a literal."""
    room, _, name = path.partition(".")
    # For a value that cannot be written, the plan's description tells that these are not all changes.
    changes = (*plan.changes, f"{path}={written(value)}")
    if room == "recipe" and name:
        return replace(plan, recipe=plan.recipe.changed(name, value), changes=changes)
    # Which options there are is the plan's to say.
    checked = replace(plan.changed(f"{path}=None"), changes=changes)
    if room == "data":
        return replace(checked, data_options={**plan.data_options, name: value})
    return replace(checked, model_options={**plan.model_options, name: value})


def read_over(texts: Sequence[str]) -> dict[str, list[Any]]:
    """`--over` as it is typed: "recipe.phases.0.lr=0.01,0.03", Python literals between top-level commas.

    What is no literal is taken as text.
    """
    by_path: dict[str, list[Any]] = {}
    for text in texts:
        path, sign, values = text.partition("=")
        path = path.strip()
        if not sign or not values.strip():
            raise ValueError(
                f"--over should read PATH=VALUE,VALUE, such as recipe.phases.0.lr=0.01,0.1, not {text!r}"
            )
        if path in by_path:
            raise ValueError(f"--over names {path} twice; list all its values at once, between commas")
        by_path[path] = [literal(part) for part in split(values)]
    return by_path


def split(text: str) -> list[str]:
    """The parts of a text between its commas, but for those inside of brackets and quotes."""
    parts, depth, quote, escaped = [""], 0, "", False
    for letter in text:
        if quote:
            quote = "" if letter == quote and not escaped else quote
            escaped = letter == "\\" and not escaped
        elif letter in "'\"":
            quote = letter
        else:
            depth += _BRACKETS.get(letter, 0)
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def written(value: Any) -> str:
    """A value as `--set` takes it: text as it is, the rest by all that it computes by."""
    return value if isinstance(value, str) else told(value)


def values_of(path: str, values: Iterable[Any]) -> list[Any]:
    """The values to try of one path. Raises ValueError where there are none, or one of them comes twice."""
    if path == "recipe.seed":
        raise ValueError("a sweep does not vary recipe.seed: ask for several seeds of each setting (--seeds)")
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"over[{path!r}] should be a list of values, not {values!r:.60}")
    listed = list(values)
    texts = [written(value) for value in listed]
    if not listed or "" in texts:
        raise ValueError(f"{path} should have values to try, and one of them is empty: {', '.join(texts)!r}")
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise ValueError(f"{path} should have each value once, and has {twice} twice")
    return listed


def literal(text: str) -> Any:
    """A Python literal's value, or the text where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
