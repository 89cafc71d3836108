"""What is promised of every format: each network of ours, and two of timm, is the same model on images."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from budgetnet import Data, Int8, Split, Trainer, export, ledger, models, read_export
from budgetnet.cli import main
from budgetnet.data import digits
from budgetnet.exporting import FORMATS, Format
from budgetnet.layers import basic
from budgetnet.modelfile import BadModelFile, described

pytestmark = pytest.mark.slow


def timm(name: str, **options: Any) -> nn.Module:
    model: nn.Module = pytest.importorskip("timm").create_model(name, num_classes=10, **options)
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convnet": partial(models.convnet, 10, widths=(16, 32)),
    "efficientnet": partial(models.efficientnet, 10),
    "mini_resnet": partial(models.mini_resnet, 10, resolution=32, blocks=4, hidden=64),
    "mobilenet": partial(models.mobilenet, 10, width=0.25, stem_stride=1),
    "resnet": partial(models.resnet, 10, widths=(16, 32), blocks=(1, 1), block=basic, stem=16),
    "resnet18": partial(models.resnet18, 10),
    "resnet34": partial(models.resnet34, 10),
    "resnext50": partial(models.resnext50, 10),
    "speednet": partial(models.speednet, 10, widths=(16, 32, 32)),
    "vgg": partial(models.vgg, 10, resolution=32, widths=(8, 16, 16, 32, 32), hidden=64),
    "timm's mobilenetv3": partial(timm, "mobilenetv3_small_050"),
    "timm's vit": partial(timm, "vit_tiny_patch16_224", img_size=32, patch_size=8),
}


@cache
def photographed() -> Data:
    """Scans of written digits, 1,000 of them held out, as colour images of 32 pixels."""
    scans = digits()
    parts = (scans.train, scans.val)
    shown = torch.cat([torch.as_tensor(part.images) for part in parts if part is not None])
    labels = torch.cat([part.labels for part in parts if part is not None])
    large = nn.functional.interpolate(shown.float(), (32, 32), mode="bilinear").round().to(torch.uint8)
    images = large.expand(-1, 3, -1, -1).contiguous()
    val, train = (Split(images[rows], labels[rows], rows) for rows in torch.arange(1500).split([1000, 500]))
    return Data(train, val, None, scans.classes, "written digits")


@cache
def network(name: str) -> nn.Module:
    """A network that tells images apart: its norms have seen some, and a few steps have moved its weights."""
    torch.manual_seed(0)
    model = NETWORKS[name]().train()
    train = photographed().train
    images, labels = torch.as_tensor(train.images).float() / 255, train.labels
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for rows in torch.arange(256).split(32):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
    card = replace(described(model), classes=photographed().classes, resize=32, crop=32, stored=(32, 32))
    model.card = card  # type: ignore[assignment]
    return model.eval()


def installed(to: str) -> Format:
    """The format, where what it takes is there."""
    form = FORMATS[to]
    missing = [name for name in form.packages if find_spec(name) is None]
    if missing:
        pytest.skip(f"takes the extra {form.extra}: {', '.join(missing)}")
    return form


# resnet34 has the operators of resnet18, more often: once is enough.
PAIRS = [(to, name) for to in FORMATS for name in NETWORKS if to == "onnx" or name != "resnet34"]


@pytest.mark.parametrize(("to", "name"), PAIRS)
def test_each_network_is_the_same_model_in_each_format(to: Any, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{installed(to).suffix}"
    whole = photographed()
    data = replace(whole, val=whole.val.subset(torch.arange(200)))  # ExecuTorch's portable kernels are slow
    if to == "c" and name in ("speednet", "timm's vit"):
        with pytest.raises(ValueError, match="LiteRT for Microcontrollers has no GELU"):
            export(network(name), to, data=data, out=path)
        return
    compared = export(network(name), to, data=data, out=path).comparison
    assert compared.images == 200
    assert compared.same
    assert compared.differ == compared.ties


@pytest.mark.parametrize("name", ["convnet", "mobilenet", "resnet", "speednet", "vgg"])
def test_the_ram_of_a_budget_is_what_a_memory_planner_takes(name: str) -> None:
    """ExecuTorch's, of networks whose operators it does not split into others."""
    installed("executorch")
    from executorch import exir

    model = NETWORKS[name]().eval()
    program = torch.export.export(model, (torch.rand(1, 3, 32, 32),))
    edge = exir.to_edge(program, compile_config=exir.EdgeCompileConfig(_check_ir_validity=False))
    planned = sum(edge.to_executorch().executorch_program.execution_plan[0].non_const_buffer_sizes)
    assert planned == pytest.approx(ledger(model, 32).ram, rel=0.02)


