"""A backbone in an ONNX file: small graphs written by hand, against numpy."""

import builtins
import copy
import pickle

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fastadapt import Protocol, Task, evaluate, load_predictor, save_predictor
from fastadapt.errors import ConfigError, DataError, MissingExtraError, TaskError
from fastadapt.methods import LinearProbe, NearestCentroid, OnnxBackbone, RidgeHead, onnx_backbone
from fastadapt.nets.headed import Headed

WEIGHT = (2 * np.eye(4, 6) + 0.5 * np.random.default_rng(0).normal(size=(4, 6))).astype(np.float32)


def write(path, weight=WEIGHT, samples="n", kind=TensorProto.FLOAT, inputs=1):
    """Write `relu(x W)`, as "features", and the mean over samples, as "mean"."""
    given = [helper.make_tensor_value_info(f"x{i}", kind, [samples, 4]) for i in range(inputs)]
    given_out = [helper.make_tensor_value_info("features", kind, [samples, 6])]
    given_out.append(helper.make_tensor_value_info("mean", kind, [1, 6]))
    numbers = weight.astype(helper.tensor_dtype_to_np_dtype(kind))
    nodes = [
        helper.make_node("MatMul", ["x0", "w"], ["z"]),
        helper.make_node("Relu", ["z"], ["features"]),
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[0], keepdims=1),
    ]
    graph = helper.make_graph(nodes, "net", given, given_out, [numpy_helper.from_array(numbers, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def by_hand(x):
    return torch.from_numpy(np.maximum(x.numpy() @ WEIGHT, 0))


@pytest.mark.parametrize("samples", ["n", 1, 4])
def test_features_are_the_output_however_many_samples_the_file_takes(samples, tmp_path):
    x = torch.randn(7, 4)
    net = OnnxBackbone(write(tmp_path / "net.onnx", samples=samples), "features")
    torch.testing.assert_close(net(x), by_hand(x))
    torch.testing.assert_close(net(x.double()), by_hand(x).double())
    assert not list(net.parameters())


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_samples_get_the_type_that_the_file_takes(kind, tmp_path):
    x = torch.randn(5, 4)
    found = OnnxBackbone(write(tmp_path / "net.onnx", kind=kind))(x)
    torch.testing.assert_close(found, by_hand(x), rtol=1e-2, atol=1e-2)


def source(rng):
    y = torch.arange(12) % 3
    x = torch.as_tensor(0.3 * rng.normal(size=(12, 4)), dtype=torch.float32)
    x[torch.arange(12), y] += 2
    return Task((x[:6], y[:6]), (x[6:], y[6:]))


@pytest.mark.parametrize("head", [NearestCentroid, RidgeHead, LinearProbe])
def test_heads_are_fitted_to_it_saved_and_copied(head, tmp_path):
    learner = head(OnnxBackbone(write(tmp_path / "net.onnx")), unit=True)
    assert evaluate(learner, source, Protocol(tasks=20)).result > 0.9
    task = source(np.random.default_rng(1))
    predict, x = learner.adapt(task.support), task.query[0]
    folder, fresh = save_predictor(predict, tmp_path / "mine"), OnnxBackbone(tmp_path / "net.onnx")
    read = load_predictor(folder, model=Headed(fresh, **predict.model.arguments))
    for again in (read, copy.deepcopy(predict), pickle.loads(pickle.dumps(predict))):
        torch.testing.assert_close(again(x), predict(x), rtol=0, atol=0)


def test_a_head_refuses_to_answer_by_another_file(tmp_path):
    predict = NearestCentroid(OnnxBackbone(write(tmp_path / "net.onnx"))).adapt((torch.eye(4), torch.arange(4)))
    folder = save_predictor(predict, tmp_path / "mine")
    other = OnnxBackbone(write(tmp_path / "other.onnx", 2 * WEIGHT))
    read = load_predictor(folder, model=Headed(other, **predict.model.arguments))
    with pytest.raises(DataError, match="another file than the one that this head was fitted to"):
        read(torch.eye(4))


def test_what_is_no_backbone_is_refused_in_one_sentence(tmp_path, monkeypatch):
    net = OnnxBackbone(write(tmp_path / "net.onnx"))
    (tmp_path / "text.onnx").write_text("no network")
    for build, error, said in (
        (lambda: OnnxBackbone(tmp_path / "none.onnx"), DataError, "can't read .*none.onnx"),
        (lambda: OnnxBackbone(tmp_path), DataError, "no ONNX file"),
        (lambda: OnnxBackbone(tmp_path / "text.onnx"), DataError, "text.onnx is no ONNX file"),
        (lambda: OnnxBackbone(tmp_path / "net.onnx", "logits"), ConfigError, "no output 'logits', only features, mean"),
        (lambda: OnnxBackbone(write(tmp_path / "two.onnx", inputs=2)), ConfigError, "x0 of .*x1 of .*one input"),
        (lambda: net(torch.zeros(2, 5)), TaskError, r"takes samples of shape \(4\), and these are \(5,\)"),
        (lambda: net(torch.zeros(2, 4, 4)), TaskError, "resize"),
        (lambda: OnnxBackbone(tmp_path / "net.onnx", "mean")(torch.zeros(2, 4)), TaskError, "a row for each"),
    ):
        with pytest.raises(error, match=said):
            build()
    real = builtins.__import__

    def none(name, *rest, **more):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **more)

    onnx_backbone._session.cache_clear()
    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(MissingExtraError, match=r"fastadapt\[export\]"):
        OnnxBackbone(tmp_path / "net.onnx")
