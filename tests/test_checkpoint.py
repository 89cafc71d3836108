"""Checkpoint: what is read is what was written, or nothing; the newest two stay."""

import contextlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from budgetnet.files import BadCheckpoint, checkpoint


def tensors(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "model/weight": torch.randn(4, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last),
        "model/steps": torch.tensor(7),
        "half": torch.randn(5, generator=generator).bfloat16(),
    }


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    state = {"step": 3, "rate": 0.1 + 0.2, "nothing": None, "lines": ["a", "b"]}
    path = checkpoint.save(tmp_path, 3, tensors(), state)
    found = checkpoint.read(path)
    assert found.step == 3
    assert found.state == state
    for name, tensor in tensors().items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_the_newest_two_stay_and_nothing_else(tmp_path: Path) -> None:
    for step in (1, 2, 10, 9_999_999_999):
        checkpoint.save(tmp_path, step, tensors(step), {})
    names = [path.name for path in (tmp_path / checkpoint.FOLDER).iterdir()]
    assert sorted(names) == ["0000000010", "9999999999"]
    found, bad = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, bad) == (9_999_999_999, [])


def test_a_step_can_be_saved_again(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 5, tensors(), {"life": 1})
    checkpoint.save(tmp_path, 5, tensors(), {"life": 2})
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.state == {"life": 2}


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) == (None, [])


def test_what_was_left_half_written_is_passed_over_and_swept_away(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, tensors(), {})
    half = tmp_path / checkpoint.FOLDER / ".0000000002.123.part"
    half.mkdir()
    (half / checkpoint.TENSORS).write_bytes(b"torn")
    found, bad = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, bad) == (1, [])
    checkpoint.save(tmp_path, 3, tensors(), {})
    assert not half.exists()


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, 1, tensors(), {})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path, 2, tensors(), {})
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / checkpoint.FOLDER).iterdir()] == ["0000000001"]
    assert checkpoint.newest(tmp_path)[0] is not None


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_checkpoint_is_never_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = checkpoint.save(folder, 1, tensors(), {"rate": 0.1, "lines": ["a"]})
    name = data.draw(st.sampled_from([checkpoint.TENSORS, checkpoint.STATE]))
    content = bytearray((path / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "zeros", "longer", "gone"]))
    before = bytes(content)
    if kind == "flip":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del content[at:]
    elif kind == "zeros":
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    elif kind == "longer":
        content += b"\0"
    (path / name).write_bytes(content)
    if kind == "gone":
        (path / name).unlink()
    elif bytes(content) == before:
        return
    if name == checkpoint.TENSORS or kind != "flip":
        with pytest.raises(BadCheckpoint, match="the checkpoint"):
            checkpoint.read(path)
        return
    # JSON has white space that changes nothing; what is read then is what was written.
    with contextlib.suppress(BadCheckpoint):
        found = checkpoint.read(path)
        assert found.state == {"rate": 0.1, "lines": ["a"]}
        assert all(torch.equal(found.tensors[k], v) for k, v in tensors().items())


def test_files_of_another_checkpoint_are_found_out(tmp_path: Path) -> None:
    first = checkpoint.save(tmp_path, 1, tensors(1), {})
    second = checkpoint.save(tmp_path, 2, tensors(2), {})
    (second / checkpoint.TENSORS).write_bytes((first / checkpoint.TENSORS).read_bytes())
    found, bad = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "0000000002" in bad[0]
