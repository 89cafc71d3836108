"""Which folders below a root are parts of the data, which are classes, and where that must be asked."""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from budgetnet.data.kinds import DataError, Finding
from budgetnet.data.walk import below, photographed, subfolders

ORDER = ("train", "val", "test")
# What parts are called. Case, digits and signs between words do not count, nor do the words of FILLING.
WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "devel"), "val"),
    **dict.fromkeys(("development", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
}
FILLING = (
    *("set", "data", "dataset", "split", "part", "subset", "partition", "folder", "dir"),
    *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "sample", "samples"),
)
# What lies beside a part and is no class by its name.
BESIDE = (
    *("unlabelled", "unlabeled", "unsupervised", "unsup", "extra", "annotations", "annotation", "labels"),
    *("masks", "mask", "metadata", "meta", "docs", "doc", "code", "scripts", "pred", "predictions"),
)
ANNOTATIONS = "val_annotations.txt"


@dataclass
class Parts:
    """The folder of each part that is there, in order, and what is odd about it."""

    folders: dict[str, Path] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def part_of(name: str) -> str | None:
    """Return the part that a folder's name stands for, such as val for "Valid" and "validation_set"."""
    return WORDS.get("".join(word for word in _words(name) if word not in FILLING))


def stated(folders: Mapping[str, Path]) -> tuple[Path, Parts]:
    """Return the folder above the parts that were named one by one, and these. Raises `DataError`."""
    strange = [name for name in folders if name not in ORDER]
    if strange or "train" not in folders:
        names = ", ".join(map(str, folders)) or "nothing"
        raise DataError(f"root should name a folder for train, and perhaps for val and test, not for {names}")
    real = {name: Path(os.path.realpath(folder)) for name, folder in folders.items()}
    for name, folder in real.items():
        for other, above in real.items():
            if other != name and folder.is_relative_to(above):
                raise DataError(
                    f"{name} should be a folder of its own, not {folders[name]} within that of {other}: name "
                    "another"
                )
    if len(folders) == 1:
        return folders["train"], Parts(dict(folders))
    absolute = {name: Path(os.path.abspath(folders[name])) for name in ORDER if name in folders}
    return Path(os.path.commonpath(list(absolute.values()))), Parts(absolute)


def find_parts(root: Path) -> Parts:
    """Return the parts in a folder, by their names and by what lies in them; the root alone is train."""
    return _Search(root, tuple(subfolders(root))).parts()


