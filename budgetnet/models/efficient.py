"""EfficientNet B0 to B7 as torchvision has them, from scratch or from weights that the user names."""

import hashlib
import os
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from budgetnet.data import Unavailable
from budgetnet.layers import Pixels, head, require_counts, require_rates
from budgetnet.models.entry import entry, noted
from budgetnet.values import one_of

_VARIANTS = tuple(f"b{number}" for number in range(8))
_PUBLISHED = "imagenet"
# What the published weights saw: ImageNet's, as torchvision's own transforms have them.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@noted
def efficientnet(
    classes: int,
    *,
    variant: str = "b0",
    channels: int = 3,
    weights: str | os.PathLike[str] | None = None,
    dropout: float | None = None,
    **pixels: Unpack[Pixels],
) -> nn.Sequential:
    """EfficientNet `variant`, "b0" to "b7": standardise, torchvision's features, head; from scratch.

    (B, channels, H, W) floats in [0, 1] -> (B, classes) logits; the resolution is divided by 32, rounded up,
    so images of 32 pixels end as maps of one, on which most of the last stages' weights see only padding.
    `dropout` is the rate before the linear layer, the variant's own (0.2 for b0 to 0.5 for b7) if left out;
    `mean` and `std` are pixel statistics in [0, 1], the training split's if left out. With 10 classes b0 has
    4,020,358 parameters and b3 10,711,602.

    `weights` makes it begin from external weights instead: the path of a safetensors file of this variant,
    named as torchvision or budgetnet names its tensors, or "imagenet" for torchvision's IMAGENET1K_V1, which
    are fetched once. The head is left to chance where it has another number of classes. Without `mean` and
    `std` the file's own standardisation is taken, or ImageNet's. The model's attribute `external` says where
    they came from, and travels with it: a saved model never needs them again. Nothing is fetched or read
    while a budget only counts.

    Raises ValueError for counts below 1, an unknown variant, a rate outside [0, 1) and weights that do not
    fit; data.Unavailable for weights that cannot be fetched. Reference: https://arxiv.org/abs/1905.11946.
    """
    name = "efficientnet"
    require_counts(name, classes=classes, channels=channels)
    one_of(f"{name}: variant", variant, _VARIANTS)
    if dropout is not None:
        require_rates(name, dropout=dropout)
    if weights is not None and not isinstance(weights, str | os.PathLike):
        raise ValueError(
            f'{name}: weights should be the path of a safetensors file, or "{_PUBLISHED}", not {weights!r}'
        )
    if weights is not None and channels != 3:
        raise ValueError(
            f"{name}: external weights take images of 3 channels, found channels={channels}; repeat a grey "
            "channel three times, or leave weights out"
        )
    features, linear, usual = _torchvisions(variant, classes, channels)
    end = head(linear.in_features, classes, dropout=usual if dropout is None else dropout)
    end.linear = linear
    first = entry(efficientnet, channels, pixels)
    model = nn.Sequential(OrderedDict(standardise=first, features=features, head=end))
    if weights is not None:
        own = pixels.get("mean") is not None
        model.external = _begin(model, weights, variant, keep_pixels=own)  # type: ignore[assignment]
    return model


