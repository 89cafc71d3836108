"""Arena: the memory that an interpreter for microcontrollers takes to run a LiteRT program, from above."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from budgetnet.exporting.formats import FORMATS, imported

_ALIGNED = 16
_BYTES = {"FLOAT32": 4, "FLOAT16": 2, "INT16": 2, "INT32": 4, "INT64": 8}
# What the interpreter keeps of each, measured with tflite-micro where a pointer has eight bytes.
_ITSELF, _TENSOR, _OPERATOR, _CHANNEL = 1024, 24, 200, 8
# The operators of LiteRT for Microcontrollers in October 2026.
_KNOWN = (
    "Abs Add AddN ArgMax ArgMin AssignVariable AveragePool2D BatchMatMul BatchToSpaceNd BroadcastArgs "
    "BroadcastTo CallOnce Cast Ceil CircularBuffer Concatenation Conv2D Cos CumSum DepthToSpace "
    "DepthwiseConv2D Dequantize Div DynamicUpdateSlice Elu EmbeddingLookup Equal Exp ExpandDims Fill "
    "Floor FloorDiv FloorMod FullyConnected Gather GatherNd Greater GreaterEqual HardSwish If "
    "L2Normalization L2Pool2D LeakyRelu Less LessEqual Log LogicalAnd LogicalNot LogicalOr Logistic "
    "LogSoftmax Maximum MaxPool2D Mean Minimum MirrorPad Mul Neg NotEqual Pack Pad PadV2 Prelu Quantize "
    "ReadVariable ReduceMax ReduceMin Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor ReverseV2 "
    "Round Rsqrt SelectV2 Shape Sin Slice Softmax SpaceToBatchNd SpaceToDepth Split SplitV Sqrt Square "
    "SquaredDifference Squeeze StridedSlice Sub Sum Svdf Tanh Transpose TransposeConv Unpack VarHandle "
    "While ZerosLike"
)
_NAMES = {name.upper(): name for name in _KNOWN.split()}
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True)
class Held:
    """Bytes that an operator writes or takes for itself, held from operator `first` to operator `last`."""

    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Program:
    """A LiteRT program as its file describes it."""

    content: bytes

    @property
    def operators(self) -> tuple[str, ...]:
        """The kinds of operators, sorted, as LiteRT for Microcontrollers calls them: Conv2D.

        Raises ValueError for those that it has not.
        """
        kinds = sorted({self._kind(each) for each in self._graph.operators})
        unknown = ", ".join(kind for kind in kinds if kind.replace("_", "") not in _NAMES)
        if unknown:
            raise ValueError(
                f"LiteRT for Microcontrollers has no {unknown}: train with other layers (an activation such "
                "as layers.relu), or export to litert (--to litert), for a phone"
            )
        return tuple(_NAMES[kind.replace("_", "")] for kind in kinds)

    @property
    def planned(self) -> int:
        """The bytes of activations, laid out as that interpreter does: the largest first, each at the lowest.

        Versions differ in which of two of a size is the first: the worse counts. A convolution's kernel may
        take memory of its own, up to two columns of inputs of 16 bits, as CMSIS-NN's does.
        """
        held = list(self._held())
        return max(_laid_out(held), _laid_out(held[::-1]))

    @property
    def arena(self) -> int:
        """The bytes of the whole arena, at most: activations, and what the interpreter keeps of the graph."""
        graph = self._graph
        channels = sum(
            int(graph.tensors[each.inputs[1]].shape[-1 if self._kind(each).startswith("DEPTH") else 0])
            for each in graph.operators
            if self._kind(each) in (*_CONVOLUTIONS, "FULLY_CONNECTED")
        )
        kept = _ITSELF + _TENSOR * len(graph.tensors) + _OPERATOR * len(graph.operators) + _CHANNEL * channels
        return self.planned + _aligned(kept)

    @cached_property
    def _model(self) -> Any:
        schema = imported(FORMATS["litert"], "ai_edge_litert.schema_py_generated")
        return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(self.content, 0))

    @property
    def _graph(self) -> Any:
        return self._model.subgraphs[0]

    def _kind(self, operator: Any) -> str:
        """CONV_2D, and so on."""
        code = self._model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return _name("BuiltinOperator", number)

    def _size(self, tensor: Any) -> int:
        return math.prod(map(int, tensor.shape)) * _BYTES.get(_name("TensorType", tensor.type), 1)

    def _held(self) -> Iterator[Held]:
        """Every tensor that is no constant, from the operator that writes it to the last that reads it."""
        graph = self._graph
        first: dict[int, int] = {int(at): 0 for at in graph.inputs}
        last = dict(first)
        for step, operator in enumerate(graph.operators, start=1):
            for at in _tensors(operator.outputs):
                first.setdefault(at, step)
                last[at] = step
            for at in _tensors(operator.inputs):
                last[at] = step
        last |= {int(at): len(graph.operators) for at in graph.outputs}
        for at, begin in sorted(first.items()):
            yield Held(_aligned(self._size(graph.tensors[at])), begin, last[at])
        for step, operator in enumerate(graph.operators, start=1):
            yield Held(_aligned(self._scratch(operator)), step, step)

    def _scratch(self, operator: Any) -> int:
        """The most that an operator's kernel takes for itself."""
        given = [self._graph.tensors[at] for at in _tensors(operator.inputs)]
        kind = self._kind(operator)
        if kind in _CONVOLUTIONS:
            taps = math.prod(map(int, given[1].shape[1:]))
            return (4 if kind == "CONV_2D" else 2) * _aligned(taps)
        made = self._graph.tensors[int(operator.outputs[0])]
        sums = kind in ("MEAN", "SUM", "SOFTMAX", "BATCH_MATMUL")
        return 4 * (math.prod(map(int, made.shape)) + _ALIGNED) if sums else 0


def _laid_out(held: Sequence[Held]) -> int:
    """How far up memory is used; those of a size in the order in which they are given."""
    placed: list[tuple[int, Held]] = []
    for one in sorted(held, key=lambda each: -each.bytes):
        at = 0
        for start, other in sorted(placed, key=lambda each: each[0]):
            if other.first > one.last or other.last < one.first:
                continue
            if start - at >= one.bytes:
                break
            at = max(at, start + other.bytes)
        placed.append((at, one))
    return max((at + each.bytes for at, each in placed), default=0)


def _name(kind: str, number: int) -> str:
    """What the schema calls a value of one of its enumerations."""
    schema = imported(FORMATS["litert"], "ai_edge_litert.schema_py_generated")
    values: dict[str, Any] = vars(getattr(schema, kind))
    return next(name for name, value in values.items() if value == number)


def _tensors(positions: Sequence[int]) -> list[int]:
    """Those that are there: -1 stands for an optional one that is not."""
    return [int(at) for at in positions if at >= 0]


def _aligned(count: int) -> int:
    return -(-count // _ALIGNED) * _ALIGNED
