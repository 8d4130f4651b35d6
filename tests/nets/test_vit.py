"""The vision transformer against attention written out, and networks without their heads."""

import math

import pytest
import torch

from fastadapt import MAML, MLP, SGD, Conv4, ResNet12, Task, cross_entropy
from fastadapt.errors import ConfigError
from fastadapt.nets import ViT
from fastadapt.nets.settings import Conv4Net, MLPNet, RelationEncoderNet, ResNet12Net, ViTNet, build_net
from fastadapt.runs.config import OmniglotData, RunConfig


def normed(x, norm):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def layer(tokens, part, heads):
    """One encoder layer for tokens `[t, width]` of one image."""
    attention = part.self_attn
    x = normed(tokens, part.norm1)
    q, k, v = (
        x @ w.T + b for w, b in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    )
    size = q.shape[1] // heads
    rows = []
    for h in range(heads):
        one = slice(h * size, (h + 1) * size)
        rows.append(torch.softmax(q[:, one] @ k[:, one].T / math.sqrt(size), 1) @ v[:, one])
    x = torch.cat(rows, 1) @ attention.out_proj.weight.T + attention.out_proj.bias
    tokens = tokens + x
    x = normed(tokens, part.norm2) @ part.linear1.weight.T + part.linear1.bias
    x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return tokens + x @ part.linear2.weight.T + part.linear2.bias


@pytest.mark.parametrize("training", [True, False])
def test_it_is_patches_attention_and_a_mean(double, training):
    net = ViT(2, 3, size=8, patch=4, width=6, depth=2, heads=2).train(training)
    x = torch.randn(3, 2, 8, 8)
    weight, bias = net.patches.weight.flatten(1), net.patches.bias
    for image, got in zip(x, net(x), strict=True):
        cut = [image[:, i : i + 4, j : j + 4].flatten() for i in (0, 4) for j in (0, 4)]
        tokens = torch.stack([weight @ patch + bias for patch in cut]) + net.places
        for part in net.encoder.layers:
            tokens = layer(tokens, part, 2)
        torch.testing.assert_close(got, normed(tokens, net.norm).mean(0) @ net.head.weight.T + net.head.bias)


def test_maml_adapts_it(double):
    net = ViT(1, 2, size=8, patch=4, width=4, depth=1, heads=2)
    task = Task((torch.randn(4, 1, 8, 8), torch.arange(4) % 2), (torch.randn(4, 1, 8, 8), torch.arange(4) % 2))
    learner = MAML(net, cross_entropy, rule=SGD(0.1), steps=2)
    learner(task).loss.backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    trace = learner.trace(task)
    torch.testing.assert_close(learner.adapt(task.support)(task.query[0]).detach(), trace.outputs[0][-1])


@pytest.mark.parametrize("settings", [{"patch": 3}, {"width": 6}, {"depth": 0}, {"size": 2}])
def test_sizes_that_do_not_fit_are_refused(settings):
    with pytest.raises(ConfigError, match="ViT needs numbers >= 1"):
        ViT(1, 5, **{"size": 28, **settings})


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ConfigError, match="built for 49 patches of an image, and 32x32 pixels have 64; give size="):
        ViT(1, 5)(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize(
    "net, other, shape",
    [
        (Conv4(1, 4, 5, pooled="flatten"), Conv4(1, 4, None, pooled="flatten"), (2, 1, 28, 28)),
        (ResNet12(1, 5, widths=(2, 2, 2, 3)), ResNet12(1, None, widths=(2, 2, 2, 3)), (2, 1, 16, 16)),
        (ViT(1, 5, depth=1), ViT(1, None, depth=1), (2, 1, 28, 28)),
        (MLP(3, (4, 5), 2), MLP(3, (4, 5), None), (2, 3)),
    ],
    ids=["conv4", "resnet12", "vit", "mlp"],
)
def test_without_a_head_the_output_is_what_the_head_would_see(net, other, shape):
    assert other.head is None
    other.load_state_dict({name: value for name, value in net.state_dict().items() if not name.startswith("head")})
    x = torch.randn(shape)
    torch.testing.assert_close(net(x), net.head(other(x)))


@pytest.mark.parametrize(
    "net", [Conv4Net(width=4), ResNet12Net((2, 2, 2, 2)), ViTNet(depth=1), MLPNet((4,)), RelationEncoderNet(4)]
)
def test_a_network_of_a_run_is_built_from_its_description_with_and_without_a_head(net):
    data, x = OmniglotData(ways=7), torch.rand(2, 1, 28, 28)
    assert build_net(net.describe(data, head=False))(x).dim() in (2, 4)
    if isinstance(net, RelationEncoderNet):
        with pytest.raises(ConfigError, match="RelationEncoder embeds and has no head"):
            RunConfig(data, net).build()
    else:
        assert build_net(net.describe(data))(x).shape == (2, 7)
