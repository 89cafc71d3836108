"""A researcher: several seeds, a sweep, an ablation, intervals, and a table for the paper."""

import json
from pathlib import Path

from walk import command, has

from budgetnet import Run
from budgetnet.compare import compare

command("copy", "quickstart", "mine.py")
command("run", "mine.py", "--scale", "0.1", "--seeds", "3", "--together", "1", "--name", "whole", "-q")

# One change at a time.
bare = ["--set", "recipe.phases.0.augment=()"]
command("run", "mine.py", "--scale", "0.1", "--seeds", "3", "--together", "1", "--name", "bare", *bare, "-q")
over = ["--over", "recipe.phases.0.lr.peak=0.03,0.1", "--seeds", "2", "--together", "1", "--name", "rates"]
command("sweep", "mine.py", *over, "--scale", "0.05", "-q")

runs = [f"runs/{name}-{number}" for name in ("whole", "bare") for number in (1, 2, 3)]
said = command("compare", *runs, "--ci")
assert "recipe.phases[0].augment" in said, "what differs is named"
assert "95 %" in said
Path("table.tex").write_text(command("compare", *runs, "--ci", "--format", "latex"))
Path("figures.csv").write_text(command("compare", *runs, "--ci", "--format", "csv"))
command("compare", "runs/whole-1", "runs/bare-1", "--paired", "mine.py")
command("report", *runs)

# What stands in the paper, and what others need to repeat it.
has("table.tex", r"\begin{tabular}", r"\end{tabular}")
assert len(has("figures.csv", "val_low", "val_high").splitlines()) == 1 + 2
has("report/report.html", "whole-1", "bare-1")
assert Path("compare/curves.png").stat().st_size > 1000
sweep = json.loads(has("runs/rates/sweep.json"))
assert len(sweep["trials"]) == 2
assert len(has("runs/rates/sweep.csv", "recipe.phases.0.lr.peak").splitlines()) == 1 + 2
found = compare(runs)
assert [group.figure("val_accuracy").n for group in found.groups] == [3, 3]
assert len(found.differences) >= 1
records = [Run.read(run).record for run in runs]
assert [record["seed"] for record in records] == [0, 1, 2] * 2
for run, record in zip(runs, records):
    assert record["versions"].keys() >= {"budgetnet", "torch", "python"}
    assert record["command"].startswith("budgetnet run mine.py")
    assert record["source"].keys() == {"mine.py"}, "the recipe's digest, and beside the run its text"
    assert has(f"{run}/mine.py") == has("mine.py")
    assert len(has(f"{run}/metrics.jsonl").splitlines()) == len(Run.read(run).history)
