"""Measures the house: its rooms, floors and arrows, and what is too long, from the source alone.

    python docs/house.py            # prints the figures
    python docs/house.py --all      # and where each of them lies

A room is a file or folder of the package; an arrow is an import of one room by another, wherever in a file it
stands. A floor is how long the longest chain of arrows down from a room is. An arrow up is an import of the
package's face from below it. An arrow goes past a face where it names a file inside another room.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "budgetnet"
FACES = ("__init__", "__main__")
LONGEST, MOST = 60, 9
"""Lines of a function, and its parameters, that are not too many."""


@dataclass(frozen=True)
class Import:
    """One import of the package's own: of "budgetnet.data.splits" the target is ("data", "splits")."""

    file: Path
    line: int
    target: tuple[str, ...]

    @property
    def room(self) -> str:
        """The room that the file belongs to."""
        return room_of(self.file)

    @property
    def other(self) -> str:
        """The room that is imported, or "__init__" for the face."""
        return self.target[0] if self.target else "__init__"

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE.parent)}:{self.line} budgetnet.{'.'.join(self.target)}"


def room_of(file: Path) -> str:
    """The room that a file of the package belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def trees() -> Mapping[Path, ast.Module]:
    """Every file of the package, parsed."""
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def rooms() -> frozenset[str]:
    """The rooms: everything in the package but its face."""
    return frozenset(room_of(path) for path in trees()) - set(FACES)


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the package's own, file by file."""
    return tuple(one for path, tree in trees().items() for one in _imports(path, tree))


def _imports(path: Path, tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "budgetnet":
                    yield Import(path, node.lineno, tuple(alias.name.split(".")[1:]))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "budgetnet":
            inside = tuple(node.module.split(".")[1:])
            if not inside:
                # Whoever asks the package for a room asks its face.
                yield Import(path, node.lineno, ())
            for alias in node.names:
                # `from budgetnet import guard` and `from budgetnet.data import kinds` name files.
                file = PACKAGE.joinpath(*inside, alias.name)
                offered = alias.name in face(inside) and room_of(path) != inside[0]
                named = (file.is_dir() or file.with_suffix(".py").exists()) and not offered
                yield Import(path, node.lineno, (*inside, alias.name) if named else inside)


def face(room: tuple[str, ...]) -> set[str]:
    """The names that a room's face has from its files."""
    tree = trees().get(PACKAGE.joinpath(*room, "__init__.py")) if room else None
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)] if tree else []
    return {alias.asname or alias.name for node in nodes for alias in node.names}


def arrows() -> dict[str, set[str]]:
    """Each room with the rooms that it imports."""
    found: dict[str, set[str]] = {room: set() for room in rooms()}
    for one in imports():
        if one.room in found and one.other in found and one.other != one.room:
            found[one.room].add(one.other)
    return found


def floors() -> list[set[str]]:
    """The rooms floor by floor, from those that import no other upwards; a circle is on the last."""
    left, levels = arrows(), []
    while left:
        free = {room for room, others in left.items() if not others & left.keys()} or set(left)
        levels.append(free)
        left = {room: others for room, others in left.items() if room not in free}
    return levels


def up() -> list[Import]:
    """Imports of the face from below it."""
    return [one for one in imports() if one.other == "__init__" and one.room in rooms() - {"cli"}]


def past() -> list[Import]:
    """Imports past another room's face: each file of another room that a file names."""
    found = {}
    for one in imports():
        inner = (PACKAGE / one.other).is_dir() and len(one.target) > 1
        if one.room != one.other and one.room not in FACES and inner:
            found[one.file, one.target] = one
    return list(found.values())


def circles() -> list[set[str]]:
    """The sets of files inside a room that import each other in a circle."""
    found = []
    for room in sorted(rooms()):
        files = {_name(path): path for path in trees() if room_of(path) == room}
        found += _circles({name: _beside(path, files) for name, path in files.items()})
    return found


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def _beside(path: Path, files: Mapping[str, Path]) -> set[str]:
    targets = {".".join(one.target) for one in imports() if one.file == path}
    # A room's own face gathers its files; that they are reached through it is no arrow of theirs.
    return (targets & files.keys()) - {_name(path)}


def _circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen, todo = set[str](), list(graph[start])
        while todo:
            if (name := todo.pop()) not in seen:
                seen.add(name)
                todo += graph[name]
        reach[start] = seen
    groups = {frozenset(o for o in reach[name] if name in reach[o]) for name in graph if name in reach[name]}
    return [set(group) for group in groups]


def functions() -> Iterator[tuple[str, int, int]]:
    """Every function with its lines and its parameters, self and the like left out."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                names = [argument.arg for argument in given if argument.arg not in ("self", "cls")]
                place = f"{path.relative_to(PACKAGE.parent)}:{node.lineno} {node.name}"
                yield place, (node.end_lineno or node.lineno) - node.lineno + 1, len(names)


def lines() -> Counter[str]:
    """The lines of each room."""
    found: Counter[str] = Counter()
    for path in trees():
        found[room_of(path)] += path.read_text().count("\n")
    return found


def main() -> None:
    """Print the figures, and with --all where each lies."""
    shown = "--all" in sys.argv[1:]
    levels, of_rooms = floors(), lines()
    files = Counter(room_of(path) for path in trees() if path.name != "__init__.py")
    long = [f"{place}: {length} lines" for place, length, _ in functions() if length > LONGEST]
    many = [f"{place}: {given} parameters" for place, _, given in functions() if given > MOST]
    figures: list[tuple[str, int, list[str]]] = [
        ("rooms", len(rooms()), [f"{room}: {of_rooms[room]:,} lines" for room in sorted(rooms())]),
        (
            "floors",
            len(levels),
            [f"{level}: {', '.join(sorted(names))}" for level, names in enumerate(levels, 1)],
        ),
        ("arrows up", len(up()), [str(one) for one in up()]),
        ("circles", len(circles()), [", ".join(sorted(names)) for names in circles()]),
        ("imports past a face", len(past()), [str(one) for one in past()]),
        ("lines of the package", sum(of_rooms.values()), []),
        ("files of engine and trainer", files["engine"] + files["trainer"], []),
        (f"functions over {LONGEST} lines", len(long), long),
        (f"functions with more than {MOST} parameters", len(many), many),
    ]
    for name, figure, places in figures:
        print(f"{name:<42}{figure:>7,}")
        if shown:
            print("".join(f"    {place}\n" for place in places), end="")


if __name__ == "__main__":
    main()
