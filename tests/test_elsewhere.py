"""Not only Linux: without what only some systems have, one process trains, is interrupted, and resumes.

Nothing here shows Windows or macOS: what budgetnet needs of Linux alone is taken away on Linux.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import budgetnet
from budgetnet.data.download import download
from budgetnet.data.kinds import Unavailable
from budgetnet.data.source import _Member, _wrong
from budgetnet.engine import device_of
from budgetnet.files import check_name
from budgetnet.randomness import own_randomness, reseed

BLOCKED = r"""
import builtins, io, multiprocessing, os, shutil, signal, sys

# What others need of Linux they have by now: torch's own imports are none of ours.
import torch, torchvision, rich.live, click, safetensors.torch

for name in ("fcntl", "resource", "termios", "pwd", "grp", "_posixsubprocess"):
    sys.modules[name] = None
for name in ("memfd_create", "fork", "forkpty", "posix_fadvise", "preadv", "sched_getaffinity", "statvfs",
             "pathconf", "posix_spawn", "kill", "getuid", "geteuid", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK",
             "O_DIRECTORY", "mkfifo", "sysconf"):
    delattr(os, name)
for name in [name for name in dir(signal) if name.startswith("SIG") and name[3] not in "_"]:
    if name not in ("SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV"):
        delattr(signal, name)
multiprocessing.set_start_method("spawn")

def closed(function):
    def guarded(path, *more, **named):
        if isinstance(path, (str, os.PathLike)) and str(path).startswith("/proc"):
            raise FileNotFoundError(2, "there is no /proc", str(path))
        return function(path, *more, **named)
    return guarded

# The standard library's own, which is another one on each system.
shutil.disk_usage = lambda folder: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40)
builtins.open, io.open, os.open = closed(open), closed(io.open), closed(os.open)
"""

LIFE = """
from torch import nn
from budgetnet import Cosine, Crop, Flip, Phase, Recipe, Run, Trainer, arrays, load
from budgetnet.data import free_memory

assert free_memory() > 1 << 20
images = (torch.arange(60 * 3 * 12 * 12) * 7919 % 251).byte().view(60, 3, 12, 12)
recipe = Recipe([Phase(4, 12, Cosine(0.05), augment=[Crop(), Flip()])], batch_size=20)

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 3))

def trained(out, **how):
    data = arrays(images, torch.arange(60) % 3, held_out=9)
    return Trainer("cpu", out=out, **how.pop("trainer", {})).fit(network(), data, recipe, **how)

steps = []
def interrupting(event):
    steps.append(event)
    if len(steps) == 5:
        signal.raise_signal(signal.SIGINT)

try:
    trained("cut", trainer={"watch": [interrupting]})
except KeyboardInterrupt:
    pass
assert Run.read("cut/run-1").status == "stopped"
again, whole = trained("cut", resume="cut/run-1"), trained("whole")
assert again.status == whole.status == "finished"
for name, tensor in whole.model.state_dict().items():
    assert torch.equal(tensor, again.model.state_dict()[name])
assert [p.name for p in again.folder.glob(".*")] == []
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "code", [LIFE, "from budgetnet.cli import main\nmain(['run', 'quickstart', '--scale', '0.1'])"]
)
def test_a_process_without_what_is_linuxs_alone_trains_is_interrupted_and_resumes(
    code: str, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(budgetnet.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + code],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["C:/x", "a/b", "..", "a\nb"])
def test_a_runs_name_is_that_of_one_folder(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a folder"):
        check_name(name)


@pytest.mark.parametrize(
    "name", [r"stl\x", r"stl/..\..\x", "C:/stl/x", "stl/C:x", r"\\host\share\x", "/stl/x", "stl/../../x"]
)
def test_an_archive_writes_nowhere_but_into_its_folder_on_any_system(name: str) -> None:
    assert "outside the folder stl" in _wrong(_Member(name, "file", 1, lambda: None), "stl")  # type: ignore[arg-type, return-value]


def test_an_apple_gpu_is_taken_where_torch_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device 'mps' needs an Apple GPU, and none was found; use .*'cpu'"):
        device_of("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_of("mps") == torch.device("mps")


def test_an_apple_gpus_generator_is_seeded_and_left_as_found(monkeypatch: pytest.MonkeyPatch) -> None:
    state = [1]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: list(state))
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda before: state.__setitem__(slice(None), before))
    monkeypatch.setattr(torch.mps, "manual_seed", lambda seed: state.__setitem__(0, seed))
    with own_randomness(torch.device("mps")):
        reseed(torch.device("mps"), 7)
        assert state == [7]
    assert state == [1]


def test_a_download_of_which_nothing_came_leaves_no_folder(tmp_path: Path) -> None:
    into = tmp_path / "new"
    with pytest.raises(Unavailable, match="cannot be fetched"):
        download("http://127.0.0.1:9/x.tar.gz", "0" * 32, into, limit=100, attempts=1, pause=0.0)
    assert not into.exists()
