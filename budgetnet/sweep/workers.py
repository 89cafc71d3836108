"""Workers: processes that train a list of jobs, what they tell, and what becomes of jobs that fail."""

import json
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from budgetnet.console import Display
from budgetnet.data import Data, free_memory
from budgetnet.files import checkpoint, new_folder
from budgetnet.run import RECORD, Run
from budgetnet.sweep.capacity import Capacity
from budgetnet.sweep.job import FAILED, FAILURE, MEMORY, MISTAKE, Job, engine_of
from budgetnet.sweep.process import Process, status_words
from budgetnet.sweep.shared import share, shared_size
from budgetnet.text import counted, duration
from budgetnet.trainer import Trainer, heeding

_TICK, _PATIENCE = 0.2, 60.0


def trained(
    trainer: Trainer,
    jobs: Sequence[Job],
    capacity: Capacity,
    data: Data | None,
    *,
    limit: float | None = None,
) -> Iterator[tuple[int, Run]]:
    """Train jobs of one recipe file in processes, several at once; gives each run, read, as it ends.

    `data` are laid out in memory once for all of them; without, each worker loads them. A run that fails is
    given with the status "failed" and hurts no other one; where it is for the memory, it is trained again
    alone when the others are done. After `limit` seconds the runs are paused, and no more are begun. SIGINT
    and SIGTERM stop all of them at a step's end, ready to be resumed, and act here when they are saved; a
    second SIGINT acts at once.
    """
    memory = _laid_out(data)
    workers = _Workers(trainer, jobs, capacity, memory, None if limit is None else time.monotonic() + limit)
    try:
        with workers.display, heeding(workers.heed):
            yield from workers.runs()
    except BaseException:
        workers.leave(at_once=workers.urgent)
        raise
    else:
        workers.leave()
    finally:
        if memory is not None:
            os.close(memory["memory"])
    if workers.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if workers.signal is not None:
        raise SystemExit(128 + workers.signal)


def _laid_out(data: Data | None) -> dict[str, Any] | None:
    """Data in memory that all workers map, None where that does not fit: then each loads them for itself."""
    if data is None or shared_size(data) > free_memory() // 2:
        return None
    if not all(isinstance(split.images, Tensor) for split in data.splits.values()):
        # Images that stay in their file are read from there by each.
        return None
    try:
        return share(data)
    except OSError:
        return None


@dataclass
class _Worker:
    """A process, and the job that it is at: its number, its run's folder, and whether nobody is beside it."""

    process: Process
    at: int | None = None
    folder: Path = Path()
    alone: bool = False
    asked: bool = False


