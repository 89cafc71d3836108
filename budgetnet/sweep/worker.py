"""Worker: a process that trains one job after another, told by lines of JSON, and tells of them so.

It ends when whoever started it does: after the end of its input no job is begun, and a training stops at the
end of a step, as SIGTERM stops it, ready to be resumed.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from budgetnet.budget import untimed
from budgetnet.compare import differences
from budgetnet.console import Tell
from budgetnet.data import Data
from budgetnet.files import checkpoint
from budgetnet.plan import Plan, read_plan
from budgetnet.process import steadfast_output
from budgetnet.run import Run
from budgetnet.sweep.job import FAILED, FAILURE, kind_of, told
from budgetnet.sweep.shared import shared
from budgetnet.trainer import ENDING, Channel, Handler, Session, Trainer

_PATIENCE = 60.0
"""Seconds that a step may still take once nobody listens any more."""

Message = dict[str, Any]


class Inbox:
    """What comes on standard input, a line of JSON a message; and whether that has `ended`."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._busy = threading.Event()
        self._waiting: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self) -> Message | None:
        """The next message; None after the end, whatever came before it: nobody waits for that any more."""
        message = self._waiting.get()
        return None if self.ended.is_set() else message

    @contextmanager
    def busy(self) -> Iterator[bool]:
        """Within it the end is a signal, SIGTERM, too; gives whether it came before."""
        # Set before the end is looked at, as the end is before this is: one of the two sees the other.
        self._busy.set()
        try:
            yield self.ended.is_set()
        finally:
            self._busy.clear()

    def _listen(self) -> None:
        # A parent that is killed while it writes leaves half a line.
        with suppress(ValueError, OSError):
            for line in sys.stdin:
                self._waiting.put(json.loads(line))
        self.ended.set()
        self._waiting.put(None)
        if self._busy.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PATIENCE)
        os._exit(1)


def main() -> None:
    """Train what standard input asks for, and tell of it on the descriptor that was given."""
    channel = os.fdopen(int(sys.argv[2]), "w", encoding="utf-8")
    for number in ENDING:
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, Handler(_leave))
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def tell(message: Mapping[str, Any]) -> None:
        with suppress(OSError):
            channel.write(json.dumps(message) + "\n")
            channel.flush()

    # What a recipe prints goes to the parent too, which may be gone.
    with steadfast_output():
        inbox = Inbox()
        first = inbox.next()
        if first is not None:
            _work(first, inbox, tell)


def _work(first: Message, inbox: Inbox, tell: Tell) -> None:
    """Read the recipe once, then train job after job."""
    plan = read_plan(first["recipe"])
    data = shared(first["data"]) if first["data"] is not None else None
    tell({"ready": True})
    while (job := inbox.next()) is not None:
        with inbox.busy() as over:
            if over:
                return
            failure = trained_job(plan, data, job, first, tell, inbox.ended.is_set)
        tell({"ended": failure})


def _leave(number: int) -> None:
    raise SystemExit(128 + number)


def trained_job(
    plan: Plan, data: Data | None, job: Message, first: Message, tell: Tell, deserted: Callable[[], bool]
) -> Message:
    """Train one job; gives the kind and the words of its failure, if it failed."""
    torch.set_num_threads(job["threads"])
    trainer = Trainer(
        first["device"], precision=first["precision"], speed=first["speed"], out=None, show=False
    )
    trainer.channel = Channel(tell, job["alone"], deserted)
    run = Run(record=dict(job["record"]), source=plan.source)
    try:
        _train(trainer, plan, data, job, run)
    except SystemExit:
        # Stopped between two steps, and saved, or done: whoever asked for it still wants to hear so.
        tell({"ended": {}, "leaving": True})
        raise
    except Exception as error:
        kind, text = kind_of(error), " ".join(str(error).split())
        if kind == FAILED and run.status != "failed":
            traceback.print_exc()
        if run.status == "failed" and run.folder is not None:
            run.note(**{FAILURE: kind})
        return {"kind": kind, "error": text or type(error).__name__}
    return {}


def _train(trainer: Trainer, plan: Plan, data: Data | None, job: Message, run: Run) -> None:
    plan = replayed(plan, job)
    data = data if data is not None else plan.data()
    if not job["tested"]:
        data = replace(data, test=None)
    folder, until = Path(job["folder"]), job["until"]
    session = Session(
        resume=folder if job["resume"] else None,
        max_time=None if until is None else max(1e-3, until - time.monotonic()),
    )
    with untimed():  # the machine is busy with others of them
        model = plan.model()
    epochs = trainer.start(model, data, plan.recipe, run, session, lambda: folder)
    for _ in epochs:
        pass


def replayed(plan: Plan, job: Mapping[str, Any]) -> Plan:
    """The job's plan. Raises ValueError where it is not the one that the parent holds."""
    try:
        again = plan.replayed(job["changes"])
        unlike = [difference.path for difference in differences([job["plan"], told(again)])]
    except ValueError:
        unlike = ["its settings"]
    if not unlike:
        return again
    raise ValueError(
        f"{plan.path} read again is not the recipe that was asked for: it was edited since, or has values "
        f"that cannot be written as settings ({', '.join(unlike[:3])}); train its runs one after another "
        "(together=1)"
    )


def train_job(first: Message, message: Message) -> Message:
    """A task: train one job, from its checkpoint where a task that was lost left one."""
    folder, until = Path(message["folder"]), message["until"]
    left = None if until is None else time.monotonic() + until - time.time()
    job = {**message, "resume": checkpoint.any_in(folder), "until": left}
    with suppress(SystemExit, KeyboardInterrupt):
        return trained_job(read_plan(first["recipe"]), None, job, first, lambda words: None, lambda: False)
    return {}
