"""A learned vector beside the input of a network, for an inner loop that adapts nothing else (Finn et al. 2017)."""

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError


class WithContext(nn.Module):
    """Concatenate a learned vector z to every input of a network: `x -> net([x, z])`.

    With `MAML(WithContext(net, size), adapt="context")` the inner loop moves z alone, and the outer loop trains its
    start z^0 and all weights: the ablation of the MAML paper's appendix. z^0 begins at zero, which blocks no gradient,
    as the weights that meet z are not zero.

    A batch norm takes away what all samples have in common. So where one follows a fully connected first layer, z has
    no effect at all; where one follows a convolution, z acts through the zeros around the map only.

    The paper does not say whether a number of z is one for the whole image. With `maps` each is a map of its own, one
    number for every pixel, and a batch norm takes away no more of it than of the image.

    Args:
        net: a network for `features + size` features or `channels + size` channels.
        size: numbers in z, >= 1.
        flat: flatten the input from the second axis on and append z to it; otherwise z is appended along the second
            axis, and for images each of its numbers is a constant channel.
        maps: height and width of the images, for a z of `size` maps instead of `size` numbers.

    Raises:
        ConfigError: if `size` is below 1, maps stand beside a flat input, or images do not have the size of the maps.

    Example:
        >>> from fastadapt import Conv4, select
        >>> net = WithContext(Conv4(1 + 5, 8, 3), size=5)
        >>> net(torch.zeros(2, 1, 28, 28)).shape, select(net, "context")
        (torch.Size([2, 3]), ('context',))

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), the appendix; Rei 2015 (arXiv:1508.03854), where a
        language model adapts so.
    """

    def __init__(self, net: nn.Module, size: int, *, flat: bool = False, maps: tuple[int, int] | None = None) -> None:
        super().__init__()
        if size < 1:
            raise ConfigError(f"a context needs at least 1 number, got size={size}; leave it out to have none")
        if flat and maps is not None:
            raise ConfigError("a context beside a flat input has no maps; leave out flat or maps")
        self.context = nn.Parameter(torch.zeros(size, *(maps or ())))
        self.net = net
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's output for `x: [n, ...]` beside z."""
        x = x.flatten(1) if self.flat else x
        z = self.context
        if z.dim() == 1:
            z = z.view(1, -1, *(1 for _ in x.shape[2:]))
        elif z.shape[1:] != x.shape[2:]:
            raise ConfigError(
                f"the context's maps are {tuple(z.shape[1:])} and the images {tuple(x.shape[2:])}; give maps=(height, "
                "width) of the images"
            )
        return self.net(torch.cat([x, z.expand(x.shape[0], -1, *x.shape[2:])], 1))
