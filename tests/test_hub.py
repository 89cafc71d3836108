"""What is promised of cards and hubs: the page says what is recorded, and a file is known by its digest."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import budgetnet
from budgetnet import SGD, Budget, Cosine, Phase, Recipe, Run, Trainer, digits, models
from budgetnet.cli import main
from budgetnet.data import Unavailable
from budgetnet.exporting import model_card, push
from budgetnet.modelfile import card, weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    model = Budget(bytes="400KB").build(models.convnet, classes=10, channels=1, widths=(4, 8))
    recipe = Recipe([Phase(epochs=1, resolution=8, lr=Cosine(0.1))], optimizer=SGD())
    return Trainer("cpu", show=False, out=tmp_path_factory.mktemp("runs")).fit(
        model, digits(), recipe, name="a|b"
    )


def test_a_card_says_what_is_recorded(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.folder is not None
    page = model_card(run, licence="Apache-2.0")
    images = run.result["val_images"]
    for said in (
        "license: apache-2.0",
        "library_name: budgetnet",
        f"| validation | {images:,} | {100 * run.result['val_accuracy']:.2f} % | ",
        "10 classes: 0, 1, 2",
        "digits: ",
        "Limits: bytes 400,000.",
        "It began from random weights.",
        "- seed: 0",
        "No test images were measured",
    ):
        assert said in page, said
    assert "None was given" in model_card(run.folder / "model.safetensors")
    out = CliRunner().invoke(main, ["card", str(run.folder), "--licence", "my own terms", "--out", "card.md"])
    assert out.exit_code == 0, out.output
    assert "license: other" in Path("card.md").read_text()
    exported = budgetnet.export(run, "pt2", out="a.pt2").file
    again = exported.with_name("card.md").read_text()
    assert "\nmy own terms\n" in again
    assert "images of noise: logits differ by at most" in again


def test_a_card_says_what_is_recorded_beside_weights_that_come_along(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["card", "stl10_300kb"])
    for said in (
        "| validation | 1,000 | 85.00 % | 82.",
        "- recipe: stl10_300kb.py",
        "- minutes: 121.9",
        "No test images were measured",
    ):
        assert said in result.output, result.output
    alone = tmp_path / "stl10_300kb.safetensors"
    alone.write_bytes(Path(weights()["stl10_300kb"]).read_bytes())
    assert "How it was trained is not recorded." in model_card(alone)
    alone.with_suffix(".json").write_text('{"result": "of something else"}')
    assert "How it was trained is not recorded." in model_card(alone)


class Hub(BaseHTTPRequestHandler):
    """As much of a model hub as a push and a download need; `stored` is what it was given."""

    stored: dict[str, bytes]
    private: list[Any]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer: dict[str, Any] = {}
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            type(self).private.append(asked.get("private") or asked.get("visibility") == "private")
            answer = {"url": f"http://{self.headers['Host']}/me/digits", "name": "me/digits"}
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            answer = {
                "files": [
                    {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in asked
                ]
            }
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    type(self).stored[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            answer = {
                "commitUrl": f"http://{self.headers['Host']}/me/digits/commit/0",
                "commitOid": "0" * 40,
                "success": True,
            }
        self._say(json.dumps(answer).encode(), "application/json")

    def do_GET(self) -> None:
        content = type(self).stored.get(self.path.removeprefix("/me/digits/resolve/main/"))
        if content is None:
            self.send_error(404)
        else:
            self._say(content, "application/octet-stream")

    def _say(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    Hub.stored, Hub.private = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BUDGETNET_OFFLINE", raising=False)
    yield Hub
    server.shutdown()
    server.server_close()


def test_what_is_pushed_comes_back_by_its_digest(run: Run, hub: type[Hub]) -> None:
    pytest.importorskip("huggingface_hub")
    assert run.folder is not None
    result = CliRunner().invoke(main, ["push", str(run.folder), "me/digits", "--licence", "mit", "--private"])
    assert result.exit_code == 0, result.output
    content = (run.folder / "model.safetensors").read_bytes()
    assert hub.stored["model.safetensors"] == content
    assert hub.stored["README.md"].startswith(b"---\nlicense: mit\n")
    assert set(hub.private) == {True}
    reference = f"hub:me/digits@{hashlib.sha256(content).hexdigest()}"
    assert reference in result.output
    again = budgetnet.load(reference)
    assert card(again) == card(budgetnet.load(run.folder))
    hub.stored.clear()
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(budgetnet.load(reference)(images), again(images))  # from the cache


def test_other_bytes_than_the_digest_says_are_refused(
    hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.stored["model.safetensors"] = b"another file"
    with pytest.raises(ValueError, match=r"came with the SHA-256 .* and was deleted"):
        budgetnet.load(f"hub:me/digits@{'0' * 64}")
    monkeypatch.setenv("BUDGETNET_OFFLINE", "1")
    with pytest.raises(ValueError, match="BUDGETNET_OFFLINE"):
        budgetnet.load(f"hub:me/digits@{'0' * 64}")


def test_nothing_is_pushed_offline(run: Run, hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUDGETNET_OFFLINE", "1")
    with pytest.raises(Unavailable, match="me/digits was not pushed, BUDGETNET_OFFLINE is set: unset it"):
        push(run, "me/digits")
    result = CliRunner().invoke(main, ["push", str(run.folder), "me/digits"])
    assert result.exit_code == 1
    assert result.output == "Error: me/digits was not pushed, BUDGETNET_OFFLINE is set: unset it\n"
    assert not hub.stored
    assert not hub.private


@pytest.mark.parametrize("name", ["hub:me/digits", "hub:me/digits@main", f"hub:../..@{'0' * 64}", "hub:"])
def test_a_reference_without_its_digest_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="should be hub:OWNER/NAME@DIGEST"):
        budgetnet.load(name)


def test_what_cannot_be_pushed_is_a_sentence(
    run: Run, hub: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="should be OWNER/NAME"):
        push(run, "digits")
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="was not pushed"):
        push(run, "me/digits")