@dataclass
class _Search:
    """A look at the folders of one root."""

    root: Path
    names: tuple[str, ...]

    def parts(self) -> Parts:
        named: dict[str, list[str]] = {}
        for name in self.names:
            part = part_of(name)
            if part is not None:
                named.setdefault(part, []).append(name)
        if not named:
            return self._classes()
        if any(self._holds_classes(name) for names in named.values() for name in names):
            return self._named(named)
        return self._flat(named)

    def _classes(self) -> Parts:
        """The root's folders are classes, unless several say in more words that they are parts."""
        hints: dict[str, dict[str, str]] = {}
        for name in self.names:
            for rest, part in _hints(name):
                hints.setdefault(rest, {}).setdefault(part, name)
        for parts in hints.values():
            if "train" in parts and len(parts) > 1:
                return self._asked(*parts.values())
        return Parts({"train": self.root})

    def _named(self, named: Mapping[str, Sequence[str]]) -> Parts:
        """Some folders are parts by their names and hold class folders: they are, if no other reading is."""
        for names in named.values():
            if len(names) > 1:
                return self._refused(
                    "doubled part",
                    names[1],
                    f"{self.root} holds both '{names[0]}' and '{names[1]}', one too many: move one away, or "
                    f"pass {self._argument(*(some[0] for some in named.values()))}",
                )
        if "train" not in named:
            return self._lacking(next(iter(named.values()))[0])
        rest = [name for name in self.names if part_of(name) is None]
        (train,) = named["train"]
        strange = [name for name in rest if len(named) == 1 and self._is_class(name, train)]
        if strange:
            return self._asked(train, *strange)
        parts = Parts({part: self.root / named[part][0] for part in ORDER if part in named})
        parts.findings += [Finding("no part", name) for name in rest]
        return parts

    def _flat(self, named: Mapping[str, Sequence[str]]) -> Parts:
        """Some folders are parts by their names and hold no class folders."""
        names = [name for some in named.values() for name in some]
        if len(self.names) == 1:
            # There is but one reading, and it lacks classes or train.
            return Parts({"train": self.root / names[0]}) if "train" in named else self._lacking(names[0])
        if len(names) > 1 or "train" not in named:
            return self._bare(names)
        # A train is a vehicle, too: as a part it would hold class folders.
        return Parts({"train": self.root}, [Finding("part as class", names[0])])

    def _lacking(self, name: str) -> Parts:
        return self._refused(
            "no train",
            ".",
            f"{self.root} holds '{name}' but no 'train': put the training photos into {self.root / 'train'}, "
            f"or pass {self._argument()}",
        )

    def _asked(self, *names: str) -> Parts:
        quoted = " and ".join(f"'{name}'" for name in names[:2])
        return self._refused(
            "part or class",
            names[0],
            f"{quoted} in {self.root} may be parts or classes: pass {self._argument(*names)} if they are "
            f"parts, {self._argument()} if they are classes",
        )

    def _bare(self, names: Sequence[str]) -> Parts:
        """Ask of parts by name that hold no class folders, beside others."""
        quoted = " and ".join(f"'{name}'" for name in names[:2])
        return self._refused(
            "part or class",
            names[0],
            f"{quoted} in {self.root} may be a part or a class: give each class a folder within, move it "
            f"away, or pass {self._argument()} if it is a class",
        )

    def _argument(self, *names: str) -> str:
        """Return the argument that decides: the root as train, or these folders as the parts."""
        if not names:
            return f'root={{"train": "{self.root}"}} (in check --part train={self.root})'
        first = {part_of(name) or next((part for _, part in _hints(name)), ""): name for name in names[::-1]}
        chosen = {part: first[part] for part in ORDER if part in first} or {"train": names[0]}
        return "root={" + ", ".join(f'"{part}": "{self.root / name}"' for part, name in chosen.items()) + "}"

    def _refused(self, kind: str, name: str, sentence: str) -> Parts:
        return Parts({}, [Finding(kind, below(self.root, self.root / name), sentence)])

    def _holds_classes(self, name: str) -> bool:
        return (self.root / name / ANNOTATIONS).is_file() or bool(subfolders(self.root / name))

    def _is_class(self, name: str, train: str) -> bool:
        """Whether a folder beside train may be a class: with photos, and without train's class folders."""
        words = _words(name)
        telling = [word for word in words if word not in FILLING]
        if any(word in BESIDE or word in WORDS for word in telling) or (words and not telling):
            return False
        if set(subfolders(self.root / name)) & set(subfolders(self.root / train)):
            return False
        return photographed(self.root / name)


def _words(name: str) -> list[str]:
    """Return the words of a name, without those that say nothing: "TrainSet_2" as train, set."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    return [part for word in re.findall(r"[^\W\d_]+", spaced.casefold()) for part in _cut(word)]


def _cut(word: str) -> Iterator[str]:
    """Yield the two words that were written as one, such as trainset, or the word itself."""
    for filling in FILLING:
        if word.endswith(filling) and word.removesuffix(filling) in WORDS:
            yield word.removesuffix(filling)
            yield filling
            return
    yield word


def _hints(name: str) -> Iterator[tuple[str, str]]:
    """Yield the parts that a name speaks of among other words, each with these words."""
    words = [word for word in _words(name) if word not in FILLING]
    for word in words:
        if word in WORDS:
            yield " ".join(other for other in words if other != word), WORDS[word]
