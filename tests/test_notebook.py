"""The notebook among the documentation runs from top to bottom, and shows what it says that it shows."""

import json
import shutil
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first.ipynb"


def test_it_is_kept_without_what_it_showed() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    for cell in cells:
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        compile("".join(cell["source"]), str(NOTEBOOK), "exec")


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    for name in ("nbclient", "ipykernel", "sklearn", "matplotlib"):
        pytest.importorskip(name)
    import nbclient
    import nbformat

    shutil.copy(NOTEBOOK, tmp_path)
    notebook = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in shown if output.get("name") == "stderr"], shown
    told = "".join(output.get("text", "") for output in shown)
    assert "over the budget of 50,000" in told
    assert "it says [" in told
    kinds = [kind for output in shown for kind in output.get("data", ())]
    assert kinds.count("image/png") == 2
    assert kinds.count("text/html") >= 3, "the table of the fit, the run and the evaluation"
    assert (tmp_path / "runs" / "notebook-1" / "report.html").is_file()
    assert shown[-1]["data"]["text/plain"] == "True"
