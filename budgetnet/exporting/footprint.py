"""Footprint: the memory that a process of its own needs for one image; run as a program, that process itself.

For exported files it imports nothing of budgetnet: they are charged with what their own runtime takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_TIMES, _PATIENCE = 3, 300


def footprint(file: Path, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The peak in bytes of a fresh process that runs `file` on one image of `shape` (C, H, W).

    And how much of that its libraries had not taken before. None where that cannot be measured: not on Linux,
    or for a pickled model whose class only this process knows.
    """
    command = [sys.executable, "-P", __file__, str(file.absolute()), *map(str, shape)]
    # What is importable here is importable there.
    paths = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            env=os.environ | {"PYTHONPATH": paths},
            check=True,
        )
        whole, own = json.loads(done.stdout.splitlines()[-1])
        return int(whole), int(own)
    except (OSError, ValueError, IndexError, TypeError, subprocess.SubprocessError):
        return None


def _memory(name: str) -> int:
    """A line of this process's status, in bytes: VmHWM is its peak, VmRSS what it has now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _libraries(suffix: str) -> Callable[[str, tuple[int, ...]], None]:
    """Import what such files take, and give what loads one and runs it on an image."""
    import numpy as np

    if suffix == ".onnx":
        import onnxruntime

        def onnx(file: str, shape: tuple[int, ...]) -> None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = 1, 3
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            for _ in range(_TIMES):
                session.run(None, {session.get_inputs()[0].name: np.zeros((1, *shape), np.float32)})

        return onnx
    if suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter

        def litert(file: str, shape: tuple[int, ...]) -> None:
            interpreter = Interpreter(model_path=file, num_threads=1)
            interpreter.allocate_tensors()
            taken = interpreter.get_input_details()[0]
            for _ in range(_TIMES):
                interpreter.set_tensor(taken["index"], np.zeros((1, *shape), taken["dtype"]))
                interpreter.invoke()

        return litert
    import torch
    import torch.export

    torch.set_num_threads(1)
    if suffix == ".pte":
        from executorch.runtime import Runtime

        runtime = Runtime.get()
    elif suffix != ".pt2":
        # What a pickled model is made of, mostly.
        import budgetnet.layers  # noqa: F401

    def torches(file: str, shape: tuple[int, ...]) -> None:
        image = torch.zeros(1, *shape)
        with torch.inference_mode():
            if suffix == ".pte":
                program = runtime.load_program(file)  # kept while its method is used
                method = program.load_method("forward")
                for _ in range(_TIMES):
                    method.execute([image])
                return
            opened = suffix == ".pt2"
            model = torch.export.load(file).module() if opened else torch.load(file, weights_only=False)
            for _ in range(_TIMES):
                model(image)

    return torches


def main(file: str, *shape: str) -> None:
    """Print the peak, and how much of it came after the libraries."""
    run = _libraries(Path(file).suffix)
    before = _memory("VmHWM")
    with suppress(OSError):
        # From here on the peak counts anew.
        Path("/proc/self/clear_refs").write_text("5")
    held = _memory("VmRSS")
    run(file, tuple(map(int, shape)))
    print(json.dumps([max(before, _memory("VmHWM")), max(0, _memory("VmHWM") - held)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
