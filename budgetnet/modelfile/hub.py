"""Hub: a model file of a hub, fetched when it is asked for and known by its digest."""

import hashlib
import os
import re
from pathlib import Path

from budgetnet.data import Unavailable, cache_folder, download
from budgetnet.files import read_whole
from budgetnet.run import MODEL

HUB = "hub:"
_LIMIT = 2**32
"""Bytes that are fetched at most."""


def fetched(reference: str) -> Path:
    """The file that "hub:OWNER/NAME@DIGEST" names, its SHA-256 checked; kept in the user's cache.

    Only ever safetensors are fetched, from the hub in the environment's HF_ENDPOINT, by default
    huggingface.co. Raises ValueError (Unavailable) for what is not to be had, and for other bytes.
    """
    known = re.fullmatch(r"hub:([\w.-]{1,96})/([\w.-]{1,96})@([0-9a-f]{64})", reference, re.ASCII)
    if known is None or {known[1], known[2]} & {".", ".."}:
        raise ValueError(
            f"a model of a hub should be hub:OWNER/NAME@DIGEST with the SHA-256 of its {MODEL} in 64 hex "
            f"digits, not {reference!r:.150}; budgetnet push says it"
        )
    owner, name, digest = known.groups()
    folder = cache_folder(None) / "hub" / f"{owner}--{name}-{digest[:16]}"
    file = folder / MODEL
    if file.is_file() and hashlib.sha256(read_whole(file)).hexdigest() == digest:
        return file
    if os.environ.get("BUDGETNET_OFFLINE"):
        raise Unavailable(f"{reference} is not in {folder}, and BUDGETNET_OFFLINE is set: allow the download")
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return download(
        f"{endpoint.rstrip('/')}/{owner}/{name}/resolve/main/{MODEL}", digest, folder, limit=_LIMIT
    )
