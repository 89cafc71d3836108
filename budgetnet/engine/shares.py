"""Shares: the gradient of a batch of which each process of a team takes a share, as if one had taken it."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from budgetnet.engine.batch import Batch, figures_of, loss_of
from budgetnet.engine.memory import out_of_memory
from budgetnet.engine.pieces import buffers_kept, joined
from budgetnet.engine.speed import BACKWARD, FORWARD
from budgetnet.engine.team import Team, own
from budgetnet.engine.training import Training
from budgetnet.engine.whole import WholeBatch
from budgetnet.randomness import reseed
from budgetnet.recipe import Phase


@dataclass(frozen=True)
class Rows:
    """Where a process's views lie among those of a batch, of which the processes take `sizes` images.

    The batch shows its labelled images, and then some `kinds` of view of its unlabelled ones, of which the
    processes take `others`.
    """

    rank: int
    sizes: Sequence[int]
    others: Sequence[int] = ()
    kinds: int = 0

    @property
    def images(self) -> int:
        """Labelled images, over all processes."""
        return sum(self.sizes)

    @property
    def count(self) -> int:
        """All views, over all processes."""
        return self.images + self.kinds * sum(self.others)

    @property
    def views(self) -> list[int]:
        """How many views there are of each kind, over all processes."""
        return [self.images, *[sum(self.others)] * self.kinds]

    def at(self) -> Tensor:
        """The positions of this process's views, int64."""
        every = torch.arange(self.count)
        labelled, *kinds = torch.split(every, self.views)
        rows = [each[own(self.others, self.rank)] for each in kinds]
        return torch.cat([labelled[own(self.sizes, self.rank)], *rows])


def gradient_of_share(training: Training, phase: Phase, batch: Batch, count: int, seed: int) -> Tensor:
    """Leave the gradient of a batch of `count` images, of which `batch` is a share, in the parameters.

    Each process has the logits of all, and so the loss of the whole batch, whatever loss that is; the
    gradient of its own logits goes back through the model, and the sum over the processes is what one would
    have. What the model draws is drawn from `seed`. Gives the figures of the whole batch, (3,). Where one
    runs out of memory, all raise MemoryError.
    """
    team, model, settled, short = training.team, training.model, set[int](), False
    shares = team.shares(count)
    pieces = _pieces(training, batch, shares)
    twice = len(pieces) > 1
    reseed(training.engine.device, seed)
    moved = Moved(model)
    with buffers_kept(model) if twice else nullcontext():
        passes = []
        for part, rows in pieces:
            logits, whole = _passed(training, part, rows)
            short = short or logits is None
            passes.append((*_gathered(training, part, rows, logits), None if twice else logits, whole))
    every = [seen.requires_grad_() for seen, *_ in passes]
    everyone = Rows(team.rank, shares, [share * batch.ratio for share in shares], pieces[0][1].kinds)
    outline = _outline(everyone, torch.cat([labels for _, labels, *_ in passes]))
    loss, seen, share = loss_of(training, phase, outline, joined(every, [rows.views for _, rows in pieces]))
    training.state.clock.mark(BACKWARD)
    gradients = _by_logits(team, loss, every)
    if twice:
        reseed(training.engine.device, seed)
        moved = Moved(model)
    for (part, rows), (*_, logits, whole), gradient in zip(pieces, passes, gradients, strict=True):
        if twice and not short:
            logits, whole = _passed(training, part, rows)
            training.state.clock.mark(BACKWARD)
        short = not _backward(team, logits, gradient, whole) or short
        settled |= whole.settled
    if team.agreed(int(short)):
        raise MemoryError("the memory of one of the processes does not suffice for its share of a batch")
    assert training.state.optimizer is not None
    learns = (p for group in training.state.optimizer.param_groups for p in group["params"])
    pool(team, learns, moved.since(settled), shares[team.rank] / count)
    return figures_of(loss, seen, outline.labels, share)


def _pieces(training: Training, batch: Batch, shares: Sequence[int]) -> list[tuple[Batch, Rows]]:
    """The parts of a share, and where their views lie among those of the same part of all shares."""
    parts, kinds = min(training.state.parts, *shares), 0 if batch.weak is None else 2
    found = []
    for number, part in enumerate(batch.parts(parts)):
        sizes = [_piece(share, parts, number) for share in shares]
        others = [_piece(share * batch.ratio, parts, number) for share in shares]
        found.append((part, Rows(training.team.rank, sizes, others, kinds)))
    return found


def _passed(training: Training, part: Batch, rows: Rows) -> tuple[Tensor | None, WholeBatch]:
    """The logits of a part of a share, None where memory does not suffice, and within what they were made."""
    whole = WholeBatch(training.team, rows.at().to(part.images.device), rows.count)
    return _logits(training, part, whole), whole


