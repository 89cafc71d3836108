"""Reports in a real browser: nothing is asked of elsewhere, nothing fails, and no text is cut off."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_page import RECIPE, fitted, renamed

from budgetnet import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

CUT = """() => [...document.querySelectorAll('body *')].filter(e => {
  const style = getComputedStyle(e), box = e.getBoundingClientRect();
  if (style.display === 'none' || !box.width || e.closest('svg')) return false;
  const hidden = style.overflowX === 'hidden' && e.scrollWidth > e.clientWidth + 1 && e.textContent.trim();
  const scrolled = e.closest('.wide') !== null;
  return hidden || (!scrolled && (box.right > innerWidth + 1 || box.left < -1));
}).map(e => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 60))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright, for pages in a browser")
    if BROWSER is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from conftest import coloured

    from budgetnet import Budget, models

    out, data = tmp_path_factory.mktemp("pages"), coloured()
    hostile = renamed(data)
    made = []
    for each in (data, hostile):
        network = Budget(params="10k").build(models.convnet, classes=3, widths=(8, 16))
        run = fitted(each, network, out)
        assert run.folder is not None
        made += [run, report(run, data=each, recipe=RECIPE, out=out / f"measured-{len(made)}").page]
    several = report([run for run in made if not isinstance(run, Path)], out=out / "several").page
    return [path if isinstance(path, Path) else path.folder / "report.html" for path in made] + [several]  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_pages_are_whole_in_a_browser(browser: Any, pages: list[Path], width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    view, told, asked = context.new_page(), [], []
    view.on("console", lambda message: told.append(message.text))
    view.on("pageerror", lambda error: told.append(str(error)))
    view.on("request", lambda request: asked.append(request.url))
    for path in pages:
        view.goto(path.as_uri())
        assert view.evaluate("document.documentElement.scrollWidth") <= width, path
        assert view.evaluate(CUT) == [], path
        colour = view.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (colour == "rgb(255, 255, 255)") == (scheme == "light")
    context.close()
    assert told == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri() for path in pages]


@pytest.mark.slow
def test_a_page_prints_in_dark_ink_on_white_paper(browser: Any, pages: list[Path]) -> None:
    context = browser.new_context(color_scheme="dark")
    view = context.new_page()
    view.goto(pages[0].as_uri())
    view.emulate_media(media="print")
    style = "getComputedStyle(document.documentElement)"
    assert view.evaluate(f"{style}.backgroundColor") == "rgb(255, 255, 255)"
    assert view.evaluate(f"{style}.color") == "rgb(0, 0, 0)"
    assert len(view.pdf(format="A4")) > 10_000
    context.close()