def onnxruntime_holds(model: nn.Module, folder: Path) -> int:
    """The most bytes at once of what onnxruntime's operators wrote and somebody reads later, as it tells."""
    import onnx
    import onnxruntime

    export(model, out=folder / "a.onnx", batch=1, resolution=32)
    options = onnxruntime.SessionOptions()
    # Without what suits this processor alone, such as layouts of 16 channels at a time.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = onnxruntime.InferenceSession(folder / "a.onnx", options, providers=["CPUExecutionProvider"])
    session.run(None, {"images": torch.zeros(1, 3, 32, 32).numpy()})
    told = json.loads(Path(session.end_profiling()).read_text())
    nodes = list(onnx.load(folder / "optimised.onnx").graph.node)
    named = {node.name: node for node in nodes if node.name}
    fused = [node for node in nodes if not node.name]  # in the order in which they run
    steps = []
    for event in told:
        name, _, kernel = event["name"].rpartition("_kernel_time")
        if not name or kernel:
            continue
        node = named.get(name) or next(each for each in fused if each.op_type == event["args"]["op_name"])
        if node in fused:
            fused.remove(node)
        steps.append((node, int(event["args"]["output_size"])))
    assert len(steps) == len(nodes)
    last = {name: at for at, (node, _) in enumerate(steps) for name in node.input}
    held, most = {"images": 3 * 32 * 32 * 4}, 0
    for at, (node, size) in enumerate(steps):
        if node.op_type in (
            "Add",
            "Mul",
            "Sub",
            "Div",
            "Relu",
            "LeakyRelu",
            "HardSigmoid",
            "Sigmoid",
            "Clip",
        ):
            # Its kernel writes over an input of its size that nobody else reads.
            over = [name for name in node.input if held.get(name) == size and last[name] == at]
            held = {name: each for name, each in held.items() if name not in over[:1]}
        held[node.output[0]] = size
        most = max(most, sum(held.values()))
        held = {name: size for name, size in held.items() if last.get(name, len(steps)) > at}
    return most


@pytest.mark.parametrize("name", NETWORKS)
def test_the_ram_of_a_budget_bounds_what_onnxruntime_holds(name: str, tmp_path: Path) -> None:
    installed("onnx")
    assert onnxruntime_holds(network(name), tmp_path) <= (ledger(network(name), 32).ram or 0)


@pytest.mark.parametrize("to", [name for name, form in FORMATS.items() if form.int8])
def test_eight_bits_are_a_smaller_file_of_about_the_same_accuracy(to: Any, tmp_path: Path) -> None:
    path = tmp_path / f"a{installed(to).suffix}"
    model = network("convnet")
    floats = export(model, to, data=photographed(), out=path).comparison
    eight = export(model, to, data=photographed(), out=path, int8=Int8(tolerate=2)).comparison
    assert eight.lost <= 2
    assert eight.after.bytes < 0.75 * floats.after.bytes
    again = Trainer("cpu", show=False).evaluate(read_export(path), photographed().val)
    assert again.accuracy == eight.after.accuracy


@pytest.mark.parametrize("to", ["onnx", "executorch", "litert"])
def test_predict_and_evaluate_take_each_format_and_refuse_what_is_damaged(to: Any, tmp_path: Path) -> None:
    path = tmp_path / f"a{installed(to).suffix}"
    model, val = network("convnet"), photographed().val
    export(model, to, out=path)
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(torch.as_tensor(val.images)[:10]):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "photos" / f"{number}.png")
    trainer = Trainer("cpu", show=False)
    assert trainer.evaluate(read_export(path), val).pairs == trainer.evaluate(model, val).pairs
    command = ["predict", str(path), str(tmp_path / "photos"), "--format", "csv"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    said = [line.split(",")[1] for line in result.stdout.splitlines()[1:]]
    assert said == trainer.predict(model, str(tmp_path / "photos")).named()
    content = path.read_bytes()
    drawn = torch.Generator().manual_seed(0)
    for at in torch.randint(len(content), (20,), generator=drawn).tolist():
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(BadModelFile):
            read_export(path)
    assert CliRunner().invoke(main, command).exit_code == 2
