"""How the documentation becomes a site, by `make docs`: every page from the file that a git host shows.

The root is that of the repository, so that links to README, CHANGELOG and source files lead to the same files
on the site; the order of the pages is that of the links in index.md.
"""

import json
import re
from pathlib import Path
from typing import Any

from budgetnet.process import VERSION

project = "budgetnet"
copyright = "the authors of budgetnet"
version = release = VERSION

extensions = ["myst_parser"]
include_patterns = ["*.md", "docs/*.md", "docs/*.ipynb", "weights/*.md"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
exclude_patterns = [".*", "budgetnet", "recipes", "tests", "benchmarks", "build", "dist", "runs", "data"]
root_doc = "docs/index"
myst_heading_anchors = 6
smartquotes = False
pygments_style = "a11y-light"
pygments_dark_style = "a11y-high-contrast-dark"
nitpicky = True

html_theme = "furo"
html_title = f"budgetnet {version}"
html_copy_source = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_theme_options = {"footer_icons": []}


def contents(index: str) -> str:
    """Tables of contents for the side bar, out of the lists of links in index.md, one for each list."""
    found = []
    for caption, links in re.findall(r"^(\w[^\n]*):\n\n((?:[-0-9 ][^\n]*\n)+)", index, re.MULTILINE):
        rows = "\n".join(re.findall(r"\]\(([^)#]+)\.(?:md|ipynb)\)", links))
        found.append(f"```{{toctree}}\n:hidden:\n:caption: {caption.split(',')[0]}\n\n{rows}\n```\n")
    return "\n".join(found)


def cells(notebook: str) -> str:
    """The cells of a notebook as Markdown."""
    found = [("".join(cell["source"]), cell["cell_type"]) for cell in json.loads(notebook)["cells"]]
    return "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for text, kind in found)


def read(app: Any, name: str, source: list[str]) -> None:
    """Put tables of contents below index.md, where a git host needs none, and open notebooks."""
    if name == root_doc:
        source[0] += "\n" + contents(source[0])
    elif Path(app.env.doc2path(name)).suffix == ".ipynb":
        source[0] = cells(source[0])


def add_door(app: Any, error: Exception | None) -> None:
    """A page at the top that leads to the first one."""
    if error is None:
        door = '<!doctype html><meta charset="utf-8"><title>budgetnet</title>\n'
        door += '<meta http-equiv="refresh" content="0; url=docs/index.html">\n'
        (Path(app.outdir) / "index.html").write_text(door + '<a href="docs/index.html">budgetnet</a>\n')


def setup(app: Any) -> None:
    app.connect("source-read", read)
    app.connect("build-finished", add_door)
