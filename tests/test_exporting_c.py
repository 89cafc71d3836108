"""What is promised of exports in C: the very bytes that were checked, and an arena in which they run."""

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner
from test_exporting_formats import installed, network, photographed

from budgetnet import Data, Int8, Trainer, digits, export, models, read_export
from budgetnet.budget import OverBudget
from budgetnet.cli import main
from budgetnet.exporting.arena import Program
from budgetnet.exporting.embedded import c_source, is_ours, program_of, read_c
from budgetnet.exporting.formats import FORMATS, sealed, with_words
from budgetnet.modelfile import BadModelFile

COMPILERS = {
    "cc": ("-std=c99", "-pedantic"),
    "gcc": ("-std=c11", "-pedantic"),
    "g++": ("-std=c++14", "-pedantic", "-x", "c++"),
}
Codes = npt.NDArray[np.int8]

MAIN = r"""
#include <stdio.h>
#include "NAME.h"
int main(void) {
  int each;
  fwrite(NAME_data, 1, sizeof NAME_data, stdout);
  for (each = 0; each < CLASSES; each++) fprintf(stderr, "%s\n", NAME_classes[each]);
  return (int)((size_t)NAME_data % 16);
}
"""


def compiled(folder: Path, name: str, classes: int, compiler: str = "cc") -> tuple[bytes, list[str]]:
    """The array and the classes as a program of C has them. Skips where there is no such compiler."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no compiler {compiler}")
    (folder / "main.c").write_text(MAIN.replace("NAME", name).replace("CLASSES", str(classes)))
    warnings = ("-Wall", "-Wextra", "-Werror")
    files = (f"{name}.c", "main.c", "-o", "told")
    subprocess.run([compiler, *warnings, *COMPILERS[compiler], *files], cwd=folder, check=True, timeout=120)
    done = subprocess.run([folder / "told"], capture_output=True, check=True, timeout=60)
    return done.stdout, done.stderr.decode().splitlines()


HOSTILE = ("*/ int x;", "/* nested", 'a "quoted" \\ one', "what??/", "Ä ☃", "%d")


def content(program: bytes = bytes(range(256)) * 3 + b"\0\xff") -> bytes:
    """A whole .tflite file, but for its program, whose classes have names that C would trip over."""
    words: dict[str, Any] = {"card": {"classes": HOSTILE}, "preprocess": {}, "versions": {"budgetnet": "1"}}
    texts = {key: json.dumps(value, separators=(",", ":")) for key, value in words.items()}
    return sealed(with_words(program, texts), FORMATS["litert"])


def test_an_array_is_the_program_byte_for_byte_whatever_classes_are_called(tmp_path: Path) -> None:
    (tmp_path / "net.c").write_text(c_source(content(), "net"))
    (tmp_path / "net.h").write_text(
        f"#define NET_BYTES {256 * 3 + 2}\n#define NET_ALIGNED __attribute__((aligned(16)))\n"
        "extern const unsigned char net_data[NET_BYTES];\nextern const char *const net_classes[6];\n"
    )
    assert compiled(tmp_path, "net", len(HOSTILE)) == (bytes(range(256)) * 3 + b"\0\xff", list(HOSTILE))
    assert program_of(content()) == bytes(range(256)) * 3 + b"\0\xff"


def test_a_file_of_c_reads_back_as_what_was_checked_and_is_refused_when_it_was_changed() -> None:
    text = c_source(content(), "some net")
    assert read_c(text) == content()
    for old, new in (("0x05", "0x06"), ("budgetnet", "budgetNet"), ("};", "} ;"), ("quoted", "quotes")):
        with pytest.raises(ValueError, match=r"changed since|no array"):
            read_c(text.replace(old, new, 1))
    with pytest.raises(ValueError, match="no array"):
        read_c("int main(void) { return 0; }")


def test_an_arena_is_limited_only_where_there_is_one() -> None:
    with pytest.raises(ValueError, match="ram limits the arena of an export to C"):
        export(models.convnet(10), "onnx", ram="64KB")
    with pytest.raises(ValueError, match="is not a budget"):
        export(models.convnet(10), "c", ram="much")


@cache
def trained() -> tuple[Any, Data]:
    """A network that knows its digits, and these."""
    data = digits()
    from budgetnet import SGD, Cosine, Phase, Recipe

    recipe = Recipe([Phase(epochs=4, resolution=8, lr=Cosine(0.1))], optimizer=SGD(weight_decay=5e-4))
    model = models.convnet(10, channels=1, widths=(16, 32))
    Trainer("cpu", out=None, show=False).fit(model, data, recipe)
    return model, data


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    installed("c")
    path = tmp_path_factory.mktemp("c") / "digit_net.c"
    model, data = trained()
    export(model, "c", data=data, out=path, int8=Int8(tolerate=2), resolution=8)
    return path


def on_a_microcontroller(program: bytes, arena: int, images: torch.Tensor) -> Codes:
    """What LiteRT for Microcontrollers says of int8 images, in so many bytes of RAM."""
    runtime: Any = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    interpreter = runtime.Interpreter.from_bytes(program, arena_size=arena)
    said = []
    for image in images:
        interpreter.set_input(image[None].numpy(), 0)
        interpreter.invoke()
        said.append(interpreter.get_output(0)[0].copy())
    return np.stack(said)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
def test_what_a_compiler_makes_of_an_export_is_what_was_checked(embedded: Path, compiler: str) -> None:
    whole = read_c(embedded.read_text())
    program, classes = compiled(embedded.parent, embedded.stem, 10, compiler)
    assert program == program_of(whole)
    assert classes == list(map(str, range(10)))
    if compiler != "cc":
        return
    # The same file that an export to LiteRT writes.
    model, data = trained()
    other = embedded.with_suffix(".tflite")
    export(model, "litert", data=data, out=other, int8=Int8(tolerate=2), resolution=8)
    assert other.read_bytes() == whole


@pytest.mark.slow
def test_an_interpreter_for_microcontrollers_says_the_same_in_the_arena_of_the_header(embedded: Path) -> None:
    _, data = trained()
    assert data.val is not None
    images = torch.as_tensor(data.val.images)[:100].float() / 255
    model: Any = read_export(embedded)
    program = program_of(read_c(embedded.read_text()))
    arena = Program(program).arena
    assert f"DIGIT_NET_ARENA_BYTES {arena} " in embedded.with_suffix(".h").read_text()
    codes = on_a_microcontroller(program, arena, model.scales[0].of(images))
    theirs = model.scales[1].numbers(torch.from_numpy(codes))
    assert float((theirs.argmax(1) == model(images).argmax(1)).float().mean()) >= 0.98
    with pytest.raises(Exception, match=r"."):
        on_a_microcontroller(program, Program(program).planned // 2, images[:1].to(torch.int8))


@pytest.mark.slow
def test_c_of_the_users_own_is_not_written_over(embedded: Path, tmp_path: Path) -> None:
    assert is_ours(embedded)
    assert is_ours(embedded.with_suffix(".h"))
    (tmp_path / "main.h").write_text("#pragma once\n")
    (tmp_path / "main.c").write_text('#include "main.h"\n')
    for name in ("main.h", "main.c"):
        with pytest.raises(ValueError, match=r"main\.[ch] is there already, and no export wrote it"):
            export(models.convnet(10, channels=1, widths=(8,)), "c", out=tmp_path / "main.c", resolution=8)
        (tmp_path / name).unlink()


@pytest.mark.slow
def test_a_file_of_c_predicts_and_evaluates_as_others_do(embedded: Path) -> None:
    _, data = trained()
    assert data.val is not None
    trainer = Trainer("cpu", show=False)
    assert trainer.evaluate(read_export(embedded), data.val).accuracy > 0.8
    text = embedded.read_text()
    damaged = embedded.with_name("damaged.c")
    damaged.write_text(text.replace("0x1", "0x2", 1))
    with pytest.raises(BadModelFile, match="changed since"):
        read_export(damaged)
    result = CliRunner().invoke(main, ["evaluate", str(embedded), "quickstart"])
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_an_arena_over_its_budget_leaves_no_file(tmp_path: Path) -> None:
    installed("c")
    model, data = trained()
    options: dict[str, Any] = {"data": data, "int8": Int8(tolerate=2), "resolution": 8}
    with pytest.raises(OverBudget, match=r"would take an arena of .* over the budget of 4,000"):
        export(model, "c", out=tmp_path / "a.c", ram="4KB", **options)
    assert list(tmp_path.iterdir()) == []
    done = export(model, "c", out=tmp_path / "a.c", ram="64KB", **options)
    assert done.comparison.arena is not None
    assert done.comparison.arena <= 64_000
    assert "bytes of a microcontroller's arena" in str(done)


GELU = ("speednet", "timm's vit")
NETWORKS = [
    "convnet", "mini_resnet", "mobilenet", "resnet", "vgg", "timm's mobilenetv3", *GELU,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_runs_in_its_arena(name: str, tmp_path: Path) -> None:
    installed("c")
    make: Callable[[], Any] = lambda: export(  # noqa: E731
        network(name), "c", data=photographed(), out=tmp_path / "a.c", int8=Int8(tolerate=100)
    )
    if name in GELU:
        with pytest.raises(ValueError, match="LiteRT for Microcontrollers has no GELU"):
            make()
        return
    arena = make().comparison.arena
    program = program_of(read_c((tmp_path / "a.c").read_text()))
    images = torch.zeros(1, 3, 32, 32, dtype=torch.int8)
    assert on_a_microcontroller(program, arena, images).shape == (1, 10)
