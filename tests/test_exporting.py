"""What is promised of exports: the same model, within its bytes, and a page from which the input is made."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchvision
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

from budgetnet import (
    Budget,
    Data,
    DoesNotFit,
    Int8,
    OverBudget,
    Quantised,
    Split,
    Trainer,
    export,
    ledger,
    load,
    models,
    read_export,
    save,
)
from budgetnet.augment import test_view as seen_in_a_test
from budgetnet.cli import main
from budgetnet.exporting import Exported, formats
from budgetnet.exporting.beside import CARD, JSON, PAGE, beside
from budgetnet.exporting.footprint import footprint
from budgetnet.exporting.preprocess import example_image, example_input, preprocess
from budgetnet.files import read_sealed, seal
from budgetnet.modelfile import BadModelFile, Card, card, described
from budgetnet.trainer import gather

Pixels = npt.NDArray[np.float64]


def small(make: Any = models.convnet, *, limit: int = 100_000, **options: Any) -> nn.Module:
    """A network of 3,000 parameters for 16 pixels, with a card, whose statistics are those of some images."""
    torch.manual_seed(0)
    model = Budget(bytes=limit).build(make, classes=3, **({"widths": (8, 16)} | options))
    model.train()
    for _ in range(8):
        model(toy().train.images[:32].float() / 255)
    model.card = replace(described(model), classes=("a", "b", "c"), resize=16, crop=16, stored=(16, 16))
    return model.eval()


def toy() -> Data:
    """Images of one colour a class, with noise."""
    drawn = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 3
    noise = torch.randint(0, 60, (96, 3, 16, 16), generator=drawn)
    images = (noise + 190 * nn.functional.one_hot(labels, 3)[:, :, None, None]).to(torch.uint8)
    train, val = (Split(images[rows], labels[rows], rows) for rows in torch.arange(96).split([64, 32]))
    return Data(train, val, None, ("a", "b", "c"), "toy")


def said(model: nn.Module, images: Tensor) -> Tensor:
    return Trainer("cpu", show=False).predict(model, images).probabilities


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A model as a torch.export program, a.pt2 beside a.safetensors; tests write nothing there."""
    folder = tmp_path_factory.mktemp("program")
    save(small(limit=300_000), folder / "a.safetensors")
    return export(folder / "a.safetensors", "pt2", data=toy())


def copied(exported: Exported, folder: Path) -> Path:
    """The export in another folder, with what lies beside it."""
    for path in exported.file.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / exported.file.name


def test_a_program_says_what_the_model_says_and_tells_what_it_is(program: Exported) -> None:
    model, path = small(limit=300_000), program.file
    assert program.comparison.same
    assert program.comparison.after.bytes == path.stat().st_size
    assert program.comparison.before.accuracy == program.comparison.after.accuracy
    assert "32 val images of toy" in str(program)
    again = read_export(path, trusted=True)
    assert card(again) == card(load(path.with_suffix(".safetensors")))
    images = toy().train.images
    assert torch.allclose(said(again, images), said(model, images), atol=1e-6)
    with pytest.raises(DoesNotFit, match=r"takes images of \(3, 16, 16\)"):
        again(torch.rand(1, 3, 32, 32))
    with pytest.raises(DoesNotFit, match="export the model at that one"):
        Trainer("cpu").evaluate(again, toy().train, resolution=32)
    steps = json.loads((path.parent / "preprocess.json").read_text())
    assert (steps["classes"], steps["file"]) == (["a", "b", "c"], "a.pt2")
    assert [steps[end]["shape"] for end in ("input", "output")] == [["N", 3, 16, 16], ["N", "classes"]]


def test_a_file_of_one_image_says_so(tmp_path: Path) -> None:
    path = export(small(), "pt2", batch=1, out=tmp_path / "a.pt2").file
    steps = json.loads((tmp_path / JSON).read_text())
    assert [steps[end]["shape"] for end in ("input", "output")] == [[1, 3, 16, 16], [1, "classes"]]
    assert "float32 (1, 3, 16, 16)" in " ".join((tmp_path / PAGE).read_text().split())
    program = torch.export.load(path, extra_files=(inside := {"preprocess": ""}))
    assert program is not None
    assert json.loads(inside["preprocess"])["input"]["shape"] == [1, 3, 16, 16]


