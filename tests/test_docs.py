"""The documentation: its code runs, its links lead somewhere, its commands are there."""

import ast
import contextlib
import importlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import click
import pytest
from click.testing import CliRunner

import budgetnet
from budgetnet.cli import main
from budgetnet.plan import titles

HOUSE = Path(__file__).parent.parent
DOCS = HOUSE / "docs"
PAGES = (*sorted(DOCS.glob("*.md")), HOUSE / "README.md", HOUSE / "CONTRIBUTING.md")
# Some take longer than an everyday test may.
TUTORIALS = (
    DOCS / "tutorial.md",
    pytest.param(DOCS / "all.md", marks=pytest.mark.slow),
    pytest.param(DOCS / "photos.md", marks=pytest.mark.slow),
    pytest.param(DOCS / "model.md", marks=pytest.mark.slow),
    pytest.param(DOCS / "recipes.md", marks=pytest.mark.slow),
    DOCS / "networks.md",
    DOCS / "guard.md",
    pytest.param(DOCS / "compress.md", marks=pytest.mark.slow),
    pytest.param(
        DOCS / "export.md",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not find_spec("onnxscript"), reason="takes the extra onnx"),
        ],
    ),
    pytest.param(
        DOCS / "devices.md",
        marks=[
            pytest.mark.slow,
            pytest.mark.timeout(900),
            pytest.mark.skipif(
                not all(map(find_spec, ("onnxscript", "executorch", "litert_torch"))) or not which("cc"),
                reason="takes the extras onnx, executorch and litert, and a compiler of C",
            ),
        ],
    ),
    DOCS / "watching.md",
    DOCS / "data.md",
    pytest.param(DOCS / "semi.md", marks=pytest.mark.slow),
    pytest.param(DOCS / "comparing.md", marks=pytest.mark.slow),
    pytest.param(DOCS / "searching.md", marks=pytest.mark.slow),
    pytest.param(DOCS / "competition.md", marks=pytest.mark.slow),
    pytest.param(DOCS / "distilling.md", marks=pytest.mark.slow),
    pytest.param(DOCS / "resolutions.md", marks=pytest.mark.slow),
    pytest.param(DOCS / "sessions.md", marks=pytest.mark.slow),
    pytest.param(DOCS / "speed.md", marks=pytest.mark.slow),
)
REFERENCE = DOCS / "reference.py"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: "```python no-run" has the kind "python" and the mark "no-run".

    Marks of python: none, executed; "no-run", only read. Of any language: a file's name, written to that
    file. Of sh: "run", the budgetnet commands in it are executed. Of text: "same", it is what the block
    before it prints.
    """

    page: Path
    line: int
    kind: str
    mark: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.name}, line {self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The lines that call budgetnet, as lists of arguments, up to a pipe or a redirection."""
        lines = self.text.replace("\\\n", " ").splitlines()
        found = [
            re.split(r" (?:[|>]|&&) ", line)[0].removeprefix("$ ").removeprefix("exec ") for line in lines
        ]
        calls = [shlex.split(line, comments=True) for line in found]
        return [call[1:] for call in calls if call[:1] == ["budgetnet"]]


def blocks(page: Path, kind: str = "") -> list[Block]:
    """The fenced blocks of a page, those of one kind only where it is given."""
    found, start, opened = [], 0, ("", "")
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.startswith("```") and not start:
            opened, start = (line[3:].partition(" ")[0], line[3:].partition(" ")[2].strip()), number
        elif line.startswith("```"):
            found.append(Block(page, start, *opened, "\n".join(lines[start : number - 1]) + "\n"))
            start = 0
    assert not start, f"{page.name}, line {start}: a block that nothing closes"
    return [block for block in found if kind in ("", block.kind)]


def everywhere(kind: str) -> Iterator[Block]:
    for page in PAGES:
        yield from blocks(page, kind)


