"""The power fails at any moment: what a real training did to its folder, cut short and partly lost.

Every call of a training that changes its folder is recorded. For a prefix of that log a folder is made as a
disk may hold it afterwards: what was flushed is there; of what was not, contents may be lost, torn, zeroed or
garbled, and names made, changed or removed in a folder that was not flushed since may be or not, each by
itself. Then the real code reads it. After ALICE (https://www.usenix.org/conference/osdi14/technical-sessions/
presentation/pillai), but with a disk that promises less than any file system: no order, unless by a flush.
"""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import coloured
from disks import Call, Disk
from torch import nn
from trials import trials

import budgetnet
from budgetnet import SGD, Budget, Phase, Recipe, Run, Trainer, models
from budgetnet.cli.commands.list import described
from budgetnet.files import checkpoint
from budgetnet.trainer import saver
from budgetnet.trainer.chain import contract, resumed

RECIPE = Recipe([Phase(3, 8, 0.1)], SGD(), batch_size=8)
DATA = coloured(16, val=6, side=8)
CHANGES = {"open", "write", "fsync", "mkdir", "rmdir", "unlink", "rename", "replace", "ftruncate"}


@dataclass
class File:
    """What was written, and how much of it is on the disk for certain; `content` None is a folder."""

    content: bytes | None
    flushed: bytes | None = None
    names: dict[str, "File"] = field(default_factory=dict)
    # Changes of names since the last flush: what, name, and the file or the other name.
    pending: list[tuple[str, str, Any]] = field(default_factory=list)
    lasting: dict[str, "File"] = field(default_factory=dict)


@dataclass
class Log:
    """The calls that changed a folder, and what had been promised after each of them."""

    root: Path
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    # After so many calls: the checkpoint of a step was saved, with this digest; or the run was finished.
    saved: list[tuple[int, int, str]] = field(default_factory=list)
    finished: int = 10**9
    final: str = ""
    wanted: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def note(self, call: Call, found: Any) -> None:
        name = "rename" if call.name == "replace" else call.name
        if name not in CHANGES:
            return
        path, other = os.path.relpath(call.path, self.root), None
        if name == "open":
            if not call.arguments[1] & os.O_CREAT:
                return
        elif name == "write":
            other = bytes(call.arguments[1])[:found]
        elif name == "ftruncate":
            other = call.arguments[1]
        elif name == "rename":
            other = os.path.relpath(call.arguments[1], self.root)
        self.calls.append((name, path, other))


def digest(tensors: Any, state: Any) -> str:
    summed = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
    for name in sorted(tensors):
        summed.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
    return summed.hexdigest()


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Budget(params="10k").build(models.convnet, classes=3, widths=(2,))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """The log of a training with six steps, a checkpoint after each, and its end."""
    root = tmp_path_factory.mktemp("recorded") / "runs"
    root.mkdir()
    found = Log(root)
    real = checkpoint.save
    with pytest.MonkeyPatch.context() as patched:

        def save(run: Path, step: int, tensors: Any, state: Any) -> Path:
            path = real(run, step, tensors, state)
            found.saved.append((len(found.calls), step, digest(tensors, state)))
            return path

        patched.setattr(checkpoint, "save", save)
        for name in ("EVERY", "COST", "WEIGHTS_EVERY", "WEIGHTS_COST"):
            patched.setattr(saver, name, 0.0)
        trainer, model = Trainer("cpu", out=root, show=False), network()
        # It goes on once, so that the log has a rewound history and a record written anew.
        with Disk(root, done=found.note).watched():
            folder = trainer.fit(model, DATA, RECIPE, max_time=1e-9).folder
            run = trainer.fit(network(), DATA, RECIPE, resume=folder)
    assert run.status == "finished"
    assert run.model is not None
    # The promise is made when the record has its name and its folder is flushed: before checkpoints go.
    records = [
        at for at, call in enumerate(found.calls) if call[0] == "rename" and call[2] == "run-1/run.json"
    ]
    found.finished = records[-1] + 2
    found.final = digest(run.model.state_dict(), {})
    found.lines = [epoch.line() for epoch in run.history]
    found.wanted = contract(network(), DATA, RECIPE, trainer.engine)
    return found


