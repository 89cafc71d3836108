"""Changes: what differs between a run and what is to go on with it, and what of that is let pass by name."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from budgetnet.compare import MISSING, Difference
from budgetnet.engine import Training
from budgetnet.identity import UNKNOWN, without_addresses
from budgetnet.recipe import Recipe, defaults
from budgetnet.run import Note

NEVER = ("model", "data.classes")
"""What no run can go on with once it has changed: the shapes of its tensors, and what its logits mean."""
_DIGEST = re.compile("[0-9a-f]{12}")
_KEEPS_STATE = ("momentum", "nesterov", "betas", "eps")
_OTHER_ORDER = ("batch_size", "order", "views", "pseudo", "fingerprints")


def line(difference: Difference) -> str:
    """A difference in a line: "recipe.batch_size: 64 -> 32"."""
    if any(isinstance(value, str) and value.startswith(UNKNOWN) for value in difference.values):
        return f"{difference.path}: cannot be told, as it has no source that can be read"
    if all(isinstance(value, str) and _DIGEST.fullmatch(value) for value in difference.values):
        return f"{difference.path}: edited, {' -> '.join(difference.texts)}"
    return f"{difference.path}: {' -> '.join(difference.texts)}"


def dotted(path: str) -> str:
    """A path as settings are written: "recipe.phases[0].lr" as "recipe.phases.0.lr"."""
    return re.sub(r"\[(\d+)\]", r".\1", path).strip()


def allowed_before(sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paths that sessions of a run were allowed to differ in: a loop of sessions names them each time."""
    return [path for session in sessions for path in session.get("allowed", []) if isinstance(path, str)]


def with_defaults(held: Any, wanted: Recipe) -> Any:
    """What a recipe was described as, with the options that came later, at their defaults.

    `wanted` is the recipe of now; of its classes the defaults are known.
    """
    return _filled(held, defaults(wanted))


def _filled(held: Any, known: Mapping[str, Mapping[str, Any]]) -> Any:
    if isinstance(held, list):
        return [_filled(item, known) for item in held]
    if not isinstance(held, Mapping):
        return held
    missing = {key: value for key, value in known.get(str(held.get("class")), {}).items() if key not in held}
    return {**{key: _filled(value, known) for key, value in held.items()}, **missing}


def passed(
    folder: str | Path,
    changed: Sequence[Difference],
    allow: Sequence[str],
    *,
    state: Mapping[str, Any],
    phases: int,
    before: Sequence[str] = (),
) -> list[str]:
    """A note for each difference where all may pass. Raises ValueError for the others, and for idle names.

    A name covers its path and all below it. `state` is that of the run, whose recipe now has so many
    `phases`; `before` are the paths that were allowed to change in earlier sessions.
    """
    paths = [dotted(difference.path) for difference in changed]
    never = [d for d, path in zip(changed, paths) if any(_covers(name, path) for name in NEVER)]
    if never:
        raise ValueError(
            f"the run in {folder} cannot go on with another model or other classes: {_some(never)}; "
            f"change it back, or train anew"
        )
    for name in allow:
        if not any(_covers(name, path) for path in [*paths, *before]):
            raise ValueError(_idle(name, paths))
    left = [d for d, path in zip(changed, paths) if not any(_covers(name, path) for name in allow)]
    if left:
        named = " ".join(f"--allow-change {name}" for name in _names(left))
        raise ValueError(
            f"the run in {folder} cannot go on exactly, since this has changed: {_some(left)}; change it "
            f"back, or go on all the same with {named} (allow=), or start a new schedule from its weights "
            f"with after= (--after {folder})"
        )
    number = int(state["phase"])
    if number > phases:
        raise ValueError(
            f"the run in {folder} is in its phase {number}, and the recipe now has {phases}; "
            f"give the recipe that phase again, or start a new schedule with after= (--after {folder})"
        )
    return [f"not the run that was begun: {line(difference)}" for difference in changed]


def adapt(training: Training, changed: Sequence[Difference]) -> None:
    """Fit the state that was restored to what has changed since, and say what could not be kept."""
    paths = [dotted(difference.path) for difference in changed]
    here = f"recipe.phases.{training.state.phase - 1}"
    if training.state.waiting.optimizer is not None and any(
        _loses_state(difference, path, here) for difference, path in zip(changed, paths)
    ):
        training.state.waiting.optimizer = None
        text = "the optimizer begins anew: what it remembered is not for it as it is now"
        training.tell(Note("change", text))
    parts = {part for path in paths for part in path.split(".")}
    if training.state.done and parts & set(_OTHER_ORDER):
        training.state.next_epoch()
        training.tell(Note("change", "the epoch at hand begins again: its steps are others now"))
    kept = training.state.kept
    if training.kept is None and kept:
        kept["last"] = kept["best"] = kept.get("last") or kept["best"]


def _loses_state(difference: Difference, path: str, here: str) -> bool:
    """Whether an optimizer's state, kept by the number of each parameter, is of no use after a change."""
    if path == here or _covers(f"{here}.trains", path):
        return True
    for owner in ("recipe.optimizer", f"{here}.optimizer"):
        if _covers(owner, path):
            name = path.removeprefix(f"{owner}.").split(".")[0]
            decays = name == "weight_decay" and all(v and v is not MISSING for v in difference.values)
            return name not in _KEEPS_STATE and not decays
    return False


def _covers(name: str, path: str) -> bool:
    wanted = dotted(name)
    return path == wanted or path.startswith(f"{wanted}.")


def _names(changed: Sequence[Difference]) -> list[str]:
    """The names to allow all of these by: their paths, or where they are many what these begin with."""
    whole = [dotted(difference.path).split(".") for difference in changed]
    for depth in (9, 4, 3, 2):
        names = list(dict.fromkeys(".".join(path[:depth]) for path in whole))
        if len(names) <= 3:
            return names
    return list(dict.fromkeys(path[0] for path in whole))


def _some(changed: Sequence[Difference]) -> str:
    more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
    return f"{'; '.join(line(difference) for difference in changed[:3])}{more}"


def _idle(name: str, paths: Sequence[str]) -> str:
    what = f"{name!r} was to be allowed to change (--allow-change, allow=)"
    if not paths:
        return f"{what}, and nothing has changed; leave it out"
    near = difflib.get_close_matches(dotted(name), paths, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"what has changed is {', '.join(paths[:5])}"
    return f"{what}, and has not; {hint}"


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
