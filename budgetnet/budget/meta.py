"""Builds and copies networks on torch's meta device, where a tensor has a shape and takes no memory."""

from __future__ import annotations

import copy
import gc
import inspect
import sys
import threading
import warnings
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from budgetnet.randomness import own_randomness

Thing = TypeVar("Thing")

_KEPT = 32 * 2**20
"""Bytes of parameters put elsewhere than on meta that keep their values."""
_FAR_OVER, _MANY = 8, 4096
"""Times the limit, and parameter tensors: a builder that has more alive than both is stopped."""


class BuildingStopped(BaseException):
    """A builder went so far over the limit that it was not waited for; says what was alive at that moment.

    No Exception, so that a builder which tries one thing after another does not catch it and go on.
    """

    def __init__(self, limit: str, reached: int, tensors: int, kinds: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(f"stopped at {reached:,} {limit} in {tensors:,} tensors")
        self.limit, self.reached, self.tensors, self.kinds = limit, reached, tensors, kinds


class _Registrations:
    """Watches the parameters that a thread registers: moves many to meta, stops what is far over."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.thread = threading.get_ident()
        self.kept = 0
        self.limits = {limit: limits[limit] for limit in ("params", "bytes") if limit in limits}
        self.alive: dict[int, tuple[weakref.ref[nn.Parameter], str, dict[str, int]]] = {}
        self.sums: Counter[str] = Counter()
        self.twins: dict[int, tuple[weakref.ref[nn.Parameter], nn.Parameter]] = {}
        self.stopped: BuildingStopped | None = None

    def __call__(self, module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter | None:
        if threading.get_ident() != self.thread or is_lazy(parameter):
            return None
        twin: nn.Parameter | None = None
        if not parameter.is_meta:
            self.kept += parameter.nbytes
            twin = self._twin(parameter) if self.kept > _KEPT else None
        if self.limits:
            self._count(module, parameter if twin is None else twin)
        return twin

    def _twin(self, parameter: nn.Parameter) -> nn.Parameter:
        key = id(parameter)
        if key not in self.twins:
            gone = weakref.ref(parameter, lambda _: self.twins.pop(key, None))
            twin = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
            self.twins[key] = gone, twin
        return self.twins[key][1]

    def _count(self, module: nn.Module, parameter: nn.Parameter) -> None:
        key = id(parameter)
        if key not in self.alive:
            sizes = {"params": parameter.numel(), "bytes": parameter.nbytes}
            gone = weakref.ref(parameter, lambda _: self._forget(key))
            self.alive[key] = gone, type(module).__name__, sizes
            self.sums.update(sizes)
        if self.stopped is None and len(self.alive) > _MANY and self._far_over():
            gc.collect()  # what the builder has thrown away is no part of what it makes
            self.stopped = self._stop()
        if self.stopped is not None:
            raise self.stopped

    def _far_over(self) -> list[str]:
        return [limit for limit, most in self.limits.items() if self.sums[limit] > _FAR_OVER * most]

    def _forget(self, key: int) -> None:
        _, _, sizes = self.alive.pop(key)
        self.sums.subtract(sizes)

    def _stop(self) -> BuildingStopped | None:
        far_over = self._far_over()
        if not far_over:
            return None
        kinds: dict[str, tuple[int, int]] = {}
        for _, kind, sizes in self.alive.values():
            params, size = kinds.get(kind, (0, 0))
            kinds[kind] = params + sizes["params"], size + sizes["bytes"]
        return BuildingStopped(far_over[0], self.sums[far_over[0]], len(self.alive), kinds)


class _Marks(ModuleType):
    """Stands for torch._dynamo for as long as nothing but marks on functions is asked of it."""

    def __init__(self) -> None:
        super().__init__("torch._dynamo")
        self.marked: list[Any] = []

    def disable(self, function: Any, *_: object, **__: object) -> Any:
        """The function as it is: torch.compile is not at work."""
        self.marked.append(function)
        return function

    def leave(self) -> None:
        """Let the next import find torch._dynamo itself, and forget the marks."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        for function in self.marked:
            vars(function).pop("__dynamo_disable", None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        self.leave()
        import torch._dynamo as dynamo

        return getattr(dynamo, name)


@contextmanager
def without_dynamo() -> Iterator[None]:
    """Within it tensors on meta need no torch._dynamo, whose import takes nearly as long as torch's own.

    torch marks those of its operations that are written in Python for torch.compile as each is first called.
    Nothing is left of it afterwards, and whoever asks for more of torch._dynamo meanwhile gets it.
    """
    if "torch._dynamo" in sys.modules:
        yield
        return
    marks = sys.modules["torch._dynamo"] = _Marks()
    try:
        yield
    finally:
        marks.leave()


def builder_name(make: Callable[..., object]) -> str:
    """What a sentence calls a builder: its name, a partial's by the function inside it."""
    make = inspect.unwrap(make)
    while isinstance(make, partial):
        make = inspect.unwrap(make.func)
    return str(getattr(make, "__qualname__", type(make).__name__))


def build_on_meta(
    make: Callable[..., nn.Module],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    limits: Mapping[str, int],
) -> nn.Module:
    """What `make` returns, built on the meta device; every random state is afterwards as before.

    A builder that reads values of its tensors (`torch.linspace(...).tolist()`) is called again, with only
    those parameters on meta that go beyond 32 MiB. Raises ValueError for what is no builder, and
    `BuildingStopped` far over `limits`.
    """
    if isinstance(make, nn.Module) or not callable(make):
        raise ValueError(
            f"make={type(make).__name__} is not a function that builds a module: pass the function or the "
            "class itself and then its arguments, and hand a module that exists to budget.check(model)"
        )
    registrations = _Registrations(limits)
    with own_randomness(), _watching(registrations), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # loading weights to meta warns of each of them
        try:
            with torch.device("meta"):
                network: object = make(*args, **kwargs)
        except Exception as error:
            network = _with_values(make, args, kwargs, error)
    if registrations.stopped is not None:  # raised inside a builder that catches everything
        raise registrations.stopped
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"{builder_name(make)} returned a {type(network).__name__} where a builder returns an nn.Module: "
            "pass a function that returns the network"
        )
    return network


def _with_values(
    make: Callable[..., nn.Module], args: tuple[Any, ...], kwargs: Mapping[str, Any], first: Exception
) -> object:
    try:
        return make(*args, **kwargs)
    except Exception as second:
        if type(second) is type(first) and str(second) == str(first) and not needs_values(second):
            raise  # the call itself is wrong, wherever it is built
        raise ValueError(
            f"{builder_name(make)} cannot be built without allocating its weights ({first_line(second)}): "
            "build it yourself and hand the model to budget.check(model)"
        ) from second


def first_line(error: Exception) -> str:
    """The first line of what an exception says, without its full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def needs_values(error: Exception) -> bool:
    """Whether an exception says that an operation wanted the values of a meta tensor, which has none."""
    return "meta" in str(error).lower()


@contextmanager
def _watching(registrations: _Registrations) -> Iterator[None]:
    # torch types the hook as returning nothing and documents that it may return another parameter
    handle = register_module_parameter_registration_hook(registrations)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


class _Twins(TorchFunctionMode):
    """While active, copying a tensor makes a twin on `device`: empty on meta, else with its values.

    Without a device the twin is where the tensor is.
    """

    def __init__(self, device: str | torch.device | None) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.__deepcopy__:
            tensor, memo = args
            memo[id(tensor)] = twin = twin_of(tensor, self.device)
            return twin
        if func is torch.Tensor.clone:
            return twin_of(args[0], self.device)
        return func(*args, **(kwargs or {}))


def twin_of(tensor: Tensor, device: str | torch.device | None) -> Tensor:
    """A detached copy of `tensor` on "meta" (nothing allocated) or elsewhere (values kept)."""
    if device == "meta":
        return torch.empty_like(tensor.detach(), device="meta")
    return tensor.detach().to(tensor.device if device is None else device, copy=True)


def twin(
    value: Thing, device: str | torch.device | None = None, *, memo: dict[int, Any] | None = None
) -> Thing:
    """A copy of a module, or whatever holds tensors, that may be tried; its tensors there, or where they are.

    It keeps modes and hooks, which are part of what is tried. `memo` is `copy.deepcopy`'s: what has been
    copied, or stays itself. Raises ValueError for what cannot be copied.
    """
    memo = {} if memo is None else memo
    if isinstance(value, nn.Module) and "built" in vars(value):
        memo[id(value.built)] = value.built
    try:
        with _Twins(device):
            return copy.deepcopy(value, memo)
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            raise
        raise ValueError(
            f"{type(value).__name__} cannot be copied, so it cannot be tried ({first_line(error)}): keep "
            "what cannot be copied out of it"
        ) from error


def copy_to(model: nn.Module, device: str) -> nn.Module:
    """A copy of `model` in evaluation mode on "meta" or "cpu", with nothing allocated elsewhere.

    It has none of the model's hooks, which are the user's and would see tensors that they do not expect.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for key, value in vars(module).items():
            if isinstance(value, dict) and key.endswith(("_hooks", "_with_kwargs", "_always_called")):
                memo[id(value)] = OrderedDict()
        if "built" in vars(module):
            memo[id(module.built)] = module.built  # whatever its arguments hold is no part of the network
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(twin_of(parameter, device), parameter.requires_grad)
    return twin(model, device, memo=memo).eval()
