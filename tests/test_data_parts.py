"""Which folders are parts, which are classes, and what is asked where both readings are possible."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from trials import trials

from budgetnet.cli import main
from budgetnet.data import DataError, folder, inspect
from budgetnet.data.parts import part_of

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BUDGETNET_DATA", raising=False)


def put(root: Path, *folders: str, count: int = 5) -> Path:
    for name in folders:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = RNG.integers(0, 255, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def put_parts(root: Path, *parts: str) -> Path:
    return put(root, *(f"{part}/{label}" for part in parts for label in ("ant", "bee")))


def sizes(root: Path) -> dict[str, int]:
    return {name: len(split) for name, split in folder(root, size=8, held_out=None).splits.items()}


def check(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["check", *map(str, arguments)])
    return result.exit_code, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(
            (name, "train")
            for name in ("train", "Training", "TRAIN", "Train_set", "trainset", "trn", "train2017")
        ),
        *((name, "train") for name in ("TrainData", "train-images", " train ", "training_set", "1_train")),
        *(
            (name, "val")
            for name in ("val", "valid", "Validation", "VALIDATION_SET", "dev", "devset", "eval")
        ),
        *((name, "test") for name in ("test", "Testing", "Test set", "tst", "test1", "holdout", "hold-out")),
        *(
            (name, None)
            for name in ("trainer", "test tube", "bullet train", "devil", "value", "ant", "set", "7")
        ),
    ],
)
def test_parts_are_known_by_their_usual_names(name: str, part: str | None) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("Training", "Testing"), {"train": 8, "val": 2, "test": 10}),
        (("train", "dev"), {"train": 10, "val": 10}),
        (("Train_set", "Validation_set", "Test_set"), {"train": 10, "val": 10, "test": 10}),
        (("TRAIN", "EVAL"), {"train": 10, "val": 10}),
        (("trn", "holdout"), {"train": 8, "val": 2, "test": 10}),
    ],
)
def test_parts_with_class_folders_are_parts_whatever_their_spelling(
    tmp_path: Path, names: tuple[str, ...], expected: dict[str, int]
) -> None:
    root = put_parts(tmp_path / "set", *names)
    assert sizes(root) == expected
    assert folder(root, size=8).classes == ("ant", "bee")
    code, told = check(root)
    assert code == 0
    assert "nothing is odd" in told


def test_two_folders_for_one_part_are_asked_about_and_neither_is_dropped(tmp_path: Path) -> None:
    root = put_parts(tmp_path / "set", "train", "val", "dev", "test")
    with pytest.raises(
        DataError, match="holds both 'dev' and 'val', one too many: move one away, or pass root="
    ):
        folder(root, size=8)
    assert check(root)[0] == 2
    chosen = {"train": root / "train", "val": root / "dev", "test": root / "test"}
    data = folder(chosen, size=8)
    assert data.name == "set"
    assert data.val is not None
    assert data.val.names is not None
    assert data.val.names[0] == "dev/ant/0.png"
    code, told = check(*(f"--part={part}={path}" for part, path in chosen.items()))
    assert (code, told.splitlines()[0]) == (0, "set: 10 train, 10 val, 10 test, 2 classes")


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        (("train", "test"), "'test' and 'train'"),
        (("ant", "bee", "test"), "'test'"),
        (("Training", "Testing", "ant"), "'Testing' and 'Training'"),
        (("train/ant", "train/bee", "bus"), "'train' and 'bus'"),
        (("train/steam", "train/diesel", "bus/city", "car/small"), "'train' and 'bus'"),
        (("seg_train/ant", "seg_train/bee", "seg_test/ant", "seg_pred"), "'seg_test' and 'seg_train'"),
        (("x train", "x test"), "'x test' and 'x train'"),
    ],
)
def test_where_both_readings_are_possible_it_is_asked(
    tmp_path: Path, folders: tuple[str, ...], named: str
) -> None:
    root = put(tmp_path / "set", *folders)
    with pytest.raises(DataError) as refusal:
        folder(root, size=8)
    assert str(refusal.value).startswith(f"{named} in {root} may be ")
    assert f'root={{"train": "{root}"}}' in str(refusal.value)
    code, told = check(root)
    assert (code, f"refused: {refusal.value}" in told) == (2, True)
    # What was told decides it: all folders are classes.
    data = folder({"train": root}, size=8)
    assert set(data.classes) == {name.split("/")[0] for name in folders}
    code, told = check("--part", f"train={root}")
    assert code == 0, told


def test_a_class_may_be_called_train_where_it_can_be_nothing_else(tmp_path: Path) -> None:
    root = put(tmp_path / "set", "bus", "car", "train")
    data = folder(root, size=8)
    assert data.classes == ("bus", "car", "train")
    assert data.notes[0].startswith(
        "1 class folder with a part's name, without class folders (train): a class"
    )
    many = put(tmp_path / "many", "bullet train", "test tube", "value")
    assert folder(many, size=8).notes == ()


def test_every_file_beside_parts_is_named(tmp_path: Path) -> None:
    root = put_parts(tmp_path / "set", "train", "val")
    put(root, "more/ant", "unlabelled", "__MACOSX/train", ".cache")
    (root / "labels.csv").write_text("x")
    put(root, ".")
    (root / "train" / "loose.png").write_bytes((root / "0.png").read_bytes())
    expected = {
        ("no part", "more"),
        ("no part", "unlabelled"),
        ("hidden or junk", "__MACOSX"),
        ("hidden or junk", ".cache"),
        ("no photo", "labels.csv"),
        *(("no photo", f"{number}.png") for number in range(5)),
        ("no photo", "train/loose.png"),
    }
    data = folder(root, size=8)
    assert {(finding.kind, finding.path) for finding in data.findings} == expected
    assert {(finding.kind, finding.path) for finding in inspect(root).findings} == expected
    lone = put_parts(tmp_path / "lone", "train")
    put(lone, "Unlabeled_images", "ant-more/ant", "images", "test_unlabelled")
    (lone / "notes").mkdir()
    found = {(finding.kind, finding.path) for finding in folder(lone, size=8).findings}
    left_out = ("Unlabeled_images", "ant-more", "images", "notes", "test_unlabelled")
    assert found == {("no part", name) for name in left_out}


def test_parts_below_classes_are_not_all_trained_on(tmp_path: Path) -> None:
    root = put(
        tmp_path / "set", *(f"{label}/{part}" for label in ("ant", "bee") for part in ("train", "test"))
    )
    with pytest.raises(
        DataError, match=r"class folder .*ant holds 'train' and other parts, .* train/ant and test/ant"
    ):
        folder(root, size=8)
    assert check(root)[0] == 2


def test_folders_that_repeat_in_each_class_are_remarked(tmp_path: Path) -> None:
    root = put(tmp_path / "set", *(f"fold{k}/{label}" for k in (1, 2) for label in ("ant", "bee")))
    (note,) = folder(root, size=8).notes
    assert note == "1 folder with the same folders as the other classes (fold1): one class each"


def test_a_root_one_folder_too_high_is_told_where_the_classes_lie(tmp_path: Path) -> None:
    put_parts(tmp_path / "archive" / "brain", "Training", "Testing")
    with pytest.raises(
        DataError, match=r"holds only 'brain'; name .*brain instead if the class folders lie there"
    ):
        folder(tmp_path / "archive", size=8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"val": "set/val"},
            "root should name a folder for train, and perhaps for val and test, not for val",
        ),
        ({"train": "set/train", "dev": "set/val"}, "not for train, dev"),
        ({}, "not for nothing"),
        (
            {"train": "set", "val": "set/val"},
            "val should be a folder of its own, not .* within that of train",
        ),
        ({"train": "set/train", "val": "set/train"}, "should be a folder of its own"),
        ({"train": "set/train", "val": "nowhere"}, "nowhere is not there"),
    ],
)
def test_parts_that_are_named_amiss_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(put_parts(tmp_path / "set", "train", "val").parent)
    with pytest.raises(DataError, match=message):
        folder(given, size=8)
    assert check("--part", "train")[0] == 2
    assert check("set", "--part", "train=set/train")[0] == 2


def test_a_long_tail_is_trained_on_and_what_is_held_out_nothing_of_is_named(tmp_path: Path) -> None:
    root = put(put(tmp_path / "set", "ant", "bee", count=6), "cat", "dog", "eel", count=1)
    data = folder(root, size=8)
    assert data.val is not None
    assert data.train.counts(5) == (4, 5, 1, 1, 1)
    assert data.val.counts(5) == (2, 1, 0, 0, 0)
    note = "3 classes of train without an image in val or test (cat, dog, eel): not measured there"
    assert data.notes == (note,)
    code, told = check(root)
    assert code == 0
    assert "cat (none of 1 image is held out as val)" in told
    with pytest.raises(DataError, match="hold out fewer"):
        folder(root, size=8, held_out=0.8)
    singles = put(tmp_path / "singles", "ant", "bee", "cat", "dog", count=1)
    assert (folder(singles, size=8).val, check(singles)[0]) == (None, 0)


NAMES = (
    "train",
    "Training",
    "test",
    "Testing",
    "val",
    "dev",
    "ant",
    "bee",
    "bus",
    "seg_train",
    ".git",
    "extra",
)


@settings(deadline=None, max_examples=trials(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(NAMES), min_size=0, max_size=3), max_size=12))
def test_whatever_the_layout_each_photo_is_used_or_named_and_check_says_what_folder_does(
    paths: list[list[str]],
) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "set"
        root.mkdir()
        for number, names in enumerate(paths):
            above = root.joinpath(*names)
            above.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(above / f"{number}.png")
        told = inspect(root, cache=place)
        if told.refused:
            with pytest.raises(DataError) as refusal:
                folder(root, size=8, cache=place)
            assert str(refusal.value).startswith(told.refused[0])
            return
        data = folder(root, size=8, cache=place)
        assert set(map(str, told.findings)) == set(map(str, data.findings))
        used = {name for split in data.splits.values() for name in split.names or ()}
        named = {finding.path for finding in data.findings if finding.policy == "left out"}
        for path in root.rglob("*.png"):
            within = path.relative_to(root)
            above = {str(folder) for folder in (within, *within.parents)} & named
            assert (str(within) in used) != bool(above), f"{within}: used or named, and not both"
