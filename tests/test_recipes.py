"""The shipped recipes, each run end to end at a very small scale, on files that the tests make."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import budgetnet
from budgetnet import Run, Trainer
from budgetnet.cli import main
from budgetnet.plan import read_plan, recipes_folder, titles
from budgetnet.pseudo import keep, write_csv


def run(*arguments: str) -> str:
    found = CliRunner().invoke(main, ["run", *arguments])
    assert found.exit_code == 0, found.output
    return found.output


def stl10_files(root: Path, count: int) -> None:
    """`count` training images in STL-10's official layout: noise, as bright as its class number."""
    folder = root / "stl10_binary"
    folder.mkdir()
    labels = torch.arange(count) % 10
    noise = torch.randint(0, 60, (count, 3, 96, 96), generator=torch.Generator().manual_seed(0))
    images = (noise + 18 * labels[:, None, None, None]).to(torch.uint8)
    (folder / "train_X.bin").write_bytes(images.numpy().tobytes())
    (folder / "train_y.bin").write_bytes((labels + 1).to(torch.uint8).numpy().tobytes())


@pytest.mark.slow
def test_quickstart_keeps_its_promise(tmp_path: Path) -> None:
    output = run("quickstart", "--out", str(tmp_path))
    found = Run.read(tmp_path / "quickstart-1")
    assert found.result["val_accuracy"] > 0.98
    assert {epoch.resolution for epoch in found.history} == {12, 16}
    assert found.record["model"]["parameters"] < 50_000
    assert str(tmp_path / "quickstart-1") in output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fixres_stl10", "fixres_stl10_seed", "fixres_stl10_light"])
def test_fixres_runs_through_both_of_its_phases(name: str, tmp_path: Path) -> None:
    stl10_files(tmp_path, 60)
    small = ["--scale", "0.00015", "--set", "data.held_out=20", "--set", "recipe.batch_size=10"]
    small += ["--set", "recipe.phases.1.batch_size=10"]
    run(name, "--data", str(tmp_path), "--out", str(tmp_path / "runs"), *small)
    found = Run.read(tmp_path / "runs" / f"{name}-1")
    assert [epoch.resolution for epoch in found.history] == [70, 120]
    light = name.endswith("light")
    assert found.record["model"]["parameters"] == (1_993_650 if light else 1_996_986)
    as_published = name.endswith("seed")
    assert found.result["val_images"] == (400 if as_published else 20)
    assert ("val_plain_accuracy" in found.result) == as_published
    model = budgetnet.load(tmp_path / "runs" / f"{name}-1")
    mean = model.standardise.mean.flatten().tolist()
    assert (mean == pytest.approx([0.507, 0.487, 0.441])) == as_published


@pytest.mark.parametrize("name", ["fixres_stl10_light", "fixres_stl10_paper", "fixres_stl10_seed"])
def test_a_recipe_that_is_another_one_but_for_something_works_as_a_copy(name: str, tmp_path: Path) -> None:
    copied = CliRunner().invoke(main, ["copy", name, str(tmp_path / "mine.py")])
    assert copied.exit_code == 0, copied.output
    plan, shipped = read_plan(tmp_path / "mine.py"), read_plan(name)
    assert plan.describe() == {**shipped.describe(), "recipe_file": "mine.py"}
    assert set(plan.source) == {"mine.py", "fixres_stl10.py"}
    assert set(shipped.source) == {f"{name}.py", "fixres_stl10.py"}


