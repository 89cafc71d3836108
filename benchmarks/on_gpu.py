"""All that this project has to measure on a GPU, in one command that can be cut off and goes on.

    python benchmarks/on_gpu.py --data DIR --airbench airbench94_muon.py [--out DIR] [--minutes 9]

One piece after the other, each a process of its own whose output goes to a file in --out ($OUT, or
`gpu-evidence`): the tests that need CUDA (tests/test_on_gpu.py and others), fixres_stl10's steps beside two
other loops and the floor (benchmarks/gpu.py), CIFAR-10 to 94 % beside airbench (speedrun.py), evaluation
beside a loop by hand (evaluation.py), and several runs at once (together.py). Pieces that are done are not
done again, so that the same command, given again, goes on; after --minutes no piece is begun, and one that is
under way is stopped and begun again the next time. What was compiled is kept in --out too, unless
TORCHINDUCTOR_CACHE_DIR says where: take it along to the next machine of the kind, since a compilation may
take minutes. Run nothing beside it, which starves the host that a GPU waits for. DIR holds stl10_binary and
cifar-10-batches-bin; a piece whose data are not there is left out, with a line that says so.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from budgetnet.console import say

HERE = Path(__file__).parent
OURS = {"PYTHONPATH": str(HERE.parent), "PYTHONUNBUFFERED": "1"}
TESTS = [f"tests/test_{name}.py" for name in ("on_gpu", "speed", "augment", "pseudo", "data_splits")]

QUICK = ("--seconds", "6", "--tuned", "reduce-overhead")
"""Rounds of six seconds, and a loop by hand that is ready in a minute and a half."""


@dataclass(frozen=True)
class Piece:
    """A command, and the files without which it cannot run."""

    name: str
    command: list[str]
    needs: tuple[Path, ...] = ()


def pieces(asked: argparse.Namespace) -> list[Piece]:
    """In the order in which they matter."""
    data, python = Path(asked.data), sys.executable
    airbench = Path(asked.airbench) if asked.airbench else Path("airbench94_muon.py")

    def script(name: str, *options: str) -> list[str]:
        return [python, str(HERE / f"{name}.py"), *options]

    return [
        Piece("tests", [python, "-m", "pytest", "-v", "-rs", *TESTS]),
        *(
            Piece(
                f"gpu-{px}",
                script("gpu", "--data", str(data), "--px", px, *QUICK, "--device", asked.device),
                (data / "stl10_binary",),
            )
            for px in ("70", "120")
        ),
        Piece(
            "speedrun",
            script("speedrun", "--data", str(data), "--airbench", str(airbench), "--device", asked.device),
            (data / "cifar-10-batches-bin", airbench),
        ),
        Piece("evaluation", script("evaluation", "--device", asked.device)),
        Piece("together", script("together", "--seeds", "8", "--together", "8", "--scale", "1")),
        Piece("stacked", script("together", "--seeds", "8", "--stacked")),
    ]


def run(piece: Piece, out: Path, seconds: float) -> str:
    """Run a piece for at most so long: "done", "cut off", or what it failed with. Its output is kept."""
    begun = out / f"{piece.name}.part"
    with begun.open("w") as log:
        try:
            code = subprocess.run(
                piece.command,
                cwd=HERE.parent,
                env={"TORCHINDUCTOR_CACHE_DIR": str(out.resolve() / "inductor"), **os.environ, **OURS},
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return "cut off: give the same command again"
    if code:
        begun.rename(out / f"{piece.name}.failed")
        return f"failed with {code}: see {piece.name}.failed"
    begun.rename(out / f"{piece.name}.txt")
    return "done"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data", help="the folder of the data sets' folders")
    parser.add_argument("--airbench", help="airbench94_muon.py of KellerJordan/cifar10-airbench")
    parser.add_argument("--out", default=os.environ.get("OUT", "gpu-evidence"))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda", help="cpu tries it out, with --pieces")
    parser.add_argument(
        "--pieces", nargs="+", help="only these, of tests gpu speedrun evaluation together stacked"
    )
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("benchmarks/on_gpu.py needs a CUDA GPU, and none was found")
    out, end = Path(asked.out), time.monotonic() + 60 * asked.minutes
    out.mkdir(parents=True, exist_ok=True)
    for piece in pieces(asked):
        missing = [str(path) for path in piece.needs if not path.exists()]
        if asked.pieces and piece.name not in asked.pieces:
            continue
        if (out / f"{piece.name}.txt").exists():
            told = "done before"
        elif missing:
            told = f"left out: there is no {' and no '.join(missing)}"
        elif time.monotonic() > end - 5:
            told = "not begun: the time is over; give the same command again"
        else:
            told = run(piece, out, end - time.monotonic())
        say(f"{piece.name}: {told}")


if __name__ == "__main__":
    main()
