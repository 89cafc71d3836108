"""End: what becomes of a training that is over, however it ended: weights, figures and the record."""

import time
from typing import Any

from budgetnet import guard
from budgetnet.engine import Kept, NotWritten, Training, evaluate, mixed
from budgetnet.files import checkpoint
from budgetnet.modelfile import difference, write
from budgetnet.run import MODEL, Note, Run, pace
from budgetnet.trainer.record import card_of, close, closing, now, unkept
from budgetnet.trainer.saver import insist
from budgetnet.trainer.stop import Stopped


def end(training: Training, run: Run, begun: float, error: BaseException | None) -> None:
    """Put the kept weights into the model, save them, and close the record.

    Raises NotWritten where all else went well, and the disk did not take it.
    """
    kept, unwritten = training.kept, ""
    status = "finished" if error is None else "failed"
    if isinstance(error, Stopped):
        status = error.status
    elif error is not None and not isinstance(error, Exception):
        status = "stopped"
    result: dict[str, Any] = {}
    if kept is not None:
        phase = training.phase_of(kept)
        training.model.load_state_dict(kept.state)
        training.model.eval()
        training.model.card = card_of(training, phase)  # type: ignore[assignment]
        result = _result(training, kept) if error is None else {}
        if run.place is not None:
            described, path = card_of(training, phase), run.place / MODEL
            unwritten = insist(lambda: write(training.model, kept.state, described, path))
    if unwritten and error is None:
        status, error = "failed", NotWritten(unkept(run, unwritten), run)
    spent = time.perf_counter() - begun
    result["seconds"] = round(float(run.record.get("seconds_before", 0.0)) + spent, 3)
    told = "" if error is not None or kept is None or run.place is None else difference(path, training.model)
    if told:
        run.record["notes"] = [*run.record.get("notes", []), told]
    failure = {"error": str(error)} if isinstance(error, Exception) and status == "failed" else {}
    sessions = run.record.get("sessions", [])
    if sessions:
        sessions[-1] |= {"ended": now(), "status": status, "seconds": round(spent, 3)}
    times = pace(training.state.history, result["seconds"])
    entries = {"time": times.json(), "ended": now(), "sessions": sessions, **failure}
    unclosed = insist(lambda: close(run, status=status, result=result, **entries))
    if unclosed and error is None:
        error = NotWritten(unkept(run, unclosed), run)
        run.record |= {"status": "failed", "error": str(error)}
    if run.status == "finished" and run.place is not None:
        checkpoint.remove(run.place)
    if isinstance(error, NotWritten):
        raise error
    if unwritten or unclosed:
        training.tell(Note("disk", unkept(run, unwritten or unclosed)))
    if told:
        training.tell(Note("disk", told))
    for line in closing(run, result, times):
        training.tell(Note("end", line))
    if run.folder is not None and "test_accuracy" in result:
        for note in guard.selection(run.folder.parent):
            training.tell(Note("guard", note))


def _result(training: Training, kept: Kept) -> dict[str, Any]:
    """The kept weights' final figures, on validation and on test where there are any."""
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
        passed = kept.epoch.number - len(training.earlier) - 1
        found = known or evaluate(
            training.model,
            split,
            data.classes,
            test,
            engine=training.engine,
            resolution=phase.last_resolution,
            batch_size=phase.batch_size or training.recipe.batch_size,
            seed=mixed(training.seed, passed),
            portions=training.execution.portions,
        )
        result |= {
            f"{way}_accuracy": found.accuracy,
            f"{way}_top5": found.top5,
            f"{way}_loss": found.loss,
        }
        result |= {f"{way}_images": found.images, f"{way}_resolution": found.resolution}
    return result
