"""Model files: weights in safetensors with a card beside them that says how to build and use the model."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as pack
from torch import Tensor, nn

import budgetnet
from budgetnet.budget import Budget, built, external
from budgetnet.run import MODEL, write_whole

CARD = "budgetnet"
FORMAT = 1


@dataclass(frozen=True)
class Card:
    """What a saved model says of itself.

    `builder` is the name of a function of `budgetnet.models` with its `arguments`, or None for a model that
    was built in another way; `origin` then names that. `classes` are the labels' names in order, `resize`
    and `crop` the pixels that it is to be tested at, `budget` the limits that it keeps. `external` says what
    external weights it began from, "" for none; `arguments` leave them out, so that a load never needs them.
    """

    classes: tuple[str, ...] = ()
    resize: int | None = None
    crop: int | None = None
    channels: int = 3
    builder: str | None = None
    arguments: Any = None
    origin: str = ""
    budget: dict[str, Any] | None = None
    external: str = ""

    def text(self) -> str:
        """The card as JSON."""
        return json.dumps({"format": FORMAT, "version": budgetnet.__version__, **asdict(self)})


def card(model: nn.Module) -> Card | None:
    """The card of a trained or loaded model, None where it has none."""
    found = getattr(model, "card", None)
    return found if isinstance(found, Card) else None


def described(model: nn.Module, **entries: Any) -> Card:
    """A card for `model`: how Budget.build built it, with `entries` (classes, resize, crop, channels)."""
    made = built(model)
    entries["external"] = external(model)
    if made is None:
        return Card(origin=f"a {type(model).__name__}", **entries)
    name = getattr(made.make, "__qualname__", repr(made.make))
    origin = f"{getattr(made.make, '__module__', '')}.{name}".lstrip(".")
    budget = made.budget.describe()
    try:
        builder = _public_name(made.make, "models")
        keywords = dict(made.kwargs)
        if entries["external"] and "weights" in keywords:
            keywords["weights"] = None  # the file holds what became of them
        arguments = _encoded([list(made.args), keywords])
    except _NotPortable:
        return Card(origin=origin, budget=budget, **entries)
    return Card(builder=builder, arguments=arguments, origin=origin, budget=budget, **entries)


class _NotPortable(Exception):
    """A builder or argument that a file cannot name."""


def _public_name(value: object, room: str) -> str:
    """The name under which budgetnet.models or budgetnet.layers makes `value` public."""
    module = getattr(budgetnet, room)
    for name in module.__all__:
        if getattr(module, name) is value:
            return str(name)
    raise _NotPortable


def _encoded(value: object) -> Any:
    """`value` as JSON: functions of budgetnet.layers and classes of torch.nn by name, tuples marked."""
    if value is None or isinstance(value, bool | int | float | str):
        if isinstance(value, float) and not math.isfinite(value):
            raise _NotPortable
        return value
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_encoded(item) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _encoded(item) for key, item in value.items()}}
    if isinstance(value, type):
        name = str(value.__name__)
        if not issubclass(value, nn.Module) or vars(nn).get(name) is not value:
            raise _NotPortable
        return {"torch.nn": name}
    if isinstance(value, partial):
        return {"partial": [_encoded(value.func), _encoded(list(value.args)), _encoded(value.keywords)]}
    if callable(value):
        return {"layers": _public_name(value, "layers")}
    raise _NotPortable


def _decoded(value: Any, path: Path) -> Any:
    """The inverse of `_encoded`; names nothing but public layers of budgetnet and modules of torch.nn."""
    if isinstance(value, list):
        return [_decoded(item, path) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items() if len(value) == 1 else ((None, None),)
    if kind == "tuple" and isinstance(held, list):
        return tuple(_decoded(item, path) for item in held)
    if kind == "dict" and isinstance(held, dict):
        return {key: _decoded(item, path) for key, item in held.items()}
    if kind == "partial" and isinstance(held, list) and len(held) == 3:
        made, args, keywords = (_decoded(item, path) for item in held)
        return partial(made, *args, **keywords)
    if kind == "layers" and held in budgetnet.layers.__all__:
        return getattr(budgetnet.layers, held)
    found = getattr(nn, held, None) if kind == "torch.nn" and isinstance(held, str) else None
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    raise ValueError(f"{path}'s card should name layers of budgetnet or torch.nn, not {value!r}")


def save(
    model: nn.Module, path: str | Path, *, classes: Sequence[str] = (), resolution: int | None = None
) -> None:
    """Write the model's weights and card to one safetensors file, whole or not at all.

    The card of a trained or loaded model is kept, apart from what is given here. The model's budget is
    checked once more. Raises OverBudget if it no longer keeps it.
    """
    made = built(model)
    if made is not None:
        made.budget.check(model)
    found = card(model) or described(model)
    entries = {name: getattr(found, name) for name in ("classes", "resize", "crop", "channels")}
    if classes:
        entries["classes"] = tuple(classes)
    if resolution is not None:
        entries["resize"] = entries["crop"] = resolution
    target = Path(path)
    try:
        write(model, model.state_dict(), replace(found, **entries), target)
    except OSError as error:
        raise ValueError(
            f"{target} cannot be written: {error.strerror or error}; choose another path"
        ) from None


def write(model: nn.Module, state: Mapping[str, Tensor], described: Card, path: Path) -> None:
    """Write a state of `model` and its card to a file, whole or not at all. Raises OSError."""
    # safetensors wants contiguous tensors, which channels_last weights are not.
    tensors = {name: state[name].detach().cpu().contiguous() for name in _owned(model)}
    write_whole(path, pack(tensors, {CARD: described.text()}))


def _owned(model: nn.Module) -> dict[str, Tensor]:
    """The state's tensors by name, each shared one once, under its first name."""
    state: dict[str, Tensor] = model.state_dict(keep_vars=True)
    first = {id(tensor): name for name, tensor in reversed(state.items())}
    return {name: tensor for name, tensor in state.items() if first[id(tensor)] == name}


