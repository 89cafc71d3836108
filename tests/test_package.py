"""The package as a whole: its public names, what importing it costs, and which way its arrows point."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import budgetnet

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

import house

PACKAGE = Path(budgetnet.__file__).parent
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
PAST_A_FACE = {("trainer/images.py", "data.photos")}
"""Pillow is for files alone, and costs time: it is imported when the first one is read."""


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


def floors() -> list[set[str]]:
    """The floors of CONTRIBUTING's table, from the ground upwards."""
    rows = re.findall(r"^ *\| *\d+ *\| ([^|]*) \|", CONTRIBUTING.read_text(), re.MULTILINE)
    return [set(row.strip().split(", ")) for row in reversed(rows)]


def test_arrows_point_down() -> None:
    floor = {room: level for level, rooms in enumerate(floors()) for room in rooms}
    assert floor.keys() == house.rooms()
    for room, others in house.arrows().items():
        for other in others:
            assert floor[other] < floor[room], f"{room} imports {other}, which is not on a floor below it"


def test_no_circles() -> None:
    assert not house.circles()
    assert len(house.floors()) == len(floors())


def test_no_room_imports_the_face() -> None:
    assert not house.up()


def test_rooms_are_reached_through_their_faces() -> None:
    past = {(str(one.file.relative_to(house.PACKAGE)), ".".join(one.target)) for one in house.past()}
    assert past == PAST_A_FACE


def test_functions_are_short() -> None:
    for place, lines, parameters in house.functions():
        assert lines <= house.LONGEST, f"{place} has {lines} lines"
        assert parameters <= house.MOST, f"{place} has {parameters} parameters"


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