def show(block: Block, names: dict[str, object]) -> str:
    """Execute a block as a reader would, and give what it prints."""
    printed = io.StringIO()
    if block.kind == "sh":
        for command in block.commands:
            result = CliRunner().invoke(main, command)
            assert result.exit_code == 0, f"{block.place}: {' '.join(command)}: {result.output}"
            printed.write(result.stdout)
        return printed.getvalue()
    # Tracebacks then name the page and the line in it.
    code = compile("\n" * block.line + block.text, str(block.page), "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_from_top_to_bottom_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as at a prompt
    monkeypatch.delenv("BUDGETNET_DATA", raising=False)
    names: dict[str, object] = {"__name__": "__main__"}
    printed, ran = "", 0
    for block in blocks(page):
        if "." in block.mark:
            Path(block.mark).write_text(block.text)
        elif (block.kind, block.mark) in (("python", ""), ("sh", "run")):
            printed, ran = show(block, names), ran + 1
        elif block.kind == "text" and block.mark == "same":
            assert printed == block.text, f"{block.place} is not what is printed"
    assert ran >= 3, f"{page.name} has next to no code that runs"


def test_every_mark_of_a_block_is_one_that_is_understood() -> None:
    known = {
        "python": r"|no-run|\w+\.py",
        "sh": "|run",
        "text": "|same",
        "toml": "",
        "json": "",
        "js": r"\w+\.js",
        "c": r"\w+\.c",
        "cpp": "",
        "html": r"\w+\.html",
    }
    for page in PAGES:
        for block in blocks(page):
            assert re.fullmatch(known.get(block.kind, "-"), block.mark), f"{block.place}: {block.mark!r}"


def test_code_that_is_not_run_still_parses_and_imports_what_is_there() -> None:
    for block in everywhere("python"):
        if block.page.name == "reference.md":
            continue  # signatures
        for node in ast.walk(ast.parse(block.text, block.place)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("budgetnet"):
                module = importlib.import_module(str(node.module))
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, f"{block.place}: {node.module} has no {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name} links to {target}, and there is no {path}"
        if anchor:
            assert anchor in anchors(path), f"{page.name} links to {target}, which has no such heading"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_command_that_is_shown_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = [(block, command) for block in everywhere("sh") for command in block.commands]
    assert len(shown) > 10
    for block, command in shown:
        if block.page.name == "reference.md":
            continue  # patterns such as FILE|NAME
        try:
            understand(command)
        except click.ClickException as error:
            pytest.fail(f"{block.place}: budgetnet {' '.join(command)}: {error.format_message()}")


def understand(command: list[str]) -> None:
    """Parse a command and its arguments without running it. Raises click.ClickException."""
    with contextlib.suppress(click.exceptions.Exit), contextlib.redirect_stdout(io.StringIO()):
        above = main.make_context("budgetnet", list(command), resilient_parsing=False)
        with above:
            # click keeps the command's name apart, under another name since its version 8.2.
            held = vars(above)
            rest = [*held.get("_protected_args", held.get("protected_args", ())), *above.args]
            name, found, arguments = main.resolve_command(above, rest)
            assert found is not None
            with found.make_context(name, arguments, parent=above) as context:
                recipe = context.params.get("recipe")
                if name in ("run", "preview"):
                    assert recipe.endswith(".py") or recipe in titles(), f"there is no recipe {recipe}"


def test_every_script_that_is_shown_is_one_for_a_shell() -> None:
    scripts = [block for block in everywhere("sh") if block.text.startswith("#!")]
    assert scripts
    for block in scripts:
        checked = subprocess.run(["sh", "-n"], input=block.text, text=True, capture_output=True, check=False)
        assert not checked.returncode, f"{block.place}: {checked.stderr}"


def test_a_command_that_does_not_exist_would_be_found() -> None:
    for wrong in (
        ["trian", "mine.py"],
        ["run", "mine.py", "--scal", "0.1"],
        ["run"],
        ["evaluate", "--split", "x"],
    ):
        with pytest.raises(click.ClickException):
            understand(wrong)
    with pytest.raises(AssertionError):
        understand(["run", "quikstart"])


def test_every_make_target_and_script_that_is_shown_is_there() -> None:
    makefile = (HOUSE / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, flags=re.MULTILINE))
    for block in everywhere("sh"):
        for target in re.findall(r"^make ([\w-]+)", block.text, flags=re.MULTILINE):
            assert target in targets, f"{block.place}: there is no make {target}"
        for path in re.findall(r"\b(?:recipes|docs|tests)/[\w/]+\.py", block.text):
            assert (HOUSE / path).exists(), f"{block.place}: there is no {path}"


def reference(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, REFERENCE, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_reference_is_up_to_date() -> None:
    found = reference("--check")
    assert found.returncode == 0, found.stderr


@pytest.mark.slow
def test_a_stale_reference_is_told_in_one_sentence(tmp_path: Path) -> None:
    page = tmp_path / "reference.md"
    assert reference(str(page)).returncode == 0
    assert page.read_text() == (DOCS / "reference.md").read_text()
    page.write_text(page.read_text().replace("### Budget", "### Budge"))
    found = reference("--check", str(page))
    assert found.returncode == 1
    assert found.stderr == f"{page} is out of date: run `make reference` and commit what it writes\n"


def test_the_reference_has_every_public_name_and_nothing_that_varies() -> None:
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    titles = set(re.findall(r"^### (\S+)$", text, flags=re.MULTILINE))
    rooms = {"layers", "models", "metrics", "__version__"}
    public = {*budgetnet.__all__, *budgetnet.layers.__all__, *budgetnet.models.__all__} - rooms
    assert public <= titles
    assert {f"budgetnet {name}" for name in main.commands} <= set(
        re.findall(r"^### (.+)$", text, re.MULTILINE)
    )
    assert not re.search(r"0x[0-9a-f]{6}|<(?:class|function|object|module) |/home/|site-packages", text)
