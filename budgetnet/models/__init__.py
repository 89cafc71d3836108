"""Whole networks, one function each: from a number of classes to a plain module that takes pixels in [0, 1].

>>> from budgetnet import models
>>> sum(parameter.numel() for parameter in models.resnet(10).parameters())
1996986
"""

from typing import TYPE_CHECKING, Never

from budgetnet.models.efficient import efficientnet
from budgetnet.models.imagenet import resnet18, resnet34, resnext50
from budgetnet.models.inherit import inherit
from budgetnet.models.mini import mini_resnet
from budgetnet.models.mobile import mobilenet
from budgetnet.models.plain import convnet
from budgetnet.models.residual import resnet
from budgetnet.models.speed import speednet
from budgetnet.models.vgg import vgg
from budgetnet.values import lacking

__all__ = [
    "convnet",
    "efficientnet",
    "inherit",
    "mini_resnet",
    "mobilenet",
    "resnet",
    "resnet18",
    "resnet34",
    "resnext50",
    "speednet",
    "vgg",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Never:
        raise lacking(__name__, __all__, name)
