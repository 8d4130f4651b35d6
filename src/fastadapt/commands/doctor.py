"""`fastadapt doctor`: is everything here that a run needs, and does it compute what it should?"""

import importlib.util
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from fastadapt.cache import cache_folder
from fastadapt.data.images.mini_imagenet import PARTS
from fastadapt.data.images.mini_imagenet_files import find_part, wanted
from fastadapt.data.images.omniglot import load_omniglot
from fastadapt.errors import DataError, FastadaptError
from fastadapt.methods.maml import MAML
from fastadapt.methods.reptile import Reptile
from fastadapt.nets.siren import Sine, Siren
from fastadapt.rules.rules import SGD
from fastadapt.tasks import Task
from fastadapt.version import __version__


@dataclass(frozen=True)
class DoctorSettings:
    """Check the installation, the data and the machine."""

    data: Path | None = None
    """Folder that holds the data sets; default FASTADAPT_DATA, then the user's cache."""


def check_gradients() -> str:
    """Compare the meta-gradients of a one-weight model with their closed form."""
    column = lambda *values: torch.tensor(values, dtype=torch.float64).unsqueeze(1)  # noqa: E731
    task = Task((column(1, 2), column(2, 3)), (column(1, 3), column(1, 5)))
    for name, expected, build in (
        ("MAML", -3.375, lambda net: MAML(net, rule=SGD(0.05))),
        ("FOMAML", -4.5, lambda net: MAML(net, rule=SGD(0.05), meta_gradient="first_order")),
        ("Reptile", -3.0 * 0.05, lambda net: Reptile(net, rule=SGD(0.05), steps=1)),
    ):
        net = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        torch.nn.init.ones_(net.weight)
        build(net)(task).loss.backward()
        found = float(net.weight.grad)  # type: ignore[arg-type]
        if abs(found - expected) > 1e-9:
            raise FastadaptError(
                f"the {name} gradient is {found}, it should be {expected}: this torch build computes it wrongly"
            )
    return "MAML, FOMAML and Reptile gradients equal their closed forms"


def check_attention() -> str:
    """Compare the meta-gradient through torch's attention with the one through attention written out."""

    class Net(torch.nn.Module):
        def __init__(self, written: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.qkv, self.written = torch.nn.Linear(3, 12, dtype=torch.float64), written

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            if self.written:
                return (q @ k.mT / 2).softmax(-1) @ v
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    nets = Net(False), Net(True)
    x, y = torch.randn(4, 1, 5, 3, dtype=torch.float64), torch.randn(4, 1, 5, 4, dtype=torch.float64)
    for net in nets:
        MAML(net, rule=SGD(0.5), steps=2)(Task((x, y), (x.flip(0), y))).loss.backward()
    found, expected = (torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]) for net in nets)
    off = float((found - expected).norm() / expected.norm())
    if not off < 1e-9:
        raise FastadaptError(
            f"an exact gradient through attention is off by {off:.1e}: use meta_gradient='first_order'"
        )
    return "an exact meta-gradient through torch's attention equals that of attention written out"


def check_sines() -> str:
    """Look at how large the activations of a sine network begin: their variance is 1/2 in every layer."""
    torch.manual_seed(0)
    net, x = Siren(2, 256, 4, 3), torch.rand(4096, 2) * 2 - 1
    variances = []
    with torch.no_grad():
        for layer in net.body:
            x = layer(x)
            if isinstance(layer, Sine):
                variances.append(float(x.var()))
    told = ", ".join(f"{value:.2f}" for value in variances)
    if not all(0.4 < value < 0.6 for value in variances):
        raise FastadaptError(f"the activations of a sine network begin with variances {told}, they should be near 1/2")
    return f"the activations of a sine network begin with variances near 1/2: {told}"


def check_speed() -> str:
    """Time a small meta-step."""
    from fastadapt.data.sinusoid import Sinusoid
    from fastadapt.nets.mlp import MLP
    from fastadapt.tasks import draw, group_by_shape

    learner = MAML(MLP(1, (40, 40), 1))
    tasks = group_by_shape(draw(Sinusoid(), seed=0, split="doctor", indices=range(25)))
    learner(tasks)
    began = time.perf_counter()
    for _ in range(10):
        learner(tasks).loss.backward()
    return f"{(time.perf_counter() - began) * 100:.1f} ms for a meta-gradient of 25 sinusoid tasks"


def check_cache() -> str:
    """Say where decoded data is kept."""
    folder = cache_folder()
    return "no folder can be written: data is decoded anew by every run" if folder is None else str(folder)


def check_omniglot(root: Path | None) -> str:
    """Say whether Omniglot is found and whole."""
    data = load_omniglot(root)
    return f"{len(data.images):,} images of {len(data.class_names):,} characters"


def check_mini_imagenet(root: Path | None) -> str:
    """Say where the parts of mini-ImageNet are found; decoding them to see that they are whole would take a while."""
    places = {part: find_part(part, root) for part in PARTS}
    if missing := [part for part, place in places.items() if place is None]:
        raise DataError(f"{', '.join(missing)} not found; looked for {wanted(missing[0])}")
    return ", ".join(f"{part} in {place}" for part, place in places.items()) + " (not opened)"


def main(argv: Sequence[str]) -> int:
    """Parse the command line, run every check and return 0 if all that must pass do."""
    settings = tyro.cli(DoctorSettings, args=list(argv), prog="fastadapt doctor")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"fastadapt {__version__}, Python {platform.python_version()}, torch {torch.__version__}")
    print(f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, GPUs: {', '.join(devices) or 'none'}")
    for module, extra in (("matplotlib", "plot"), ("tensorboard", "tensorboard"), ("mujoco", "rl")):
        present = importlib.util.find_spec(module) is not None
        word, fact = ("ok  ", "installed") if present else ("note", f"absent; pip install fastadapt[{extra}]")
        print(f"{word} {module}: {fact}")
    checks: list[tuple[str, Callable[[], str], bool]] = [
        ("gradients", check_gradients, True),
        ("attention", check_attention, True),
        ("sines", check_sines, True),
        ("speed", check_speed, True),
        ("cache", check_cache, False),
        ("omniglot", lambda: check_omniglot(settings.data), False),
        ("mini-imagenet", lambda: check_mini_imagenet(settings.data), False),
    ]
    failed = False
    for name, check, needed in checks:
        try:
            print(f"ok   {name}: {check()}")
        except FastadaptError as error:
            failed = failed or needed
            print(f"{'FAIL' if needed else 'note'} {name}: {error}")
    return 1 if failed else 0
