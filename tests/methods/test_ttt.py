"""Streams: judged before they are learned from, differentiated through all of it, and flat in memory."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

import fastadapt as fa
from fastadapt.engine.memory import PeakBytes
from fastadapt.errors import ConfigError, TaskError
from fastadapt.losses import BitsPerCharacter
from fastadapt.methods import TTT
from fastadapt.nets import Decoder, with_lora
from fastadapt.rules.rates import learned_rates
from fastadapt.tasks import Stream

LOSS = BitsPerCharacter()

WAYS = [
    ("loop", "exact", "blocks.0.*"),
    ("loop", "first_order", "blocks.0.*"),
    ("loop", fa.Exact(segment=1), "blocks.0.*"),
    pytest.param("loop", fa.Exact(segment=3), "all", marks=pytest.mark.long),
    pytest.param("loop", "first_order", "all", marks=pytest.mark.long),
    pytest.param("vmap", "exact", "blocks.0.*", marks=pytest.mark.long),
    pytest.param("vmap", "first_order", "blocks.0.*", marks=pytest.mark.long),
]


def small():
    return Decoder(7, context=6, width=4, depth=1, heads=1)


def stream(chunks=5, pieces=2):
    return Stream(tuple(torch.randint(0, 7, (chunks, pieces, 6)) for _ in range(2)))


def chunks_of(task):
    x, y = (torch.cat([read, last[None]]) for read, last in zip(task.support, task.query, strict=True))
    return list(zip(x, y, strict=True))


def by_hand(net, streams, rates, exact, adapted):
    """Return objective, gradient to the start and to the rates, each chunk judged ahead of the step on it."""
    start = {n: p.detach().clone().requires_grad_() for n, p in net.named_parameters()}
    rates = {n: rate.detach().clone().requires_grad_() for n, rate in rates.items()}
    total = 0.0
    with sdpa_kernel(SDPBackend.MATH):
        for one in streams:
            theta, losses = dict(start), []
            for x, y in chunks_of(one):
                losses.append(F.cross_entropy(functional_call(net, theta, (x,)), y))
                grads = torch.autograd.grad(losses[-1], [theta[n] for n in adapted], create_graph=True)
                grads = grads if exact else [g.detach() for g in grads]
                theta = {**theta, **{n: theta[n] - rates[n] * g for n, g in zip(adapted, grads, strict=True)}}
            total = total + torch.stack(losses).mean() / len(streams)
        wanted = [*start.values(), *(rates[n] for n in adapted)]
        return total.detach(), torch.autograd.grad(total, wanted)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("route", "way", "part"), WAYS)
def test_the_gradient_is_that_of_the_stream_by_hand(route, way, part):
    net, streams = small(), [stream() for _ in range(3)]
    adapted = fa.select(net, part)
    rates = {n: torch.full((), 0.3 + 0.01 * i).requires_grad_() for i, n in enumerate(adapted)}
    want, gradient = by_hand(copy.deepcopy(net), streams, rates, way != "first_order", adapted)
    rule = fa.SGD({n: torch.nn.Parameter(rate.detach().clone()) for n, rate in rates.items()})
    learner = TTT(net, LOSS, rule=rule, steps=4, meta_gradient=way, adapt=part, route=route)
    outcome = learner(streams)
    outcome.loss.backward()
    torch.testing.assert_close(outcome.loss.detach(), want, rtol=1e-9, atol=0)
    for p, g in zip([*net.parameters(), *learner.rates], gradient, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-9, atol=1e-10)
    assert {plan.route for plan in learner.engine.plans.values()} == {route}


def test_a_rate_of_zero_reads_as_the_frozen_model_bit_for_bit():
    net, one = small().eval(), stream()
    read = TTT(net, LOSS, rule=fa.SGD(0.0), steps=4, route="loop").reading([one])
    with sdpa_kernel(SDPBackend.MATH):  # the kernel of the inner loop
        frozen = torch.stack([LOSS(net, chunk) for chunk in chunks_of(one)])
    assert torch.equal(read.losses[0], frozen)


def test_a_stream_of_one_chunk_is_plain_evaluation_bit_for_bit():
    net, one = small(), stream(1)
    learner = TTT(net, LOSS, rule=fa.SGD(0.5), steps=0, route="loop")
    with sdpa_kernel(SDPBackend.MATH):
        want = LOSS(net, one.query)
    assert torch.equal(learner(one).loss, want) and torch.equal(learner.reading(one).losses, want.view(1, 1))
    learner(one).loss.backward()
    gradient = torch.autograd.grad(want, net.norm.weight)[0]
    assert torch.equal(net.norm.weight.grad, gradient)


def test_reading_is_what_training_averages_and_ends_where_a_trace_does():
    net, streams = small(), [stream(), stream()]
    learner = TTT(net, LOSS, rule=fa.Adam(0.01), steps=4, route="loop")
    read = learner.reading(streams)
    torch.testing.assert_close(read.losses.mean(1), learner(streams).losses.detach())
    torch.testing.assert_close(read.losses[:, -1], learner.trace(streams).losses[:, -1])
    assert read.metrics["bits per character"].shape == (2, 5) and read.outputs[0].shape == (5, 2, 7, 6)
    predictor = learner.adapt(streams[0].support)  # after all chunks but the last
    torch.testing.assert_close(LOSS(predictor, streams[0].query).detach(), read.losses[0, -1])


@pytest.mark.parametrize("order", [pytest.param("exact", marks=pytest.mark.long), "first_order"])
def test_memory_hardly_grows_with_the_stream(order):
    def peak(chunks, way=order):
        net = fa.MLP(1, (32, 32), 1)
        learner = TTT(net, rule=fa.SGD(0.01), steps=chunks - 1, meta_gradient=way, route="loop")
        one = Stream(tuple(torch.randn(chunks, 512, 1) for _ in range(2)))
        with PeakBytes() as memory:
            learner(one)
        return memory.peak

    four = peak(4)
    assert peak(28) < 1.3 * four
    if order == "exact":
        assert peak(28, fa.Exact(segment=28)) > 4 * four  # what it would be


@pytest.mark.long
def test_low_rank_factors_read_on():
    net = with_lora(small(), 2, "blocks.*")
    learner = TTT(net, LOSS, rule=fa.SGD(learned_rates(net, 0.5, per="tensor")), steps=4, adapt="lora", route="loop")
    learner([stream(), stream()]).loss.backward()
    assert all(p.grad is not None for p in learner.parameters() if p.requires_grad)
    read = learner.reading(stream(9))  # longer than in training
    assert read.losses.shape == (1, 9) and bool(read.losses.isfinite().all())


def test_what_is_no_stream_or_of_another_length_is_refused():
    learner, pair = TTT(small(), LOSS, steps=4), stream().query
    with pytest.raises(TaskError, match=r"TTT reads streams.*write fastadapt.tasks.Stream"):
        learner(fa.Task(pair, pair))
    with pytest.raises(TaskError, match=r"a stream has 3 chunks, and TTT\(steps=4\) is trained on those of 5"):
        learner(stream(3))
    with pytest.raises(TaskError, match=r"\[3, 5\] chunks; read those of one length"):
        learner.reading([stream(3), stream(5)])
    with pytest.raises(TaskError, match="9 steps were asked for on 4 chunks"):
        learner.trace(stream(), steps=9)
    wrong = stream()
    wrong.support[1][2, 1, 3] = 7
    with pytest.raises(TaskError, match=r"task 0 of the meta-batch, support row 1: the label is 7, and the classes"):
        learner(wrong)
    for settings, words in (({"norm": "support"}, "norm must be"), ({"meta_gradient": "implicit"}, "exact or first")):
        with pytest.raises(ConfigError, match=words):
            TTT(small(), LOSS, **settings)
    for batches in ((torch.zeros(3, 1), torch.zeros(2, 1)), torch.zeros(()), torch.zeros(0, 2), "text"):
        with pytest.raises(TaskError, match="a stream needs tensors that share a leading axis"):
            Stream(batches)


def test_a_list_of_batches_is_a_stream_of_them():
    batches = [(torch.randn(5, 3), torch.randn(5, 2)) for _ in range(3)]
    listed, stacked = (
        Stream(batches),
        Stream((torch.stack([x for x, _ in batches]), torch.stack([y for _, y in batches]))),
    )
    for one, other in ((listed.support, stacked.support), (listed.query, stacked.query)):
        assert all(map(torch.equal, one, other))
    with pytest.raises(TaskError, match="2 sets of shapes"):
        Stream([*batches, (torch.randn(4, 3), torch.randn(4, 2))])
    with pytest.raises(TaskError, match="no tensor"):
        Stream([(torch.zeros(2), "a"), (torch.zeros(2), "b")])


@pytest.mark.parametrize("loss", [fa.CrossEntropy(), torch.nn.functional.cross_entropy])
def test_a_method_that_reads_no_streams_does_not_take_samples_for_classes(loss):
    chunks = torch.randn(4, 3, 5), torch.randint(3, (4, 3))  # three samples a chunk, three classes
    learner = fa.MAML(torch.nn.Linear(5, 3), loss, rule=fa.SGD(0.1))
    with pytest.raises(TaskError, match="its support has labels of 2 axes and its query of 1"):
        learner([Stream(chunks)])
    x, soft = torch.randn(4, 5), torch.rand(4, 3).softmax(-1)
    assert learner([fa.Task((x, soft), (x, torch.randint(3, (4,))))]).loss > 0
