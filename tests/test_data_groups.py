"""Groups in `check`: what a run would hold out by them, and what it would refuse."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from budgetnet import folder
from budgetnet.cli import main
from budgetnet.data import DataError


def test_check_knows_groups_as_a_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ["name,label,patient"]
    for number in range(20):
        path = Path("photos", "ab"[number % 2], f"patient{number // 4}-{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 12), (10 * number, number, 9)).save(path)
        rows.append(f"{path.relative_to('photos')},{'ab'[number % 2]},{number // 4}")
    Path("train.csv").write_text("\n".join(rows))

    def check(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["check", *words])
        return result.exit_code, result.output

    said = "note: 5 groups, each kept on one side of what is held out"
    assert said in check("photos", "--groups", "patient[0-9]+")[1]
    assert said in check("train.csv", "--images", "photos", "--label", "label", "--groups", "patient")[1]
    # Of whole classes in one group nothing can be held out: a run says the same.
    for groups, sentence in (
        ("^[ab]", "no group can be held out without"),
        ("x+", "finds none in a/"),
        ("(", "should be a pattern"),
    ):
        with pytest.raises(DataError, match=sentence):
            folder("photos", size=8, groups=groups)
        code, output = check("photos", "--groups", groups)
        assert (code, sentence in output) == (2, True)
