"""`predict` on files and folders: which are read, which are left out and named, and what is written."""

import csv
import io
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import budgetnet
from budgetnet import Budget, Data, Trainer, metrics, models
from budgetnet.cli import main
from budgetnet.modelfile import read_card, write


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


@pytest.mark.parametrize("options", [[], ["--json"], ["--format", "csv"]])
def test_a_model_that_gives_no_numbers_predicts_nothing(
    model: Path, tmp_path: Path, options: list[str]
) -> None:
    photos(tmp_path / "in", "a.png", "b.png")
    spoilt = budgetnet.load(model)
    with torch.no_grad():
        next(spoilt.parameters()).fill_(torch.nan)
    budgetnet.save(spoilt, tmp_path / "nan.safetensors", classes=("ant", "bee"), resolution=16)
    result = predict("nan.safetensors", "in", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the model gives NaN or infinity for 2 of 2 images, such as in/a.png" in result.stderr


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


# --- for a competition


def sample(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def chances(model: Path, *files: str, **options: object) -> list[list[float]]:
    found = Trainer("cpu", out=None, show=False).predict(budgetnet.load(model), list(files), **options)  # type: ignore[arg-type]
    return found.probabilities.tolist()


def test_several_models_are_the_mean_of_their_probabilities(model: Path, tmp_path: Path) -> None:
    other = saved(tmp_path / "other.safetensors", "bee", "ant")
    photos(tmp_path / "in", "1.png", "2.png")
    first, second = chances(model, "in"), chances(other, "in")
    result = json.loads(predict(model, "in", "--with", other, "--json", "--top", "2").stdout)
    for row, (ant, _), (_, same) in zip(result["predictions"], first, second, strict=True):
        said = {each["class"]: each["probability"] for each in row["top"]}
        assert said["ant"] == pytest.approx((ant + same) / 2)
        assert row["class"] == row["top"][0]["class"]
        assert row["probability"] == row["top"][0]["probability"]
    third = saved(tmp_path / "third.safetensors", "ant", "cat")
    assert "only some know bee" in predict(model, "in", "--with", third).stderr


def test_several_resolutions_and_looks_are_averaged(model: Path, tmp_path: Path) -> None:
    photos(tmp_path / "in", "1.png", "2.png")
    Image.linear_gradient("L").rotate(90).resize((16, 16)).convert("RGB").save(tmp_path / "in" / "2.png")
    low, high = chances(model, "in", resolution=12), chances(model, "in", resolution=20)
    both = chances(model, "in", resolution=[12, 20])
    assert both == [pytest.approx([(a + b) / 2 for a, b in zip(*pair)]) for pair in zip(low, high)]
    typed = predict(model, "in", "--resolution", "12", "--resolution", "20", "--format", "csv", "--top", "2")
    assert [float(row.split(",")[3]) for row in lines(typed)[1:]] == pytest.approx(
        [max(row) for row in both], abs=1e-6
    )
    looked = chances(model, "in", test=budgetnet.Test(mirror=True, shift=2))
    typed = predict(model, "in", "--mirror", "--shift", "2", "--json")
    rows = json.loads(typed.stdout)["predictions"]
    assert [row["probability"] for row in rows] == pytest.approx([max(row) for row in looked])
    known = budgetnet.load(model)
    write(known, known.state_dict(), replace(read_card(model), mirror=True), tmp_path / "twice.safetensors")
    plain = json.loads(predict("twice.safetensors", "in", "--no-mirror", "--json").stdout)["predictions"]
    assert [row["probability"] for row in plain] == pytest.approx(list(map(max, chances(model, "in"))))
    twice = json.loads(predict("twice.safetensors", "in", "--json").stdout)["predictions"]
    assert [row["probability"] for row in plain] != pytest.approx([row["probability"] for row in twice])


def test_the_best_classes_are_columns(model: Path, tmp_path: Path) -> None:
    photos(tmp_path / "in", "1.png")
    head, row = lines(predict(model, "in", "--top", "3", "--format", "csv"))
    assert head == "file,class,index,probability,class_2,probability_2"
    cells = row.split(",")
    assert float(cells[3]) + float(cells[5]) == pytest.approx(1, abs=2e-6)
    head, row = lines(predict(model, "in", "--top", "2"))
    assert head.split() == ["file", "class", "probability", "class_2", "probability_2"]
    assert {row.split()[1], row.split()[4]} == {"ant", "bee"}


def test_a_submission_is_like_the_sample(model: Path, tmp_path: Path) -> None:
    photos(tmp_path / "in", "a.png", "b.jpg", "deep/c.png", "extra.png")
    said = dict(zip(("a", "b", "c"), chances(model, "in/a.png", "in/b.jpg", "in/deep/c.png")))
    like = sample(tmp_path / "s.csv", "image_id,bee,ant", "c,0.5,0.5", "a,0.5,0.5", "b.jpg,0.5,0.5")
    result = predict(model, "in", "--like", like)
    head, *rows = lines(result)
    assert head == "image_id,bee,ant"
    assert [row.split(",")[0] for row in rows] == ["c", "a", "b.jpg"]
    for row in rows:
        name, bee, ant = row.split(",")
        assert [float(ant), float(bee)] == pytest.approx(said[name[0]], abs=1e-7)
    assert "asks for the probability of each class" in result.stderr
    assert "1 image left out, of which" in result.stderr


@pytest.mark.parametrize(
    ("head", "value", "kind"),
    [
        ("id,label", "bee", "name"),
        ("id,label", "0", "number"),
        ("id,label", "0.5", "probability of bee"),
        ("id,ant", "0", "probability of ant"),
        ("id,label", "", "name"),
    ],
)
def test_the_sample_says_what_one_column_holds(
    model: Path, tmp_path: Path, head: str, value: str, kind: str
) -> None:
    photos(tmp_path / "in", "7.png")
    ((ant, bee),) = chances(model, "in/7.png")
    result = predict(model, "in", "--like", sample(tmp_path / "s.csv", head, f"7,{value}"))
    answer = lines(result)[1].removeprefix("7,")
    if kind == "name":
        assert answer == ("ant" if ant > bee else "bee")
    elif kind == "number":
        assert answer == str(int(bee > ant))
    else:
        assert float(answer) == pytest.approx(bee if kind.endswith("bee") else ant, abs=1e-7)
    assert kind in result.stderr


def test_classes_that_are_numbers_are_no_positions(tmp_path: Path, model: Path) -> None:
    tens = saved(tmp_path / "tens.safetensors", "10", "20")
    photos(tmp_path / "in", "7.png")
    result = predict(tens, "in", "--like", sample(tmp_path / "s.csv", "id,label", "7,10"))
    assert lines(result)[1] in ("7,10", "7,20")


@pytest.mark.parametrize(
    ("classes", "answers", "said"),
    [
        (("1", "2"), ("1", "2"), "as its name says it"),
        (("10.0", "2.0"), ("10", "2"), "as its name says it"),
        (("-1", "01"), ("-1", "1"), "as its name says it"),
        (("1", "1.0"), ("0", "1"), "counted from 0"),
        (("1", "many"), ("0", "1"), "counted from 0"),
    ],
)
def test_a_number_of_a_class_that_is_called_by_one_is_that_one(
    tmp_path: Path, model: Path, classes: tuple[str, str], answers: tuple[str, str], said: str
) -> None:
    numbered = saved(tmp_path / "numbered.safetensors", *classes)
    photos(tmp_path / "in", "7.png", "8.png")
    Image.new("RGB", (16, 16), (250, 3, 3)).save(tmp_path / "in" / "8.png")
    result = predict(numbered, "in", "--like", sample(tmp_path / "s.csv", "id,label", "7,0", "8,0"))
    both = chances(numbered, "in/7.png", "in/8.png")
    assert [row.split(",")[1] for row in lines(result)[1:]] == [answers[int(b > a)] for a, b in both]
    assert f"asks for the class's number, {said}" in result.stderr


def test_an_id_is_found_whatever_the_case_and_the_encoding_of_accents(model: Path, tmp_path: Path) -> None:
    photos(tmp_path / "in", "cafe\u0301.png", "T1.PNG", "t2.png", "T2.png")
    like = sample(tmp_path / "s.csv", "id,label", "caf\u00e9,bee", "t1,bee", "T2.png,bee")
    result = predict(model, "in", "--like", like)
    assert [row.split(",")[0] for row in lines(result)[1:]] == ["caf\u00e9", "t1", "T2.png"]
    unclear = predict(model, "in", "--like", sample(tmp_path / "s.csv", "id,label", "t2.PNG,bee"))
    assert "the Id t2.PNG names" in unclear.stderr


def test_images_of_a_sample_that_cannot_be_read_keep_its_values(model: Path, tmp_path: Path) -> None:
    photos(tmp_path / "in", "1.png")
    (tmp_path / "in" / "2.png").write_bytes(b"none")
    like = sample(tmp_path / "s.csv", "id,label", "2,bee", "1,bee")
    assert predict(model, "in", "--like", like).exit_code == 2
    result = predict(model, "in", "--like", like, "--skip-unreadable")
    assert result.exit_code == 3
    assert result.stdout.splitlines()[:2] == ["id,label", "2,bee"]
    assert "in/2.png" in result.stderr
    assert "1 image that cannot be read keeps the sample's values" in result.stderr


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            ("id,label", "1,ant", "9,ant"),
            "1 of the 2 Ids of s.csv have no image among those given, such as 9",
        ),
        (("id,ant,cat", "1,0,0"), "the model does not know cat"),
        (("id,label", "1,ant", "1,ant"), "has the Id 1 twice"),
        (("id,label", "1,ant,bee"), "row 2 of s.csv has 3 cells"),
        (("id",), "should have a header"),
        (("id,label", "same,ant"), "the Id same names"),
    ],
)
def test_a_sample_that_does_not_fit_is_one_sentence(
    model: Path, tmp_path: Path, rows: tuple[str, ...], said: str
) -> None:
    photos(tmp_path / "in", "1.png", "a/same.png", "b/same.png")
    sample(tmp_path / "s.csv", *rows)
    result = predict(model, "in", "--like", "s.csv")
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert "leave out --format" in predict(model, "in", "--like", "s.csv", "--format", "csv").stderr