@pytest.mark.parametrize("to", ["pt2", "onnx"])
def test_a_model_that_gives_no_numbers_is_not_exported(to: Any, tmp_path: Path) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    model = small()
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(
        ValueError, match=r"^the model gives NaN or infinity for \d+ of \d+ images, and nothing"
    ):
        export(model, to, data=toy(), int8=to == "onnx", out=tmp_path / f"a.{to}")
    assert not list(tmp_path.iterdir())


def test_memory_is_that_of_processes_of_their_own(program: Exported) -> None:
    for side in (program.comparison.before, program.comparison.after):
        if Path("/proc/self/status").exists():
            assert side.peak is not None
            assert side.working is not None
            assert 10_000_000 < side.peak < 4_000_000_000
            assert side.working < side.peak
    assert ("MB of a process at its peak" in str(program)) == (program.comparison.after.peak is not None)


def test_memory_of_a_class_that_no_other_process_knows_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.pickle").write_bytes(b"of another")
    assert footprint(tmp_path / "a.pickle", (3, 8, 8)) is None


@pytest.mark.parametrize("at", [0, 100, 30_000, -1, -40, -65, -70, -200])
def test_an_export_of_which_a_byte_is_another_is_refused(program: Exported, at: int, tmp_path: Path) -> None:
    path = copied(program, tmp_path)
    content = bytearray(path.read_bytes())
    content[at] ^= 16
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=r"a.pt2 is damaged, or has been changed since"):
        read_export(path, trusted=True)


def test_another_export_under_the_name_is_refused(program: Exported, tmp_path: Path) -> None:
    path = copied(program, tmp_path)
    read_export(path, trusted=True)
    page = tmp_path / "preprocess.json"
    page.write_text(page.read_text().replace(json.loads(page.read_text())["sha256"], "0" * 64))
    with pytest.raises(BadModelFile, match=r"a.pt2 is not the file that preprocess.json beside it"):
        read_export(path, trusted=True)
    path.rename(tmp_path / "b.pt2")
    read_export(tmp_path / "b.pt2", trusted=True)


def test_pages_of_two_exports_in_a_folder_are_told_apart(program: Exported, tmp_path: Path) -> None:
    path = copied(program, tmp_path)
    assert beside(path, JSON) == tmp_path / "preprocess.json"
    assert beside(tmp_path / "b.onnx", JSON) == tmp_path / "b.onnx.preprocess.json"
    assert beside(tmp_path / "b.onnx", PAGE) == tmp_path / "b.onnx.preprocess.md"
    path.unlink()
    assert beside(tmp_path / "b.onnx", PAGE) == tmp_path / "preprocess.md"
    (tmp_path / "preprocess.json").write_text("a person's own")
    assert beside(tmp_path / "b.onnx", JSON) == tmp_path / "b.onnx.preprocess.json"


def test_pages_of_the_users_own_stay_as_they_are(program: Exported, tmp_path: Path) -> None:
    model = program.file.with_suffix(".safetensors")
    for name in (CARD, PAGE):
        (tmp_path / name).write_text("---\ntitle: my own\n---\n")
    for _ in range(2):
        exported = export(model, "pt2", out=tmp_path / "a.pt2")
        assert str(exported).endswith("a.pt2.preprocess.md")
    beside_it = {"a.pt2", *(f"a.pt2.{name}" for name in (CARD, PAGE, JSON))}
    assert {path.name for path in tmp_path.iterdir()} == {CARD, PAGE, *beside_it}
    assert {(tmp_path / name).read_text() for name in (CARD, PAGE)} == {"---\ntitle: my own\n---\n"}
    read_export(exported.file, trusted=True)
    (tmp_path / "b").mkdir()
    own = copied(program, tmp_path / "b").with_name(CARD)
    assert beside(program.file, CARD) == program.file.with_name(CARD)
    own.write_text("my own")
    export(model, "pt2", out=own.with_name("a.pt2"))
    assert own.read_text() == "my own"
    assert beside(own.with_name("a.pt2"), PAGE) == own.with_name(PAGE)


