"""Mounts: what kind of storage a folder lies on, and what of a run's promises that storage does not keep."""

import os
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""Where Linux tells what is mounted where; elsewhere nothing is known."""
_SHARED = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "fuse.ceph", "lustre", "beegfs", "gpfs", "glusterfs"),
    *(
        "fuse.glusterfs",
        "fuse.sshfs",
        "9p",
        "afs",
        "wekafs",
        "virtiofs",
        "orangefs",
        "pvfs2",
        "ocfs2",
        "gfs2",
    ),
)
_OBJECTS = (
    "s3fs",
    "goofys",
    "gcsfuse",
    "rclone",
    "mountpoint-s3",
    "geesefs",
    "blobfuse",
    "blobfuse2",
    "juicefs",
)
"""What shows an object store as a file system, by FUSE."""


def kind_of(folder: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a folder lies on, such as "ext4" or "nfs4"; "" where nobody says."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
        path = os.path.realpath(folder)
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, told = before.split(" "), after.split(" ")
        if len(fields) < 5 or not told[0]:
            continue
        point = _plain(fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # Of several at one place the last one hides the others.
        if inside and len(point) >= best:
            best, kind = len(point), told[0]
            if kind in ("fuse", "fuse.fuse") and len(told) > 1:
                kind = f"fuse.{told[1].partition(':')[0]}"
    return kind


def shared_storage(folder: Path, mounts: Path = MOUNTS) -> list[str]:
    """What is worth noting of the storage that a run is written to: nothing of a disk of this machine's."""
    kind = kind_of(folder, mounts)
    if kind.removeprefix("fuse.") in _OBJECTS:
        return [
            f"{folder} lies in an object store ({kind}), which renames nothing at once and locks nothing: a "
            "checkpoint may be half written after a kill, and two processes may train one run; write to a "
            "disk (out=, --out) and copy what is finished"
        ]
    if kind in _SHARED:
        return [
            f"{folder} lies on storage that machines share ({kind}): a run has one writer as far as locks "
            "reach across machines, and others see its files some seconds late; docs/distributed.md says more"
        ]
    return []


def _plain(field: str) -> str:
    """A field of the table, in which blanks and the like are written as octal numbers."""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, letter)
    return field
