"""Reports and the site in a real browser: nothing is asked of elsewhere, nothing fails, no text is lost."""

import itertools
import re
import shutil
import subprocess
import sys
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


# Of the site: what lies beyond the window and cannot be scrolled to; the side bar of a phone is a drawer.
BEYOND = """() => [...document.querySelectorAll('article *')].filter(e => {
  const box = e.getBoundingClientRect();
  if (!box.width || e.closest('svg')) return false;
  for (let a = e; a.tagName !== 'ARTICLE'; a = a.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(a).overflowX)) return false;
  return box.right > innerWidth + 1 || box.left < -1;
}).map(e => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 60))"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `make docs` makes it, where any warning is an error."""
    pytest.importorskip("furo", reason="takes the extra docs")
    pytest.importorskip("myst_parser", reason="takes the extra docs")
    out, house = tmp_path_factory.mktemp("site"), Path(__file__).parents[1]
    told = re.search(r"-m sphinx (.*) -c docs", (house / "Makefile").read_text())
    assert told is not None
    command = [
        sys.executable,
        "-m",
        "sphinx",
        *told[1].split(),
        "-c",
        "docs",
        "-d",
        out / "kept",
        ".",
        out / "it",
    ]
    done = subprocess.run(command, cwd=house, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "it"


@pytest.mark.slow
def test_the_site_is_whole_in_a_browser_and_asks_for_nothing_elsewhere(browser: Any, site: Path) -> None:
    context = browser.new_context()
    view, told, asked, wrong = context.new_page(), [], [], []
    view.on("console", lambda message: told.append(f"{view.url}: {message.text}"))
    view.on("pageerror", lambda error: told.append(f"{view.url}: {error}"))
    view.on("request", lambda request: asked.append(request.url))
    view.goto((site / "index.html").as_uri())
    view.wait_for_url("**/docs/index.html")
    pages = sorted(set(site.rglob("*.html")) - {site / "index.html"})
    assert {"reference.html", "tutorial.html", "README.html"} <= {page.name for page in pages}
    for page in pages:
        view.goto(page.as_uri())
        for width, scheme in itertools.product((375, 1440), ("light", "dark")):
            view.set_viewport_size({"width": width, "height": 900})
            view.emulate_media(color_scheme=scheme)
            wide = view.evaluate("document.documentElement.scrollWidth")
            wrong += [f"{page.name} is {wide} px wide at {width}"] if wide > width else []
            wrong += [f"{page.name} at {width}: {text}" for text in view.evaluate(BEYOND)]
            colour = view.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (colour == "rgb(255, 255, 255)") == (scheme == "light"), (page, colour)
    context.close()
    assert wrong == []
    assert told == []
    assert [url for url in asked if not url.startswith((site.as_uri(), "data:"))] == []


@pytest.mark.slow
def test_a_search_of_the_site_finds_a_name_without_a_network(browser: Any, site: Path) -> None:
    view = browser.new_page()
    view.goto((site / "search.html").as_uri() + "?q=FixMatch")
    view.wait_for_selector("#search-results li a")
    assert any(
        "semi.html" in link.get_attribute("href") for link in view.query_selector_all("#search-results li a")
    )
    view.close()


@pytest.mark.slow
def test_links_between_pages_of_the_site_lead_to_headings_that_are_there(site: Path) -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    named = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    for page, text in pages.items():
        body = re.search(r"<article.*</article>", text, re.DOTALL)
        for link in re.findall(r'href="([^"]+)"', body[0] if body else ""):
            file, _, anchor = link.partition("#")
            target = (page.parent / file).resolve() if file else page
            if re.match(r"[a-z]+:", link):
                continue
            assert target.exists(), f"{page.name} links to {link}"
            assert not anchor or anchor in named[target], f"{page.name} links to {link}, which is not there"
