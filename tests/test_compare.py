"""Comparing runs: what differs, what forms a group, figures with their spread, and the curves as PNG."""

import csv
import json
import math
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from budgetnet import SGD, Cosine, Data, Flip, Phase, Recipe, Trainer
from budgetnet.cli import main
from budgetnet.compare import Figure, compare, grouped
from budgetnet.compare.difference import MISSING, differences, short
from budgetnet.metrics import wilson
from budgetnet.reporting import NoPlot, save_curves
from budgetnet.run import Epoch, Run, borders, points
from budgetnet.text import aligned

BLUE, ORANGE, GREEN = (31, 119, 180), (255, 127, 14), (44, 160, 44)
"""matplotlib's first three colours."""

RECIPE = Recipe([Phase(epochs=2, resolution=8, lr=Cosine(0.1)), Phase(epochs=1, resolution=12, lr=0.02)])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def epoch(number: int, **figures: Any) -> Epoch:
    """The number-th of three epochs, the last of which is in a second phase."""
    found = {"train_loss": 1 / number, "train_accuracy": 0.3 * number, "val_loss": 1.2 / number}
    return Epoch(
        number=number,
        phase=1 if number < 3 else 2,
        name="",
        epoch=number if number < 3 else 1,
        epochs=2 if number < 3 else 1,
        steps=1,
        images=8,
        lr=0.1,
        resolution=8,
        train_seconds=1.0,
        **{**found, "val_accuracy": 0.25 * number, **figures},
    )


def written(
    accuracy: float | None = 0.8,
    *,
    name: str = "run",
    seed: int = 0,
    recipe: Recipe = RECIPE,
    epochs: Sequence[Epoch] = (),
    prints: dict[str, str] | None = None,
    test: float | None = None,
    **record: Any,
) -> Run:
    """A run's folder with a record as the trainer writes it."""
    result = {"val_accuracy": accuracy, "val_loss": 0.5, "epoch": 3, "seconds": 2.0}
    result |= {} if test is None else {"test_accuracy": test}
    run = Run(folder=Run.new("runs", name).folder)
    described = recipe.describe()
    run.note(
        **{
            "described": 2,
            "recipe": {**described, "seed": seed},
            "seed": seed,
            "status": "finished",
            "result": result if accuracy is not None else {"seconds": 1.0},
            "data": {
                "name": "arrays",
                "classes": ["red", "green"],
                "images": {"train": 8, "val": 4},
                "fingerprints": prints or {"train": "1" * 64, "val": "2" * 64, "test": "3" * 64},
            },
            "model": {"class": "Sequential", "parameters": 10, "bytes": 40},
            "budget": None,
            "external": "",
            "notes": [],
            "device": "cpu (x86_64)",
            "precision": "float32",
            "threads": 1,
            "versions": {"torch": "2.15.0"},
            **record,
        }
    )
    for found in epochs or [epoch(1), epoch(2), epoch(3)]:
        run.add(found)
    return run


