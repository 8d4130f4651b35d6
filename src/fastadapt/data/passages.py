"""Tasks that are a text each: read some of it, be judged on another part."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import ConfigError, DataError
from fastadapt.tasks import Stream, Task, Tasks


@dataclass(frozen=True, eq=False)
class Passages:
    """Draw tasks from texts: pieces of `length` symbols to adapt on, others to be judged on.

    In each piece `x` are symbols and `y` the ones that come next. The pieces of a set follow one another without a gap;
    the query lies anywhere in the same text, at least `apart` symbols away from the support, or right behind it.

    Args:
        texts: of symbols, `[n]` of whole numbers each.
        length: symbols of a piece.
        support: pieces to adapt on.
        query: pieces to be judged on.
        apart: symbols between the two at least, before or behind; None puts the query right behind the support.

    Raises:
        ConfigError: for a setting below 1, or an `apart` below 0.
        DataError: for a text that is too short.

    Example:
        >>> source = Passages([torch.arange(100)], length=8, support=2, query=1)
        >>> task = source.sample(np.random.default_rng(0))
        >>> tuple(task.support[0].shape), int(task.query[0][0, 0] - task.support[0][0, 0])
        ((2, 8), 16)
    """

    texts: Sequence[Tensor] = field(repr=False)
    length: int = 64
    support: int = 16
    query: int = 8
    apart: int | None = None

    one_meaning = True
    """A symbol is the same in every task, so that a support set may lack some."""

    def __post_init__(self) -> None:
        """Check the settings and the texts."""
        if min(self.length, self.support, self.query) < 1 or (self.apart is not None and self.apart < 0):
            raise ConfigError(
                "length, support and query of Passages are at least 1, and apart is None or at least 0; got "
                f"length={self.length}, support={self.support}, query={self.query} and apart={self.apart}"
            )
        if not self.texts:
            raise DataError("Passages needs at least one text, got none")
        for i, text in enumerate(self.texts):
            if text.dim() != 1 or text.is_floating_point():
                raise DataError(f"text {i} is {tuple(text.shape)} of {text.dtype}; give symbols [n] of whole numbers")
            if len(text) < self.needed:
                raise DataError(
                    f"text {i} has {len(text)} symbols, and a task takes {self.needed} (length={self.length}, "
                    f"support={self.support}, query={self.query}, apart={self.apart}); leave it out, or take less"
                )

    @property
    def needed(self) -> int:
        """Symbols of the shortest text that a task can be drawn from, wherever in it its support lies."""
        both = self.length * (self.support + self.query)
        # with a gap, the query has to fit on one side of the support
        return both + 1 + (self.apart or 0)

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one task: support `(x: [support, length], y)`, and a query of the same form."""
        text = self.texts[int(rng.integers(len(self.texts)))]
        read, judged = self.length * self.support, self.length * self.query
        if self.apart is None:
            start = int(rng.integers(len(text) - read - judged))
            return Task(self._pieces(text, start, self.support), self._pieces(text, start + read, self.query))
        gap = self.apart
        before = len(text) - read - judged - gap  # places of the support that leave room for the query behind it
        start = int(rng.integers(2 * before))
        behind = start < before
        start = start if behind else start - before + judged + gap
        if behind:
            there = int(rng.integers(start + read + gap, len(text) - judged))
        else:
            there = int(rng.integers(start - gap - judged + 1))
        return Task(self._pieces(text, start, self.support), self._pieces(text, there, self.query))

    def at(self, numbers: Sequence[int], start: int, judged: int) -> Tasks:
        """Return the texts of these numbers as tasks: the support begins at symbol `start`, the query at `judged`."""
        chosen = [self.texts[i] for i in numbers]
        support = [self._pieces(text, start, self.support) for text in chosen]
        query = [self._pieces(text, judged, self.query) for text in chosen]
        return Tasks(_stacked(support), _stacked(query))

    def _pieces(self, text: Tensor, start: int, count: int) -> tuple[Tensor, Tensor]:
        return pieces(text, start, count, self.length)


@dataclass(frozen=True, eq=False)
class Streams:
    """Draw texts to be read from somewhere on, chunk after chunk, see `fastadapt.tasks.Stream`.

    Args:
        texts: of symbols, `[n]` of whole numbers each.
        chunks: of a stream.
        pieces: of a chunk.
        length: symbols of a piece.

    Raises:
        ConfigError: for a setting below 1.
        DataError: for a text that is too short.

    Example:
        >>> stream = Streams([torch.arange(100)], chunks=4, pieces=2, length=8).sample(np.random.default_rng(0))
        >>> tuple(stream.support[0].shape), tuple(stream.query[0].shape)
        ((3, 2, 8), (2, 8))
    """

    texts: Sequence[Tensor] = field(repr=False)
    chunks: int = 28
    pieces: int = 4
    length: int = 64

    one_meaning = True

    def __post_init__(self) -> None:
        """Check the settings and the texts."""
        if min(self.chunks, self.pieces, self.length) < 1:
            raise ConfigError(
                f"chunks, pieces and length of Streams are at least 1, got {self.chunks}, {self.pieces}, {self.length}"
            )
        needed = self.chunks * self.pieces * self.length + 1
        short = [i for i, text in enumerate(self.texts) if len(text) < needed]
        if short or not self.texts:
            told = f"text {short[0]} has {len(self.texts[short[0]])}" if short else "there is no text"
            raise DataError(f"a stream takes {needed} symbols, and {told}; leave it out, or take fewer chunks")

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one stream, of batches `(x: [pieces, length], y)`."""
        text = self.texts[int(rng.integers(len(self.texts)))]
        return self._from(text, int(rng.integers(len(text) - self.chunks * self.pieces * self.length)))

    def beginnings(self, numbers: Sequence[int]) -> list[Task]:
        """Return the texts of these numbers, each read from its first symbol on."""
        return [self._from(self.texts[i], 0) for i in numbers]

    def _from(self, text: Tensor, start: int) -> Task:
        x, y = pieces(text, start, self.chunks * self.pieces, self.length)
        shape = (self.chunks, self.pieces, self.length)
        return Stream((x.view(shape), y.view(shape)))


def pieces(text: Tensor, start: int, count: int, length: int) -> tuple[Tensor, Tensor]:
    """Return `count` pieces of a text one after another, and what comes next at each place, `[count, length]` both.

    Raises:
        DataError: if the text ends before that.
    """
    end = start + count * length
    if start < 0 or end >= len(text):
        raise DataError(
            f"{count} pieces of {length} symbols from symbol {start} on, and the one behind them, end at {end}, and "
            f"the text has symbols 0..{len(text) - 1}; take fewer pieces, or begin earlier"
        )
    return text[start:end].view(count, length), text[start + 1 : end + 1].view(count, length)


def _stacked(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    x, y = zip(*parts, strict=True)
    return torch.stack(x), torch.stack(y)
