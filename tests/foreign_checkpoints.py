"""Checkpoints with right digests that no training wrote, each given to `fit(resume=)` in this process.

    python tests/foreign_checkpoints.py FIRST COUNT FOLDER      # a line of JSON for each trial

A trial is drawn from its number. What torch would write outside of its memory ends the process.
"""

import copy
import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conftest import coloured
from torch import Tensor, nn

from budgetnet import (
    EMA,
    SGD,
    Adam,
    Budget,
    Data,
    Group,
    Groups,
    Muon,
    Phase,
    PseudoLabels,
    Recipe,
    Trainer,
    models,
)
from budgetnet.data import Split
from budgetnet.files import checkpoint as checkpoints

AT_ONCE = 1e-9


class Sliding(torch.optim.Optimizer):
    """A user's own: a list of gradients, progress in its groups, a count of its own."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.01, "k": 0, "speed": 1.0})
        self.calls = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.calls += 1
        for group in self.param_groups:
            group["k"] += 1
            group["speed"] = 1 / (1 + 0.1 * group["k"])
            for parameter in group["params"]:
                if parameter.grad is not None:
                    held = self.state[parameter].setdefault("gradients", [])
                    held.append(parameter.grad.clone())
                    del held[:-3]
                    rate = group["lr"] * group["speed"] / self.calls**0.1
                    parameter.sub_(torch.stack(held).mean(dim=0), alpha=rate)


def root_mean_square(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(parameters, lr=0.0, momentum=0.9, centered=True)


class Counting(nn.Module):
    """A network with state of its own that no state_dict holds, and that only training asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = models.convnet(classes=3, widths=(2, 4))
        self.register_buffer("seen", torch.zeros(2), persistent=False)
        self.calls, self.recent = 0, [torch.zeros(1)]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        if not self.training:
            return logits
        self.calls += 1
        self.seen += 1
        self.recent = [*self.recent, images.mean().detach().view(1)][-3:]
        return logits + torch.stack(self.recent).mean() * self.seen.sum() / self.calls * logits.detach()


def small() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Budget(params="10k").build(models.convnet, classes=3, widths=(2, 4), dropout=0.1)


def counting() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Counting()


def unlabelled() -> Data:
    data = coloured(48, val=12, side=8)
    pool = coloured(24, val=12, side=8, seed=5).train
    unknown = Split(pool.images, torch.full_like(pool.labels, -1), pool.indices)
    return Data(data.train, data.val, data.test, data.classes, data.name, unknown, data.notes)


DATA = unlabelled()
HELD = [Phase(1, 8, 0.05), Phase(1, 8, 0.05, pseudo=PseudoLabels(threshold=0.3), start="best")]
KINDS: dict[str, tuple[Callable[[], nn.Module], Recipe]] = {
    "fused SGD": (small, Recipe([Phase(2, 8, 0.1)], SGD(), batch_size=24, average=EMA(0.9), keep="averaged")),
    "fused Adam": (small, Recipe(HELD, Adam(weight_decay=1e-4), batch_size=24, keep="best")),
    "groups": (
        small,
        Recipe(
            [Phase(2, 8, 0.05)], Groups([Group(["*.bias", "*.norm*"], Adam())], rest=Muon()), batch_size=24
        ),
    ),
    "torch's": (small, Recipe([Phase(2, 8, 0.01)], root_mean_square, batch_size=24)),
    "a user's own": (counting, Recipe([Phase(2, 8, 0.05)], Sliding, batch_size=24)),
}
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 7, 2**70, 10**300, 0.5, -0.5, 1e300, float("nan"), float("inf")),
    *("", "x", "0", [], {}, [1, 2], ["x"], {"x": 1}, {"tensor": "sums"}, {"tensor": 7}, {"dict": [1]}),
    json.loads("[" * 60 + "]" * 60),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def other_words(state: dict[str, Any], draw: random.Random) -> str:
    """Change one plain value of a state; gives what was done."""
    part = draw.choice([key for key in state if key != "contract"] * 4 + ["contract"])
    path = (part, *draw.choice(places(state[part])))
    owner: Any = state
    for key in path[:-1]:
        owner = owner[key]
    kind = draw.randrange(8)
    if kind == 0:
        del owner[path[-1]]
        return f"without {path}"
    if kind == 1 and isinstance(owner, dict):
        owner[draw.choice(["x", "0", "99", "last"])] = owner[path[-1]]
        return f"more beside {path}"
    if kind == 2 and isinstance(owner[path[-1]], list) and owner[path[-1]]:
        owner[path[-1]] = [*owner[path[-1]], owner[path[-1]][0]]
        return f"one twice in {path}"
    if kind == 3 and isinstance(owner[path[-1]], str) and owner[path[-1]].startswith("{"):
        epoch = json.loads(owner[path[-1]])
        name = draw.choice(list(epoch))
        epoch[name] = draw.choice(VALUES)
        owner[path[-1]] = json.dumps(epoch)
        return f"{name} = {epoch[name]!r:.30} in {path}"
    owner[path[-1]] = copy.deepcopy(draw.choice(VALUES))
    return f"{path} = {owner[path[-1]]!r:.30}"