def colours(path: Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as drawn:
        return {colour for _, colour in drawn.convert("RGB").getcolors(1 << 22) or ()}


def told(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    *_, last = result.output.strip().splitlines()
    return last.removeprefix("Error: ")


# --- what differs


def test_only_what_differs_is_listed_by_a_readable_path() -> None:
    one = RECIPE.describe()
    other = RECIPE.changed("phases.0.lr.peak", 0.05).changed("batch_size", 64).describe()
    found = [str(difference) for difference in differences([one, other], "recipe")]
    assert found == ["recipe.phases[0].lr.peak  0.1 | 0.05", "recipe.batch_size  128 | 64"]
    assert differences([one, one, one]) == []


def test_values_of_different_kinds_are_shown_as_a_whole() -> None:
    one, other = RECIPE.describe(), RECIPE.changed("phases.0.lr", 0.1).describe()
    (found,) = differences([other, one])
    assert found.path == "phases[0].lr"
    assert found.texts[0] == "0.1"
    assert found.texts[1].startswith("Cosine(peak=0.1")


def test_a_step_that_is_left_out_shows_as_a_shorter_list() -> None:
    one = RECIPE.changed("phases.0.augment", [Flip(), Flip(vertical=True)]).describe()
    (found,) = differences([one, RECIPE.describe()])
    assert found.path == "phases[0].augment"
    assert found.texts[1] == "[]"
    assert found.texts[0].startswith("[Flip(")


def test_a_phase_that_only_one_has_is_missing_in_the_other() -> None:
    one = Recipe([RECIPE.phases[0]])
    found = {d.path: d for d in differences([RECIPE.describe(), one.describe()])}
    assert list(found) == ["phases[1]"]
    assert found["phases[1]"].values[1] is MISSING
    assert found["phases[1]"].texts[1] == "-"
    assert found["phases[1]"].json()["values"][1] is None


def test_true_is_not_one_and_text_is_not_a_number() -> None:
    assert [d.path for d in differences([{"a": 1, "b": 2}, {"a": True, "b": "2"}])] == ["a", "b"]
    assert [d.path for d in differences([[0, {"a": [False]}], [0, {"a": [0]}]])] == ["[1].a[0]"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, JSON)
@example({"": False}, {"": 0})
def test_there_is_a_difference_exactly_where_values_differ(one: Any, other: Any) -> None:
    assert bool(differences([one, other])) is (
        json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)
    )
    for found in differences([one, other]):
        assert json.dumps(found.json())
        assert all(len(text) <= 60 for text in found.texts)


def test_fingerprints_and_long_values_are_shortened() -> None:
    assert short("a" * 64) == "aaaaaaaaaaaa..."
    assert len(short(list(range(100)))) == 60
    assert short({"class": "SGD", "momentum": 0.9}) == "SGD(momentum=0.9)"


# --- groups and figures


def test_runs_that_differ_in_their_seed_alone_form_a_group() -> None:
    runs = [written(seed=seed) for seed in range(3)] + [written(recipe=RECIPE.changed("batch_size", 32))]
    found = compare(runs)
    assert [len(group.runs) for group in found.groups] == [3, 1]
    assert [group.name for group in found.groups] == ["A", "B"]
    assert [str(d) for d in found.differences] == ["recipe.batch_size  128 | 32"]
    assert "nothing but the seed differs" in str(compare(runs[:3]))


@pytest.mark.parametrize(
    "record",
    [
        {"device": "another"},
        {"precision": "bfloat16"},
        {"external": "weights of somebody"},
        {"settings": ["model.width=3"]},
        {"model": {"class": "Sequential", "parameters": 11, "bytes": 44}},
        {"budget": {"params": 100}},
        {"versions": {"torch": "2.11.0"}},
        {"prints": {"train": "1" * 64, "val": "9" * 64}},
        {"recipe_file": "/some/other.py"},
        {"after": "runs/first-2"},
    ],
    ids=lambda record: next(iter(record)),
)
def test_what_differs_besides_the_seed_makes_another_group(record: dict[str, Any]) -> None:
    found = compare([written(), written(seed=1, **record)])
    assert len(found.groups) == 2
    assert found.differences


@pytest.mark.parametrize(
    "record",
    [
        {"threads": 2},
        {"settings": ["recipe.seed=1"]},
        {"prints": {"train": "1" * 64, "val": "2" * 64}},
    ],
    ids=["threads", "a setting of the recipe", "no test split"],
)
def test_what_does_not_change_the_training_makes_no_group(record: dict[str, Any]) -> None:
    assert len(compare([written(), written(seed=1, **record)]).groups) == 1


def test_seeds_of_a_chain_form_a_group_though_each_follows_its_own_run() -> None:
    chained = [written(seed=k, after=f"runs/first-{k}") for k in (1, 2)]
    assert len(grouped(chained)) == 1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_figures_have_the_mean_and_the_standard_deviation_of_a_sample(values: list[float]) -> None:
    found = Figure(tuple(values))
    assert found.mean == pytest.approx(statistics.mean(values))
    assert found.sd == pytest.approx(statistics.stdev(values), abs=1e-12)
    assert (found.n, found.lowest, found.highest) == (len(values), min(values), max(values))


def test_figures_of_one_or_no_value_claim_no_spread() -> None:
    assert (Figure((0.5,)).percent(), Figure((0.5,)).range()) == ("50.00 %", "")
    assert Figure(()).percent() == "-"
    assert Figure((math.nan, 0.5)).n == 1
    json = {"n": 1, "mean": 0.5, "sd": None, "min": 0.5, "max": 0.5, "low95": None, "high95": None}
    assert Figure((0.5,)).json() == json


def test_the_table_has_mean_spread_and_range_of_each_group() -> None:
    runs = [written(a, seed=k, test=a - 0.1) for k, a in enumerate((0.8, 0.84))]
    text = str(compare([*runs, written(0.9, recipe=RECIPE.changed("batch_size", 32))]))
    row = next(line for line in text.splitlines() if line.startswith("A "))
    assert "run-1, run-2" in row
    assert "82.00 ± 2.83 %  80.00..84.00 %" in row
    assert "72.00 ± 2.83 %" in row
    # The training accuracy of the epoch whose weights were kept.
    assert "90.00 ± 0.00 %" in row
    other = next(line for line in text.splitlines() if line.startswith("B "))
    assert "90.00 %" in other
    assert "±" not in other.split("run-3")[1].split("90.00 %")[0]


def test_training_figures_are_those_of_the_kept_epoch() -> None:
    run = written()
    run.note(result={"val_accuracy": 0.5, "epoch": 2})
    assert compare(run).groups[0].figure("train_accuracy").values == (0.6,)
    assert compare(run).groups[0].figure("train_eval_accuracy").n == 0


def test_the_difference_of_two_groups_has_a_standard_error() -> None:
    ours, theirs = (0.80, 0.84, 0.82), (0.70, 0.76)
    runs = [written(a, seed=k) for k, a in enumerate(theirs)]
    runs += [written(a, seed=k, recipe=RECIPE.changed("batch_size", 32)) for k, a in enumerate(ours)]
    (found,) = compare(runs).contrasts
    assert found.difference == pytest.approx(0.09)
    error = math.sqrt(statistics.variance(ours) / 3 + statistics.variance(theirs) / 2)
    assert found.error == pytest.approx(error)
    assert str(found) == f"B - A: validation +9.00 points, standard error {100 * error:.2f}"


def test_one_run_a_side_gives_no_difference_but_advice() -> None:
    found = compare([written(), written(recipe=RECIPE.changed("batch_size", 32))])
    assert found.contrasts == ()
    assert any("--seeds 3" in note for note in found.notes)


# --- what is not as it seems


def test_figures_on_different_images_are_said_not_to_be_comparable() -> None:
    other = {"train": "1" * 64, "val": "9" * 64}
    runs = [written(seed=k) for k in range(2)] + [written(seed=k, prints=other) for k in range(2)]
    found = compare(runs)
    assert "the validation images are not the same (A | B)" in found.notes[0]
    assert not found.contrasts
    assert any(d.path == "data.fingerprints.val" for d in found.differences)


def fold(at: int, seed: int = 0, **more: Any) -> Run:
    """A run of a fold of one whole, which holds out images of its own."""
    prints = {"train": "1" * 64, "val": f"{at}" * 64}
    return written(seed=seed, prints=prints, fold={"at": at, "of": 3, "whole": "7" * 64}, **more)


def test_folds_of_one_whole_have_other_images_by_design() -> None:
    found = compare([fold(at, seed) for at in range(2) for seed in range(2)])
    assert found.notes == ()
    other = RECIPE.changed("batch_size", 32)
    both = [fold(at) for at in range(2)] + [fold(at, recipe=other) for at in range(2)]
    assert [str(each) for each in compare(both).notes] == []
    assert len(compare(both).contrasts) == 1
    parted = [fold(0), fold(1), fold(0, recipe=other), fold(2, recipe=other)]
    assert "the validation images are not the same (A | B)" in compare(parted).notes[0]
    assert not compare(parted).contrasts
    assert compare([fold(0), fold(0)]).notes == (
        "A: seed 0 of fold 1 counts 2 times; such runs are not independent",
    )


def test_external_weights_are_marked() -> None:
    found = compare([written(external="torchvision's ImageNet weights")])
    assert found.notes == ("A: external weights (torchvision's ImageNet weights), not trained from scratch",)
    assert found.json()["groups"][0]["external"] == "torchvision's ImageNet weights"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("running", "unfinished after 3 epochs, and not counted"),
        ("paused", "paused after 3 epochs, and not counted"),
        ("stopped", "stopped by the user after 3 epochs"),
        ("failed", "failed after 3 epochs, and not counted (the loss became nan)"),
    ],
)
def test_what_did_not_finish_is_named_and_not_counted(status: str, words: str) -> None:
    bad = written(
        0.1, seed=2, status=status, **({"error": "the loss\nbecame nan"} if status == "failed" else {})
    )
    found = compare([written(0.8), written(0.9, seed=1), bad])
    assert found.groups[0].figure("val_accuracy").values == (0.8, 0.9)
    assert any(note.startswith("run-1: ") and words in note for note in found.notes)