def read_card(path: str | Path) -> Card:
    """The card of a model file, without its weights. Raises ValueError for a file that is not a model."""
    target = Path(path)
    try:
        with safe_open(target, framework="pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise ValueError(f"there is no model file {target}; a finished run's folder holds {MODEL}") from None
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{target} should be a safetensors file, and is not: {error}") from None
    try:
        entries = json.loads(metadata[CARD])
        version = entries.pop("format")
        entries.pop("version")
        if version != FORMAT:
            raise ValueError(
                f"{target} has card format {version}, and this budgetnet reads format {FORMAT}; update it"
            )
        return Card(**{**entries, "classes": tuple(entries["classes"])})
    except KeyError:
        raise ValueError(f"{target} has no budgetnet card: it was not saved by budgetnet.save") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{target} has a damaged card: {error}") from None


def load(
    path: str | Path,
    make: Callable[..., nn.Module] | None = None,
    *args: Any,
    device: str | torch.device = "cpu",
    **kwargs: Any,
) -> nn.Module:
    """The trained model of a run's folder or of a model file, in evaluation mode, ready for Trainer.predict.

    A model of `budgetnet.models` is rebuilt from the file's own card. Any other builder is named by the
    caller: `load("runs/mine-1", my_model, classes=10)`; no code named by a file is ever imported. The card's
    budget is checked again. Raises ValueError (OverBudget, for that) with what was expected and found.
    External weights that a model began from are not needed; its attribute `external` still names them.
    """
    target = Path(path)
    if target.is_dir():
        target = target / MODEL
    found = read_card(target)
    if make is None:
        model = _from_card(found, target)
    else:
        model = _built(found, make, args, kwargs)
    fill(model, target)
    if found.external:
        model.external = found.external  # type: ignore[assignment]
        made = built(model)
        if made is not None:
            made.budget.check(model)  # as it was built anew, it looked as if from scratch
    model.card = found  # type: ignore[assignment]
    ready: nn.Module = model.eval().to(device)
    return ready


def _from_card(found: Card, path: Path) -> nn.Module:
    if found.builder is None:
        raise ValueError(
            f"{path} holds {found.origin or 'a model'}, which budgetnet cannot build by itself; "
            f"name its builder: budgetnet.load({str(path)!r}, make, ...)"
        )
    if found.builder not in budgetnet.models.__all__:
        raise ValueError(
            f"{path}'s card names the builder {found.builder!r}, which budgetnet.models does not have"
        )
    make = getattr(budgetnet.models, found.builder)
    try:
        args, keywords = _decoded(found.arguments, path)
        if isinstance(keywords, dict) and "weights" in keywords:
            keywords = {**keywords, "weights": None}  # a load fetches nothing, whatever a card says
        # Shapes are compared before any memory is taken: a card may promise more than the file holds.
        with torch.device("meta"):
            planned = make(*args, **keywords)
    except TypeError as error:
        raise ValueError(f"{path} has a damaged card: {error}") from None
    _compare(planned, path)
    return _built(found, make, tuple(args), keywords)


def _built(
    found: Card, make: Callable[..., nn.Module], args: tuple[Any, ...], keywords: dict[str, Any]
) -> nn.Module:
    """What `make` makes, within the card's budget; torch's own randomness is left as found."""
    with torch.random.fork_rng(devices=[]):
        return (
            Budget.read(found.budget).build(make, *args, **keywords)
            if found.budget
            else make(*args, **keywords)
        )


def _compare(model: nn.Module, path: Path) -> None:
    """Refuse a file whose tensors are not those of `model`, by name and shape."""
    expected = {name: list(tensor.shape) for name, tensor in _owned(model).items()}
    with safe_open(path, framework="pt") as file:
        found = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    for name in [*expected, *sorted(found)]:
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{path} does not fit its model: {name} should have shape {expected.get(name, 'none')}, "
                f"found {found.get(name, 'none')}"
            )


def fill(model: nn.Module, path: Path) -> None:
    """Load the file's tensors into `model`. Raises ValueError where they are not those of `model`."""
    _compare(model, path)
    model.load_state_dict(load_file(path), strict=False)