def cifar10_files(root: Path, count: int) -> None:
    """`count` images in each of CIFAR-10's official files: noise, as bright as its class number."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    for number, name in enumerate((*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")):
        labels = torch.arange(count) % 10
        noise = torch.randint(0, 60, (count, 3072), generator=torch.Generator().manual_seed(number))
        rows = torch.cat([labels[:, None], noise + 18 * labels[:, None]], dim=1).to(torch.uint8)
        (folder / f"{name}.bin").write_bytes(rows.numpy().tobytes())


def tiny_imagenet_files(root: Path, classes: int = 3, train: int = 8, val: int = 4) -> None:
    """Tiny-ImageNet's official layout with a few small classes, each of one colour."""
    folder = root / "tiny-imagenet-200"
    drawn = np.random.default_rng(0)
    names = [f"n0000000{k}" for k in range(classes)]
    lines = []
    (folder / "val" / "images").mkdir(parents=True)

    def photo(label: int, path: Path) -> None:
        pixels = drawn.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        pixels[..., label] += 120
        Image.fromarray(pixels).save(path)

    for label, name in enumerate(names):
        (folder / "train" / name / "images").mkdir(parents=True)
        for k in range(train):
            photo(label, folder / "train" / name / "images" / f"{name}_{k}.JPEG")
        for k in range(val):
            lines.append(f"val_{label}_{k}.JPEG\t{name}\t0\t0\t63\t63")
            photo(label, folder / "val" / "images" / f"val_{label}_{k}.JPEG")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (folder / "wnids.txt").write_text("\n".join(names) + "\n")
    (folder / "words.txt").write_text("\n".join(f"{name}\tthing {name}" for name in names) + "\n")


def small(name: str, root: Path, *settings: str, scale: str = "0.001") -> Run:
    """The run of a recipe at this scale with these settings."""
    chosen = [part for setting in settings for part in ("--set", setting)]
    run(name, "--data", str(root), "--out", str(root / "runs"), "--scale", scale, *chosen)
    return Run.read(root / "runs" / f"{name}-1")


@pytest.mark.slow
def test_the_papers_fix_leaves_all_but_the_classifier_and_the_last_norm(tmp_path: Path) -> None:
    stl10_files(tmp_path, 60)
    found = small(
        "fixres_stl10_paper",
        tmp_path,
        "data.held_out=20",
        "recipe.batch_size=10",
        "recipe.phases.1.batch_size=10",
        "recipe.phases.1.epochs=1",
        "recipe.phases.1.views=1",
        scale="0.00015",
    )
    assert [epoch.resolution for epoch in found.history] == [70, 120]
    assert found.result["val_resolution"] == 120


@pytest.mark.slow
def test_a_student_within_300_kb_learns_from_a_saved_run(tmp_path: Path) -> None:
    stl10_files(tmp_path, 60)
    sizes = ("data.held_out=20", "recipe.batch_size=10")
    fix = ("recipe.phases.1.batch_size=10", "recipe.phases.1.resolution=70")
    small("fixres_stl10", tmp_path, *sizes, *fix, scale="0.00015")
    teacher = f"recipe.phases.0.augment.5.teacher={tmp_path / 'runs' / 'fixres_stl10-1'}"
    found = small("distil_stl10", tmp_path, *sizes, teacher, scale="0.0005")
    assert found.record["model"]["bytes"] < 300_000
    assert found.status == "finished"


@pytest.mark.slow
def test_a_student_of_stl10_learns_from_weights_that_come_along_and_from_a_run(tmp_path: Path) -> None:
    stl10_files(tmp_path, 60)
    sizes = ("data.held_out=20", "recipe.batch_size=20", "recipe.phases.0.views=1")
    small("stl10_gpu", tmp_path, *sizes, scale="0.01")
    teachers = ["stl10_best", str(tmp_path / "runs" / "stl10_gpu-1")]
    found = small(
        "stl10_student", tmp_path, *sizes, f"recipe.phases.0.augment.4.teacher={teachers}", scale="0.05"
    )
    assert found.record["recipe"]["phases"][0]["augment"][4]["teacher"] == teachers
    assert found.result["val_resolution"] == 112


