"""The head of fully connected layers that is applied densely to maps larger than the one it was built for."""

from collections import OrderedDict

from torch import Tensor, nn

from budgetnet.layers.activations import relu
from budgetnet.layers.arguments import Act, require_counts, require_makers, require_rates


class DenseHead(nn.Module):
    """Three linear layers over each window of a map, and the mean of the logits; see `dense_head`."""

    def __init__(
        self, inputs: int, classes: int, size: int, hidden: int = 4096, dropout: float = 0.5, act: Act = relu
    ) -> None:
        super().__init__()
        self.size = size
        self.first = _hidden(inputs * size * size, hidden, dropout, act)
        self.second = _hidden(hidden, hidden, dropout, act)
        self.linear = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, classes); ValueError for maps below size x size."""
        height, width = x.shape[-2:]
        if min(height, width) < self.size:
            raise ValueError(
                f"DenseHead takes maps of at least {self.size}x{self.size}, found {height}x{width}: show the "
                "model larger images, or build it for smaller ones"
            )
        windows = x.unfold(2, self.size, 1).unfold(3, self.size, 1)
        vectors = windows.permute(0, 2, 3, 1, 4, 5).flatten(3)
        scores: Tensor = self.linear(self.second(self.first(vectors)))
        return scores.mean((1, 2))

    def extra_repr(self) -> str:
        """What `print` shows between the brackets."""
        return f"size={self.size}"


def dense_head(
    inputs: int, classes: int, *, size: int, hidden: int = 4096, dropout: float = 0.5, act: Act = relu
) -> DenseHead:
    """Three fully connected layers on a map of size x size, and densely on any larger map.

    (B, inputs, H, W) -> (B, classes), for H and W of at least `size`. The map is flattened as it is, not
    pooled; on a larger one the same weights read every window of size x size pixels, as convolutions would,
    and the logits of all windows are averaged. Each of the two hidden layers is followed by the activation
    and by dropout where its rate is above 0; the children are called first, second and linear. Raises
    ValueError for counts below 1 and a rate outside [0, 1). Reference: https://arxiv.org/abs/1409.1556,
    section 3.2.

    >>> end = dense_head(8, 10, size=2, hidden=16)
    >>> import torch
    >>> end(torch.rand(1, 8, 2, 2)).shape, end(torch.rand(1, 8, 5, 3)).shape
    (torch.Size([1, 10]), torch.Size([1, 10]))
    """
    name = "dense_head"
    require_counts(name, inputs=inputs, classes=classes, size=size, hidden=hidden)
    require_rates(name, dropout=dropout)
    require_makers(name, act=act)
    return DenseHead(inputs, classes, size, hidden, dropout, act)


def _hidden(inputs: int, outputs: int, dropout: float, act: Act) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(linear=nn.Linear(inputs, outputs), act=act())
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    return nn.Sequential(layers)