def test_a_seed_that_counts_twice_is_told() -> None:
    found = compare([written(seed=7), written(seed=7)])
    assert found.notes == ("A: seed 7 counts 2 times; such runs are not independent",)


def test_what_a_run_noted_is_passed_on_once() -> None:
    runs = [written(seed=k, notes=["an epoch is one step"]) for k in range(2)]
    assert compare(runs).notes == ("A: an epoch is one step",)


def test_the_same_folder_counts_once() -> None:
    run = written()
    assert run.folder is not None
    assert len(compare([run, run.folder, str(run.folder.resolve())]).runs) == 1


# --- broken folders


def test_broken_folders_are_refused_in_one_sentence() -> None:
    good, bad = written(), written()
    assert good.folder is not None
    assert bad.folder is not None
    with pytest.raises(ValueError, match=r"holds run\.json, and nowhere does not"):
        compare([good, "nowhere"])
    with pytest.raises(ValueError, match="nothing to compare"):
        compare([])
    for line in ('{"number": 1}', "[]", "{", "7"):
        (bad.folder / "metrics.jsonl").write_text(f"{line}\n")
        with pytest.raises(ValueError, match=r"metrics\.jsonl"):
            compare([good, bad.folder])
    (bad.folder / "metrics.jsonl").unlink()
    for record in ('{"recipe": 3}', '{"result": []}', '{"data": null}', "[]", "{", "\udcff"):
        (bad.folder / "run.json").write_bytes(record.encode(errors="surrogateescape"))
        with pytest.raises(ValueError, match="run-2"):
            compare([good, bad.folder])


