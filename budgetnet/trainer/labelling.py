"""Pseudo-labelling before a phase: the model labels what is unlabelled, and what it is sure of is kept."""

import torch

from budgetnet.data import Split
from budgetnet.data.ahead import reading
from budgetnet.files import reason
from budgetnet.pseudo import Kept, PseudoLabels, join, keep, write_csv
from budgetnet.recipe import Phase
from budgetnet.trainer.measure import answers
from budgetnet.trainer.randomness import TEST, drawn, own_randomness, reseed
from budgetnet.trainer.training import Training

BATCH = 256


def label(training: Training, number: int, phase: Phase, how: PseudoLabels) -> Kept:
    """Label the unlabelled images with the weights at hand, tested as the phase is.

    What is kept is listed in the run's folder, in pseudo-labels-N.csv for phase N.
    """
    pool = training.data.unlabelled
    assert pool is not None
    resize, crop = phase.test.at(phase.last_resolution)
    batches = torch.split(torch.arange(len(pool)), BATCH)
    device = training.engine.device
    with own_randomness(device), reading(pool, batches) as source:
        reseed(device, drawn(training.seed, TEST, training.step))
        labels, found = answers(
            training.measured,
            (source[chosen][0] for chosen in batches),
            engine=training.engine,
            resize=resize,
            crop=crop,
            test=phase.test,
            portions=training.portions,
        )
    kept = keep(found, how.threshold, how.temperature, how.per_class, labels=labels)
    of_all = f"{len(kept):,} of {len(pool):,} unlabelled images"
    sure = f"the model is sure of above {how.threshold:g} (temperature {how.temperature:g})"
    where = ""
    if training.folder is not None:
        path = training.folder / f"pseudo-labels-{number}.csv"
        try:
            write_csv(path, kept, pool, training.data.classes)
            where = f"; they are listed in {path}"
        except OSError as error:
            where = f"; {path}, their list, could not be written: {reason(error)}"
    training.watch.say(f"{of_all} join phase {number} with the labels that {sure}{where}")
    return kept


def joined(training: Training) -> Split:
    """The training images of the phase at hand: the data's own, and those labelled before it."""
    train, pool, labelled = training.data.train, training.data.unlabelled, training.labelled
    if labelled is None or pool is None or not len(labelled):
        return train
    return join(train, pool, labelled)
