"""Trainer: the loop against a hand-written one, what it promises to leave alone, and what it refuses."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import coloured
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import budgetnet
from budgetnet import (
    EMA,
    SGD,
    Adam,
    Budget,
    Cosine,
    Crop,
    Data,
    DoesNotFit,
    EarlyStop,
    Flip,
    LabelSmoothingLoss,
    Mixup,
    OverBudget,
    Phase,
    Plateau,
    Ramp,
    Recipe,
    Rotate,
    Run,
    Test,
    Trainer,
    TrainingFailed,
    models,
)
from budgetnet.engine.parts import Average
from budgetnet.randomness import drawn, order
from budgetnet.trainer import Channel


def recipe(*phases: Phase, **changes: Any) -> Recipe:
    return Recipe(phases or [phase()], **{"batch_size": 32, **changes})


def phase(**changes: Any) -> Phase:
    return Phase(**{"epochs": 2, "resolution": 12, "lr": 0.05, **changes})


def quiet(**changes: Any) -> Trainer:
    return Trainer("cpu", **{"out": None, "show": False, **changes})


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(
    "changes",
    [{"augment": [Flip()]}, {"resolution": 10}, {"test": Test(resize=14, crop=12)}, {"test": Test(views=2)}],
)
def test_images_are_kept_interleaved_only_where_nothing_acts_on_them(
    changes: dict[str, Any], model: nn.Module, data: Data
) -> None:
    assert set(quiet().ready(model, data, recipe()).execution.interleaved) == {"train", "val"}
    assert not quiet().ready(model, data, recipe(phase(), phase(**changes))).execution.interleaved
    beside = quiet()
    beside.channel = Channel(alone=False)
    assert not beside.ready(model, data, recipe()).execution.interleaved


def test_interleaved_images_change_no_bit(model: nn.Module, data: Data) -> None:
    fresh, found = state(model), []
    for alone in (True, False):
        model.load_state_dict(fresh)
        trainer = quiet()
        trainer.channel = Channel(alone=alone)
        run = trainer.fit(model, data, recipe(measure=("train", "val")))
        figures = [(e.train_loss, e.train_eval_loss, e.val_loss, e.val_accuracy) for e in run.history]
        found.append((state(model), figures))
    assert same(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_an_optimizers_own_zero_grad_is_called(model: nn.Module, data: Data) -> None:
    calls = []

    class Own(torch.optim.SGD):
        def zero_grad(self, set_to_none: bool = True) -> None:
            calls.append(set_to_none)
            super().zero_grad(set_to_none)

    quiet().fit(model, data, recipe(phase(epochs=1), optimizer=lambda parameters: Own(parameters, lr=0.0)))
    # And once more, as a step is tried before the first.
    assert calls == [True] * (len(data.train) // 32 + 1)


def test_three_lines_learn(model: nn.Module, data: Data) -> None:
    run = quiet().fit(model, data, recipe(phase(epochs=4, lr=Cosine(0.1))))
    assert run.result["val_accuracy"] > 0.95
    assert run.status == "finished"
    assert [epoch.number for epoch in run.history] == [1, 2, 3, 4]
    assert not model.training


def test_fit_is_the_plain_loop(model: nn.Module, data: Data) -> None:
    plain = models.convnet(3, widths=(8, 16))
    plain.load_state_dict(model.state_dict())
    rates = [Cosine(0.1)(k / 14) for k in range(14)]
    plain[0].fit(*data.train.mean_std())
    plain = plain.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True, fused=True)
    for epoch in range(2):
        indices = order(240, 1, 3, epoch)
        assert sorted(indices.tolist()) == list(range(240))
        for k in range(7):
            chosen = indices[32 * k : 32 * (k + 1)]
            images = data.train.images[chosen].float() / 255
            optimizer.param_groups[0]["lr"] = rates[7 * epoch + k]
            loss = F.cross_entropy(plain(images), data.train.labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
            optimizer.step()
    quiet().fit(model, data, recipe(phase(lr=Cosine(0.1)), loss=LabelSmoothingLoss(0.1), clip=1.0, seed=3))
    for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def augmented(**changes: Any) -> Recipe:
    steps = [Rotate(20), Crop(scale=(0.5, 1.0)), Flip(), Mixup(0.2)]
    return recipe(phase(augment=steps), average=EMA(0.9), **changes)


def with_dropout() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.convnet(3, widths=(8, 16), dropout=0.3)


def test_the_same_seed_gives_the_same_bits(data: Data) -> None:
    first, second, other = with_dropout(), with_dropout(), with_dropout()
    quiet().fit(first, data, augmented(seed=1))
    torch.manual_seed(123)
    quiet().fit(second, data, augmented(seed=1))
    quiet().fit(other, data, augmented(seed=2))
    assert same(state(first), state(second))
    assert not same(state(first), state(other))


def test_the_users_randomness_is_left_as_found(data: Data) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for _ in quiet().epochs(with_dropout(), data, augmented()):
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


def test_order_visits_every_image_once_a_view_and_depends_on_seed_and_epoch() -> None:
    assert sorted(order(10, 3, 0, 0).tolist()) == sorted(list(range(10)) * 3)
    assert len(order(10, 2.5, 0, 0)) == 25
    assert len(order(10, 0.25, 0, 0)) == 2
    assert order(100, 1, 0, 0).tolist() == order(100, 1, 0, 0).tolist()
    assert order(100, 1, 0, 0).tolist() != order(100, 1, 0, 1).tolist()
    assert order(100, 1, 0, 0).tolist() != order(100, 1, 1, 0).tolist()


def test_no_two_steps_of_a_long_training_share_their_seed() -> None:
    steps = range(300_000)
    assert len({drawn(7, 1, step) for step in steps}) == len(steps)


def test_neighbouring_seeds_and_streams_draw_apart() -> None:
    seeds = {drawn(a, b, c) for a in range(10) for b in range(4) for c in range(1000)}
    assert len(seeds) > 39_900


def test_break_is_early_stopping(model: nn.Module, data: Data, tmp_path: Path) -> None:
    run = Run.new(tmp_path, "mine")
    for epoch in quiet().epochs(model, data, recipe(phase(epochs=50)), run):
        if epoch.number == 2:
            break
    assert run.status == "ended early"
    assert len(run.history) == 2
    assert not model.training
    assert same(state(budgetnet.load(tmp_path / "mine-1")), state(model))


def test_views_are_counted_in_images(model: nn.Module, data: Data) -> None:
    run = quiet().fit(model, data, recipe(phase(views=2.5, epochs=1)))
    assert run.history[0].images == 600 // 32 * 32


def test_parts_that_do_not_learn_stay_to_the_bit(data: Data) -> None:
    model = with_dropout()
    quiet().fit(model, data, recipe())
    before = state(model)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    quiet().fit(model, data, recipe(phase(trains=["head"])))
    after = state(model)
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head"}
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags


def test_a_part_that_is_not_there_is_named(model: nn.Module, data: Data) -> None:
    with pytest.raises(ValueError, match="'classifier', which the model does not have; it has standardise"):
        quiet().fit(model, data, recipe(phase(trains=["classifier"])))


def test_patterns_name_parts(data: Data) -> None:
    model = with_dropout()
    before = state(model)
    quiet().fit(model, data, recipe(phase(trains=["stages.1*", "head"])))
    after = state(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any(name.startswith("stages.0") for name in moved)
    assert any(name.startswith("stages.1") for name in moved)


def test_the_average_is_torchs_averaged_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    mine = Average(model, EMA(0.05))
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.05), use_buffers=True)
    theirs.update_parameters(model)
    for _ in range(4):
        model(torch.randn(8, 3, 5, 5))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        mine.update(model)
        theirs.update_parameters(model)
    for (name, a), b in zip(mine.model.state_dict().items(), theirs.module.state_dict().values()):
        if a.is_floating_point():
            torch.testing.assert_close(a, b, msg=name)
    assert int(mine.model[1].num_batches_tracked) == 4


def test_keep_averaged_ends_with_the_average(model: nn.Module, data: Data) -> None:
    own = with_dropout(), with_dropout()
    results = [
        quiet().fit(m, data, recipe(average=EMA(0.9), keep=keep))
        for m, keep in zip(own, ("last", "averaged"))
    ]
    assert not same(state(own[0]), state(own[1]))
    # What is validated in the epochs is the average, whichever is kept.
    assert results[0].history[-1].val_loss == results[1].history[-1].val_loss
    assert results[1].result["val_loss"] == results[1].history[-1].val_loss
    assert results[0].result["val_loss"] != results[1].result["val_loss"]


def ruin_after(steps: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A step that shows the right labels for a while and then wrong ones."""
    seen = []

    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(0)
        return images, labels if len(seen) <= steps else (labels + 1) % 3

    return step


