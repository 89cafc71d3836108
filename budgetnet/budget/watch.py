"""Watches one forward pass of a model's copy: what each module was given, returned and computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from budgetnet.budget.hidden import Hidden, hidden
from budgetnet.budget.live import Lives
from budgetnet.budget.modules import walk


@dataclass
class Seen:
    """What a pass showed of one module, its calls summed; MACs and bytes without those of inner modules."""

    calls: int = 0
    shape: tuple[int, ...] | None = None
    macs: int = 0
    activation_bytes: int = 0
    given: tuple[int, ...] | None = None
    after: str | None = None  # the Linear whose output, untouched, is this Linear's input


@dataclass
class _Call:
    name: str
    given: tuple[int, ...] | None
    started: int
    inside: int = 0


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations as torch's FlopCounterMode does, by its formulas, and notes what they are given.

    `read` are the tensors: weights may be used without a call of their module. `drew` is what `where` said of
    each operation that drew random numbers. `lives` is how long each tensor is needed.
    """

    def __init__(self, where: Callable[[], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        from torch.utils.flop_counter import flop_registry, shape_wrapper  # costs 0.1 s

        aten = torch.ops.aten
        self.formulas = {**flop_registry, aten._trilinear: shape_wrapper(_bilinear)}  # type: ignore[no-untyped-call]
        # What torch leaves out; norms of weights are computed by it too, and are no part of a prediction.
        vectors = {
            aten.mv: _product,
            aten.dot: _product,
            aten.vdot: _product,
            aten.addmv: _added_product,
            aten.addbmm: _added_product,
            aten._addmm_activation: _added_product,
        }
        self.of_images = {op: shape_wrapper(formula) for op, formula in vectors.items()}  # type: ignore[no-untyped-call]
        self.flops = 0
        self.read: set[int] = set()
        self.drew: set[str] = set()
        self.lives = Lives()
        self.where = where

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch would import all of torch._dynamo, to skip it."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.read.update(id(tensor) for tensor in tensors_in((args, kwargs)))
        if torch.Tag.nondeterministic_seeded in getattr(func, "tags", ()):
            self.drew.add(self.where())
        if not isinstance(func, torch._ops.OpOverload):
            return func(*args, **kwargs)
        with self:
            output = func.decompose(*args, **kwargs)
        if output is not NotImplemented:
            return output
        output = func(*args, **kwargs)
        # On meta a batch norm gives a batch's statistics too, which elsewhere are empty in evaluation.
        returned = output[:1] if "batch_norm" in str(func) else output
        follows = self.lives.operation(self.where(), tensors_in((args, kwargs)), tensors_in(returned))
        formula = self.formulas.get(func._overloadpacket)
        if formula is None and follows:
            formula = self.of_images.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=output)
        return output


@dataclass
class Watch:
    """One watched pass: `seen` by first name, in `returned` name and output shape of every call that ended,
    in order, and in `calls` the stack of modules that have not returned.
    """

    copied: nn.Module
    image: Tensor = field(init=False)
    seen: dict[str, Seen] = field(default_factory=dict)
    returned: list[tuple[str, tuple[int, ...] | None]] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    unused: set[str] = field(default_factory=set)
    drew: set[str] = field(default_factory=set)
    constants: list[Hidden] = field(default_factory=list)
    collapsed: str | None = None

    def __post_init__(self) -> None:
        self.modules = walk(self.copied).modules
        self._names = {id(module): name for name, module in self.modules.items()}
        self._operations = Operations(lambda: self.calls[-1].name if self.calls else "")
        self._storages: dict[int, Any] = {}
        self._straight: dict[int, tuple[str, int, Tensor]] = {}

    def run(self, images: Tensor) -> None:
        """Calls the copy on `images` (1, channels, H, W); whatever its forward raises is raised."""
        self.image = images
        handles = []
        for module in self.modules.values():
            handles.append(module.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True))
            handles.append(module.register_forward_hook(self._after))
        plain = [each for each in hidden(self.modules) if isinstance(each.what, Tensor)]
        try:
            with torch.no_grad(), torch.device(images.device), self._operations:
                self._storages[images.untyped_storage()._cdata] = images.untyped_storage()
                self.lives.begin(images)
                self.lives.end(tensors_in(self.copied(images)))
        finally:
            for handle in handles:
                handle.remove()
        read, self.drew = self._operations.read, self._operations.drew
        self.constants = [each for each in plain if id(each.what) in read]
        self.unused = {
            name for name, module in self.modules.items() if name not in self.seen and _idle(module, read)
        }

    @property
    def lives(self) -> Lives:
        """How long each tensor of the pass is needed."""
        return self._operations.lives

    def _total(self) -> int:
        return self._operations.flops // 2

    def _before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        given = next(tensors_in((args, kwargs)), None)
        name = self._names[id(module)]
        self.calls.append(_Call(name, None if given is None else tuple(given.shape), self._total()))
        if given is not None and isinstance(module, nn.Linear):
            first, version, _ = self._straight.get(id(given), (None, 0, None))
            if first is not None and version == given._version:
                self.seen.setdefault(name, Seen()).after = first

    def _after(self, module: nn.Module, args: Any, output: Any) -> None:
        name = self._names[id(module)]
        caught = 0
        while (call := self.calls.pop()).name != name:
            caught += call.inside  # a module whose exception the model's own forward caught never returned
        call.inside += caught
        macs = self._total() - call.started
        if self.calls:
            self.calls[-1].inside += macs
        seen = self.seen.setdefault(name, Seen())
        seen.calls += 1
        seen.macs += macs - call.inside
        outputs = list(tensors_in(output))
        self.returned.append((name, tuple(outputs[0].shape) if outputs else None))
        if seen.calls == 1 and outputs:
            seen.shape, seen.given = tuple(outputs[0].shape), call.given
        seen.activation_bytes += sum(self._new_bytes(tensor) for tensor in outputs)
        if outputs:
            self._follow(name, module, outputs[0])
        if any(tensor.dim() > 2 and 0 in tensor.shape[2:] for tensor in outputs):
            self.calls.append(call)  # so that this module is the one that is named
            self.collapsed = "its output is below 1x1"
            raise ValueError(self.collapsed)

    def _new_bytes(self, tensor: Tensor) -> int:
        """The bytes of an output, 0 for one that shares the memory of an input or of an earlier output."""
        storage = tensor.untyped_storage()
        if storage._cdata in self._storages:
            return 0
        self._storages[storage._cdata] = storage  # kept alive, for its address to stay its own
        return tensor.nbytes

    def _follow(self, name: str, module: nn.Module, output: Tensor) -> None:
        if isinstance(module, nn.Linear):
            self._straight[id(output)] = name, output._version, output
        elif not module._modules and not isinstance(module, nn.Identity):
            self._straight.pop(id(output), None)


def _bilinear(first: Any, weight: Any, second: Any, *_: Any, **__: Any) -> int:
    """The operations of nn.Bilinear, which torch does not count: each weight meets each image once."""
    return int(2 * math.prod(first[:-1]) * math.prod(weight))


def _product(first: Any, second: Any, *_: Any, **__: Any) -> int:
    """The operations of matrix times vector, of two vectors, and of matrices (.., M, K) times (.., K, N)."""
    return int(2 * math.prod(first) * (second[-1] if len(second) > 1 else 1))


def _added_product(_: Any, first: Any, second: Any, *__: Any, **___: Any) -> int:
    """The same where something is added to the product."""
    return _product(first, second)


def _idle(module: nn.Module, read: set[int]) -> bool:
    own = [
        tensor for tensor in (*module._parameters.values(), *module._buffers.values()) if tensor is not None
    ]
    if module._modules and not own:
        return False  # a list of modules is not called either
    return not any(id(tensor) in read for tensor in own)


def tensors_in(value: object) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
