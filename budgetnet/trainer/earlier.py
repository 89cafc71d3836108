"""Earlier: what a run was described as before code and attributes were told, beside what is described now."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from budgetnet.identity import without_addresses


def brought_up(
    held: Mapping[str, Any], now: Mapping[str, Any], model: nn.Module
) -> tuple[dict[str, Any], list[str]]:
    """An earlier contract with what it does not tell as it is `now`, and a sentence that says what that is.

    What it does tell stays as it is, and so shows where it has changed.
    """
    untold: list[str] = []
    shown = {name or "model": _shown(module) for name, module in model.named_modules()}
    torchs = [contract.get("where", {}).get("torch") for contract in (held, now)]
    same = _agree if torchs[0] != torchs[1] else str.__eq__
    modules = {
        name: now["modules"][name] if same(text, shown.get(name, "")) else text
        for name, text in held.get("modules", {}).items()
    }
    if now["code"]:
        untold.append("the model's code")
    told = {key: _brought_up(held[key], now[key], key, untold) for key in ("recipe", "made") if key in held}
    names = f"{', '.join(untold[:3])}{f' and {len(untold) - 3} more' if len(untold) > 3 else ''}"
    note = f"whether {names} changed since cannot be told: the run was begun before budgetnet kept that"
    return {**held, **told, "modules": modules}, [note] if untold else []


def _shown(module: nn.Module) -> str:
    """A module's class and what it shows of itself: how modules were described."""
    return without_addresses(f"{type(module).__name__}({module.extra_repr()})")


def _agree(text: str, shown: str) -> bool:
    """Whether the words of two versions of torch for a module say the same, as far as both say it."""
    first, second = (dict(re.findall(r"(\w+)=((?:\([^()]*\)|[^,()])*)", words)) for words in (text, shown))
    both = first.keys() & second.keys()
    return text.split("(")[0] == shown.split("(")[0] and all(first[key] == second[key] for key in both)


def _brought_up(held: Any, now: Any, path: str, untold: list[str]) -> Any:
    if isinstance(held, list) and isinstance(now, list) and len(held) == len(now):
        return [_brought_up(*pair, f"{path}[{at}]", untold) for at, pair in enumerate(zip(held, now))]
    if not isinstance(now, Mapping):
        return held
    if isinstance(held, str) and _name(now) in held:
        untold.append(path)
        return now
    if not isinstance(held, Mapping) or _name(held) != _name(now):
        return held
    if held.keys() < now.keys():
        untold.append(path)
    told = {key: _brought_up(held[key], now.get(key), f"{path}.{key}", untold) for key in held}
    return {**now, **told, **({"class": now["class"]} if "class" in now else {})}


def _name(described: Mapping[str, Any]) -> str:
    """The last part of what is described: "f" of "function f" and of "mine.f"."""
    return re.split("[ .]", str(described.get("class", "")))[-1]
