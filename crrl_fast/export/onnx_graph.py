"""ONNX: the encoder by ONNX's own GRU operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from crrl_fast.export.metadata import as_text
from crrl_fast.export.parts import parts_of
from crrl_fast.models import ClipEncoder, RaggedGRU
from crrl_fast.reference.gru import split_weights
from crrl_fast.versions import package_version

# ONNX 1.8 of 2020, so that old runtimes load it too.
OPSET = 13
IR_VERSION = 7

# torch.onnx.export would be less code, and knows the operator too. But on its way from the torch.export program it
# decomposes aten::gru over the frames of the example, and the file then refuses any other T (tried with torch 2.13).


class _Graph:
    """Nodes and constants as they are added; values are known by their names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._number = count()

    def add(self, op: str, *inputs: str, outputs: Sequence[str] | None = None, **attributes: Any) -> str:  # noqa: ANN401
        """Add a node and return the name of its first output."""
        number = next(self._number)
        outputs = outputs or [f"{op.lower()}_{number}"]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"{op}_{number}", **attributes))
        return outputs[0]

    def constant(self, value: Any) -> str:  # noqa: ANN401
        """Add an array, or int64 numbers, and return its name."""
        array = value if isinstance(value, np.ndarray) else np.array(value, dtype=np.int64)
        name = f"constant_{next(self._number)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name


