"""What each image is called by the models of the folds that had not seen it, as a value and as a CSV file."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from budgetnet.data import Data
from budgetnet.files import danger, encoded, line, sheet, write_whole
from budgetnet.modelfile import load
from budgetnet.plan import Plan
from budgetnet.run import Run
from budgetnet.trainer import Trainer

HEAD = ("image", "fold", "label", "predicted")
"""The columns of the file that are no class."""


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Of each image its name, its fold from 0, its label (N,) and the probabilities (N, K) of the classes.

    These are those of the models whose fold had held it out, the mean over the seeds.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    folds: tuple[int, ...]
    labels: Tensor
    probabilities: Tensor

    @property
    def right(self) -> int:
        """How many images are called what they are."""
        return int((self.probabilities.argmax(1) == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """The share of the images that are called what they are."""
        return self.right / len(self.labels)

    def write(self, path: str | Path) -> None:
        """Write a line an image: its name, fold from 1, label, what it is called, and each class's share.

        What a spreadsheet would take for a formula has ./ (an image) or ' (a class) before it. A class that
        is called like another column has its share under p_ and its name.
        """
        try:
            write_whole(Path(path), encoded("".join(map(line, self._rows()))))
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror}; choose another path") from None

    @property
    def notes(self) -> list[str]:
        """What the file changes of the names, in a sentence each."""
        return danger([(name,) for name in (*self.names, *self.classes)], kept=False)

    def _rows(self) -> Iterator[Sequence[str]]:
        classes = list(map(sheet, self.classes))
        yield *HEAD, *_apart(classes)
        called = self.probabilities.argmax(1).tolist()
        rows = zip(
            self.names, self.folds, self.labels.tolist(), called, self.probabilities.tolist(), strict=True
        )
        for name, fold, label, guess, shares in rows:
            each = (f"{share:.6f}" for share in shares)
            yield sheet(name, path=True), str(fold + 1), classes[label], classes[guess], *each


def out_of_fold(trainer: Trainer, plan: Plan, runs: Sequence[Run], data: Data | None = None) -> OutOfFold:
    """What the finished `runs` of a plan's folds, as `seeds(folds=)` gives them, call what they held out.

    `data` are the plan's, where they are loaded. Raises ValueError where there are no such runs, or where
    some are of other folds than those of these data: their models may know the images.

        runs = seeds(Trainer(), plan, 1, folds=5)
        print(out_of_fold(Trainer(), plan, runs).accuracy)
    """
    finished = [run for run in runs if run.status == "finished" and run.record.get("fold")]
    if not finished:
        raise ValueError(
            "out_of_fold takes finished runs of folds, and there are none: seeds(folds=) trains some"
        )
    whole = plan.data() if data is None else data
    count = int(finished[0].record["fold"]["of"])
    folds = whole.folds(count)
    mark = folds_mark(folds)
    for run in finished:
        other = run.record["fold"]
        if (other["of"], other.get("whole")) != (count, mark):
            raise ValueError(
                f"out_of_fold takes runs of one set of folds, and {run.folder or 'one'} is of others "
                f"than the {count} of these data: give the runs of one seeds(folds=), and the data they had"
            )
    names: list[str] = []
    at: list[int] = []
    labels, probabilities = [], []
    for number, fold in enumerate(folds):
        own = [run for run in finished if run.record["fold"]["at"] == number]
        if not own or fold.val is None:
            continue
        # Nobody should have to keep all models in memory.
        answers = [trainer.predict(_model(run, plan), fold.val).probabilities.cpu() for run in own]
        probabilities.append(torch.stack(answers).mean(0))
        labels.append(fold.val.labels.cpu())
        names += fold.val.names or map(str, fold.val.indices.tolist())
        at += [number] * len(fold.val)
    return OutOfFold(whole.classes, tuple(names), tuple(at), torch.cat(labels), torch.cat(probabilities))


def _apart(classes: Sequence[str]) -> list[str]:
    """The titles of the classes' columns: their names, with p_ before those that are titles already."""
    titles: list[str] = []
    for name in classes:
        title = name
        while title in (*HEAD, *titles) or (title != name and title in classes):
            title = f"p_{title}"
        titles.append(title)
    return titles


def folds_mark(folds: Sequence[Data]) -> str:
    """A digest (hex) of which images, in which order, these folds hold out."""
    vals = [fold.val.fingerprint() for fold in folds if fold.val is not None]
    return hashlib.sha256("".join(vals).encode()).hexdigest()


def _model(run: Run, plan: Plan) -> torch.nn.Module:
    """A run's model, from its folder where it was trained elsewhere."""
    if run.model is not None:
        return run.model
    if run.folder is None:
        raise ValueError("a run of a fold should have its model or its folder: train it with Trainer(out=)")
    return load(run.folder)
