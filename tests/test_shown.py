"""A training's view, a test's view and a prediction's view of an image are one function of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import budgetnet
from budgetnet import Data, FixMatch, Phase, Recipe, Split, Test, Trainer, arrays, augment, folder, layers
from budgetnet.engine import capture, restore, steps
from budgetnet.engine.evaluation import Scoring
from budgetnet.engine.measure import _Tally, answers
from budgetnet.engine.training import Training
from budgetnet.files import Checkpoint
from budgetnet.modelfile import Card, card
from budgetnet.reporting import by_resolution
from budgetnet.trainer.session import _result


def quiet() -> Trainer:
    return Trainer("cpu", out=None, show=False)


class Seen(nn.Module):
    """A network that remembers what it was shown, and takes images of any size."""

    def __init__(self, classes: int, channels: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            layers.standardise(channels=channels), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Linear(4 * channels, classes)
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type == "cpu":
            self.shown.append(images.detach().clone())
        found: Tensor = self.head(self.body(images))
        return found

    def last(self, ask: Callable[[], object]) -> Tensor:
        """What is shown while `ask` is called."""
        self.shown.clear()
        ask()
        return torch.cat(self.shown)


def recipe(resolution: int = 8, **options: object) -> Recipe:
    phase = Phase(epochs=1, resolution=resolution, lr=0.01, **options)  # type: ignore[arg-type]
    return Recipe([phase], batch_size=8)


def stored(count: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, channels))
    return pixels.astype(np.uint8)


def wide(height: int = 16, width: int = 48) -> Data:
    return arrays(stored(24, height, width), np.arange(24) % 3, held_out=6)


@pytest.mark.parametrize("resolution", [16, 9])
def test_images_that_are_not_square_are_trained_and_tested_as_one_view(resolution: int) -> None:
    images, labels = wide().train[:]
    generator = torch.Generator().manual_seed(0)
    views, _ = augment.view(images, labels, [], resolution=resolution, classes=3, generator=generator)
    assert torch.equal(views, augment.test_view(images, resize=resolution, crop=resolution))


@pytest.mark.parametrize("step", [augment.CenterCrop(1.0), augment.Crop((1.0, 1.0)), augment.Rotate(0)])
def test_steps_that_move_pixels_act_on_the_square_that_a_test_sees(step: augment.Step) -> None:
    # A smooth image: one read without antialias and a resize with it are the same there.
    across = torch.linspace(0, 255, 48).round().to(torch.uint8).expand(2, 3, 16, 48).contiguous()
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(2, dtype=torch.long)
    views, _ = augment.view(across, labels, [step], resolution=16, classes=3, generator=generator)
    tested = augment.test_view(across, resize=16, crop=16)
    assert float((views - tested)[..., 1:-1].abs().max()) < 0.02


def test_a_central_square_is_the_central_square_of_the_test() -> None:
    down = torch.linspace(0, 255, 60).round().to(torch.uint8)[None, None, :, None].expand(1, 3, 60, 20)
    generator, labels = torch.Generator().manual_seed(0), torch.zeros(1, dtype=torch.long)
    steps = [augment.CenterCrop(0.5)]
    views, _ = augment.view(down.contiguous(), labels, steps, resolution=10, classes=2, generator=generator)
    tested = augment.test_view(down.contiguous(), resize=20, crop=10)
    assert float((views - tested).abs().max()) < 0.02


def test_predict_on_arrays_and_files_shows_what_validation_shows(tmp_path: Path) -> None:
    data, model, trainer = wide(), Seen(3), quiet()
    assert data.val is not None
    trainer.fit(model, data, recipe(12))
    val = data.val
    expected = model.last(lambda: trainer.evaluate(model, val))
    raw = val.images.permute(0, 2, 3, 1).numpy()  # type: ignore[union-attr]
    paths = [tmp_path / f"{k}.png" for k in range(len(raw))]
    for path, image in zip(paths, raw):
        Image.fromarray(image).save(path)
    for given in (val, raw, paths):
        assert torch.equal(model.last(lambda: trainer.predict(model, given)), expected)  # noqa: B023
    known = card(model)
    assert known is not None
    assert known.stored == (16, 48)


@pytest.mark.parametrize("shape", ["crop", "squash"])
@pytest.mark.parametrize("size", [16, 24])
def test_predict_reads_photos_as_the_folder_did(shape: str, size: int, tmp_path: Path) -> None:
    for k in range(12):
        path = tmp_path / "photos" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stored(1, 40 + k, 90)[0]).save(path)
    data = folder(tmp_path / "photos", size=size, shape=shape, held_out=4, cache=tmp_path)  # type: ignore[arg-type]
    model, trainer = Seen(2), quiet()
    trainer.fit(model, data, recipe(test=Test(resize=12, crop=10)))
    val = data.val
    assert val is not None
    assert val.names is not None
    files = [tmp_path / "photos" / name for name in val.names]
    expected = model.last(lambda: trainer.predict(model, val))
    assert torch.equal(model.last(lambda: trainer.predict(model, files)), expected)
    assert torch.equal(model.last(lambda: trainer.evaluate(model, val)), expected)
    budgetnet.save(model, tmp_path / "model.safetensors")
    loaded = budgetnet.load(tmp_path / "model.safetensors", Seen, 2)
    assert card(loaded) == card(model)
    assert torch.equal(loaded.last(lambda: trainer.predict(loaded, files)), expected)  # type: ignore[operator]


def test_a_card_of_before_is_read_as_it_was(tmp_path: Path) -> None:
    model = Seen(2)
    model.card = Card(classes=("a", "b"), resize=10, crop=8)  # type: ignore[assignment]
    budgetnet.save(model, tmp_path / "model.safetensors")
    loaded = budgetnet.load(tmp_path / "model.safetensors", Seen, 2)
    assert card(loaded) == model.card
    Image.fromarray(stored(1, 30, 60)[0]).save(tmp_path / "a.png")
    middle = Image.fromarray(stored(1, 30, 60)[0]).resize(
        (10, 10), Image.Resampling.BILINEAR, (15, 0, 45, 30)
    )
    seen = model.last(lambda: quiet().predict(model, tmp_path / "a.png"))
    expected = torch.from_numpy(np.asarray(middle)[1:9, 1:9].transpose(2, 0, 1).copy()) / 255
    torch.testing.assert_close(seen[0], expected)
    square = model.last(lambda: quiet().predict(model, stored(1, 30, 60)))
    assert torch.equal(
        square,
        augment.test_view(
            torch.from_numpy(stored(1, 30, 60)[:, :, 15:45].transpose(0, 3, 1, 2).copy()), resize=10, crop=8
        ),
    )


@pytest.mark.parametrize("card", [{"stored": (0, 4)}, {"stored": (4, 5, 6)}, {"shape": "bend"}])
def test_a_card_that_cannot_be_true_is_not_written(card: dict[str, object], tmp_path: Path) -> None:
    model = Seen(2)
    model.card = Card(**card)  # type: ignore[arg-type, assignment]
    with pytest.raises(ValueError, match=r"its (stored|shape) should be"):
        budgetnet.save(model, tmp_path / "model.safetensors")


def test_a_test_without_sizes_is_at_the_cards() -> None:
    data, model, trainer = wide(24, 24), Seen(3), quiet()
    trainer.fit(model, data, recipe(test=Test(resize=12, crop=10)))
    val = data.val
    assert val is not None
    plain = model.last(lambda: trainer.evaluate(model, val))
    assert plain.shape[-1] == 10
    assert trainer.evaluate(model, val, test=Test(mirror=True)).resolution == 10
    assert torch.equal(
        model.last(lambda: trainer.evaluate(model, val, test=Test(mirror=True))),
        model.last(lambda: [trainer.evaluate(model, val, test=Test(12, 10, mirror=True))]),
    )
    assert trainer.evaluate(model, val, test=Test(resize=14)).resolution == 10
    assert trainer.evaluate(model, val, test=Test(resize=9)).resolution == 9
    assert trainer.evaluate(model, val, test=Test(crop=7)).resolution == 7
    assert trainer.evaluate(model, val, resolution=6).resolution == 6


def test_between_two_epochs_a_model_is_shown_what_its_phase_tests() -> None:
    data, model, trainer = wide(24, 24), Seen(3), quiet()
    phases = [Phase(1, 8, 0.01), Phase(1, 12, 0.01, test=Test(resize=14, crop=12))]
    val = data.val
    assert val is not None
    for epoch, size in zip(trainer.epochs(model, data, Recipe(phases, batch_size=8)), (8, 12)):
        found = trainer.evaluate(model, val)
        assert (found.resolution, found.accuracy) == (size, epoch.val_accuracy)
        assert model.last(lambda: trainer.predict(model, val)).shape[-1] == size


def test_the_size_is_asked_for_where_nobody_knows_it() -> None:
    data, model = wide(24, 24), Seen(3)
    assert data.val is not None
    for ask in (quiet().evaluate, quiet().predict):
        with pytest.raises(ValueError, match="give resolution="):
            ask(model, data.val)
        ask(model, data.val, resolution=8)
    assert quiet().evaluate(model, data.val, test=Test(resize=8)).resolution == 8
    # What is no split is shown as it is given.
    assert model.last(lambda: quiet().predict(model, stored(2, 10, 11))).shape[-2:] == (10, 10)


def test_greys_of_any_shape_are_shown_as_validation_shows_them(tmp_path: Path) -> None:
    pixels = stored(24, 10, 25, 1)[..., 0]
    data, model, trainer = arrays(pixels, np.arange(24) % 3, held_out=6), Seen(3, channels=1), quiet()
    # Without a card it is asked of the network itself whether it takes greys.
    assert quiet().predict(Seen(3, channels=1), pixels[:2]).labels.shape == (2,)
    trainer.fit(model, data, recipe(8, augment=[augment.Crop(), augment.Rotate(10)]))
    val = data.val
    assert val is not None
    paths = [tmp_path / f"{k}.png" for k in range(len(val))]
    for path, image in zip(paths, val[:][0][:, 0].numpy()):
        Image.fromarray(image).save(path)
    expected = model.last(lambda: trainer.evaluate(model, val))
    assert torch.equal(model.last(lambda: trainer.predict(model, paths)), expected)


def test_each_resolution_is_measured_with_the_cards_looks() -> None:
    data, model, trainer = wide(24, 24), Seen(3), quiet()
    assert data.val is not None
    trainer.fit(model, data, recipe(test=Test(mirror=True, shift=1)))
    (row,) = by_resolution(trainer, model, data.val, [8]).rows
    assert row.loss == trainer.evaluate(model, data.val).loss


def test_classes_of_equal_logits_are_called_in_order_everywhere() -> None:
    logits = torch.tensor([[1.0, 2, 2, 0, 2, 2, 2, 2], [0.0] * 8])
    tally = _Tally(Scoring(tuple("abcdefgh")), torch.device("cpu"))
    tally.add(logits, torch.tensor([7, 4]))
    found = tally.evaluation(2, 8)
    assert found.top5 == 0.5  # class 7 is behind 1, 2, 4, 5 and 6; class 4 the fifth of eight equals
    assert found.pairs == ((4, 0, 1), (7, 1, 1))


class Rounded(nn.Module):
    """Logits that hardly differ, so that most are equal and all probabilities are."""

    def forward(self, images: Tensor) -> Tensor:
        numbers = (images.flatten(1)[:, :12] * 3).round()
        return numbers * 1e-9


def test_evaluation_prediction_and_pseudo_labels_call_ties_alike() -> None:
    images = torch.from_numpy(stored(200, 4, 4).transpose(0, 3, 1, 2).copy())
    split = Split(images, torch.arange(200) % 12, torch.arange(200))
    model, trainer = Rounded(), quiet()
    said = trainer.predict(model, split, resolution=4).labels
    expected = model(images / 255).argmax(dim=1)
    assert torch.equal(said, expected)
    found = trainer.evaluate(model, split, resolution=4)
    for truth, called, times in found.pairs:
        assert times == int(((split.labels == truth) & (said == called)).sum())
    labels, chances = answers(model, iter([images]), engine=trainer.engine, resize=4, crop=4)
    kept = budgetnet.pseudo.keep(chances, 0.0, labels=labels)
    assert torch.equal(kept.labels, said)


def test_a_network_that_says_no_numbers_is_never_right() -> None:
    tally = _Tally(Scoring(tuple("abcdefghi")), torch.device("cpu"))
    tally.add(torch.full((3, 9), torch.nan), torch.tensor([1, 2, 8]))
    found = tally.evaluation(3, 8)
    assert found.top5 == 0
    assert all(said == 0 for _, said, _ in found.pairs)


@pytest.mark.slow
def test_very_many_classes_are_counted_by_what_there_is() -> None:
    class Many(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.eye(20_000)[: len(images)]

    images = torch.zeros(4, 3, 4, 4, dtype=torch.uint8)
    split = Split(images, torch.tensor([0, 1, 5, 19_999]), torch.arange(4))
    found = quiet().evaluate(Many(), split, resolution=4)
    assert found.accuracy == 0.5
    assert found.pairs == ((0, 0, 1), (1, 1, 1), (5, 2, 1), (19_999, 3, 1))
    assert "confusion" not in found.json()
    small = replace(found, classes=("a", "b"), pairs=((0, 1, 3),))
    assert small.json()["confusion"] == ((0, 3), (0, 0))


def test_an_augmented_validation_is_the_same_after_an_interruption() -> None:
    def begun() -> Training:
        torch.manual_seed(0)
        phase = Phase(3, 8, 0.05, test=Test(augment=[augment.Crop()], views=2))
        asked = Recipe([phase], batch_size=6, keep="best")
        return quiet().ready(Seen(3), wide(24, 24), asked)

    whole = begun()
    list(steps(whole))
    tensors, state = capture(whole)
    again = begun()
    restore(again, Checkpoint(whole.state.step, tensors, state))
    assert whole.kept is not None
    assert again.kept is not None
    for one in (whole, again):
        assert one.kept is not None
        one.model.load_state_dict(one.kept.state)
    assert again.kept.validation is None
    assert _result(again, again.kept) == _result(whole, whole.kept)


def test_fixmatch_and_its_validation_see_one_geometry() -> None:
    data = wide()
    rest = data.train.subset(slice(0, 8))
    model = Seen(3)
    how = FixMatch(weak=[augment.Flip()], strong=[augment.Crop()])
    quiet().fit(model, replace(data, unlabelled=rest), recipe(12, pseudo=how))
    assert {images.shape[-2:] for images in model.shown} == {(12, 12)}
