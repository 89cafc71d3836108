"""Whole networks, one function each: from a number of classes to a plain module that takes pixels in [0, 1].

>>> from budgetnet import models
>>> sum(parameter.numel() for parameter in models.resnet(10).parameters())
1996986
"""

from budgetnet.models.mobile import mobilenet
from budgetnet.models.plain import convnet
from budgetnet.models.residual import resnet

__all__ = [
    "convnet",
    "mobilenet",
    "resnet",
]