def test_keep_best_ends_with_the_best_validated(model: nn.Module, data: Data) -> None:
    run = quiet().fit(model, data, recipe(phase(epochs=5, augment=[ruin_after(14)]), keep="best"))
    best = max(run.history, key=lambda e: (e.val_accuracy, -e.val_loss))
    assert best.val_accuracy > run.history[-1].val_accuracy + 0.3
    assert run.result["epoch"] == best.number
    assert run.best == best
    found = quiet().evaluate(model, data.val, test=Test(12, 12))  # type: ignore[arg-type]
    assert found.accuracy == best.val_accuracy


def test_a_phase_can_start_from_the_best_of_the_one_before(data: Data) -> None:
    outcomes = {}
    for start in ("last", "best"):
        model = with_dropout()
        phases = (
            phase(epochs=5, augment=[ruin_after(14)]),
            phase(epochs=1, lr=1e-9, start=start),
        )
        run = quiet().fit(model, data, recipe(*phases))
        outcomes[start] = run.history[-1].val_accuracy
    assert outcomes["best"] > outcomes["last"] + 0.3


def test_early_stop_ends_the_phase_and_not_the_run(model: nn.Module, data: Data) -> None:
    stop = EarlyStop(2, monitor="val_loss")
    phases = (phase(epochs=30, augment=[ruin_after(14)], stop=stop), phase(epochs=1))
    run = quiet().fit(model, data, recipe(*phases))
    assert [e.phase for e in run.history].count(1) < 30
    assert run.history[-1].phase == 2