def _torchvisions(variant: str, classes: int, channels: int) -> tuple[nn.Sequential, nn.Linear, float]:
    """torchvision's features, initialised as there, its linear layer, and its rate of dropout."""
    from torchvision.models import get_model

    network = get_model(f"efficientnet_{variant}", weights=None, num_classes=classes)
    dropout, linear = network.classifier
    first = network.features[0][0]
    if channels != first.in_channels:
        entry = nn.Conv2d(channels, first.out_channels, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(entry.weight, mode="fan_out")
        network.features[0][0] = entry
    return network.features, linear, dropout.p


def _begin(model: nn.Sequential, weights: str | os.PathLike[str], variant: str, *, keep_pixels: bool) -> str:
    """Fill `model` from external weights, unless it only has shapes, and give their origin in words."""
    planned = next(model.parameters()).is_meta
    if weights == _PUBLISHED:
        from torchvision.models import get_weight

        published = get_weight(f"EfficientNet_{variant.upper()}_Weights.IMAGENET1K_V1")
        if not planned:
            _fill(model, _fetched(published), _PUBLISHED, variant, keep_pixels)
        return f"torchvision {published}"
    path = Path(weights).expanduser()
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
        with safe_open(path, framework="pt") as stored:
            if planned:
                shapes = {key: stored.get_slice(key).get_shape() for key in stored.keys()}  # noqa: SIM118
                _matched(model, shapes, str(path), variant)
            else:
                tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
                _fill(model, tensors, str(path), variant, keep_pixels)
    except FileNotFoundError:
        raise ValueError(
            f"efficientnet: there is no file {path}; weights is the path of a safetensors file, or "
            f'"{_PUBLISHED}" for torchvision\'s'
        ) from None
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"efficientnet: {path} should be a safetensors file, and is not ({error}); write a state dict of "
            "another format to one with safetensors.torch.save_file"
        ) from None
    return f"{path.name} (sha256 {digest})"


def _fetched(published: Any) -> Mapping[str, Tensor]:
    """torchvision's published weights, from torch's cache or the network."""
    name = published.url.rsplit("/", 1)[-1]
    cached = Path(torch.hub.get_dir(), "checkpoints", name)
    by_hand = f"put {name} from {published.url} into {cached.parent}"
    if os.environ.get("BUDGETNET_OFFLINE") and not cached.exists():
        raise Unavailable(
            f"the weights {published} are not there and BUDGETNET_OFFLINE is set: unset it, or {by_hand}"
        )
    try:
        state: Mapping[str, Tensor] = published.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, weights_only=True, map_location="cpu"
        )
    except Exception as error:  # whatever urllib, zip files and torch say of a broken one
        raise Unavailable(
            f"the weights {published} cannot be had ({str(error).splitlines()[0]}): try again, or {by_hand}"
        ) from error
    return state


def _fill(
    model: nn.Sequential, tensors: Mapping[str, Tensor], source: str, variant: str, keep_pixels: bool
) -> None:
    """Copy into `model` what fits; pixel statistics only where the caller gave none."""
    pairs = _matched(model, {key: list(tensor.shape) for key, tensor in tensors.items()}, source, variant)
    if keep_pixels:
        pairs = {ours: theirs for ours, theirs in pairs.items() if not ours.startswith("standardise.")}
    elif not any(ours.startswith("standardise.") for ours in pairs):
        model.standardise.fit(_MEAN, _STD)  # type: ignore[operator, union-attr]
    model.load_state_dict({ours: tensors[theirs] for ours, theirs in pairs.items()}, strict=False)


def _matched(
    model: nn.Sequential, shapes: Mapping[str, Sequence[int]], source: str, variant: str
) -> dict[str, str]:
    """Which name found fills which tensor of `model`. Raises ValueError for other networks' weights."""
    pairs = {}
    for ours, tensor in model.state_dict().items():
        theirs = ours if ours in shapes else ours.replace("head.linear.", "classifier.1.")
        shape = list(shapes[theirs]) if theirs in shapes else None
        if shape == list(tensor.shape):
            pairs[ours] = theirs
        elif ours.startswith("features.") and not (shape is None and ours.endswith(".num_batches_tracked")):
            raise ValueError(
                f"efficientnet: {source} does not hold the weights of {variant}: {ours} should have shape "
                f"{list(tensor.shape)}, found {shape or 'none'}; name the variant that they are of"
            )
    foreign = [key for key in shapes if key.startswith("features.") and key not in pairs]
    if foreign:
        raise ValueError(
            f"efficientnet: {source} does not hold the weights of {variant}, which has no {foreign[0]}; name "
            "the variant that they are of"
        )
    return pairs
