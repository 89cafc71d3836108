"""`predict` on files and folders: which are read, which are left out and named, and what is written."""

import csv
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

import budgetnet
from budgetnet import Budget, Trainer, models
from budgetnet.cli import main


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file for two classes, in the folder where the command is typed."""
    monkeypatch.chdir(tmp_path)
    return saved(tmp_path / "m.safetensors", "ant", "bee")


def saved(path: Path, *classes: str) -> Path:
    made = Budget("10k").build(models.convnet, classes=len(classes), widths=(8,))
    budgetnet.save(made, path, classes=classes, resolution=16)
    return path


def photos(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (9 * number, 50, 200)).save(path, "PNG")
    return root


def predict(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_a_folder_is_walked_as_training_walks_it(model: Path, tmp_path: Path) -> None:
    root = photos(tmp_path / "in", "1.png", "deep/2.PNG", ".cache/3.png", "__MACOSX/4.png", "@eaDir/5.png")
    (root / "._1.png").write_bytes(b"\0\5\x16\7\0 apple")
    (root / "Thumbs.db").write_bytes(b"x")
    (root / "list.txt").write_text("x")
    (root / "raw.heic").write_bytes(b"x")
    os.symlink(tmp_path / "in", root / "again")
    result = predict(model, "in", "--format", "submission")
    assert [row.partition(",")[0] for row in lines(result)] == ["Id", "1", "2"]
    for name in (".cache", "._1.png", "@eaDir", "list.txt", "raw.heic", "again"):
        assert f"in/{name}" in result.stderr
    found = Trainer("cpu", out=None, show=False).predict(budgetnet.load(model), root)
    assert found.names == (str(root / "1.png"), str(root / "deep" / "2.PNG"))
    left_out = {Path(finding.path).name for finding in found.findings}
    assert left_out == {
        *(".cache", "__MACOSX", "@eaDir", "._1.png", "Thumbs.db"),
        *("list.txt", "raw.heic", "again"),
    }


def test_a_file_that_is_named_is_read_whatever_its_name(model: Path, tmp_path: Path) -> None:
    photos(tmp_path, ".hidden.png")
    (tmp_path / ".hidden.png").rename(tmp_path / ".hidden")
    assert len(lines(predict(model, ".hidden", "--format", "csv"))) == 2


def spoilt(root: Path) -> Path:
    photos(root, *(f"{number}.png" for number in range(6)))
    (root / "1.png").write_bytes(b"")
    (root / "2.png").write_bytes((root / "2.png").read_bytes()[:60])
    (root / "4.png").write_text("<html>")
    return root


def test_all_images_that_cannot_be_read_are_named_at_once(model: Path, tmp_path: Path) -> None:
    root = spoilt(tmp_path / "in")
    result = predict(model, root)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "3 of 6 images cannot be read" in result.stderr
    for name in ("1.png: empty", "2.png: truncated", "4.png: not an image", "--skip-unreadable"):
        assert name in result.stderr
    with pytest.raises(ValueError, match=r"3 of 6 images cannot be read .*1\.png.*2\.png.*4\.png"):
        Trainer("cpu", out=None, show=False).predict(budgetnet.load(model), root, batch_size=2)


def test_unreadable_images_have_no_row_on_request(model: Path, tmp_path: Path) -> None:
    root = spoilt(tmp_path / "in")
    result = predict(model, "in", "--skip-unreadable", "--format", "submission", "--out", "s.csv")
    assert result.exit_code == 3
    assert [row["Id"] for row in csv.DictReader(Path("s.csv").read_text().splitlines())] == ["0", "3", "5"]
    for name in ("in/1.png", "in/2.png", "in/4.png", "3 images that cannot be read have no row"):
        assert name in result.stderr
    alone = Trainer("cpu", out=None, show=False)
    for size in (1, 2, 256):
        found = alone.predict(budgetnet.load(model), root, unreadable="skip", batch_size=size)
        assert [Path(name).name for name in found.names] == ["0.png", "3.png", "5.png"]
        assert len(found.labels) == 3
        assert [finding.kind for finding in found.findings] == ["empty", "truncated", "not an image"]
    assert predict(model, photos(tmp_path / "sound", "1.png"), "--skip-unreadable").exit_code == 0
    (tmp_path / "bad.png").write_bytes(b"x")
    result = predict(model, "bad.png", "--skip-unreadable")
    assert result.exit_code == 2
    assert "1 of 1 images cannot be read" in result.stderr
    with pytest.raises(ValueError, match='unreadable should be "refuse" or "skip"'):
        alone.predict(budgetnet.load(model), root, unreadable="drop")  # type: ignore[arg-type]


@pytest.mark.slow
def test_utf8_is_known_where_the_system_knows_ascii_alone(model: Path, tmp_path: Path) -> None:
    photos(tmp_path / "in", "caf\u00e9.png")
    start = [sys.executable, "-c", "from budgetnet.cli import main; main()"]
    call = [*start, "predict", model, "in", "--format", "submission"]
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    found = subprocess.run(call, env={**os.environ, **plain}, capture_output=True, check=True)
    assert found.stdout.decode().splitlines()[1].startswith("caf\u00e9,")
    assert found.stderr == b""


@pytest.mark.parametrize("layout", ["csv", "submission", "table"])
def test_names_that_are_no_utf8_are_written_as_utf8(model: Path, tmp_path: Path, layout: str) -> None:
    photos(tmp_path / "in", os.fsdecode(b"caf\xe9.png"), "caf\u00e9.png")
    result = predict(model, "in", "--format", layout, "--out", "out.csv")
    assert result.exit_code == 0, result.output
    assert "2 predictions are in out.csv" in result.stderr
    text = Path("out.csv").read_bytes().decode()
    assert "caf\u00e9" in text
    if layout != "table":
        assert "caf\\xe9" in text
        assert "not UTF-8" in result.stderr
        printed = predict(model, "in", "--format", layout)
        assert printed.stdout_bytes.decode() == text


def test_each_row_of_csv_stays_one_whatever_its_names_hold(model: Path, tmp_path: Path) -> None:
    names = ["a\rb.png", "a\nb.png", 'a",b.png', "a,b.png", "a\x1b[31mb.png", " a .png", "\u2028.png"]
    photos(tmp_path / "in", *names)
    printed = predict(model, "in", "--format", "csv")
    assert predict(model, "in", "--format", "csv", "--out", "out.csv").exit_code == 0
    for text in (printed.stdout_bytes.decode(), Path("out.csv").read_bytes().decode()):
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert sorted(row[0] for row in rows[1:]) == sorted(f"in/{name}" for name in names)
        assert all(len(row) == 4 for row in rows)


def test_json_has_each_row_and_what_was_left_out(model: Path, tmp_path: Path) -> None:
    result = predict(model, spoilt(tmp_path / "in"), "--json", "--skip-unreadable")
    entries = json.loads(result.stdout)
    assert [Path(row["file"]).name for row in entries["predictions"]] == ["0.png", "3.png", "5.png"]
    assert all(
        0 < row["probability"] <= 1 and isinstance(row["index"], int) for row in entries["predictions"]
    )
    assert len(entries["left_out"]) == 3
    assert predict(model, "in", "--json", "--format", "csv").exit_code == 2


def test_what_a_spreadsheet_would_take_for_a_formula_is_noted(model: Path, tmp_path: Path) -> None:
    photos(tmp_path, "=1+1.png", "@x.png", "+7.png", "-3.png", "plain.png")
    files = ["=1+1.png", "@x.png", "+7.png", "plain.png"]
    harmful = saved(tmp_path / "h.safetensors", '=HYPERLINK("x")', "@b")
    result = predict(harmful, *files, "--format", "csv")
    rows = list(csv.reader(io.StringIO(result.stdout)))[1:]
    assert [row[0] for row in rows] == ["./=1+1.png", "./@x.png", "./+7.png", "plain.png"]
    assert {row[1] for row in rows} <= {'\'=HYPERLINK("x")', "'@b"}
    assert "formula to a spreadsheet, and is written with ./ or ' before it" in result.stderr
    submission = predict(model, *files, "--format", "submission")
    assert [row.partition(",")[0] for row in lines(submission)] == ["Id", "=1+1", "@x", "+7", "plain"]
    assert "and is written as it is" in submission.stderr
    # Numbers are none: classes may be called -1 and +1.
    numbers = saved(tmp_path / "n.safetensors", "-1", "+1")
    result = predict(numbers, "plain.png", "--format", "csv")
    assert "'" not in result.stdout
    assert result.stderr == ""


def test_what_cannot_be_written_is_known_before_anything_is_predicted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "in", "1.png", "deep/1.png")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(Trainer, "predict", lambda *given, **options: pytest.fail("it was predicted"))
    for out in ("no/x.csv", "folder", "pipe", f"{'x' * 250}.csv", "m.safetensors/x.csv"):
        result = predict(model, "in", "--format", "csv", "--out", out)
        assert result.exit_code == 2, result.output
        assert "cannot be written" in result.stderr
        assert "choose another --out" in result.stderr
    result = predict(model, "in", "--out", "in/deep/../1.png")
    assert "should be a new file, not in/deep/../1.png, which is one of the images" in result.stderr
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    result = predict(model, "in", "--format", "submission")
    assert "in/1.png and in/deep/1.png have the same" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "in", "m.safetensors", "pipe"]


def test_predictions_that_cannot_be_written_after_all_are_printed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "in", "1.png")

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("budgetnet.cli.predict.write_whole", full)
    result = predict(model, "in", "--format", "submission", "--out", "out.csv")
    assert result.exit_code == 2
    assert result.stdout.startswith("Id,Category\n1,")
    assert "No space left on device; the predictions were printed instead" in result.stderr


def test_what_is_no_image_is_one_sentence(model: Path) -> None:
    for given, found in ((5, "not int"), (None, "not NoneType"), ([b"a.png"], "not a list of bytes")):
        with pytest.raises(ValueError, match=f"paths of image files and folders, {found}"):
            Trainer("cpu", out=None, show=False).predict(budgetnet.load(model), given)  # type: ignore[arg-type]