def build_model(encoder: ClipEncoder, metadata: Mapping[str, Any]) -> onnx.ModelProto:
    """Return a checked model from ``frames`` (B, T, D) float32 and ``lengths`` (B) int64 to ``feature`` (B, C)."""
    graph = _Graph()
    zero, one = graph.constant(0), graph.constant(1)
    total = graph.add("Gather", graph.add("Shape", "frames"), one, axis=0)
    lengths = graph.add("Clip", "lengths", zero, total)
    column = graph.add("Unsqueeze", lengths, graph.constant([1]))  # (B, 1)
    # Frames come first from here on: the only layout that ONNX's GRU had before opset 14.
    time = graph.add("Range", zero, total, one)

    def frames_before(end: str) -> str:
        before = graph.add("Transpose", graph.add("Less", time, end), perm=[1, 0])  # (T, B)
        return graph.add("Unsqueeze", before, graph.constant([2]))

    valid, moving = frames_before(column), frames_before(graph.add("Sub", column, one))
    padding = graph.constant(np.zeros((), dtype=np.float32))
    x = graph.add("Where", valid, graph.add("Transpose", "frames", perm=[1, 0, 2]), padding)
    # The operator wants at least one frame; of a clip that has none, the mean below takes nothing.
    counts = graph.add("Max", lengths, graph.constant([1]))
    steps = graph.add("Cast", counts, to=onnx.TensorProto.INT32)
    divisor = graph.add("Cast", graph.add("Max", column, graph.constant([1])), to=onnx.TensorProto.FLOAT)
    features = []
    for part in parts_of("", encoder).values():
        gru = _Gru(graph, part.encoder.gru)
        streams = [x]
        if part.velocity_scale is not None:
            streams.append(_add_velocity(graph, x, moving, part.velocity_scale))
        if part.parents is not None:
            parents = graph.constant(part.parents.cpu().numpy())
            streams.append(graph.add("Sub", x, graph.add("Gather", x, parents, axis=2)))
        for stream, frames in enumerate(streams):
            outputs = graph.add("Where", valid, gru.add(frames, steps), padding)
            mean = graph.add("Div", graph.add("ReduceSum", outputs, graph.constant([0]), keepdims=0), divisor)
            features.append(_add_whitening(graph, part.whitening[stream], mean) if part.whitening else mean)
    graph.add("Concat", *features, axis=1, outputs=["feature"])
    model = _assemble(graph, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Gru:
    """A GRU whose weights are constants of the graph, however often it is run."""

    def __init__(self, graph: _Graph, gru: RaggedGRU) -> None:
        self._graph = graph
        self._hidden_size = gru.hidden_size
        self._layers = []
        weights = [tensor.detach().cpu() for tensor in gru.state_dict().values()]
        for cells in split_weights(weights, gru.num_layers, gru.bidirectional):
            w_ih, w_hh, b_ih, b_hh = (
                np.stack([_gates_for_onnx(tensor) for tensor in kind]) for kind in zip(*cells, strict=True)
            )
            self._layers.append([graph.constant(x) for x in (w_ih, w_hh, np.concatenate([b_ih, b_hh], axis=1))])

    def add(self, x: str, steps: str) -> str:
        """Add every layer and return the last one's outputs (T, B, C); x (T, B, D), steps (B) int32."""
        graph = self._graph
        for weights in self._layers:
            outputs = graph.add(
                "GRU",
                x,
                *weights,
                steps,
                hidden_size=self._hidden_size,
                direction="bidirectional",
                linear_before_reset=1,  # r * (W_hn h + b_hn), as PyTorch has it, and not W_hn (r * h) + b_hn
            )
            by_clip = graph.add("Transpose", outputs, perm=[0, 2, 1, 3])  # (T, 2, B, H) to (T, B, 2, H)
            x = graph.add("Reshape", by_clip, graph.constant([0, 0, 2 * self._hidden_size]))
        return x


def _add_velocity(graph: _Graph, x: str, moving: str, scale: float) -> str:
    """Return the velocity of x (T, B, D), times ``scale``; moving (T, B, 1) are the frames that have a next one."""
    time, one = graph.constant([0]), graph.constant([1])
    later = graph.add("Slice", x, one, graph.constant([np.iinfo(np.int64).max]), time)
    following = graph.add("Concat", later, graph.add("Slice", x, time, one, time), axis=0)
    rest = graph.constant(np.zeros((), dtype=np.float32))
    velocity = graph.add("Where", moving, graph.add("Sub", following, x), rest)
    return graph.add("Mul", velocity, graph.constant(np.array(scale, dtype=np.float32)))


def _add_whitening(graph: _Graph, whitening: nn.Module, feature: str) -> str:
    """Return ``feature`` (B, C) whitened."""
    mean, matrix = (graph.constant(tensor.detach().cpu().numpy()) for tensor in whitening.state_dict().values())
    return graph.add("MatMul", graph.add("Sub", feature, mean), matrix)


def _gates_for_onnx(weights: Tensor) -> npt.NDArray[np.float32]:
    """Reorder the gates r, z, n of PyTorch to z, r, n; weights (3H, ...)."""
    r, z, n = weights.chunk(3)
    reordered: npt.NDArray[np.float32] = torch.cat([z, r, n]).numpy()
    return reordered


def _assemble(graph: _Graph, metadata: Mapping[str, Any]) -> onnx.ModelProto:
    floats, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "crrl_fast_encoder",
            [
                helper.make_tensor_value_info("frames", floats, ["clips", "frames", metadata["input_size"]]),
                helper.make_tensor_value_info("lengths", whole, ["clips"]),
            ],
            [helper.make_tensor_value_info("feature", floats, ["clips", metadata["feature_size"]])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="crrl-fast",
        producer_version=package_version(),
    )
    helper.set_model_props(model, as_text(metadata))
    return model


def write_onnx(path: Path, encoder: ClipEncoder, metadata: Mapping[str, Any]) -> None:
    """Write the model, with the metadata as its ``metadata_props``."""
    path.write_bytes(build_model(encoder, metadata).SerializeToString())


def read_onnx(path: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the clip feature by onnxruntime on the CPU.

    Raises:
        ImportError: it is not installed.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def feature(frames: Tensor, lengths: Tensor) -> Tensor:
        (result,) = session.run(None, {"frames": frames.numpy(), "lengths": lengths.numpy()})
        return torch.from_numpy(result)

    return feature
