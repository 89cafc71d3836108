"""What a builder should know of a network that runs: redundant layers, odd padding, kernels wasted."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from budgetnet.budget.watch import Seen

_STRIDED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def redundant(first_name: str, first: nn.Linear, second: nn.Linear) -> list[str]:
    """The note for a Linear straight after a Linear, none where the first is a deliberate bottleneck."""
    if first.out_features < min(first.in_features, second.out_features):
        return []
    single = (first.in_features + (second.bias is not None)) * second.out_features
    single += second.out_features * (first.bias is not None and second.bias is None)
    both = sum(parameter.numel() for layer in (first, second) for parameter in layer.parameters())
    return [
        f"follows {first_name} with nothing between: one Linear({first.in_features}, {second.out_features}) "
        f"computes the same with {single:,} instead of {both:,} parameters"
    ]


def straight_in_sequence(modules: dict[str, nn.Module]) -> dict[str, str]:
    """Second Linear -> first Linear, for those that stand side by side in an nn.Sequential."""
    names = {id(module): name for name, module in modules.items()}
    following = {}
    for module in modules.values():
        if isinstance(module, nn.Sequential):
            children = [child for child in module if not isinstance(child, nn.Identity)]
            for first, second in pairwise(children):
                if isinstance(first, nn.Linear) and isinstance(second, nn.Linear):
                    following[names[id(second)]] = names[id(first)]
    return following


def uneven(module: nn.Module, seen: Seen) -> list[str]:
    """The note for a strided convolution or pool whose padding misses the division by its stride, if so."""
    given, shape = seen.given, seen.shape
    if not isinstance(module, _STRIDED) or given is None or shape is None:
        return []
    if not len(given) == len(shape) == 4:
        return []
    if isinstance(module.padding, str) or getattr(module, "ceil_mode", False):
        return []
    for axis in (0, 1):
        kernel, stride, padding, dilation = (
            _pair(getattr(module, option, 1))[axis]
            for option in ("kernel_size", "stride", "padding", "dilation")
        )
        before, after = given[2 + axis], shape[2 + axis]
        exact = -(-before // stride)
        if stride == 1 or before // stride <= after <= exact:
            continue
        better = _padding_for(exact, before, kernel, stride, dilation)
        if better is not None:
            return [f"padding {padding} takes {before} to {after}, where padding {better} would give {exact}"]
    return []


def wasted(module: nn.Module, seen: Seen) -> list[str]:
    """The note for a convolution wider than a pixel on a map of one pixel, where only its middle can act."""
    if not isinstance(module, nn.Conv2d) or module.padding_mode != "zeros":
        return []
    if seen.given is None or len(seen.given) != 4:
        return []
    height, width = module.kernel_size
    if tuple(seen.given[2:]) != (1, 1) or height * width == 1:
        return []
    return [
        f"its {height}x{width} kernel meets a map of 1x1, so all but one of its weights see only padding; "
        "a higher resolution would use them"
    ]


def _padding_for(after: int, before: int, kernel: int, stride: int, dilation: int) -> int | None:
    reach = dilation * (kernel - 1) + 1
    fitting = (padding for padding in range(reach) if (before + 2 * padding - reach) // stride + 1 == after)
    return next(fitting, None)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value
