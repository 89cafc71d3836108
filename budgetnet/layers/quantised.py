"""Weights of few bits: rounded in every forward pass, so that a network learns to do with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from budgetnet.layers.arguments import require_makers
from budgetnet.values import whole

_CLIP = {2: 1.22, 3: 1.95, 4: 2.47, 5: 2.90, 6: 3.27, 7: 3.61, 8: 3.92}
"""The largest weight that is told apart, in root mean squares: of least squared error for a normal spread."""
_LEAST = 2.0**-100
_FINE = 255.0


class _Round(torch.autograd.Function):
    """The nearest of the whole multiples of `scale` up to `most` times; the gradient passes as it is.

    Reference: https://arxiv.org/abs/1308.3432.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor, most: int) -> Tensor:
        return (weight / scale).round_().clamp_(-most, most).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


class _FewBits(nn.Module):
    """A layer with a weight (outputs, ...) of `bits` bits, with one scale for each output.

    The scales follow from the weights. `scale` is what a file said, else 0, and counts for as long as the
    weights are whole multiples of it, as they are in the file; what is trained on has scales of its own.
    """

    weight: Tensor
    scale: Tensor
    bits: int
    activations: int | None = None

    def taken(self, x: Tensor) -> Tensor:
        """The layer's input, which in training has `activations` bits over its own range, if any are set."""
        if self.activations is None or not self.training:
            return x
        low, high = torch.aminmax(x.detach())
        low = low.clamp(max=0)
        most = 2**self.activations - 1
        step = ((high.clamp(min=0) - low) / most).clamp(min=_LEAST)
        rounded: Tensor = _Round.apply(x - low, step, most)
        return rounded + low

    @property
    def most(self) -> int:
        """The largest code; the smallest is as far below zero."""
        return int(2 ** (self.bits - 1)) - 1

    def rounded(self) -> Tensor:
        """The weight that the layer computes with, of its own shape."""
        scale = self._scale(self.weight.detach(), self.scale)
        weight: Tensor = _Round.apply(self.weight, scale, self.most)
        return weight

    def _scale(self, weight: Tensor, given: Tensor) -> Tensor:
        """The scales, of the weight's dimensions, each a number that bfloat16 has.

        All that is summed are whole numbers, so that neither the order of the weights in memory nor the
        device can move a last bit.
        """
        rest = tuple(range(1, weight.ndim))
        size = weight.abs()
        top = size.amax(rest, keepdim=True).clamp_(min=_LEAST)
        # Apple's GPUs have no float64.
        wide = torch.float32 if weight.device.type == "mps" else torch.float64
        squares = size.div_(top).mul_(_FINE).round_().square_().sum(rest, keepdim=True, dtype=wide)
        spread = (squares / weight[0].numel()).sqrt_().mul_(_CLIP[self.bits] / _FINE).clamp_(max=1.0)
        derived = (top * spread / self.most).clamp_(min=_LEAST).bfloat16().to(weight.dtype)
        given = given.view(-1, *[1] * len(rest)).to(weight.dtype)
        multiples = (weight / given).round_().clamp_(-self.most, self.most).mul_(given)
        # Where nothing is given, 0 / 0 is equal to nothing.
        return torch.where((multiples == weight).all(dim=rest, keepdim=True), given, derived)

    def extra_repr(self) -> str:
        """What `print` shows between the brackets."""
        return f"{super().extra_repr()}, bits={self.bits}"

    def packed(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """What a file holds: codes of `bits` bits without gaps (of 8 bits in the weight's shape), scales."""
        count = self.weight.numel()
        codes = (torch.uint8, (-(-count * self.bits // 8),))
        whole = (torch.int8, tuple(self.weight.shape))
        return {
            "weight": whole if self.bits == 8 else codes,
            "scale": (torch.bfloat16, tuple(self.scale.shape)),
        }

    def pack(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file from those of a state: the very numbers that are computed with."""
        weight = state["weight"].detach()
        scale = self._scale(weight, state["scale"])
        codes = (weight / scale).round_().clamp_(-self.most, self.most).to(torch.int8)
        if self.bits < 8:
            codes = _bits_packed((codes + self.most).to(torch.uint8).flatten(), self.bits)
        return {"weight": codes, "scale": scale.flatten().bfloat16()}

    def unpack(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a state from those of a file. Raises ValueError for what `pack` does not give."""
        forms = self.packed()
        for name, (dtype, shape) in forms.items():
            if stored[name].dtype != dtype or tuple(stored[name].shape) != shape:
                raise ValueError(f"{name} should be {dtype} of shape {shape}, not {stored[name].dtype}")
        codes, scale = stored["weight"], stored["scale"].float()
        if self.bits < 8:
            codes = _bits_unpacked(codes, self.bits, self.weight.numel()).to(torch.int16) - self.most
        if not bool((scale.isfinite() & (scale > 0)).all()):
            raise ValueError("its scales should be finite and above 0")
        if codes.numel() and int(codes.to(torch.int16).abs().max()) > self.most:
            raise ValueError(f"its codes should be from {-self.most} to {self.most}")
        weight = codes.to(torch.float32).view(self.weight.shape)
        return {"weight": weight * scale.view(-1, *[1] * (weight.ndim - 1)), "scale": scale}


class QuantisedConv2d(_FewBits, nn.Conv2d):
    """`nn.Conv2d` with a weight of few bits; the bias stays as it is."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""
        out: Tensor = self._conv_forward(self.taken(x), self.rounded(), self.bias)
        return out


class QuantisedLinear(_FewBits, nn.Linear):
    """`nn.Linear` with a weight of few bits; the bias stays as it is."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return F.linear(self.taken(x), self.rounded(), self.bias)


_KINDS: dict[type[nn.Module], type[_FewBits]] = {nn.Conv2d: QuantisedConv2d, nn.Linear: QuantisedLinear}


@dataclass(frozen=True)
class Quantised:
    """A builder of what `make` builds, with convolutions and linear layers of `bits` bits a weight.

    The weights are rounded in every forward pass, to whole multiples of one scale for each output channel,
    and the gradient passes through the rounding: the network learns to do with them. A file takes `bits` bits
    for each, and predicts exactly what was evaluated. The first convolution and the last layer, to which a
    network is most sensitive, have `ends` bits. `keep` names parts (prefixes of module names) that stay as
    they are; so do biases, norms, layers of other kinds, weights that layers share, and what is inside of
    torch's TransformerEncoderLayer, which in evaluation computes with the weights themselves. A layer whose
    weight is used without calling the layer is refused before a training begins. With
    `activations` the inputs of these layers are rounded in training, to so many bits over the range of the
    batch: the network learns to do with eight bits throughout, which `export(..., int8=True)` makes of it.
    Outside of training they are not rounded.

        Budget(bytes="300KB").build(Quantised(models.resnet, bits=4), classes=10, widths=(20, 40, 80, 120))

    Raises ValueError for bits that are not from 2 to 8, and, when it is called, for a part that the network
    does not have, or a network of which nothing is quantised. Reference: https://arxiv.org/abs/1902.08153,
    with scales that follow from the weights' spread instead of learnt ones.
    """

    make: Callable[..., nn.Module]
    bits: int = 4
    ends: int = 8
    keep: tuple[str, ...] = ()
    activations: int | None = None

    def __post_init__(self) -> None:
        require_makers("Quantised", make=self.make)
        for name in ("bits", "ends", *(() if self.activations is None else ("activations",))):
            whole(f"Quantised's {name}", getattr(self, name), min(_CLIP), max(_CLIP))
        keep: object = self.keep
        listed = isinstance(keep, Iterable) and not isinstance(keep, str)
        if not listed or not all(isinstance(name, str) for name in self.keep):
            raise ValueError(
                f"Quantised's keep should be a list of module names such as ['head'], not {keep!r:.80}"
            )
        object.__setattr__(self, "keep", tuple(self.keep))

    @property
    def __wrapped__(self) -> Callable[..., nn.Module]:
        """The builder inside, as functools.wraps has it."""
        return self.make

    def options(self) -> dict[str, Any]:
        """All but the builder, as JSON-able values."""
        options = {"bits": self.bits, "ends": self.ends, "keep": list(self.keep)}
        return options if self.activations is None else options | {"activations": self.activations}

    def __call__(self, *args: Any, **keywords: Any) -> nn.Module:
        """What `make` makes, quantised."""
        model = self.make(*args, **keywords)
        if not isinstance(model, nn.Module):
            raise ValueError(f"Quantised's make should return an nn.Module, not a {type(model).__name__}")
        chosen = self._chosen(model)
        for at, module in enumerate(chosen):
            bits = self.ends if at in (0, len(chosen) - 1) else self.bits
            kind = _KINDS[type(module)]
            module.__class__ = kind  # a subclass, with the same attributes
            module.bits, module.activations = bits, self.activations
            weight = module.weight
            module.register_buffer(
                "scale", torch.zeros(len(weight), dtype=weight.dtype, device=weight.device)
            )
        return model

    def _chosen(self, model: nn.Module) -> list[Any]:
        """The layers to quantise, in the order of definition."""
        named = dict(model.named_modules())
        for part in self.keep:
            if part not in named:
                raise ValueError(
                    f"Quantised's keep names {part!r}, which {type(model).__name__} does not have; its "
                    f"outermost modules are {', '.join(name for name, _ in model.named_children())}"
                )
        kept = {id(module) for part in self.keep for module in named[part].modules()}
        # In evaluation torch reads the weights of these past their layers.
        encoders = [module for module in named.values() if isinstance(module, nn.TransformerEncoderLayer)]
        kept |= {id(layer) for each in encoders for layer in (each.linear1, each.linear2)}
        uses = Counter(id(module._parameters.get("weight")) for module in named.values())
        chosen = [
            module
            for module in named.values()
            if type(module) in _KINDS
            and id(module) not in kept
            and uses[id(module._parameters["weight"])] == 1
        ]
        if not chosen:
            raise ValueError(
                f"{type(model).__name__} has no convolution or linear layer that Quantised could take: leave "
                "it out, or keep less"
            )
        return chosen


@contextmanager
def uncalled(model: nn.Module) -> Iterator[dict[str, nn.Module]]:
    """Within it the layers of few bits that are called are taken out of what it gives, all by their names."""
    left = {name: module for name, module in model.named_modules() if isinstance(module, _FewBits)}

    def called(module: nn.Module, *_: object) -> None:
        for name in [name for name, other in left.items() if other is module]:
            del left[name]

    handles = [module.register_forward_hook(called) for module in list(left.values())]
    try:
        yield cast(dict[str, nn.Module], left)
    finally:
        for handle in handles:
            handle.remove()


def _bits_packed(codes: Tensor, bits: int) -> Tensor:
    """Codes uint8 (N,) below 2 ** bits as bytes, the lowest bit first, without gaps."""
    planes = ((codes[:, None] >> torch.arange(bits, dtype=torch.uint8)) & 1).flatten()
    planes = F.pad(planes, (0, -len(planes) % 8)).view(-1, 8)
    return (planes << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def _bits_unpacked(content: Tensor, bits: int, count: int) -> Tensor:
    """The inverse: bytes to `count` codes uint8."""
    planes = ((content[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten()[: count * bits]
    return (planes.view(count, bits) << torch.arange(bits, dtype=torch.uint8)).sum(1, dtype=torch.uint8)
