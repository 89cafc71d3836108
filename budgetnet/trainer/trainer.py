"""Trainer: the face of training: fit, epochs, evaluate, predict."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from budgetnet.augment import check_within
from budgetnet.budget import DoesNotFit, twin
from budgetnet.console import say
from budgetnet.data import Data, Split
from budgetnet.engine import (
    TRIED,
    Engine,
    Evaluation,
    Forecast,
    Prediction,
    Scoring,
    Speed,
    Training,
    check_logits,
    check_speed,
    choose,
    device_of,
    evaluate,
    forecast,
    join,
)
from budgetnet.files import new_folder
from budgetnet.metrics import Answers, check_metrics
from budgetnet.modelfile import card
from budgetnet.process import launched
from budgetnet.recipe import Recipe, Test
from budgetnet.run import Epoch, Run
from budgetnet.trainer.begin import Session, begin
from budgetnet.trainer.ensemble import mean, models_of, predicted, sizes_of, together
from budgetnet.trainer.images import Images, measured, tested
from budgetnet.trainer.planned import LOOK, MEASURING, Within, long, plan_within
from budgetnet.trainer.session import epochs, set_up
from budgetnet.trainer.together import started_again
from budgetnet.trainer.watch import Audience, Channel, PerRun, Watcher, check_watchers
from budgetnet.values import true_or_false, whole


def _untold(event: object) -> None:
    """The watcher of a process that does not lead."""


class Trainer:
    """Trains, evaluates and applies image classifiers on one device, or on one for each process of torchrun.

    `device` is "cuda", "cuda:1", "mps" or "cpu"; by default CUDA where there is such a GPU, else the CPU.
    `precision` is "bf16" (autocast), "float32", or "auto": bf16 on CUDA, else float32. `speed` is "eager";
    "compile", for training steps through torch.compile; "graphs", for CUDA graphs besides; or "auto":
    compiled on CUDA where the training is long enough for it to pay. A model that cannot be compiled runs
    eagerly, with a note. Runs are written to numbered folders in `out` (None: nowhere). `show=False` prints
    nothing. `watch` are functions that are told of each TrainingStep, Epoch and Note: see `every`,
    `EndTraining`, `TensorBoard`. Where torchrun started several processes, each trains its share of every
    batch on a GPU of its own, and the first one writes, shows and tells; with `sync_batchnorm` batch norms
    see the whole batch there.
    """

    def __init__(
        self,
        device: str | torch.device | None = None,
        *,
        precision: Literal["auto", "bf16", "float32"] = "auto",
        speed: Speed = "auto",
        out: str | Path | None = "runs",
        show: bool = True,
        watch: Sequence[Watcher | PerRun] = (),
        sync_batchnorm: bool = False,
    ) -> None:
        self.device = device_of(device)
        if precision not in ("auto", "bf16", "float32"):
            raise ValueError(f"Trainer's precision should be 'auto', 'bf16' or 'float32', not {precision!r}")
        on_cuda = self.device.type == "cuda"
        half = precision == "bf16" or (precision == "auto" and on_cuda and torch.cuda.is_bf16_supported())
        true_or_false("Trainer's sync_batchnorm", sync_batchnorm)
        self.engine = Engine(
            self.device,
            torch.bfloat16 if half else None,
            torch.channels_last,
            sync_batchnorm,
        )
        check_speed(speed, self.device)
        self.speed = speed
        self.out = out
        self.show = show
        check_watchers(watch)
        self.watch = list(watch)
        # Set where a run is trained beside others.
        self.channel = Channel()
        # Who is told, where nothing is shown, of what must not be missed.
        self.aside: Callable[[str], None] | None = None

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
        within: float | str | None = None,
    ) -> Run:
        """Train `model` on `data` as `recipe` says, and return the Run with the trained model.

        The run is written to a new folder `out/name-N` as it goes: run.json, metrics.jsonl (a line an
        epoch), model.safetensors, and checkpoints until it is finished. The model is trained in place;
        afterwards it holds the weights that the recipe keeps, in evaluation mode. Mistakes are refused with
        a ValueError before the first step; TrainingFailed is raised if the loss stops being a number.

        `within`, in seconds or as "3h", has the whole recipe shortened in proportion (`Recipe.scaled`) so
        that everything from here on ends in that time on this machine: a few steps of each phase, and a
        test, are measured on a copy of the model first. A recipe that is short enough stays as it is. The
        scale is chosen once, and noted in the record; with `resume` give the same `within` and the recipe
        as it was.
        `max_time`, in seconds or as "11h30m", ends the session at a step's end with the status "paused".
        `resume`, the folder of an unfinished run, goes on with exactly that run: same recipe, data and model,
        and the result that it would have had. What has changed is refused, unless `allow` names it, as in
        allow=("recipe.loss",): then it is noted in the record. `after`, the folder of any run with weights,
        a model file, or the name of a model that comes along, starts this recipe from them as a new session,
        with one history over all. Ctrl-C, SIGTERM and the signals of batch systems (SIGHUP, SIGXCPU, SIGUSR1)
        end the run at a step's end too, ready to be resumed: then KeyboardInterrupt is raised, or
        SystemExit(128 + the signal's number); in a notebook the unfinished Run is returned after Ctrl-C. So
        it is for one that comes after the last step, when the run is finished all the same.
        """
        run, session = Run(), Session(resume, after, max_time, allow, within)
        make = None if self.out is None else partial(new_folder, self.out, name)
        if resume is None and self.out is not None and launched() is not None:
            again = join(self.device).led(partial(started_again, self.out, name))
            session = session if again is None else replace(session, resume=again, after=None)
        for _ in self.start(model, data, recipe, run, session, make):
            pass
        return run

    def check(
        self,
        model: nn.Module,
        data: Data,
        recipe: Recipe,
        run: Run | None = None,
        session: Session | None = None,
    ) -> list[str]:
        """Everything that `fit` would refuse is refused here, with a ValueError; gives what is worth noting.

        A step of every phase is tried on a copy of the model, with two images. Nothing is trained and the
        model is left as it is; a run that `session` goes on with is compared as `fit` does it.
        """
        session = session or Session()
        # It would be given the weights that it is to follow.
        model = model if session.after is None else twin(model)
        start = begin(model, data, recipe, run, engine=self.engine, speed=self.speed, session=session)
        start.claims.close()
        return [*start.notes, *start.moved]

    def forecast(self, model: nn.Module, data: Data, recipe: Recipe, *, seconds: float = LOOK) -> Forecast:
        """How long `fit` would take: `.seconds(recipe)`, of this recipe or of the same at another scale.

        Some steps of every phase and a test are measured, for about so many `seconds` or for three steps
        each, on a copy of the model. Nothing is trained, and the model is left as it is. Raises ValueError
        for what `fit` would refuse.
        """
        self.check(model, data, recipe)
        choice = choose(self.speed, self.device, model, recipe, data.train)
        return forecast(model, data, recipe, self.engine, choice, seconds)

    def planned(
        self,
        model: nn.Module,
        data: Data,
        scaled: Callable[[float], Recipe],
        within: float | str,
        *,
        begun: float,
        runs: int = 1,
    ) -> Within:
        """The scale at which so many runs end `within` a time from `begun` on, measured as by `forecast`.

        `scaled` gives the recipe at a scale, and `begun` is a time of the monotonic clock.
        """
        self.check(model, data, scaled(1.0))
        if self.show:
            say(MEASURING)
        engine, speed = self.engine, self.speed
        return plan_within(model, data, scaled, within, begun=begun, engine=engine, speed=speed, runs=runs)

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
        within: float | str | None = None,
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
        return self.start(model, data, recipe, run, Session(resume, after, max_time, allow, within))

    def start(
        self,
        model: nn.Module,
        data: Data,
        recipe: Recipe,
        run: Run | None = None,
        session: Session | None = None,
        make: Callable[[], Path] | None = None,
    ) -> Iterator[Epoch]:
        """The epochs of a run: how each begins, whoever asks for it.

        Mistakes are refused here; `make` then makes the folder of a new run. What is refused after that,
        before anything was written, leaves none either.
        """
        session = session or Session()
        if self.show and session.within is not None and session.resume is None:
            say(MEASURING)
        start = begin(model, data, recipe, run, engine=self.engine, speed=self.speed, session=session)
        if start.held is None and session.within is None and start.team.alone:
            start.notes += long(model, data, start.recipe, self.engine, self.speed)
        leads = start.team.leads
        if make is not None and start.held is None:
            folder = start.team.led(make)
            start.run.folder = folder if leads else None
        aside = self.aside if leads else None
        # Of the others' watchers it counts that there are some.
        users = self.watch if leads else [_untold for _ in self.watch]
        return epochs(start, self.engine, Audience(self.show and leads, users, self.channel, aside))

    def ready(self, model: nn.Module, data: Data, recipe: Recipe) -> Training:
        """A training that is checked and set up as `fit` does it, without a folder: what `steps` takes."""
        start = begin(model, data, recipe, None, engine=self.engine, speed=self.speed, session=Session())
        return set_up(start, self.engine, lambda note: None, alone=self.channel.alone)

    def evaluate(
        self,
        model: nn.Module | Sequence[nn.Module],
        split: Split,
        *,
        classes: Sequence[str] = (),
        resolution: int | Sequence[int] | None = None,
        test: Test | None = None,
        batch_size: int = 256,
        metrics: Sequence[Answers] = (),
    ) -> Evaluation:
        """Accuracy, top-5, loss, per-class recall and confusion matrix of `model` over `split`.

        The classes and the resolution (pixels) are those of the model's card where it was trained or loaded
        by budgetnet, within `epochs` those of the phase, and so are the looks at each image that are
        averaged; otherwise give them. `test` overrides the way of testing: Test(resize=232, crop=224,
        mirror=True); without sizes it keeps the card's. Labels are counted by the names of their classes:
        those that the model does not tell apart are refused with a ValueError, as is a resolution that
        nobody says. `classes` overrides what the model's outputs are called. `metrics` are measured
        besides, as `Recipe.metrics` are. The model is left in the mode it was in. Of several models, or
        resolutions, the mean of the probabilities is measured, as `predict` gives it. Images for which the
        model gives NaN or infinity are counted as `unanswered`.
        """
        whole("evaluate's batch_size", batch_size)
        models, sizes = models_of(model), sizes_of(resolution)
        model, size = models[0], sizes[0]
        known, own = card(model), split
        split, names = measured(split, known, classes)
        scoring = Scoring(names, check_metrics("evaluate", metrics))
        if len(models) > 1 or len(sizes) > 1:
            how = {"engine": self.engine, "classes": classes, "test": test, "batch_size": batch_size}
            found = together(models, own, split.labels, scoring, sizes=sizes, **how)
            return replace(found, mark=own.mark())
        asked, size = tested(known, test, size)
        if asked.augment:
            images, labels = (each.to(self.device) for each in split[:TRIED])
            check_within(asked.augment, images, labels, resolution=asked.at(size)[1], classes=len(names))
        model.to(self.device)
        moved = split.to(self.device)
        try:
            found = evaluate(
                model, moved, scoring, asked, engine=self.engine, resolution=size, batch_size=batch_size
            )
        except DoesNotFit:
            raise
        except Exception:
            # Trying the model on the meta device takes as long as evaluating hundreds of images does: only
            # where something is wrong, for the sentence that says what.
            check_logits(model, len(names), size, int(split.images.shape[1]))
            raise
        return replace(found, mark=own.mark())

    def predict(
        self,
        model: nn.Module | Sequence[nn.Module],
        images: Images,
        *,
        classes: Sequence[str] = (),
        resolution: int | Sequence[int] | None = None,
        test: Test | None = None,
        batch_size: int = 256,
        unreadable: Literal["refuse", "skip"] = "refuse",
    ) -> Prediction:
        """Labels and probabilities for images; of several models, or resolutions, the mean of these.

        `images` is a uint8 tensor or array (N, C, H, W) or (C, H, W), floats in [0, 1] of the same shapes, a
        Split, or paths of image files and folders. Files are read as the model's own data were: at the same
        stored size, the middle or the whole of a photo. Images are resized to the card's resolution, or to
        `resolution`, and looked at as the card says; a tensor or array is taken as it is where there is
        neither. Labels count in the classes of the prediction, whatever a Split calls its own. In folders,
        what is hidden or no photo is left out, as `folder` does; it is named in the `findings`, as are files
        that cannot be read where `unreadable` is "skip". Else they raise ValueError, all of them named at
        once, as does a model that gives NaN or infinity for some. `test` overrides how often each image is
        looked at: Test(mirror=True, shift=1).
        """
        if unreadable not in ("refuse", "skip"):
            raise ValueError(f'unreadable should be "refuse" or "skip", not {unreadable!r}')
        whole("predict's batch_size", batch_size)
        models, sizes = models_of(model), sizes_of(resolution)
        given: object = images
        if isinstance(given, Iterator):
            images = list(given)
        return mean(
            [
                predicted(
                    each,
                    images,
                    engine=self.engine,
                    classes=classes,
                    resolution=size,
                    test=test,
                    batch_size=batch_size,
                    skip=unreadable == "skip",
                )
                for each in models
                for size in sizes
            ]
        )
