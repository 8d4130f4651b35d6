"""Prototypical networks: the class whose mean is nearest in a learned embedding (Snell et al. 2017)."""

from torch import Tensor, nn

from fastadapt.layers.norm import Norm
from fastadapt.losses import Loss
from fastadapt.methods.compared import Comparison, Memory, class_means
from fastadapt.methods.metric import MetricLearner


class Prototypes(Comparison):
    r"""Compare with the mean of each class, `s_c(x) = -||f(x) - m_c||^2`."""

    def remember(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return the mean of each class, `{"means": [N, d]}`."""
        return {"means": class_means(features.flatten(1), y, ways)}

    def forward(self, features: Tensor, memory: Memory) -> Tensor:
        """Return minus the squared distances, `[n, N]`."""
        means = memory["means"]
        middle = means.mean(0)  # distances are small beside the features' own lengths: less is lost of them from here
        f, m = features.flatten(1) - middle, means - middle
        return 2 * f @ m.T - m.square().sum(1) - f.square().sum(1, keepdim=True)


class ProtoNet(MetricLearner):
    r"""Learn an embedding in which the samples of a class gather around their mean.

        m_c = mean_{j: y_j = c} f(x_j),      s_c(x) = -||f(x) - m_c||^2,      loss = CE(s(x), y)

    The outputs are the `s_c`, whose softmax are the probabilities. It pays to train with far more classes in a task
    than the test has (the paper: 60 for 5), and with as many shots.

    Args:
        model: the embedding `f`, see `MetricLearner`; features are flattened.
        loss: on the outputs; default cross-entropy.
        norm: the batch-norm mode; any but "per_step".

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> import torch
        >>> learner = ProtoNet(nn.Identity())
        >>> predict = learner.adapt((torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])))
        >>> predict(torch.tensor([[0.5, 1.0]]))
        tensor([[-1.2500, -3.2500]])

    References:
        Snell, Swersky, Zemel 2017 (arXiv:1703.05175), and their public code.
    """

    def __init__(self, model: nn.Module, loss: Loss | None = None, *, norm: Norm = "running") -> None:
        super().__init__(model, Prototypes(), loss, norm)
