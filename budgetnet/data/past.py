"""Past: which images the weights of a model object learnt from before, as far as it is known."""

from dataclasses import dataclass, replace

from torch import nn


@dataclass(frozen=True)
class Past:
    """What a model learnt from: the data's names and classes, how many images, and their hashes, sorted.

    The hashes are 8 bytes of each image, little-endian, as `guard.image_hashes` gives them. Of a model out of
    a file only the `folder` is known, where its run may have left them. `whole` says that all of the weights
    are meant, not some that were inherited.
    """

    name: str = ""
    classes: tuple[str, ...] = ()
    images: int = 0
    hashes: bytes = b""
    folder: str = ""
    whole: bool = True


def past(model: object) -> Past | None:
    """What a model learnt from before, None where nothing is known of it."""
    known = getattr(model, "past", None)
    return known if isinstance(known, Past) else None


def remember(model: nn.Module, known: Past) -> None:
    """Keep what a model learnt from, as its attribute `past`."""
    model.past = known  # type: ignore[assignment]


def hand_on(model: nn.Module, trained: nn.Module) -> None:
    """Keep with `model` what the weights that it takes over from `trained` learnt from."""
    theirs = past(trained)
    if theirs is not None and past(model) is None:
        remember(model, replace(theirs, whole=False))
