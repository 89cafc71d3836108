"""A notebook: a training is one block that is drawn again, with widgets and without."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from test_browser import CUT, browser

__all__ = ["browser"]

FIT = """
import budgetnet as bn
{before}
data = bn.digits()
model = bn.Budget(params="10k").build(bn.models.convnet, classes=10, channels=1, widths=(8, 16))
recipe = bn.Recipe([bn.Phase(14, 8, 0.1, name="learn <b>"), bn.Phase(1, 12, 0.01)], batch_size=64)
run = bn.Trainer("cpu").fit(model, data, recipe)
"""
# As where no ipywidgets are installed.
NO_WIDGETS = "import sys; sys.modules['ipywidgets'] = None"


def executed(folder: Path, *cells: str) -> Any:
    """A notebook of these cells after all of them ran."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    manager = pytest.importorskip("jupyter_client").KernelManager
    pytest.importorskip("ipykernel")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    kernel = manager()
    kernel.kernel_spec.argv[0] = sys.executable
    client.NotebookClient(
        book, km=kernel, timeout=200, resources={"metadata": {"path": str(folder)}}
    ).execute(env=dict(os.environ))
    return book


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", NO_WIDGETS])
def test_a_fit_is_one_block_with_what_the_command_shows_before_it(before: str, tmp_path: Path) -> None:
    book = executed(tmp_path, FIT.format(before=before), "run")
    shown = [output for output in book.cells[0].outputs if "data" in output]
    assert len(shown) == 1, book.cells[0].outputs
    page, plain = (shown[0]["data"][kind] for kind in ("text/html", "text/plain"))
    words = re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))
    for fact in (
        "convnet: ",
        "of 10,000 parameters",
        "digits, 1,438 training",
        "cpu (",
        "MACs at 12 px",
        "validation: ",
    ):
        assert fact in words, fact
    assert len(re.findall(r'<td class="text">learn &lt;b&gt; \d+/14</td>', page)) == 14
    assert "<progress" not in page
    assert len(re.findall("^learn <b> ", plain, flags=re.MULTILINE)) == 14
    assert "widget" not in str(book.cells[0].outputs)
    assert "<svg" in book.cells[1].outputs[0]["data"]["text/html"]


@pytest.mark.slow
def test_the_block_while_it_runs_and_at_its_end_is_whole_in_a_browser(browser: Any, tmp_path: Path) -> None:
    stop = "import IPython.display; seen = []; shown = IPython.display.display\n"
    keep = (
        "from budgetnet.trainer import notebook\ndrawn = notebook.rendered\n"
        "def keeping(*names, **values):\n    seen.append(drawn(*names, **values)); return seen[-1]\n"
        "notebook.rendered = keeping; notebook.BETWEEN = 0.01; import budgetnet.trainer.watch as w; "
        "w.SECONDS_BETWEEN = 0.01"
    )
    book = executed(
        tmp_path,
        FIT.format(before=stop + keep),
        "import json; open('seen.json', 'w').write(json.dumps(seen))",
    )
    assert book is not None
    import json

    seen = json.loads((tmp_path / "seen.json").read_text())
    running = next(page for page in reversed(seen) if "<progress" in page and "earlier epochs" in page)
    assert "images/s" in running
    assert re.search(r"about [0-9.]+ (s|m)[^<]* in all", running)
    for at, page in enumerate((running, seen[-1])):
        path = tmp_path / f"page{at}.html"
        path.write_text(
            f"<!doctype html><meta charset=utf-8><body style='margin:12px'>{page}", encoding="utf-8"
        )
        for width in (375, 1440):
            view = browser.new_page(viewport={"width": width, "height": 900})
            view.goto(path.as_uri())
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            assert view.evaluate(CUT) == []
            view.screenshot(path=str(tmp_path / f"page{at}-{width}.png"), full_page=True)
            view.close()