def test_an_empty_record_can_be_compared() -> None:
    folder = Run.new("runs", "bare").folder
    assert folder is not None
    (folder / "run.json").write_text("{}")
    text = str(compare([folder, written()]))
    assert "bare-1: interrupted, and not counted" in text


# --- curves


def test_runs_of_several_groups_get_a_colour_a_group(here: Path) -> None:
    runs = [written(seed=k) for k in range(2)]
    runs += [written(recipe=RECIPE.changed("batch_size", size)) for size in (32, 64)]
    save_curves(runs, here / "curves.png")
    assert {ORANGE, GREEN} <= colours(here / "curves.png")
    with Image.open(here / "curves.png") as drawn:
        # Accuracy and loss of training and validation, learning rate and resolution, and the legend.
        assert drawn.width == 1248
        assert drawn.height > 3 * 3.4 * 120


def test_one_run_is_drawn_with_a_colour_for_each_thing_measured(here: Path) -> None:
    save_curves(written(), here / "new" / "plain.png")
    plain = colours(here / "new" / "plain.png")
    assert {BLUE, ORANGE} <= plain
    assert GREEN not in plain
    tested = [epoch(k, test_loss=0.5, test_accuracy=0.5) for k in (1, 2, 3)]
    run = written(epochs=tested)
    assert run.folder is not None
    save_curves(run.folder, here / "tested.png")
    assert {BLUE, ORANGE, GREEN} <= colours(here / "tested.png")


def test_what_was_not_measured_is_left_out_of_a_curve() -> None:
    run = written(epochs=[epoch(1), epoch(2, val_loss=math.nan), epoch(3, val_loss=math.inf)])
    assert points(run, "val_loss") == [(1, 1.2)]
    assert points(run, "test_loss") == []


def test_borders_lie_between_phases_and_sessions() -> None:
    epochs = [epoch(1), epoch(2), epoch(3), epoch(4, session=2)]
    assert borders(epochs) == [2.5, 3.5]
    assert borders([]) == []


def test_a_run_without_an_epoch_has_no_curves() -> None:
    with pytest.raises(NoPlot, match="none of these runs has finished an epoch"):
        save_curves(Run(), "curves.png")


def test_without_matplotlib_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run = written()
    with pytest.raises(NoPlot, match=r"pip install 'budgetnet\[report\]'"):
        save_curves(run, here / "new" / "curves.png")
    assert not (here / "new").exists()
    output = told("compare", run.folder)
    assert "80.00 %" in output
    assert "no curves: a plot as PNG needs matplotlib" in output
    assert not Path("compare").exists()


def test_a_folder_for_curves_that_cannot_be_made_is_told(here: Path) -> None:
    (here / "file").write_text("")
    assert "cannot be written" in refused("compare", written().folder, "--out", here / "file")


# --- the command


def test_compare_prints_the_tables_and_draws_the_curves() -> None:
    written(), written(seed=1), written(recipe=RECIPE.changed("batch_size", 32))
    output = told("compare", "run-1", "runs/run-2", "run-3")
    assert "recipe.batch_size  128  32" in output
    assert "run-1, run-2" in output
    assert output.endswith("wrote compare/curves.png\n")
    assert Path("compare/curves.png").read_bytes()[:4] == b"\x89PNG"


