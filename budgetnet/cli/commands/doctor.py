"""`budgetnet doctor`: say what this machine has for a training, what is missing, and what to type."""

import json
import platform
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import click

from budgetnet.cli.options import data_option, json_option, out_option
from budgetnet.process import VERSION

_FOR_DEVELOPERS = ("test", "dev", "peers")


@click.command()
@data_option
@out_option("runs", "The folder that holds the runs.")
@json_option("Print one JSON object.")
def command(root: str | None, out: str, as_json: bool) -> None:
    """Say what this machine has for a training.

    Device, builds, threads, free memory and space, data sets, extras. Nothing is fetched, and no image read.
    """
    from budgetnet.console import say
    from budgetnet.text import aligned

    facts = [*_machine(), *_space(out), *_data(root), *_extras()]
    if as_json:
        click.echo(json.dumps({name: words for name, words, _ in facts}, indent=2))
        return
    say(aligned([(name, words) for name, words, _ in facts], left=2))
    say()
    for typed in dict.fromkeys([*(typed for *_, typed in facts if typed), "budgetnet run quickstart"]):
        say(f"type: {typed}")


Fact = tuple[str, str, str]
"""A name, what is so, and what to type where something is missing."""


def _machine() -> Iterator[Fact]:
    import torch

    yield "budgetnet", f"{VERSION}, Python {platform.python_version()}, {platform.system()}", ""
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    yield "torch", f"{torch.__version__} ({build})", ""
    try:
        import torchvision

        yield "torchvision", torchvision.__version__, ""
    except Exception as error:  # whatever a build for another torch raises
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield "torchvision", f"does not go with this torch: {why}", "pip install --upgrade torch torchvision"
    if torch.cuda.is_available():
        for at in range(torch.cuda.device_count()):
            yield f"cuda:{at}", torch.cuda.get_device_name(at), ""
    else:
        yield "cuda", "none" if torch.version.cuda else "none, and this torch is built without", ""
    threads = torch.get_num_threads()
    yield "cpu", f"{torch.backends.cpu.get_cpu_capability()}, {threads} threads", ""


def _space(out: str) -> Iterator[Fact]:
    from budgetnet.data import free_memory
    from budgetnet.text import size

    yield "memory", f"{size(free_memory())} free", ""
    folder = next(path for path in (Path(out).absolute(), *Path(out).absolute().parents) if path.is_dir())
    yield "space for runs", f"{size(shutil.disk_usage(folder).free)} free in {folder}", ""


def _data(root: str | None) -> Iterator[Fact]:
    from budgetnet.data import CIFAR10, STL10, TINY_IMAGENET, data_root

    folder = data_root(root)
    for name, source in {"stl10": STL10, "cifar10": CIFAR10, "tiny_imagenet": TINY_IMAGENET}.items():
        places = (folder / source.folder, folder / source.archive)
        there = next((path for path in places if path.exists()), None)
        missing = f"not in {folder}: a run fetches it, or put {source.archive} there"
        yield name, missing if there is None else f"in {there}", ""


def _extras() -> Iterator[Fact]:
    try:
        stated = requires("budgetnet") or []
    except PackageNotFoundError:
        return  # run from its source, without being installed
    for line in stated:
        match = re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]", line)
        if match is None or match[2] in _FOR_DEVELOPERS:
            continue
        package, extra = match[1], match[2]
        try:
            yield f"{package} ({extra})", version(package), ""
        except PackageNotFoundError:
            yield f"{package} ({extra})", "not installed", f"pip install 'budgetnet[{extra}]'"
