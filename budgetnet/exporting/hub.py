"""Hub: a trained model with its card into a repository of a model hub, by huggingface_hub."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from budgetnet.data import Unavailable
from budgetnet.exporting.beside import JSON, PAGE
from budgetnet.exporting.page import model_card, source
from budgetnet.files import read_whole
from budgetnet.modelfile import read_card
from budgetnet.run import MODEL, Run
from budgetnet.text import one_line

_BESIDE = (".onnx", ".pte", ".tflite", ".h", ".c")
"""Endings of exports that are pushed along; a .pt2 file is a program, and stays here."""


@dataclass(frozen=True)
class Pushed:
    """What was pushed: the repository's address, the files in it, and what `load` takes it back by."""

    url: str
    files: tuple[str, ...]
    reference: str

    def __str__(self) -> str:
        return f"pushed {', '.join(self.files)} to {self.url}\nbudgetnet.load({self.reference!r}) loads it"


def push(model: Run | str | Path, repo: str, *, licence: str = "", private: bool = False) -> Pushed:
    """Push a trained model with its card to the repository `repo` (OWNER/NAME) of a model hub.

    That is the model file, `model_card` as README.md, and what was exported beside it, with preprocess.md and
    preprocess.json. The repository is made where there is none. Who you are huggingface_hub knows (`hf auth
    login`), and the hub is the one in the environment's HF_ENDPOINT, by default huggingface.co. Needs the
    extra hub. Raises ValueError for what the hub refuses, and where BUDGETNET_OFFLINE is set.

        print(budgetnet.push("runs/mine-1", "me/mine", licence="mit"))
    """
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", repo, re.ASCII):
        raise ValueError(f"a repository should be OWNER/NAME, not {repo!r:.100}")
    if os.environ.get("BUDGETNET_OFFLINE"):
        raise Unavailable(f"{repo} was not pushed, BUDGETNET_OFFLINE is set: unset it")
    if find_spec("huggingface_hub") is None:
        raise ValueError("push needs huggingface_hub, not found here: pip install 'budgetnet[hub]'")
    from huggingface_hub import CommitOperationAdd, HfApi

    file, _ = source(model)
    read_card(file)  # no other file than a model is published
    contents = {MODEL: read_whole(file), "README.md": model_card(model, licence=licence).encode()}
    contents |= {path.name: read_whole(path) for path in _beside(file)}
    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    operations = [CommitOperationAdd(name, content) for name, content in contents.items()]
    try:
        url = hub.create_repo(repo, private=private, exist_ok=True)
        hub.create_commit(repo, operations, commit_message=f"{file.parent.name} by budgetnet")
    except Exception as error:  # its own, and those of whatever it asks over the network with
        reason = one_line(str(error)) or type(error).__name__
        raise ValueError(f"{repo} was not pushed, {reason}: look after HF_ENDPOINT and your token") from None
    digest = hashlib.sha256(contents[MODEL]).hexdigest()
    return Pushed(str(url), tuple(contents), f"hub:{repo}@{digest}")


def _beside(file: Path) -> Iterator[Path]:
    """What was exported beside a model, and what is said of each."""
    for path in sorted(file.parent.iterdir()):
        if path.is_file() and (path.suffix in _BESIDE or path.name.endswith((JSON, PAGE))):
            yield path