def test_compare_prints_json_alone() -> None:
    written(0.8), written(0.9, seed=1)
    found = json.loads(told("compare", "run-1", "run-2", "--json"))
    (group,) = found["groups"]
    assert group["figures"]["val_accuracy"]["mean"] == pytest.approx(0.85)
    assert [run["seed"] for run in group["runs"]] == [0, 1]
    assert found["differences"] == []
    assert not Path("compare").exists()


def test_compare_refuses_a_folder_without_a_run_in_one_sentence() -> None:
    Path("empty").mkdir()
    assert refused("compare", "empty").startswith("a run's folder holds run.json, and empty does not")
    assert "Missing argument 'RUN...'" in refused("compare")


def test_a_run_of_the_trainer_compares_with_itself_and_another(data: Data, model: Any, here: Path) -> None:
    recipe = Recipe([Phase(epochs=1, resolution=8, lr=0.05)], optimizer=SGD(), batch_size=64)
    trainer = Trainer("cpu", show=False)
    first = trainer.fit(model, data, recipe)
    second = trainer.fit(model, data, recipe.changed("phases.0.lr", 0.1).changed("measure", ("val", "train")))
    assert first.folder is not None
    copied = shutil.copytree(first.folder, here / "copied")
    found = compare([first, copied, second])
    assert [len(group.runs) for group in found.groups] == [2, 1]
    assert [d.path for d in found.differences] == ["recipe.phases[0].lr", "recipe.measure"]
    assert found.groups[1].figure("train_eval_accuracy").n == 1
    assert "seed 0 counts 2 times" in str(found)


def test_tables_line_up_without_trailing_blanks() -> None:
    assert aligned([["a", "n"], ["long", "10"], ["b", ""]]) == "a      n\nlong  10\nb"


# --- for a paper


def two_groups() -> list[str]:
    wide = RECIPE.changed("batch_size", 64)
    runs = [written(0.80), written(0.84, seed=1), written(0.90, recipe=wide, name="wide_1")]
    runs[2].note(result={**runs[2].result, "val_images": 100, "val_f1": 0.75})
    return [str(run.folder) for run in runs]


def test_intervals_are_students_over_seeds_and_wilsons_for_one_run() -> None:
    first, second = compare(two_groups()).groups
    low, high = first.interval("val_accuracy")
    # t of one degree of freedom is 12.706; the standard error is 0.02.
    assert (low, high) == pytest.approx((0.82 - 12.7062 * 0.02, 0.82 + 12.7062 * 0.02), abs=1e-5)
    assert second.interval("val_accuracy") == wilson(90, 100)
    assert all(map(math.isnan, second.interval("val_f1")))


def test_compare_shows_intervals_and_metrics_on_request() -> None:
    folders = two_groups()
    plain = CliRunner().invoke(main, ["compare", *folders]).output
    assert "95 %" not in plain
    assert "0.7500" in plain
    told = CliRunner().invoke(main, ["compare", *folders, "--ci"]).output
    assert "82.56..94.48 %" in told


def test_the_figures_are_written_for_papers_pages_and_programs() -> None:
    folders = two_groups()

    def lines(form: str, *more: str) -> list[str]:
        result = CliRunner().invoke(main, ["compare", *folders, "--format", form, *more])
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    head, rule, _, second = lines("markdown", "--ci")
    assert head == "| group | runs | n | val (%) | 95 % | train (%) | 95 % | val_f1 | 95 % |"
    assert rule == "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert second == "| B | wide_1-1 | 1 | 90.00 | 82.56..94.48 | 90.00 |  | 0.7500 |  |"
    latex = lines("latex")
    assert latex[0] == r"\begin{tabular}{llrrrr}"
    assert latex[2] == r"group & runs & n & val (\%) & train (\%) & val\_f1 \\"
    assert r"82.00 $\pm$ 2.83" in latex[4]
    assert latex[5].startswith(r"B & wide\_1-1 & 1 & 90.00")
    first, second_row = csv.DictReader(lines("csv"))
    assert first["val"] == "0.82"
    assert (second_row["val"], second_row["val_sd"], second_row["val_f1"]) == ("0.9", "", "0.75")
    assert float(second_row["val_low"]) == pytest.approx(wilson(90, 100)[0], abs=1e-6)
    with pytest.raises(ValueError, match="should be one of table, latex, markdown, csv"):
        compare(folders).text(form="html")