@pytest.mark.slow
def test_cifar10_best_looks_at_mirror_images_too(tmp_path: Path) -> None:
    cifar10_files(tmp_path, 40)
    found = small("cifar10_best", tmp_path, scale="0.01")
    assert found.record["model"]["parameters"] == 1_991_730
    assert found.record["recipe"]["phases"][0]["test"]["mirror"] is True
    assert found.result["test_images"] == 40


@pytest.mark.slow
@pytest.mark.parametrize(("published", "parameters"), [("False", 21_289_802), ("True", 21_351_690)])
def test_resnet34_is_built_both_ways(published: str, parameters: int, tmp_path: Path) -> None:
    cifar10_files(tmp_path, 40)
    found = small(
        "resnet34_cifar10",
        tmp_path,
        "data.per_class=4",
        "data.held_out=40",
        "recipe.phases.0.resolution=32",
        f"model.as_published={published}",
        scale="0.1",
    )
    assert found.record["model"]["parameters"] == parameters
    assert found.history[0].images == 40
    assert 0 <= found.history[0].train_eval_accuracy <= 1
    assert found.result["test_images"] == 40
    notes = " ".join(found.record["notes"])
    assert ("padding 5 takes 32 to 18, where padding 3 would give 16" in notes) == (published == "True")


@pytest.mark.slow
def test_vgg_keeps_its_best_weights(tmp_path: Path) -> None:
    cifar10_files(tmp_path, 40)
    smaller = ("model.resolution=32", "recipe.phases.0.resolution=32", "data.held_out=40")
    found = small("vgg_cifar10", tmp_path, *smaller, scale="0.1")
    assert found.record["recipe"]["keep"] == "best"
    assert found.result["epoch"] == found.best.epoch


@pytest.mark.slow
def test_a_deeper_vgg_begins_from_a_trained_shallower_one(tmp_path: Path) -> None:
    cifar10_files(tmp_path, 40)
    smaller = ("model.resolution=32", "recipe.phases.0.resolution=32", "data.held_out=40")
    small("vgg_cifar10_paper", tmp_path, *smaller, "model.configuration=A", scale="0.014")
    shallow = tmp_path / "runs" / "vgg_cifar10_paper-1"
    run(
        *("vgg_cifar10_paper", "--data", str(tmp_path), "--out", str(tmp_path / "runs"), "--scale", "0.014"),
        *[part for setting in (*smaller, f"model.begun_from={shallow}") for part in ("--set", setting)],
    )
    models = budgetnet.load(shallow), budgetnet.load(tmp_path / "runs" / "vgg_cifar10_paper-2")
    counts = [sum(1 for name, _ in model.named_parameters() if name.endswith("weight")) for model in models]
    assert counts == [11, 16]


@pytest.mark.slow
def test_pseudo_labels_leave_the_validation_images_alone(tmp_path: Path) -> None:
    cifar10_files(tmp_path, 40)
    sizes = ("data.per_class=4", "data.held_out=20", "recipe.batch_size=20")
    at_32 = tuple(f"recipe.phases.{k}.resolution=32" for k in range(3))
    sure = tuple(f"recipe.phases.{k}.pseudo.threshold=0.1" for k in (1, 2))
    found = small("pseudo_cifar10", tmp_path, *sizes, *at_32, *sure, scale="0.1")
    assert found.result["val_images"] == 20
    assert found.record["data"]["images"]["unlabelled"] == 140
    assert {epoch.phase: epoch.pseudo_images for epoch in found.history}[1] == 0
    assert all(epoch.pseudo_images == 140 for epoch in found.history if epoch.phase > 1)
    assert (tmp_path / "runs" / "pseudo_cifar10-1" / "pseudo-labels-3.csv").exists()


