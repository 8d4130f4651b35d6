"""Reading on: each chunk of a language is predicted before it is learned from, by every method alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.compare.ngrams import WittenBell
from fastadapt.data.passages import Streams
from fastadapt.data.udhr import Languages
from fastadapt.errors import ConfigError
from fastadapt.evaluation import confidence
from fastadapt.methods.ttt import TTT
from fastadapt.rules.rules import SGD, Adam, Clip, Rule
from fastadapt.selection import Selection
from fastadapt.showcases.stages import Stages

AT_ONCE = 5  # streams
FROZEN = "pretrained, frozen"
ON_LINE = "pretrained, dynamic evaluation"
COUNTED = "n-grams on line"


def rules() -> dict[str, Rule]:
    """Return the rules that are tried for every model that learns on while it reads."""
    clipped = {f"SGD {lr:g}, clipped at 1": Clip(SGD(lr), 1.0) for lr in (0.03, 0.1, 0.3)}
    return {**clipped, **{f"Adam {lr:g}": Adam(lr, beta1=0.9) for lr in (3e-4, 1e-3, 3e-3)}}


class Reader:
    """Hold a model that reads on, and how.

    Args:
        nets: from which it may begin, by name.
        rules: further rules that belong to it.
        adapt: what of the model adapts.
        learned: whether it was meta-learned.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        rules: Mapping[str, Rule] | None = None,
        adapt: Selection = "all",
        learned: bool = False,
    ) -> None:
        self.nets, self.rules, self.adapt, self.learned = nets, rules or {}, adapt, learned

    def read(self, net: nn.Module, rule: Rule, streams: Streams, count: int, loss: Any) -> Tensor:
        """Return the bits per character of each chunk of the first streams, `[count, chunks]`."""
        learner: Any = TTT(net, loss, rule=rule, adapt=self.adapt, steps=streams.chunks - 1, route="loop")
        device = next(net.parameters()).device
        read = []
        for i in range(0, count, AT_ONCE):
            tasks = [task.to(device) for task in streams.beginnings(range(i, min(i + AT_ONCE, count)))]
            read.append(next(iter(learner.reading(tasks).metrics.values())).cpu())
        return torch.cat(read)


def reading_on(
    readers: Mapping[str, Reader],
    frozen: nn.Module,
    pooled: WittenBell,
    val: Languages,
    test: Languages,
    chunks: int,
    pieces: int,
    length: int,
    tuned_on: int,
    loss: Any,
    stages: Stages,
) -> dict[str, Any]:
    """Return how each method reads the test languages, chunk by chunk.

    Args:
        readers: the models that learn on, by name; net and rule are chosen on validation languages.
        frozen: the model that doesn't.
        pooled: counts of the training languages, on which those of what was read are based.
        val: validation languages.
        test: test languages.
        chunks: of a stream.
        pieces: of a chunk.
        length: symbols of a piece.
        tuned_on: how many validation languages.
        loss: with bits per character as its metric.
        stages: where finished parts are kept.
    """
    there = Streams(test.texts, chunks, pieces, length)
    before = Streams(val.texts[:tuned_on], chunks, pieces, length)
    size = pieces * length
    rows = []

    def row(name: str, values: Any, learned: bool, chosen: str = "") -> dict[str, Any]:
        table = torch.tensor(values, dtype=torch.float64)
        pairs = [confidence(column.tolist()) for column in table.unbind(1)]
        whole, half = confidence(table.mean(1).tolist())
        return {
            "name": name,
            "learned": learned,
            "chosen": chosen,
            "mean": [round(mean, 3) for mean, _ in pairs],
            "ci95": [round(h, 3) for _, h in pairs],
            "whole": round(whole, 4),
            "whole ci95": round(half, 4),
            "values": [round(v, 4) for v in table.mean(1).tolist()],
        }

    def choose(name: str, reader: Reader) -> dict[str, Any]:
        best: tuple[float, str, str] | None = None
        for net_name, net in reader.nets.items():
            for rule_name, rule in {**rules(), **reader.rules}.items():
                mean = float(reader.read(net, rule, before, len(before.texts), loss).mean())
                if mean == mean and (best is None or mean < best[0]):
                    best = mean, net_name, rule_name
        if best is None:
            raise ConfigError(f"{name} reads to no finite number with any of {', '.join(rules())}; try smaller rates")
        return {"score": best[0], "net": best[1], "rule": best[2]}

    for name, reader in readers.items():
        stages.say(f"reading on: {name}")
        found = stages.kept(f"reading {name} tuned", lambda n=name, r=reader: choose(n, r))
        rule = {**rules(), **reader.rules}[found["rule"]]
        values = stages.kept(
            f"reading {name}",
            lambda r=reader, f=found, rule=rule: r.read(r.nets[f["net"]], rule, there, len(test.texts), loss).tolist(),
        )
        rows.append(row(name, values, reader.learned, f"{found['net']}, {found['rule']}"))
    still = Reader({"": frozen})
    values = stages.kept("reading frozen", lambda: still.read(frozen, SGD(0.0), there, len(test.texts), loss).tolist())
    rows.insert(0, row(FROZEN, values, learned=False))

    def counted() -> list[list[float]]:
        return [
            [
                WittenBell([text[: j * size + 1]], test.symbols, base=pooled).bits(
                    text, j * size + 1, (j + 1) * size + 1
                )
                for j in range(chunks)
            ]
            for text in test.texts
        ]

    rows.append(row(COUNTED, stages.kept("reading counted", counted), learned=False))
    return {"characters": size, "chunks": chunks, "tuned on": tuned_on, "rows": rows}


def lead(record: dict[str, Any], name: str) -> tuple[str, float, float]:
    """Return the best rival over the whole stream, and the mean gain over it with its 95 % half-width, paired."""
    rivals: Sequence[dict[str, Any]] = [row for row in record["rows"] if not row["learned"]]
    own = next(row for row in record["rows"] if row["name"] == name)
    rival = min(rivals, key=lambda row: row["whole"])
    gain, half = confidence([b - a for a, b in zip(own["values"], rival["values"], strict=True)])
    return rival["name"], gain, half
