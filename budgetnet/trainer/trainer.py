"""Trainer: the face of training: fit, epochs, evaluate, predict."""

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import budgetnet
from budgetnet.budget import built, ledger
from budgetnet.console import Watch, duration, percent
from budgetnet.data import Data, Split
from budgetnet.modelfile import Card, card, described, write
from budgetnet.recipe import Phase, Recipe, Test
from budgetnet.run import MODEL, Epoch, Run
from budgetnet.trainer.images import Images, gather
from budgetnet.trainer.loop import Kept, Training, loop
from budgetnet.trainer.measure import Engine, Evaluation, Prediction, evaluate, probabilities
from budgetnet.trainer.ready import check, check_logits, settle

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

    def fit(self, model: nn.Module, data: Data, recipe: Recipe, *, name: str = "run") -> Run:
        """Train `model` on `data` as `recipe` says, and return the finished Run with the trained model.

        The run is written to a new folder `out/name-N` as it goes: run.json, metrics.jsonl (a line an
        epoch) and model.safetensors. The model is trained in place; afterwards it holds the weights that
        the recipe keeps, in evaluation mode. Mistakes are refused with a ValueError before the first
        step; TrainingFailed is raised if the loss stops being a number. Ctrl-C keeps what there is.
        """
        notes = check(model, data, recipe)
        run = Run.new(self.out, name) if self.out is not None else Run()
        for _ in self._epochs(model, data, recipe, run, notes):
            pass
        return run

    def check(self, model: nn.Module, data: Data, recipe: Recipe) -> list[str]:
        """Everything that `fit` would refuse is refused here, with a ValueError; gives what is worth noting.

        Nothing is trained and the model is left as it is.
        """
        return check(model, data, recipe)

    def epochs(self, model: nn.Module, data: Data, recipe: Recipe, run: Run | None = None) -> Iterator[Epoch]:
        """The training as a generator of its epochs: a `for` loop over it decides when to stop.

        ::

            run = Run.new("runs", "mine")
            for epoch in trainer.epochs(model, data, recipe, run):
                if epoch.val_accuracy > 0.9:
                    break

        Breaking out is an ordinary end: the weights that the recipe keeps are put into the model, evaluated
        and saved, as at the end of `fit`. Mistakes are refused here, before the first epoch is asked for.
        """
        notes = check(model, data, recipe)
        return self._epochs(model, data, recipe, run if run is not None else Run(), notes)

    def _epochs(
        self, model: nn.Module, data: Data, recipe: Recipe, run: Run, notes: Sequence[str]
    ) -> Iterator[Epoch]:
        watch = Watch(self.show)
        settle(model, data.train, self.engine)
        data = _moved(data, self.device)
        training = Training(model, data, recipe, self.engine, watch)
        run.model = model
        _open(run, training, notes)
        with watch:
            for note in notes:
                watch.say(f"note: {note}")
            saved = begun = time.perf_counter()
            try:
                for epoch in loop(training):
                    run.add(epoch)
                    if run.folder is not None and time.perf_counter() - saved > SAVE_EVERY:
                        _save(training, run)
                        saved = time.perf_counter()
                    yield epoch
            except GeneratorExit:
                # A `break` in the user's loop: an ordinary end.
                self._end(training, run, begun, None)
                raise
            except BaseException as error:
                self._end(training, run, begun, error)
                raise
            self._end(training, run, begun, None)

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
        if error is not None and not isinstance(error, Exception):
            status = "stopped"
        result: dict[str, Any] = {}
        if kept is not None:
            training.model.load_state_dict(kept.state)
            training.model.eval()
            training.model.card = _card(training, kept.phase)  # type: ignore[assignment]
            result = self._result(training, kept) if error is None else {}
            result["seconds"] = round(time.perf_counter() - begun, 3)
            if run.folder is not None:
                write(training.model, kept.state, _card(training, kept.phase), run.folder / MODEL)
        run.note(status=status, result=result, ended=_now(), **({"error": str(error)} if error else {}))
        for line in _closing(run, result):
            training.watch.say(line)

    def _result(self, training: Training, kept: Kept) -> dict[str, Any]:
        """The kept weights' final figures, on validation and on test where there are any."""
        result: dict[str, Any] = {"epoch": kept.epoch.number, "phase": kept.epoch.phase}
        data, phase = training.data, kept.phase
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
    val = data.val.to(device) if data.val is not None else None
    test = data.test.to(device) if data.test is not None else None
    return replace(data, train=data.train.to(device), val=val, test=test)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _card(training: Training, phase: Phase) -> Card:
    resize, crop = phase.test.at(phase.last_resolution)
    channels = int(training.data.train.images.shape[1])
    return described(
        training.model, classes=training.data.classes, resize=resize, crop=crop, channels=channels
    )


def _save(training: Training, run: Run) -> None:
    """Write the weights that the run would end with now, without disturbing the training."""
    kept = training.kept
    if kept is None or run.folder is None:
        return
    write(training.model, kept.state, _card(training, kept.phase), run.folder / MODEL)


def _open(run: Run, training: Training, notes: Sequence[str]) -> None:
    """The record of what is about to run."""
    counts = ledger(training.model)
    made = built(training.model)
    data = training.data
    splits = {"train": data.train, "val": data.val, "test": data.test}
    run.note(
        status="running",
        started=_now(),
        recipe=training.recipe.describe(),
        seed=training.recipe.seed,
        data={
            "name": data.name,
            "classes": list(data.classes),
            "images": {name: len(split) for name, split in splits.items() if split is not None},
            "fingerprints": {
                name: split.fingerprint() for name, split in splits.items() if split is not None
            },
        },
        model={"class": type(training.model).__name__, "parameters": counts.params, "bytes": counts.bytes},
        budget=made.budget.describe() if made is not None else None,
        notes=list(notes),
        device=_device_name(training.engine.device),
        precision=str(training.engine.autocast or torch.float32).removeprefix("torch."),
        threads=torch.get_num_threads(),
        versions={
            "budgetnet": budgetnet.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"


def _closing(run: Run, result: dict[str, Any]) -> list[str]:
    """What a run says at its end."""
    lines = []
    for way, title in (("val", "validation"), ("val_plain", "validation, plainly"), ("test", "test")):
        if f"{way}_accuracy" in result:
            images, size = result[f"{way}_images"], result[f"{way}_resolution"]
            lines.append(
                f"{title}: {percent(result[f'{way}_accuracy'])} of {images:,} images at {size} px "
                f"(weights of epoch {result['epoch']})"
            )
    if run.status == "stopped":
        lines.append("stopped by the user")
    where = f"; the run lies in {run.folder}" if run.folder is not None else ""
    if result and (lines or where):
        lines.append(f"{duration(result['seconds'])} in all{where}")
    return lines