@pytest.mark.slow
def test_a_student_learns_what_several_models_call_the_other_images(tmp_path: Path) -> None:
    cifar10_files(tmp_path, 40)
    whole = budgetnet.cifar10(tmp_path, per_class=4, held_out=20, unlabelled=True)
    assert whole.unlabelled is not None
    models = [read_plan("pseudo_cifar10_student").model() for _ in range(2)]
    asked = Trainer("cpu", out=None, show=False).predict(models, whole.unlabelled, resolution=32)
    listed = tmp_path / "kept.csv"
    write_csv(listed, keep(asked.probabilities, 0.0), whole.unlabelled, whole.classes)
    sizes = (f"data.kept={listed}", "data.per_class=4", "data.held_out=20", "recipe.batch_size=20")
    at_32 = tuple(f"recipe.phases.{k}.resolution=32" for k in range(2))
    found = small("pseudo_cifar10_student", tmp_path, *sizes, *at_32, scale="0.08")
    assert found.record["data"]["images"] == {"train": 180, "val": 20, "test": 40}
    assert [epoch.phase for epoch in found.history] == [1, 2]
    begin = tmp_path / "runs" / "pseudo_cifar10_student-1"
    small("pseudo_cifar10_student", tmp_path, *sizes, *at_32, f"model.begin={begin}", scale="0.08")
    assert "this training goes on from those weights" in " ".join(
        Run.read(f"{begin}"[:-1] + "2").record["notes"]
    )


@pytest.mark.slow
def test_fixmatch_uses_what_is_unlabelled(tmp_path: Path) -> None:
    cifar10_files(tmp_path, 40)
    sizes = ("data.per_class=4", "data.held_out=20", "recipe.batch_size=10")
    found = small("fixmatch_cifar10", tmp_path, *sizes, "recipe.phases.0.pseudo.ratio=1", scale="0.0006")
    assert 0 <= found.history[0].pseudo_share <= 1
    assert found.record["model"]["parameters"] < 2_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["miniresnet_tiny_imagenet", "resnext50_tiny_imagenet"])
def test_tiny_imagenet_is_learnt_from_its_folders(name: str, tmp_path: Path) -> None:
    tiny_imagenet_files(tmp_path)
    settings = ["model.classes=3", "recipe.batch_size=8"]
    if name.startswith("resnext50"):
        settings += ["recipe.phases.0.resolution=64", "recipe.phases.0.test.crop=64"]
        settings += ["recipe.phases.0.test.resize=66"]
    found = small(name, tmp_path, *settings, scale="0.05" if name.startswith("mini") else "0.01")
    assert found.record["data"]["images"] == {"train": 24, "val": 12}
    assert found.result["val_resolution"] == 64


@pytest.mark.slow
def test_the_speedrun_learns_from_few_images_and_is_tested_by_six_looks(tmp_path: Path) -> None:
    cifar10_files(tmp_path, 40)
    found = small("cifar10_speedrun", tmp_path, "recipe.batch_size=20", scale="0.125")
    assert found.record["model"]["parameters"] == 1_972_792
    assert found.history[0].images == 200
    assert found.result["test_images"] == 40
    model = budgetnet.load(tmp_path / "runs" / "cifar10_speedrun-1")
    assert model.whiten.fitted
    assert (model.card.mirror, model.card.shift) == (True, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [100, 300])
def test_eight_bits_for_cifar10_keep_to_their_file(kilobytes: int, tmp_path: Path) -> None:
    cifar10_files(tmp_path, 40)
    name = f"cifar10_{kilobytes}kb"
    found = small(name, tmp_path, "recipe.batch_size=20", scale="0.025")
    assert found.result["test_images"] == 40
    file = tmp_path / "runs" / f"{name}-1" / "model.safetensors"
    assert 0.9 * kilobytes * 1000 < file.stat().st_size <= kilobytes * 1000


def test_every_recipe_says_where_it_is_from_and_what_it_reached() -> None:
    for name in titles():
        text = ast.get_docstring(ast.parse((recipes_folder() / f"{name}.py").read_text())) or ""
        assert f"budgetnet run {name}" in text or f"budgetnet run recipes/{name}.py" in text, name
        assert "http" in text, f"{name} names no source"
        assert "{figure}" not in text, f"{name} says no figure"
