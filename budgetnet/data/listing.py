"""What lies in a folder of photos: its classes, its parts, which file belongs to which, and what is odd."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from budgetnet.data.error import DataError
from budgetnet.data.kinds import Finding, sentences
from budgetnet.data.walk import ENDINGS as ENDINGS
from budgetnet.data.walk import below, folded, loose, subfolders, walk

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class File:
    """A photo: its path below the root, its bytes, when it was last changed (ns), and its class."""

    path: str
    size: int
    changed: int
    label: int


@dataclass(frozen=True)
class Listing:
    """The photos of each part that is there, in order, and what is odd about the folders.

    A finding that is "refused" holds the whole sentence as its detail.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, tuple[File, ...]]
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> tuple[str, ...]:
        """Why the folder cannot be used, a sentence for each reason."""
        return tuple(finding.detail for finding in self.findings if finding.policy == "refused")

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was left out, or is used although it is odd."""
        return sentences(finding for finding in self.findings if finding.policy != "refused")


def listing(root: Path) -> Listing:
    """Return what lies in `root`: train, perhaps val and test, with class folders each, or these alone.

    Photos may lie at any depth below their class folder. The val folder of Tiny-ImageNet as published,
    images beside val_annotations.txt, is understood. Raises `DataError` for a missing root, no or empty
    classes, classes that differ in case alone, or stray classes.
    """
    found = survey(root)
    if found.refused:
        more = len(found.refused) - 1
        rest = f" (and {more} more like it: `budgetnet check` names them)" if more else ""
        raise DataError(found.refused[0] + rest)
    return found


def survey(root: Path) -> Listing:
    """Return what lies in `root` as `listing` does, with what cannot be used among the findings.

    Raises `DataError` for a root that is no folder, and for folders that cannot be looked into.
    """
    if not os.path.isdir(root):
        what = "is a file, not a folder" if os.path.isfile(root) else "is not there"
        raise DataError(f"the folder of photos {root} {what}: name the folder that holds the class folders")
    try:
        return _Survey(root).listing()
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be looked into ({error.strerror}): it must be yours to read"
        ) from None


@dataclass
class _Survey:
    """A look at one root, which collects what it finds."""

    root: Path
    findings: list[Finding] = field(default_factory=list)

    def listing(self) -> Listing:
        folders = self._parts()
        if not folders:
            return Listing(self.root, (), {}, tuple(self.findings))
        classes = tuple(subfolders(folders["train"]))
        if len(classes) < 2:
            found = f"only '{classes[0]}'" if classes else "none"
            self._refuse(
                "one class",
                folders["train"],
                f"{folders['train']} should hold a folder for each of two classes or more, but holds {found}",
            )
        self._clashes(folders["train"], classes)
        parts = {}
        for name, folder in folders.items():
            annotations = folder / "val_annotations.txt"
            if name != "train" and annotations.is_file():
                parts[name] = self._annotated(annotations, classes)
            elif self._fits(name, folder, classes):
                parts[name] = self._labelled(folder, classes)
        counts = Counter(file.label for file in parts["train"])
        for label, name in enumerate(classes):
            if not counts[label]:
                path, endings = folders["train"] / name, " ".join(ENDINGS[:6])
                self._refuse(
                    "empty class",
                    path,
                    f"the class folder {path} holds no photos ({endings} ...): fill or remove it",
                )
        filled = {name: files for name, files in parts.items() if files}
        self.findings += [
            Finding("missing class", label, f"{name} has no photo of it")
            for name in parts.keys() - filled.keys() - {"train"}
            for label in classes
        ]
        return Listing(self.root, classes, filled, tuple(dict.fromkeys(self.findings)))

    def _refuse(self, kind: str, path: Path, sentence: str) -> None:
        self.findings.append(Finding(kind, below(self.root, path), sentence))

    def _parts(self) -> dict[str, Path]:
        """Return the folders of train, val and test that are there; the root alone is train."""
        parts: dict[str, Path] = {}
        for name in subfolders(self.root):
            part = PARTS.get(name.lower())
            if part in parts:
                first = parts[part].name
                self._refuse(
                    "doubled part",
                    self.root / name,
                    f"{self.root} holds both '{first}' and '{name}', one too many: move one away",
                )
            elif part:
                parts[part] = self.root / name
        if parts and "train" not in parts:
            found = next(iter(parts.values())).name
            self._refuse(
                "no train",
                self.root,
                f"{self.root} holds '{found}' but no 'train': put the training photos into "
                f"{self.root / 'train'}",
            )
            return {}
        order = [name for name in PARTS.values() if name in parts]
        return {name: parts[name] for name in order} or {"train": self.root}

    def _clashes(self, folder: Path, classes: tuple[str, ...]) -> None:
        """Refuse class folders that differ in case, accents' encoding or blanks alone."""
        first: dict[str, str] = {}
        for name in classes:
            other = first.setdefault(folded(name), name)
            if other != name:
                self._refuse(
                    "class clash",
                    folder / name,
                    f"{folder} has the class folders '{other}' and '{name}', which differ in case alone: "
                    "make them one, or rename one",
                )

    def _fits(self, name: str, folder: Path, classes: tuple[str, ...]) -> bool:
        """Whether a part has class folders of train; refuse those that it has besides."""
        if name == "train":
            return True
        inside = subfolders(folder)
        strays = [found for found in inside if found not in classes]
        known = {folded(label): label for label in classes}
        if len(strays) == len(inside) and not any(folded(stray) in known for stray in strays):
            self.findings.append(Finding("unlabelled part", below(self.root, folder)))
            return False
        for stray in strays:
            if folded(stray) in known:
                label = known[folded(stray)]
                so = f"where train has '{label}': give both one name"
                self._refuse("class clash", folder / stray, f"{folder} has a class folder '{stray}' {so}")
            else:
                so = "that train lacks: add it there, or move it away"
                self._refuse("extra class", folder / stray, f"{folder} has a class folder '{stray}' {so}")
        return True

    def _labelled(self, folder: Path, classes: tuple[str, ...]) -> tuple[File, ...]:
        """Return the photos in the class folders of one part."""
        self.findings += loose(self.root, folder)
        files = []
        for label, name in enumerate(classes):
            if (folder / name).is_dir():
                found = walk(self.root, folder / name)
                self.findings += found.findings
                files += [_file(self.root, path, label) for path in found.photos]
        return tuple(files)

    def _annotated(self, annotations: Path, classes: tuple[str, ...]) -> tuple[File, ...]:
        """Return the photos whose class a tab-separated file states, a line each: name, class, whatever."""
        labels = {}
        text = annotations.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            name, _, rest = line.partition("\t")
            stated = rest.partition("\t")[0].strip()
            if stated in classes:
                labels[name] = classes.index(stated)
                continue
            self._refuse(
                "unknown label",
                annotations,
                f"line {number} of {annotations} names the class {stated[:40]!r}, which train lacks: mend it",
            )
            return ()
        found = walk(self.root, annotations.parent)
        self.findings += [
            finding for finding in found.findings if finding.path != below(self.root, annotations)
        ]
        files = []
        for path in found.photos:
            name = os.path.basename(path)
            if name in labels:
                files.append(_file(self.root, path, labels.pop(name)))
            else:
                self.findings.append(Finding("no photo", below(self.root, path), "without a label"))
        self.findings += [Finding("absent", name) for name in labels]
        return tuple(files)


def _file(root: Path, path: str, label: int) -> File:
    relative = below(root, path)
    try:
        found = os.stat(path)
    except OSError:
        # A dangling link: the decoder will say so, with the other files that cannot be read.
        return File(relative, 0, 0, label)
    return File(relative, found.st_size, found.st_mtime_ns, label)
