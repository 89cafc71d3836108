"""Session: one run from its first step in this process to its end, however it ends."""

import signal
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import budgetnet.guard as guard
from budgetnet.console import Display
from budgetnet.engine import (
    Chunks,
    Engine,
    Evaluation,
    Event,
    Execution,
    Kept,
    NotWritten,
    State,
    Training,
    check_optimizer,
    measure,
    moved,
    on_device,
    prepare,
    remember,
    restore,
    steps,
)
from budgetnet.files import checkpoint, discard, locked, unwritable
from budgetnet.loss import of_counts
from budgetnet.modelfile import difference, write
from budgetnet.process import fill_closed, steadfast_output
from budgetnet.run import EARLY, METRICS, MODEL, RECORD, Epoch, Note, Run, pace
from budgetnet.trainer.begin import Start, card_of
from budgetnet.trainer.changes import adapt
from budgetnet.trainer.notebook import NotebookScreen, page_of
from budgetnet.trainer.record import (
    beginning,
    close,
    last_lines,
    listed,
    now,
    open_record,
    source_paths,
    unkept,
)
from budgetnet.trainer.report import leave_report
from budgetnet.trainer.saver import Saver, Stop, Stopped, insist
from budgetnet.trainer.space import room
from budgetnet.trainer.watch import Audience, Screen, Watchers
from budgetnet.values import finite


def epochs(start: Start, engine: Engine, audience: Audience) -> Iterator[Epoch]:
    """The epochs of a run that was checked; where it is refused all the same, it leaves no folder.

    A loop over them that is left in the middle ends the run, at the end of the process at the latest.
    """
    generator = _epochs(start, engine, audience)
    # Left in a variable, it would be closed among the ruins of the interpreter.
    weakref.finalize(generator, _close, weakref.ref(generator))
    return generator


def _close(reference: "weakref.ref[Generator[Epoch]]") -> None:
    generator = reference()
    if generator is not None:
        generator.close()


def _epochs(start: Start, engine: Engine, audience: Audience) -> Generator[Epoch]:
    run, new = start.run, start.held is None
    if new:
        run.settle()
    place, files = run.place if new else None, list[Path]()
    try:
        with start.claims:
            start.team.led(lambda: _claim(start, place))
            if place is not None:
                paths = [place / name for name in (RECORD, METRICS, guard.SEEN)]
                files = [path for path in (*paths, *source_paths(run).values()) if not path.exists()]
            yield from _claimed(start, engine, audience, files)
    except ValueError:
        if not start.started and place is not None:
            with suppress(OSError):
                place.rmdir()
        raise


def _claimed(start: Start, engine: Engine, audience: Audience, files: Sequence[Path]) -> Iterator[Epoch]:
    """The epochs of a run whose folder is this process's alone; `files` are those that it will have made."""
    run, channel = start.run, audience.channel
    fill_closed()
    stop = Stop(start.limit, channel.deserted, start.team)
    page = page_of(start, engine.device) if audience.show and channel.tell is None else None
    display = page or Display(audience.show, channel.tell)
    start.notes += start.team.led(lambda: room(start))
    phases = start.recipe.phases
    told = Watchers(Screen(display, phases) if page is None else NotebookScreen(page, phases))
    try:
        training = set_up(start, engine, told.tell, alone=channel.alone)
    except (OSError, ValueError) as error:
        for path in files:
            discard(path)
        raise unwritable(run.folder or Path(), error) if isinstance(error, OSError) else error from None
    start.started = True
    saver = Saver(run, stop, training, start.contract, saved=start.held is not None)
    told.add(saver, partial(_guarded, training, run))
    if audience.aside is not None and not audience.show:
        told.add(partial(_not_to_be_missed, audience.aside))
    training.execution.chunks = Chunks(team=training.team, pause=saver.between, tell=told.tell)
    # What a recipe's own functions print, or the loop over the epochs, ends no training either.
    with steadfast_output(), display, stop.listening(), ExitStack() as stack:
        clock = time.perf_counter()
        try:
            stack.enter_context(told.open(audience.users, run, saver.save))
            for note in beginning(start, training):
                told.tell(note)
            yield from _told(training, run, told, watched=bool(audience.users))
        except GeneratorExit:
            # A `break` in the user's loop: an ordinary end, which no checkpoint can repeat, and out of
            # which nothing can be raised.
            training.execution.chunks.pause = lambda: None
            try:
                end(training, run, clock, None)
            except NotWritten as error:
                try:
                    warnings.warn(str(error), RuntimeWarning, stacklevel=2)
                except RuntimeWarning:
                    # Where warnings are errors, this one is not: see above.
                    told.tell(Note("disk", str(error)))
            raise
        except Stopped as stopped:
            end(training, run, clock, stopped)
            _leave(stopped.signal_number or stop.heard)
            return
        except BaseException as error:
            end(training, run, clock, error)
            raise
        number = None
        try:
            end(training, run, clock, None)
        except Stopped as stopped:
            end(training, run, clock, stopped)
            number = stopped.signal_number
        # One that came after the last step ends no run that is done, but whatever was to come after it.
        _leave(number or stop.heard)


