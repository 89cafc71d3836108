"""A student: photos of a course project, within a number of parameters, and a report to hand in."""

from pathlib import Path

from walk import PLACES, command, has, photos

from budgetnet import Run, Trainer, folder, load

photos("photos", 40)
Path("photos/beach/.DS_Store").write_bytes(b"\0")

command("doctor")
assert "3 classes" in command("check", "photos")
command("run", "photos", "--data", "photos", "--budget", "60k", "--dry-run")
said = command("run", "photos", "--data", "photos", "--budget", "60k", "--within", "20s", "--name", "project")
assert "95 %:" in said, "the accuracy comes with its interval"

# The figures, on the command line and in Python.
command("list", "--runs")
assert "recall" in command("evaluate", "runs/project-1", "photos", "--data", "photos")
command("report", "runs/project-1", "--recipe", "photos", "--data", "photos")
run, model = Run.read("runs/project-1"), load("runs/project-1")
assert run.status == "finished"
assert sum(weights.numel() for weights in model.parameters()) <= 60_000
held = folder("photos", size=48)
measured = Trainer(show=False, out=None).evaluate(model, held.val)
low, high = measured.interval
assert 0 <= low <= measured.accuracy <= high <= 1
measured.plot().savefig("confusion.png")

# New photos, which nobody has labelled.
photos("new", 2, seed=9)
command("predict", "runs/project-1", "new", "--format", "csv", "--out", "answers.csv")

# What is handed in.
has("runs/project-1/report.html", "95 % interval", "60,000 parameters", *PLACES)
assert Path("runs/project-1/model.safetensors").stat().st_size < 400_000
pictures = {path.suffix for path in Path("runs/project-1/pictures").iterdir()}
assert pictures == {".png", ".svg"}, pictures
assert Path("confusion.png").stat().st_size > 1000
assert len(has("answers.csv").splitlines()) == 1 + 6
