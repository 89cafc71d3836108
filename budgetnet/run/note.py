"""Note: something worth knowing of a run as it goes: its kind, and a sentence."""

from dataclasses import dataclass

_PLAIN = {"resume", "labels", "early", "end"}
"""Kinds that say how a run goes, and are shown without the word "note" before them."""


@dataclass(frozen=True)
class Note:
    """A sentence `text` for people, and its `kind` for programs.

    The kinds are "check" (found before the first step), "bits" (the last bits may differ from those of an
    uninterrupted run), "change" (what a changed recipe begins anew), "resume" (where a run goes on), "labels"
    (pseudo-labels that join a phase), "early" (an early stop), "undone" (a step that was taken back),
    "memory" and "speed" (batches in parts; a model that is not compiled), "guard" (what its figures show),
    "disk" (what could not be written), "watch" (a watcher that failed) and "end" (how the run ended).
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text if self.kind in _PLAIN else f"note: {self.text}"
