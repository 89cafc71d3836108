"""FixMatch's loss: what a model is sure of in a weak view, it should say of a strong one."""

import torch
import torch.nn.functional as F
from torch import Tensor


def fixmatch_loss(weak_logits: Tensor, strong_logits: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The loss of B unlabelled images, and the share of them that counted: two float32 scalars on their
    device.

    Both logits are (B, K). The label of an image is what its weak view is called; it counts when that
    probability is at least `threshold`, and then its loss is the cross-entropy of the strong view with it.
    The mean is over all B, so that few sure labels weigh little. No gradient flows through the weak view, and
    nothing waits for the device. Raises ValueError for logits of two shapes. Reference:
    https://arxiv.org/abs/2001.07685, equation 4.
    """
    if weak_logits.ndim != 2 or weak_logits.shape != strong_logits.shape:
        raise ValueError(
            "fixmatch_loss takes the logits (B, K) of a weak and a strong view of the same images, found "
            f"{tuple(weak_logits.shape)} and {tuple(strong_logits.shape)}"
        )
    weak = weak_logits.detach().float()
    confidence, labels = weak.softmax(dim=1).amax(dim=1), weak.argmax(dim=1)
    sure = confidence >= threshold
    losses = F.cross_entropy(strong_logits.float(), labels, reduction="none")
    return torch.where(sure, losses, 0.0).mean(), sure.float().mean()
