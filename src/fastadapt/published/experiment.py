"""A published run as data: how it is trained, how it is measured, and what was published for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fastadapt.errors import ConfigError
from fastadapt.evaluation import Protocol
from fastadapt.runs.config import RunConfig
from fastadapt.tasks import TaskSource


@dataclass(frozen=True)
class Claim:
    """Hold a published number, as it was printed.

    Args:
        value: the number; accuracies as fractions, errors in the units of the targets squared.
        spread: what stands behind its ±; None where nothing does.
        spread_is: what that ± is.
        source: author, year, arXiv id and place of the number.

    Raises:
        ConfigError: if the spread is negative, or there is no source.

    Example:
        >>> Claim(0.987, 0.004, source="Finn et al. 2017, table 1").text(percent=True)
        '98.7 ± 0.4'
    """

    value: float
    spread: float | None = None
    spread_is: str = "95 % CI over tasks"
    source: str = ""

    def __post_init__(self) -> None:
        """Check both."""
        if self.spread is not None and self.spread < 0:
            raise ConfigError(f"the spread of a published number must be >= 0, got {self.spread}")
        if not self.source:
            raise ConfigError(f"the published number {self.value} needs its source")

    def text(self, *, percent: bool) -> str:
        """Return the number and its ± as they are printed, accuracies in percent."""
        scale = 100 if percent else 1
        value = f"{scale * self.value:.4g}"
        return value if self.spread is None else f"{value} ± {scale * self.spread:.4g}"


@dataclass(frozen=True)
class Measurement:
    """Say how a trained run is measured, and which numbers were published for that.

    Args:
        name: what tells it from the run's other measurements, such as "5 shots" or "not transductive".
        protocol: tasks, inner steps, batch norm.
        data: settings of the data that differ from the run's (`{"shots": 5}`).
        by: another method around the same trained weights; None is the run's own.
        claims: number of inner steps -> the published number after as many; by instance, instance number -> that.
        ensemble: of how many of the best validated checkpoints the answers are averaged; 0 asks the exported weights.
        by_instance: whether the accuracy is that on the first, second, ... instance of a class in a sequence.
    """

    name: str
    protocol: Protocol
    data: Mapping[str, Any] = field(default_factory=dict)
    by: Any = None
    claims: Mapping[int, Claim] = field(default_factory=dict)
    ensemble: int = 0
    by_instance: bool = False

    def columns(self, config: RunConfig) -> range:
        """Return for which inner steps, or instances, there are numbers."""
        data: Any = self.config(config).data
        return range(1, data.shots + data.queries + 1) if self.by_instance else range((self.protocol.steps or 0) + 1)

    def config(self, config: RunConfig) -> RunConfig:
        """Return the run's configuration as it is measured here."""
        narrower = {"fewest_ways": None} if "ways" in self.data else {}
        return replace(
            config,
            data=replace(config.data, **{**narrower, **self.data}),
            method=config.method if self.by is None else self.by,
            protocol=self.protocol,
        )

    def source(self, config: RunConfig, part: str, loaded: Any) -> TaskSource:
        """Return the tasks of this measurement from a `part` of the data, "val" or "test"."""
        return self.config(config).data.source(part, loaded)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Experiment:
    """Hold one published run: a configuration that never changes, its measurements and where it is from.

    Args:
        name: how it is asked for; the name of the preset where that is the same run.
        what: the run in a few words.
        config: everything its training depends on, except the seed.
        measurements: how the trained model is measured, with the published numbers.
        source: the paper.
        version: raised when a setting changes, so that results of another version are not mixed with these.
        differs: in which settings this run differs from the paper's, and why.
        rates: fine-tuning rates to choose from on validation tasks before each measurement; empty tunes nothing.
        decays: of a classifier that is fine-tuned, the rates' decays to choose from as well.
        tuned_on: how many validation tasks the choice is made on.
        figure: the figure that the result belongs to, if any.
        averages: for a run that averages single-task regressors instead of meta-training: its settings.
    """

    name: str
    what: str
    config: RunConfig
    measurements: tuple[Measurement, ...]
    source: str
    version: int = 1
    differs: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    decays: tuple[float, ...] = ()
    tuned_on: int = 200
    figure: str | None = None
    averages: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check that the measurements can be told apart, and that each claim is among the measured steps."""
        names = [m.name for m in self.measurements]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"the measurements of {self.name} need names that differ, got {names}")
        for measurement in self.measurements:
            columns = measurement.columns(self.config)
            beyond = [step for step in measurement.claims if step not in columns]
            if beyond:
                told = f"{columns[0]}..{columns[-1]}"
                raise ConfigError(f"{self.name}, {measurement.name}: no step {beyond[0]} among the measured {told}")

    @property
    def claimed(self) -> str:
        """The published numbers in a few words, each once; nothing where there are none."""
        percent = self.config.data.ways is not None
        texts = [claim.text(percent=percent) for m in self.measurements for claim in m.claims.values()]
        return ", ".join(dict.fromkeys(texts)) + (" %" if percent and texts else "")
