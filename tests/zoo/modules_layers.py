"""torch's own layers."""

import torch
from torch import nn

from zoo.elementary import affine, convolved, per_channel, relu, standardised, transposed
from zoo.specimen import Specimen, rows


class Headed(nn.Module):
    """Layers, and a head on what they give, averaged over space or time."""

    def __init__(self, *layers, width=4):
        super().__init__()
        self.layers, self.head = nn.Sequential(*layers, nn.Tanh()), nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.layers(x).flatten(2).mean(2))


def headed(layers):
    """Return the twin of `Headed`, given that of its layers."""

    def twin(p, x):
        *weights, v, c = [value for name, value in p.items() if "running" not in name and "num_batches" not in name]
        return affine(torch.tanh(layers(x, *weights)).flatten(2).mean(2), v, c)

    return twin


def conv(layer, inputs, **settings):
    """Return the specimen of a convolution with the very settings of its twin."""
    return Specimen(
        lambda: Headed(layer(2, 4, 3, **settings)), headed(lambda x, w, b: convolved(x, w, b, **settings)), inputs
    )


def circular(x, w, b):
    return convolved(torch.cat([x[:, :, -1:], x, x[:, :, :1]], 2), w, b)


def normed_image(groups):
    """Return the twin of a convolution and a norm over groups of its channels."""

    def layers(x, w, scale, shift):
        y = convolved(x, w)
        z = standardised(y.reshape(len(y), groups, -1), -1).reshape(y.shape)
        return z * per_channel(scale, z) + per_channel(shift, z)

    return layers


def batch_normed_image(x, w, scale, shift):
    y = standardised(convolved(x, w), (0, 2, 3))
    return y * per_channel(scale, y) + per_channel(shift, y)


def pooled_image(x, w, b):
    y = convolved(x, w, b)
    y = torch.stack([y[..., i::2, j::2] for i in range(2) for j in range(2)])
    return torch.maximum(torch.maximum(y[0], y[1]), torch.maximum(y[2], y[3])) + y.mean(0)


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.largest, self.mean = nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.AvgPool2d(2)

    def forward(self, x):
        y = self.conv(x)
        return self.largest(y) + self.mean(y)


def up_and_down(x, w, b):
    n, c, high, wide = x.shape
    x = x.reshape(n, c, high, 1, wide, 1).expand(n, c, high, 2, wide, 2).reshape(n, c, 2 * high, 2 * wide)
    return convolved(x, w, b)


def flat(*layers, width=4, inner=None):
    return nn.Sequential(nn.Linear(3, width, bias=False), *layers, nn.Tanh(), nn.Linear(inner or width, 2))


def between(layer):
    """Return the twin of `flat`, given that of its middle layers."""

    def twin(p, x):
        w, *weights, v, c = [value for name, value in p.items() if "running" not in name and "num_batches" not in name]
        return affine(torch.tanh(layer(affine(x, w), *weights)), v, c)

    return twin


def rms_normed(x, scale):
    return x / ((x * x).mean(-1, keepdim=True) + 1e-5).sqrt() * scale


def prelu(x, slope):
    return relu(x) - slope * relu(-x)


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.pair, self.out = nn.Bilinear(3, 3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.pair(x, x.flip(-1))))


def pairs(p, x):
    w, b, v, c = p.values()
    return affine(torch.tanh(torch.einsum("ni,oij,nj->no", x, w, x.flip(-1)) + b), v, c)


class Words(nn.Module):
    def __init__(self, embed, width=3):
        super().__init__()
        self.embed, self.out = embed, nn.Linear(width, 2)

    def forward(self, words):
        y = self.embed(words)
        return self.out(torch.tanh(y if y.dim() == 2 else y.mean(1)))


def words_of(n):
    return torch.randint(5, (n, 4))


def embedded(p, words):
    e, v, c = p.values()
    return affine(torch.tanh(e[words].mean(1)), v, c)


def embedded_with_padding(p, words):
    e, v, c = p.values()
    taught = torch.tensor([1.0, 0, 1, 1, 1]).unsqueeze(1)
    e = e * taught + (e * (1 - taught)).detach()
    return affine(torch.tanh(e[words].mean(1)), v, c)