def set_up(start: Start, engine: Engine, tell: Callable[[Note], None], *, alone: bool = True) -> Training:
    """Move everything to its place and write the record of what is about to run."""
    model, run, held = start.model, start.run, start.held
    prepare(model, start.data.train, engine, start.recipe.phases[0].resolutions[0])
    # Each process may have begun its own with other random numbers.
    start.team.spread([*model.parameters(), *model.buffers()])
    loss = of_counts(start.recipe.loss, start.data.train.counts(len(start.data.classes)))
    data = moved(start.data, engine.device)
    recipe = replace(start.recipe, loss=on_device(loss, engine.device, model))
    execution = Execution.chosen(model, data, recipe, engine, start.speed_choice, alone=alone)
    session, earlier = start.session
    training = Training(
        model,
        data,
        recipe,
        engine,
        State(data.train),
        session,
        earlier,
        lambda note: tell(listed(note, training, run)),
        execution,
        team=start.team,
    )
    remember(training)
    if held is not None:
        restore(training, held)
        adapt(training, start.changed)
        check_optimizer(training, held)
    run.model = model
    run.rewind([*earlier, *training.state.history])
    open_record(run, training, start)
    return training


def _claim(start: Start, place: Path | None) -> None:
    """Make this process the one that writes to a new run's folder, where it has one."""
    if place is not None:
        start.claims.enter_context(locked(place))


def _told(training: Training, run: Run, told: Watchers, *, watched: bool) -> Iterator[Epoch]:
    """The epochs of a training of which everybody is told, until its end or one that is asked for.

    Where it is `watched` by the user's own, they may ask for it at any step.
    """
    with closing(steps(training)) as events:
        for event in events:
            told(event)
            if isinstance(event, Epoch):
                # Whoever looks at the model between two epochs sees it as the phase tests it.
                phase = training.recipe.phases[event.phase - 1]
                training.model.card = card_of(training, phase)  # type: ignore[assignment]
                yield event
            if (watched or isinstance(event, Epoch) or training.team.alone) and training.team.agreed(
                int((told.ending or bool(run.ending)) and training.kept is not None)
            ):
                return


def _guarded(training: Training, run: Run, event: Event | Note) -> None:
    """Tell of what the figures of an epoch show."""
    if isinstance(event, Epoch):
        phase, recipe = training.recipe.phases[event.phase - 1], training.recipe
        best_by = recipe.best_by if recipe.keeps_best else None
        for text in guard.after_epoch(run.history, phase, best_by=best_by):
            training.tell(Note("guard", text))


def _not_to_be_missed(aside: Callable[[str], None], event: Event | Note) -> None:
    if isinstance(event, Note) and event.kind == "bits":
        aside(str(event))


def _leave(number: int | None) -> None:
    """Go on as whoever sent the signal, if one came, expects; in a notebook the run's caller gets it back."""
    interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules
    if number == signal.SIGINT and not interactive:
        raise KeyboardInterrupt
    if number not in (None, signal.SIGINT):
        raise SystemExit(128 + number)