def test_what_is_over_its_bytes_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(OverBudget, match=r"a.pt2 would have .* over the budget of 2,000"):
        export(small(), "pt2", bytes=2000, out=tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


class TwoFaced(nn.Module):
    """A model that computes otherwise when it is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        return logits.roll(int(torch.compiler.is_exporting()), dims=1)


class Choosy(nn.Module):
    """Computes what no program can say: one way for bright images, another for dark ones."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x if float(x.mean()) > 0.5 else 1 - x)
        return logits


@pytest.mark.parametrize("to", ["pt2", "onnx"])
def test_what_torch_cannot_export_is_one_sentence(to: Any, tmp_path: Path) -> None:
    if to == "onnx":
        pytest.importorskip("onnxscript")
    with pytest.raises(ValueError, match=r"^Choosy cannot be exported by torch\.\w+: Could not [^\x1b\n]*$"):
        export(Choosy(), to, resolution=16, out=tmp_path / f"a.{to}")


def test_what_is_not_the_same_model_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.pt2 is not the same model: of 64 images of noise it labels"):
        export(TwoFaced(), "pt2", out=tmp_path / "a.pt2", resolution=16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "tflite"}, "to should be one of onnx, pt2, executorch, litert"),
        ({"batch": 2}, 'batch should be 1 or "dynamic"'),
        ({"out": "a.onnx"}, r"should be a file NAME\.pt2"),
        ({"int8": True}, "a pt2 file holds floats"),
        ({"to": "executorch", "batch": "dynamic"}, "ExecuTorch plans its memory for one image at a time"),
        ({"out": "nowhere/a.pt2"}, "cannot be written"),
        ({"resolution": 0}, "resolution=0 is not a whole number of pixels above 0"),
        ({"resolution": 1}, "does not fit at 1x1"),
        ({"bytes": 0}, "bytes"),
    ],
)
def test_mistakes_are_refused_in_a_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export(small(), **{"to": "pt2", **options})


def test_a_model_that_nobody_knows_needs_a_resolution() -> None:
    with pytest.raises(ValueError, match="give resolution="):
        export(nn.Conv2d(3, 4, 1), "pt2")


@pytest.mark.parametrize("extra", ["onnx", "executorch", "litert"])
def test_a_missing_extra_is_named(extra: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"pip install 'budgetnet\[{extra}\]'"):
        export(small(), extra)
    path = tmp_path / f"a{formats.FORMATS[extra].suffix}"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"pip install 'budgetnet\[{extra}\]'"):
        read_export(path)


def test_a_package_that_cannot_be_imported_is_said_to_be_so() -> None:
    with pytest.raises(
        ValueError, match=r"nowhere is installed and cannot be imported .*budgetnet\[litert\]"
    ):
        formats.imported(formats.FORMATS["litert"], "nowhere")


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(b"no archive")
    with pytest.raises(BadModelFile, match=r"a.pt2 is damaged"):
        read_export(tmp_path / "a.pt2", trusted=True)
    with pytest.raises(BadModelFile, match="cannot be read"):
        read_export(tmp_path / "b.pt2", trusted=True)


def test_a_program_is_executed_only_where_it_is_trusted(program: Exported, tmp_path: Path) -> None:
    path = program.file
    with pytest.raises(BadModelFile, match="say trusted=True"):
        read_export(path)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    result = CliRunner().invoke(main, ["predict", str(path), str(tmp_path / "a.png")])
    assert (result.exit_code, "--trust" in result.output) == (2, True)


def test_an_exported_file_predicts_as_its_run_does(program: Exported, tmp_path: Path) -> None:
    for number, image in enumerate(toy().train.images[:6]):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    lines = []
    for file in (program.file.with_suffix(".safetensors"), program.file):
        result = CliRunner().invoke(main, ["predict", str(file), str(tmp_path), "--format", "csv", "--trust"])
        assert result.exit_code == 0, result.output
        lines.append([line.split(",")[:3] for line in result.stdout.splitlines()])
    assert lines[0] == lines[1]
    read = (small(limit=300_000), read_export(program.file, trusted=True))
    measured = [Trainer("cpu").evaluate(each, toy().train) for each in read]
    assert measured[0].pairs == measured[1].pairs


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module.", "module._orig_mod."])
def test_weights_of_a_compiled_or_parallel_model_load(wrapper: str, tmp_path: Path) -> None:
    model = small()
    save(model, tmp_path / "a.safetensors")
    stored = read_sealed(tmp_path / "a.safetensors")
    assert stored.words is not None
    words = {key: value for key, value in stored.words.items() if not key.endswith("sha256")}
    named = {f"{wrapper}{name}": tensor for name, tensor in stored.tensors().items()}
    (tmp_path / "b.safetensors").write_bytes(seal(named, words))
    images = toy().train.images
    assert torch.equal(said(load(tmp_path / "b.safetensors"), images), said(model, images))


