"""Absurd numbers in every option that takes one, and in every budget: one sentence, at once, exit code 2."""

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from trials import trials

import budgetnet
from budgetnet import Budget, models
from budgetnet.budget import ledger
from budgetnet.cli import main

RECIPE = """
import torch
from budgetnet import Budget, Phase, Recipe, arrays, models
def model(widths=(4,)):
    return Budget("100k").build(models.convnet, 2, widths=widths)
def data():
    labels = torch.arange(8) % 2
    images = torch.arange(8).byte().reshape(8, 1, 1, 1).expand(8, 3, 8, 8).contiguous()
    return arrays(images, labels, classes=("a", "b"), val=(255 - images, labels))
recipe = Recipe(phases=[Phase(epochs=1, resolution=8, lr=0.1)], batch_size=4)
"""
RUN, SWEEP = ("run", "recipe.py", "-q"), ("sweep", "recipe.py", "-q", "--over", "recipe.batch_size=2,4")
TASKS = ("--cpus-per-trial", "--gpus-per-trial")
OPTIONS: dict[tuple[str, ...], tuple[str, ...]] = {
    RUN: ("--scale", "--seed", "--seeds", "--max-time", "--within", "--together", "--folds", *TASKS),
    SWEEP: ("--scale", "--seed", "--seeds", "--together", *TASKS),
    ("sweep", "recipe.py", "-q", "--search", "recipe.batch_size=2..4"): ("--trials", "--within"),
    ("profile", "recipe.py"): ("--steps", "--threads"),
    ("preview", "recipe.py"): ("--scale", "--seed"),
    ("count", "recipe.py"): ("--resolution", "--depth", "--budget"),
    ("count", "m.safetensors", "--summary"): ("--resolution", "--depth", "--budget"),
    ("evaluate", "m.safetensors", "recipe.py"): ("--resolution", "--resize", "--resolutions", "--shift"),
    ("compress", "m.safetensors", "recipe.py"): ("--bytes", "--epochs"),
    ("export", "m.safetensors", "--to", "pt2"): ("--tolerate",),
    ("predict", "m.safetensors", "photos/a/0.png"): ("--resolution", "--shift", "--top"),
    ("check", "photos"): ("--size",),
}
ABSURD = (
    *("1e999", "-1e999", "nan", "inf", "-inf", "-1", "-0.5", str(10**40), "-" + str(10**40), "9" * 5000),
    *("9e999999999", "", " ", "x", "0x10", "1e", "e5", "--", "\x1b[2J", "\u202e1", "\0", "1\n2", "0b1", "½"),
    *("1/0", "__import__('os')", "None", "True", "[1]", "9" * 400 + "M", "1e-400", "²", "−5", "1e+99999"),
)
TYPED = st.one_of(
    st.sampled_from(ABSURD),
    st.integers(max_value=-1).map(str),
    st.integers(min_value=10**20).map(str),
    st.floats(max_value=-1e-9).map(repr),
    st.text(st.characters(codec="utf-8", exclude_categories=["Nd"]), max_size=30).filter(str.strip),
)


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, before = tmp_path_factory.mktemp("absurd"), Path.cwd()
    os.chdir(folder)
    Path("recipe.py").write_text(RECIPE)
    for name in ("a", "b"):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8), (number, ord(name), 0)).save(f"photos/{name}/{number}.png")
    model = Budget("100k").build(models.convnet, classes=2, widths=(4,))
    budgetnet.save(model, "m.safetensors", classes=("a", "b"), resolution=8)
    shown = ("preview", "recipe.py", "--scale=1e-9", "--out", "warm")
    for arguments in ((*RUN, "--max-time=x"), (*SWEEP, "--scale=x"), shown):
        CliRunner().invoke(main, arguments)  # whatever is imported late is imported now
    yield folder
    os.chdir(before)


def numeric() -> set[tuple[str, str]]:
    """The commands' options that take a number, as click knows them."""
    found = set()
    kinds = (click.types.IntParamType, click.types.FloatParamType)
    for name, command in main.commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and isinstance(parameter.type, kinds):
                found.add((name, parameter.opts[0]))
    return found


def told(arguments: tuple[str, ...]) -> str:
    result = CliRunner().invoke(main, arguments)
    lines = result.output.strip().splitlines()
    assert result.exit_code == 2, (arguments, result.exit_code, result.output[-300:], result.exception)
    assert lines[-1].startswith("Error: "), (arguments, lines[-3:])
    assert "Traceback" not in result.output
    assert "bug" not in lines[-1]
    assert lines[-1].isprintable(), (arguments, lines[-1])
    assert len(lines[-1]) < 500, (arguments, lines[-1])
    return lines[-1]


