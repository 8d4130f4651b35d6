"""Networks by their description, those that metric methods answer with among them: what a predictor's folder names."""

from typing import Any

from torch import nn

from fastadapt.errors import ConfigError
from fastadapt.methods.compared import Compared, Comparison
from fastadapt.methods.mann import Recalls
from fastadapt.methods.matching import Matches
from fastadapt.methods.memory_module import Keys
from fastadapt.methods.protonet import Prototypes
from fastadapt.methods.relation import Relations
from fastadapt.methods.siamese import Pairs
from fastadapt.methods.snail import Attends
from fastadapt.methods.statistician import Contexts
from fastadapt.methods.subspaces import Spans
from fastadapt.nets.settings import build_net

COMPARISONS: dict[str, type[Comparison]] = {
    kind.__name__: kind for kind in (Prototypes, Matches, Pairs, Relations, Spans, Attends, Recalls, Contexts, Keys)
}


def build_model(description: dict[str, Any]) -> nn.Module:
    """Return the network that a description names, see `fastadapt.nets.settings.build_net`.

    Raises:
        ConfigError: for a name that does not exist.

    Example:
        >>> net = {"name": "MLP", "arguments": {"inputs": 4, "hidden": [3], "outputs": None}}
        >>> comparison = {"name": "Prototypes", "arguments": {}}
        >>> parts = {"embedding": net, "comparison": comparison, "memory": {"means": [5, 3]}}
        >>> build_model({"name": "Compared", "arguments": parts}).memory.means.shape
        torch.Size([5, 3])
    """
    if description["name"] != "Compared":
        return build_net(description)
    parts = description["arguments"]
    name = parts["comparison"]["name"]
    if name not in COMPARISONS:
        raise ConfigError(f"there is no comparison {name!r}; known are {', '.join(COMPARISONS)}")
    comparison = COMPARISONS[name](**parts["comparison"]["arguments"])
    return Compared(build_net(parts["embedding"]), comparison, parts["memory"])
