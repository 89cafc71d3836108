"""A walk through folders of photos: what are photos by their names, what is left out, where links lead."""

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from budgetnet.data.kinds import Finding

# The formats that are read, as Pillow calls them: those alone, for it would start Ghostscript on a file that
# only calls itself .jpg.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm"),
}
ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)
OTHERS = (
    *(".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".svg", ".psd", ".tga", ".ico", ".exr", ".hdr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".eps", ".xcf"),
)
JUNK = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__", "lost+found"),
    *("@eadir", "#recycle", "$recycle.bin", "system volume information"),
)


@dataclass(frozen=True)
class Walked:
    """The paths of the photos below a folder, in an order that is the same everywhere, and what is odd."""

    photos: tuple[str, ...]
    findings: tuple[Finding, ...]


def hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or made by a system for its own use."""
    return name.startswith(".") or name.lower() in JUNK


def folded(name: str) -> str:
    """Return what a name has in common with those that differ in case, blanks or accents' encoding alone."""
    return (name if name.isascii() else unicodedata.normalize("NFC", name)).casefold().strip()


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        if entry.is_symlink():
            return False
        raise


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, in order, less what is hidden; links are followed."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not hidden(entry.name) and is_folder(entry))


def photographed(folder: Path) -> bool:
    """Whether there is a photo, by its name, in a folder or below it."""
    folders = [str(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if hidden(entry.name):
                    continue
                if is_folder(entry):
                    folders += [] if entry.is_symlink() else [entry.path]
                elif entry.name.lower().endswith(ENDINGS):
                    return True
    return False


def loose(root: Path, folder: Path) -> list[Finding]:
    """Return what lies beside the folders in a folder of parts or classes, and which are links to outside."""
    findings = []
    above = _real(root)
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if hidden(entry.name) or not is_folder(entry):
                findings.append(_unused(root, entry))
            elif entry.is_symlink() and _leaves(entry.path, above):
                findings.append(_led("outside link", root, entry))
    return findings


def walk(root: Path, top: Path) -> Walked:
    """Return the photos below a folder; links to files are followed, links to folders are not."""
    photos: list[str] = []
    findings: list[Finding] = []
    above = _real(root)
    folders = [str(top)]
    # Without recursion: folders may be nested deeper than Python calls.
    while folders:
        names: dict[str, str] = {}
        with os.scandir(folders.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if hidden(entry.name):
                    findings.append(_unused(root, entry))
                elif is_folder(entry):
                    if entry.is_symlink():
                        findings.append(_led("linked folder", root, entry))
                    else:
                        folders.append(entry.path)
                elif entry.name.lower().endswith(ENDINGS):
                    photos.append(entry.path)
                    other = names.setdefault(folded(entry.name), entry.name)
                    if other != entry.name:
                        path = below(root, entry.path)
                        findings.append(Finding("names by case", path, f"beside {other}"))
                    if entry.is_symlink() and os.path.exists(entry.path) and _leaves(entry.path, above):
                        findings.append(_led("outside link", root, entry))
                else:
                    findings.append(_unused(root, entry))
    return Walked(tuple(sorted(photos)), tuple(sorted(findings, key=lambda finding: finding.path)))


def below(root: Path, path: str | Path) -> str:
    """Return a path as it is named below the root, with slashes."""
    # What a walk from the root comes upon begins with it; relpath takes as long as all the rest.
    text, start = str(path), f"{root}{os.sep}"
    inside = text[len(start) :] if text.startswith(start) else os.path.relpath(text, root)
    return inside.replace(os.sep, "/")


def _led(kind: str, root: Path, entry: os.DirEntry[str]) -> Finding:
    return Finding(kind, below(root, entry.path), f"to {os.path.realpath(entry.path)}")


def _unused(root: Path, entry: os.DirEntry[str]) -> Finding:
    """Return of which kind an entry is that is no photo in a class folder."""
    path = below(root, entry.path)
    ending = os.path.splitext(entry.name)[1].lower()
    if hidden(entry.name):
        return Finding("hidden or junk", path)
    if entry.is_symlink() and not os.path.exists(entry.path):
        return Finding("dangling link", path, "a link that leads nowhere")
    if ending in OTHERS:
        return Finding("other format", path, ending)
    return Finding("no photo", path, "outside the class folders" if ending in ENDINGS else "")


def _real(root: Path) -> str:
    return os.path.join(os.path.realpath(root), "")


def _leaves(path: str, above: str) -> bool:
    """Whether a link ends outside the root."""
    return not os.path.join(os.path.realpath(path), "").startswith(above)
