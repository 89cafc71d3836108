"""The guard says what a model object was trained on before it is trained again."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from budgetnet import Data, Distill, Phase, Recipe, Trainer, arrays, load, models, save
from budgetnet.guard import SEEN, before, image_hashes, trained_on


def pictures(names: str = "abc", *, seed: int = 0, held_out: int = 10) -> Data:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    return arrays(pixels, [names[k % len(names)] for k in range(40)], held_out=held_out, seed=seed)


def made() -> nn.Module:
    return models.convnet(3, channels=1, widths=(4,))


def notes(model: nn.Module, data: Data, **options: object) -> list[str]:
    """What the guard says of what the model was trained on before."""
    trainer = Trainer("cpu", out=None, show=False)
    run = trainer.fit(model, data, Recipe([Phase(1, 8, 0.01)], batch_size=10), **options)  # type: ignore[arg-type]
    return [note for note in run.record["notes"] if "trained before" in note or "trained on before" in note]


def test_folds_with_one_model_object_are_told_of() -> None:
    model = made()
    assert notes(model, pictures(seed=0)) == []
    first, second = notes(model, pictures(seed=1))
    assert first == (
        "the model was trained before, on arrays (30 images): this training goes on from those weights; "
        "build a new one for each fold, seed or comparison"
    )
    assert "of the 10 validation images were among the images" in second
    third = notes(model, pictures(seed=2))
    assert int(third[1].split()[0]) > int(second.split()[0])


def test_a_new_model_for_each_fold_has_nothing_said_about_it() -> None:
    for fold in range(2):
        assert notes(made(), pictures(seed=fold)) == []


def test_going_on_with_the_same_data_is_told_without_alarm() -> None:
    model, data = made(), pictures()
    notes(model, data)
    (note,) = notes(model, data)
    assert note.startswith("the model was trained before, on arrays (30 images)")


def test_outputs_that_stood_for_other_classes_are_named() -> None:
    model = made()
    notes(model, pictures("abc"))
    note, _ = notes(model, pictures("abd", seed=1))
    assert "its outputs stood for other classes (d only here and c only there)" in note


def test_a_copy_of_a_trained_model_was_trained_too() -> None:
    model = made()
    notes(model, pictures())
    assert len(notes(copy.deepcopy(model), pictures(seed=1))) == 2


def test_a_loaded_model_names_its_run_and_knows_its_images(tmp_path: Path) -> None:
    trainer = Trainer("cpu", out=tmp_path, show=False)
    trainer.fit(made(), pictures(), Recipe([Phase(1, 8, 0.01)], batch_size=10))
    model = load(tmp_path / "run-1", made)
    first, second = notes(model.requires_grad_(True), pictures(seed=1))
    assert str(tmp_path / "run-1") in first
    assert "validation images were among the images" in second


def test_weights_that_are_overwritten_are_not_told_of(tmp_path: Path) -> None:
    trainer, data = Trainer("cpu", out=tmp_path, show=False), pictures()
    recipe = Recipe([Phase(1, 8, 0.01)], batch_size=10)
    trainer.fit(made(), data, recipe)
    model = made()
    notes(model, pictures(seed=1))
    assert notes(model, data, after=tmp_path / "run-1") == []
    (note,) = notes(model, data)
    assert "on arrays (30 images)" in note


def test_inherited_weights_tell_of_the_images_that_they_learnt_from() -> None:
    trained, model = made(), made()
    notes(trained, pictures())
    models.inherit(model, trained)
    assert notes(model, pictures()) == []
    other = made()
    models.inherit(other, trained)
    (note,) = notes(other, pictures(seed=1))
    assert "validation images were among the images that the model was trained on before" in note


def test_check_says_it_too_and_an_unasked_epoch_leaves_no_trace() -> None:
    trainer, model, data = Trainer("cpu", out=None, show=False), made(), pictures()
    recipe = Recipe([Phase(1, 8, 0.01)], batch_size=10)
    trainer.epochs(model, data, recipe)  # never begun
    assert not any("trained before" in note for note in trainer.check(model, data, recipe))
    trainer.fit(model, data, recipe)
    assert any("trained before" in note for note in trainer.check(model, data, recipe))


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_remembered_is_no_part_of_the_weights(seed: int) -> None:
    torch.manual_seed(seed)
    model = made()
    before = set(model.state_dict())
    notes(model, pictures())
    assert set(model.state_dict()) == before


def test_a_teacher_that_learnt_what_is_held_out_is_told_of(tmp_path: Path) -> None:
    first, other = pictures(seed=0), pictures(seed=1)
    model, trainer = made(), Trainer("cpu", out=tmp_path, show=False)
    run = trainer.fit(model, first, Recipe([Phase(1, 8, 0.01)], batch_size=10))
    common = trained_on(other.splits["val"], image_hashes(first.train))
    assert common
    for teacher in (model, [made(), run.folder, model], run.folder):
        recipe = Recipe([Phase(1, 8, 0.01, augment=[Distill(teacher)])], batch_size=10)
        assert not [note for note in before(first, recipe) if "teacher" in note]
        (note,) = [note for note in before(other, recipe) if "teacher" in note]
        assert note == (
            f"{common} of the 10 validation images were trained on by the teacher of phase 1: val's figures "
            "flatter; hold out the same images there and here"
        )
    assert note in trainer.check(made(), other, recipe)
    # Without the hashes the record tells the splits apart; of a stranger nothing is said.
    assert run.folder is not None
    (run.folder / SEEN).unlink()
    (note,) = [note for note in before(other, recipe) if "teacher" in note]
    assert note.startswith("the validation images are not those of the teacher of phase 1: it may have been")
    save(model, tmp_path / "alone.safetensors")
    recipe = Recipe([Phase(1, 8, 0.01, augment=[Distill(tmp_path / "alone.safetensors")])], batch_size=10)
    assert not [note for note in before(other, recipe) if "teacher" in note]
