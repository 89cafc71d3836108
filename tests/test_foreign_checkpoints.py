"""Checkpoints that no training of the run wrote, digests made anew: one sentence, and no memory touched."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_checkpoints import DATA, KINDS, paused
from torch import Tensor
from trials import trials

from budgetnet import Trainer
from budgetnet.files import BadCheckpoint
from budgetnet.files import checkpoint as checkpoints

FITTING = {"went on", "ValueError", "BadCheckpoint", "NotFinite"}
"""How a trial may end: numbers that are a training's own may be taken, and come to what is not finite."""


def strangers(first: int, count: int, folder: Path) -> None:
    """Try so many checkpoints in a process of its own, which a write outside of its memory would end."""
    script = Path(__file__).with_name("foreign_checkpoints.py")
    command = [sys.executable, str(script), str(first), str(count), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (done.returncode, lines[-1:], done.stderr[-2000:])
    ends = [line for line in lines if line[3] != "begun"]
    assert len(ends) == count
    for trial, kind, change, how, words in ends:
        assert how in FITTING, (trial, kind, change, how, words)
        assert "\n" not in words, (trial, kind, change, words)
        assert len(words) < 1200, (trial, kind, change, words)
    assert sum(how == "BadCheckpoint" for *_, how, _ in ends) > count // 3


def test_a_checkpoint_from_elsewhere_is_one_sentence(tmp_path: Path) -> None:
    strangers(0, trials(12), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_checkpoints_from_elsewhere_are_one_sentence_each(tmp_path: Path) -> None:
    strangers(1000, trials(400), tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("paused")
    return {kind: paused(folder, kind, 3) for kind in ("fused SGD", "fused Adam", "groups")}


def forged(run: Path, folder: Path, tensors: dict[str, Tensor | None], **state: Any) -> Path:
    """A copy of a run whose checkpoint has other tensors (None: gone) and words, and right digests."""
    held, _ = checkpoints.newest(run)
    assert held is not None
    folder.mkdir()
    (folder / "run.json").write_text((run / "run.json").read_text())
    both = {name: held for name, held in {**held.tensors, **tensors}.items() if held is not None}
    checkpoints.save(folder, held.step, both, {**held.state, **state})
    return folder


@pytest.mark.parametrize(
    ("kind", "name", "tensor", "words"),
    [
        (
            "fused SGD",
            "optimizer/0/momentum_buffer",
            torch.ones(0),
            r"float32 \[2, 3, 3, 3\], not float32 \[0\]",
        ),
        ("fused SGD", "optimizer/0/momentum_buffer", torch.ones(3), r"not float32 \[3\]"),
        ("fused SGD", "optimizer/0/x", torch.ones(3), "momentum_buffer"),
        ("fused SGD", "optimizer/99/momentum_buffer", torch.ones(3), "of the run"),
        ("fused SGD", "average/standardise.mean", torch.ones(1), r"should be float32 \[3, 1, 1\]"),
        ("fused SGD", "sums", torch.ones(4), r"its tensor sums should be float32 \[3\]"),
        ("fused SGD", "elsewhere", torch.ones(1), "those of the run, not elsewhere"),
        ("fused Adam", "optimizer/1/exp_avg_sq", None, "exp_avg"),
        ("fused Adam", "optimizer/0/step", torch.tensor(1e6), "from 0 to 3"),
        ("fused Adam", "optimizer/0/step", torch.tensor(3), r"float32 \[\], not int64 \[\]"),
        ("fused Adam", "weights/1/head.linear.bias", torch.ones(1), r"float32 \[3\]"),
        ("groups", "optimizer/2/momentum_buffer", torch.ones(9), "momentum_buffer"),
        ("groups", "model/standardise.std", torch.full((3, 1, 1), float("nan")), "finite"),
    ],
)
def test_tensors_that_the_run_would_not_hold_are_refused(
    kind: str, name: str, tensor: Tensor | None, words: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    make, recipe = KINDS[kind]
    run = forged(runs[kind], tmp_path / "run-1", {name: tensor})
    with pytest.raises(BadCheckpoint, match=words) as refused:
        Trainer("cpu", out=None, show=False).fit(make(), DATA, recipe, resume=run)
    assert "is not one of this run" in str(refused.value)
    assert str(run / "checkpoints") in str(refused.value)


@pytest.mark.parametrize(
    "state",
    [
        {"contract": 7},
        {"phase": "1"},
        {"step": 4},
        {"done": -1},
        {"spent": float("nan")},
        {"clock": {"timed": 1, "seconds": {"forward": "long"}}},
        {"parts": 0},
        {"undone": [7]},
        {"history": ["{}"]},
        {"history": [7]},
        {"weights": {"last": 9}},
        {"weights": {"first": 1}},
        {"optimizer": {"0": 7}},
        {"optimizer": {"x": {}}},
        {"averaged": 0.5},
        {"labelled": [0.5]},
        {"earlier": json.loads("[" * 60 + "]" * 60)},
        {"hidden": {"model|forward": 1, "model.nowhere|count": 1}},
    ],
)
def test_words_that_no_training_writes_are_refused(
    state: dict[str, Any], runs: dict[str, Path], tmp_path: Path
) -> None:
    make, recipe = KINDS["fused SGD"]
    run = forged(runs["fused SGD"], tmp_path / "run-1", {}, **state)
    with pytest.raises(BadCheckpoint, match="is not one of this run"):
        Trainer("cpu", out=None, show=False).fit(make(), DATA, recipe, resume=run)