def replayed(calls: list[tuple[str, str, Any]], *, deaf: bool = False) -> File:
    """The files after these calls, with what of them lasts; a `deaf` disk flushes nothing."""
    root = File(None)

    def at(path: str) -> File:
        here = root
        for part in Path(path).parts:
            here = here.names[part]
        return here

    def put(path: str, file: File | None) -> None:
        folder, name = at(str(Path(path).parent)), Path(path).name
        folder.pending.append(("put" if file is not None else "take", name, file))
        if file is None:
            del folder.names[name]
        else:
            folder.names[name] = file

    for name, path, other in calls:
        if name == "open" and Path(path).name not in at(str(Path(path).parent)).names:
            put(path, File(b""))
        elif name == "mkdir":
            put(path, File(None))
        elif name in ("unlink", "rmdir"):
            put(path, None)
        elif name == "rename":
            file, folder = at(path), at(str(Path(path).parent))
            assert Path(path).parent == Path(other).parent, "names change within their folder"
            folder.pending.append(("rename", Path(path).name, (Path(other).name, file)))
            folder.names[Path(other).name] = folder.names.pop(Path(path).name)
        elif name == "write":
            file = at(path)
            assert file.content is not None
            file.content += other
        elif name == "ftruncate":
            at(path).content = at(path).content[:other]  # type: ignore[index]
        elif name == "fsync" and not deaf:
            file = at(path) if path != "." else root
            file.flushed, file.pending, file.lasting = file.content, [], dict(file.names)
    return root


def survive(file: File, to: Path, draw: random.Random) -> None:
    """Make what the disk may hold of a file or folder after the power failed."""
    if file.content is not None:
        to.write_bytes(lost(file, draw))
        return
    to.mkdir()
    names, how = dict(file.lasting), draw.choice(["none", "all", "first", "some"])
    some = draw.randrange(len(file.pending) + 1)
    for number, (what, name, other) in enumerate(file.pending):
        kept = {"none": False, "all": True, "first": number < some, "some": draw.random() < 0.5}[how]
        if not kept:
            continue
        if what == "put":
            names[name] = other
        elif what == "take":
            names.pop(name, None)
        elif name in names:
            names[other[0]] = names.pop(name)
    for name, held in names.items():
        survive(held, to / name, draw)


def lost(file: File, draw: random.Random) -> bytes:
    """What the disk may hold of a file's content: all that was flushed, and of the rest anything."""
    assert file.content is not None
    flushed = file.flushed or b""
    # A file is only ever written from its beginning on, or cut back to where it was.
    rest = bytearray(file.content[len(flushed) :])
    if not rest:
        return file.content
    kind = draw.choice(["lost", "torn", "zeroed", "garbled", "whole"])
    at = draw.randrange(len(rest))
    if kind == "lost":
        rest.clear()
    elif kind == "torn":
        del rest[at:]
    elif kind == "zeroed":
        rest[at:] = bytes(len(rest) - at)
    elif kind == "garbled":
        length = draw.randrange(8, 64)
        rest[at : at + length] = draw.randbytes(len(rest[at : at + length]))
    return flushed + bytes(rest)


