"""What several rooms' tests share: one thread, no network, and a small data set that can be learnt."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from built import OUTSIDE, build
from hypothesis import settings
from processes import ALONE, again, forks_learn
from torch import nn

from budgetnet import Budget, Data, arrays, models

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests whose forks train run in a process of their own, where torch has threads in this one."""
    if pyfuncitem.get_closest_marker("forks") is None or ALONE in os.environ or forks_learn():
        return None
    with TemporaryDirectory() as folder:
        again(pyfuncitem.nodeid, Path(folder) / "t")
    return True


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Networks this small only lose by sharing their work, and several test processes may run at once."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def signals_are_heard() -> None:
    """Whoever starts the tests with nohup, or in the background, switches signals off for them too."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU):
        if signal.getsignal(number) is signal.SIG_IGN:
            heard = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, heard)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is found out about images is kept for this session alone, not in the home of who tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections go to this machine or nowhere."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> Any:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a wheel, built from the source archive that lies beside it."""
    for name in OUTSIDE:
        pytest.importorskip(name, reason="takes the extra release")
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    return folder


def coloured(count: int = 240, *, val: int = 60, side: int = 12, seed: int = 0) -> Data:
    """Noise of which one of three channels is brighter: three classes that a small network learns at once."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count + val) % 3
    images = torch.randint(0, 160, (count + val, 3, side, side), generator=generator, dtype=torch.uint8)
    images[torch.arange(count + val), labels] += 40
    return arrays(
        images[:count], labels[:count], val=(images[count:], labels[count:]), classes=("red", "green", "blue")
    )


@pytest.fixture
def data() -> Data:
    """240 training and 60 validation images of three classes, 12 x 12."""
    return coloured()


@pytest.fixture
def model() -> nn.Module:
    """A small network with batch norm for three classes, the same at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Budget(params="10k").build(models.convnet, classes=3, widths=(8, 16))