def end(training: Training, run: Run, start: float, error: BaseException | None) -> None:
    """Put the kept weights into the model, save them, and close the record.

    Raises NotWritten where all else went well, and the disk did not take it.
    """
    kept, unwritten = training.kept, ""
    status = "failed"
    if error is None:
        status, run.ending = run.ending or ("finished" if _whole(training) else EARLY), ""
    if isinstance(error, Stopped):
        status = error.status
    elif error is not None and not isinstance(error, Exception):
        status = "stopped"
    result, measured = dict[str, Any](), dict[str, Evaluation]()
    if kept is not None:
        phase = training.phase_of(kept)
        training.model.load_state_dict(kept.state)
        training.model.eval()
        training.model.card = card_of(training, phase)  # type: ignore[assignment]
        if error is None:
            result, measured = _result(training, kept)
        if run.place is not None:
            described, path = card_of(training, phase), run.place / MODEL
            unwritten = insist(lambda: write(training.model, kept.state, described, path))
    if unwritten and error is None:
        status, error = "failed", NotWritten(unkept(run, unwritten), run)
    spent = time.perf_counter() - start
    result["seconds"] = round(float(run.record.get("seconds_before", 0.0)) + spent, 3)
    told = "" if error is not None or kept is None or run.place is None else difference(path, training.model)
    if told:
        run.record["notes"] = [*run.record.get("notes", []), told]
    failure = {"error": str(error)} if isinstance(error, Exception) and status == "failed" else {}
    sessions = run.record.get("sessions", [])
    if sessions:
        sessions[-1] |= {"ended": now(), "status": status, "seconds": round(spent, 3)}
    times = pace(training.state.history, result["seconds"])
    run.record |= {"status": status, "result": result, "ended": now(), "sessions": sessions, **failure}
    run.record["time"] = times.json()
    # Before the record says that the run is over: one killed meanwhile is gone on with, and tidied up.
    unreported = leave_report(run, training, measured.get("val")) if run.over else None
    unclosed = insist(lambda: close(run))
    if unclosed and error is None:
        error = NotWritten(unkept(run, unclosed), run)
        run.record |= {"status": "failed", "error": str(error)}
    if run.over and run.place is not None:
        checkpoint.remove(run.place)
    if isinstance(error, NotWritten):
        raise error
    if unwritten or unclosed:
        training.tell(Note("disk", unkept(run, unwritten or unclosed)))
    if told:
        training.tell(Note("disk", told))
    if unreported is not None:
        training.tell(unreported)
    for line in last_lines(run, result, times):
        training.tell(Note("end", line))
    for text in _doubts(training, run, result, measured):
        training.tell(Note("guard", text))


def _doubts(
    training: Training, run: Run, result: dict[str, Any], measured: dict[str, Evaluation]
) -> Iterator[str]:
    """What the final figures show that is worth a doubt."""
    for way, evaluation in measured.items():
        if way in training.data.splits:
            yield from guard.unrecognised(evaluation.unrecognised, way)
    if run.folder is not None and "test_accuracy" in result:
        yield from guard.selection(run.folder.parent)


def _whole(training: Training) -> bool:
    """Whether the recipe has nothing left to train."""
    phases, history = training.recipe.phases, training.of_phase(training.state.phase)
    stop = phases[-1].stop
    stopped = stop is not None and bool(history) and stop.fires(history)
    return training.state.phase == len(phases) and (len(history) >= phases[-1].epochs or stopped)


def _result(training: Training, kept: Kept) -> tuple[dict[str, Any], dict[str, Evaluation]]:
    """The kept weights' final figures on validation and test, and their evaluations."""
    measured: dict[str, Evaluation] = {}
    result: dict[str, Any] = {"epoch": kept.epoch.number, "phase": kept.epoch.phase}
    data, phase = training.data, training.phase_of(kept)
    plain = phase.test.plain
    ways = {"val": (data.val, phase.test), "test": (data.test, plain)}
    if plain != phase.test:
        ways["val_plain"] = (data.val, plain)
    for way, (split, test) in ways.items():
        if split is None or not len(split):
            continue
        known = kept.validation if way == "val" else None
        # The very views that the epoch was measured on, where views are drawn.
        epochs = kept.epoch.number - len(training.earlier) - 1
        figures = known or measure(training, training.model, split, phase, test, epochs)
        for name in ("accuracy", "top5", "loss", "images", "resolution"):
            result[f"{way}_{name}"] = finite(vars(figures)[name])
        result |= {f"{way}_{name}": finite(figure) for name, figure in figures.metrics.items()}
        measured[way] = figures
    return result, measured
