"""A pretended CUDA device: tensors that say cuda:0 and are computed on the CPU.

With `pretended()` whatever the package makes, or moves, there is such a tensor, with true values. What mixes
them with tensors of the CPU is refused, as CUDA does, and each place where the host would wait for the device
is noted. Streams, events and page-locked memory are stand-ins, and kernels are the CPU's: this shows that
things lie where they should, that nothing waits and that the numbers are right, and nothing about speed.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
aten = torch.ops.aten
waits: Counter[str] = Counter()
"""How often the host waited, by the place in the package, as "file.function"."""


class There(Tensor):
    """A tensor on the pretended device; `held` has its values."""

    held: Tensor
    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls: Any, held: Tensor) -> "There":
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=CPU,
        )
        made.held = held
        return made  # type: ignore[no-any-return]

    def __repr__(self, **_: Any) -> str:
        return f"There({self.held!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "There":
        copied = There(self.held.detach().clone()).requires_grad_(self.requires_grad)
        if isinstance(self, nn.Parameter):
            copied._is_param = True  # type: ignore[attr-defined]
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def place() -> str:
    """Where in the package the code is, as "file.function"."""
    frames = [frame for frame in traceback.extract_stack() if "/budgetnet/" in frame.filename]
    return f"{Path(frames[-1].filename).stem}.{frames[-1].name}" if frames else "elsewhere"


def _wrapped(found: Any) -> Any:
    return There(found) if isinstance(found, Tensor) and not isinstance(found, There) else found


def _plain(given: Any) -> Any:
    return given.held if isinstance(given, There) else given


BACKWARD = ("step._gradient", "trial._learn")
"""Where gradients are computed."""


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation of which at least one tensor is there."""
    given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    a, k = tree_map(_plain, args), tree_map(_plain, kwargs)
    if func is aten.copy_.default:
        across = isinstance(args[0], There) != isinstance(args[1], There)
        if across and not (kwargs.get("non_blocking") or (len(args) > 2 and args[2])):
            waits[place()] += 1
        func(*a, **k)
        return args[0]
    where = place()
    here = [one for one in given if not isinstance(one, There) and one.ndim]
    # autograd makes the zeros of a part without gradient by the device that it knows, the true one.
    if here and not str(func).startswith("aten._fused") and where not in BACKWARD:
        shapes = [(type(one).__name__, tuple(one.shape)) for one in given]
        raise RuntimeError(f"Expected all tensors to be on the same device: {func} in {where}, {shapes}")
    masks = func is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
    if masks or func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "equal", "_unique2"):
        waits[where] += 1
    return return_and_correct_aliasing(func, args, kwargs, tree_map(_wrapped, func(*a, **k)))


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, here: Tensor) -> Tensor:
        return There(here.detach().clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _plain(gradient)  # type: ignore[no-any-return]


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, there: There) -> Tensor:  # type: ignore[override]
        return there.held.detach().clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return There(gradient)


class _Functions(TorchFunctionMode):
    """Moves between the devices, factories there, and reads."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name, first = getattr(func, "__name__", ""), args[0] if args else None
        if isinstance(first, Tensor) and name in ("to", "cpu", "cuda"):
            return _moved(first, name, args[1:], kwargs)
        if isinstance(first, There):
            if name == "numpy":
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            if name == "new_tensor":
                waits[place()] += 1
                return There(first.held.new_tensor(*args[1:], **kwargs))
            if name in ("tolist", "item", "__bool__", "__float__", "__int__", "__index__"):
                waits[place()] += 1
                return getattr(first.held, name)()
        # Without CUDA no memory can be locked.
        kwargs.pop("pin_memory", None)
        device = kwargs.get("device")
        if name != "_parse_to" and device is not None and torch.device(device).type == "cuda":
            if name in ("tensor", "as_tensor"):
                # What is on the host's stack is copied at once.
                waits[place()] += 1
            kwargs["device"] = CPU
            return tree_map(_wrapped, func(*args, **kwargs))
        return func(*args, **kwargs)


def _moved(tensor: Tensor, name: str, rest: Any, kwargs: dict[str, Any]) -> Tensor:
    """`tensor.to(...)`, `.cpu()` and `.cuda()`."""
    device = {"cpu": CPU, "cuda": CUDA}.get(name, kwargs.pop("device", None))
    others, blocking = [], not kwargs.pop("non_blocking", False)
    for one in rest:
        if isinstance(one, str | torch.device):
            device = torch.device(one)
        elif isinstance(one, Tensor):
            device, others = one.device, [one.dtype]
        elif isinstance(one, bool):
            blocking = not one
        elif one is not None:
            others.append(one)
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    if device is not None and (torch.device(device).type == "cuda") != isinstance(tensor, There):
        if blocking:
            waits[place()] += 1
        tensor = (_Down if isinstance(tensor, There) else _Up).apply(tensor)  # type: ignore[no-untyped-call]
    return Tensor.to(tensor, *others, **kwargs) if others or kwargs else tensor


class _Event:
    """Comes at once."""

    def __init__(self, **_: Any) -> None:
        self.at = 0.0

    def record(self, *_: Any) -> None:
        self.at = perf_counter()

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: "_Event") -> float:
        return 1000 * (other.at - self.at)


class _Stream:
    def __init__(self, *_: Any) -> None:
        pass

    def wait_stream(self, *_: Any) -> None:
        pass

    def wait_event(self, *_: Any) -> None:
        pass

    def record_event(self, *_: Any) -> _Event:
        return _Event()

    def is_capturing(self) -> bool:
        return False


def _waited(*_: Any) -> None:
    waits[place()] += 1


@contextmanager
def pretended() -> Iterator[Counter[str]]:
    """Within it there is a CUDA device; gives the count of waits, which begins at nothing."""
    generator, lots = torch.Generator(), (80 << 30, 80 << 30)
    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "Event": _Event,
        "Stream": _Stream,
        "current_stream": lambda *_: _Stream(),
        "stream": lambda *_: nullcontext(),
        "device": lambda *_: nullcontext(),
        "mem_get_info": lambda *_: lots,
        "get_device_name": lambda *_: "a pretended GPU",
        "empty_cache": lambda: None,
        "is_current_stream_capturing": lambda: False,
        "synchronize": _waited,
        "is_bf16_supported": lambda *_: True,
        "default_generators": (generator,),
        "get_rng_state": lambda *_: generator.get_state(),
        "set_rng_state": lambda state, *_: generator.set_state(state),
        "_lazy_init": lambda: None,
    }
    waits.clear()
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        for name, stand_in in cuda.items():
            stack.enter_context(patch.object(torch.cuda, name, stand_in))
        # A wrapped tensor cannot be made within inference mode.
        stack.enter_context(patch.object(torch, "inference_mode", torch.no_grad))
        stack.enter_context(patch.object(torch.accelerator, "current_stream", lambda *_: _Stream()))
        stack.enter_context(patch.object(Tensor, "pin_memory", lambda self, *_: self))
        stack.enter_context(patch.object(Tensor, "is_pinned", lambda self, *_: True))
        stack.enter_context(patch.object(Tensor, "record_stream", lambda self, *_: None))
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            with _Functions():
                yield waits
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
