"""Numbered: the folders `name-N` that runs and sweeps of one name lie in, found and made."""

import os
import re
from pathlib import Path

from budgetnet.files.disk import check_names, check_place, discard, flush_folder, make_folder, unwritable


def folders_of(out: Path, name: str) -> list[Path]:
    """The folders `out/name-N`, by their number; what has other names is none of them."""
    # Whatever a name has in it, it means nothing but itself.
    pattern = re.compile(re.escape(name) + "-([0-9]{1,18})")
    try:
        matches = [match for entry in os.listdir(out) if (match := pattern.fullmatch(entry))]
    except OSError:
        return []
    matches.sort(key=lambda match: (int(match[1]), match[0]))
    return [out / match[0] for match in matches if (out / match[0]).is_dir()]


def new_folder(out: str | Path, name: str) -> Path:
    """A new folder `out/name-N`, N the first free number; never one that exists already. ValueError."""
    check_names(str(out), name)
    parent, number = Path(out), 1
    try:
        if not parent.is_dir():
            # What is refused leaves none of the folders above it either.
            check_place(out, name)
        make_folder(parent.absolute())
        while True:
            folder = parent / f"{name}-{number}"
            try:
                os.mkdir(folder)
                break
            except FileExistsError:
                number += 1
    except OSError as error:
        raise unwritable(parent, error) from None
    try:
        flush_folder(parent)
    except OSError as error:
        discard(folder)
        raise unwritable(parent, error) from None
    return folder
