"""A run on disk, and the exported model that other commands and machines need.

runs/<name>/config.json          complete: with it the run can be repeated
runs/<name>/split.json           which classes train, validate and test, where they are your own
runs/<name>/metrics.jsonl        what was logged
runs/<name>/checkpoints/step-N/  what a resume needs
runs/<name>/model/               the learner: weights, configuration, what an input is
runs/<name>/evaluation.json      the result under the run's protocol
runs/<name>/report/              pictures and a table
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastadapt.atomic import write_folder, write_text
from fastadapt.data.embeddings.embeddings_settings import EmbeddingsData
from fastadapt.data.images.folder_settings import FolderData
from fastadapt.data.images.omniglot_splits import ClassSplit
from fastadapt.errors import CheckpointError, ConfigError
from fastadapt.evaluation import Evaluation
from fastadapt.learner import Learner
from fastadapt.methods.ensemble import Ensemble
from fastadapt.methods.settings import MAMLMethod
from fastadapt.runs.config import RunConfig, differences
from fastadapt.runs.presets import PRESETS
from fastadapt.runs.shipped import SHIPPED, shipped_models
from fastadapt.training.checkpoint import best_checkpoint, best_checkpoints, latest_checkpoint, verify, write_manifest
from fastadapt.training.saved_steps import saved_steps

MODEL_FILES = ("learner.safetensors", "model.json")


@dataclass(frozen=True)
class LoadedLearner:
    """Hold a learner with the weights of a run that `meta_train(folder=...)` wrote from Python.

    Args:
        learner: the learner that was given, in evaluation mode.
        name: the run's name.
        step: outer steps of the weights.
        score: what validation said of them, higher is better; None if nothing was validated.
    """

    learner: Learner
    name: str
    step: int
    score: float | None


@dataclass(frozen=True)
class LoadedRun:
    """Hold a trained learner and what is needed to use it.

    Args:
        learner: the learner, in evaluation mode.
        config: how it was trained.
        name: the run's name.
        step: outer steps of the weights.
    """

    learner: Learner
    config: RunConfig
    name: str
    step: int

    @property
    def input(self) -> dict[str, Any]:
        """What one input is: `{"kind": "image" | "points", ...}`."""
        return self.config.data.input

    @property
    def net(self) -> dict[str, Any]:
        """Name and arguments of the network."""
        return self.config.network

    @property
    def ways(self) -> int | None:
        """Classes of a task; None for regression."""
        return self.config.data.ways

    @property
    def shots(self) -> int:
        """Support samples (for each class) of a test task."""
        return self.config.data.shots

    @property
    def fewest_ways(self) -> int | None:
        """With how few classes the run can be used; None for regression."""
        fewest: int | None = 2 if self.config.embeds else getattr(self.config.data, "fewest_ways", None)
        return self.ways if fewest is None else fewest

    @property
    def most_ways(self) -> int | None:
        """With how many classes the run can be used; None for any number, and for regression."""
        return self.config.most_ways

    def narrowed(self, ways: int) -> "LoadedRun":
        """Return the run for tasks of fewer classes: the head keeps its first `ways` outputs.

        Labels are drawn at random in training, so that no output differs from another in what it is for. A network that
        embeds has no head, and serves more classes too.

        Raises:
            ConfigError: if the run was not made for so few classes, or for so many.
        """
        if ways == self.ways:
            return self
        fewest, most = self.fewest_ways, self.most_ways
        if fewest is None or not fewest <= ways <= (ways if most is None else most):
            some = (
                f"{fewest} or more" if most is None else f"{fewest} to {most}" if fewest != most else f"exactly {most}"
            )
            raise ConfigError(f"{self.name} is made for {some} classes, not for {ways}")
        if self.config.embeds:
            data = replace(self.config.data, ways=ways)  # type: ignore[call-arg]
            return replace(self, config=replace(self.config, data=data))
        data = replace(self.config.data, ways=ways, fewest_ways=None)  # type: ignore[call-arg]
        config = replace(self.config, data=data)
        learner = config.build()
        old = self.learner.state_dict()
        cut = {}
        for name, tensor in learner.state_dict().items():
            cut[name] = old[name][tuple(slice(n) for n in tensor.shape)]  # a head's rows, of its matrices both axes
        learner.load_state_dict(cut)
        device = next(self.learner.parameters()).device
        return LoadedRun(learner.to(device).eval(), config, self.name, self.step)


def export_model(folder: Path, config: RunConfig, which: str | None = None) -> Path:
    """Write `folder/model/` from the best or the last checkpoint of a run, and return it.

    Raises:
        CheckpointError: if there is no valid checkpoint, or the folder can't be written.
    """
    find = best_checkpoint if (which or config.export) == "best" else latest_checkpoint
    checkpoint = find(folder / "checkpoints")
    if checkpoint is None:
        raise CheckpointError(f"{folder} has no checkpoint to export; train first")
    return export_learner(folder, config, checkpoint.learner, checkpoint.step, checkpoint.state.get("score"))


def export_learner(
    folder: Path, config: RunConfig, weights: dict[str, Tensor], step: int, score: float | None = None
) -> Path:
    """Write `folder/model/` from weights, and return it.

    Args:
        folder: of the run.
        config: of the run.
        weights: the learner's `state_dict`.
        step: outer steps that they had.
        score: what validation said of them, higher is better.

    Raises:
        CheckpointError: if the folder can't be written.
    """
    facts: dict[str, Any] = {"step": step, "score": score}
    if isinstance(config.method, MAMLMethod):  # codes scale the inner loss differently: say what this is in theirs
        facts["inner lr for a mean loss"] = config.method.mean_loss_lr(config.data.ways, config.data.train_shots)
    facts["config"] = json.loads(config.to_json())

    def fill(temporary: Path) -> None:
        save_file(weights, temporary / "learner.safetensors")
        (temporary / "model.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        write_manifest(temporary, MODEL_FILES)

    write_folder(folder / "model", fill)
    return folder / "model"


def save_evaluation(folder: Path, step: int, result: Evaluation) -> None:
    """Write `folder/evaluation.json`: the result, and of which step's weights it is.

    Raises:
        CheckpointError: if it can't be written.
    """
    record = {"step": step, **json.loads(result.to_json())}
    write_text(folder / "evaluation.json", json.dumps(record, indent=2) + "\n")


def save_split(folder: Path, data: FolderData | EmbeddingsData) -> None:
    """Write `folder/split.json`: the classes of each part, how they were divided, and a digest of the data.

    Raises:
        CheckpointError: if it can't be written.
    """
    record = {
        "folder": data.folder,
        "by": data.split_by or "random",
        "seed": data.split_seed,
        "sha256": ClassSplit("folder", data.train_classes, data.val_classes, data.test_classes).sha256,
        "images": data.digest,
        **{part: list(names) for part, names in data.split.items()},
    }
    write_text(folder / "split.json", json.dumps(record, indent=2) + "\n")


def read_config(folder: Path) -> RunConfig:
    """Return the configuration of a run.

    Raises:
        CheckpointError: if `folder` is not a run.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a run: it has no config.json (train one with fastadapt train)")
    return RunConfig.from_json(path.read_text(encoding="utf-8"))


