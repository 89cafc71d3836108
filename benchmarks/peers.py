"""Compares what libraries make of ten minutes of one core, as their own pages tell a beginner to use them.

    python benchmarks/peers.py --data DIR --held-out held_out_1000.txt --envs ENVS [--write]

DIR holds dogs (train and val, a folder for each class; 3 seeds) and stl10_binary (the 4,000 and the 1,000 of
--held-out, written as PNG files into --out; 1 seed). Each library runs `peer.py`, whose first lines say how,
in an environment of its own that is made in ENVS, with the torch that runs this file; all of them run on one
core, and the photos of val that each names rightly are counted here. A cell that is done is a file in --out
and is not done again. To try it out: --seconds 20 --seeds 1 --out /tmp/peers
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import venv
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from report import machine, publish, spent

from budgetnet import Data, stl10
from budgetnet.console import say
from budgetnet.text import percent

HERE = Path(__file__).parent
NEEDS = {
    "budgetnet": (),
    "fastai": ("fastai",),
    "keras": ("keras", "tensorflow-cpu"),
    "ultralytics": ("ultralytics",),
    "timm": ("timm",),
}
"""What is installed into the environment of each; budgetnet runs in that of this file."""


@dataclass(frozen=True)
class Cell:
    """One training: of a library, on a set of photos, with a seed."""

    library: str
    photos: str
    seed: int
    seconds: float
    pixels: int | None

    @property
    def file(self) -> str:
        pixels = f"-{self.pixels}px" if self.pixels else ""
        return f"{self.library}-{self.photos}{pixels}-{self.seconds:g}s-{self.seed}.json"


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder of dogs and stl10_binary")
    parser.add_argument("--held-out", default="1000", help="a number, or a file of indices, one a line")
    parser.add_argument("--envs", type=Path, default=Path("peers"), help="where the environments are made")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    parser.add_argument("--only", nargs="+", choices=NEEDS, default=list(NEEDS))
    parser.add_argument("--photos", nargs="+", choices=("dogs", "stl10"), default=["dogs", "stl10"])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seeds", type=int, default=3, help="of the dogs")
    parser.add_argument("--pixels", type=int, default=None, help="for all, in place of each library's own")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument(
        "--done", action="store_true", help="only the cells that are done: nothing is trained"
    )
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    return parser.parse_args()


def environment(library: str, envs: Path) -> Path:
    """The Python of a library's own environment, which is made where it is not there yet."""
    home, needs = envs / library, NEEDS[library]
    if not needs:
        return Path(sys.executable)
    python = home / "bin" / "python"
    if (home / "ready").exists():
        return python
    say(f"making {home}")
    venv.create(home, with_pip=True, clear=True)
    # torch is 5 GB: it comes from the environment of this file, and so does what lies beside it.
    place = next(home.glob("lib/python*/site-packages")) / "torch.pth"
    place.write_text(f"{Path(torch.__file__).parents[1]}\n")
    constraints = home / "constraints.txt"
    versions = (f"torch=={torch.__version__}", f"torchvision=={torchvision.__version__}")
    constraints.write_text("\n".join(version.split("+")[0] for version in versions))
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", constraints, *needs], check=True)
    (home / "ready").touch()
    return python


def written(data: Data, folder: Path) -> None:
    """Write the training and held-out images as PNG files in class folders, for who reads nothing else."""
    from PIL import Image

    if (folder / "ready").exists():
        return
    for part in ("train", "val"):
        split = data.splits[part]
        images, labels = split[:]
        for number, image, label in zip(split.indices.tolist(), images, labels.tolist()):
            place = folder / part / data.classes[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{number:04d}.png")
    (folder / "ready").touch()


def measured(cell: Cell, asked: Namespace, folder: Path) -> dict[str, Any] | None:
    """What the cell came to, from its file or measured now; None, and a line, where it failed."""
    done = asked.out / cell.file
    if not done.exists():
        try:
            python = environment(cell.library, asked.envs)
        except subprocess.CalledProcessError as error:
            say(f"{cell.library} cannot be installed: {error}")
            return None
        part, log = done.with_suffix(".part"), done.with_suffix(".log")
        command = [str(python), str(HERE / "peer.py"), cell.library, str(folder), str(part)]
        command += ["--seconds", str(cell.seconds), "--seed", str(cell.seed), "--core", str(asked.core)]
        command += ["--pixels", str(cell.pixels)] if cell.pixels else []
        one = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
        paths = {"PYTHONPATH": str(HERE.parent)} if cell.library == "budgetnet" else {}
        with log.open("w") as file:
            ended = subprocess.run(
                command,
                env={**os.environ, **one, **paths},
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if ended.returncode or not part.exists():
            say(f"{done.stem} failed with {ended.returncode}: see {log}")
            return None
        outcome = json.loads(part.read_text())
        outcome["accuracy"] = scored(outcome.pop("answers"), folder)
        part.write_text(json.dumps(outcome, indent=1))
        part.rename(done)
    return {**json.loads(done.read_text()), "library": cell.library, "photos": cell.photos}


def scored(answers: dict[str, str], folder: Path) -> float:
    """The share of the photos of val that are called what their folder is; no answer is a wrong one."""
    truth = {str(path.relative_to(folder)): path.parent.name for path in (folder / "val").glob("*/*")}
    return sum(answers.get(path) == name for path, name in truth.items()) / len(truth)


def rows(found: list[dict[str, Any]]) -> list[list[str]]:
    """One line for each library and set of photos, the most accurate first."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in found:
        groups.setdefault((each["photos"], each["library"]), []).append(each)
    accuracy = {key: statistics.fmean(each["accuracy"] for each in group) for key, group in groups.items()}
    lines = []
    for key in sorted(groups, key=lambda key: (key[0], -accuracy[key])):
        group, first = groups[key], groups[key][0]
        figures = [each["accuracy"] for each in group]
        spread = f"{100 * statistics.stdev(figures):.2f}" if len(figures) > 1 else "-"
        seconds, views = (statistics.fmean(each[name] for each in group) for name in ("seconds", "views"))
        versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
        lines.append([key[0], key[1], percent(accuracy[key]), spread, str(len(group))])
        lines[-1] += [f"{first['parameters']:,}", f"{first['pixels']}", f"{views:,.0f}", spent(seconds)]
        lines[-1].append(versions)
    return lines


def main() -> None:
    asked = arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    folders = {each: asked.out / each for each in asked.photos}
    if "dogs" in folders and not folders["dogs"].exists():
        # A copy: some write caches beside what they read.
        shutil.copytree(asked.data / "dogs", folders["dogs"])
    if "stl10" in folders:
        held_out = int(asked.held_out) if asked.held_out.isdigit() else asked.held_out
        written(stl10(asked.data, held_out=held_out), folders["stl10"])
    cells = [
        Cell(library, photos, seed, asked.seconds, asked.pixels)
        for photos in asked.photos
        for seed in range(asked.seeds if photos == "dogs" else 1)
        for library in asked.only
    ]
    if asked.done:
        cells = [cell for cell in cells if (asked.out / cell.file).exists()]
    found = []
    for cell in cells:
        outcome = measured(cell, asked, folders[cell.photos])
        if outcome is not None:
            say(f"{cell.file}: {percent(outcome['accuracy'])}, {outcome['views']:,} views")
            found.append(outcome)
    columns = ["photos", "library", "accuracy", "sd", "n", "parameters", "px", "views", "time", "versions"]
    told = f"{spent(asked.seconds)} of one core each, from scratch; {machine()}"
    publish("peers", columns, rows(found), told=told, left=2, write=asked.write)


if __name__ == "__main__":
    main()
