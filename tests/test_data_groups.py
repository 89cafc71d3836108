"""Groups stay on one side of a split, and folds hold every image out once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from budgetnet import Data, arrays, dataset, folder, table
from budgetnet.cli import main
from budgetnet.data import DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(60, 8, 8, 3), dtype=np.uint8)
LABELS = [0] * 30 + [1] * 20 + [2] * 10
PATIENTS = [f"p{number // 3}" for number in range(60)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def sides(data: Data) -> tuple[set[str], set[str]]:
    assert data.val is not None
    return set(data.train.groups or ()), set(data.val.groups or ())


@pytest.mark.parametrize("held_out", [0.2, 12, 1, 0.5])
def test_whole_groups_are_held_out_in_proportion(held_out: float) -> None:
    data = arrays(IMAGES, LABELS, held_out=held_out, groups=PATIENTS)
    train, val = sides(data)
    assert not train & val
    assert train | val == set(PATIENTS)
    assert data.val is not None
    wanted = held_out if held_out >= 1 else held_out * 60
    assert abs(len(data.val) - wanted) <= 6
    if wanted >= 12:
        shares = np.array(data.val.counts(3)) / np.array([30, 20, 10])
        assert shares.max() - shares.min() < 0.35
    again = arrays(IMAGES, LABELS, held_out=held_out, groups=PATIENTS)
    assert torch.equal(data.val.indices, again.val.indices if again.val else data.train.indices)
    assert not any("group" in note for note in data.notes)


def test_a_class_of_one_group_stays_in_training() -> None:
    groups = [*PATIENTS[:50], *["rare"] * 10]
    for seed in range(5):
        data = arrays(IMAGES, LABELS, held_out=0.3, groups=groups, seed=seed)
        assert data.train.counts(3)[2] == 10
        assert all("rare" not in sides(fold)[1] for fold in data.folds(3, seed=seed))
    with pytest.raises(DataError, match="no group can be held out without all that there is of a class"):
        arrays(IMAGES, LABELS, held_out=0.3, groups=LABELS)


def test_an_image_without_a_group_is_refused(tmp_path: Path) -> None:
    for groups in (["", *PATIENTS[1:]], [None, *PATIENTS[1:]], [float("nan"), *PATIENTS[1:]]):
        with pytest.raises(DataError, match=r"each image should have a group, and train\[0\] has none"):
            arrays(IMAGES, LABELS, groups=groups)
        with pytest.raises(DataError, match=r"train\[0\] has none"):
            dataset(list(zip(IMAGES, LABELS)), groups=groups)
        items = [
            {"image": image, "label": label, "of": group}
            for image, label, group in zip(IMAGES, LABELS, groups)
        ]
        if groups[0] is not None:
            with pytest.raises(DataError, match=r"train\[0\] has none"):
                dataset(items, groups="of")
    with pytest.raises(DataError, match="groups are one for each image of train, not 5"):
        arrays(IMAGES, LABELS, groups=5)  # type: ignore[arg-type]
    for number in range(12):
        path = tmp_path / "ab"[number % 2] / f"{'' if number < 4 else f'p{number // 4}_'}{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(IMAGES[number]).save(path)
    ways = (r"(p\d_)?\d+\.png", lambda path: path.split("/")[1].rpartition("_")[0])
    for way in ways:
        with pytest.raises(DataError, match=r"finds none in a/0\.png"):
            folder(tmp_path, size=8, held_out=2, groups=way)


def test_groups_on_both_sides_are_noted_and_wrong_ones_refused() -> None:
    data = arrays(IMAGES, LABELS, held_out=[0, 30], groups=PATIENTS)
    assert any("2 groups in both train and val (p0, p10)" in note for note in data.notes)
    assert any("2 groups in both train and val" in note for note in data.overlaps())
    with pytest.raises(DataError, match="a split of 60 images has as many groups, but found 3"):
        arrays(IMAGES, LABELS, groups=PATIENTS[:3])


@pytest.mark.parametrize("groups", [None, PATIENTS])
@pytest.mark.parametrize("k", [2, 5])
def test_folds_hold_every_image_out_once(groups: list[str] | None, k: int) -> None:
    data = arrays(IMAGES, LABELS, held_out=0.2, groups=groups)
    folds = data.folds(k)
    held = [part for fold in folds for part in (fold.val.indices.tolist() if fold.val else [])]
    assert sorted(held) == list(range(60))
    for fold in folds:
        assert fold.val is not None
        assert len(fold.train) + len(fold.val) == 60
        assert not set(fold.train.indices.tolist()) & set(fold.val.indices.tolist())
        assert abs(len(fold.val) - 60 / k) <= (4 if groups else 1)
        whole = np.array([30, 20, 10])
        assert (np.abs(np.array(fold.val.counts(3)) - whole / k) <= (3 if groups else 1)).all()
        assert fold.name == data.name
        if groups:
            assert not sides(fold)[0] & sides(fold)[1]
    other = arrays(IMAGES, LABELS, held_out=7, groups=groups).folds(k)
    assert [fold.train.fingerprint() for fold in folds] == [fold.train.fingerprint() for fold in other]
    assert folds[0].train.fingerprint() != data.folds(k, seed=1)[0].train.fingerprint()


def test_the_last_image_of_a_class_is_in_no_fold_and_too_many_folds_are_refused() -> None:
    data = arrays(IMAGES[:7], [0, 0, 0, 1, 1, 1, 2])
    folds = data.folds(3)
    assert [fold.train.counts(3)[2] for fold in folds] == [1, 1, 1]
    with pytest.raises(DataError, match="too few images, or groups, for 9 folds"):
        data.folds(9)
    with pytest.raises(ValueError, match="folds should be"):
        data.folds(1)


def test_photos_have_groups_by_their_paths_and_tables_by_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ["id,breed,dog"]
    for number in range(24):
        path = Path("photos", "ab"[number % 2], f"dog{number // 3}-{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(256, size=(9, 9, 3), dtype=np.uint8)).save(path)
        rows.append(f"{path.relative_to('photos')},{'ab'[number % 2]},dog{number // 3}")
    Path("train.csv").write_text("\n".join(rows))
    by_pattern = folder("photos", size=8, groups=r"dog\d+")
    by_function = folder("photos", size=8, groups=lambda path: path.split("/")[1].split("-")[0])
    by_column = table("train.csv", images="photos", name="id", label="breed", groups="dog", size=8)
    for data in (by_pattern, by_function, by_column):
        train, val = sides(data)
        assert train | val == {f"dog{number}" for number in range(8)}
        assert not train & val
    with pytest.raises(DataError, match=r"groups should find a group in the path of each photo"):
        folder("photos", size=8, groups="cat")
    with pytest.raises(DataError, match="no column 'dogs', which groups names; did you mean 'dog'"):
        table("train.csv", images="photos", label="breed", groups="dogs", size=8)
    Path("train.csv").write_text("\n".join([*rows, "", rows[1].replace("dog0\n", "x")[:-4] + "dog5"]))
    with pytest.raises(DataError, match="has another group than before"):
        table("train.csv", images="photos", name="id", label="breed", groups="dog", size=8)


def test_check_knows_groups_as_a_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ["name,label,patient"]
    for number in range(20):
        path = Path("photos", "ab"[number % 2], f"patient{number // 4}-{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 12), (10 * number, number, 9)).save(path)
        rows.append(f"{path.relative_to('photos')},{'ab'[number % 2]},{number // 4}")
    Path("train.csv").write_text("\n".join(rows))

    def check(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["check", *words])
        return result.exit_code, result.output

    said = "note: 5 groups, each kept on one side of what is held out"
    assert said in check("photos", "--groups", "patient[0-9]+")[1]
    assert said in check("train.csv", "--images", "photos", "--label", "label", "--groups", "patient")[1]
    # Of whole classes in one group nothing can be held out: a run says the same.
    for groups, sentence in (
        ("^[ab]", "no group can be held out without"),
        ("x+", "finds none in a/"),
        ("(", "should be a pattern"),
    ):
        with pytest.raises(DataError, match=sentence):
            folder("photos", size=8, groups=groups)
        code, output = check("photos", "--groups", groups)
        assert (code, sentence in output) == (2, True)


def test_folds_of_groups_that_only_one_side_has_are_refused() -> None:
    data = arrays(IMAGES[:40], LABELS[:40], val=(IMAGES[40:], LABELS[40:]), groups=PATIENTS[:40])
    with pytest.raises(DataError, match=r"train has groups and val has none, .*: give both theirs"):
        data.folds(3)
    alone = arrays(IMAGES[:40], LABELS[:40], held_out=0, groups=PATIENTS[:40])
    for fold in alone.folds(3):
        train, val = sides(fold)
        assert not train & val
