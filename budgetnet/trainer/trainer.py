"""Trainer: the face of training: fit, epochs, evaluate, predict."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from budgetnet import checkpoint, guard
from budgetnet.console import Watch
from budgetnet.data import Data, Split
from budgetnet.modelfile import Card, card, write
from budgetnet.owner import owned
from budgetnet.recipe import Recipe, Test
from budgetnet.run import MODEL, Epoch, Run
from budgetnet.trainer.begin import Session, begin
from budgetnet.trainer.changes import adapt
from budgetnet.trainer.images import Images, gather
from budgetnet.trainer.loop import loop
from budgetnet.trainer.measure import Engine, Evaluation, Prediction, evaluate, probabilities
from budgetnet.trainer.memory import Pace
from budgetnet.trainer.ready import check, check_logits, settle
from budgetnet.trainer.record import Begun, card_of, closing, now, open_record, place
from budgetnet.trainer.saver import Saver
from budgetnet.trainer.state import restore
from budgetnet.trainer.stop import Stop, Stopped
from budgetnet.trainer.training import Kept, Training

SAVE_EVERY = 30.0
"""Seconds between two writings of the weights while a run goes."""


class Trainer:
    """Trains, evaluates and applies image classifiers on one device.

    `device` is "cuda", "cpu", "cuda:1"; by default CUDA where there is a GPU. `precision` is "bf16"
    (autocast), "float32", or "auto": bf16 on CUDA, float32 on a CPU. Runs are written to numbered folders
    in `out` (None: nowhere). `show=False` prints nothing.
    """

    def __init__(
        self,
        device: str | torch.device | None = None,
        *,
        precision: Literal["auto", "bf16", "float32"] = "auto",
        out: str | Path | None = "runs",
        show: bool = True,
    ) -> None:
        self.device = _device(device)
        if precision not in ("auto", "bf16", "float32"):
            raise ValueError(f"Trainer's precision should be 'auto', 'bf16' or 'float32', not {precision!r}")
        on_cuda = self.device.type == "cuda"
        half = precision == "bf16" or (precision == "auto" and on_cuda and torch.cuda.is_bf16_supported())
        self.engine = Engine(
            self.device,
            torch.bfloat16 if half else None,
            torch.channels_last,
        )
        self.out = out
        self.show = show

    def fit(
        self,
        model: nn.Module,
        data: Data,
        recipe: Recipe,
        *,
        name: str = "run",
        resume: str | Path | None = None,
        after: str | Path | None = None,
        max_time: float | str | None = None,
        allow: Sequence[str] = (),
    ) -> Run:
        """Train `model` on `data` as `recipe` says, and return the Run with the trained model.

        The run is written to a new folder `out/name-N` as it goes: run.json, metrics.jsonl (a line an
        epoch), model.safetensors, and checkpoints until it is finished. The model is trained in place;
        afterwards it holds the weights that the recipe keeps, in evaluation mode. Mistakes are refused with
        a ValueError before the first step; TrainingFailed is raised if the loss stops being a number.

        `max_time`, in seconds or as "11h30m", ends the session at a step's end with the status "paused".
        `resume`, the folder of an unfinished run, goes on with exactly that run: same recipe, data and model,
        and the result that it would have had. What has changed is refused, unless `allow` names it, as in
        allow=("recipe.loss",): then it is noted in the record. `after`, the folder of any run with weights,
        starts this recipe from them as a new session, with one history over all. Ctrl-C and SIGTERM end the
        run at a step's end too, ready to be resumed: then KeyboardInterrupt is raised, or SystemExit(143); in
        a notebook the unfinished Run is returned.
        """
        session = Session(resume, after, max_time, allow)
        begun = begin(model, data, recipe, None, engine=self.engine, session=session)
        if self.out is not None and resume is None:
            begun.run.folder = Run.new(self.out, name).folder
        for _ in self._epochs(begun):
            pass
        return begun.run

    def check(self, model: nn.Module, data: Data, recipe: Recipe) -> list[str]:
        """Everything that `fit` would refuse is refused here, with a ValueError; gives what is worth noting.

        Nothing is trained and the model is left as it is.
        """
        return check(model, data, recipe)

    def epochs(
        self,
        model: nn.Module,
        data: Data,
        recipe: Recipe,
        run: Run | None = None,
        *,
        resume: str | Path | None = None,
        after: str | Path | None = None,
        max_time: float | str | None = None,
        allow: Sequence[str] = (),
    ) -> Iterator[Epoch]:
        """The training as a generator of its epochs: a `for` loop over it decides when to stop.

        ::

            run = Run.new("runs", "mine")
            for epoch in trainer.epochs(model, data, recipe, run):
                if epoch.val_accuracy > 0.9:
                    break

        Breaking out is an ordinary end: the weights that the recipe keeps are put into the model, evaluated
        and saved, as at the end of `fit`, whose options these are. Mistakes are refused here, before the
        first epoch is asked for.
        """
        session = Session(resume, after, max_time, allow)
        return self._epochs(begin(model, data, recipe, run, engine=self.engine, session=session))

    def _epochs(self, begun: Begun) -> Iterator[Epoch]:
        with begun.claims:
            if begun.held is None and begun.run.folder is not None:
                begun.claims.enter_context(owned(begun.run.folder))
            yield from self._claimed(begun)

    def _claimed(self, begun: Begun) -> Iterator[Epoch]:
        """The epochs of a training whose folder is this process's alone."""
        recipe, run = begun.recipe, begun.run
        watch, stop = Watch(self.show), Stop(begun.limit)
        training = self._set_up(begun, watch)
        saver = Saver(run.folder, stop, step=training.step, saved=begun.held is not None)
        training.pace = Pace(pause=lambda: saver.between(training), say=watch.say)
        with watch, stop.listening():
            for note in begun.notes:
                watch.say(f"note: {note}")
            if begun.held is not None:
                watch.say(f"going on in {run.folder} {place(training)}")
            saved = clock = time.perf_counter()
            try:
                for epoch in loop(training, saver):
                    run.add(epoch)
                    phase = recipe.phases[epoch.phase - 1]
                    for note in guard.after_epoch(run.history, phase, keep=recipe.keep):
                        watch.say(f"note: {note}")
                    if run.folder is not None and time.perf_counter() - saved > SAVE_EVERY:
                        _save(training, run)
                        saved = time.perf_counter()
                    yield epoch
            except GeneratorExit:
                # A `break` in the user's loop: an ordinary end, which no checkpoint can repeat.
                training.pace.pause = lambda: None
                self._end(training, run, clock, None)
                raise
            except Stopped as stopped:
                self._end(training, run, clock, stopped)
                _leave(stopped)
                return
            except BaseException as error:
                self._end(training, run, clock, error)
                raise
            try:
                self._end(training, run, clock, None)
            except Stopped as stopped:
                self._end(training, run, clock, stopped)
                _leave(stopped)

    def _set_up(self, begun: Begun, watch: Watch) -> Training:
        """Move everything to its place and write the record of what is about to run."""
        model, run = begun.model, begun.run
        settle(model, begun.data.train, self.engine)
        data = _moved(begun.data, self.device)
        training = Training(model, data, begun.recipe, self.engine, watch, data.train, run.folder)
        training.contract = begun.contract
        if begun.held is not None:
            restore(training, begun.held)
            adapt(training, begun.changed)
        elif begun.earlier is not None:
            training.earlier = tuple(begun.earlier.history)
            training.session = 1 + max((epoch.session for epoch in training.earlier), default=1)
        run.model = model
        run.rewind([*training.earlier, *training.history])
        open_record(run, training, begun)
        return training

    def evaluate(
        self,
        model: nn.Module,
        split: Split,
        *,
        classes: Sequence[str] = (),
        resolution: int | None = None,
        test: Test | None = None,
        batch_size: int = 256,
    ) -> Evaluation:
        """Accuracy, top-5, loss, per-class recall and confusion matrix of `model` over `split`.

        The classes and the resolution (pixels) are those of the model's card where it was trained or loaded
        by budgetnet; otherwise give them. `test` overrides the way of testing: Test(resize=232, crop=224).
        The model is left in the mode it was in.
        """
        known = card(model) or Card()
        names = tuple(classes) or known.classes
        if not names:
            highest = int(split.labels.max()) if len(split) else 0
            names = tuple(str(k) for k in range(highest + 1))
        if not len(split):
            raise ValueError("evaluate's split should hold images, and is empty")
        asked = test or Test()
        if resolution is None and test is None and known.crop is not None:
            asked = Test(known.resize, known.crop)
        size = resolution or asked.crop or asked.resize or min(split.images.shape[-2:])
        model.to(self.device)
        check_logits(model, len(names), size, int(split.images.shape[1]))
        moved = split.to(self.device)
        return evaluate(
            model, moved, names, asked, engine=self.engine, resolution=size, batch_size=batch_size
        )

    def predict(
        self,
        model: nn.Module,
        images: Images,
        *,
        classes: Sequence[str] = (),
        resolution: int | None = None,
        batch_size: int = 256,
    ) -> Prediction:
        """Labels and probabilities for images.

        `images` is a uint8 tensor or array (N, C, H, W) or (C, H, W), floats in [0, 1] of the same shapes, a
        Split, or paths of image files and folders. Images are resized to the card's resolution, or to
        `resolution`. Raises ValueError naming the files that cannot be read.
        """
        known = card(model) or Card()
        given = gather(
            images, channels=known.channels, batch_size=batch_size, resize=resolution or known.resize
        )
        resize = resolution or known.resize or given.size
        crop = resolution or known.crop or resize
        model.to(self.device)
        found = probabilities(model, given.batches, engine=self.engine, resize=resize, crop=crop)
        names = tuple(classes) or known.classes or tuple(str(k) for k in range(found.shape[1]))
        if len(names) != found.shape[1]:
            raise ValueError(
                f"the model tells {found.shape[1]} classes apart, and {len(names)} names were given"
            )
        return Prediction(found.argmax(dim=1), found, names, given.names)

    def _end(self, training: Training, run: Run, begun: float, error: BaseException | None) -> None:
        """Put the kept weights into the model, save them, and close the record."""
        kept = training.kept
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
            result = self._result(training, kept) if error is None else {}
            if run.folder is not None:
                write(training.model, kept.state, card_of(training, phase), run.folder / MODEL)
        spent = time.perf_counter() - begun
        result["seconds"] = round(float(run.record.get("seconds_before", 0.0)) + spent, 3)
        failure = {"error": str(error)} if isinstance(error, Exception) and status == "failed" else {}
        sessions = run.record.get("sessions", [])
        if sessions:
            sessions[-1] |= {"ended": now(), "status": status, "seconds": round(spent, 3)}
        run.note(status=status, result=result, ended=now(), sessions=sessions, **failure)
        if status == "finished" and run.folder is not None:
            checkpoint.remove(run.folder)
        for line in closing(run, result):
            training.watch.say(line)
        if run.folder is not None and "test_accuracy" in result:
            for note in guard.selection(run.folder.parent):
                training.watch.say(f"note: {note}")

    def _result(self, training: Training, kept: Kept) -> dict[str, Any]:
        """The kept weights' final figures, on validation and on test where there are any."""
        result: dict[str, Any] = {"epoch": kept.epoch.number, "phase": kept.epoch.phase}
        data, phase = training.data, training.phase_of(kept)
        plain = Test(phase.test.resize, phase.test.crop)
        ways = {"val": (data.val, phase.test), "test": (data.test, plain)}
        if plain != phase.test:
            ways["val_plain"] = (data.val, plain)
        for way, (split, test) in ways.items():
            if split is None or not len(split):
                continue
            known = kept.validation if way == "val" else None
            found = known or evaluate(
                training.model,
                split,
                data.classes,
                test,
                engine=self.engine,
                resolution=phase.last_resolution,
                batch_size=phase.batch_size or training.recipe.batch_size,
                pace=training.pace,
            )
            result |= {
                f"{way}_accuracy": found.accuracy,
                f"{way}_top5": found.top5,
                f"{way}_loss": found.loss,
            }
            result |= {f"{way}_images": found.images, f"{way}_resolution": found.resolution}
        return result


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device should be 'cuda', 'cuda:1' or 'cpu', not {str(device)!r}") from None
    if chosen.type not in ("cuda", "cpu"):
        raise ValueError(f"device should be 'cuda', 'cuda:1' or 'cpu', not {str(device)!r}")
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (chosen.index or 0) >= count:
            found = f"{count} were found" if count else "none was found"
            raise ValueError(f"device {str(device)!r} needs a CUDA GPU, and {found}; use device='cpu'")
        return torch.device("cuda", chosen.index or 0)
    return chosen


def _moved(data: Data, device: torch.device) -> Data:
    """The data with all their splits on the device, or pinned where they do not fit."""
    places: dict[str, Any] = {name: split.to(device) for name, split in data.splits.items()}
    return replace(data, **places)


def _leave(stopped: Stopped) -> None:
    """Go on as whoever sent the signal expects; in a notebook the run's caller gets it back."""
    interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules
    if stopped.signal_number == signal.SIGTERM:
        raise SystemExit(128 + signal.SIGTERM)
    if stopped.signal_number == signal.SIGINT and not interactive:
        raise KeyboardInterrupt


def _save(training: Training, run: Run) -> None:
    """Write the weights that the run would end with now, without disturbing the training."""
    kept = training.kept
    if kept is None or run.folder is None:
        return
    write(training.model, kept.state, card_of(training, training.phase_of(kept)), run.folder / MODEL)
