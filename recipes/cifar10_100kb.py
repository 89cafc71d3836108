"""CIFAR-10 in a file of 100,000 bytes, all inside: the size of MLPerf Tiny's ResNet-8, in eight bits.

    budgetnet run recipes/cifar10_100kb.py --data DIR --precision bf16

That benchmark for microcontrollers asks 85 % of a network of 78,666 parameters, one block for each of three
widths (https://arxiv.org/abs/2106.07597); this one has 82,030. The rest is `cifar10_300kb`'s recipe, half as
long again, with half the weight decay, since what so few weights lack is room and not restraint.

96,209 bytes at most, 17 million multiply-accumulates. Reached here: 84.80 % of the 10,000 test images, of
copies that went through JPEG (n = 1; 3 M views in 1:37:40 on one core of an AMD EPYC with bf16, shared with
other programs, of which about 63 minutes were its own; torch 2.14.1). As an ONNX file of eight bits
throughout, 95,043 bytes, onnxruntime makes 84.72 % of them (`budgetnet export RUN cifar10_100kb --int8`). The
must of 85 % was missed. It knew 88 % of its moved and mirrored training images: it lacks room, or time, more
than restraint.
"""

from dataclasses import replace

from cifar10_300kb import data as data
from cifar10_300kb import learn, network
from cifar10_300kb import recipe as larger
from torch import nn

from budgetnet import SGD


def model() -> nn.Module:
    return network("100KB", (20, 40, 56), (1, 1, 1))


recipe = replace(larger, phases=[replace(learn, epochs=60)], optimizer=SGD(weight_decay=2.5e-4))
