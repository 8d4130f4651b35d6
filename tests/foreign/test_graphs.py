"""Graphs of torch_geometric are data: as support and query, in tuples, of any size, one or a batch of them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GATConv, GCNConv, SAGEConv, global_mean_pool

import fastadapt as fa
from foreign.by_hand import Case, apart, every_number, falls_on_support, refused


def graph(nodes=6, edges=12):
    return Data(x=torch.randn(nodes, 3), edge_index=torch.randint(nodes, (2, edges)), y=torch.arange(nodes) % 2)


def one_size():
    return [fa.Task(graph(), graph()) for _ in range(3)]


def many_sizes():
    return [fa.Task(graph(5 + i, 9 + i), graph(7 - i, 12)) for i in range(3)]


both_sizes = pytest.mark.parametrize("tasks", [one_size, many_sizes], ids=["one size", "many sizes"])


class Net(nn.Module):
    def __init__(self, conv, **options):
        super().__init__()
        self.a, self.b = conv(3, 4, **options), conv(4, 2, **options)

    def forward(self, x, edge_index):
        return self.b(self.a(x, edge_index).tanh(), edge_index)


class Dense(nn.Module):
    """Two graph convolutions by the formula: D^-1/2 (A + I) D^-1/2 X W + b."""

    def __init__(self, net):
        super().__init__()
        self.b0, self.w0 = (nn.Parameter(p.detach().clone()) for p in (net.a.bias, net.a.lin.weight))
        self.b1, self.w1 = (nn.Parameter(p.detach().clone()) for p in (net.b.bias, net.b.lin.weight))

    def forward(self, x, edge_index):
        n = len(x)
        a = torch.zeros(n, n).index_put(
            (edge_index[1], edge_index[0]), torch.ones(edge_index.shape[1]), accumulate=True
        )
        # its rule for loops: a node that has them keeps the weight of one
        a = a - a.diag().diag() + torch.eye(n)
        scale = a.sum(1).rsqrt()
        a = scale[:, None] * a * scale
        return a @ (a @ x @ self.w0.T + self.b0).tanh() @ self.w1.T + self.b1


def loss(model, d):
    return F.cross_entropy(model(d.x, d.edge_index), d.y)


@every_number
@both_sizes
def test_gcn_equals_the_formula_on_a_dense_matrix(tasks, number):
    net = Net(GCNConv)
    assert [tuple(p.shape) for p in net.parameters()] == [tuple(p.shape) for p in Dense(net).parameters()]
    number(Case(net, loss, tasks(), rate=0.5, twin=Dense(net)))


@every_number
@pytest.mark.parametrize("conv", [GATConv, SAGEConv])
@both_sizes
def test_attention_and_means_of_neighbours(tasks, conv, number):
    options = {"negative_slope": 1.0} if conv is GATConv else {}  # without a kink
    number(Case(Net(conv, **options), loss, tasks(), rate=0.5))


@every_number
def test_graphs_in_tuples(number):
    tasks = [fa.Task((graph(5 + i), torch.tensor([0, 1])), (graph(), torch.tensor([1, 3]))) for i in range(3)]

    def labelled(model, batch):
        d, nodes = batch
        return F.cross_entropy(model(d.x, d.edge_index)[nodes], d.y[nodes])

    number(Case(Net(GCNConv), labelled, tasks, rate=0.5))


@every_number
def test_graphs_in_mappings(number):
    tasks = [fa.Task({"graph": graph(), "weight": 2}, {"graph": graph(), "weight": 1}) for _ in range(2)]
    number(Case(Net(GCNConv), lambda m, b: b["weight"] * loss(m, b["graph"]), tasks, rate=0.5))


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = GCNConv(3, 4), nn.Linear(4, 2)

    def forward(self, d):
        return self.out(global_mean_pool(self.conv(d.x, d.edge_index).tanh(), d.batch))


@every_number
def test_batches_of_graphs_with_a_label_each(number):
    def batch(count):
        graphs = [graph(4 + i) for i in range(count)]
        for i, each in enumerate(graphs):
            each.y = torch.tensor([i % 2])
        return Batch.from_data_list(graphs)

    tasks = [fa.Task(batch(3), batch(4)) for _ in range(2)]
    number(Case(Pooled(), lambda m, d: F.cross_entropy(m(d), d.y), tasks, rate=0.5))


def test_the_trace_falls():
    falls_on_support(Case(Net(GCNConv), loss, many_sizes(), rate=0.2))


def test_predictor_answers_on_another_graph():
    case = Case(Net(GCNConv), loss, one_size(), rate=0.5)
    task, other = case.tasks[0], graph(9, 20)
    got = case.learner().adapt(task.support)(other.x, other.edge_index)
    want = case.other.descended(task.support, case.steps)(other.x, other.edge_index)
    assert apart([got.detach()], [want.detach()]) < 1e-10


def test_tasks_of_graphs_move():
    task = fa.Task(graph(), (graph(), torch.ones(2))).to("meta")
    assert task.support.x.device.type == task.query[0].edge_index.device.type == task.query[1].device.type == "meta"


def test_evaluate_takes_graphs():
    case = Case(Net(GCNConv), loss, one_size(), rate=0.5)
    held = list(case.tasks)
    result = fa.evaluate(case.learner(), lambda rng: held[int(rng.integers(len(held)))], fa.Protocol(tasks=6))
    assert result is not None


def test_a_task_where_its_support_belongs_is_one_sentence():
    with refused("task"):
        Case(Net(GCNConv), loss, one_size()).learner().adapt(fa.Task(graph(), graph()))


def test_a_loss_that_takes_the_graph_apart_wrongly_is_the_users_own_error():
    """What the loss raises must reach its author, not a guess about collectors."""

    def wrong(model, d):
        return F.cross_entropy(model(d.x, d.edges), d.y)

    with pytest.raises(Exception) as caught:
        Case(Net(GCNConv), wrong, one_size()).learner()(one_size())
    assert "edges" in str(caught.value)
