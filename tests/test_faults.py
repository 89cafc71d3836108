# ruff: noqa: PT012, PT017
"""A disk that fails: told in a sentence, nothing lost that was there, nothing left lying about.

Each trial is a whole training during which one call that it makes on its folder fails, or all from one on.
"""

import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import coloured
from disks import KINDS, Call, Disk, failing, litter
from torch import Tensor, nn
from trials import trials

import budgetnet
from budgetnet import SGD, Budget, Phase, Recipe, Run, Trainer, TrainingFailed, models
from budgetnet.files import checkpoint
from budgetnet.trainer import NotWritten, saver

RECIPE = Recipe([Phase(2, 8, 0.1)], SGD(), batch_size=12)
DATA = coloured(24, val=6, side=8)
FILES = {"model.safetensors", "run.json", "metrics.jsonl", "seen.safetensors"}


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Budget(params="10k").build(models.convnet, classes=3, widths=(2, 4))


def trainer(out: Path) -> Trainer:
    return Trainer("cpu", out=out, show=False)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[k], v) for k, v in expected.items())


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    """The weights that a training without a fault ends with."""
    run = Trainer("cpu", out=None, show=False).fit(network(), DATA, RECIPE)
    assert run.model is not None
    return weights(run.model)


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int | OSError]]:
    """Saves after every step, without pauses; gives what became of each: its step, or the error."""
    for name in ("EVERY", "COST", "WEIGHTS_EVERY", "WEIGHTS_COST"):
        monkeypatch.setattr(saver, name, 0.0)
    monkeypatch.setattr(saver, "PAUSES", (0.0, 0.0))
    real, found = checkpoint.save, []

    def save(run: Path, step: int, *rest: object) -> Path:
        try:
            path = real(run, step, *rest)  # type: ignore[arg-type]
        except OSError as error:
            found.append(error)
            raise
        found.append(step)
        return path

    monkeypatch.setattr(checkpoint, "save", save)
    return found


def calls(work: Callable[[], object], folder: Path) -> list[Call]:
    """The calls of an undisturbed training."""
    disk = Disk(folder)
    with disk.watched():
        work()
    return disk.calls


def chosen(count: int, wanted: int) -> list[tuple[int, str]]:
    """So many different pairs of a call's number and a kind of fault; all of them where they are fewer."""
    every = [(number, kind) for number in range(1, count + 1) for kind in KINDS]
    return sorted(random.Random(0).sample(every, min(len(every), wanted)))


def fails_once(
    tmp_path: Path, expected: dict[str, Tensor], outcomes: list[int | OSError], wanted: int
) -> None:
    count = len(calls(lambda: trainer(tmp_path / "c").fit(network(), DATA, RECIPE), tmp_path / "c"))
    assert count > 150
    refused = finished = told = 0
    for number, kind in chosen(count, wanted):
        out = tmp_path / f"{number}-{kind}"
        outcomes.clear()
        disk = Disk(out, failing(number, KINDS[kind]))
        model = network()
        try:
            with disk.watched():
                run = trainer(out).fit(model, DATA, RECIPE)
        except ValueError as error:
            refused += 1
            assert str(out) in str(error), (number, kind)
            assert os.strerror(KINDS[kind]) in str(error) if kind != "short" else "No space" in str(error)  # type: ignore[arg-type]
            assert outcomes == [], "it was refused before the first step"
            # Nothing is left, not even the folder of the run.
            assert not out.exists() or list(out.iterdir()) == [], (number, kind, disk.calls[number - 1])
            continue
        finished += 1
        where = (number, kind, disk.calls[number - 1])
        assert run.status == "finished", where
        found = Run.read(run.folder)  # type: ignore[arg-type]
        assert found.status == "finished", where
        assert len(found.history) == 2, where
        assert same(weights(budgetnet.load(run.folder)), expected), where  # type: ignore[arg-type]
        assert {path.name for path in run.folder.iterdir()} - {"report.html"} == FILES, where  # type: ignore[union-attr]
        assert litter(out) == [], where
        errors = [each for each in outcomes if isinstance(each, OSError)]
        notes = [note for note in run.record["notes"] if "could not be written" in note]
        assert len(errors) <= 1, where
        for error in errors:
            assert f"a checkpoint could not be written to {run.folder}" in notes[0], where
            assert os.strerror(error.errno) in notes[0], where  # type: ignore[arg-type]
            told += 1
        assert len(notes) <= 1, where
        assert kind != "short" or not notes, where
    if wanted > 100:
        assert min(refused, finished, told) > 5