def settle(folder: Path, config: RunConfig) -> None:
    """Write the run's `config.json`, or make sure that the one there is the same run.

    Raises:
        ConfigError: if the folder holds a run with other settings.
    """
    path = folder / "config.json"
    if path.is_file() and saved_steps(folder / "checkpoints"):
        changed = differences(read_config(folder), config)
        if changed:
            raise ConfigError(
                f"{folder} holds a run with other settings ({'; '.join(changed[:5])}"
                f"{' and more' if len(changed) > 5 else ''}); go on with the same settings, or choose another folder"
            )
    elif folder.is_dir() and any(folder.iterdir()) and not path.is_file():
        raise ConfigError(f"{folder} is not empty and not a run; choose another --run")
    write_text(path, config.to_json() + "\n")


def run_folder(run: Path | str) -> Path:
    """Return the folder of a run: the one that is named, else that of the shipped model of that name.

    A folder that is no run, as one of images that happens to be called `drawing`, does not hide the shipped model.

    Example:
        >>> run_folder("drawing").name
        'drawing'
    """
    path = Path(run)
    is_run = any((path / name).exists() for name in ("config.json", "model", "model.json", "checkpoints"))
    return SHIPPED / path if not is_run and str(path) in shipped_models() else path


@overload
def load_run(folder: Path | str, model: None = None) -> LoadedRun: ...
@overload
def load_run(folder: Path | str, model: Learner) -> LoadedLearner: ...
def load_run(folder: Path | str, model: Learner | None = None) -> LoadedRun | LoadedLearner:
    """Load the trained learner of a run, of its `model/` folder alone, or a shipped model by its name.

    Args:
        folder: the run, its `model/` folder, or the name of a shipped model.
        model: for a folder that `meta_train(folder=...)` wrote from Python, which holds weights but no network: a
            learner built as the trained one was. It takes the weights of the best validated checkpoint, or of the
            newest where nothing was validated, and is put into evaluation mode.

    Returns:
        The run, or with `model` the learner and of which step its weights are.

    Raises:
        CheckpointError: if there is none, or it is damaged, or it does not fit `model`.
        ConfigError: if `model` is no learner.
    """
    folder = run_folder(folder)
    if model is not None:
        return _into(model, folder)
    exported = folder if (folder / "model.json").is_file() else folder / "model"
    if not exported.is_dir():
        raise CheckpointError(f"can't load {folder}: {_hint(folder)}")
    verify(exported, MODEL_FILES)
    try:
        facts = json.loads((exported / "model.json").read_text(encoding="utf-8"))
        config = RunConfig.from_json(json.dumps(facts["config"]))
        learner = config.build()
        learner.load_state_dict(load_file(exported / "learner.safetensors"))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{exported} can't be read: {str(error).splitlines()[0]}") from None
    name = exported.parent.resolve().name if exported.name == "model" else exported.resolve().name
    return LoadedRun(learner.eval(), config, name, int(facts["step"]))


