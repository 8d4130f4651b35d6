"""A run on embeddings as the service offers it: behind the backbone that these were computed by, it takes images."""

import copy
from dataclasses import asdict, dataclass, field
from typing import Any

from fastadapt.backbones.backbone import Backbone
from fastadapt.backbones.shown import Shown
from fastadapt.data.embeddings.embeddings_settings import EmbeddingsData
from fastadapt.data.images.images import ImageRecipe
from fastadapt.errors import ConfigError
from fastadapt.nets.features import Features
from fastadapt.nets.headed import Headed
from fastadapt.predictor import Predictor
from fastadapt.runs.run_files import LoadedRun


@dataclass(frozen=True)
class RunBehind(LoadedRun):
    """Hold a run on embeddings whose learner takes images.

    Args:
        seen: what an image is before the backbone sees it.
        by: the backbone, in words.
    """

    seen: dict[str, Any] = field(default_factory=dict)
    by: str = ""

    @property
    def input(self) -> dict[str, Any]:
        """What one input is."""
        return self.seen


def behind(run: LoadedRun, backbone: Backbone | None) -> LoadedRun:
    """Return a run on embeddings as one on images, and every other run as it is.

    Args:
        run: the run.
        backbone: by which its embeddings were computed.

    Raises:
        ConfigError: if none is given, or another one, or the embeddings don't say by which they were computed.
    """
    data = run.config.data
    if not isinstance(data, EmbeddingsData):
        return run
    if not data.backbone:
        raise ConfigError(
            f"{run.name} is on embeddings that don't say what computed them, so that no image can be shown to it; "
            "fastadapt adapt and predict take files of such embeddings"
        )
    if backbone is None or backbone.name != data.backbone:
        other = "" if backbone is None else f", and {backbone.name} is another"
        raise ConfigError(
            f"{run.name} is on embeddings by {data.backbone}{other}: name that one with --backbone, or give files of "
            "embeddings to fastadapt adapt and predict"
        )
    sight = backbone.sight
    if sight.height != sight.width:
        raise ConfigError(
            f"{run.name} is behind a backbone that takes {sight.height}x{sight.width} pixels, and the service makes "
            "square images; fastadapt adapt and predict take files of embeddings"
        )
    size = sight.resize if isinstance(sight.resize, int) else max(sight.resize)
    seen = asdict(ImageRecipe(size, channels=3 if sight.channels == 3 else 1))
    learner: Any = copy.deepcopy(run.learner)
    learner.model = Shown(backbone, seen)
    return RunBehind(learner.eval(), run.config, run.name, run.step, seen, backbone.name)


def head_alone(predictor: Predictor) -> Predictor:
    """Return the head of a predictor, which takes the embeddings that its backbone computes."""
    head = predictor.model
    assert isinstance(head, Headed)
    alone = Headed(Features(len(head.centre)), **head.arguments)
    alone.put({name: value for name, value in head.named_buffers() if not name.startswith("backbone.")})
    return Predictor(alone, "running", details=dict(predictor.details)).eval()