def test_any_call_fails_once(
    tmp_path: Path, expected: dict[str, Tensor], outcomes: list[int | OSError]
) -> None:
    fails_once(tmp_path, expected, outcomes, trials(8))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_calls_fail_once(
    tmp_path: Path, expected: dict[str, Tensor], outcomes: list[int | OSError]
) -> None:
    fails_once(tmp_path, expected, outcomes, trials(120))


def full(number: int) -> Callable[[Call], OSError | str | None]:
    """From this call on the disk takes nothing more; what is there can be read, renamed and removed."""
    seen = [0]

    def decide(call: Call) -> OSError | str | None:
        seen[0] += 1
        makes = call.name == "mkdir" or (call.name == "open" and call.arguments[1] & os.O_CREAT)
        if seen[0] >= number and (makes or call.name in ("write", "pwrite", "fsync")):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return None

    return decide


def fails_from_then_on(
    tmp_path: Path, expected: dict[str, Tensor], outcomes: list[int | OSError], wanted: int
) -> None:
    count = len(calls(lambda: trainer(tmp_path / "c").fit(network(), DATA, RECIPE), tmp_path / "c"))
    draw = random.Random(1)
    lost = 0
    for number in sorted(draw.sample(range(1, count + 1), min(count, wanted))):
        kind = draw.choice(["full", "EIO", "EROFS"])
        decide = full(number) if kind == "full" else failing(number, KINDS[kind], forever=True)
        out, model = tmp_path / str(number), network()
        outcomes.clear()
        disk = Disk(out, decide)
        where = (number, kind)
        try:
            with disk.watched():
                run = trainer(out).fit(model, DATA, RECIPE)
        except ValueError as error:
            assert str(out) in str(error), where
            assert outcomes == [], where
            continue
        except NotWritten as error:
            run, lost = error.run, lost + 1
            assert isinstance(error, TrainingFailed)
            assert "could not be written" in str(error), where
            assert "budgetnet.save(model" in str(error), where
            assert run.model is model
            assert run.status == "failed"
            assert run.result["val_accuracy"] == run.history[-1].val_accuracy
            assert same(weights(model), expected), where
            notes = [note for note in run.record["notes"] if "a checkpoint could" in note]
            assert len(notes) <= 1, "told once, however often it failed"
            # The newest checkpoint that was saved, or a whole one after it, is there to go on from.
            saved = [each for each in outcomes if isinstance(each, int)]
            held, bad = checkpoint.newest(run.folder)  # type: ignore[arg-type]
            assert bad == [], where
            assert (held.step if held is not None else 0) >= max(saved, default=0), where
            if kind == "full":
                assert litter(out) == [], where
            if held is not None and Run.read(run.folder).status != "finished":  # type: ignore[arg-type]
                # Once the disk works again, the run goes on to the same weights.
                again = trainer(out).fit(network(), DATA, RECIPE, resume=run.folder)
                assert same(weights(again.model), expected), where  # type: ignore[arg-type]
                assert {path.name for path in run.folder.iterdir()} - {"report.html"} == FILES, where  # type: ignore[union-attr]
            continue
        assert run.status == "finished", where
        assert same(weights(budgetnet.load(run.folder)), expected), where  # type: ignore[arg-type]
    if wanted > 20:
        assert lost > wanted // 2


def test_a_disk_fails_from_some_call_on(
    tmp_path: Path, expected: dict[str, Tensor], outcomes: list[int | OSError]
) -> None:
    fails_from_then_on(tmp_path, expected, outcomes, trials(4))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_disk_fails_from_many_calls_on(
    tmp_path: Path, expected: dict[str, Tensor], outcomes: list[int | OSError]
) -> None:
    fails_from_then_on(tmp_path, expected, outcomes, trials(40))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_call_of_a_resumed_run_fails_once(
    tmp_path: Path, expected: dict[str, Tensor], outcomes: list[int | OSError]
) -> None:
    paused = trainer(tmp_path / "paused").fit(network(), DATA, RECIPE, max_time=1e-9).folder
    assert paused is not None

    def copied(name: str) -> Path:
        return Path(shutil.copytree(paused, tmp_path / name / "run-1"))

    first = copied("first")
    count = len(calls(lambda: trainer(first).fit(network(), DATA, RECIPE, resume=first), first))
    refused = 0
    for number, kind in chosen(count, trials(60)):
        folder, model = copied(f"{number}-{kind}"), network()
        disk = Disk(folder, failing(number, KINDS[kind]))
        where = (number, kind)
        try:
            with disk.watched():
                run = trainer(folder.parent).fit(model, DATA, RECIPE, resume=folder)
        except (ValueError, OSError) as error:
            refused += 1
            assert str(folder) in str(error), where
            # What was there is there still, and goes on.
            assert checkpoint.newest(folder)[0] is not None, (where, disk.calls[number - 1])
            run = trainer(folder.parent).fit(network(), DATA, RECIPE, resume=folder)
        where = (*where, disk.calls[number - 1])
        assert run.status == "finished", where
        assert same(weights(budgetnet.load(folder)), expected), where
        assert len(Run.read(folder).history) == 2, where
        assert {path.name for path in folder.iterdir()} - {"report.html"} == FILES, where
    assert refused


