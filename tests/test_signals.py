"""Signals of batch systems end a run as SIGTERM does, and no worker trains on for a parent that is gone."""

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import coloured
from test_stops import RECIPE, SILENT, asking, finished
from test_sweep import TINY
from test_together import SLOWLY, children, gone, program, troubled
from trials import trials

from budgetnet import Run, Trainer, read_plan
from budgetnet.files import checkpoint as checkpoints
from budgetnet.sweep import worker
from budgetnet.sweep.job import Job, engine_of
from budgetnet.trainer.saver import ENDING, Stop

BATCH = [signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1]


@pytest.mark.parametrize("number", BATCH)
def test_a_batch_systems_signal_ends_a_run_at_a_step_ready_to_go_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    data, before = coloured(40, val=60), [signal.getsignal(each) for each in ENDING]
    with pytest.raises(SystemExit) as ended:
        Trainer("cpu", out=tmp_path, show=False).fit(asking(1, number=number), data, RECIPE)
    assert ended.value.code == 128 + number
    assert [signal.getsignal(each) for each in ENDING] == before
    folder = tmp_path / "run-1"
    assert Run.read(folder).status == "stopped"
    assert checkpoints.newest(folder)[0] is not None
    _, weights = finished(tmp_path, data, RECIPE, resume=folder, allow=SILENT)
    _, whole = finished(tmp_path / "whole", data, RECIPE)
    assert all(torch.equal(weights[name], whole[name]) for name in whole)


def test_what_was_switched_off_stays_so_and_the_users_own_handler_is_the_users(tmp_path: Path) -> None:
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1)}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda number, frame: came.append(number))
    try:
        for number in (signal.SIGHUP, signal.SIGUSR1):
            trainer = Trainer("cpu", out=tmp_path, show=False)
            assert trainer.fit(asking(1, number=number), coloured(40, val=60), RECIPE).status == "finished"
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert came == [signal.SIGUSR1]


def test_a_pipe_that_nobody_reads_does_not_end_a_process_that_asked_for_that() -> None:
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with Stop(None).listening():
            signal.raise_signal(signal.SIGPIPE)
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGPIPE, before)


def test_in_another_thread_no_handler_is_touched() -> None:
    before, found = [signal.getsignal(each) for each in ENDING], []

    def listen() -> None:
        with Stop(None).listening():
            found.extend(signal.getsignal(each) for each in ENDING)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == before


def test_a_training_stops_once_nobody_waits_for_it() -> None:
    over = threading.Event()
    stop = Stop(None, over.is_set)
    assert stop.due() is None
    over.set()
    due = stop.due()
    assert due is not None
    assert (due.status, due.signal_number) == ("stopped", signal.SIGTERM)


@pytest.mark.parametrize("half_a_line", [b"", b'{"changes": ['])
@pytest.mark.parametrize("while_it_starts", [False, True])
def test_a_worker_begins_nothing_for_a_parent_that_is_gone(
    while_it_starts: bool, half_a_line: bytes, tmp_path: Path
) -> None:
    file, folder = tmp_path / "tiny.py", tmp_path / "tiny-1"
    file.write_text(TINY)
    plan = read_plan(file)
    file.write_text(f"import time\ntime.sleep({0.5 if while_it_starts else 0})\n{TINY}")
    folder.mkdir()
    job = Job("seed 0", plan, tmp_path, "tiny").message(folder, resume=False, alone=False, until=None)
    first = {"recipe": str(file), "data": None, **engine_of(Trainer("cpu", out=None))}
    read, write = os.pipe()
    os.write(write, b"".join(json.dumps(m).encode() + b"\n" for m in (first, {**job, "threads": 1})))
    pid = os.fork()
    if not pid:
        try:
            os.close(write)
            sys.stdin = os.fdopen(read)
            sys.argv = ["-c", "[]", str(os.open(tmp_path / "told", os.O_WRONLY | os.O_CREAT))]
            worker.main()
            os._exit(0)
        finally:
            os._exit(1)
    os.close(read)
    if while_it_starts:
        time.sleep(0.2)
    os.write(write, half_a_line)
    os.close(write)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert list(folder.iterdir()) == []
    assert "ended" not in (tmp_path / "told").read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_worker_trains_on_whenever_its_parent_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY)
    troubled(tmp_path, SLOWLY)
    path = tmp_path / "tiny.py"
    path.write_text(path.read_text().replace("epochs=2", "epochs=500"))
    draw = random.Random(0)
    for trial in range(trials(6)):
        out = f"runs-{trial}"
        running = program("run", "tiny.py", "--seeds", 2, "--together", 2, "--out", out)
        while not (workers := children(running.pid)) and running.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 8))
        workers = children(running.pid)
        running.kill()
        running.communicate(timeout=60)
        assert gone(*workers)
        runs = [Run.read(record.parent) for record in Path(out).glob("*/run.json")]
        assert all(run.status in ("stopped", "interrupted") for run in runs)
        assert all(len(run.history) < 400 for run in runs)


@pytest.mark.slow
@pytest.mark.parametrize("number", BATCH)
def test_a_batch_systems_signal_to_all_processes_stops_runs_together(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY)
    troubled(tmp_path, SLOWLY)
    path = tmp_path / "tiny.py"
    path.write_text(path.read_text().replace("epochs=2", "epochs=500"))
    running = program("run", "tiny.py", "--seeds", 2, "--together", 2)
    while not all((tmp_path / f"runs/tiny-{k}/metrics.jsonl").exists() for k in (1, 2)):
        assert running.poll() is None
        time.sleep(0.05)
    for process in (*children(running.pid), running.pid):
        os.kill(process, number)
    output, errors = running.communicate(timeout=250)
    assert running.returncode == 128 + number, errors
    assert "Traceback" not in errors + output
    assert [Run.read(f"runs/tiny-{k}").status for k in (1, 2)] == ["stopped", "stopped"]
