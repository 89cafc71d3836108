"""Trains with one library on a folder of photos for so many seconds, as its own pages tell a beginner to.

    python benchmarks/peer.py LIBRARY FOLDER OUT --seconds 600 --seed 0 [--pixels 96] [--core 1]

FOLDER holds train and val, with a folder for each class in each. Writes OUT: one JSON object with parameters,
views, seconds, versions, and what the library's own prediction calls each photo of val. `peers.py` runs this
file in an environment where LIBRARY is installed and scores the answers; nothing but the standard library and
LIBRARY is imported here. All weights begin from scratch, and no network has more than 2M parameters:

- budgetnet: the recipe `photos` with `within=`, as docs/tutorial.md says, in bf16 where that is faster.
- fastai: chapter 14 of its book, which trains from scratch: `aug_transforms` and 128 pixels out of 160,
  `fit_one_cycle` at 3e-3; `vision_learner(..., pretrained=False)` with its xresnet18, narrowed to the limit.
- keras: its example "Image classification from scratch": the small Xception (narrowed to the limit), 180
  pixels, batches of 128, mirrored and turned, Adam at 3e-4.
- ultralytics: `YOLO("yolo11n-cls.yaml").train(data=..., time=...)` and nothing else: 224 pixels, batches of
  16; it keeps the weights that did best on val.
- timm: its train script, which is not in its package, out of the pieces that it consists of, with its
  defaults and the options that its page on the script shows (cosine, warm-up, random erasing, a rate of 0.4
  for 1,024 images); mobilenetv3_small_100 at 224 pixels, batches of 128.

The time begins when imports are done. A part of a twentieth of it goes into steps with a network that is then
thrown away, and their pace says how many epochs there are time for; whoever is not done at the end of the
time is stopped there. budgetnet and ultralytics do so themselves, and keras, at a constant rate, is only
stopped. Answers are given after it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Answers = dict[str, str]


@dataclass
class Clock:
    """So many seconds from now on."""

    seconds: float
    begun: float = field(default_factory=time.perf_counter)

    @property
    def used(self) -> float:
        return time.perf_counter() - self.begun

    @property
    def left(self) -> float:
        return self.seconds - self.used

    def epochs(self, seconds: float) -> int:
        """How many epochs of so many seconds there is time for, one at least."""
        return max(1, int(self.left / seconds))


@dataclass
class Pace:
    """The seconds of a step, from the ends of steps; the first of them sets things up and is not counted."""

    clock: Clock
    ends: list[float] = field(default_factory=list)

    def known(self) -> bool:
        """Note the end of a step; whether enough of them are known: two, and a twentieth of the time."""
        self.ends.append(self.clock.used)
        return len(self.ends) > 2 and self.ends[-1] > self.clock.seconds / 20

    @property
    def step(self) -> float:
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)

    def epoch(self, steps: int, tests: float) -> float:
        """The seconds of an epoch with so many batches to test on, which go forward only."""
        return self.step * (steps + tests / 3)


@dataclass
class Outcome:
    """What a library made of its time."""

    parameters: int
    epochs: int
    views: int
    seconds: float
    pixels: int
    answers: Answers


def photos(folder: Path, part: str) -> list[Path]:
    """The photos of a part, class by class."""
    return sorted(path for path in (folder / part).glob("*/*") if path.is_file())


def named(folder: Path, paths: list[Path], classes: list[str]) -> Answers:
    return {str(path.relative_to(folder)): each for path, each in zip(paths, classes, strict=True)}


def budgetnet(folder: Path, clock: Clock, seed: int, pixels: int | None) -> Outcome:
    from dataclasses import replace

    import budgetnet as bn

    plan = bn.read_plan("photos").changed(f"data.root={str(folder.resolve())!r}")
    data = plan.data()
    plan = plan.changed(f"model.classes={len(data.classes)}").changed(f"recipe.seed={seed}")
    recipe, model = plan.recipe, plan.model()
    if pixels is not None:
        learn = replace(
            recipe.phases[0], resolution=bn.Ramp(pixels // 2, pixels), test=bn.Test(pixels, pixels)
        )
        recipe = replace(recipe, phases=[learn])

    def deadline(event: object) -> None:
        if clock.left < 0:
            raise bn.EndTraining

    def trainer(precision: Any) -> bn.Trainer:
        return bn.Trainer("cpu", precision=precision, out=None, show=False, watch=[deadline])

    def takes(precision: str) -> float:
        return trainer(precision).forecast(model, data, recipe, seconds=clock.seconds / 200).seconds(recipe)

    chosen = trainer(min(("float32", "bf16"), key=takes))
    # Where measuring took most of a short time there is little left to plan for: the deadline ends it.
    run = chosen.fit(model, data, recipe, within=max(clock.left, clock.seconds / 2))
    seconds, paths = clock.used, photos(folder, "val")
    answers = [data.classes[k] for k in chosen.predict(model, paths).labels.tolist()]
    views, size = sum(epoch.images for epoch in run.history), recipe.phases[0].last_resolution
    parameters = sum(each.numel() for each in model.parameters())
    return Outcome(parameters, len(run.history), views, seconds, size, named(folder, paths, answers))


def fastai(folder: Path, clock: Clock, seed: int, pixels: int | None) -> Outcome:
    from functools import partial

    from fastai.vision import all as fa

    fa.set_seed(seed)
    size, batch = pixels or 128, 64
    loaders = fa.ImageDataLoaders.from_folder(
        folder,
        train="train",
        valid="val",
        bs=batch,
        item_tfms=fa.Resize(size * 5 // 4),
        batch_tfms=[
            *fa.aug_transforms(min_scale=0.5, size=size),
            fa.Normalize.from_stats(*fa.imagenet_stats),
        ],
    )

    class Ends(fa.Callback):  # type: ignore[misc]
        """Ends the training when it is told so after a batch."""

        def __init__(self, over: Callable[[], bool]) -> None:
            self.over, self.views = over, 0

        def after_batch(self) -> None:
            if self.training:
                self.views += len(self.y)
                if self.over():
                    raise fa.CancelFitException

    def learner() -> Any:
        network = partial(fa.xresnet18, widen=0.375)
        return fa.vision_learner(loaders, network, pretrained=False, metrics=fa.accuracy)

    pace = Pace(clock)
    with learner().no_bar() as tried, tried.no_logging():
        tried.fit_one_cycle(100, 3e-3, cbs=Ends(pace.known))
    epochs = clock.epochs(pace.epoch(len(loaders.train), len(loaders.valid)))
    ends, learn = Ends(lambda: clock.left < 0), learner()
    with learn.no_bar():
        learn.fit_one_cycle(epochs, 3e-3, cbs=ends)
    seconds, paths = clock.used, photos(folder, "val")
    with learn.no_bar():
        found, _ = learn.get_preds(dl=loaders.test_dl(paths))
    answers = [loaders.vocab[k] for k in found.argmax(1).tolist()]
    parameters = sum(each.numel() for each in learn.model.parameters())
    return Outcome(parameters, epochs, ends.views, seconds, size, named(folder, paths, answers))


def keras(folder: Path, clock: Clock, seed: int, pixels: int | None) -> Outcome:
    import keras as k

    k.utils.set_random_seed(seed)
    size, batch = pixels or 180, 128

    def part(name: str, shuffle: bool) -> Any:
        return k.utils.image_dataset_from_directory(
            folder / name, image_size=(size, size), batch_size=batch, shuffle=shuffle, seed=seed
        )

    train, val = part("train", True), part("val", False)
    classes, paths = train.class_names, [Path(path) for path in val.file_paths]
    turned = [k.layers.RandomFlip("horizontal"), k.layers.RandomRotation(0.1)]

    def augmented(images: Any, labels: Any) -> tuple[Any, Any]:
        for layer in turned:
            images = layer(images, training=True)
        return images, labels

    train = train.map(augmented).prefetch(1)

    class Ends(k.callbacks.Callback):  # type: ignore[misc]
        """Ends the training with the time; counts its steps."""

        steps = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.steps += 1
            self.model.stop_training = clock.left < 0

    ends, model = Ends(), small_xception(k, size, len(classes))
    model.compile(
        optimizer=k.optimizers.Adam(3e-4),
        loss=k.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    # At a constant rate nothing depends on how many epochs there will be.
    model.fit(train, epochs=10**6, validation_data=val, callbacks=[ends], verbose=2)
    seconds = clock.used
    answers = [classes[row] for row in model.predict(val, verbose=0).argmax(1).tolist()]
    images, (epochs, more) = len(photos(folder, "train")), divmod(ends.steps, len(train))
    views = epochs * images + min(more * batch, images)
    return Outcome(model.count_params(), epochs, views, seconds, size, named(folder, paths, answers))


def small_xception(k: Any, size: int, classes: int) -> Any:
    """The network of the example, its widest stages narrowed from 728 and 1,024 channels to 512 and 728."""
    inputs = k.Input((size, size, 3))
    x = k.layers.Rescaling(1.0 / 255)(inputs)
    x = k.layers.Conv2D(128, 3, strides=2, padding="same")(x)
    x = k.layers.Activation("relu")(k.layers.BatchNormalization()(x))
    before = x
    for width in (256, 512, 512):
        for _ in range(2):
            x = k.layers.Activation("relu")(x)
            x = k.layers.SeparableConv2D(width, 3, padding="same")(x)
            x = k.layers.BatchNormalization()(x)
        x = k.layers.MaxPooling2D(3, strides=2, padding="same")(x)
        before = k.layers.Conv2D(width, 1, strides=2, padding="same")(before)
        x = before = k.layers.add([x, before])
    x = k.layers.SeparableConv2D(728, 3, padding="same")(x)
    x = k.layers.Activation("relu")(k.layers.BatchNormalization()(x))
    x = k.layers.Dropout(0.25)(k.layers.GlobalAveragePooling2D()(x))
    return k.Model(inputs, k.layers.Dense(classes)(x))


def ultralytics(folder: Path, clock: Clock, seed: int, pixels: int | None) -> Outcome:
    from ultralytics import YOLO

    model, out = YOLO("yolo11n-cls.yaml"), os.environ["YOLO_CONFIG_DIR"]
    seen: list[int] = []
    model.add_callback("on_train_batch_end", lambda trainer: seen.append(trainer.batch_size))
    size = pixels or 224
    options = {"imgsz": size, "seed": seed, "device": "cpu", "project": out}
    model.train(data=str(folder.resolve()), time=clock.left / 3600, **options)
    seconds, paths = clock.used, photos(folder, "val")
    # It calls folders that are named by numbers of WordNet by their words.
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    answers = [
        classes[each.probs.top1]
        for path in paths
        for each in model.predict(str(path), imgsz=size, verbose=False, device="cpu")
    ]
    parameters = sum(each.numel() for each in model.model.parameters())
    epochs = -(-sum(seen) // len(photos(folder, "train")))
    return Outcome(parameters, epochs, sum(seen), seconds, size, named(folder, paths, answers))


def timm(folder: Path, clock: Clock, seed: int, pixels: int | None) -> Outcome:
    import timm as t
    import torch
    from PIL import Image
    from timm import data as td
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import random_seed

    random_seed(seed)
    batch = 128
    train = td.create_dataset("", str(folder), split="train", is_training=True)
    classes = sorted(train.reader.class_to_idx, key=train.reader.class_to_idx.get)

    def network() -> Any:
        return t.create_model("mobilenetv3_small_100", num_classes=len(classes))

    model = network()
    config = td.resolve_data_config({"input_size": (3, pixels, pixels)} if pixels else {}, model=model)
    views = {key: config[key] for key in ("input_size", "interpolation", "mean", "std")}
    loader = td.create_loader(
        train,
        batch_size=min(batch, len(train)),
        is_training=True,
        re_prob=0.5,
        re_mode="pixel",
        device=torch.device("cpu"),
        use_prefetcher=False,
        **views,
    )
    loss, steps = LabelSmoothingCrossEntropy(0.1), len(loader)

    def learn(model: Any, epochs: int, over: Callable[[], bool]) -> int:
        """Train for so many epochs, or until it is over; gives how many images were seen."""
        optimizer = create_optimizer_v2(model, "sgd", lr=0.4 * batch / 1024, weight_decay=2e-5, momentum=0.9)
        warm = min(5, epochs // 10)
        schedule, _ = create_scheduler_v2(
            optimizer, "cosine", epochs, warmup_epochs=warm, step_on_epochs=False, updates_per_epoch=steps
        )
        seen = updates = 0
        model.train()
        for _ in range(epochs):
            for images, labels in loader:
                optimizer.zero_grad()
                loss(model(images), labels).backward()
                optimizer.step()
                seen, updates = seen + len(labels), updates + 1
                schedule.step_update(updates)
                if over():
                    return seen
        return seen

    pace = Pace(clock)
    learn(network(), 100, pace.known)
    epochs = clock.epochs(pace.epoch(steps, 0))
    seen = learn(model, epochs, lambda: clock.left < 0)
    seconds, paths = clock.used, photos(folder, "val")
    model.eval()
    look, answers = td.create_transform(**config), []
    with torch.inference_mode():
        for path in paths:
            logits = model(look(Image.open(path).convert("RGB"))[None])
            answers.append(classes[int(logits.argmax())])
    parameters = sum(each.numel() for each in model.parameters())
    size = config["input_size"][-1]
    return Outcome(parameters, epochs, seen, seconds, size, named(folder, paths, answers))


LIBRARIES = {each.__name__: each for each in (budgetnet, fastai, keras, ultralytics, timm)}
IMPORTS = {"fastai": "fastai.vision.all"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pixels", type=int, default=None, help="the library's own choice if left out")
    parser.add_argument("--core", type=int, default=None, help="the one core that all of it runs on")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="peer-") as scratch:
        asked.out.write_text(json.dumps(run(asked, scratch), indent=1))


def run(asked: argparse.Namespace, scratch: str) -> dict[str, Any]:
    """The outcome and the versions of the library that is asked for."""
    sys.path.pop(0)  # nothing of this folder is a library
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})
    # ultralytics looks for newer versions of itself, sends away what was run, and writes settings at home.
    os.environ.update(YOLO_OFFLINE="true", YOLO_CONFIG_DIR=scratch)
    if asked.library == "budgetnet":
        os.environ["XDG_CACHE_HOME"] = scratch  # storing the photos is a part of every run's time
    from importlib import import_module
    from importlib.metadata import distributions

    library = import_module(IMPORTS.get(asked.library, asked.library))
    outcome = LIBRARIES[asked.library](asked.folder, Clock(asked.seconds), asked.seed, asked.pixels)
    said = {each.metadata["Name"]: each.version for each in distributions()}
    if asked.library == "budgetnet":
        said["budgetnet"] = library.__version__  # of this checkout, and not of what may be installed
    versions = {each: said[each] for each in (asked.library, "torch", "tensorflow-cpu") if each in said}
    return {**vars(outcome), "versions": versions}


if __name__ == "__main__":
    main()