def test_a_checkpoint_is_tried_again_and_told_once(
    tmp_path: Path, outcomes: list[int | OSError], capsys: pytest.CaptureFixture[str]
) -> None:
    def decide(call: Call) -> OSError | None:
        here = f"{os.sep}{checkpoint.FOLDER}{os.sep}" in call.path and call.name == "fsync"
        return OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)) if here and len(outcomes) < 2 else None

    with Disk(tmp_path, decide).watched():
        run = Trainer("cpu", out=tmp_path).fit(network(), DATA, RECIPE)
    out = capsys.readouterr().out
    assert out.count("a checkpoint could not be written") == 1
    assert "Disk quota exceeded; the training goes on" in out
    assert out.count("a checkpoint could be written again") == 1
    assert run.status == "finished"
    assert [type(each) for each in outcomes] == [OSError, OSError, int, int]


def test_a_folder_that_is_deleted_loses_nothing_but_the_folder(
    tmp_path: Path, expected: dict[str, Tensor], outcomes: list[int | OSError]
) -> None:
    for replaced in (False, True):
        run, model = Run.new(tmp_path, "gone"), network()
        folder = run.folder
        assert folder is not None
        with pytest.raises(
            NotWritten, match=r"could not be written to .*gone-1.*; the model has the weights"
        ):
            for epoch in trainer(tmp_path).epochs(model, DATA, RECIPE, run):
                if epoch.number == 1:
                    shutil.rmtree(folder)
                    if replaced:
                        folder.write_text("a file now")
        assert same(weights(model), expected)
        assert len(run.history) == 2
        assert run.status == "failed"
        assert folder.is_file() == replaced
        folder.unlink(missing_ok=True)
        budgetnet.save(model, tmp_path / "elsewhere.safetensors")
        assert same(weights(budgetnet.load(tmp_path / "elsewhere.safetensors")), expected)


def test_a_change_of_the_working_directory_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcomes: list[int | OSError]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run.new("runs", "mine")
    for _ in trainer(Path("runs")).epochs(network(), DATA, RECIPE, run):
        os.chdir("/")
    assert str(run.folder) == "runs/mine-1"
    assert {path.name for path in (tmp_path / "runs/mine-1").iterdir()} - {"report.html"} == FILES


def test_a_pause_that_cannot_be_saved_is_a_failure(tmp_path: Path, outcomes: list[int | OSError]) -> None:
    def decide(call: Call) -> OSError | None:
        return OSError(errno.ENOSPC, "No space") if "/tensors" in call.path and call.name == "write" else None

    with (
        Disk(tmp_path, decide).watched(),
        pytest.raises(NotWritten, match=r"step 1 is not saved in .*, so that the run cannot be paused"),
    ):
        trainer(tmp_path).fit(network(), DATA, RECIPE, max_time=1e-9)
    assert Run.read(tmp_path / "run-1").status == "failed"


SMALL = """
import resource, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from test_faults import DATA, RECIPE, network, trainer
from pathlib import Path
from budgetnet.trainer import NotWritten, saver
saver.EVERY = saver.COST = 0.0
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    print(trainer(Path(sys.argv[1])).fit(network(), DATA, RECIPE).record["notes"][-1])
except (NotWritten, ValueError) as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (1, "ValueError a run's folder"),
        (1000, "ValueError a run's folder cannot be made or written in"),
        (6000, "a checkpoint could not be written to"),
    ],
)
def test_a_limit_on_the_size_of_files(tmp_path: Path, limit: int, words: str) -> None:
    script = SMALL.format(tests=str(Path(__file__).parent))
    found = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "runs"), str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert words in found.stdout
    assert "File too large" in found.stdout
    assert litter(tmp_path) == []