CASES = [(command, option) for command, options in OPTIONS.items() for option in options]


def test_every_option_that_takes_a_number_is_tried() -> None:
    assert numeric() <= {(command[0], option) for command, option in CASES}
    assert len(numeric()) >= 14


@pytest.mark.parametrize(
    ("command", "option"), CASES, ids=lambda held: held if isinstance(held, str) else held[0]
)
@settings(max_examples=trials(6), deadline=None, suppress_health_check=list(HealthCheck))
@given(typed=TYPED)
def test_an_absurd_number_is_one_sentence(command: tuple[str, ...], option: str, typed: str) -> None:
    told((*command, f"{option}={typed}"))
    assert not Path("runs").exists()
    assert not Path("preview").exists()


@pytest.mark.slow
@pytest.mark.parametrize("typed", ABSURD)
def test_absurd_numbers_are_one_sentence_in_every_option(typed: str) -> None:
    for command, option in CASES:
        told((*command, f"{option}={typed}"))


SETTINGS = (
    *("recipe.batch_size", "recipe.seed", "recipe.clip", "recipe.phases.0.epochs", "recipe.phases.0.lr"),
    *("recipe.phases.0.resolution", "recipe.phases.0.views", "recipe.phases.0.batch_size", "recipe.average"),
)


@pytest.mark.parametrize("path", SETTINGS)
@pytest.mark.parametrize("typed", ["1e999", "nan", "-1", str(-(10**40)), "x", "1j", "[[[]]]", "()"])
def test_an_absurd_setting_is_one_sentence(path: str, typed: str) -> None:
    text = typed if typed not in ("1e999", "nan") else f"float('{typed}')"
    told((*RUN, "--dry-run", "--set", f"{path}={text}"))


@pytest.mark.parametrize("limit", ["params", "macs", "bytes", "resolution"])
@settings(max_examples=trials(60), deadline=None)
@given(
    written=st.one_of(
        st.sampled_from(
            [*ABSURD, 10**5000, -(10**5000), float("inf"), float("nan"), 1e300, [1], b"2M", 10**19]
        ),
        st.text(max_size=20).filter(lambda text: not any(c.isdigit() or c == "=" for c in text)),
        st.integers(max_value=0),
        st.integers(min_value=10**18 + 1),
        st.from_regex(r"[1-9][0-9]{0,9}e[0-9]{3,10}[kMGB]?", fullmatch=True),
        st.floats(max_value=0),
    )
)
def test_an_absurd_budget_is_one_sentence(limit: str, written: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a (budget|whole number of pixels)") as refused:
        Budget(**{"macs": 1, "resolution": 8, limit: written})
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


@settings(max_examples=trials(60), deadline=None)
@given(
    option=st.text(max_size=12)
    | st.sampled_from(["params", "bytes", "latency", "stored", "scratch", "resolution"]),
    value=st.text(max_size=12).filter(lambda text: not any(c.isdigit() for c in text)),
)
@example(option="", value="")
@example(option="params", value="=")
@example(option="stored", value="int4")
@example(option="scratch", value="\n")
@example(option="params=2M, scratch", value="yes")
@example(option="macs=2M, resolution", value="9" * 5000)
def test_an_absurd_budget_in_one_text_is_one_sentence(option: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"budget|whole number of pixels") as refused:
        Budget(f"{option}={value}")
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


@given(number=st.integers(1, 9_999), unit=st.sampled_from(["", "k", "M", "G", "B", "T"]))
def test_what_can_be_meant_is_read_exactly(number: int, unit: str) -> None:
    size = {"": 0, "k": 3, "M": 6, "G": 9, "B": 9, "T": 12}[unit]
    assert Budget(params=f"{number}{unit}").params == number * 10**size
    assert Budget(params=f"{number:,}e2{unit}").params == number * 10 ** (size + 2)
    assert Budget(params=number * 10**size).params == number * 10**size
    assert Budget(params=f"{Decimal(number) / 4}k").params == number * 250


def test_a_resolution_without_end_is_refused_at_once() -> None:
    for resolution in (10**40, 65_537, (10**40, 8), -1):
        with pytest.raises(ValueError, match=r"whole number of pixels above 0: .*65,536 is the most"):
            ledger(nn.Conv2d(3, 4, 3), resolution)
