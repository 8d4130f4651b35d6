"""What makes an outer step of a run faster, in the words of its command: hints for who has too little time."""

from collections.abc import Callable

from fastadapt.data.images.folder_settings import FolderData
from fastadapt.data.settings import OmniglotData
from fastadapt.methods.settings import MAMLMethod, ReptileMethod
from fastadapt.runs.config import RunConfig

_SMALL = 28  # pixels, below which an image is not made smaller


def cheaper(config: RunConfig) -> list[str]:
    """Return what the run could leave out, the largest gain first; nothing that it leaves out already.

    Example:
        >>> from fastadapt.runs.presets import PRESETS
        >>> cheaper(PRESETS["anil-omniglot-5w5s"][1])[0]
        'first order (--method.meta-gradient first_order)'
        >>> cheaper(PRESETS["oracle-sinusoid"][1])
        ['fewer tasks a step (--training.meta-batch 12)']
    """
    return [words for applies, hint in HINTS if applies(config) and (words := hint(config))]


def _maml(config: RunConfig) -> MAMLMethod | None:
    return config.method if isinstance(config.method, MAMLMethod) else None


def _exact(config: RunConfig) -> bool:
    return (method := _maml(config)) is not None and method.meta_gradient == "exact"


def _adapts_more(config: RunConfig) -> bool:
    return (method := _maml(config)) is not None and method.adapt not in (("head",), ("head.*",))


def _large(config: RunConfig) -> bool:
    return isinstance(config.data, FolderData) and config.data.size >= 2 * _SMALL


def _many_steps(config: RunConfig) -> bool:
    return isinstance(config.method, MAMLMethod | ReptileMethod) and config.method.steps > 1


def _fewer_steps(config: RunConfig) -> str:
    assert isinstance(config.method, MAMLMethod | ReptileMethod)
    return f"fewer inner steps (--method.steps {max(1, config.method.steps // 3)})"


def _smaller(config: RunConfig) -> str:
    assert isinstance(config.data, FolderData)
    return f"smaller images (--size {max(_SMALL, config.data.size // 2)})"


def _frozen_features(config: RunConfig) -> str:
    short = f"{config.data.ways}w{config.data.shots}s"
    return f"features that are trained once and stay frozen (the preset nearest-omniglot-{short})"


def _transfer_preset(config: RunConfig) -> bool:
    from fastadapt.runs.presets import SETTINGS

    known = isinstance(config.data, OmniglotData) and (config.data.ways, config.data.shots) in SETTINGS.values()
    return known and not config.data.flat_batch


HINTS: tuple[tuple[Callable[[RunConfig], bool], Callable[[RunConfig], str]], ...] = (
    (_exact, lambda config: "first order (--method.meta-gradient first_order)"),
    (_adapts_more, lambda config: "only the head adapts, ANIL (--method.adapt head)"),
    (_large, _smaller),
    (_many_steps, _fewer_steps),
    (_transfer_preset, _frozen_features),
    (
        lambda config: config.training.meta_batch > 1,
        lambda config: f"fewer tasks a step (--training.meta-batch {config.training.meta_batch // 2})",
    ),
)
"""When it applies, and its words."""
