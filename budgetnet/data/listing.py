"""What lies in a folder of photos: its classes, its parts, which file belongs to which, and what is odd."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from budgetnet.data.kinds import DataError, Finding
from budgetnet.data.parts import ANNOTATIONS, Parts, find_parts, part_of, stated
from budgetnet.data.walk import ENDINGS, below, folded, loose, subfolders, walk


@dataclass(frozen=True)
class File:
    """A photo: its path below the root, its bytes, when it was last changed (ns), its class and its group."""

    path: str
    size: int
    changed: int
    label: int
    group: str = ""


@dataclass(frozen=True)
class Listing:
    """The photos of each part that is there, in order, and what is odd about the folders, or the `table`.

    A finding that is "refused" holds the whole sentence as its detail.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, tuple[File, ...]]
    findings: tuple[Finding, ...]
    table: str = ""

    @property
    def name(self) -> str:
        """What the data are called: as the table, or as the folder."""
        return self.table or self.root.resolve().name

    @property
    def refused(self) -> tuple[str, ...]:
        """Why the folder cannot be used, a sentence for each reason."""
        return tuple(finding.detail for finding in self.findings if finding.policy == "refused")


def listing(root: Path | Mapping[str, Path]) -> Listing:
    """Return what lies in `root`: train, perhaps val and test, with class folders each, or these alone.

    A mapping names the folders of the parts one by one. Photos may lie at any depth below their class
    folder. The val folder of Tiny-ImageNet as published, images beside val_annotations.txt, is understood.
    Raises `DataError` for a missing root, no or empty classes, classes that differ in case alone, stray
    classes, or folders that may be a part or a class.
    """
    return checked(survey(root))


def checked(listed: Listing) -> Listing:
    """Return the listing. Raises `DataError` for one that cannot be used."""
    if listed.refused:
        more = len(listed.refused) - 1
        rest = f" (and {more} more like it: `budgetnet check` names them)" if more else ""
        raise DataError(listed.refused[0] + rest)
    return listed


def survey(root: Path | Mapping[str, Path]) -> Listing:
    """Return what lies in `root` as `listing` does, with what cannot be used among the findings.

    Raises `DataError` for a root that is no folder, and for folders that cannot be looked into.
    """
    for folder in root.values() if isinstance(root, Mapping) else [root]:
        if not os.path.isdir(folder):
            what = "is a file, not a folder" if os.path.isfile(folder) else "is not there"
            raise DataError(
                f"the folder of photos {folder} {what}: name the folder that holds the class folders"
            )
    try:
        if isinstance(root, Mapping):
            above, parts = stated(root)
            return _Survey(above).listing(parts)
        parts = find_parts(root)
        survey = _Survey(root)
        if parts.folders.get("train") not in (None, root):
            survey.findings += loose(root, root)
        return survey.listing(parts)
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be looked into ({error.strerror}): it must be yours to read"
        ) from None


@dataclass
class _Survey:
    """A look at one root, which collects what it finds."""

    root: Path
    findings: list[Finding] = field(default_factory=list)

    def listing(self, given: Parts) -> Listing:
        self.findings += given.findings
        folders = given.folders
        if not folders:
            return Listing(self.root, (), {}, tuple(self.findings))
        classes = tuple(subfolders(folders["train"]))
        if len(classes) < 2:
            self._single(folders["train"], classes)
        self._clashes(folders["train"], classes)
        parts = {}
        for name, folder in folders.items():
            annotations = folder / ANNOTATIONS
            if name != "train" and annotations.is_file():
                parts[name] = self._annotated(annotations, classes)
            elif self._fits(name, folder, classes):
                parts[name] = self._labelled(folder, classes)
        self._nested(parts["train"], classes, folders["train"])
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

    def _single(self, folder: Path, classes: tuple[str, ...]) -> None:
        """Refuse fewer than two classes, and say where the root may be instead."""
        holds, way = "none", ""
        if classes:
            holds = f"only '{classes[0]}'"
            inside = subfolders(folder / classes[0])
            if len(inside) > 1 or any(map(part_of, inside)):
                way = f"; name {folder / classes[0]} instead if the class folders lie there"
        self._refuse(
            "one class",
            folder,
            f"{folder} should hold a folder for each of two classes or more, but holds {holds}{way}",
        )

    def _nested(self, files: tuple[File, ...], classes: tuple[str, ...], folder: Path) -> None:
        """Refuse class folders that hold parts; name those that hold the same folders as one another."""
        inside: dict[int, set[str]] = {}
        depth = len(Path(below(self.root, folder)).parts) + 1
        for file in files:
            between = file.path.split("/")[depth:-1]
            inside.setdefault(file.label, set()).update(between[:1])
        for label, names in inside.items():
            parts = {part_of(name): name for name in sorted(names, reverse=True)}
            if "train" in parts and len(parts.keys() - {None}) > 1:
                path = folder / classes[label]
                self._refuse(
                    "parts within",
                    path,
                    f"the class folder {path} holds '{parts['train']}' and other parts, which would all be "
                    "trained on: name that folder, or put parts above classes, as train/ant and test/ant",
                )
                return
        first, *others = inside.values() or [set[str]()]
        if others and len(first) > 1 and all(names == first for names in others):
            holds = f"each class folder holds {', '.join(sorted(first)[:3])}"
            self.findings.append(Finding("equal within", below(self.root, folder / classes[0]), holds))

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
        strays = [stray for stray in inside if stray not in classes]
        known = {folded(label): label for label in classes}
        if len(strays) == len(inside) and not any(folded(stray) in known for stray in strays):
            self.findings.append(Finding("unlabelled part", below(self.root, folder)))
            return False
        for stray in strays:
            kind, so = "extra class", "that train lacks: add it there, or move it away"
            if folded(stray) in known:
                kind, so = "class clash", f"where train has '{known[folded(stray)]}': give both one name"
            self._refuse(kind, folder / stray, f"{folder} has a class folder '{stray}' {so}")
        return True

    def _labelled(self, folder: Path, classes: tuple[str, ...]) -> tuple[File, ...]:
        """Return the photos in the class folders of one part."""
        self.findings += loose(self.root, folder)
        files = []
        for label, name in enumerate(classes):
            if (folder / name).is_dir():
                walked = walk(self.root, folder / name)
                self.findings += walked.findings
                files += [file_at(self.root, path, label) for path in walked.photos]
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
        walked = walk(self.root, annotations.parent)
        self.findings += [
            finding for finding in walked.findings if finding.path != below(self.root, annotations)
        ]
        files = []
        for path in walked.photos:
            name = os.path.basename(path)
            if name in labels:
                files.append(file_at(self.root, path, labels.pop(name)))
            else:
                self.findings.append(Finding("no photo", below(self.root, path), "without a label"))
        self.findings += [Finding("absent", name) for name in labels]
        return tuple(files)


def file_at(root: Path, path: str, label: int) -> File:
    """Return the photo at a path, of a class."""
    relative = below(root, path)
    try:
        status = os.stat(path)
    except OSError:
        # A dangling link: the decoder will say so, with the other files that cannot be read.
        return File(relative, 0, 0, label)
    return File(relative, status.st_size, status.st_mtime_ns, label)