# From the page preprocess.md alone, in NumPy.


def line(values: Pixels, begin: float, end: float, count: int, *, in_bytes: bool) -> Pixels:
    """The last axis of `values`, from `begin` to `end`, as `count` numbers."""
    b, n = np.float32(begin), np.float32(end) - np.float32(begin)
    s = float(n) / count
    r = max(s, 1.0)
    results = []
    for i in range(count):
        c = float(b) + (i + 0.5) * s
        j = np.arange(max(0, int(np.floor(c - r + 0.5))), min(values.shape[-1], int(np.floor(c + r + 0.5))))
        weights = np.maximum(0, 1 - np.abs(j + 0.5 - c) / r)
        weights /= weights.sum()
        if in_bytes:
            weights = np.floor(4194304 * weights + 0.5)
        results.append((values[..., j] * weights).sum(axis=-1))
    out = np.stack(results, axis=-1)
    return np.floor((out + 2097152) / 4194304) if in_bytes else out


def resized(
    image: Pixels,
    box: tuple[float, float, float, float],
    size: list[int],
    *,
    in_bytes: bool,
    down_first: bool,
) -> Pixels:
    """(C, H, W), of which the box (left, top, right, bottom) is taken."""
    passes = [(2, box[0], box[2], size[1]), (1, box[1], box[3], size[0])]
    for axis, begin, end, count in reversed(passes) if down_first else passes:
        image = line(image.swapaxes(axis, 2), begin, end, count, in_bytes=in_bytes).swapaxes(axis, 2)
    return image


def from_the_page(image: npt.NDArray[np.uint8], steps: dict[str, Any]) -> Pixels:
    """What preprocess.json says, done to RGB bytes (H, W, 3), or with an opacity as a fourth."""
    pixels = image.astype(np.float64).transpose(2, 0, 1)
    if len(pixels) == 4:
        pixels = np.floor((pixels[3] * pixels[:3] + (255 - pixels[3]) * 255) / 255 + 0.5)
    high, wide = image.shape[:2]
    height, width = steps["photo"]["size"]
    w, h = float(wide), float(high)
    if steps["photo"]["part"] == "centre":
        q = width / height
        w, h = min(wide, q * high), min(high, wide / q)
    left, top = (wide - w) / 2, (high - h) / 2
    down_first = bool(steps["photo"]["down_first"]) and high - height > max(0, 2 * (wide - width))
    box = (left, top, left + w, top + h)
    pixels = resized(pixels, box, [height, width], in_bytes=True, down_first=down_first)
    if steps["grey"] is not None:
        red, green, blue = (
            np.float32(weight) * plane.astype(np.float32) for weight, plane in zip(steps["grey"], pixels)
        )
        pixels = np.rint((red + green) + blue)[None]
    pixels = pixels / steps["divide_by"]
    size = steps["resize"]["size"]
    if size != [height, width]:
        pixels = resized(pixels, (0, 0, width, height), size, in_bytes=False, down_first=False)
    top, left, crop = steps["crop"]["top"], steps["crop"]["left"], steps["crop"]["size"]
    return pixels[:, top : top + crop[0], left : left + crop[1]]


CARDS = [
    (Card(stored=(32, 32), resize=24, crop=24), (24, 24)),
    (Card(stored=(96, 96), resize=110, crop=96), (110, 96)),
    (Card(stored=(20, 30), resize=24, crop=20, shape="squash"), (24, 20)),
    (Card(stored=(30, 20), resize=20, crop=16), (20, 16)),
    (Card(resize=28, crop=28, channels=1), (28, 28)),
]
SIZES = [(50, 75), (200, 61), (17, 17), (96, 96)]


