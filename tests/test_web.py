"""The page of docs/devices.md in a real browser: onnxruntime-web says of photos what Python says."""

import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from test_browser import BROWSER
from test_docs import DOCS, blocks

from budgetnet import Int8, Trainer, export, models, read_export

pytestmark = pytest.mark.slow

# `make test-slow` puts the package of npm there.
RUNTIME = Path(sys.prefix) / "web" / "package" / "dist"
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


class Handler(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".wasm": "application/wasm",
        ".mjs": "text/javascript",
        ".js": "text/javascript",
    }

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright, for pages in a browser")
    if BROWSER is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    if not all((RUNTIME / name).is_file() for name in FILES):
        pytest.skip(f"no onnxruntime-web in {RUNTIME}: make test-slow fetches it by npm, where npm is")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder with the page and the runtime, and the address on this machine that serves it."""
    for name in FILES:
        (tmp_path / name).symlink_to(RUNTIME / name)
    for block in blocks(DOCS / "devices.md"):
        if block.kind in ("js", "html"):
            (tmp_path / block.mark).write_text(block.text)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def photos(folder: Path, grey: bool) -> list[Path]:
    """Photos of digits, large, oblong and tiny, with grain, some of them grey or turned by their EXIF."""
    from budgetnet import digits

    folder.mkdir()
    drawn = np.random.default_rng(0)
    scans = torch.as_tensor(digits().val.images)[:24, 0].numpy()  # type: ignore[union-attr]
    for number, scan in enumerate(scans):
        size = [(96, 96), (121, 67), (40, 150), (8, 8)][number % 4]
        image = Image.fromarray(scan).resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(image)[..., None].astype(np.int64) * [1, 1, 1] + drawn.integers(
            -9, 9, (*size[::-1], 3)
        )
        shown = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        if grey and number % 3 == 0:
            shown = shown.convert("L")
        exif = shown.getexif()
        if number % 5 == 0:
            exif[0x0112] = 6
        shown.save(folder / f"{number:02d}.png", exif=exif)
    return sorted(folder.iterdir())


def said(view: Any, paths: list[Path]) -> list[str]:
    """What the page says of each photo that is chosen."""
    view.wait_for_function("document.getElementById('said').value === 'ready'")
    labels = []
    for path in paths:
        view.evaluate("document.getElementById('said').value = ''")
        view.set_input_files("#photo", path)
        view.wait_for_function("document.getElementById('said').value !== ''")
        labels.append(view.evaluate("document.getElementById('said').value"))
    return labels


@pytest.mark.parametrize("int8", [False, True], ids=["floats", "int8"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_page_labels_photos_as_python_does(
    browser: Any, served: tuple[Path, str], channels: int, int8: bool
) -> None:
    pytest.importorskip("onnxscript", reason="takes the extra onnx")
    folder, address = served
    model, data = trained(channels)
    export(model, data=data, out=folder / "model.onnx", int8=Int8(tolerate=5) if int8 else False)
    paths = photos(folder / "photos", channels == 1)
    view, told, asked = browser.new_page(), [], []
    view.on("console", lambda message: told.append(message.text))
    view.on("pageerror", lambda error: told.append(str(error)))
    view.on("request", lambda request: asked.append(request.url))
    view.goto(address)
    trainer = Trainer("cpu", show=False)
    ours = trainer.predict(read_export(folder / "model.onnx"), str(folder / "photos")).named()
    assert said(view, paths) == ours
    assert len(set(ours)) > 3
    assert all(url.startswith((address, "blob:", "data:")) for url in asked)
    assert told == []
    view.close()


def trained(channels: int) -> tuple[Any, Any]:
    """A network that knows its digits, seen at 20 pixels and cut to 16, of images that are stored at 24."""
    from dataclasses import replace

    from test_exporting_formats import photographed

    from budgetnet import SGD, Cosine, Phase, Recipe, Test
    from budgetnet.data import Data, Split

    whole = photographed()
    parts = {}
    for name, split in whole.splits.items():
        images = torch.nn.functional.interpolate(torch.as_tensor(split.images).float(), (24, 24), mode="area")
        parts[name] = Split(images[:, :channels].round().to(torch.uint8), split.labels, split.indices)
    data = replace(whole, train=parts["train"], val=parts["val"])
    assert isinstance(data, Data)
    phase = Phase(epochs=40, resolution=16, lr=Cosine(0.1), test=Test(resize=20, crop=16))
    model = models.convnet(10, channels=channels, widths=(16, 32))
    Trainer("cpu", out=None, show=False).fit(model, data, Recipe([phase], optimizer=SGD(weight_decay=5e-4)))
    return model, data
