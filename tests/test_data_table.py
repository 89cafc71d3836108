"""Tables of labels: which photo a row names, what its class is, and what is said of rows that are odd."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from budgetnet import Data, table
from budgetnet.cli import main
from budgetnet.data import DataError, inspect


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ten photos train/0.png ... train/9.png, each of a colour of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BUDGETNET_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("train").mkdir()
    for number in range(10):
        Image.new("RGB", (12, 9), (20 * number, 7, 99)).save(f"train/{number}.png")
    return tmp_path


def write(*lines: str, name: str = "train.csv", encoding: str = "utf-8", end: str = "\n") -> str:
    Path(name).write_bytes(end.join([*lines, ""]).encode(encoding))
    return name


TEN = [f"{number},{'ant' if number < 6 else 'bee'}" for number in range(10)]


def labels(data: Data) -> dict[str, str]:
    """The class of each image, by its name."""
    return {
        name: data.classes[label]
        for split in data.splits.values()
        for name, label in zip(split.names or (), split.labels.tolist())
    }


def read(path: object, **options: object) -> Data:
    return table(path, images="train", size=8, **options)  # type: ignore[arg-type]


RIGHT = {f"{number}.png": "ant" if number < 6 else "bee" for number in range(10)}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("encoding", "end", "delimiter"),
    [
        ("utf-8", "\n", ","),
        ("utf-8-sig", "\r\n", ","),
        ("utf-16", "\r\n", "\t"),
        ("utf-8", "\n", ";"),
        ("cp1252", "\n", "|"),
    ],
)
def test_encodings_ends_and_delimiters_are_told(encoding: str, end: str, delimiter: str) -> None:
    lines = [line.replace("ant", "fürst").replace(",", delimiter) for line in ["image_id,breed", *TEN]]
    data = read(write(*lines, encoding=encoding, end=end), name="image_id", label="breed", held_out=0)
    assert data.classes == ("bee", "fürst")
    assert data.name == "train.csv"
    assert len(data.train) == 10
    odd = [finding.kind for finding in data.findings]
    assert odd == (["other encoding"] if encoding == "cp1252" else [])


@pytest.mark.usefixtures("here")
def test_names_are_found_with_and_without_endings_quoted_and_below_their_folder() -> None:
    rows = ['"0.png","ant"', "1,ant", "train/2.png,ant", "./3,ant", "4.PNG,ant", "5 , ant"]
    rows += [f"{Path('train/6.png').resolve()},bee", "train\\7.png,bee", '"8",bee', "9.png,bee"]
    data = read(write('"image, or id",breed', *rows))
    assert labels(data) == RIGHT
    assert data.val is not None
    assert not data.notes
    assert data.train.images[:, 0, 0, 0].tolist() == [20 * k for k in data.train.indices.tolist()]


@pytest.mark.usefixtures("here")
def test_one_hot_columns_are_classes_and_so_are_numbers() -> None:
    rows = [f"{number}.png,{int(number < 6)},{float(number >= 6)},x" for number in range(10)]
    path = write("id,bee,ant,remark", *rows)
    data = read(path, name="id", label=["bee", "ant"], held_out=0)
    assert data.classes == ("bee", "ant")
    assert data.train.labels.tolist() == [0] * 6 + [1] * 4
    with pytest.raises(
        DataError, match=r"label should say which column of train\.csv holds the classes: it has"
    ):
        read(path)
    exact = [f"{n},{n % 2},{1 - n % 2}" for n in range(8)]
    assert read(write("id,a,b", *exact)).classes == ("a", "b")
    path = write("id,a,b", *exact, "8,0,0", "9,1,1")
    with pytest.raises(DataError, match=r"or which are one-hot: a, b hold 0 and 1, but line 10 has no 1$"):
        read(path)
    both = read(path, label=["a", "b"])
    found = [(finding.kind, finding.path, finding.detail) for finding in both.findings]
    assert found == [("no label", "8.png", "line 10"), ("contradiction", "9.png", "line 11: a and b")]
    with pytest.raises(
        DataError, match=r"line 3 of train\.csv holds '0\.5' where one-hot columns hold 0 or 1"
    ):
        read(write("id,a,b", "0,1,0", "1,0.5,0.5"), label=["a", "b"])
    assert read(write("id,n", *(f"{n},{11 - n // 5 * 2}" for n in range(10)))).classes == ("9", "11")


@pytest.mark.usefixtures("here")
def test_parts_are_a_column_or_tables_of_their_own() -> None:
    parts = ["train"] * 4 + ["Valid", "test"] + ["training", "dev", "TEST", "train"]
    path = write("id,breed,fold", *(f"{row},{part}" for row, part in zip(TEN, parts)))
    data = read(path, label="breed", part="fold")
    assert data.val is not None
    assert data.test is not None
    assert (data.val.names, data.test.names) == (("4.png", "7.png"), ("5.png", "8.png"))
    tables = {
        "train": write("id,breed", *TEN[:4], *TEN[8:]),
        "val": write("id,breed", *TEN[4:8], name="v.csv"),
    }
    assert (read(tables).val or data.val).names == ("4.png", "5.png", "6.png", "7.png")
    assert labels(read(tables)) == RIGHT
    with pytest.raises(DataError, match="leave held_out out"):
        read(tables, held_out=2)
    with pytest.raises(DataError, match="says 'ant' where it should say train, val or test"):
        read(write("id,breed", *TEN), label="breed", part="breed")


@pytest.mark.usefixtures("here")
def test_rows_that_are_odd_are_named_and_left_out() -> None:
    path = write("id,breed", *TEN[1:], "3,ant", "4,bee", "nowhere,ant", "lost.png,bee", "0,")
    data = read(path, held_out=0)
    assert sorted(labels(data)) == [f"{n}.png" for n in range(1, 10) if n != 4]
    assert list(data.notes) == [
        "2 lines of a table of labels without its photo (nowhere, lost.png): left out",
        "1 photo without a class in the table (0.png): left out",
        "1 photo of two classes in the table (4.png): left out",
        "1 photo in two rows of the table that agree (3.png): used once",
    ]
    details = {finding.kind: finding.detail for finding in data.findings}
    assert details["contradiction"] == "lines 5 and 12: ant and bee"
    assert details["doubled row"] == "lines 4 and 11"
    assert inspect(path, images="train").findings == data.findings


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("lines", "options", "sentence"),
    [
        (
            ["id,breed", *TEN],
            {"label": "bred"},
            "train.csv has no column 'bred', which label names; did you mean 'breed'?",
        ),
        (["id,breed", *TEN], {"name": "photo"}, "no column 'photo', which name names; it has id, breed"),
        (
            ["id,breed", "../0.png,ant", *TEN],
            {},
            "line 2 of train.csv names '../0.png', which leads out of train",
        ),
        (
            ["id,breed", "/etc/passwd,ant", *TEN],
            {},
            "'/etc/passwd', which leads out of train: name photos within",
        ),
        (["id,breed", "C:\\x\\0.png,ant", *TEN], {}, "which leads out of train"),
        (["id,breed", *TEN, "3,ant,bee"], {}, "line 12 of train.csv has 3 cells, and its first line 2"),
        (["id,breed", '0,"ant', *TEN], {}, "line 12 of train.csv is no row of a table"),
        (["id,id", *TEN], {}, "train.csv has two columns 'id': rename one of them"),
        (
            ["id,breed", "0,ant", "1,ant"],
            {},
            "two classes or more for the photos in train, but states only 'ant'",
        ),
        (["id,breed", "0,ant", "1,Ant"], {}, "the classes 'Ant' and 'ant', which differ in case alone"),
        (["id,breed", "0,1", "1,1.0"], {}, "the classes '1' and '1.0', which are the same number"),
        (["id,breed", "0,01", "1,1", "2,cat"], {}, "the classes '01' and '1', which are the same number"),
        (
            ["id,breed", "x,ant", "y,bee"],
            {},
            "none of the 2 photos that train.csv names is in train, such as 'x'",
        ),
        (["id,breed"], {}, "a line of column names and a line for each photo"),
        (["id", "0"], {}, "no column besides the photos' names"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(
    lines: list[str], options: dict[str, str], sentence: str
) -> None:
    path = write(*lines)
    with pytest.raises(DataError) as refusal:
        read(path, **options)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.usefixtures("here")
def test_a_flag_beside_the_classes_is_not_taken_for_one_of_them() -> None:
    path = write("n,y,flag", *(f"{n},{n % 2},{n // 2 % 2}" for n in range(10)))
    with pytest.raises(DataError, match="y, flag hold 0 and 1, but line 2 has no 1"):
        read(path)
    assert read(path, label="y").classes == ("0", "1")


@pytest.mark.usefixtures("here")
def test_classes_that_are_numbers_are_in_the_order_of_these() -> None:
    for names in (("2.0", "10.0"), ("-10", "-9", "3"), ("9", "12345678901"), ("0.5", "1e1")):
        rows = (f"{n},{names[n % len(names)]}" for n in range(10))
        assert read(write("id,n", *rows)).classes == names


@pytest.mark.usefixtures("here")
def test_labels_that_look_like_no_classes_are_noted() -> None:
    path = write("id,age", *(f"{n},{n + 0.37}" for n in range(10)))
    assert read(path).notes[0] == (
        "1 table whose labels look like measurements (train.csv): each value is a class"
    )
    assert "measurement" in {finding.kind for finding in inspect(path, images="train").findings}
    names = read(write("id,who", *(f"{n},person {n}" for n in range(10))))
    details = {finding.kind: finding.detail for finding in names.findings}
    assert details["one each"] == "10 of 10 classes have one photo"
    stars = read(write("id,stars", *(f"{n},{n % 3 / 2}" for n in range(10))))
    assert not {"measurement", "one each"} & {finding.kind for finding in stars.findings}


class DataFrame:
    """What a frame has that a table is known by, with no pandas there."""

    def to_csv(self) -> None: ...


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("path", "options", "sentence"),
    [
        (["train.csv"], {}, r"a table should be named by its path, not \['train.csv'\]: give it as text"),
        (None, {}, "a table should be named by its path, not None"),
        ({"train": 3}, {}, "a table should be named by its path, not 3"),
        ({3: "train.csv"}, {}, "not of 3"),
        (DataFrame(), {}, r"not a DataFrame: save it first: df.to_csv\('labels.csv', index=False\)"),
        ("train.csv", {"images": 3}, "images should be named by its path, not 3"),
        (
            "train.csv",
            {"label": 1},
            "label should be a column's name, or those of the one-hot columns, not",
        ),
        ("train.csv", {"label": [1.5]}, r"one-hot columns, not \[1.5\]: give them as text"),
        ("train.csv", {"label": ["breed", "breed"]}, "each one-hot column once, not 'breed' twice"),
        ("train.csv", {"name": ["id"]}, r"name should be a column's name, not \['id'\]"),
        ("train.csv", {"part": 2}, "part should be a column's name, not 2"),
        ("train.csv", {"label": "id"}, "not 'id', which holds the names of the photos in train.csv"),
        ("train.csv", {"label": "id", "name": "id"}, "name another for one of them"),
    ],
)
def test_mistakes_of_type_are_refused_in_a_sentence(
    path: object, options: dict[str, object], sentence: str
) -> None:
    write("id,breed", *TEN)
    with pytest.raises(DataError, match=sentence):
        table(path, **{"images": "train", "size": 8, **options})  # type: ignore[arg-type]


@pytest.mark.usefixtures("here")
def test_other_files_and_places_are_refused() -> None:
    path = write("id,breed", *TEN)
    for wrong, sentence in (
        ("none.csv", "cannot be read"),
        ("train", "is a folder: folder"),
        ({"val": path}, "not of val"),
    ):
        with pytest.raises(DataError, match=sentence):
            read(wrong)
    Path("book.xlsx").write_bytes(b"PK\x03\x04" + bytes(40))
    with pytest.raises(DataError, match="not an Excel or zip file: save it as CSV"):
        read("book.xlsx")
    with pytest.raises(DataError, match="images should be the folder that holds the photos"):
        table(path, images="elsewhere", size=8)
    with pytest.raises(TypeError, match="table has no argument 'heldout'; did you mean 'held_out'"):
        read(path, heldout=2)


def test_links_out_of_the_folder_are_not_followed(here: Path) -> None:
    os.rename("train/0.png", "secret.png")
    Path("train/0.png").symlink_to(here / "secret.png")
    path = write("id,breed", *TEN)
    with pytest.raises(DataError, match=r"names '0', a link that leads out of train: put the photo there"):
        read(path)
    assert len(read(write("id,breed", *TEN[1:]), held_out=0).train) == 9


@pytest.mark.usefixtures("here")
def test_a_name_that_fits_two_photos_is_refused_and_photos_without_rows_are_named() -> None:
    Image.new("RGB", (9, 9)).save("train/3.jpg")
    with pytest.raises(DataError, match=r"line 5 of train\.csv names '3', which may be 3\.jpg or 3\.png"):
        read(write("id,breed", *TEN))
    rows = [row.replace("3,", "3.png,") for row in TEN]
    assert read(write("id,breed", *rows)).notes == ("1 photo that the table does not name (3.jpg): left out",)


@pytest.mark.usefixtures("here")
def test_check_takes_a_table_and_refuses_what_the_function_refuses() -> None:
    runner = CliRunner()
    path = write("id,breed,part", *(f"{row},train" for row in TEN[:8]), *(f"{row},test" for row in TEN[8:]))
    asked = ["check", path, "--images", "train", "--name", "id", "--label", "breed"]
    found = runner.invoke(main, [*asked, "--part", "part", "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["images"] == {"train": 8, "test": 2}
    wrong = runner.invoke(main, [*asked[:-1], "bred"])
    assert wrong.exit_code == 2
    assert "did you mean 'breed'" in wrong.output
    write("id,breed", "../0.png,ant", *TEN)
    out = runner.invoke(main, [*asked])
    assert out.exit_code == 2
    assert "refused: line 2 of train.csv names '../0.png', which leads out of train" in out.output
