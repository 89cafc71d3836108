"""What can be odd about photos and their folders, with one policy for each kind; and DataError, a refusal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from budgetnet.text import aligned, counted, inline

Policy = Literal["refused", "left out", "used"]


class DataError(ValueError):
    """What is wrong with the data in one sentence: what was expected, what was found, the way out."""


class Unavailable(DataError):
    """Data that are not there and were not to be had: nothing that was asked for is wrong."""


@dataclass(frozen=True)
class Kind:
    """A kind of oddity: its name, its policy, what it is (a noun, and what is said of it), what is done.

    "refused": nothing is loaded, and the names are told. "left out": loaded without, and the names are
    told. "used": loaded, perhaps after a conversion, and the names are told.
    """

    name: str
    policy: Policy
    noun: str
    said: str
    done: str


@dataclass(frozen=True)
class Finding:
    """One oddity: the name of its kind, the file or folder (below the root, where it can be), and details."""

    kind: str
    path: str
    detail: str = ""

    @property
    def policy(self) -> Policy:
        """What is done with it, of `KINDS`."""
        return KINDS[self.kind].policy

    def __str__(self) -> str:
        return f"{inline(self.path)} ({inline(self.detail)})" if self.detail else inline(self.path)


TABLE = (
    # Class folders that cannot be meant so.
    Kind("no train", "refused", "root", "with val or test and without train", "name the training part train"),
    Kind("doubled part", "refused", "folder", "for one part, such as val and valid", "keep one"),
    Kind("part or class", "refused", "folder", "that may be a part or a class", "say which, as root={...}"),
    Kind("parts within", "refused", "class folder", "with train and test in it", "put parts above classes"),
    Kind("one class", "refused", "part", "with fewer than two class folders", "give each class a folder"),
    Kind("empty class", "refused", "class folder", "of train without a photo", "fill or remove it"),
    Kind("extra class", "refused", "class folder", "of val or test that train lacks", "add it to train"),
    Kind("class clash", "refused", "class folder", "equal to another but for case", "rename one"),
    Kind("unknown label", "refused", "line", "of val_annotations.txt whose class train lacks", "mend it"),
    Kind("unreadable class", "refused", "class", "of which no photo can be read", "mend or remove it"),
    # Tables that cannot be meant so.
    Kind("outside", "refused", "row", "whose photo lies outside of images", "put it there"),
    Kind("unclear name", "refused", "row", "whose name fits several photos", "name the ending"),
    # Photos that give no image.
    Kind("empty", "left out", "photo", "of 0 bytes", "left out"),
    Kind("truncated", "left out", "photo", "cut short", "left out"),
    Kind("damaged", "left out", "photo", "that cannot be decoded", "left out"),
    Kind("not an image", "left out", "photo", "by name, with something else inside", "left out"),
    Kind("bomb", "left out", "photo", "too large to decode safely", "left out before memory is taken"),
    Kind("unknown scale", "left out", "photo", "of 32-bit or float greys without a known range", "left out"),
    Kind("not a file", "left out", "photo", "by name: a pipe, a socket, a device", "left out unopened"),
    Kind("unreadable", "left out", "photo", "that the system does not hand out", "left out"),
    Kind("dangling link", "left out", "link", "to nowhere", "left out"),
    # Files that are no photos.
    Kind("other format", "left out", "file", "of a format that is not read (HEIC, SVG, ...)", "left out"),
    Kind("no photo", "left out", "file", "beside the photos", "left out"),
    Kind("hidden or junk", "left out", "file or folder", "hidden or of a system's making", "left out"),
    Kind("linked folder", "left out", "link", "to a folder within", "left out, not followed"),
    Kind("absent", "left out", "line", "of a table of labels without its photo", "left out"),
    Kind("no label", "left out", "photo", "without a class in the table", "left out"),
    Kind("contradiction", "left out", "photo", "of two classes in the table", "left out"),
    Kind("not named", "left out", "photo", "that the table does not name", "left out"),
    Kind("unlabelled part", "left out", "part", "with none of train's class folders", "left out"),
    Kind("no part", "left out", "folder", "beside the parts", "left out, with all in it"),
    # Photos that become something else, or are not what they seem.
    Kind("wrong ending", "used", "photo", "named as another format", "read as what it is"),
    Kind("animated", "used", "photo", "of several frames or pages", "the first is used"),
    Kind("16-bit", "used", "photo", "of more than 8 bits a channel", "scaled to 8"),
    Kind("alpha", "used", "photo", "with an alpha channel", "what is transparent comes out white"),
    Kind("clear palette", "used", "photo", "with transparent palette colours", "these come out white"),
    Kind("CMYK", "used", "photo", "of ink colours", "converted to RGB without a profile"),
    Kind("other colours", "used", "photo", "in Lab, YCbCr or HSV", "converted to RGB"),
    Kind("colour profile", "used", "photo", "with a profile other than sRGB", "its values stay as they are"),
    Kind("rotated", "used", "photo", "to be turned or mirrored, says EXIF", "turned upright"),
    Kind("damaged EXIF", "used", "photo", "whose EXIF cannot be read", "not turned"),
    Kind("greyscale", "used", "photo", "without colours", "three equal channels"),
    Kind("tiny", "used", "photo", "with a side below 8 pixels", "enlarged"),
    Kind("elongated", "used", "photo", "more than 4 times as long as wide", 'of a "crop" the middle is seen'),
    Kind("outside link", "used", "link", "out of the root", "followed"),
    Kind("part as class", "used", "class folder", "with a part's name, without class folders", "a class"),
    Kind("equal within", "used", "folder", "with the same folders as the other classes", "one class each"),
    Kind("names by case", "used", "photo", "of names equal but for case", "all are used"),
    Kind("doubled row", "used", "photo", "in two rows of the table that agree", "used once"),
    Kind("other encoding", "used", "table", "not in UTF-8", "read as Windows-1252"),
    Kind("measurement", "used", "table", "whose labels look like measurements", "each value is a class"),
    Kind("one each", "used", "table", "with a class of its own for nearly every photo", "used as it is"),
    # Sets that say less than they seem to.
    Kind("duplicate", "used", "photo", "in their class twice, pixel for pixel", "all are used"),
    Kind("two labels", "used", "photo", "in two classes, pixel for pixel", "all are used"),
    Kind("in two splits", "used", "photo", "in two splits, pixel for pixel", "all are used, and flatter"),
    Kind("missing class", "used", "class", "of train without an image in val or test", "not measured there"),
    Kind("imbalance", "used", "class", "of at most a tenth of the largest one's photos", "used as it is"),
)  # fmt: skip
KINDS = {kind.name: kind for kind in TABLE}

# What a photo is left out for, by the reader; `folder(unreadable="refuse")` refuses these.
UNREADABLE = frozenset({"empty", "truncated", "damaged", "not an image", "bomb", "unknown scale"})
UNREADABLE |= {"not a file", "unreadable", "dangling link"}


def grouped(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Return the findings by kind, in the order of `TABLE`."""
    groups: dict[str, list[Finding]] = {name: [] for name in KINDS}
    for finding in findings:
        groups[finding.kind].append(finding)
    return {name: some for name, some in groups.items() if some}


