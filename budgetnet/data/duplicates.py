"""Images that occur twice, byte for byte: which, and in words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol


class Digested(Protocol):
    """Images, of each of which there is a digest."""

    def digests(self) -> Iterable[bytes]: ...


class Duplicate(NamedTuple):
    """The same image twice: at position `first_at` of one split and at `second_at` of another."""

    first: str
    first_at: int
    second: str
    second_at: int


def repeated(splits: Mapping[str, Digested]) -> tuple[Duplicate, ...]:
    """Return the images that occur, byte for byte, before in their own split, or in one before it.

    One pair for each such image and split, with the first occurrence there. The split named "unlabelled" is
    left out.
    """
    listed = {name: list(split.digests()) for name, split in splits.items() if name != "unlabelled"}
    if len(set().union(*listed.values())) == sum(map(len, listed.values())):
        return ()
    pairs: list[Duplicate] = []
    seen: dict[str, dict[bytes, int]] = {}
    for name, digests in listed.items():
        here = seen[name] = {}
        for position, digest in enumerate(digests):
            pairs += [
                Duplicate(earlier, known[digest], name, position)
                for earlier, known in seen.items()
                if digest in known
            ]
            here.setdefault(digest, position)
    return tuple(pairs)


def overlaps(found: Sequence[Duplicate]) -> tuple[str, ...]:
    """Return a sentence for each two splits of these pairs: how many images they share, and one such."""
    pairs: dict[tuple[str, str], list[Duplicate]] = {}
    for pair in found:
        pairs.setdefault((pair.first, pair.second), []).append(pair)
    return tuple(_overlap(*names, some) for names, some in pairs.items() if names[0] != names[1])


def _overlap(first: str, second: str, found: Sequence[Duplicate]) -> str:
    images = "1 image occurs" if len(found) == 1 else f"{len(found):,} images occur"
    example = f"for one {first}[{found[0].first_at}] = {second}[{found[0].second_at}]"
    so = "; what is learnt by heart counts as recognised there" if first == "train" else ""
    return f"{images} in both {first} and {second}, byte for byte ({example}){so}"
