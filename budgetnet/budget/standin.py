"""Stand-ins for modules that torch asks little of for tensors on meta, and that take long to import."""

import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import reduce
from importlib import import_module
from types import ModuleType
from typing import Any

_DYNAMO, _SHAPES = "torch._dynamo", "torch.fx.experimental.symbolic_shapes"
_PACKAGES = (_DYNAMO, "sympy")


class _StandIn(ModuleType):
    """Stands for a module for as long as nothing but its `answers` is asked of it."""

    def __init__(self, name: str, answers: Mapping[str, Any]) -> None:
        super().__init__(name)
        self._answers = answers

    def leave(self) -> None:
        """Let the next import find the module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def __getattr__(self, name: str) -> Any:
        if name in self._answers:
            return self._answers[name]
        # Whoever imports a module within a package asks where that one lies.
        if name.startswith("__") and not (name == "__path__" and self.__name__ in _PACKAGES):
            raise AttributeError(name)
        self.leave()
        return getattr(import_module(self.__name__), name)


class _Unimported(type):
    """A class of a module that may not be imported yet: until it is, nothing is an instance of it."""

    def __instancecheck__(cls, value: object) -> bool:
        module = sys.modules.get(cls.__module__)
        if module is None or isinstance(module, _StandIn):
            return False
        return isinstance(value, getattr(module, cls.__name__))


def _class_of(module: str, name: str) -> dict[str, type]:
    return {name: _Unimported(name, (), {"__module__": module})}


def _is_plain(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, list | tuple) and all(map(_is_plain, value)))


def _same(one: Any, other: Any) -> bool:
    return bool(one == other if isinstance(one, int) else list(one) == list(other))


def _of_numbers(name: str, answer: Callable[..., Any] | None) -> Callable[..., Any]:
    """What a function of torch's answers to plain numbers; it is asked itself for symbols."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if answer is not None and not kwargs and all(map(_is_plain, args)):
            return answer(*args)
        stand_in = sys.modules.get(_SHAPES)
        if isinstance(stand_in, _StandIn):
            stand_in.leave()
        return getattr(import_module(_SHAPES), name)(*args, **kwargs)

    return call


_OF_TRUTHS = (
    "expect_true",
    "guard_or_false",
    "guard_or_true",
    "guard_size_oblivious",
    "statically_known_true",
)
_ON_NUMBERS: dict[str, Callable[..., Any] | None] = {
    **dict.fromkeys(_OF_TRUTHS, lambda truth: truth),
    "is_nested_int": lambda number: False,
    "sym_and": lambda *truths: reduce(operator.and_, truths),
    "sym_or": lambda *truths: reduce(operator.or_, truths),
    "sym_eq": _same,
    **dict.fromkeys(("guarding_hint_or_throw", "has_guarding_hint"), None),
}


@contextmanager
def quickly_on_meta() -> Iterator[None]:
    """Within it tensors on meta need no torch._dynamo, SymPy or Triton, which take as long as torch itself.

    torch marks those of its operations that are written in Python for torch.compile as each is first called,
    and asks whether sizes are symbols. Nothing is left of it afterwards, and whoever asks for more of these
    modules meanwhile gets them.
    """
    marked: list[Any] = []

    def disable(function: Any, *_: object, **__: object) -> Any:
        marked.append(function)
        return function  # as it is: torch.compile is not at work

    answers: dict[str, Mapping[str, Any]] = {
        _DYNAMO: {"disable": disable},
        "sympy": _class_of("sympy", "Basic"),
        _SHAPES: {name: _of_numbers(name, answer) for name, answer in _ON_NUMBERS.items()},
        "triton.runtime.jit": _class_of("triton.runtime.jit", "JITFunction"),
    }
    with ExitStack() as stack:
        for name in answers.keys() - sys.modules.keys():
            sys.modules[name] = stand_in = _StandIn(name, answers[name])
            stack.callback(stand_in.leave)
        try:
            yield
        finally:
            for function in marked:
                vars(function).pop("__dynamo_disable", None)
