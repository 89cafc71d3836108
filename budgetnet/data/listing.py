"""What lies in a folder of photos: its classes, its parts, and which file belongs to which."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from budgetnet.data.error import DataError

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
ENDINGS = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
)


@dataclass(frozen=True)
class File:
    """A photo: its path below the root, its bytes, when it was last changed (ns), and its class."""

    path: str
    size: int
    changed: int
    label: int


@dataclass(frozen=True)
class Listing:
    """The photos of each part that is there, in order, and what was left out.

    `ignored` counts the endings of files that are no photos in a class folder, `unlabelled` are the folders
    of parts that tell no classes.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, tuple[File, ...]]
    ignored: Counter[str]
    unlabelled: tuple[Path, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was left out."""
        notes = [
            f"{folder} was left out, for it has none of train's class folders and so no labels"
            for folder in self.unlabelled
        ]
        if self.ignored:
            kinds = ", ".join(kind or "without an ending" for kind, _ in self.ignored.most_common(4))
            count = self.ignored.total()
            files = "1 file was" if count == 1 else f"{count:,} files were"
            notes.append(f"{files} ignored, not being photos in a class folder ({kinds})")
        return tuple(notes)


def listing(root: Path) -> Listing:
    """Return what lies in `root`: train, perhaps val and test, with class folders each, or these alone.

    Photos may lie at any depth below their class folder. The val folder of Tiny-ImageNet as published,
    images beside val_annotations.txt, is understood. Raises `DataError` for a missing root, no or empty
    classes, or stray classes.
    """
    if not os.path.isdir(root):
        what = "is a file, not a folder" if os.path.isfile(root) else "is not there"
        raise DataError(f"the folder of photos {root} {what}: name the folder that holds the class folders")
    try:
        return _listing(root)
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be looked into ({error.strerror}): it must be yours to read"
        ) from None


def _listing(root: Path) -> Listing:
    folders = _parts(root)
    classes = tuple(_subfolders(folders["train"]))
    if len(classes) < 2:
        found = f"only '{classes[0]}'" if classes else "none"
        raise DataError(
            f"{folders['train']} should hold a folder for each of two classes or more, but holds {found}"
        )
    ignored: Counter[str] = Counter()
    parts, unlabelled = {}, []
    for name, folder in folders.items():
        annotations = folder / "val_annotations.txt"
        if name != "train" and annotations.is_file():
            parts[name] = _annotated(root, annotations, classes, ignored)
            continue
        strays = [found for found in _subfolders(folder) if found not in classes]
        if name != "train" and len(strays) == len(_subfolders(folder)):
            unlabelled.append(folder)
            continue
        if strays:
            raise DataError(
                f"{folder} has a class folder '{strays[0]}' that train lacks: add it there, or move it away"
            )
        parts[name] = _labelled(root, folder, classes, ignored)
    counts = Counter(file.label for file in parts["train"])
    for label, name in enumerate(classes):
        if not counts[label]:
            folder = folders["train"] / name
            raise DataError(
                f"the class folder {folder} holds no photos ({' '.join(ENDINGS[:6])} ...): fill or remove it"
            )
    filled = {name: files for name, files in parts.items() if files}
    return Listing(root, classes, filled, ignored, tuple(unlabelled))


def _parts(root: Path) -> dict[str, Path]:
    """Return the folders of train, val and test that are there; the root alone is train."""
    parts: dict[str, Path] = {}
    for name in _subfolders(root):
        part = PARTS.get(name.lower())
        if part in parts:
            raise DataError(
                f"{root} holds both '{parts[part].name}' and '{name}', one too many: move one away"
            )
        if part:
            parts[part] = root / name
    if parts and "train" not in parts:
        found = next(iter(parts.values())).name
        raise DataError(
            f"{root} holds '{found}' but no 'train': put the training photos into {root / 'train'}"
        )
    return {name: parts[name] for name in ("train", "val", "test") if name in parts} or {"train": root}


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    return sorted(name for name in names if not name.startswith((".", "__MACOSX")))


def _labelled(root: Path, folder: Path, classes: tuple[str, ...], ignored: Counter[str]) -> tuple[File, ...]:
    """Return the photos in the class folders of one part."""
    with os.scandir(folder) as entries:
        loose = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    ignored.update(Path(name).suffix.lower() for name in loose)
    files = []
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            for path in _walk(folder / name):
                if path.lower().endswith(ENDINGS):
                    files.append(_file(root, path, label))
                else:
                    ignored[Path(path).suffix.lower()] += 1
    return tuple(files)


def _annotated(
    root: Path, annotations: Path, classes: tuple[str, ...], ignored: Counter[str]
) -> tuple[File, ...]:
    """Return the photos whose class a tab-separated file states, one a line: name, class, whatever else."""
    labels = {}
    for number, line in enumerate(annotations.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        name, _, rest = line.partition("\t")
        stated = rest.partition("\t")[0].strip()
        if stated not in classes:
            raise DataError(
                f"line {number} of {annotations} names the class {stated[:40]!r}, which train lacks: mend it"
            )
        labels[name] = classes.index(stated)
    files = []
    for path in _walk(annotations.parent):
        if os.path.basename(path) in labels:
            files.append(_file(root, path, labels[os.path.basename(path)]))
        elif path != str(annotations):
            ignored[Path(path).suffix.lower()] += 1
    return tuple(files)


def _walk(top: Path) -> list[str]:
    """Return the files below a folder, hidden ones apart, in an order that is the same everywhere."""

    def refuse(error: OSError) -> None:
        raise error

    found = os.walk(top, onerror=refuse)
    return sorted(
        os.path.join(folder, name) for folder, _, names in found for name in names if not name.startswith(".")
    )


def _file(root: Path, path: str, label: int) -> File:
    relative = os.path.relpath(path, root).replace(os.sep, "/")
    try:
        found = os.stat(path)
    except OSError:
        # A dangling link: the decoder will say so, with the other files that cannot be read.
        return File(relative, 0, 0, label)
    return File(relative, found.st_size, found.st_mtime_ns, label)
