"""Processes that work together, as torchrun starts them: forks of this one, all ended in any case."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
ALONE = "BUDGETNET_TEST_ALONE"
"""The environment's variable of a test in a process of its own."""


def environment(rank: int, size: int, port: int, **more: str) -> dict[str, str]:
    """What torchrun tells its processes."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "tests"}
    return {**{name: str(number) for name, number in ranks.items()}, **meeting, **more}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def forks_learn() -> bool:
    """Whether a fork of this process can train: not where torch has begun threads for gradients."""
    # It begins them at the first gradient, where a library has brought a device of its own.
    torch.ones(1, requires_grad=True).sum().backward()
    child = os.fork()
    if not child:
        try:
            torch.ones(1, requires_grad=True).sum().backward()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def again(test: str, folder: Path) -> None:
    """Run one test in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    command += ["-m", "slow or not slow", "--basetemp", str(folder), test]
    told = {**os.environ, ALONE: "1"}
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


class Processes:
    """`work(rank)` in each of `size` processes that are one team; leaving the block ends them all."""

    def __init__(self, size: int, work: Callable[[int], Any], folder: Path, **more: str) -> None:
        self._folder, port = folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.ids = [self._forked(rank, work, environment(rank, size, port, **more)) for rank in range(size)]
        self.codes: dict[int, int] = {}

    def _forked(self, rank: int, work: Callable[[int], Any], told: dict[str, str]) -> int:
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.environ.update(told)
            signal.alarm(300)
            answer = work(rank)
            (self._folder / f"answer-{rank}").write_bytes(pickle.dumps(answer))
            code = 0
        except BaseException as error:
            with suppress(Exception):
                (self._folder / f"error-{rank}").write_text(f"{type(error).__name__}: {error}")
            if not isinstance(error, Exception):
                code = 3
            elif "hidden" not in told:
                traceback.print_exc()
        finally:
            os._exit(code)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *raised: object) -> None:
        for rank, child in enumerate(self.ids):
            if rank not in self.codes:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)

    def wait(self, seconds: float = 200) -> dict[int, int]:
        """The exit codes by rank, of those that end in time."""
        until = time.monotonic() + seconds
        while len(self.codes) < len(self.ids) and time.monotonic() < until:
            for rank, child in enumerate(self.ids):
                if rank not in self.codes:
                    ended, status = os.waitpid(child, os.WNOHANG)
                    if ended:
                        self.codes[rank] = os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        return self.codes

    def error(self, rank: int) -> str:
        """What a process failed with, in words."""
        path = self._folder / f"error-{rank}"
        return path.read_text() if path.exists() else ""

    def answers(self) -> list[Any]:
        """What the work gave in each process, all of which must end well."""
        codes = self.wait()
        assert codes == dict.fromkeys(range(len(self.ids)), 0), [self.error(rank) for rank in codes]
        return [pickle.loads((self._folder / f"answer-{rank}").read_bytes()) for rank in range(len(self.ids))]


def together(size: int, work: Callable[[int], Any], folder: Path, **more: str) -> list[Any]:
    """What `work(rank)` gives in each of `size` processes that are one team."""
    with Processes(size, work, folder, **more) as processes:
        return processes.answers()
