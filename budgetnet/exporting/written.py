"""Written: an exported file on the disk, and beside it its card and what its input is."""

from __future__ import annotations

from pathlib import Path

import torch

from budgetnet.budget import ledger
from budgetnet.exporting.beside import JSON, PAGE, beside, ownership
from budgetnet.exporting.embedded import c_header, read_c, weight
from budgetnet.exporting.formats import FORMATS
from budgetnet.exporting.module import Scale, of_bytes
from budgetnet.exporting.page import CARD, card_page, stated_licence
from budgetnet.exporting.preprocess import as_json, example_input, page, preprocess
from budgetnet.exporting.source import Source
from budgetnet.files import reason, write_whole

HEADER = ".h"


def write(source: Source, content: bytes, path: Path, compared: str) -> None:
    """The file, and beside it its card and what its input is, in words and as JSON."""
    made, _ = of_bytes(content, path)
    steps = preprocess(source.model, source.card, source.sides, made.batch)
    shown = example_input(source.card, source.sides)
    with torch.inference_mode():
        text = page(source.card, steps, shown, made(shown))
    if made.scales is not None:
        text += _whole_numbers(*made.scales)
        for end, scale in zip(("input", "output"), made.scales, strict=True):
            steps[end] |= {"type": "int8", "scale": scale.step, "zero_point": scale.zero}
    said = as_json(source.card, steps, **ownership(path, content))
    about = beside(path, CARD)
    what = (path.stem, ledger(source.model).params, weight(content, path))
    told = card_page(source.card, source.record, what, stated_licence(about), compared)
    files = {beside(path, PAGE): text, about: told, beside(path, JSON): said}
    if path.suffix == FORMATS["c"].suffix:
        program = read_c(content.decode())
        files[path.with_suffix(HEADER)] = c_header(program, path.stem, steps, beside(path, PAGE).name)
    try:
        for file, words in files.items():
            write_whole(file, words.encode())
        write_whole(path, content)
    except OSError as error:
        raise ValueError(f"{path!s:.200} cannot be written ({reason(error)}): choose another --out") from None


def _whole_numbers(first: Scale, last: Scale) -> str:
    """What the page says of a file whose own input and output are whole numbers."""
    return f"""
## Whole numbers

The input and the output of this file are int8. For each number x of the input above give it
round(x / {first.step:.9g}) + {first.zero}, cut to -128 to 127, and of each y of its output take
(y - {last.zero}) * {last.step:.9g}, as was done here.
"""