def test_a_plateau_lowers_the_rate_in_the_run(model: nn.Module, data: Data) -> None:
    lr = Plateau(0.05, factor=0.1, patience=1)
    run = quiet().fit(model, data, recipe(phase(epochs=8, lr=lr, augment=[ruin_after(14)])))
    rates = [epoch.lr for epoch in run.history]
    assert rates[0] == 0.05
    assert rates[-1] < 0.01


def test_a_ramp_trains_at_rising_resolutions(model: nn.Module, data: Data) -> None:
    run = quiet().fit(model, data, recipe(phase(epochs=3, resolution=Ramp(8, 16, multiple=4))))
    assert [epoch.resolution for epoch in run.history] == [8, 12, 16]
    assert run.result["val_resolution"] == 16


def test_a_loss_that_is_no_number_stops_the_run(data: Data, tmp_path: Path, model: nn.Module) -> None:
    class Explode:
        calls = 0

        def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            self.calls += 1
            return images * (math.inf if self.calls > 7 else 1), labels

    with pytest.raises(TrainingFailed, match="the loss became nan in step 1 of epoch 2 of phase 1"):
        quiet(out=tmp_path).fit(model, data, recipe(phase(augment=[Explode()])))
    run = Run.read(tmp_path / "run-1")
    assert run.status == "failed"
    assert len(run.history) == 1
    assert all(t.isfinite().all() for t in state(budgetnet.load(run.folder)).values())  # type: ignore[arg-type]


