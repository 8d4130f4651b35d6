"""Small ONNX files that take pictures, written by hand."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write(path: Path, shape: tuple = ("n", 3, 8, 8), axes: tuple[int, ...] = (2, 3), seed: int = 0) -> Path:
    """Write the mean over `axes` times fixed weights, `[n, 3] -> [n, 5]`, as "features"."""
    weight = np.random.default_rng(seed).normal(size=(4 if 4 in shape else 3, 5)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=list(axes), keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["features"]),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))]
    made = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 5])]
    graph = helper.make_graph(nodes, "net", given, made, [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
