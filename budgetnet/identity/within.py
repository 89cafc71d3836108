"""Within: where a description is: what it is inside of, what it has told already, and what is left out."""

import json
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from budgetnet.identity.code import short_digest

_LONGEST = 8000

_first: dict[tuple[int, str], tuple["weakref.ref[Any]", dict[str, Any]]] = {}


@dataclass(frozen=True)
class Within:
    """`describe` describes a value within what has the ids `path`; `told` are functions and classes by id.

    What is `apart`, by id, is named and not described: the model that learns.
    """

    describe: Callable[[Any, "Within"], Any]
    path: tuple[int, ...] = ()
    apart: frozenset[int] = frozenset()
    told: dict[int, Any] = field(default_factory=dict)

    def of(self, value: Any) -> Any:
        """The description of a part."""
        return self.describe(value, self)

    def all(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The descriptions of parts by name."""
        return {name: self.of(value) for name, value in values.items()}

    def deeper(self, value: Any) -> "Within":
        """Where the parts of `value` are."""
        return replace(self, path=(*self.path, id(value)))

    def once(self, value: Any, how: Callable[[], Any]) -> Any:
        """What `how` gives, worked out once in a description: functions may use one another many times."""
        if id(value) not in self.told:
            self.told[id(value)] = how()
        return self.told[id(value)]

    def at_first(self, owner: Any, what: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """What an object or function may change itself, as it was when first described in this process.

        Where it was called meanwhile, what it left there for the next call is no part of what was asked for.
        """
        first = _first.get((id(owner), what))
        if first is not None and first[0]() is owner:
            return first[1]
        described = self.all(values)
        with suppress(TypeError):  # of what nothing can refer to weakly
            _first[id(owner), what] = (weakref.ref(owner), described)
        return described


def bounded(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry as it is, or where it is too long for a record its class and a digest."""
    text = json.dumps(entry, sort_keys=True, default=repr)
    return entry if len(text) <= _LONGEST else {"class": entry["class"], "digest": short_digest(text)}
