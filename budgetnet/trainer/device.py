"""Device: where a training is, and its data with it."""

from dataclasses import replace
from typing import Any

import torch

from budgetnet.data import Data


def device_of(device: str | torch.device | None) -> torch.device:
    """The device of this name, or the GPU where there is one. Raises ValueError."""
    if device is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device should be 'cuda', 'cuda:1' or 'cpu', not {str(device)!r}") from None
    if chosen.type not in ("cuda", "cpu"):
        raise ValueError(f"device should be 'cuda', 'cuda:1' or 'cpu', not {str(device)!r}")
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (chosen.index or 0) >= count:
            found = f"{count} were found" if count else "none was found"
            raise ValueError(f"device {str(device)!r} needs a CUDA GPU, and {found}; use device='cpu'")
        return torch.device("cuda", chosen.index or 0)
    return chosen


def moved(data: Data, device: torch.device) -> Data:
    """The data with all their splits on the device, or pinned where they do not fit."""
    places: dict[str, Any] = {name: split.to(device) for name, split in data.splits.items()}
    return replace(data, **places)