class _Workers:
    """Workers and what is left to do. `again` are the jobs that are trained alone in the end.

    `signal` is the one that asked for a stop; `urgent`: a second SIGINT asked for an end at once.
    """

    def __init__(
        self,
        trainer: Trainer,
        jobs: Sequence[Job],
        capacity: Capacity,
        memory: dict[str, Any] | None,
        until: float | None,
    ) -> None:
        self.jobs, self.capacity, self.until = jobs, capacity, until
        self.display = Display(trainer.show)
        recipe = str(jobs[0].plan.path) if jobs else ""
        self.first = {"recipe": recipe, "data": memory, **engine_of(trainer)}
        self.waiting = deque(range(len(jobs)))
        self.again: deque[int] = deque()
        self.folders: dict[int, Path] = {}
        self.workers: list[_Worker] = []
        self.selector = selectors.DefaultSelector()
        self.said_once: set[str] = set()
        self.images = 0
        self.signal: int | None = None
        self.urgent = False

    def heed(self, number: int) -> None:
        """Note a signal that asks for an end."""
        if self.signal is not None and number == signal.SIGINT:
            self.urgent = True
            raise KeyboardInterrupt
        self.signal = number

    def runs(self) -> Iterator[tuple[int, Run]]:
        """The runs of all jobs, as they end."""
        ended, began = 0, time.monotonic()
        while True:
            late = self.until is not None and time.monotonic() >= self.until
            if self.signal is not None:
                self._stop()
            elif not late:
                self._hand_out()
            none_left = late or self.signal is not None or not (self.waiting or self.again)
            if none_left and all(worker.at is None for worker in self.workers):
                break
            for key, _ in self.selector.select(_TICK):
                for at, run in self._hear(key.data, key.fd):
                    ended += 1
                    yield at, run
        if ended:
            spent = time.monotonic() - began
            pace = f"{self.images / spent:,.0f} images/s in all"
            self.display.say(f"{counted(ended, 'run')} in {duration(spent)}, {self.capacity}: {pace}")

    def _hand_out(self) -> None:
        """Give each job that may begin to a worker."""
        busy = sum(worker.at is not None for worker in self.workers)
        while self.waiting and busy < self.capacity.count:
            self._give(self.waiting.popleft(), alone=self.capacity.count == 1)
            busy += 1
        if self.again and not busy:
            # The memory that idle workers hold on to is needed now.
            for worker in list(self.workers):
                self._dismiss(worker)
            self._give(self.again.popleft(), alone=True)

    def _give(self, at: int, *, alone: bool) -> None:
        job = self.jobs[at]
        worker = next((worker for worker in self.workers if worker.at is None), None)
        if worker is None:
            worker = _Worker(Process(self.first))
            worker.process.watch(self.selector, worker)
            self.workers.append(worker)
        earlier = self.folders.get(at, job.folder)
        folder = self.folders[at] = earlier or new_folder(job.out, job.called)
        resume = earlier is not None and checkpoint.any_in(earlier)
        threads = self.capacity.threads
        if resume:
            # The bits depend on them: those that it began with.
            threads = int(Run.read(folder).record.get("threads") or threads)
        worker.at, worker.folder, worker.alone = at, folder, alone
        message = job.message(folder, resume=resume, alone=alone, until=self.until)
        worker.process.send({**message, "threads": threads})
        self.display.say(f"{'goes on' if resume else 'begins'} in {folder}", job.name)

    def _hear(self, worker: _Worker, descriptor: int) -> Iterator[tuple[int, Run]]:
        """What a worker says, and the run that it has ended, if so."""
        if worker not in self.workers:
            return
        process, name = worker.process, "a worker" if worker.at is None else self.jobs[worker.at].name
        lines = process.lines(descriptor)
        if lines is None:
            self.selector.unregister(descriptor)
            if descriptor == process.messages:
                yield from self._lost(worker)
            return
        for line in lines:
            if descriptor == process.output:
                process.last_words.append(line)
                self.display.say(line, name)
                continue
            with suppress(ValueError):
                message = json.loads(line)
                if "ended" in message and worker.at is not None:
                    yield from self._ended(worker, message["ended"], leaving="leaving" in message)
                else:
                    self._show(name, message)

    def _show(self, name: str, message: dict[str, Any]) -> None:
        if "say" in message:
            text = message["say"]
            if text not in self.said_once:
                self.display.say(text, name)
            if message["once"]:
                self.said_once.add(text)
        elif "step" in message:
            label, part, figures = message["step"]
            self.display.step(label, part, figures, name)
        elif "images" in message:
            self.images += message["images"]

    def _ended(self, worker: _Worker, failure: dict[str, str], *, leaving: bool) -> Iterator[tuple[int, Run]]:
        """The run of a job that came to an end which its worker, perhaps `leaving` now, could tell of."""
        assert worker.at is not None
        at, worker.at = worker.at, None
        self.display.gone(self.jobs[at].name)
        if failure:
            # Whatever it still holds on to, the next job begins without.
            self._dismiss(worker)
            yield from self._failed(at, failure["kind"], failure["error"], alone=worker.alone)
            return
        if leaving:
            # After a signal of its own.
            self._dismiss(worker)
        yield at, Run.read(self.folders[at])

    def _lost(self, worker: _Worker) -> Iterator[tuple[int, Run]]:
        """The run of a worker that ended without a word."""
        status = self._dismiss(worker)
        at, worker.at = worker.at, None
        if at is None:
            return
        self.display.gone(self.jobs[at].name)
        with suppress(ValueError):
            run = Run.read(self.folders[at])
            if run.status not in ("running", "interrupted"):
                yield at, run
                return
        if worker.asked:
            self._tidy(self.folders[at])
            return
        # The system kills who takes too much memory, without a word.
        kind = MEMORY if status == -signal.SIGKILL else FAILED
        words = "".join(f"; its last words: {line}" for line in worker.process.last_words)
        yield from self._failed(at, kind, status_words(status) + words, alone=worker.alone)

    def _failed(self, at: int, kind: str, error: str, *, alone: bool) -> Iterator[tuple[int, Run]]:
        job, folder = self.jobs[at], self.folders[at]
        if kind == MEMORY and not alone:
            self.display.say(
                "the memory did not suffice beside the others: it is trained after them", job.name
            )
            self.again.append(at)
            return
        entries = {"status": "failed", "error": error, FAILURE: kind}
        try:
            run = Run.read(folder)
        except ValueError:
            run = Run(folder=folder, record={**job.record, "seed": job.plan.recipe.seed})
        self.display.say(f"failed: {error}", job.name)
        if kind == MISTAKE:
            # Nothing was begun: what lies there, if anything, is as it was.
            self._tidy(folder)
            run.record |= entries
        else:
            run.note(**entries)
        yield at, run

    def _tidy(self, folder: Path) -> None:
        """Remove a folder that nothing was written to."""
        if not (folder / RECORD).exists():
            with suppress(OSError):
                folder.rmdir()

    def _stop(self) -> None:
        for worker in self.workers:
            if not worker.asked:
                worker.asked = True
                worker.process.ask_to_stop()
        self.waiting.clear()
        self.again.clear()

    def _dismiss(self, worker: _Worker) -> int:
        """Let a worker go that is at nothing any more; gives its exit status."""
        self.workers.remove(worker)
        return worker.process.end(_PATIENCE, self.selector)

    def leave(self, *, at_once: bool = False) -> None:
        """End all workers: those at work at the end of a step, or at once."""
        for worker in self.workers:
            if at_once:
                worker.process.kill()
            elif worker.at is not None:
                worker.process.ask_to_stop()
        for worker in list(self.workers):
            self._dismiss(worker)
        self.selector.close()
