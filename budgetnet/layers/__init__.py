"""Layer builders: plain functions from channel counts to plain modules, each counted on its own.

>>> import torch
>>> from torch import nn
>>> from budgetnet.layers import basic, head, stage
>>> network = nn.Sequential(stage(basic, 3, 16, 2), stage(basic, 16, 32, 2, stride=2), head(32, 10))
>>> network(torch.rand(1, 3, 16, 16)).shape
torch.Size([1, 10])
"""

from typing import TYPE_CHECKING, Never

from budgetnet.layers.activations import gelu, hardswish, leaky, relu, relu6, silu
from budgetnet.layers.arguments import Act, Norm
from budgetnet.layers.arguments import require_counts as require_counts
from budgetnet.layers.arguments import require_makers as require_makers
from budgetnet.layers.arguments import require_positive as require_positive
from budgetnet.layers.arguments import require_rates as require_rates
from budgetnet.layers.arguments import require_stages as require_stages
from budgetnet.layers.convolution import conv_norm_act, depthwise_separable, stem
from budgetnet.layers.dense import DenseHead, dense_head
from budgetnet.layers.initialise import can_start_at_zero as can_start_at_zero
from budgetnet.layers.initialise import dirac, kaiming
from budgetnet.layers.mobile import SqueezeExcite, inverted_residual, squeeze_excite
from budgetnet.layers.noise import StochasticDepth, dropout, rising, stochastic_depth
from budgetnet.layers.pixels import Pixels, Standardise, standardise
from budgetnet.layers.pooling import avg_pool, global_pool, head, max_pool
from budgetnet.layers.quantised import Quantised as Quantised
from budgetnet.layers.quantised import QuantisedConv2d, QuantisedLinear
from budgetnet.layers.quantised import uncalled as uncalled
from budgetnet.layers.residual import Residual, basic, bottleneck, stage
from budgetnet.layers.scale import Scale, batch_norm, scale
from budgetnet.layers.whiten import Fitting, Whiten, whiten
from budgetnet.values import lacking

__all__ = [
    "Act",
    "DenseHead",
    "Fitting",
    "Norm",
    "Pixels",
    "QuantisedConv2d",
    "QuantisedLinear",
    "Residual",
    "Scale",
    "SqueezeExcite",
    "Standardise",
    "StochasticDepth",
    "Whiten",
    "avg_pool",
    "basic",
    "batch_norm",
    "bottleneck",
    "conv_norm_act",
    "dense_head",
    "depthwise_separable",
    "dirac",
    "dropout",
    "gelu",
    "global_pool",
    "hardswish",
    "head",
    "inverted_residual",
    "kaiming",
    "leaky",
    "max_pool",
    "relu",
    "relu6",
    "rising",
    "scale",
    "silu",
    "squeeze_excite",
    "stage",
    "standardise",
    "stem",
    "stochastic_depth",
    "whiten",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Never:
        raise lacking(__name__, __all__, name)