def bag(**settings):
    return lambda: Words(nn.EmbeddingBag(5, 3, **settings))


def summed(p, words):
    e, v, c = p.values()
    return affine(torch.tanh(e[words].sum(1)), v, c)


line, image, volume = rows(2, 7), rows(2, 6, 6), rows(2, 3, 4, 4)
ZOO = {
    "Conv1d": conv(nn.Conv1d, line),
    "Conv1dDilated": conv(nn.Conv1d, line, dilation=2, padding=1),
    "Conv1dCircular": Specimen(
        lambda: Headed(nn.Conv1d(2, 4, 3, padding=1, padding_mode="circular")), headed(circular), line
    ),
    "Conv1dTransposed": Specimen(
        lambda: Headed(nn.ConvTranspose1d(2, 4, 3, stride=2)),
        headed(lambda x, w, b: transposed(x, w, b, stride=2)),
        line,
    ),
    "Conv2d": conv(nn.Conv2d, image, padding=1),
    "Conv2dStrided": conv(nn.Conv2d, image, stride=2, padding=1),
    "Conv2dGrouped": conv(nn.Conv2d, image, groups=2),
    "Conv3d": conv(nn.Conv3d, volume, padding=1),
    "Pooled": Specimen(lambda: Headed(Pooled()), headed(pooled_image), image),
    "Upsampled": Specimen(
        lambda: Headed(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(2, 4, 3)), headed(up_and_down), image
    ),
    "BatchNorm1d": Specimen(
        lambda: flat(nn.BatchNorm1d(4)),
        between(lambda x, scale, shift: standardised(x, 0) * scale + shift),
    ),
    "BatchNorm1dPlain": Specimen(
        lambda: flat(nn.BatchNorm1d(4, affine=False, track_running_stats=False)), between(lambda x: standardised(x, 0))
    ),
    "BatchNorm2d": Specimen(
        lambda: Headed(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)), headed(batch_normed_image), image
    ),
    "GroupNorm": Specimen(
        lambda: Headed(nn.Conv2d(2, 4, 3, bias=False), nn.GroupNorm(2, 4)), headed(normed_image(2)), image
    ),
    "InstanceNorm": Specimen(
        lambda: Headed(nn.Conv2d(2, 4, 3, bias=False), nn.InstanceNorm2d(4, affine=True)),
        headed(normed_image(4)),
        image,
    ),
    "LayerNorm": Specimen(
        lambda: flat(nn.LayerNorm(4)), between(lambda x, scale, shift: standardised(x, -1) * scale + shift)
    ),
    "RMSNorm": Specimen(lambda: flat(nn.RMSNorm(4, eps=1e-5)), between(rms_normed)),
    "PReLU": Specimen(lambda: flat(nn.PReLU(4)), between(prelu)),
    "GLU": Specimen(lambda: flat(nn.GLU(), inner=2), between(lambda x: x[:, :2] / (1 + torch.exp(-x[:, 2:])))),
    "NoDropout": Specimen(lambda: flat(nn.Dropout(0.0), nn.ReLU()), between(relu)),
    "Bilinear": Specimen(Pairs, pairs),
    "Embedding": Specimen(lambda: Words(nn.Embedding(5, 3)), embedded, words_of),
    "EmbeddingPadded": Specimen(lambda: Words(nn.Embedding(5, 3, padding_idx=1)), embedded_with_padding, words_of),
    "EmbeddingSparse": Specimen(
        lambda: Words(nn.Embedding(5, 3, sparse=True)), embedded, words_of, also=((3, "adam", "exact", "loop"),)
    ),
    "EmbeddingBag": Specimen(bag(mode="mean"), embedded, words_of, exact="either"),
    "EmbeddingBagSum": Specimen(bag(mode="sum"), summed, words_of, exact="either"),
    "EmbeddingBagSparse": Specimen(bag(mode="sum", sparse=True), summed, words_of, exact="either"),
}
