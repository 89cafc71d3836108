"""Many lives of `budgetnet run` in forks of one process, cut short at random times.

    python tests/lives.py kills 20 FOLDER        # SIGKILL, 1 to 3 in a trial, other folders and environments
    python tests/lives.py signals 12 FOLDER      # SIGTERM, SIGINT, two SIGINT; to the process and its group
    python tests/lives.py times 10 FOLDER        # cut into so many sessions by --max-time

Each line of output is a trial, as JSON; `same` says whether the run ended as one that was not cut short.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECIPE = '''"""Noise of three colours, 8 px."""
import torch
from torch import nn
from budgetnet import EMA, Adam, Budget, Data, Flip, Phase, Recipe, Restarts, Rotate, arrays, models

def model() -> nn.Module:
    return Budget(params="10k").build(models.convnet, classes=3, widths=(4, 8), dropout=0.2)

def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 3
    images = torch.randint(0, 160, (80, 3, 8, 8), generator=generator, dtype=torch.uint8)
    images[torch.arange(80), labels] += 40
    return arrays(images[:60], labels[:60], val=(images[60:], labels[60:]), classes=("red", "green", "blue"))

recipe = Recipe(
    [
        Phase(EPOCHS, 8, Restarts(0.05, first=2), augment=[Rotate(10), Flip()]),
        Phase(EPOCHS, 10, 0.01, start="best"),
    ],
    Adam(weight_decay=1e-4),
    batch_size=20,
    average=EMA(0.9),
    keep="averaged",
)
'''
TIMED = ("train_seconds", "data_seconds", "step_seconds", "val_seconds", "images_per_second")
SAVED_EVERY = 0.03
"""Seconds between two checkpoints here."""


def digest(out: Path) -> str:
    """One number for what the newest run in `out` left: weights, metrics, the last checkpoint."""
    folder = newest(out)
    summed = hashlib.sha256((folder / "model.safetensors").read_bytes())
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        entries = json.loads(line)
        summed.update(json.dumps({k: v for k, v in entries.items() if k not in TIMED}).encode())
    # A second Ctrl-C may come after the end and before the checkpoints are looked at and removed.
    summed.update((out / "last").read_bytes() if (out / "last").exists() else last(folder))
    return summed.hexdigest()


def last(folder: Path) -> bytes:
    """A digest of the run's checkpoint after its last step.

    The newest checkpoint is of whichever step was the last to be saved: the kept weights are of all.
    """
    from budgetnet.files import checkpoint

    found, _ = checkpoint.newest(folder)
    summed = hashlib.sha256()
    for name, tensor in sorted(found.tensors.items()) if found is not None else []:
        if found is not None and found.step == TOTAL:
            summed.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return summed.digest()


def newest(out: Path) -> Path:
    return max(out.glob("tiny-*"), key=lambda path: int(path.name.removeprefix("tiny-")))


def held(out: Path) -> Path | None:
    """The newest run where it has a checkpoint."""
    runs = list(out.glob("tiny-*"))
    return newest(out) if runs and any((newest(out) / "checkpoints").glob("[0-9]*")) else None


@dataclass
class Life:
    """A fork that runs the command line."""

    pid: int
    begun: float

    def wait(self, seconds: float = 120.0) -> int:
        """Its exit code, negative for the signal that ended it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"process {self.pid} did not end within {seconds} s")


