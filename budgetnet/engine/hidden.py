"""Hidden: what changes as a training goes and is in no state_dict, found by looking twice."""

import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from budgetnet.files import NotPlain, pack, put, same, unpack
from budgetnet.optim import Joint, eager

_DEEPEST = 4
_MODULES = {*vars(nn.Module()), "card", "built", "external", "past", "_compiled_call_impl"}
_OPTIMIZERS = {*vars(eager(torch.optim.SGD)([nn.Parameter(torch.zeros(1))], lr=0.1)), "parts"}
_RATES = {"params", "param_names", "lr", "schedule", "times"}
"""What of a parameter group is set anew at every step, or never changes."""
_LIBRARY = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
_HOUSES = ("torch", "torchvision", "budgetnet")
"""Whose classes keep in no attribute what changes with learning."""


class Frozen:
    """A value as it was: packed, with its tensors copied."""

    def __init__(self, value: Any) -> None:
        self.tensor = value if isinstance(value, Tensor) else None
        self.version = _version(value)
        held: dict[str, Tensor] = {}
        self.words = pack(value, "", held)
        self.tensors = {name: tensor.clone() for name, tensor in held.items()}

    def changed(self, value: Any) -> bool:
        """Whether `value` is another one now."""
        if isinstance(value, Tensor) and value is self.tensor and _version(value) == self.version != -1:
            return False
        held: dict[str, Tensor] = {}
        return not same(self.words, pack(value, "", held), self.tensors, held)


class Places:
    """Where values lie that no state_dict holds, each by a path `owner|name`, within `roots`."""

    def __init__(self, roots: Mapping[str, Any], known: Iterable[Tensor]) -> None:
        self._known = {_memory(tensor) for tensor in known}
        self._seen: set[int] = set()
        self.owners: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        self.opaque: dict[str, int] = {}
        for name, root in roots.items():
            self._root(name, root)

    def _root(self, path: str, root: Any) -> None:
        if isinstance(root, nn.Module):
            for name, module in root.named_modules():
                self._module(f"{path}.{name}" if name else path, module, whole=path == "loss")
        elif isinstance(root, torch.optim.Optimizer):
            self._optimizer(path, root)
        else:
            self._inside(path, root, 0)

    def _module(self, path: str, module: nn.Module, *, whole: bool) -> None:
        self.owners[path] = module
        names = module._buffers if whole else module._non_persistent_buffers_set
        skipped = _MODULES | ({"momentum"} if isinstance(module, _BatchNorm) else set())
        attributes = vars(module) if _foreign(type(module)) else {}
        for name in sorted(names):
            if module._buffers.get(name) is not None:
                self.values[f"{path}|{name}"] = module._buffers[name]
        for name, value in attributes.items():
            if name not in skipped:
                self._add(path, name, value, 0)
        if attributes:
            self._function(f"{path}.forward", type(module).forward)

    def _optimizer(self, path: str, optimizer: torch.optim.Optimizer) -> None:
        for at, group in enumerate(optimizer.param_groups):
            self.owners[f"{path}.group{at}"] = group
            for name, value in group.items():
                if name not in _RATES:
                    self._add(f"{path}.group{at}", name, value, 0)
        parts = optimizer.optimizers if isinstance(optimizer, Joint) else [optimizer]
        for at, part in enumerate(parts):
            if _foreign(type(part)):
                self.owners[f"{path}.part{at}"] = part
                for name, value in vars(part).items():
                    if name not in _OPTIMIZERS:
                        self._add(f"{path}.part{at}", name, value, 0)

    def _inside(self, path: str, value: Any, depth: int) -> None:
        """What lies within an object that is no container."""
        if id(value) in self._seen or depth > _DEEPEST or isinstance(value, type | Tensor):
            return
        self._seen.add(id(value))
        if isinstance(value, partial):
            for each in (value.func, *value.args, *value.keywords.values()):
                self._inside(f"{path}.partial", each, depth + 1)
        elif isinstance(value, MethodType):
            self._inside(path, value.__self__, depth)
        elif isinstance(value, FunctionType):
            self._function(path, value)
        elif isinstance(value, nn.Module):
            self._root(path, value)
        elif (
            hasattr(value, "__dict__")
            and _written_here(str(type(value).__module__))
            and _foreign(type(value))
        ):
            self.owners[path] = value
            for name, inner in vars(value).items():
                self._add(path, name, inner, depth + 1)

    def _function(self, path: str, function: Any) -> None:
        """A function's attributes, the numbers that it closes over, and those of its file that it names."""
        if not isinstance(function, FunctionType) or not _foreign(function):
            return
        if not _written_here(str(function.__module__)):
            return
        self.owners[f"{path}()"] = function
        for name, value in vars(function).items():
            self._add(f"{path}()", name, value, 1)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if cell != CellType() and name != "__class__":
                self.owners[f"{path}().{name}"] = cell
                self._add(f"{path}().{name}", "cell_contents", cell.cell_contents, 1)
        self.owners[f"{path}().globals"] = function.__globals__
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if type(value) in (bool, int, float, list, dict):
                self._add(f"{path}().globals", name, value, 1)

    def _add(self, path: str, name: str, value: Any, depth: int) -> None:
        held: dict[str, Tensor] = {}
        place = f"{path}|{name}"
        try:
            pack(value, "", held)
        except (NotPlain, RecursionError):
            if isinstance(value, list | tuple | dict | set):
                if depth <= 1:
                    self.opaque[place] = len(value)
            else:
                self._inside(f"{path}.{name}", value, depth + 1)
            return
        # An activation that is kept for a look is no state, and what has another name is saved by it.
        passing = any(tensor.requires_grad for tensor in _all(value))
        if not passing and not any(_memory(tensor) in self._known for tensor in held.values()):
            self.values[place] = value