def test_an_interrupted_run_keeps_its_weights(data: Data, tmp_path: Path, model: nn.Module) -> None:
    def interrupt(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(0)
        if len(calls) > 10:
            raise KeyboardInterrupt
        return images, labels

    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        quiet(out=tmp_path).fit(model, data, recipe(phase(augment=[interrupt])))
    run = Run.read(tmp_path / "run-1")
    assert run.status == "stopped"
    budgetnet.load(tmp_path / "run-1")


def test_the_statistics_are_those_of_the_training_images(model: nn.Module, data: Data) -> None:
    quiet().fit(model, data, recipe())
    pixels = data.train.images.double() / 255
    torch.testing.assert_close(model.standardise.mean.flatten().double(), pixels.mean(dim=(0, 2, 3)))
    found = pixels.transpose(0, 1).flatten(1).std(dim=1, correction=0)
    torch.testing.assert_close(model.standardise.std.flatten().double(), found)


def test_any_module_trains_as_it_stands(data: Data) -> None:
    plain = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    run = quiet().fit(plain, data, recipe(phase(epochs=4), optimizer=Adam()))
    assert run.result["val_accuracy"] > 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": nn.Linear}, "expected an nn.Module"),
        ({"data": None}, "expected a Data"),
        ({"data": recipe(), "recipe": nn.Linear}, "expected a Data"),
        ({"recipe": phase()}, "expected a Recipe"),
        ({"model": models.convnet(5)}, r"one logit for each of the 3 classes.*gives \(B, 5\); build it with"),
        ({"model": models.convnet(3, channels=1)}, "phase 1 does not fit its model"),
        ({"recipe": recipe(phase(), phase(resolution=2))}, "phase 2 does not fit its model"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(
    change: dict[str, Any], words: str, data: Data
) -> None:
    narrow = models.convnet(3, widths=(4, 8, 16, 32))
    with pytest.raises(ValueError, match=words):
        quiet().fit(**{"model": narrow, "data": data, "recipe": recipe(), **change})


def test_what_is_refused_leaves_no_folder_and_is_refused_at_once(data: Data, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="build it with classes=3"):
        quiet(out=tmp_path / "runs").fit(models.convnet(5), data, recipe())
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ValueError, match="build it with classes=3"):
        quiet().epochs(models.convnet(5), data, recipe())


def test_a_loaded_model_can_learn_on(data: Data, tmp_path: Path, model: nn.Module) -> None:
    quiet(out=tmp_path).fit(model, data, recipe())
    loaded = budgetnet.load(tmp_path / "run-1")
    before = state(loaded)
    quiet().fit(loaded, data, recipe())
    assert not same(before, state(loaded))


def test_a_model_that_cannot_learn_is_refused(data: Data) -> None:
    with pytest.raises(ValueError, match="no parameter that can learn"):
        quiet().fit(with_dropout().requires_grad_(False), data, recipe())


def test_an_epoch_shorter_than_a_batch_is_noted(data: Data, model: nn.Module) -> None:
    notes = quiet().check(model, data, recipe(batch_size=500))
    assert notes[1:] == ["an epoch of phase 1 is one step of 240 images, under its batch size 500"]


def test_check_changes_nothing(data: Data) -> None:
    model = with_dropout()
    before = state(model)
    (note,) = quiet().check(model, data, recipe())
    assert note.startswith("60 validation images tell an accuracy of 50 % to within 6.5 points")
    assert same(before, state(model))
    assert model.training


def test_a_program_that_exits_leaves_a_stopped_run(data: Data, tmp_path: Path, model: nn.Module) -> None:
    with pytest.raises(SystemExit):
        for _ in quiet().epochs(
            model, data, recipe(phase(augment=[leave_after(10)])), Run.new(tmp_path, "a")
        ):
            pass
    assert Run.read(tmp_path / "a-1").status == "stopped"


def leave_after(steps: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A step after which the program exits, as when nobody reads its output any more."""
    seen: list[int] = []

    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(0)
        if len(seen) > steps:
            raise SystemExit(1)
        return images, labels

    return step


def test_a_collapsing_map_is_reported_by_its_module(data: Data) -> None:
    narrow = models.convnet(3, widths=(4, 8, 16, 32))
    with pytest.raises(DoesNotFit, match=r"stages\.\d"):
        quiet().fit(narrow, data, recipe(phase(resolution=4)))


def test_what_needs_validation_images_is_refused_without(model: nn.Module) -> None:
    full = coloured()
    bare = Data(full.train, None, None, full.classes, "bare")
    for asked in (
        recipe(phase(stop=EarlyStop(3))),
        recipe(phase(lr=Plateau(0.1))),
        recipe(phase(), phase(start="best")),
        recipe(keep="best"),
    ):
        with pytest.raises(ValueError, match="no validation images"):
            quiet().fit(model, bare, asked)
    run = quiet().fit(model, bare, recipe())
    assert math.isnan(run.history[-1].val_accuracy)
    assert "val_accuracy" not in run.result


def test_a_model_that_outgrew_its_budget_is_refused(data: Data) -> None:
    model = Budget(params="10k").build(models.convnet, classes=3, widths=(8, 16))
    model.head.append(nn.Linear(3, 5000))
    with pytest.raises(OverBudget):
        quiet().fit(model, data, recipe())


def test_a_wrong_device_or_precision_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="'cuda', 'cuda:1', 'mps' or 'cpu', not 'gpu'"):
        Trainer("gpu")
    with pytest.raises(ValueError, match="precision"):
        Trainer(precision="fp16")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="none was found"):
            Trainer("cuda")


def test_bf16_trains_too(data: Data) -> None:
    run = quiet(precision="bf16").fit(with_dropout(), data, recipe(phase(epochs=4)))
    assert run.result["val_accuracy"] > 0.9


def test_parity_validation_sees_views_and_leaves_the_statistics_alone(data: Data) -> None:
    model = with_dropout()
    quiet().fit(model, data, recipe())
    before = state(model)
    test = Test(augment=[Rotate(45)], views=2, batch_statistics=True)
    found = quiet().evaluate(model, data.val, test=test, resolution=12, batch_size=50)  # type: ignore[arg-type]
    assert found.images == 100
    assert same(before, state(model))
    plain = quiet().evaluate(model, data.val, resolution=12)  # type: ignore[arg-type]
    assert found.loss != plain.loss


def test_a_parity_validation_is_reported_beside_the_plain_one(model: nn.Module, data: Data) -> None:
    test = Test(augment=[Rotate(45)], views=3, batch_statistics=True)
    run = quiet().fit(model, data, recipe(phase(test=test)))
    assert run.result["val_images"] == 60 * 3 // 32 * 32
    assert run.result["val_plain_images"] == 60


def test_show_false_prints_nothing(model: nn.Module, data: Data, capfd: pytest.CaptureFixture[str]) -> None:
    quiet().fit(model, data, recipe())
    assert capfd.readouterr() == ("", "")


def test_a_pipe_gets_plain_lines(
    model: nn.Module, data: Data, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Trainer("cpu", out=tmp_path).fit(model, data, recipe(phase(name="learn")))
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert "\r" not in out
    lines = out.splitlines()
    assert lines[0].startswith("note: 60 validation images")
    assert lines[1].startswith("learn 1/2")
    assert "val" in lines[2]
    assert lines[-1].endswith(str(tmp_path / "run-1"))


def test_the_run_is_on_disk(model: nn.Module, data: Data, tmp_path: Path) -> None:
    run = quiet(out=tmp_path).fit(model, data, recipe(), name="mine")
    found = Run.read(tmp_path / "mine-1")
    # As lines: from Python 3.13 on no NaN in it is equal to itself.
    assert [e.line() for e in found.history] == [e.line() for e in run.history]
    assert found.result == run.result
    assert found.record["data"]["images"] == {"train": 240, "val": 60}
    assert found.record["budget"] == {"params": 10_000}
    assert found.record["recipe"]["batch_size"] == 32
    assert found.record["versions"]["torch"] == torch.__version__
    assert quiet(out=tmp_path).fit(model, data, recipe(), name="mine").folder == tmp_path / "mine-2"


def test_a_second_training_goes_on_from_the_first(data: Data) -> None:
    model = with_dropout()
    quiet().fit(model, data, recipe())
    mean = model.standardise.mean.clone()
    quiet().fit(model, coloured(seed=5), recipe(optimizer=SGD()))
    assert torch.equal(model.standardise.mean, mean)
