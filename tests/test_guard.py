"""The guard: each sentence appears when it is true, with its numbers, and not otherwise."""

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from budgetnet import (
    Cosine,
    Data,
    EarlyStop,
    Epoch,
    Flip,
    Linear,
    MultiStep,
    Phase,
    Plateau,
    Recipe,
    Restarts,
    Run,
    Split,
    Step,
    Test,
    Trainer,
    Warmup,
    digits,
)
from budgetnet.data import Remark
from budgetnet.guard import (
    SEEN,
    after_epoch,
    before,
    chained,
    flattered,
    image_hashes,
    look_alikes,
    read_seen,
    selection,
    trained_on,
    write_seen,
)
from tests.work import calls

CLASSES = ("ant", "bee")


def photos(count: int, seed: int = 0, side: int = 32) -> Tensor:
    """Random pictures, uint8 (count, 3, side, side), like photos: many shades, few and smooth colours."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.zeros(count, 3, side, side)
    for detail, channels in ((2, 3), (4, 1), (8, 1), (16, 1)):
        layer = torch.randn(count, channels, detail, detail, generator=generator) / detail**0.5
        pixels += interpolate(layer, size=side, mode="bilinear", align_corners=False)
    return (128 + 60 * pixels).clamp(0, 255).to(torch.uint8)


def part(images: Tensor) -> Split:
    return Split(images, torch.arange(len(images)) % 2, torch.arange(len(images)))


def parts(train: int = 300, val: int = 200, test: int = 0, **given: Any) -> Data:
    images = photos(train + val + test)
    first, second, third = images.split([train, val, test])
    return Data(
        part(first), part(second) if val else None, part(third) if test else None, CLASSES, "photos", **given
    )


def recipe(*phases: Phase, **given: Any) -> Recipe:
    return Recipe(phases or [Phase(epochs=5, resolution=32, lr=Cosine(0.1))], batch_size=32, **given)


def phase(**given: Any) -> Phase:
    return Phase(**{"epochs": 10, "resolution": 32, "lr": Cosine(0.1), **given})


def as_jpeg(images: Tensor, quality: int) -> Tensor:
    stored = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        stored.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(stored)


def test_a_sound_training_has_nothing_said_about_it() -> None:
    assert before(parts(test=200), recipe(phase(stop=EarlyStop(3)), keep="best")) == []


# What is measured and was trained on.


def test_equal_images_are_told_with_what_follows_from_them() -> None:
    data = parts()
    assert data.val is not None
    train = part(torch.cat([data.train.images, data.val.images[7:10]]))
    (note,) = before(replace(data, train=train), recipe())
    assert note == (
        "3 images occur in both train and val, byte for byte (for one train[300] = val[7]); what is learnt "
        "by heart counts as recognised there"
    )


def test_what_the_data_say_of_themselves_already_is_said_once_and_not_looked_for_again() -> None:
    overlap = Remark("3 images occur in both train and val, byte for byte (...)", "overlap")
    data = parts(notes=(overlap, Remark("something else")))
    assert before(data, recipe()) == [data.notes[0]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: as_jpeg(x, 60), "images look alike"),
        (lambda x: x.flip(-1), "mirrored"),
        (lambda x: as_jpeg(x.flip(-1), 75), "mirrored"),
        (lambda x: (x.float() * 0.8 + 20).byte(), "images look alike"),
        (lambda x: (x.float() + 4 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
         .clamp(0, 255).byte(), "images look alike"),
    ],
)  # fmt: skip
def test_photos_stored_again_or_mirrored_or_lighter_look_alike(
    change: Callable[[Tensor], Tensor], words: str
) -> None:
    data = parts()
    again = change(data.train.images[20:60])
    val = part(torch.cat([photos(160, seed=9), again]))
    (note,) = before(replace(data, val=val), recipe())
    assert note.startswith("40 of the 200 val images look alike to training images, but are not equal")
    assert "for one val[160] and train[20]" in note
    assert words in note
    assert note.endswith("val's accuracy may flatter by up to 20.0 points")


def test_each_look_alike_is_paired_with_its_own_image() -> None:
    data = parts()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:100]
    (found,) = look_alikes(data.train, part(as_jpeg(data.train.images[order], 70)))
    assert [pair.train_at for pair in found.pairs] == order.tolist()
    assert [pair.other_at for pair in found.pairs] == list(range(100))
    assert found.looked == 100


def test_other_photos_do_not_look_alike_and_equal_ones_are_not_counted_again() -> None:
    data = parts(train=2000, val=1000)
    assert data.val is not None
    (other, same) = look_alikes(data.train, data.val, part(data.train.images[:50]))
    assert (len(other.pairs), len(same.pairs)) == (0, 0)


def test_drawn_digits_are_alike_anyway_and_raise_no_alarm() -> None:
    data = digits()
    assert data.val is not None

    def larger(split: Split) -> Split:
        return replace(split, images=interpolate(split.images.float(), size=28, mode="bilinear").byte())

    train, val = larger(data.train), larger(data.val)
    assert look_alikes(train, val)[0].pairs == ()
    copies = part(interpolate(train.images[:100].float() * 0.95, size=28).byte())
    assert len(look_alikes(train, copies)[0].pairs) > 90
    assert look_alikes(data.train, data.val)[0].looked == 0


def test_the_same_bars_above_and_below_do_not_make_the_same_photo() -> None:
    def barred(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        cells = 128 + 15 * (2.0 * torch.randint(2, (30, 3, 24, 24), generator=generator) - 1)
        # Opposite neighbours: detail at 24 x 24 that is next to nothing at 16 x 16.
        cells[..., 1::2] = 256 - cells[..., ::2]
        images = interpolate(cells, scale_factor=4).byte()
        images[..., :18, :], images[..., -18:, :] = 0, 255
        return torch.cat([photos(300, seed, side=96), images[:3]])

    first, other = barred(0), barred(1)
    again = part(as_jpeg(first[-3:], 95))
    (same, different) = look_alikes(part(first), again, part(other))
    assert [pair.train_at for pair in same.pairs] == [300, 301, 302]
    assert different.pairs == ()


def test_flat_images_look_like_nothing() -> None:
    shades = torch.arange(100, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    assert look_alikes(part(shades[:50].contiguous()), part(shades[50:].contiguous()))[0].pairs == ()


def test_too_many_pairs_are_compared_in_part_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    data = parts()
    val = part(as_jpeg(data.train.images[:250], 70))
    monkeypatch.setattr("budgetnet.guard.alike.PAIRS", 2 * 300 * 50)
    (note,) = before(replace(data, val=val), recipe())
    assert note.startswith("50 of the 50 val images that were compared, of 250, look alike")


def test_unlabelled_images_that_are_measured_are_counted() -> None:
    data = parts(test=250)
    assert data.val is not None
    assert data.test is not None
    pool = torch.cat([photos(50, seed=3), data.val.images[4:7], data.test.images[:1], photos(3, seed=3)])
    # One line of pixels in common is not yet the same image.
    pool[5, :, 16] = data.val.images[100, :, 16]
    rest = Split(pool, torch.full((len(pool),), -1), torch.arange(len(pool)))
    notes = before(replace(data, unlabelled=rest), recipe())
    assert notes == [
        "3 val images are among the unlabelled ones too, byte for byte (for one val[4] = unlabelled[50]): "
        "whoever learns from those learns from what val measures by; leave them out",
        "1 test image is among the unlabelled ones too, byte for byte (for one test[0] = unlabelled[53]): "
        "whoever learns from those learns from what test measures by; leave them out",
    ]  # fmt: skip
    # As STL-10's file holds them, column by column.
    columns = pool.transpose(2, 3).contiguous().transpose(2, 3)
    assert columns.stride(-1) > columns.stride(-2)
    assert before(replace(data, unlabelled=replace(rest, images=columns)), recipe()) == notes


def test_a_schedule_is_asked_a_few_times_an_epoch_however_many_there_are() -> None:
    def plateau() -> None:
        notes.extend(before(parts(), recipe(phase(epochs=20_000, lr=Plateau(0.1, patience=5)))))

    notes: list[str] = []
    assert calls(plateau) < 60 * 20_000
    (note,) = notes
    assert "is 0 for the whole of 19939 epochs (62, 63, " in note
    assert calls(lambda: before(parts(), recipe(phase(epochs=20_000, lr=Linear(0.1, 0.01))))) < 60 * 20_000


def test_images_are_compared_many_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (24_000, 3, 32, 32), generator=generator, dtype=torch.uint8)
    train, test = part(images[:20_000]), part(images[20_000:])
    assert calls(lambda: look_alikes(train, test)) < 24_000 / 2
    assert look_alikes(train, test)[0].pairs == ()


# Splits and measuring.


def test_few_images_come_with_their_standard_error() -> None:
    assert before(parts(val=100), recipe()) == [
        "100 validation images tell an accuracy of 50 % to within 5.0 points (one standard error): "
        "differences below 10 points say nothing"
    ]
    (note,) = before(parts(test=64), recipe())
    assert note.startswith("64 test images tell an accuracy of 50 % to within 6.2 points")


def test_a_test_set_without_validation_and_one_that_is_watched_are_told() -> None:
    (note,) = before(parts(val=0, test=200), recipe())
    assert note.startswith("the test images are measured and there are no validation images")
    (note,) = before(parts(test=200), recipe(measure=("val", "test")))
    assert note.startswith("the test images are measured after every epoch")
    assert before(parts(val=0), recipe()) == []
    assert before(parts(), recipe(measure=("val", "test"))) == []


def test_validation_that_is_not_plain_is_told_of_its_phase() -> None:
    odd = phase(test=Test(augment=[Flip()], batch_statistics=True), name="fix")
    first, second = before(parts(), recipe(phase(), odd))
    assert first.startswith("phase 2 (fix) is validated on augmented images (Test.augment)")
    assert second.startswith("phase 2 (fix) is validated with the statistics of each batch")


# Schedules and stops.


@pytest.mark.parametrize(
    "lr",
    [
        Step(0.1, every=30),
        Step(0.1, every=10),
        MultiStep(0.1, (10, 20)),
        Plateau(0.1, patience=10),
        Plateau(0.1, patience=8),
        Restarts(0.1, first=0.5, grow=1, final=0.1),
        lambda t: 0.05,
    ],
)
def test_a_schedule_that_never_moves_is_told(lr: Any) -> None:
    (note,) = before(parts(), recipe(phase(lr=lr)))
    assert note.startswith("the learning rate of phase 1 ")
    assert "never moves" in note or "can never drop" in note


@pytest.mark.parametrize(
    "lr",
    [
        0.1,
        Cosine(0.1),
        Step(0.1, every=9),
        MultiStep(0.1, (9,)),
        Plateau(0.1, patience=7),
        Warmup(0.1, epochs=1),
        Restarts(0.1, first=1, grow=1),
        lambda t: 0.05 + t,
    ],
)
def test_a_schedule_that_moves_even_once_and_a_plain_number_are_not(lr: Any) -> None:
    assert before(parts(), recipe(phase(lr=lr))) == []


@pytest.mark.parametrize("patience", [6, 7, 8])
def test_a_plateau_is_told_exactly_where_a_training_without_progress_would_keep_its_rate(
    patience: int,
) -> None:
    class Still:
        def measure(self, name: str) -> float:
            return 1.0

    schedule = Plateau(0.1, patience=patience)
    moves = len({schedule.of([Still()] * k) for k in range(10)}) > 1
    assert (before(parts(), recipe(phase(lr=schedule))) == []) == moves


def test_epochs_at_a_learning_rate_of_zero_are_counted() -> None:
    seed_000 = Restarts(1e-3, first=10, grow=2, decay=0.6, whole_epochs=True)
    assert before(parts(), recipe(phase(epochs=300, lr=seed_000))) == [
        "the learning rate of phase 1 is 0 for the whole of 4 epochs (11, 32, 73, 154): nothing "
        "is learnt there"
    ]
    assert before(parts(), recipe(phase(epochs=300, lr=replace(seed_000, whole_epochs=False)))) == []
    # One step an epoch: the only step of the first is at the foot of the warm-up.
    few = parts(train=32)
    assert before(few, recipe(phase(lr=Warmup(Cosine(0.1), epochs=2)))) == [
        "the learning rate of phase 1 is 0 for the whole of epoch 1: nothing is learnt there"
    ]
    assert before(parts(), recipe(phase(lr=Warmup(Cosine(0.1), epochs=2)))) == []


def test_a_phase_that_only_calibrates_needs_no_rate() -> None:
    assert before(parts(), recipe(phase(), phase(trains=(), calibrates=["*"], lr=0.0))) == []


def test_early_stopping_that_cannot_come_is_told() -> None:
    (note,) = before(parts(), recipe(phase(stop=EarlyStop(9)), keep="best"))
    assert (
        note
        == "phase 1 can never stop early: a patience of 9 ends it after epoch 10 at the earliest, and it has "
        "10"
    )
    assert before(parts(), recipe(phase(stop=EarlyStop(8)), keep="best")) == []


def test_weights_past_their_best_are_told_where_they_are_kept_or_gone_on_from() -> None:
    stop = phase(stop=EarlyStop(3))
    (note,) = before(parts(), recipe(stop))
    assert note == (
        "the run ends with the weights after 3 epochs without improvement if phase 1 stops early; "
        "keep='best' restores the best"
    )
    (note,) = before(parts(), recipe(stop, phase(), keep="best"))
    assert note.startswith(
        "phase 2 goes on from the weights after 3 epochs without improvement if phase 1 stops"
    )
    assert before(parts(), recipe(stop, phase(start="best"), keep="best")) == []
    assert before(parts(), recipe(phase(), phase())) == []


# After an epoch.


def epochs(*entries: dict[str, Any], **common: Any) -> list[Epoch]:
    plain = {
        "phase": 1, "name": "", "epochs": 10, "steps": 1, "images": 1, "lr": 0.1, "resolution": 8,
        "train_accuracy": 0.5, "train_seconds": 1.0, "val_loss": 1.0, "val_accuracy": 0.5,
    }  # fmt: skip
    return [
        Epoch(**{**plain, "number": k, "epoch": k, "train_loss": 1 / k, **common, **entry})
        for k, entry in enumerate(entries, start=1)
    ]


def test_a_monitored_nan_is_told_once() -> None:
    watched = phase(stop=EarlyStop(3))
    history = epochs({}, {"val_loss": math.nan}, {"val_loss": math.nan}, {}, {"val_loss": math.nan})
    told = [after_epoch(history[:k], watched) for k in range(6)]
    assert told == [
        [],
        [],
        ["val_loss of epoch 2 of phase 1 is not a number (NaN): it counts as no improvement"],
        [],
        [],
        [],
    ]
    assert after_epoch(history[:2], phase()) == [
        told[2][0].replace("it counts as no improvement", "the model gives NaN or infinity")
    ]
    assert after_epoch(epochs({"val_accuracy": math.nan, "val_loss": math.nan}), phase()) == []
    assert after_epoch(history[:2], phase(lr=Plateau(0.1))) == told[2]


def test_the_best_weights_wait_for_the_validation_accuracy() -> None:
    history = epochs({"val_accuracy": math.nan})
    assert after_epoch(history, phase()) == []
    (note,) = after_epoch(history, phase(), best_by="val_accuracy")
    assert note.startswith("val_accuracy of epoch 1 of phase 1 is not a number")


def test_a_loss_that_stands_still_is_told_once() -> None:
    history = epochs({}, *[{"train_loss": 2.302585}] * 5)
    told = [after_epoch(history[:k], phase()) for k in range(1, 7)]
    assert [len(notes) for notes in told] == [0, 0, 0, 1, 0, 0]
    assert told[3][0].startswith(
        "the training loss of phase 1 has been exactly 2.30259 for 3 epochs: nothing is"
    )
    assert told[3][0].endswith("and do these learn?")
    (note,) = after_epoch(epochs(*[{"train_loss": 2.0}] * 3, lr=0.0), phase())
    assert note.endswith("the rate is 0")
    assert after_epoch(epochs(*[{"train_loss": 2.0}] * 3), phase(trains=(), calibrates=["*"])) == []
    nearly = epochs({"train_loss": 2.0}, {"train_loss": 2.0}, {"train_loss": 2.0000001})
    assert after_epoch(nearly, phase()) == []


def test_each_phase_and_each_session_is_judged_alone() -> None:
    same = {"train_loss": 2.0}
    history = epochs(same, same, {**same, "phase": 2}, {**same, "phase": 2})
    assert after_epoch(history, phase()) == []
    history = epochs(same, same, {**same, "session": 2})
    assert after_epoch(history, phase()) == []
    nan = {"val_loss": math.nan}
    assert len(after_epoch(epochs(nan, {**nan, "phase": 2}), phase(stop=EarlyStop(3)))) == 1


# Other runs.


def write_run(folder: Path, name: str, **record: Any) -> None:
    entries = {
        "recipe": {"class": "Recipe", "batch_size": 128, "seed": 0},
        "seed": 0,
        "scale": 1.0,
        "settings": {},
        "data": {"images": {"test": 8000}, "fingerprints": {"test": "abc"}},
        "result": {"test_accuracy": 0.5},
        **record,
    }
    (folder / name).mkdir(parents=True)
    (folder / name / "run.json").write_text(json.dumps(entries))


def test_a_test_set_measured_by_different_runs_is_counted(tmp_path: Path) -> None:
    write_run(tmp_path, "a-1")
    assert selection(tmp_path) == []
    write_run(tmp_path, "a-2", recipe={"class": "Recipe", "batch_size": 128, "seed": 1}, seed=1)
    assert selection(tmp_path) == []
    write_run(tmp_path, "b-1", recipe={"class": "Recipe", "batch_size": 64, "seed": 0}, test_uses=["test"])
    assert selection(tmp_path) == [
        f"the same 8,000 test images have been measured 4 times in {tmp_path}, by 3 runs (a-1, a-2, b-1), in "
        "3 different ways: the best of these figures flatters; choose by validation, and measure test once"
    ]


@pytest.mark.parametrize("settings", [{"width": 8}, ["phases.0.lr.peak=0.1"]])
def test_runs_that_differ_in_their_settings_are_different(tmp_path: Path, settings: Any) -> None:
    write_run(tmp_path, "a-1", settings=type(settings)())
    write_run(tmp_path, "a-2", settings=settings)
    (note,) = selection(tmp_path)
    assert "2 times" in note
    assert "in 2 different ways" in note


def test_runs_that_differ_in_their_seed_alone_repeat_one_another(tmp_path: Path) -> None:
    write_run(tmp_path, "a-1", settings={"seed": 1})
    write_run(tmp_path, "a-2", settings={"seed": 2})
    write_run(tmp_path / "other", "a-1", settings=["seed=1"])
    write_run(tmp_path / "other", "a-2", settings=["seed=2"])
    assert selection(tmp_path) == selection(tmp_path / "other") == []


def test_one_run_evaluated_in_different_ways_chooses_too(tmp_path: Path) -> None:
    write_run(tmp_path, "a-1", result={}, test_uses=["64 px"] * 3)
    assert selection(tmp_path) == []
    write_run(tmp_path, "a-2", result={}, test_uses=["64 px", "96 px"])
    (note,) = selection(tmp_path)
    assert "measured 5 times" in note
    assert "by 2 runs (a-1, a-2), in 2 different ways" in note


def test_runs_that_measured_no_test_or_another_one_and_what_is_no_run_do_not_count(tmp_path: Path) -> None:
    write_run(tmp_path, "a-1")
    write_run(tmp_path, "b-1", scale=0.1, result={"val_accuracy": 0.5})
    write_run(tmp_path, "c-1", scale=0.1, data={"fingerprints": {"test": "def"}})
    write_run(tmp_path, "d-1", scale=0.1, data={})
    for name, text in (("broken", "{"), ("list", "[]"), ("odd", '{"data": 3, "result": []}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    (tmp_path / "file").write_text("")
    assert selection(tmp_path) == []
    assert selection(tmp_path / "nowhere") == []


def test_the_records_that_a_trainer_writes_are_understood(model: torch.nn.Module, tmp_path: Path) -> None:
    images = photos(120, side=12)
    train, val, test = (part(piece) for piece in images.split(40))
    data = Data(train, val, test, ("a", "b", "c"), "x")
    runs = []
    for rate in (0.1, 0.01):
        plan = Recipe([Phase(epochs=1, resolution=12, lr=rate)], batch_size=20)
        runs.append(Trainer("cpu", out=tmp_path, show=False).fit(model, data, plan))
    (note,) = selection(tmp_path)
    assert note.startswith("the same 40 test images have been measured 2 times")
    assert runs[0].folder is not None
    record = Run.read(runs[0].folder).record
    assert chained(data, record) == []
    mixed = Data(part(images[:80]), part(images[80:100]), None, ("a", "b", "c"), "x")
    (note,) = chained(mixed, record)
    assert note.startswith("the validation images are not those of the run that this one goes on from")


# Chained runs.


def record_of(data: Data) -> dict[str, Any]:
    return {"data": {"fingerprints": {name: split.fingerprint() for name, split in data.splits.items()}}}


def test_the_same_validation_images_may_be_used_again() -> None:
    data = parts(test=50)
    assert chained(data, record_of(data)) == []
    assert data.val is not None
    # More to train on, and the former test as validation: neither was trained on.
    assert (
        chained(replace(data, train=part(photos(20, seed=5)), val=data.test, test=data.val), record_of(data))
        == []
    )


def test_images_that_a_model_may_know_are_told_of_and_with_hashes_counted(tmp_path: Path) -> None:
    images = photos(400)
    earlier = Data(part(images[:300]), part(images[300:350]), part(images[350:]), CLASSES, "x")
    record = {**record_of(earlier), "settings": ["data.seed=1", "model.width=4"]}
    val, test = earlier.splits["val"], earlier.splits["test"]
    # Its own, be it under another name, and what nothing is known of.
    assert flattered(val, "val", record) == flattered(test, "val", record) == []
    assert flattered(earlier.train, "train", record) == flattered(val, "val", {}) == []
    assert flattered(val, "train", record) == ["these training images are not those of the run"]
    assert flattered(part(images[290:340]), "val", record) == [
        "these val images are not those of the run: some of them may have been trained on; its own are those "
        "of --set data.seed=1"
    ]
    assert flattered(earlier.train, "val", record) != []
    write_seen(tmp_path, image_hashes(earlier.train))
    assert flattered(part(images[290:340]), "val", record, tmp_path, whose="a") == [
        "these val images are not those of a: 10 of the 50 were trained on, and the figures flatter; its own "
        "are those of --set data.seed=1"
    ]
    # A test set that the run had none of is known by the hashes alone.
    assert flattered(part(images[300:]), "new", record, tmp_path) == [
        "these new images are not those of the run, and none of them was trained on"
    ]
    assert flattered(part(images[300:]), "new", record) == []
    assert flattered(val, "val", {"data": {"fingerprints": {"val": ["edited by hand"]}}}) != []
    (tmp_path / SEEN).write_bytes(b"damaged")
    (note,) = flattered(part(images[290:340]), "val", record, tmp_path)
    assert "some of them may have been trained on" in note


def test_other_validation_images_are_in_doubt_and_with_hashes_counted() -> None:
    images = photos(400)
    earlier = Data(part(images[:300]), part(images[300:]), None, CLASSES, "x")
    later = Data(part(images[100:]), part(images[:100]), None, CLASSES, "x")
    (note,) = chained(later, record_of(earlier))
    assert "the validation images are not those of the run" in note
    assert "held_out=, seed=" in note
    seen = image_hashes(earlier.train)
    assert chained(later, record_of(earlier), seen) == [
        "100 of the 100 validation images were trained on by the run that this one goes on from: val's "
        "figures flatter; hold out the same images there and here"
    ]
    partly = replace(later, val=part(images[299:303]))
    (note,) = chained(partly, {}, seen)
    assert note.startswith("1 of the 4 validation images was trained on")
    assert chained(earlier, {}, seen) == []


def test_a_record_that_says_nothing_leaves_doubt() -> None:
    (note,) = chained(parts(), {})
    assert note.startswith("the validation images cannot be compared with those of the run")
    first, second = chained(parts(test=20), {"data": {}})
    assert second.startswith("the test images cannot be compared")
    assert first != second


def test_hashes_are_of_pixels_alone_each_once_in_rising_order() -> None:
    images = photos(100)
    doubled = part(torch.cat([images, images[:10]]))
    hashes = image_hashes(doubled)
    assert hashes.dtype == torch.int64
    assert len(hashes) == 100
    assert torch.equal(hashes, hashes.sort().values)
    assert torch.equal(image_hashes(part(images.flip(0))), hashes)
    assert torch.equal(image_hashes(part(images[:50]), part(images[40:])), hashes)
    changed = images.clone()
    changed[:3, 0, 0, 0] ^= 1
    assert trained_on(part(changed), hashes) == 97
    assert trained_on(doubled, hashes) == 110


def test_hashes_are_the_same_on_every_machine() -> None:
    ramp = torch.arange(2 * 3 * 4, dtype=torch.uint8).view(2, 1, 3, 4)
    assert image_hashes(part(ramp)).tolist() == [4410774310548534271, 6084949472229052724]


def test_what_a_run_has_seen_is_kept_beside_it_and_added_to(tmp_path: Path) -> None:
    images = photos(100)
    assert read_seen(tmp_path) is None
    path = write_seen(tmp_path, image_hashes(part(images[:60])))
    assert path == tmp_path / SEEN
    write_seen(tmp_path, image_hashes(part(images[50:])))
    seen = read_seen(tmp_path)
    assert seen is not None
    assert torch.equal(seen, image_hashes(part(images)))
    assert [file.name for file in tmp_path.iterdir()] == [SEEN]
    path.write_bytes(b"no hashes")
    with pytest.raises(ValueError, match=r"seen\.safetensors should hold the hashes .* delete it"):
        read_seen(tmp_path)


def test_an_image_is_hashed_in_a_few_calls() -> None:
    split = part(torch.randint(256, (20_000, 3, 32, 32), dtype=torch.uint8))
    assert len(image_hashes(split)) == 20_000
    assert calls(lambda: image_hashes(split)) < 8 * 20_000