def wrong(log: Log, done: int, folder: Path, draw: random.Random) -> str:
    """What of the promises is broken in a folder that was made after so many calls; "" for nothing."""
    known = {}
    for _, step, sealed in log.saved:
        known.setdefault(step, set()).add(sealed)
    saved = [(step, sealed) for at, step, sealed in log.saved if at <= done]
    over = done >= log.finished
    if saved and not over:
        newest = checkpoint._all(folder / checkpoint.FOLDER)
        whole = bool(newest) and len(os.listdir(newest[-1])) == 2
        spoilt = whole and draw.random() < 0.2 and len(saved) > 1
        if spoilt:
            # On top of it, the newest one rots: it is named, and the one before is used.
            path = newest[-1] / draw.choice([checkpoint.TENSORS, checkpoint.STATE])
            content = bytearray(path.read_bytes())
            if content:
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            path.write_bytes(content)
        found, bad = checkpoint.newest(folder)
        if found is None:
            return f"no checkpoint is left of {saved}: {bad}"
        if digest(found.tensors, found.state) not in known.get(found.step, ()):
            return f"the checkpoint of step {found.step} is not what was saved"
        least = saved[-2][0] if spoilt else saved[-1][0]
        if found.step < least:
            return f"step {least} was saved, and {found.step} is the newest that can be read: {bad}"
        if spoilt and bad and newest[-1].name not in bad[0]:
            return f"{newest[-1]} is bad, and is not named: {bad}"
        if not spoilt and bad:
            return f"a torn checkpoint has a name: {bad}"
    try:
        run = Run.read(folder)
    except ValueError as error:
        return f"the run cannot be read: {error}" if saved else ""
    if [epoch.line() for epoch in run.history] != log.lines[: len(run.history)] and "damaged" not in str(
        run.record.get("notes")
    ):
        return f"the history is not that of the run: {run.history}"
    if over and run.status != "finished":
        return f"the run was finished, and its status is {run.status}"
    if run.status == "finished":
        if len(run.history) != len(log.lines):
            return "the history of a finished run is not whole"
        if digest(budgetnet.load(folder).state_dict(), {}) != log.final:
            return "the weights of a finished run are not its last"
    elif run.status not in ("interrupted", "paused"):
        return f"the status of a run that lost its process is {run.status}"
    elif saved and resumed(folder, log.wanted, network(), RECIPE).held.step < least:
        return "the run cannot go on"
    return "" if described(folder)["status"] != "unreadable" else "the list cannot read it"


def violations(log: Log, place: Path, count: int, *, deaf: bool = False) -> list[str]:
    """What is broken in so many states, over all prefixes of the log in turn."""
    draw, found = random.Random(3), []
    for number in range(count):
        done = number % (len(log.calls) + 1) if count > len(log.calls) else draw.randrange(len(log.calls) + 1)
        root = place / "state"
        survive(replayed(log.calls[:done], deaf=deaf), root, draw)
        folder = root / "run-1"
        if folder.exists():
            broken = wrong(log, done, folder, draw)
            if broken:
                found.append(f"state {number}, after {done} calls: {broken}")
        elif any(at <= done for at, _, _ in log.saved):
            found.append(f"state {number}, after {done} calls: the whole folder is gone")
        shutil.rmtree(root)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: the states lie there for a moment each."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    made = memory / f"budgetnet-{os.getpid()}"
    made.mkdir()
    yield made
    shutil.rmtree(made)


def test_after_a_loss_of_power_all_that_was_promised_is_there(log: Log, place: Path) -> None:
    assert len(log.saved) == 6
    assert violations(log, place, trials(150)) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_after_many_losses_of_power(log: Log, place: Path) -> None:
    assert violations(log, place, trials(2500)) == []


def test_a_disk_that_does_not_flush_is_found_out(log: Log, place: Path) -> None:
    found = violations(log, place, 60, deaf=True)
    assert len(found) > 15
    assert any("gone" in each or "no checkpoint" in each for each in found)


@pytest.mark.parametrize("left_out", ["folders", "files"])
def test_without_one_kind_of_flush_checkpoints_are_lost(log: Log, place: Path, left_out: str) -> None:
    def is_folder(path: str) -> bool:
        return not path.endswith((".safetensors", ".json", ".jsonl", ".part")) or "0000" in Path(path).name

    kept = [call for call in log.calls if call[0] != "fsync" or is_folder(call[1]) != (left_out == "folders")]
    at = {id(call): number for number, call in enumerate(kept)}
    shifted = [sum(id(call) in at for call in log.calls[:before]) for before, _, _ in log.saved]
    poorer = Log(log.root, kept, [(n, s, d) for n, (_, s, d) in zip(shifted, log.saved, strict=True)])
    poorer.lines, poorer.final, poorer.wanted = log.lines, log.final, log.wanted
    assert len(violations(poorer, place, 60)) > 10
