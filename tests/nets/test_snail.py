"""The blocks of SNAIL, against loops over elements and numbers."""

import math

import pytest
import torch

from fastadapt.errors import ConfigError
from fastadapt.nets import Snail
from fastadapt.nets.snail import CausalAttention, DenseBlock, dilations

pytestmark = pytest.mark.usefixtures("double")


def dense_by_hand(block, x, filters):
    """Return the output of a dense block for a sequence, a number at a time."""
    rows = []
    for t in range(len(x)):
        before = x[t - block.dilation] if t >= block.dilation else torch.zeros(x.shape[1])
        both = torch.cat((before, x[t]))
        z = [sum(w * v for w, v in zip(row, both, strict=True)) for row in block.taps.weight]
        z = [value + bias for value, bias in zip(z, block.taps.bias, strict=True)]
        gated = [torch.tanh(z[i]) / (1 + torch.exp(-z[filters + i])) for i in range(filters)]
        rows.append(torch.cat((x[t], torch.stack(gated))))
    return torch.stack(rows)


def attention_by_hand(block, x):
    """Return the output of an attention block for a sequence, an element at a time."""
    rows = []
    for t in range(len(x)):
        q = block.query.weight @ x[t] + block.query.bias
        fits, values = [], []
        for s in range(t + 1):
            k = block.key.weight @ x[s] + block.key.bias
            fits.append(torch.exp(sum(q[i] * k[i] for i in range(len(q))) / math.sqrt(len(q))))
            values.append(block.value.weight @ x[s] + block.value.bias)
        found = sum(fit * value for fit, value in zip(fits, values, strict=True)) / sum(fits)
        rows.append(torch.cat((x[t], found)))
    return torch.stack(rows)


def assert_same_gradient(net, got, want):
    torch.testing.assert_close(got, want)
    weights = torch.randn_like(want)
    pairs = [torch.autograd.grad((weights * each).sum(), list(net.parameters())) for each in (got, want)]
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dilation", [1, 2, 4, 8])
def test_a_dense_block_is_the_one_written_out(dilation):
    block, x = DenseBlock(3, 2, dilation), torch.randn(5, 3)
    assert_same_gradient(block, block(x), dense_by_hand(block, x, 2))


def test_an_attention_block_is_the_one_written_out():
    block, x = CausalAttention(3, 4, 2), torch.randn(5, 3)
    assert_same_gradient(block, block(x), attention_by_hand(block, x))


def small(length=6):
    return Snail(7, 3, length, filters=2, attention=((4, 3), (5, 2), (3, 2)))


def test_the_network_is_its_blocks_in_turn():
    net, x = small(), torch.randn(6, 7)
    kinds = [getattr(block, "dilation", "attention") for block in net.blocks]
    assert kinds == ["attention", 1, 2, 4, 8, "attention", 1, 2, 4, 8, "attention"]
    want = x
    for block in net.blocks:
        want = dense_by_hand(block, want, 2) if isinstance(block, DenseBlock) else attention_by_hand(block, want)
    assert_same_gradient(net, net(x), want @ net.head.weight.T + net.head.bias)


def test_the_published_sizes():
    widths = [block.inputs for block in Snail(69, 5, 6).blocks if isinstance(block, DenseBlock)]
    assert widths == [101, 229, 357, 485, 741, 869, 997, 1125]


@pytest.mark.parametrize("known", [1, 3, 5, 9])
def test_an_element_that_comes_next_is_answered_as_the_last_of_a_sequence(known):
    net, x, queries = small(), torch.randn(2, known, 7), torch.randn(2, 4, 7)
    got = net.step(queries, net.read(x))
    for task in range(2):
        for i in range(4):
            whole = torch.cat((x[task], queries[task, i : i + 1]))
            torch.testing.assert_close(got[task, i], net(whole)[-1])


def test_later_elements_change_no_output():
    net, x = small(), torch.randn(6, 7)
    changed = torch.cat((x[:4], torch.randn(2, 7)))
    torch.testing.assert_close(net(changed)[:4], net(x)[:4], rtol=0, atol=0)
    assert not torch.allclose(net(changed)[4:], net(x)[4:])


@pytest.mark.parametrize(
    "length, reach", [(2, [1, 2]), (6, [1, 2, 4, 8]), (26, [1, 2, 4, 8, 16, 32]), (8, [1, 2, 4, 8])]
)
def test_dilations_reach_over_the_sequence(length, reach):
    assert dilations(length) == reach


def test_numbers_below_one_are_refused():
    with pytest.raises(ConfigError, match="Snail needs inputs"):
        Snail(7, 3, 0)
