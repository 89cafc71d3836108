"""Storage that machines share, and object stores, are known by the table of mounts, and told of."""

from pathlib import Path

import pytest

from budgetnet.files import kind_of, shared_storage

TABLE = r"""21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:20 / /proc rw - proc proc rw
40 21 0:50 /export /data rw,relatime shared:9 - nfs4 server:/export rw,vers=4.2
41 21 0:51 / /data/fast rw - tmpfs tmpfs rw
42 21 0:52 / /my\040runs rw - fuse.s3fs s3fs rw,user_id=0
43 21 0:53 / /bucket rw - fuse gcsfuse:bucket rw
44 21 0:54 / /twice rw - cifs //server/share rw
45 44 0:55 / /twice rw - xfs /dev/sdb rw
46 21 broken
"""


@pytest.mark.parametrize(
    ("folder", "kind", "told"),
    [
        ("/home/me/runs", "ext4", ""),
        ("/data", "nfs4", "machines share (nfs4)"),
        ("/data/runs/mine-1", "nfs4", "machines share (nfs4)"),
        ("/database", "ext4", ""),
        ("/data/fast/runs", "tmpfs", ""),
        ("/my runs/a", "fuse.s3fs", "object store (fuse.s3fs)"),
        ("/bucket/runs", "fuse.gcsfuse", "object store (fuse.gcsfuse)"),
        ("/twice/runs", "xfs", ""),
    ],
)
def test_where_a_folder_lies_is_told(folder: str, kind: str, told: str, tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert kind_of(Path(folder), table) == kind
    notes = shared_storage(Path(folder), table)
    assert [told in note for note in notes] == [True] * bool(told)


def test_where_there_is_no_table_nothing_is_told(tmp_path: Path) -> None:
    assert kind_of(tmp_path, tmp_path / "none") == ""
    assert shared_storage(tmp_path, tmp_path / "none") == []
