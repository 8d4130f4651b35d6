"""Every exception a user can meet.

All derive from `FastadaptError`, so `except FastadaptError` catches exactly what this package
raises on purpose. Each message names the value, the rule it broke and what to do.
"""


class FastadaptError(Exception):
    """Base of every exception that fastadapt raises on purpose."""


class TaskError(FastadaptError, ValueError):
    """A task, or a batch of tasks, does not have the form the learner needs."""


class LearnerError(FastadaptError, TypeError):
    """A learner does not keep what every learner promises; the message has each promise that is broken."""


class SelectionError(FastadaptError, ValueError):
    """A selection of parameters matches nothing, or names what does not exist."""


class ConfigError(FastadaptError, ValueError):
    """A setting has a value outside its range, or two settings contradict each other."""


class DataError(FastadaptError, ValueError):
    """A data set, a folder or a file can't be used; the message says which and why."""


class DownloadError(DataError):
    """A download failed, or what arrived does not have the published checksum."""


class CheckpointError(FastadaptError, RuntimeError):
    """A checkpoint can't be written, or none that is valid can be read."""


class DivergenceError(FastadaptError, RuntimeError):
    """Training met non-finite losses or gradients too many times in a row."""


class EpisodeError(FastadaptError, RuntimeError):
    """An environment of reinforcement learning failed in a step, or returned what it should not."""


class MissingExtraError(FastadaptError, ImportError):
    """An optional dependency is needed for this; the message holds the install command."""