class Hidden:
    """What lay where before the first step; `changes` tells what is another value since."""

    def __init__(self) -> None:
        self._frozen: dict[str, Frozen] = {}
        self._opaque: dict[str, int] = {}

    def remember(self, places: Places, *, again: bool = True) -> None:
        """Take what lies in these places as what a training begins with; not `again` what is known."""
        for place, value in places.values.items():
            if again or place.startswith("optimizer"):
                self._frozen[place] = Frozen(value)
        for place, size in places.opaque.items():
            if again or place.startswith("optimizer"):
                self._opaque[place] = size

    def changes(self, places: Places) -> dict[str, Any]:
        """The values that are not those remembered, by their places."""
        changed = {}
        for place, value in places.values.items():
            then = self._frozen.get(place) or self._frozen.get(_of_model(place))
            if then is None or then.changed(value):
                changed[place] = value
        return changed

    def lost(self, places: Places) -> list[str]:
        """Places of what cannot be saved and has grown or shrunk."""
        return [place for place, size in places.opaque.items() if self._opaque.get(place, size) != size]

    def put_back(self, places: Places, only: Iterable[str]) -> None:
        """Set what changed to what was remembered; what was not there then is taken away."""
        for place in only:
            then = self._frozen.get(place) or self._frozen.get(_of_model(place))
            if then is not None:
                set_value(places, place, unpack(then.words, then.tensors))
                continue
            path, _, name = place.rpartition("|")
            owner = places.owners[path]
            owner.pop(name) if isinstance(owner, dict) else object.__delattr__(owner, name)


def set_value(places: Places, place: str, value: Any) -> None:
    """Set what lies in a place. Raises KeyError for a place that there is not."""
    path, _, name = place.rpartition("|")
    owner = places.owners[path]
    there = places.values.get(place)
    if place in places.values and put(there, value):
        return
    if isinstance(there, Tensor) and isinstance(value, Tensor):
        value = value.to(there.device)
    if isinstance(owner, dict):
        owner[name] = value
    elif isinstance(owner, nn.Module) and name in owner._buffers:
        owner._buffers[name] = value
    elif isinstance(owner, nn.Module):
        setattr(owner, name, value)
    else:
        object.__setattr__(owner, name, value)  # also where it is a frozen dataclass


def named(place: str) -> str:
    """A place for people: "model.stages.0|count" as "model.stages.0.count"."""
    return place.replace("().globals|", " in the file of ").replace("|cell_contents", "").replace("|", ".")


def _of_model(place: str) -> str:
    """An average begins as a copy of the model."""
    return f"model{place.removeprefix('average')}" if place.startswith("average") else place


def _foreign(kind: Any) -> bool:
    return str(kind.__module__).partition(".")[0] not in _HOUSES


@lru_cache(maxsize=1024)
def _written_here(module: str) -> bool:
    """Whether a module is the user's own: what others keep may be a file's number, a time, a thread."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if module in sys.builtin_module_names:
        return False
    if file is None:
        return True
    installed = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return not installed and not any(Path(file).is_relative_to(place) for place in _LIBRARY)


def _version(value: Any) -> int:
    if not isinstance(value, Tensor) or value.is_inference():
        return -1
    return int(value._version)


def _all(value: Any) -> list[Tensor]:
    """A tensor, or those in a list or the like."""
    items = list(value.values()) if isinstance(value, dict) else value
    held = items if isinstance(items, list | tuple) else [items]
    return [item for item in held if isinstance(item, Tensor)]


def _memory(tensor: Tensor) -> int:
    """What tells whose memory a tensor looks at; a view of a weight has the weight's."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return id(tensor)


def tensors_of(*models: nn.Module) -> Iterator[Tensor]:
    """What the state_dicts of these models hold."""
    for model in models:
        saved = model.state_dict(keep_vars=True).values()
        yield from chain(model.parameters(), (held for held in saved if isinstance(held, Tensor)))
