"""A model file on the disk: its card and what its tensors are, checked before any of it is used."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from budgetnet.budget import (
    DESCRIPTION,
    Budget,
    OverBudget,
    built,
    flat,
    forms,
    head,
    ledger,
    saved_tensors,
    size,
)
from budgetnet.files import Damaged, Stored, apart, metadata, read_sealed, seal, write_whole
from budgetnet.layers import Quantised
from budgetnet.modelfile.card import Card
from budgetnet.modelfile.packing import packed
from budgetnet.modelfile.shipped import weights
from budgetnet.process import VERSION
from budgetnet.run import MODEL
from budgetnet.values import nearest, one_of, true_or_false, whole

FORMAT = 2
"""2 has digests over all of the file; 1 had none, and still loads."""
LARGEST_SIDE, MOST_CHANNELS, HIGHEST_LIMIT = 4096, 4096, 2**256
"""What a card may ask for: pixels of an image's side, channels, and a budget's limits."""


class BadModelFile(ValueError):
    """A model file that is damaged, hostile, or none at all: which, and why."""


def write(model: nn.Module, state: Mapping[str, Tensor], described: Card, path: Path) -> None:
    """Write a state of `model` and its card to a file, whole or not at all.

    Raises OSError, and ValueError for a card that `read_card` would not take back.
    """
    _check(described)
    tensors = apart({name: state[name] for name in saved_tensors(model)})
    write_whole(path, seal(packed(model, tensors), to_words(described)))


def check_weight(model: nn.Module, described: Card) -> None:
    """Raises OverBudget where the file of `model` with this card would be over its budget's bytes."""
    origin = built(model)
    if origin is None or origin.budget.bytes is None:
        return
    tensors, stored = flat(forms(model)), origin.budget.stored
    words = metadata(to_words(described))
    weight, most = head(tensors, words) + sum(map(size, tensors.values())), origin.budget.bytes
    if stored is not None:
        longer = max(0, sum(map(len, words.values())) - DESCRIPTION)
        weight = ledger(model, stored=stored).saved + longer
    if weight > most:
        raise OverBudget(
            f"{weight:,} bytes as {stored or 'saved'}, {sum(map(len, words.values())):,} of them the "
            f"description of the model and its {len(described.classes):,} classes, is {weight - most:,} over "
            f"the budget of {most:,}; make it narrower or shallower, shorten the classes' names, or allow "
            f"Budget(bytes={weight:_}{'' if stored is None else f', stored={stored!r}'})",
            ledger(model),
        )


def to_words(described: Card) -> dict[str, Any]:
    """A card as JSON-able values, as a file holds it; `from_words` takes them back."""
    entries = asdict(described)
    # Left out where they say nothing, so that an earlier budgetnet reads the file too.
    for name in ("mirror", "shift", "stored", "quantised"):
        if not entries[name]:
            del entries[name]
    if described.shape == "crop":
        del entries["shape"]
    return {"format": FORMAT, "version": VERSION, **entries}


def read_card(path: str | Path) -> Card:
    """The card of a model file, without its weights. Raises BadModelFile for a file that is not a model."""
    return opened(Path(path))[1]


def opened(path: Path, *, foreign: bool = False) -> tuple[Stored, Card]:
    """What a model file holds, before its tensors are read. Raises BadModelFile.

    With `foreign` a safetensors file of another program is taken too, which says nothing of its model.
    """
    with refusing(path, "has a damaged card"):
        stored = read_sealed(path)
        if stored.words is None:
            if foreign:
                return stored, Card()
            raise BadModelFile(
                f"{path} has no budgetnet card: it was not saved by budgetnet.save; name what builds its "
                f"model: budgetnet.load({str(path)!r}, make, ...)"
            )
        return stored, from_words(stored.words, stored.sealed)


@contextmanager
def refusing(path: Path, what: str) -> Iterator[None]:
    """Within it whatever is wrong with the file at `path` is a BadModelFile; `what` says where in it."""
    try:
        yield
    except FileNotFoundError:
        raise BadModelFile(
            f"there is no model file {path}; a finished run's folder holds {MODEL}"
            f"{nearest(path, list(weights()))}"
        ) from None
    except OSError as error:
        raise BadModelFile(f"{path} cannot be read: {error.strerror or error}") from None
    except BadModelFile:
        raise
    except Damaged as error:
        raise BadModelFile(str(error)) from None
    except (ValueError, TypeError) as error:
        raise BadModelFile(f"{path} {what}: {error}") from None


def from_words(words: Mapping[str, Any], sealed: bool = True) -> Card:
    """The card in a file's words. Raises ValueError for what is none, without the file's name."""
    if "format" not in words or "version" not in words:
        raise ValueError("it names no format and version")
    version = words["format"]
    if version not in (1, FORMAT):
        raise ValueError(
            f"it has format {version!r:.20}, and this budgetnet reads format {FORMAT}; update it"
        )
    if sealed != (version == FORMAT):
        raise ValueError("its digests are missing" if version == FORMAT else "format 1 has no digests")
    entries = {name: word for name, word in words.items() if name not in ("format", "version")}
    unknown = set(entries) - {field.name for field in fields(Card)}
    if unknown:
        raise ValueError(f"it has an entry {min(unknown)!r:.40}, which cards do not have")
    sides = entries.get("stored")
    entries["stored"] = tuple(sides) if isinstance(sides, list) else sides
    names = entries.get("classes", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"its classes should be a list of names, not {names!r:.60}")
    card = Card(**{**entries, "classes": tuple(names)})
    _check(card)
    return card


def _check(card: Card) -> None:
    for name in ("resize", "crop"):
        if getattr(card, name) is not None:
            whole(f"its {name}", getattr(card, name), 1, LARGEST_SIDE)
    sides, pair = card.stored, isinstance(card.stored, tuple) and len(card.stored) == 2
    if sides is not None and not (pair and all(_within(side, LARGEST_SIDE) for side in sides)):
        raise ValueError(
            f"its stored should be a height and a width from 1 to {LARGEST_SIDE:,} pixels, not {sides!r:.40}"
        )
    one_of("its shape", card.shape, ("crop", "squash"))
    whole("its channels", card.channels, 1, MOST_CHANNELS)
    true_or_false("its mirror", card.mirror)
    whole("its shift", card.shift, 0, LARGEST_SIDE)
    for name in ("origin", "external"):
        if not isinstance(getattr(card, name), str):
            raise ValueError(f"its {name} should be text, not {getattr(card, name)!r:.40}")
    if card.builder is not None and not isinstance(card.builder, str):
        raise ValueError(f"its builder should be a name, not {card.builder!r:.40}")
    if card.quantised is not None:
        options = card.quantised
        if not isinstance(options, dict) or set(options) - {"activations"} != {"bits", "ends", "keep"}:
            raise ValueError(f"its quantised should be bits, ends and keep, not {options!r:.80}")
        Quantised(nn.Module, **options)
    if card.budget is not None:
        # Written amounts ("9e999999999") are for people: Budget.describe gives whole numbers.
        limits = card.budget.values() if isinstance(card.budget, dict) else [None]
        if not all(
            held is True or held == "int8" or _brief(held) or _within(held, HIGHEST_LIMIT) for held in limits
        ):
            raise ValueError(f"its budget should be limits as whole numbers, not {card.budget!r:.80}")
        Budget.read(card.budget)


def _brief(number: Any) -> bool:
    """Whether it is a latency, in seconds."""
    return isinstance(number, float) and 0 < number <= 10


def _within(number: Any, most: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= most