def other_tensors(tensors: dict[str, Tensor], draw: random.Random) -> str:
    """Change one tensor; gives what was done."""
    names = sorted(tensors)
    favoured = [name for name in names if not name.startswith(("model/", "average/", "weights/"))]
    name = draw.choice(favoured if favoured and draw.random() < 0.7 else names)
    tensor, count = tensors[name], tensors[name].numel()
    kind = draw.randrange(7)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[draw.choice(["x", f"{name}/x", "optimizer/0/x", "optimizer/99/step", "weights/1/x"])] = (
            tensor.clone()
        )
    elif kind in (2, 3):
        shape = draw.choice(
            [(0,), (), (3,), (1, 1), (count + 1,), (count // 2,), (1, count), (max(count, 1) * 300,)]
        )
        tensors[name] = torch.ones(shape).to(tensor.dtype)
    elif kind == 4:
        dtype = draw.choice(
            [torch.int64, torch.float64, torch.bfloat16, torch.bool, torch.complex64, torch.int8]
        )
        tensors[name] = torch.ones(tensor.shape, dtype=dtype)
    elif kind == 5 and tensor.is_floating_point():
        tensors[name] = torch.full_like(tensor, draw.choice([float("nan"), float("inf"), -1.0, 3e38]))
    else:
        tensors[name] = torch.full_like(
            tensor, draw.choice([-1, 0, 2**31 - 1]) if tensor.dtype != torch.bool else 1
        )
    return f"{name} {tuple(tensor.shape)} in way {kind}"


def paused(folder: Path, kind: str, steps: int) -> Path:
    """A run that was paused after so many steps."""
    make, recipe = KINDS[kind]
    trainer = Trainer("cpu", out=folder, show=False)
    run = trainer.fit(make(), DATA, recipe, name=f"{list(KINDS).index(kind)}-after", max_time=AT_ONCE)
    for _ in range(steps - 1):
        run = trainer.fit(make(), DATA, recipe, resume=run.folder, max_time=AT_ONCE)
    assert run.folder is not None
    return run.folder


def tried(run: Path, kind: str) -> tuple[str, str]:
    """How going on ends, "went on" or a kind of exception, and what it says."""
    make, recipe = KINDS[kind]
    try:
        Trainer("cpu", out=None, show=False).fit(make(), DATA, recipe, resume=run)
    except Exception as error:
        return type(error).__name__, str(error)
    return "went on", ""


def main(first: int, count: int, folder: Path) -> None:
    torch.set_num_threads(1)
    runs = {kind: paused(folder, kind, 3) for kind in KINDS}
    copied = folder / "copied"
    for trial in range(first, first + count):
        draw = random.Random(f"foreign {trial}")
        kind = draw.choice(list(KINDS))
        shutil.copytree(runs[kind], copied)
        held, _ = checkpoints.newest(copied)
        assert held is not None
        state, tensors = copy.deepcopy(dict(held.state)), dict(held.tensors)
        done = other_words(state, draw) if draw.random() < 0.4 else other_tensors(tensors, draw)
        print(json.dumps([trial, kind, done, "begun", ""]), flush=True)
        shutil.rmtree(copied / checkpoints.FOLDER)
        checkpoints.save(copied, held.step, tensors, state)
        print(json.dumps([trial, kind, done, *tried(copied, kind)]), flush=True)
        shutil.rmtree(copied)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
