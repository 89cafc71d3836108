"""Crew: the workers that train a list of jobs, what they tell, and what becomes of those that fail."""

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

from budgetnet.console import Board
from budgetnet.data import Data, free_memory
from budgetnet.files import checkpoint
from budgetnet.run import RECORD, Run
from budgetnet.text import counted, duration
from budgetnet.together.job import FAILED, FAILURE, MEMORY, MISTAKE, Job, engine_of
from budgetnet.together.orders import Orders
from budgetnet.together.process import Process, told
from budgetnet.together.room import Crowd
from budgetnet.together.shared import share, shared_size
from budgetnet.trainer import Trainer

_TICK, _PATIENCE = 0.2, 60.0


def trained(
    trainer: Trainer,
    jobs: Sequence[Job],
    crowd: Crowd,
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
    descriptor = _laid_out(data)
    crew = _Crew(trainer, jobs, crowd, descriptor, None if limit is None else time.monotonic() + limit)
    orders = Orders()
    done = False
    try:
        with crew.board, orders.listening():
            yield from crew.run(orders)
        done = True
    finally:
        crew.leave(kindly=done or not orders.urgent)
        if descriptor is not None:
            os.close(descriptor)
    orders.obey()


def _laid_out(data: Data | None) -> int | None:
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
class _Post:
    """A worker, and the job that it is at: its number, its run's folder, and whether nobody is beside it."""

    process: Process
    at: int | None = None
    folder: Path = Path()
    alone: bool = False
    asked: bool = False


class _Crew:
    """Workers and what is left to do. `again` are the jobs that are trained alone in the end."""

    def __init__(
        self, trainer: Trainer, jobs: Sequence[Job], crowd: Crowd, descriptor: int | None, until: float | None
    ) -> None:
        self.jobs, self.crowd, self.until = jobs, crowd, until
        self.board = Board(trainer.show)
        self.first = {
            "recipe": str(jobs[0].plan.path) if jobs else "",
            "data": descriptor,
            **engine_of(trainer),
        }
        self.waiting = deque(range(len(jobs)))
        self.again: deque[int] = deque()
        self.folders: dict[int, Path] = {}
        self.posts: list[_Post] = []
        self.selector = selectors.DefaultSelector()
        self.noted: set[str] = set()
        self.images, self.began = 0, time.monotonic()

    def run(self, orders: Orders) -> Iterator[tuple[int, Run]]:
        """The runs of all jobs, as they end."""
        ended = 0
        while True:
            late = self.until is not None and time.monotonic() >= self.until
            if orders.number is not None:
                self._stop()
            elif not late:
                self._hand_out()
            if not any(post.at is not None for post in self.posts) and (late or orders.number or self._idle):
                break
            for key, _ in self.selector.select(_TICK):
                for at, run in self._hear(key.data, key.fd):
                    ended += 1
                    yield at, run
        if ended:
            spent = time.monotonic() - self.began
            runs = counted(ended, "run")
            pace = f"{self.images / spent:,.0f} images/s in all"
            self.board.say(f"{runs} in {duration(spent)}, {self.crowd}: {pace}")

    @property
    def _idle(self) -> bool:
        return not self.waiting and not self.again

    def _hand_out(self) -> None:
        """Give each job that may begin to a worker."""
        busy = sum(post.at is not None for post in self.posts)
        while self.waiting and busy < self.crowd.count:
            self._give(self.waiting.popleft(), alone=self.crowd.count == 1)
            busy += 1
        if self.again and not busy:
            # The memory that idle workers hold on to is needed now.
            for post in list(self.posts):
                self._dismiss(post)
            self._give(self.again.popleft(), alone=True)

    def _give(self, at: int, *, alone: bool) -> None:
        job = self.jobs[at]
        post = next((post for post in self.posts if post.at is None), None)
        if post is None:
            post = _Post(Process(self.first))
            post.process.watch(self.selector, post)
            self.posts.append(post)
        earlier = self.folders.get(at, job.folder)
        folder = earlier or Run.new(job.out, job.called).folder
        assert folder is not None
        self.folders[at] = folder
        resume = earlier is not None and checkpoint.any_in(earlier)
        threads = self.crowd.threads
        if resume:
            # The bits depend on them: those that it began with.
            threads = int(Run.read(folder).record.get("threads") or threads)
        message = job.message(folder, resume=resume, alone=alone, until=self.until)
        post.at, post.folder, post.alone = at, folder, alone
        post.process.send({**message, "threads": threads})
        self.board.say(f"{'goes on' if resume else 'begins'} in {folder}", job.name)

    def _hear(self, post: _Post, descriptor: int) -> Iterator[tuple[int, Run]]:
        """What a worker says, and the run that it has ended, if so."""
        if post not in self.posts:
            return
        name = self.jobs[post.at].name if post.at is not None else "a worker"
        lines = post.process.lines(descriptor)
        if lines is None:
            self.selector.unregister(descriptor)
            if descriptor == post.process.heard:
                yield from self._lost(post)
            return
        for line in lines:
            if descriptor == post.process.noise:
                post.process.last_words.append(line)
                self.board.say(line, name)
                continue
            with suppress(ValueError):
                message = json.loads(line)
                if "ended" in message and post.at is not None:
                    yield from self._ended(post, message["ended"])
                else:
                    self._show(name, message)

    def _show(self, name: str, message: dict[str, Any]) -> None:
        if "say" in message:
            text = message["say"]
            # What is worth noting of one of them is so of all.
            if text not in self.noted:
                self.board.say(text, name)
            if text.startswith("note: "):
                self.noted.add(text)
        elif "step" in message:
            self.board.step(name, *message["step"])
        elif "images" in message:
            self.images += message["images"]

    def _ended(self, post: _Post, failure: dict[str, str]) -> Iterator[tuple[int, Run]]:
        """The run of a job that came to an end which its worker could tell of."""
        assert post.at is not None
        at, post.at = post.at, None
        self.board.gone(self.jobs[at].name)
        if failure:
            # Whatever it still holds on to, the next job begins without.
            self._dismiss(post)
            yield from self._failed(at, failure["kind"], failure["error"], alone=post.alone)
            return
        run = Run.read(self.folders[at])
        if run.status == "stopped":
            # By a signal of its own, after which it ends.
            self._dismiss(post)
        yield at, run

    def _lost(self, post: _Post) -> Iterator[tuple[int, Run]]:
        """The run of a worker that ended without a word."""
        status = self._dismiss(post)
        at, post.at = post.at, None
        if at is None:
            return
        self.board.gone(self.jobs[at].name)
        with suppress(ValueError):
            run = Run.read(self.folders[at])
            if run.status not in ("running", "interrupted"):
                yield at, run
                return
        if post.asked:
            self._tidy(self.folders[at])
            return
        # The system kills who takes too much memory, without a word.
        kind = MEMORY if status == -signal.SIGKILL else FAILED
        words = f"; its last words: {post.process.last_words[0]}" if post.process.last_words else ""
        yield from self._failed(at, kind, told(status) + words, alone=post.alone)

    def _failed(self, at: int, kind: str, error: str, *, alone: bool) -> Iterator[tuple[int, Run]]:
        job, folder = self.jobs[at], self.folders[at]
        if kind == MEMORY and not alone:
            self.board.say("the memory did not suffice beside the others: it is trained after them", job.name)
            self.again.append(at)
            return
        entries = {"status": "failed", "error": error, FAILURE: kind}
        try:
            run = Run.read(folder)
        except ValueError:
            run = Run(folder=folder, record={**job.record, "seed": job.plan.recipe.seed})
        self.board.say(f"failed: {error}", job.name)
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
        for post in self.posts:
            if not post.asked:
                post.asked = True
                post.process.ask_to_stop()
        self.waiting.clear()
        self.again.clear()

    def _dismiss(self, post: _Post) -> int:
        """Let a worker go that is at nothing any more; gives its exit status."""
        self.posts.remove(post)
        for descriptor in (post.process.heard, post.process.noise):
            with suppress(KeyError):
                self.selector.unregister(descriptor)
        return post.process.end(_PATIENCE)

    def leave(self, *, kindly: bool) -> None:
        """End all workers: those at work at the end of a step, or at once."""
        for post in self.posts:
            if not kindly:
                post.process.kill()
            elif post.at is not None:
                post.process.ask_to_stop()
        for post in list(self.posts):
            self._dismiss(post)
        self.selector.close()