def load_ensemble(folder: Path | str, members: int) -> LoadedRun:
    """Load the best validated checkpoints of a run as one learner that answers with their mean.

    Args:
        folder: the run, with its checkpoints.
        members: how many of them, at least two.

    Raises:
        CheckpointError: if the run has not so many validated checkpoints.
        ConfigError: for fewer than two.
    """
    folder = run_folder(folder)
    config = read_config(folder)
    if members < 2:
        raise ConfigError(f"an ensemble has at least 2 members, got {members}")
    checkpoints = best_checkpoints(folder / "checkpoints", members)
    learners = []
    for checkpoint in checkpoints:
        learner = config.build()
        try:
            learner.load_state_dict(checkpoint.learner)
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step} in {folder} does not fit: {first}"
            ) from None
        learners.append(learner.eval())
    steps = ", ".join(f"{step:,}" for step in sorted(checkpoint.step for checkpoint in checkpoints))
    name = f"{folder.resolve().name}, the mean of its {members} best checkpoints (steps {steps})"
    return LoadedRun(Ensemble(learners).eval(), config, name, checkpoints[0].step)


def _hint(folder: Path) -> str:
    """Return why a folder can't be loaded, and what to do."""
    if (folder / "config.json").is_file():
        return "it has no model/ yet: let its training finish or stop"
    if not saved_steps(folder / "checkpoints"):
        made = f"; `fastadapt train {folder.name}` makes it" if folder.name in PRESETS else ""
        return f"not a run, nor a model that is shipped ({', '.join(shipped_models())}){made}"
    checkpoint = latest_checkpoint(folder / "checkpoints")
    kind = "" if checkpoint is None else checkpoint.state.get("learner", {}).get("learner", "")
    return (
        "meta_train(folder=...) wrote it from Python, with weights and no network; "
        f"write load_run(folder, model=learner) with {'the' if not kind else f'a {kind}'} learner built as it was then"
    )


def _into(learner: Any, folder: Path) -> LoadedLearner:
    """Load the weights of a run from Python into the learner that was given."""
    if not isinstance(learner, Learner):
        name = type(learner).__name__
        raise ConfigError(
            f"model is a {name}, and the weights of a run are those of a learner, of which the network is a part; "
            "write model=fastadapt.MAML(network, ...) with the method and the settings that it was trained with"
        )
    checkpoint = best_checkpoint(folder / "checkpoints")
    if checkpoint is None:
        raise CheckpointError(f"can't load {folder}: it has no valid checkpoint that meta_train(folder=...) wrote")
    then = checkpoint.state.get("learner", {}).get("learner")
    try:
        learner.load_state_dict(checkpoint.learner)
    except RuntimeError as error:
        first = " ".join(line.strip() for line in str(error).splitlines()[1:2]) or str(error)
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} in {folder}, of a {then or 'learner'}, does not fit this "
            f"{type(learner).__name__}: {first}"
        ) from None
    return LoadedLearner(learner.eval(), folder.resolve().name, checkpoint.step, checkpoint.state.get("score"))
