"""Four people walk from a bare wheel, outside of the repository, to the files that they must hand in."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from built import environment, run

JOURNEYS = Path(__file__).with_name("journeys")
NEEDS = {"student": "matplotlib", "engineer": "onnxscript", "researcher": "matplotlib"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (wheel,) = dist.glob("*.whl")
    return environment(wheel, tmp_path_factory.mktemp("journeys") / "home")


@pytest.mark.parametrize("who", ["student", "competitor", "engineer", "researcher"])
def test_a_journey_ends_with_what_must_be_handed_in(who: str, python: Path, tmp_path: Path) -> None:
    if who in NEEDS and not find_spec(NEEDS[who]):
        pytest.skip(f"takes {NEEDS[who]}")
    for name in ("walk", who):
        shutil.copy(JOURNEYS / f"{name}.py", tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    cache = str(tmp_path / "cache")
    run(python, tmp_path / f"{who}.py", cwd=work, OMP_NUM_THREADS="1", XDG_CACHE_HOME=cache)