def test_nothing_is_overwritten_without_force(model: Path, tmp_path: Path) -> None:
    photos(tmp_path / "in", "1.png")
    (tmp_path / "out.csv").write_text("mine")
    result = predict(model, "in", "--format", "csv", "--out", "out.csv")
    assert result.exit_code == 2
    assert "out.csv is there already" in result.stderr
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert predict(model, "in", "--format", "csv", "--out", "out.csv", "--force").exit_code == 0
    assert (tmp_path / "out.csv").read_text().startswith("file,class")
    refused = predict(model, "in", "--format", "csv", "--out", "in/1.png", "--force")
    assert "which is one of the images" in refused.stderr


def test_hidden_and_junk_files_are_no_images_of_a_submission(model: Path, tmp_path: Path) -> None:
    photos(tmp_path / "in", "1.png", "._1.png", ".hidden/2.png", "__MACOSX/._1.png")
    (tmp_path / "in" / "Thumbs.db").write_bytes(b"x")
    like = sample(tmp_path / "s.csv", "id,label", "1,ant")
    assert len(lines(predict(model, "in", "--like", like))) == 2


def test_an_ensemble_is_measured_by_what_it_predicts(data: Data) -> None:
    assert data.val is not None
    trainer = Trainer("cpu", show=False)
    nets = []
    for seed in range(2):
        torch.manual_seed(seed)
        nets.append(models.convnet(len(data.classes), widths=(4,)).eval())
    said = trainer.predict(nets, data.val, resolution=[8, 12])
    found = trainer.evaluate(nets, data.val, resolution=[8, 12], metrics=[metrics.AUC()])
    labels = data.val.labels
    assert found.accuracy == pytest.approx((said.labels == labels).double().mean().item())
    assert found.loss == pytest.approx(
        -said.probabilities.gather(1, labels[:, None]).log().mean().item(), rel=1e-5
    )
    assert found.images == len(labels)
    assert sum(times for _, _, times in found.pairs) == len(labels)
    assert set(found.metrics) == {"auc"}