def born(out: Path, where: Path, environment: dict[str, str], *arguments: str) -> Life:
    """A life of `budgetnet run tiny.py` with these arguments, in this folder and environment."""
    out.mkdir(parents=True, exist_ok=True)
    where.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        # Python forgets signals that come while it forks, which a process that was not forked never meets.
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)
        return Life(pid, time.monotonic())
    code = 99
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.write(writing, b".")
        os.close(writing)
        os.chdir(where)
        os.environ.update(environment)
        log = os.open(out / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _watched(out)
        from budgetnet.cli import main

        main(["run", str(out.parent / FILE), "--out", str(out), *arguments], prog_name="budgetnet")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def _watched(out: Path) -> None:
    """Have checkpoints written often, each step told of, and the last checkpoint looked at."""
    from budgetnet.engine import loop
    from budgetnet.files import checkpoint
    from budgetnet.trainer import saver

    saver.EVERY, saver.COST = SAVED_EVERY, 0.0
    # Disks are not what is tried here: a killed process loses nothing that was written.
    os.fsync = lambda descriptor: None
    remove, take = checkpoint.remove, loop.take
    steps = os.open(out / "steps", os.O_WRONLY | os.O_CREAT)

    def looked_at(folder: Path) -> None:
        (out / "last").write_bytes(last(folder))
        remove(folder)

    def told(training: Any, *rest: Any) -> Any:
        found = take(training, *rest)
        os.pwrite(steps, f"{training.state.step + 1:10d}".encode(), 0)
        return found

    save = saver.Saver.__call__

    def also_last(self: Any, event: Any) -> None:
        if self.training.state.step == TOTAL:
            saver.EVERY = 0.0
        save(self, event)

    saver.Saver.__call__ = also_last  # type: ignore[method-assign]
    checkpoint.remove, loop.take = looked_at, told


EPOCHS, STEPS = 7, 3
TOTAL = 2 * EPOCHS * STEPS
FILE = "tiny.py"
ENVIRONMENTS = (
    {"LANG": "C", "TZ": "UTC", "HOME": "/nonexistent"},
    {"LANG": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu", "HOME": "/tmp", "COLUMNS": "40"},
    {"LC_ALL": "de_DE.UTF-8", "TZ": "America/St_Johns", "NO_COLOR": "1", "TERM": "dumb"},
)


def whole(root: Path) -> tuple[str, float]:
    """The digest of a run that was not cut short, and the seconds that its life takes."""
    life = born(root / "whole", root, {}, "-q")
    assert life.wait() == 0, (root / "whole" / "log").read_text()
    return digest(root / "whole"), time.monotonic() - life.begun


def asked(draw: random.Random, out: Path, where: Path) -> list[str]:
    """`--resume`, or with the run's path, absolute or seen from the folder."""
    folder = held(out)
    if folder is None or draw.random() < 0.3:
        return ["--resume"]
    where.mkdir(parents=True, exist_ok=True)
    return ["--resume", str(folder) if draw.random() < 0.5 else os.path.relpath(folder, where)]


def finish(draw: random.Random, out: Path, root: Path) -> int:
    where = root / f"there-{draw.randrange(3)}"
    return born(out, where, draw.choice(ENVIRONMENTS), *asked(draw, out, where)).wait()


def kills(root: Path, number: int, seconds: float) -> dict[str, Any]:
    """One to three lives ended by SIGKILL at a random time, and one that is let go on."""
    draw, out = random.Random(f"kills {number}"), root / f"trial-{number}"
    places = []
    for _ in range(draw.randint(1, 3)):
        where = root / f"there-{draw.randrange(3)}"
        life = born(out, where, draw.choice(ENVIRONMENTS), *asked(draw, out, where))
        time.sleep(draw.uniform(0, seconds))
        os.killpg(life.pid, signal.SIGKILL) if draw.random() < 0.5 else os.kill(life.pid, signal.SIGKILL)
        code = life.wait()
        places.append((out / "steps").read_text().strip() if (out / "steps").exists() else "")
        if code == 0:
            break
    else:
        code = finish(draw, out, root)
    return {"code": code, "steps": places, "digest": digest(out) if code == 0 else None}


def signals(root: Path, number: int, seconds: float) -> dict[str, Any]:
    """One life ended by a signal at a random time, and one that goes on."""
    draw, out = random.Random(f"signals {number}"), root / f"trial-{number}"
    kind = ("SIGTERM", "SIGINT", "SIGINT twice")[number % 3]
    send = os.killpg if number // 3 % 2 else os.kill
    life = born(out, root, {}, "--resume")
    time.sleep(draw.uniform(0, seconds))
    which = signal.SIGTERM if kind == "SIGTERM" else signal.SIGINT
    sent = time.monotonic()
    try:
        send(life.pid, which)
        if kind == "SIGINT twice":
            time.sleep(draw.uniform(0, 0.05))
            send(life.pid, which)
    except ProcessLookupError:
        pass
    code = life.wait()
    took = time.monotonic() - sent
    folder = held(out)
    saved = int(max(path.name for path in (folder / "checkpoints").glob("[0-9]*"))) if folder else 0
    taken = int((out / "steps").read_text() or 0) if (out / "steps").exists() else 0
    status = json.loads((folder / "run.json").read_text())["status"] if folder else ""
    found = {"kind": kind, "group": send is os.killpg, "code": code, "took": round(took, 3)}
    if code != 0:
        found |= {"lost": taken - saved if status == "stopped" and kind != "SIGINT twice" else 0}
        found |= {"again": finish(draw, out, root)}
    return {**found, "steps": taken, "digest": digest(out)}


def times(root: Path, count: int, seconds: float) -> Iterator[dict[str, Any]]:
    """One run cut into about `count` sessions by --max-time, and one into a session for each step."""
    for name, limit in (("cut", seconds / count), ("a step each", 1e-6)):
        out, code, lives = root / name, 75, 0
        while code == 75:
            code = born(out, root, {}, "--resume", "--max-time", f"{limit:f}").wait()
            lives += 1
        yield {"name": name, "code": code, "sessions": lives, "digest": digest(out)}


def main() -> None:
    what, count, root = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    import torch

    torch.set_num_threads(1)
    root.mkdir(parents=True, exist_ok=True)
    (root / FILE).write_text(RECIPE.replace("EPOCHS", str(EPOCHS)))
    from budgetnet.cli import main as budgetnet

    # Everything that a training imports on its way is there before the first fork.
    warm = ["--set", "recipe.phases.0.epochs=1", "--set", "recipe.phases.1.epochs=1", "-q"]
    budgetnet(["run", str(root / FILE), "--out", str(root / "warm"), *warm], standalone_mode=False)
    expected, seconds = whole(root)
    print(json.dumps({"seconds": seconds}), flush=True)
    if what == "times":
        for found in times(root, count, seconds):
            same = found.pop("digest") == expected
            print(json.dumps({**found, "same": same}), flush=True)
        return
    for number in range(count):
        found = {"kills": kills, "signals": signals}[what](root, number, seconds)
        same = found.pop("digest") == expected
        print(json.dumps({**found, "same": same}), flush=True)


if __name__ == "__main__":
    main()