def photo(number: int, high: int, wide: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    """An image of soft blots (high, wide, channels), another for each number."""
    drawn = np.random.default_rng(number)
    soft = drawn.integers(0, 256, (channels, high // 8 + 2, wide // 8 + 2), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((wide, high))) for one in soft], axis=-1)


def of_predict(path: Path, known: Card, sides: tuple[int, int]) -> Pixels:
    images = next(gather(str(path), known, batch_size=1).batches)
    return seen_in_a_test(images, resize=sides[0], crop=sides[1])[0].numpy().astype(np.float64)


@pytest.mark.parametrize(("known", "sides"), CARDS)
def test_the_page_alone_gives_the_tensors_that_predict_gives(
    known: Card, sides: tuple[int, int], tmp_path: Path
) -> None:
    steps = json.loads(json.dumps(preprocess(nn.Identity(), known, sides)))
    for number, size in enumerate(SIZES):
        Image.fromarray(photo(number, *size)).save(tmp_path / "a.png")
        ours = of_predict(tmp_path / "a.png", known, sides)
        assert np.abs(ours - from_the_page(photo(number, *size), steps)).max() < 2e-6
    shown = from_the_page(example_image().numpy(), steps)
    assert np.abs(example_input(known, sides)[0].numpy() - shown).max() < 2e-6


@pytest.mark.parametrize(("known", "sides"), [CARDS[1], CARDS[3], CARDS[4]])
def test_the_page_is_right_for_greys_palettes_opacity_and_orientation(
    known: Card, sides: tuple[int, int], tmp_path: Path
) -> None:
    steps = json.loads(json.dumps(preprocess(nn.Identity(), known, sides)))
    path, grey, clear = tmp_path / "a.png", photo(1, 70, 41, 1), photo(2, 40, 66, 4)

    def same(image: npt.NDArray[np.uint8]) -> None:
        assert np.abs(of_predict(path, known, sides) - from_the_page(image, steps)).max() < 2e-6

    Image.fromarray(grey[..., 0]).save(path)
    same(grey.repeat(3, axis=-1))
    Image.fromarray(grey[..., 0].astype(np.uint16) * 257).save(path)
    same(grey.repeat(3, axis=-1))
    Image.fromarray(clear).save(path)
    same(clear)
    colours = np.random.default_rng(3).integers(0, 256, (256, 3), dtype=np.uint8)
    indexed = Image.fromarray(grey[..., 0])
    indexed.putpalette(colours.tobytes())
    indexed.save(path)
    same(colours[grey[..., 0]])
    indexed.save(path, transparency=bytes(range(256)))
    same(np.hstack([colours, np.arange(256, dtype=np.uint8)[:, None]])[grey[..., 0]])
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(clear[..., :3]).save(path, exif=turned)
    same(np.rot90(clear[..., :3], -1))


def test_a_large_jpeg_is_decoded_at_the_scale_that_the_page_says(tmp_path: Path) -> None:
    known, sides = Card(stored=(16, 16), resize=16, crop=16), (16, 16)
    steps = preprocess(nn.Identity(), known, sides)
    path = tmp_path / "a.jpg"
    for high, wide in [(129, 200), (64, 600), (63, 63), (257, 513)]:
        Image.fromarray(photo(5, high, wide)).save(path)
        s = max(scale for scale in (1, 2, 4, 8) if scale <= max(1, min(wide // 32, high // 32)))
        with Image.open(path) as opened:
            opened.draft(None, (wide // s, high // s))
            decoded = np.asarray(opened)
        assert decoded.shape[:2] == (-(-high // s), -(-wide // s))
        assert np.abs(of_predict(path, known, sides) - from_the_page(decoded, steps)).max() < 2e-6


# What takes onnx, which the extra brings.


@pytest.fixture
def onnx() -> Any:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("onnx")


@pytest.mark.slow
def test_an_onnx_file_is_one_small_file_that_says_all(onnx: Any, tmp_path: Path) -> None:
    model, path = small(), tmp_path / "a.onnx"
    exported = export(model, data=toy(), out=path, batch=1)
    assert exported.comparison.same
    assert path.stat().st_size < exported.comparison.before.bytes + 4000
    words = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert len(words.pop("sha256")) == 64
    words = {key: json.loads(text) for key, text in words.items()}
    assert words["card"]["classes"] == ["a", "b", "c"]
    assert words["card"]["budget"] == {"bytes": 100_000}
    assert words["preprocess"]["crop"] == {"size": [16, 16], "top": 0, "left": 0}
    assert set(words["versions"]) == {"budgetnet", "torch", "onnx", "opset"}
    images = toy().train.images
    assert torch.allclose(said(read_export(path), images), said(model, images), atol=1e-5)
    whole = path.read_bytes()
    for content in (whole[:-100], whole[:90] + b"x" + whole[91:], whole + b"x", b""):
        path.write_bytes(content)
        with pytest.raises(BadModelFile, match=r"a.onnx is damaged"):
            read_export(path)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 6])
def test_weights_of_few_bits_keep_them(onnx: Any, bits: int, tmp_path: Path) -> None:
    few = small(Quantised(models.convnet, bits=bits), widths=(24, 48))
    exported = export(few, data=toy(), out=tmp_path / "a.onnx")
    assert exported.comparison.same
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "a.onnx").graph.initializer if tensor.dims}
    assert onnx.TensorProto.INT8 in kinds
    assert (onnx.TensorProto.INT4 in kinds) == (bits == 4)
    assert exported.comparison.after.bytes < exported.comparison.before.bytes * (1.3 if bits == 4 else 1.6)


@pytest.mark.slow
def test_eight_bits_are_a_quarter_of_the_file_and_judged_by_labels(onnx: Any, tmp_path: Path) -> None:
    model = small(widths=(24, 48), limit=300_000)
    exported = export(model, data=toy(), out=tmp_path / "a.onnx", int8=Int8(tolerate=100))
    assert exported.comparison.after.bytes < 0.4 * exported.comparison.before.bytes
    with pytest.raises(ValueError, match="int8 is judged by its accuracy"):
        export(model, out=tmp_path / "c.onnx", int8=True)
    assert not (tmp_path / "c.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (models.convnet, {"widths": (16, 32)}),
        (models.resnet, {"widths": (16, 32, 64), "blocks": (2, 2, 2)}),
        (models.mobilenet, {"width": 0.25}),
        (torchvision.models.shufflenet_v2_x0_5, {"widths": None}),
        (torchvision.models.DenseNet, {"growth_rate": 8, "block_config": (2, 2, 2), "widths": None}),
        (torchvision.models.mobilenet_v3_small, {"width_mult": 0.5, "widths": None}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_bytes_of_an_int8_budget_bound_the_file_and_are_near_it(
    onnx: Any, tmp_path: Path, make: Any, options: dict[str, Any]
) -> None:
    named = {key: value for key, value in options.items() if value is not None}
    classes = {"classes": 3} if make.__module__.startswith("budgetnet") else {"num_classes": 3}
    torch.manual_seed(0)
    model = Budget(bytes="9MB", stored="int8").build(make, **classes, **named)
    model.train()
    for _ in range(4):
        model(toy().train.images[:32].float() / 255)
    model.card = replace(described(model), classes=("a", "b", "c"), resize=16, crop=16, stored=(16, 16))
    bound = ledger(model, stored="int8").saved
    exported = export(model.eval(), data=toy(), out=tmp_path / "a.onnx", int8=Int8(tolerate=100))
    real = exported.comparison.after.bytes
    print(f"{make.__name__}: {real:,} of at most {bound:,}")
    assert real == (tmp_path / "a.onnx").stat().st_size
    assert real <= bound <= 1.3 * real + 8192
    tight = replace(Budget(bytes=9, stored="int8"), bytes=real - 100)  # the card is part of the file
    model.card = replace(model.card, budget=tight.describe())
    with pytest.raises(OverBudget, match="over the budget"):
        export(model, data=toy(), out=tmp_path / "b.onnx", int8=Int8(tolerate=100))
    export(model, data=toy(), out=tmp_path / "b.pt2", to="pt2", batch=1)  # that budget is not of floats