def logits_of_share(training: Training, model: nn.Module, batch: Batch, count: int) -> tuple[Tensor, Tensor]:
    """A model's logits and the labels of a batch of `count` images that only moves its statistics; `batch` is
    a share."""
    team, moved = training.team, Moved(model)
    rows = Rows(team.rank, team.shares(count))
    whole = WholeBatch(team, rows.at().to(batch.images.device), count)
    with whole:
        logits = training.engine.forward(model, batch.images).float()
    pool(team, (), moved.since(whole.settled), len(batch.images) / count)
    return _gathered(training, batch, rows, logits)


def _logits(training: Training, part: Batch, whole: WholeBatch) -> Tensor | None:
    """The logits of a part of a share; None where the memory does not suffice for it."""
    training.state.clock.mark(FORWARD)
    try:
        with whole:
            return training.engine.forward(training.network, part.shown).float()
    except Exception as error:
        # With synchronised norms the others wait within the model for what does not come.
        if not out_of_memory(error) or training.team.synchronised:
            raise
    return None


def _gathered(training: Training, part: Batch, rows: Rows, logits: Tensor | None) -> tuple[Tensor, Tensor]:
    """The logits of the views of all processes, and the labels of their labelled images."""
    classes, labels = len(training.data.classes), part.labels
    flat = labels.reshape(len(labels), -1).float()
    own = torch.zeros(len(part.shown), classes + flat.shape[1], device=labels.device)
    own[: len(labels), classes:] = flat
    if logits is not None:
        own[:, :classes] = logits.detach()
    whole = training.team.gathered(own, rows.at().to(labels.device), rows.count)
    given = whole[: rows.images, classes:].to(labels.dtype).view(rows.images, *labels.shape[1:])
    return whole[:, :classes].clone(), given


def _outline(rows: Rows, labels: Tensor) -> Batch:
    """The batch of all processes, of whose views nothing but their number is asked."""
    views = labels.new_empty(sum(rows.others), 0) if rows.kinds else None
    return Batch(labels, labels, views, views)


def _by_logits(team: Team, loss: Tensor, every: Sequence[Tensor]) -> Sequence[Tensor]:
    """The gradients of the loss by logits; what the loss asks of the weights themselves counts once."""
    if not team.leads:
        return torch.autograd.grad(loss, every)
    loss.backward()  # type: ignore[no-untyped-call]
    return [logits.grad for logits in every if logits.grad is not None]


def _backward(team: Team, logits: Tensor | None, gradient: Tensor, whole: WholeBatch) -> bool:
    """Send the gradient of this process's logits back through the model; whether the memory sufficed."""
    if logits is None:
        return False
    try:
        with whole:
            logits.backward(gradient[whole.rows])  # type: ignore[no-untyped-call]
    except Exception as error:
        if not out_of_memory(error) or team.synchronised:
            raise
        return False
    return True


class Moved:
    """The buffers of a model that a step moves, as running statistics do: some of one process's rows."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = {name: (id(held), held._version) for name, held in model.named_buffers()}

    def since(self, settled: set[int]) -> list[Tensor]:
        """Those of floating-point numbers that were moved, but for these."""
        # A batch norm moves its own without a word to their version.
        norms = [each for each in self._model.modules() if isinstance(each, _BatchNorm) and each.training]
        moved = {id(held) for norm in norms for held in norm.buffers(recurse=False)}
        return [
            held
            for name, held in self._model.named_buffers()
            if held.is_floating_point()
            and id(held) not in settled
            and (id(held) in moved or self._before.get(name) != (id(held), held._version))
        ]


def pool(team: Team, parameters: Iterable[nn.Parameter], buffers: Sequence[Tensor], share: float) -> None:
    """Sum the gradients over all processes, and make buffers the means of theirs, by a `share` of the batch.

    All of it goes as one row of numbers. A parameter without a gradient in any process keeps none.
    """
    learns = list(parameters)
    wide = any(each.dtype in (torch.float64, torch.complex128) for each in learns)
    dtype = torch.float64 if wide else torch.float32
    there = torch.tensor([float(each.grad is not None) for each in learns])
    for each in learns:
        each.grad = torch.zeros_like(each) if each.grad is None else each.grad
    gradients = [_real(each.grad) for each in learns if each.grad is not None]
    with torch.no_grad():
        rows = [each.reshape(-1).to(dtype) for each in gradients]
        means = [each.detach().reshape(-1).to(dtype) * share for each in buffers]
        device = rows[0].device if rows else means[0].device if means else torch.device("cpu")
        whole = team.sum(torch.cat([there.to(device, dtype), *rows, *means]))
        some, *parts = torch.split(whole, [len(learns), *map(len, rows), *map(len, means)])
        for held, part in zip([*gradients, *buffers], parts, strict=True):
            held.detach().copy_(part.view(held.shape))
    if any(number == 0 for number in there.tolist()):
        for each, count in zip(learns, some.tolist(), strict=True):
            each.grad = each.grad if count else None


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _piece(count: int, parts: int, number: int) -> int:
    """How many of `count` are in piece `number`, from 0, of torch's `tensor_split`."""
    return count // parts + (number < count % parts)
