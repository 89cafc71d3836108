"""Report: the page that a finished run leaves in its folder, of what is at hand then."""

from budgetnet.budget import built, ledger
from budgetnet.engine import Evaluation, Training
from budgetnet.page import PAGE, Extra, TrainingViews, page, phase_views, write_file
from budgetnet.pictures import NoTemplates
from budgetnet.randomness import own_randomness
from budgetnet.run import Note, Run

_LATER = "not measured at a run's end; `budgetnet report {folder}` measures it where the data can be read"
_MOST_PIXELS = 2048**2
"""Pixels of an image of which a run's end makes views."""


def leave_report(run: Run, training: Training, evaluation: Evaluation | None) -> Note | None:
    """Write the page into the run's folder; where it could not be, gives a note that says why.

    Nothing is measured for it and no training waits: the figures are those of the kept weights' last
    validation. Whatever fails here costs the page, and never the run. Without jinja2 there is none.
    """
    if run.place is None:
        return None
    try:
        with own_randomness(training.engine.device):
            extra = _extra(run, training, evaluation)
        write_file(page(run, extra).encode(), run.place / PAGE)
    except NoTemplates:
        return None
    except Exception as error:
        return Note("disk", f"{PAGE} was not written: {error}")
    return None


def _extra(run: Run, training: Training, evaluation: Evaluation | None) -> Extra:
    """What the page shows beside the run's own files."""
    data, missing = training.data, {"resolutions": _LATER.format(folder=run.folder)}
    costs = None
    try:
        origin = built(training.model)
        stored = None if origin is None else origin.budget.stored
        costs = ledger(training.model, training.recipe.phases[-1].last_resolution, stored=stored)
    except Exception as error:
        missing["ledger"] = f"the model could not be counted: {error}"
    views: tuple[TrainingViews, ...] = ()
    height, width = data.train.shape[-2:]
    if height * width > _MOST_PIXELS:
        missing["views"] = _LATER.format(folder=run.folder)
    else:
        try:
            views = phase_views(data.train, training.recipe, data.classes)
        except Exception as error:
            missing["views"] = f"the views could not be made: {error}"
    if evaluation is None:
        missing["evaluation"] = "no validation images were held out"
    return Extra(costs, evaluation, data.val, views=views, missing=missing)