class Remark(str):
    """A sentence about data, and for programs its `kind`: "files" of findings, "overlap" of splits, or ""."""

    kind: Literal["files", "overlap", ""]

    def __new__(cls, text: str, kind: Literal["files", "overlap", ""] = "") -> "Remark":
        """The text, with its kind."""
        remark = super().__new__(cls, text)
        remark.kind = kind
        return remark


def remark_kind(note: str) -> str:
    """The kind of a note on data, "" where nobody said one."""
    return note.kind if isinstance(note, Remark) else ""


def sentences(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return a sentence for each kind: how many, the first few names, what is done with them."""
    return tuple(_sentence(KINDS[name], some) for name, some in grouped(findings).items())


def _sentence(kind: Kind, findings: Sequence[Finding]) -> Remark:
    examples = ", ".join(inline(finding.path) for finding in findings[:3]) + (
        ", ..." if len(findings) > 3 else ""
    )
    return Remark(f"{counted(len(findings), kind.noun)} {kind.said} ({examples}): {kind.done}", "files")


def policies() -> str:
    """Return the table of all kinds as text: kind, policy, what it is, what is done with it."""
    rows = [(kind.name, kind.policy, f"{kind.noun} {kind.said}", kind.done) for kind in TABLE]
    return aligned([("kind", "policy", "what it is", "what is done"), *rows], left=4)
