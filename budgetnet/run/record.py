"""Record: what a run's record may hold, entry by entry."""

from collections.abc import Mapping
from types import NoneType
from typing import Any

from budgetnet.run.epoch import HIGHEST

_DEEPEST = 40
_RECORDED: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("status", "started", "ended", "recipe_file", "error", "precision", "device"), (str,)),
    **dict.fromkeys(("external", "after"), (str, NoneType)),
    **dict.fromkeys(("recipe", "data", "model", "versions", "result"), (dict,)),
    **dict.fromkeys(("notes", "sessions", "test_uses"), (list,)),
    **dict.fromkeys(("seed", "threads", "planned"), (int, NoneType)),
    **dict.fromkeys(("scale", "seconds_before"), (int, float, NoneType)),
    "budget": (dict, NoneType),
    "time": (dict, NoneType),
    "within": (dict, NoneType),
    "settings": (list, NoneType),
    "fitted": (list,),
    "fold": (dict, NoneType),
    "command": (str,),
    "described": (int,),
    "source": (dict,),
    "commit": (dict, NoneType),
    "code": (str, dict, NoneType),
}
_KINDS = {str: "text", dict: "an object", list: "a list", int: "a whole number", float: "a number"}


def wrong(record: Any) -> str:
    """What of a record is not as a trainer writes it, in words; "" for a good one."""
    if not isinstance(record, dict):
        return "is not"
    for name, kinds in _RECORDED.items():
        value = record.get(name, kinds[0]())
        if not isinstance(value, kinds) or isinstance(value, bool):
            return f"its {name} should be {_KINDS[kinds[0]]}, not {value!r:.60}"
    for name, value in record.get("result", {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float | NoneType):
            return f"its result's {name:.40} should be a number, not {value!r:.60}"
    for session in record.get("sessions", []):
        if not isinstance(session, dict) or not isinstance(session.get("seconds", 0.0), int | float):
            return f"its sessions should be objects with seconds, not {session!r:.60}"
    return beyond(record)


def beyond(record: Any) -> str:
    """What of a JSON value is larger or deeper than whatever shows it could bear, in words; "" for none."""
    waiting = [(record, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, int) and abs(value) >= HIGHEST:
            return f"{str(value)[:20]}... is larger than any number here"
        if isinstance(value, dict | list):
            if depth > _DEEPEST:
                return f"is nested deeper than {_DEEPEST} levels"
            waiting += [(item, depth + 1) for item in (value.values() if isinstance(value, dict) else value)]
    return ""
