"""Exact Gaussian processes: the marginal likelihood of a task is its loss, the kernel's parameters adapt."""

import gpytorch
import pytest
import torch
from torch import nn

import fastadapt as fa
from foreign.by_hand import Case, adapted, apart, exact, falls_on_support, first_order, or_a_sentence, reptile, trace


class Process(gpytorch.models.ExactGP):
    def __init__(self, deep=False, widths=2):
        super().__init__(None, None, gpytorch.likelihoods.GaussianLikelihood())
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=widths))
        self.features = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)) if deep else nn.Identity()

    def forward(self, x):
        z = self.features(x)
        return gpytorch.distributions.MultivariateNormal(self.mean_module(z), self.covar_module(z))


class ByFormula(nn.Module):
    """log N(y; m, s k(x, x) + noise I) / n, written out; its parameters in the order of the process's."""

    def __init__(self, process):
        super().__init__()
        self.names = [name for name, _ in process.named_parameters()]
        self.values = nn.ParameterList([nn.Parameter(p.detach().clone()) for p in process.parameters()])

    def forward(self, batch):
        x, y = batch
        value = {name: self.values[i] for i, name in enumerate(self.names)}
        noise = nn.functional.softplus(value["likelihood.noise_covar.raw_noise"]) + 1e-4
        scale = nn.functional.softplus(value["covar_module.raw_outputscale"])
        width = nn.functional.softplus(value["covar_module.base_kernel.raw_lengthscale"])
        if "features.0.weight" in value:
            x = (x @ value["features.0.weight"].T + value["features.0.bias"]).tanh()
            x = x @ value["features.2.weight"].T + value["features.2.bias"]
        squares = (x[:, None] - x[None]).div(width).square().sum(-1)
        k = scale * (-0.5 * squares).exp() + noise * torch.eye(len(x))
        mean = value["mean_module.raw_constant"].expand(len(x))
        return -torch.distributions.MultivariateNormal(mean, k).log_prob(y) / len(x)


def loss(model, batch):
    """As in the documentation, with the training data set for this batch."""
    x, y = batch
    model.train()
    model.set_train_data(x, y, strict=False)
    likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    return -likelihood(model(x), y)


def curves(count=2, n=6):
    def batch():
        x = torch.randn(n, 2)
        return x, x.sum(-1).sin() + 0.1 * torch.randn(n)

    return [fa.Task(batch(), batch()) for _ in range(count)]


every = pytest.mark.parametrize("number", [exact, first_order, adapted, trace, reptile])


@every
@pytest.mark.parametrize("deep", [False, True], ids=["kernel", "deep kernel"])
def test_marginal_likelihood_equals_the_formula(deep, number):
    process = Process(deep)
    twin = ByFormula(process)
    number(Case(process, loss, curves(), rate=0.1, twin=twin, twin_loss=lambda m, b: m(b), apart=1e-7))


def isotropic(**options):
    process = Process(widths=None)
    return Case(process, loss, curves(), rate=0.1, apart=1e-7, **options)


@pytest.mark.parametrize("number", [first_order, adapted, trace, reptile])
def test_kernel_with_a_backward_pass_of_its_own(number):
    case = isotropic()
    case.twin, case.twin_loss = ByFormula(case.model), lambda m, b: m(b)
    number(case)


def test_exact_meta_gradient_of_that_kernel_is_what_autograd_makes_of_it():
    """Its own backward pass takes what it saved as constant, for anyone who differentiates it again."""
    with or_a_sentence("first_order", "first order", "firstorder"):
        exact(isotropic(detaches=True))


def test_the_trace_falls():
    falls_on_support(Case(Process(), loss, curves(), rate=0.05))


@pytest.mark.parametrize("number", [exact, first_order])
def test_likelihood_made_once_from_the_users_own_module(number):
    """The marginal likelihood holds the module itself: while a step lasts that has the adapted values too."""
    process = Process()
    once = gpytorch.mlls.ExactMarginalLogLikelihood(process.likelihood, process)

    def held(model, batch):
        x, y = batch
        model.set_train_data(x, y, strict=False)
        return -once(model(x), y)

    twin = ByFormula(process)
    number(Case(process, held, curves(), rate=0.1, twin=twin, twin_loss=lambda m, b: m(b), apart=1e-7))


def test_posterior_of_the_adapted_process_equals_the_formula():
    case = Case(Process(), loss, curves(), rate=0.1)
    (x, y), (at, _) = case.tasks[0].support, case.tasks[0].query
    process = case.learner().adapt((x, y)).model.eval()
    process.set_train_data(x, y, strict=False)
    with gpytorch.settings.fast_computations(covar_root_decomposition=False, log_prob=False, solves=False):
        got = process(at).mean.detach()
    plain = case.other.descended((x, y), case.steps)
    with torch.no_grad():
        k, noise, m = plain.covar_module, plain.likelihood.noise, plain.mean_module.constant
        weights = torch.linalg.solve(k(x).to_dense() + noise * torch.eye(len(x)), y - m)
        want = m + k(at, x).to_dense() @ weights
    assert apart([got], [want]) < 1e-7
