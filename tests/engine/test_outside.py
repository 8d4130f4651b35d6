"""Whatever code reads is watched by a guard, or no program is made of it: nothing that it has read is ever frozen."""

import copy
import dataclasses
import enum
import json
import math
import operator
import pathlib

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import MAML, SGD, Execution
from fastadapt.engine.guards import Guards
from reference import difference
from watched import Net, mse, result, tasks


@dataclasses.dataclass
class Config:
    beta: float = 1.0
    steps: int = 3


class Plain:
    def __init__(self):
        self.zeta = 1.0

    def __repr__(self):
        return f"{self.zeta}"


class Meta(type):
    kappa = 1.0

    @property
    def weight(cls):
        return cls.kappa


class Typed(metaclass=Meta):
    pass


class Mode(enum.Enum):
    FIT = 1


class Number(float):
    pass


class Slotted(float):
    __slots__ = ("w",)


class Array(np.ndarray):
    pass


def of(owner, name, read):
    return lambda: read(owner), lambda: setattr(owner, name, 0.25)


def by_keyword(c):
    match c:
        case Config(beta=w):
            return w


def by_place(c):
    match c:
        case Config(w):
            return w


def tensor_with(name="w"):
    t = torch.ones(())
    setattr(t, name, 1.0)
    return t


def with_w(value):
    value.w = 1.0
    return value


def file_of_a_path(tmp_path):
    path = tmp_path / "beta"
    path.write_text("1.0")
    return lambda: float(path.read_text()), lambda: path.write_text("0.25")


def file_of_numpy(tmp_path):
    name = str(tmp_path / "b.npy")
    np.save(name, np.ones(()))
    return lambda: float(np.load(name)), lambda: np.save(name, np.full((), 0.25))


def file_that_is_there(tmp_path):
    name = tmp_path / "flag"
    return lambda: 1.0 if pathlib.Path(name).exists() else 0.5, name.touch


READ = {
    "match by keyword": lambda _: of(Config(), "beta", by_keyword),
    "match by place": lambda _: of(Config(), "beta", by_place),
    "astuple": lambda _: of(Config(), "beta", lambda c: dataclasses.astuple(c)[0]),
    "asdict": lambda _: of(Config(), "beta", lambda c: dataclasses.asdict(c)["beta"]),
    "replace": lambda _: of(Config(), "beta", lambda c: max(dataclasses.astuple(dataclasses.replace(c, steps=0)))),
    "copy": lambda _: of(Plain(), "zeta", lambda c: float(repr(copy.copy(c)))),
    "format": lambda _: of(Plain(), "zeta", lambda c: float("{0.zeta}".format(c))),  # noqa: UP030, UP032
    "format kept": lambda _: of(Plain(), "zeta", lambda c, f="{0.zeta}".format: float(f(c))),
    "repr": lambda _: of(Plain(), "zeta", lambda c: float(repr(c))),
    "f-string": lambda _: of(Plain(), "zeta", lambda c: float(f"{c}")),
    "methodcaller": lambda _: of(Plain(), "zeta", operator.methodcaller("__getattribute__", "zeta")),
    "metaclass": lambda _: (lambda: Typed.weight, lambda: setattr(Meta, "kappa", Meta.kappa / 2)),
    "member of an enum": lambda _: of(with_w(Mode.FIT), "w", lambda c: Mode.FIT.w),
    "tensor": lambda _: of(tensor_with(), "w", lambda c: c.w),
    "number": lambda _: of(with_w(Number(1.0)), "w", lambda c: c.w),
    "number with slots": lambda _: of(with_w(Slotted(1.0)), "w", lambda c: c.w),
    "array": lambda _: of(with_w(np.ones(3).view(Array)), "w", lambda c: c.w),
    "path": file_of_a_path,
    "numpy file": file_of_numpy,
    "whether a file is there": file_that_is_there,
}


@pytest.mark.parametrize("kind", READ)
def test_what_code_reads_is_watched_or_nothing_is_compiled(kind, tmp_path):
    read, change = READ[kind](tmp_path)
    before = read()  # the first call may fill what libraries keep on a class
    guards = Guards(read)
    if guards.unguardable is None:
        assert guards.hold()
        change()
        assert not guards.hold()
        assert Guards(read).changed(guards) is not None
    else:
        change()
    assert read() != before  # else nothing was tried


def asks_for_determinism():
    return torch.are_deterministic_algorithms_enabled()


def asks_for_threads():
    return torch.get_num_threads()


def test_a_setting_of_torch_is_watched_or_nothing_is_compiled():
    guards = Guards(asks_for_determinism)
    assert guards.unguardable is None and guards.hold()
    torch.use_deterministic_algorithms(True)
    try:
        assert not guards.hold()
    finally:
        torch.use_deterministic_algorithms(False)
    assert "torch.get_num_threads" in (Guards(asks_for_threads).unguardable or "")
    assert "torch.backends" in (Guards(lambda: torch.backends.cudnn.enabled).unguardable or "")


class Loads(nn.Module):
    """Reads its weights when it is built, which says nothing of what it reads when it runs."""

    def __init__(self, path=None):
        super().__init__()
        self.layer, self.scale = nn.Linear(2, 2), 1.0
        if path is not None:
            self.layer.load_state_dict(torch.load(path))

    def forward(self, x):
        if not torch.is_tensor(x) or x.dim() != 2:
            raise ValueError(f"two dimensions, not {x.dim()}")
        return self.layer(x) * math.exp(-self.scale) * np.sqrt(2.0)


@pytest.mark.parametrize("code", [Loads(), lambda: json.loads('{"w": 1.0}')["w"] * operator.add(1, 2)])
def test_ordinary_code_is_compiled_as_before(code):
    guards = Guards(code)
    assert guards.unguardable is None and guards.drawing is None and guards.hold()


@pytest.mark.parametrize("kind", ["match by keyword", "member of an enum", "path"])
def test_a_program_never_has_an_old_value(kind, tmp_path, double):
    read, change = READ[kind](tmp_path)
    net = Net()

    def loss(m, b):
        return read() * mse(m, b)

    compiled = MAML(net, loss, rule=SGD(0.1), route=Execution(route="vmap", compile="trace"))
    plain = MAML(net, loss, rule=SGD(0.1), route="loop")
    for step in range(4):
        if step == 2:
            change()
        assert difference(result(compiled, tasks()), result(plain, tasks())) < 1e-12
