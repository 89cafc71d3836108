"""Spread: a search's workers in other processes, here or elsewhere, and what each is told, as plain JSON."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from budgetnet.console import say
from budgetnet.identity import told as told_value
from budgetnet.plan import read_plan
from budgetnet.process import fill_closed, steadfast_output
from budgetnet.sweep.cluster import Cluster
from budgetnet.sweep.clustered import connected, ended, lost, slots
from budgetnet.sweep.clustered import task as as_task
from budgetnet.sweep.effort import Effort
from budgetnet.sweep.grid import literal, written
from budgetnet.sweep.job import engine_of, told
from budgetnet.sweep.space import Between, space
from budgetnet.sweep.task import Task
from budgetnet.sweep.worker import replayed
from budgetnet.trainer import Trainer, TrainingFailed

# What the parent would import, a worker imports too, wherever that lies.
_CODE = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from budgetnet.sweep.spread import main; main()"
)
_PATIENCE = 60.0
"""Seconds that a worker has to come to a step's end."""


def message(task: Task, folder: Path, threads: int, until: float | None) -> dict[str, Any]:
    """What a worker is told: all of the search; `until` is when it ends, by the system's monotonic clock.

    Raises ValueError for choices that cannot be written.
    """
    for path, domain in task.domains.items():
        for value in () if isinstance(domain, Between) else domain:
            if told_value(literal(written(value))) != told_value(value):
                raise ValueError(
                    f"{path} should have values that can be written, not {value!r:.80}: other processes "
                    "would read another one; search with one worker (together=1)"
                )
    return {
        "recipe": str(task.plan.path.absolute()),
        "changes": list(task.plan.changes),
        "plan": told(task.plan),
        **engine_of(task.trainer),
        "folder": str(folder.absolute()),
        "domains": task.domain_texts,
        "trials": task.trials,
        "metric": task.metric,
        "against": list(task.against),
        "effort": {**asdict(task.effort), "together": 1},
        "record": dict(task.record),
        "threads": threads,
        # The clocks of two machines that are set agree well enough on when hours are over.
        "until": None if until is None else time.time() + until - time.monotonic(),
    }


def take_part(words: Mapping[str, Any], *, most: int | None = None, tell: Callable[[str], None]) -> bool:
    """Take trials of a search, at most so many; whether something may be left to do."""
    from budgetnet.sweep.taker import Taker

    torch.set_num_threads(words["threads"])
    folder, until = Path(words["folder"]), words["until"]
    options = {name: words[name] for name in ("precision", "speed")}
    trainer = Trainer(words["device"], out=folder.parent, show=False, **options)
    plan = replayed(read_plan(words["recipe"]), words)
    domains = space(
        {
            path: domain if isinstance(domain, str) else [literal(text) for text in domain]
            for path, domain in words["domains"].items()
        }
    )
    effort = Effort(**words["effort"])
    against = tuple(words["against"])
    task = Task(trainer, plan, domains, words["trials"], words["metric"], against, effort, words["record"])
    left = None if until is None else time.monotonic() + until - time.time()
    return Taker(task, folder, tell).trials(left, most=most)


def take_trial(words: dict[str, Any]) -> bool:
    """A task: take one trial of a search; whether more may be left."""
    return take_part(words, most=1, tell=print)


def searched(cluster: Cluster, task: Task, folder: Path, until: float | None) -> None:
    """Have tasks of a cluster take the trials, one each, until none is left."""
    told = message(task, folder, cluster.threads, until) | cluster.engine(task.trainer)
    with connected(cluster, task.trainer) as ray:
        begin = as_task(ray, cluster, take_trial).remote
        refs = {begin(told): 0 for _ in range(min(task.trials, slots(ray, cluster)))}
        for ref in ended(ray, refs):
            try:
                more = ray.get(ref)
            except ray.exceptions.RayError as error:
                raise TrainingFailed(lost(error)) from None
            if more:
                refs[begin(told)] = 0


@contextmanager
def beside(task: Task, folder: Path, count: int, threads: int, until: float | None) -> Iterator[None]:
    """Within it `count` workers more take trials on this machine; at an error they end at a step's end."""
    first = json.dumps(message(task, folder, threads, until)).encode() + b"\n"
    fill_closed()
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            command = [sys.executable, "-P", "-c", _CODE, json.dumps(sys.path)]
            out = None if task.trainer.show else subprocess.DEVNULL
            workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, process_group=0))
            pipe = workers[-1].stdin
            assert pipe is not None
            with suppress(OSError):
                pipe.write(first)
                pipe.flush()
        yield
    except BaseException:
        for each in workers:
            each.send_signal(signal.SIGTERM)
        raise
    finally:
        for each in workers:
            try:
                each.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
            assert each.stdin is not None
            with suppress(OSError):
                each.stdin.close()


def main() -> None:
    """Take part in the search that standard input tells of, and end at a step's end when that ends."""
    words = json.loads(sys.stdin.readline())
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def listen() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PATIENCE)
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    with steadfast_output():
        take_part(words, tell=say)
