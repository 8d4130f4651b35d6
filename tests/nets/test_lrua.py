"""Least recently used access, against golden values and loops over heads and slots."""

import pytest
import torch

from fastadapt.errors import ConfigError
from fastadapt.nets import Controller
from fastadapt.nets.lrua import EMPTY, least_used, lrua

pytestmark = pytest.mark.usefixtures("double")


def test_the_golden_step_of_one_head():
    access = {
        "slots": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
        "reading": torch.tensor([[0.7, 0.2, 0.1]]),
        "usage": torch.tensor([0.2, 0.9, 0.5]),
        "unused": least_used(torch.tensor([0.2, 0.9, 0.5]), 1),
    }
    key = torch.tensor([[0.6, 0.8]])
    after, recalled = lrua(access, key, key, torch.tensor([[0.5]]), 0.95)
    close = {"rtol": 0, "atol": 6e-6}
    torch.testing.assert_close(after["slots"], torch.tensor([[0.51, 0.68], [0.06, 1.08], [1.03, 1.04]]), **close)
    torch.testing.assert_close(after["reading"], torch.tensor([[0.35260, 0.29809, 0.34931]]), **close)
    torch.testing.assert_close(recalled, torch.tensor([[0.55750, 0.92499]]), **close)
    torch.testing.assert_close(after["usage"], torch.tensor([1.39260, 1.25309, 0.87431]), **close)


def by_hand(controller, xs):
    """Return the outputs of a controller for a sequence, written out in plain numbers of one sequence."""
    H, S, W, R = controller.hidden, controller.slots, controller.width, controller.heads
    h, c, r = torch.zeros(H), torch.zeros(H), torch.zeros(0 if S is None else R * W)
    if S is not None:
        memory = [[torch.tensor(EMPTY)] * W for _ in range(S)]
        w_r = [[1.0 if j == 0 else 0.0 for j in range(S)] for _ in range(R)]
        u = [1.0 if j == 0 else 0.0 for j in range(S)]
    outputs = []
    for x in xs:
        z = controller.now.weight @ x + controller.now.bias + controller.again.weight @ torch.cat((h, r))
        i, f, o, g = (z[n * H : (n + 1) * H] for n in range(4))
        c = c / (1 + (-f).exp()) + torch.tanh(g) / (1 + (-i).exp())
        h = torch.tanh(c) / (1 + (-o).exp())
        if S is None:
            outputs.append(h)
            continue
        wanted = (controller.access.weight @ h + controller.access.bias).view(R, 2 * W + 1)
        unused = sorted(range(S), key=lambda j: float(u[j]))[:R]
        w_w = []
        for n in range(R):
            gate = 1 / (1 + (-wanted[n, 2 * W]).exp())
            w_w.append([gate * w_r[n][j] + (1 - gate) * (j == unused[n]) for j in range(S)])
        memory[unused[0]] = [torch.tensor(0.0)] * W
        memory = [
            [memory[j][d] + sum(w_w[n][j] * torch.tanh(wanted[n, W + d]) for n in range(R)) for d in range(W)]
            for j in range(S)
        ]
        r = []
        for n in range(R):
            key = torch.tanh(wanted[n, :W])
            cosines = [
                sum(key[d] * memory[j][d] for d in range(W)) / (key.norm() * torch.stack(memory[j]).norm())
                for j in range(S)
            ]
            weights = torch.stack(cosines).exp()
            w_r[n] = list(weights / weights.sum())
            r += [sum(w_r[n][j] * memory[j][d] for j in range(S)) for d in range(W)]
        r = torch.stack(r)
        u = [0.95 * float(u[j]) + sum(w_r[n][j].item() + w_w[n][j].item() for n in range(R)) for j in range(S)]
        outputs.append(torch.cat((h, r)))
    return torch.stack(outputs)


@pytest.mark.parametrize("slots", [5, None])
def test_outputs_and_gradient_are_those_written_out(slots):
    controller = Controller(3, hidden=4, slots=slots, width=2, heads=2)
    x = torch.randn(2, 6, 3)
    got, _ = controller(x, controller.start(x[:, 0, 0]))
    want = torch.stack([by_hand(controller, xs) for xs in x])
    torch.testing.assert_close(got, want)
    weights = torch.randn_like(want)
    pairs = [torch.autograd.grad((weights * each).sum(), list(controller.parameters())) for each in (got, want)]
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_a_sequence_may_be_stepped_through_and_later_elements_change_nothing_before():
    controller = Controller(3, hidden=4, slots=5, width=2, heads=2)
    x = torch.randn(6, 3)
    state = controller.start(x[0, 0])
    whole, _ = controller(x, state)
    _, after = controller(x[:4], state)
    torch.testing.assert_close(controller.step(x[4], after), whole[4])
    changed = torch.cat((x[:4], torch.randn(2, 3)))
    torch.testing.assert_close(controller(changed, state)[0][:4], whole[:4], rtol=0, atol=0)


def test_the_first_of_equal_slots_is_the_least_used():
    usage = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.1, 0.5]])
    assert least_used(usage, 2).argmax(-1).tolist() == [[1, 2], [2, 0]]


@pytest.mark.parametrize("wrong", [{"slots": 3}, {"heads": 0}, {"decay": 1.0}, {"hidden": 0}, {"width": 0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="a controller needs"):
        Controller(3, **wrong)
