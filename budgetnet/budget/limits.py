"""Budget: how much a network may cost, and the building of networks that stay within it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar

from torch import nn

from budgetnet.budget.amounts import amount, options, pixels, time
from budgetnet.budget.counting import ledger
from budgetnet.budget.latency import latency, measures
from budgetnet.budget.ledger import Ledger, Stored
from budgetnet.budget.meta import BuildingStopped, build_on_meta, builder_name
from budgetnet.budget.modules import require_module
from budgetnet.budget.refusal import AT_RESOLUTION, excesses, over_budget, over_while_building
from budgetnet.budget.scratch import NotFromScratch, asked_for, external
from budgetnet.budget.spend import Spent, early, spend
from budgetnet.values import one_of, true_or_false

_FAR = 16  # times a limit: beyond it nobody needs the MACs too, and counting them could take minutes

_LIMITS = ("params", "macs", "bytes", "ram", "latency")

Arguments = ParamSpec("Arguments")
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, init=False, repr=False)
class Budget:
    """The most that a network may cost: parameters, MACs for one image at a resolution, bytes, RAM, latency.

    Amounts are whole numbers or written: "2M", "300k", "1.5M", "10B" parameters or MACs; "300KB" (300,000) or
    "300KiB" (307,200) bytes, those of the whole file that `save` writes: tensors, the table of their names,
    and 2,048 set aside for the description of the model. `ram`, in bytes, bounds the activations of one image
    that are live at once, each from the operation that makes it to the last that reads it, weights apart.
    With `stored="int8"` `bytes` are those of the file that `export` writes with int8, counted from above, and
    activations take a byte each. `latency` ("20ms", or seconds) is measured on one thread of this machine's
    CPU, the median of 20 runs of one image, where a model is built, checked or spent on, and not where it is
    loaded, saved or gone on with. `macs`, `ram` and `latency` need the `resolution` in pixels.
    With `scratch=True` a model that began from external weights is refused too. All of it may be one text, as
    command lines take it: "bytes=300KB, stored=int8, ram=64KB, resolution=32". Raises ValueError for anything
    else.

        Budget(params="2M").build(torchvision.models.resnet18, num_classes=10)   # raises OverBudget
    """

    params: int | None
    macs: int | None
    resolution: int | None
    bytes: int | None
    ram: int | None
    latency: float | None
    stored: Stored | None
    scratch: bool

    def __init__(
        self,
        params: int | str | None = None,
        *,
        macs: int | str | None = None,
        resolution: int | None = None,
        bytes: int | str | None = None,
        ram: int | str | None = None,
        latency: float | str | None = None,
        stored: Stored | None = None,
        scratch: bool = False,
    ) -> None:
        given = {"params": params, "macs": macs, "bytes": bytes, "ram": ram, "latency": latency}
        if isinstance(params, str) and "=" in params:
            others = given | {"params": None, "resolution": resolution, "stored": stored, "scratch": scratch}
            Budget.__init__(self, **options(params, others))
            return
        if all(written is None for written in given.values()):
            raise ValueError(
                'a budget needs at least one limit: write Budget(params="2M"), or bytes=, ram= or latency='
            )
        true_or_false("a budget's scratch", scratch)
        if stored is not None:
            one_of("a budget's stored", stored, ("int8",))
            if bytes is None and ram is None:
                raise ValueError(
                    f"stored={stored!r} says how bytes and ram are counted: write "
                    f'Budget(bytes="300KB", stored={stored!r})'
                )
        object.__setattr__(self, "stored", stored)
        for limit, written in given.items():
            most = None
            if written is not None:
                most = time(written) if limit == "latency" else amount(written, limit)
            object.__setattr__(self, limit, most)
            if written is not None and resolution is None and limit in AT_RESOLUTION:
                raise ValueError(
                    f"{limit}={written!r} needs the resolution that it is counted at: write "
                    f"Budget({limit}={written!r}, resolution=96)"
                )
        object.__setattr__(self, "resolution", None if resolution is None else pixels(resolution))
        object.__setattr__(self, "scratch", scratch)

    def __repr__(self) -> str:
        options = (
            f"latency='{1000 * value:.8g}ms'"
            if option == "latency"
            else f"{option}={value!r}"
            if isinstance(value, bool | str)
            else f"{option}={value:_}"
            for option, value in self.describe().items()
        )
        return f"Budget({', '.join(options)})"

    @property
    def limits(self) -> dict[str, int]:
        """The limits that are set, of "params", "macs", "bytes", "ram" and "latency" in microseconds."""
        limits = {limit: getattr(self, limit) for limit in _LIMITS}
        if self.latency is not None:
            limits["latency"] = round(10**6 * self.latency)
        return {limit: most for limit, most in limits.items() if most is not None}

    def describe(self) -> dict[str, Any]:
        """The budget's options that are set, as JSON-able values, which `Budget.read` takes back."""
        given = {option.name: getattr(self, option.name) for option in fields(self)}
        return {option: value for option, value in given.items() if value is not None and value is not False}

    @classmethod
    def read(cls, described: Mapping[str, Any]) -> Budget:
        """The budget that `describe` gave; ValueError for what it could not have given."""
        options = {option.name for option in fields(cls)}
        if not isinstance(described, Mapping) or not set(described) <= options:
            raise ValueError(
                f"{described!r} does not describe a budget: its keys are {', '.join(sorted(options))}"
            )
        return cls(**described)

    def check(self, model: nn.Module) -> Ledger:
        """The ledger of `model`, with MACs and RAM where a resolution is set.

        A latency is measured last, on this machine. Raises OverBudget over any limit, and NotFromScratch for
        external weights where `scratch` is set.
        """
        return self._timed(model, self._counted(model))

    def _timed(self, model: nn.Module, costs: Ledger) -> Ledger:
        if self.latency is None or self.resolution is None or not measures():
            return costs
        costs = replace(costs, latency=latency(model, self.resolution))
        refusal = over_budget(costs, self.limits)
        if refusal is not None:
            raise refusal
        return costs

    def _counted(self, model: nn.Module) -> Ledger:
        require_module(model)
        self._check_scratch(type(model).__name__, external(model))
        costs = ledger(model, stored=self.stored)
        over = excesses(costs, self.limits)
        if self.resolution is not None and all(
            excess < _FAR * self.limits[limit] for limit, excess in over.items()
        ):
            costs = ledger(model, self.resolution, stored=self.stored)
        refusal = over_budget(costs, self.limits)
        if refusal is not None:
            raise refusal
        return costs

    def build(
        self, make: Callable[Arguments, Network], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Network:
        """What `make(*args, **kwargs)` returns if it is within budget; any callable that makes an nn.Module.

        It is called on the meta device first, where nothing is allocated and no random number is drawn,
        counted, and called again for real only when it passes. Raises OverBudget and NotFromScratch, and
        ValueError if the second call makes another network than the first. How it was made is kept as the
        attribute `built` of the model; that a builder of torchvision or timm was asked for trained weights,
        as its attribute `external`.

            model = Budget(params="2M").build(torchvision.models.shufflenet_v2_x1_0, num_classes=10)
        """
        began = asked_for(make, kwargs)
        self._check_scratch(builder_name(make), began)  # planning may fetch them already
        try:
            planned = build_on_meta(make, args, kwargs, early(self))
        except BuildingStopped as stop:
            raise over_while_building(stop, self.limits) from None
        self._check_scratch(builder_name(make), external(planned))
        expected = self._counted(planned)
        model = make(*args, **kwargs)
        counted = ledger(model, stored=self.stored)
        if (counted.params, counted.bytes) != (expected.params, expected.bytes):
            raise ValueError(
                f"{builder_name(make)} made {expected.params:,} parameters ({expected.bytes:,} bytes) when "
                f"it was counted and {counted.params:,} ({counted.bytes:,} bytes) when it was built: make it "
                "return the same network for the same arguments"
            )
        self._timed(model, expected)
        if hasattr(model, "built") and made(model) is None:
            raise ValueError(
                f"{builder_name(make)} uses the attribute `built`, which the budget needs: rename it"
            )
        model.built = Built(make, args, kwargs, self)  # type: ignore[assignment]  # a plain attribute
        if began and not external(model):
            model.external = began  # type: ignore[assignment]
        return model

    def widest(self, make: Callable[..., nn.Module], widths: Iterable[Any]) -> Spent:
        """The search `spend` over one knob: the last of the rising `widths` that keeps `make(width)` in
        budget.

            Budget(params="100k").widest(lambda width: nn.Linear(64, width), range(100, 5000, 100)).build()
        """
        return spend(lambda width: partial(self.build, make, width), {"width": widths}, self)

    def spend(
        self, make: Callable[..., nn.Module], /, knobs: Mapping[str, Iterable[Any]], **fixed: Any
    ) -> Spent:
        """The setting of free `knobs` for which `make(**knobs, **fixed)` leaves least of the budget unspent.

        The values of each knob stand in order of rising cost. Few settings are all counted; of many, the
        longest knob is bisected for each setting of the others. Networks are made on the meta device only.
        Raises OverBudget, naming the smallest, when none fits.

            spent = Budget(params="2M").spend(make, {"width": range(8, 513, 8), "depth": (2, 3)}, classes=10)
            print(spent)  # the setting, what it leaves, and what one step up of each knob would cost
            model = spent.build()
        """
        if doubled := sorted(set(knobs) & set(fixed)):
            raise ValueError(f"{doubled[0]} is both a knob and a fixed argument: give it as one of them")
        return spend(
            lambda **setting: partial(self.build, make, **fixed, **setting),
            knobs,
            self,
        )

    def _check_scratch(self, name: str, began: str) -> None:
        if self.scratch and began:
            raise NotFromScratch(
                f"{name} began from external weights, {began}, and the budget says scratch=True: build it "
                "without them, or drop scratch=True"
            )


@dataclass(frozen=True)
class Made:
    """`make(*args, **kwargs)`: how a model of `budgetnet.models` was made, kept as its attribute `built`."""

    make: Callable[..., nn.Module]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Built(Made):
    """The same under a budget, of any builder."""

    budget: Budget


def built(model: nn.Module) -> Built | None:
    """How `Budget.build` made `model`, None for a model made elsewhere."""
    origin = made(model)
    return origin if isinstance(origin, Built) else None


def made(model: nn.Module) -> Made | None:
    """How `Budget.build` or a function of `budgetnet.models` made `model`, None for others."""
    origin = getattr(model, "built", None)
    return origin if isinstance(origin, Made) else None
