"""One step: a batch of stored images becomes views, a loss, and an update of the weights."""

import torch
from torch import Tensor, nn

from budgetnet.augment import view
from budgetnet.pseudo import FixMatch, fixmatch_loss
from budgetnet.recipe import Phase
from budgetnet.trainer.randomness import MODEL, UNLABELLED, VIEW, mixed, reseed
from budgetnet.trainer.training import Training


def take(
    training: Training, phase: Phase, optimizer: torch.optim.Optimizer, chosen: Tensor, resolution: int
) -> Tensor:
    """One step on the training images at `chosen`: loss, accuracy and share of pseudo-labels, (3,)."""
    recipe, engine = training.recipe, training.engine
    images, labels = _views(training, phase, chosen, resolution)
    if isinstance(phase.pseudo, FixMatch):
        logits, unlabelled, share = _consistency(training, phase.pseudo, images, resolution)
        loss = recipe.loss(logits, labels) + phase.pseudo.weight * unlabelled
    else:
        logits = engine.forward(training.model, images).float()
        loss = recipe.loss(logits, labels)
        share = loss.new_tensor(-1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    if recipe.clip is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if training.average is not None:
        training.average.update(training.model)
    return _figures(loss, logits, labels, share)


def calibration(training: Training, phase: Phase, chosen: Tensor, resolution: int) -> Tensor:
    """One batch through the model, which moves the statistics that the phase calibrates: (3,) as above."""
    images, labels = _views(training, phase, chosen, resolution)
    with torch.no_grad():
        logits = training.engine.forward(training.model, images).float()
        loss = training.recipe.loss(logits, labels)
        if training.average is not None:
            training.average.update(training.model)
    return _figures(loss, logits, labels, loss.new_tensor(-1.0))


def _views(training: Training, phase: Phase, chosen: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """The views of the stored images at `chosen`; they, and the model's dropout, depend on the step alone."""
    generator = torch.Generator().manual_seed(mixed(training.seed, VIEW, training.step))
    reseed(training.engine.device, mixed(training.seed, MODEL, training.step))
    images, labels = training.train[chosen]
    classes = len(training.data.classes)
    return view(images, labels, phase.augment, resolution=resolution, classes=classes, generator=generator)


def _consistency(
    training: Training, fixmatch: FixMatch, images: Tensor, resolution: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, K) of the labelled views, and FixMatch's loss and share of unlabelled ones.

    Labelled, weak and strong views go through the model as one batch, as the paper's norms see them.
    """
    pool = training.data.unlabelled
    assert pool is not None
    generator = torch.Generator().manual_seed(mixed(training.seed, UNLABELLED, training.step))
    chosen = torch.randint(len(pool), (fixmatch.ratio * len(images),), generator=generator)
    stored, unknown = pool[chosen]
    unknown = torch.zeros_like(unknown)
    weak, strong = (
        view(
            stored,
            unknown,
            steps,
            resolution=resolution,
            classes=len(training.data.classes),
            generator=generator,
        )[0]
        for steps in (fixmatch.weak, fixmatch.strong)
    )
    logits = training.engine.forward(training.model, torch.cat([images, weak, strong])).float()
    known, of_weak, of_strong = torch.split(logits, [len(images), len(weak), len(strong)])
    loss, share = fixmatch_loss(of_weak, of_strong, fixmatch.threshold)
    return known, loss, share


def _figures(loss: Tensor, logits: Tensor, labels: Tensor, share: Tensor) -> Tensor:
    # A teacher's labels stand before the true ones, (B, 2, K).
    given = labels[:, 1] if labels.ndim == 3 else labels
    truth = given if given.ndim == 1 else given.argmax(dim=1)
    accuracy = (logits.detach().argmax(dim=1) == truth).float().mean()
    return torch.stack((loss.detach(), accuracy, share.detach()))
