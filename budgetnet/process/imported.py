"""Imported: what recipe files import from their own folders, each folder's kept apart in one process."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType


@dataclass
class _Imported:
    """What the recipe files of one folder imported, and the texts of the files that they consist of."""

    modules: dict[str, ModuleType] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def put_away(self) -> None:
        for name, module in self.modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


_by_folder: dict[Path, _Imported] = {}
"""A process knows modules by their names alone, in `sys.modules`; this says whose they are."""


@contextmanager
def beside(path: Path, shipped: Path, texts: Mapping[str, str] | None = None) -> Iterator[None]:
    """Within it, a recipe file may import what lies beside it, and what is in `shipped`, another folder.

    Two folders may each have a `helper`: what was imported for another folder is put away, and this folder's
    put back. With `texts`, what `sources` finds now, this folder's are imported anew where one of them has
    changed. Raises ValueError where somebody else has imported another module by the name of one of `texts`.
    """
    folder = path.resolve().parent
    places = (folder, shipped.resolve())
    ours = _by_folder.setdefault(folder, _Imported())
    for imported in _by_folder.values():
        if imported is not ours:
            imported.put_away()
    if texts is not None:
        if any(ours.texts.get(name, text) != text for name, text in texts.items()):
            ours.put_away()
            ours.modules.clear()
        ours.texts.update(texts)
        importlib.invalidate_caches()
    sys.modules.update(ours.modules)
    if texts is not None:
        _refuse_strangers(path, places, texts)
    before = dict(sys.modules)
    sys.path.insert(0, str(folder))
    sys.path.append(str(places[1]))
    try:
        yield
    finally:
        for place in places:
            with suppress(ValueError):
                sys.path.remove(str(place))
        for name, module in list(sys.modules.items()):
            # What belongs to a package that was there before is not this folder's, wherever it lies.
            whole = name.partition(".")[0]
            new = before.get(name) is not module and (whole not in before or whole in ours.modules)
            if new and _file(module) in _files(name, places):
                ours.modules[name] = module


def _refuse_strangers(path: Path, places: tuple[Path, Path], texts: Mapping[str, str]) -> None:
    for text in texts:
        name = text.removesuffix(".py").removesuffix(".__init__")
        module = sys.modules.get(name)
        if name == path.stem or module is None or _file(module) in _files(name, places):
            continue
        raise ValueError(
            f"{path} imports {name} from its own folder, and this process has imported another {name}, from "
            f"{_file(module) or 'Python itself'}: give one of them another name"
        )


def _files(name: str, places: tuple[Path, Path]) -> list[Path]:
    """The files that a module of this name would be read from."""
    stems = [place.joinpath(*name.split(".")) for place in places]
    return [file for stem in stems for file in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py")]


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None
