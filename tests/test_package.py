"""The package as a whole: its public names, what importing it costs, and which way its arrows point."""

import ast
import subprocess
import sys
from pathlib import Path

import budgetnet

PACKAGE = Path(budgetnet.__file__).parent
FLOORS = (
    {"process", "text"},
    {"files"},
    {"budget", "layers", "augment", "schedule", "optim", "loss", "data", "identity"},
    {"models", "recipe", "run", "pseudo"},
    {"plan", "console", "modelfile", "distill", "guard", "compare"},
    {"engine", "trainer", "report", "profiling", "together"},
    {"sweep"},
    {"cli"},
)
GROUND = 2
"""The rooms of the floors up to this one import none beside them."""


def run(code: str) -> str:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_every_public_name_is_there() -> None:
    for name in budgetnet.__all__:
        assert getattr(budgetnet, name) is not None
    assert set(budgetnet.__all__) <= set(dir(budgetnet))


def test_what_the_type_checker_sees_is_what_is_there() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {
        (node.module, alias.name)
        for node in block.body
        for alias in node.names
        if isinstance(node, ast.ImportFrom)
    }
    rooms = {(f"budgetnet.{room}", name) for name, room in budgetnet._HOME.items()}
    assert declared == rooms | {("budgetnet", name) for name in budgetnet._MODULES}


def test_a_wrong_name_is_an_attribute_error() -> None:
    assert not hasattr(budgetnet, "Trianer")


def test_importing_budgetnet_imports_no_torch() -> None:
    assert run("import sys, budgetnet; print('torch' in sys.modules)") == "False"


def test_what_costs_to_import_is_imported_only_where_it_is_used() -> None:
    costly = ("torchvision", "rich", "click", "PIL", "matplotlib", "sklearn", "scipy", "pandas")
    code = f"import sys; from budgetnet import *; print([m for m in {costly} if m in sys.modules])"
    assert run(code) == "[]"


def test_help_answers_without_torch_and_rich() -> None:
    call = "main(['--help'], standalone_mode=False)"
    heavy = ("torch", "numpy", "rich", "torchvision")
    code = (
        f"import sys; from budgetnet.cli import main; {call}; print([m for m in {heavy} if m in sys.modules])"
    )
    assert run(code).splitlines()[-1] == "[]"


def imports(path: Path) -> set[str]:
    """The rooms of budgetnet that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("budgetnet."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "budgetnet":
            found |= {alias.name for alias in node.names}
    return found


def test_arrows_point_down() -> None:
    floor = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for other in (imports(path) & floor.keys()) - {room}:
            beside = floor[other] == floor[room] and floor[room] > GROUND
            assert floor[other] < floor[room] or beside, f"{path}: {room} imports {other}"


def test_no_circles_between_rooms() -> None:
    arrows: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room != "__init__":
            arrows.setdefault(room, set()).update(imports(path) - {room})
    done: set[str] = set()
    while remaining := {room for room in arrows if room not in done}:
        free = {room for room in remaining if not (arrows[room] & remaining)}
        assert free, f"a circle among {sorted(remaining)}"
        done |= free


def test_rich_is_the_consoles_and_click_the_command_lines() -> None:
    for path in PACKAGE.rglob("*.py"):
        names = {
            (node.module or "").split(".")[0]
            if isinstance(node, ast.ImportFrom)
            else alias.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        room = path.relative_to(PACKAGE).parts[0]
        assert "rich" not in names or room == "console.py", path
        assert "click" not in names or room == "cli", path
        assert not names & {"pickle", "yaml"}, path
