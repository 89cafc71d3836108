"""What is worth knowing about the phases of a recipe: rates that do not move, stops that do not come."""

from collections.abc import Iterator

from budgetnet.data import Data
from budgetnet.identity import without_addresses
from budgetnet.recipe import Phase, Recipe
from budgetnet.schedule import Flat, Reactive, acts, curve

# So many steps of an epoch show whether its rate is 0 throughout.
SAMPLES = 5
# So many epochs are looked at one by one where the rate answers to the history of them all.
LONGEST = 1_000


def phase_notes(data: Data, recipe: Recipe) -> list[str]:
    """A sentence for whatever in the phases does nothing, or measures in another way than it seems."""
    notes = []
    for number, phase in enumerate(recipe.phases, start=1):
        called = f"phase {number}" + (f" ({phase.name})" if phase.name else "")
        steps = phase.steps(len(data.train), recipe.batch_size)[0]
        notes += [*_rate(phase, steps, called), *_stop(phase, called), *_measuring(phase, called)]
        notes += _kept(recipe, number, called)
    return notes


def _rate(phase: Phase, steps: int, called: str) -> Iterator[str]:
    """Whether the learning rate moves, and whether it is 0."""
    if isinstance(phase.lr, int | float) or phase.trains == ():
        return
    if isinstance(phase.lr, Reactive):
        # Each call reads the whole history: of very long phases the beginning is enough, and the end.
        counts = [*range(min(phase.epochs, LONGEST)), phase.epochs - 1]
        rates = [[phase.lr.of([Flat()] * k)] for k in dict.fromkeys(counts)]
    else:
        at = sorted({steps * k // SAMPLES for k in range(SAMPLES)} | {steps - 1})
        rate = curve(phase.lr, epochs=phase.epochs)
        rates = [[float(rate((k + step / steps) / phase.epochs)) for step in at] for k in range(phase.epochs)]
    highest = max(max(epoch) for epoch in rates)
    lowest = min(min(epoch) for epoch in rates)
    if phase.epochs * steps > 1 and highest - lowest <= 1e-9 * highest:
        yield _still(phase, called, highest)
    dead = [k for k, epoch in enumerate(rates, start=1) if max(epoch) <= 1e-9 * highest]
    if len(rates) < phase.epochs and dead and dead[-1] == len(rates):
        # The end is dead as well, and with it all that was not looked at.
        dead = [*dead[:-1], *range(len(rates), phase.epochs + 1)]
    if dead:
        shown = ", ".join(map(str, dead[:5])) + (", ..." if len(dead) > 5 else "")
        epochs = f"epoch {shown}" if len(dead) == 1 else f"{len(dead)} epochs ({shown})"
        yield f"the learning rate of {called} is 0 for the whole of {epochs}: nothing is learnt there"


def _still(phase: Phase, called: str, rate: float) -> str:
    first = acts(phase.lr, 2 * LONGEST) if isinstance(phase.lr, Reactive) else None
    if first is not None:
        return (
            f"the learning rate of {called} can never drop: {type(phase.lr).__name__} waits for {first - 1} "
            f"epochs without improvement and acts in epoch {first + 1} at the earliest, and the phase has "
            f"{phase.epochs}"
        )
    return (
        f"the learning rate of {called} never moves: {without_addresses(repr(phase.lr))} is {rate:g} "
        f"throughout its {phase.epochs} epoch{'s' * (phase.epochs > 1)}; durations are counted in epochs"
    )


def _stop(phase: Phase, called: str) -> Iterator[str]:
    """Whether early stopping can come in time to end anything."""
    if phase.stop is not None and _too_late(phase):
        yield (
            f"{called} can never stop early: a patience of {phase.stop.patience} ends it after epoch "
            f"{phase.stop.patience + 1} at the earliest, and it has {phase.epochs}"
        )


def _too_late(phase: Phase) -> bool:
    return phase.stop is not None and phase.stop.patience + 1 >= phase.epochs


def _kept(recipe: Recipe, number: int, called: str) -> Iterator[str]:
    """Whether what comes after early stopping starts from weights that were already past their best."""
    phase = recipe.phases[number - 1]
    stop = phase.stop
    if stop is None or _too_late(phase):
        return
    past = f"the weights after {stop.patience} epochs without improvement"
    if number < len(recipe.phases):
        if recipe.phases[number].start == "last":
            after = f"phase {number + 1}"
            yield f"{after} goes on from {past} if {called} stops early; start='best' takes the best"
    elif recipe.keep == "last":
        yield f"the run ends with {past} if {called} stops early; keep='best' restores the best"


def _measuring(phase: Phase, called: str) -> Iterator[str]:
    """Whether validation shows the images, and the model, as they are."""
    if phase.test.augment:
        yield (
            f"{called} is validated on augmented images (Test.augment): its figures are of other images than "
            "those of a plain phase, and do not compare with them"
        )
    if phase.test.batch_statistics:
        yield (
            f"{called} is validated with the statistics of each batch (Test.batch_statistics): what is said "
            "of an image depends on which others are beside it"
        )
