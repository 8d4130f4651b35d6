"""The outer loop, readable from top to bottom.

    for step in range(steps):
        tasks = task numbers step*B .. step*B + B-1
        loss = learner(tasks).loss
        loss.backward()
        optimizer.step()

Around it: a resume that is exact, a guard that no number which is not finite ever reaches the optimizer,
validation, checkpoints, and a stop on Ctrl-C, SIGTERM or a time limit that loses nothing.
"""

import dataclasses
import logging
import math
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from fastadapt.checks.tasks import first_look
from fastadapt.data.images.resident import resident
from fastadapt.engine.waiting import shown_by
from fastadapt.errors import ConfigError, EpisodeError
from fastadapt.evaluation import Evaluation, Protocol, measure, summarise, with_headline
from fastadapt.learner import Learner
from fastadapt.ranks import Ranks, ends_together
from fastadapt.tasks import SampleFunction, Tasks, TaskSource, draw_batch
from fastadapt.training.ahead import Ahead, labels_fit
from fastadapt.training.blame import divergence, skipped
from fastadapt.training.budget import Budget
from fastadapt.training.captured import captured_where_it_can_be, set_rate
from fastadapt.training.captured import saved as saved_state
from fastadapt.training.checkpoint import Checkpoint, environment, prune, save_checkpoint
from fastadapt.training.interrupts import Interrupts
from fastadapt.training.log import RunLog
from fastadapt.training.outer_step import Late, OuterStep, Stepped, outer_step
from fastadapt.training.resume import engine_of, resume
from fastadapt.training.settings import Training
from fastadapt.training.sharded import asked_to_stop, interleaved
from fastadapt.training.shared_steps import Sharding, sharded, together

Stop = Literal["finished", "time limit", "SIGINT", "SIGTERM"]
logger = logging.getLogger("fastadapt")


@dataclass(frozen=True)
class Trained:
    """Hold how a training ended.

    Args:
        step: outer steps done.
        stopped: "finished", "time limit", or the signal that ended it.
        skipped: steps that were skipped because a loss or gradient was not finite.
        records: what was logged, as in `metrics.jsonl`.
    """

    step: int
    stopped: Stop
    skipped: int
    records: list[dict[str, Any]]


@ends_together
def meta_train(
    learner: Learner,
    source: TaskSource | SampleFunction,
    training: Training | None = None,
    *,
    validation: TaskSource | SampleFunction | None = None,
    protocol: Protocol | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    folder: Path | str | None = None,
    outer_step: OuterStep = outer_step,
    quiet: bool = False,
    tensorboard: bool = False,
    budget: Budget | None = None,
    sharding: Sharding = "none",
) -> Trained:
    """Meta-train a learner; go on from the newest checkpoint in `folder` if there is one.

    Args:
        learner: any learner; trained in place.
        source: where the tasks come from. Step `s` takes the tasks number `s B .. s B + B - 1` of the stream
            `(seed, "train")`, whatever happened before.
        training: settings of the loop.
        validation: a source of validation tasks; used every `training.validate_every` steps.
        protocol: how to validate; default 100 tasks of the stream "val".
        optimizer: the outer optimizer, if not the one of the settings; its rates are scaled by the schedule.
        folder: where `metrics.jsonl` and `checkpoints/` go; None keeps nothing on disk.
        outer_step: what one step does with the tasks.
        quiet: show nothing.
        tensorboard: also write TensorBoard events.
        budget: the time of a command that does more than train; None counts `training.minutes` from now.
        sharding: "full" lets each of several processes keep a part of the weights and moments (FSDP2), for models that
            outgrow one; the processes then see one file system, where they write and read the checkpoints together.

    Returns:
        How it ended. The learner holds the last weights; the best validated ones are in the checkpoints.

    Raises:
        DivergenceError: after `training.max_nonfinite` steps in a row that are not finite; names the tasks.
        CheckpointError: if a checkpoint can't be written, or the one in `folder` is of other settings, another
            learner or another network.

    Example:
        >>> from fastadapt import MAML, MLP, SGD
        >>> from fastadapt.data.sinusoid import Sinusoid
        >>> learner = MAML(MLP(1, (8,), 1), rule=SGD(0.01))
        >>> meta_train(learner, Sinusoid(), Training(steps=3, meta_batch=2), quiet=True).stopped
        'finished'
    """
    training = training if training is not None else Training()
    if training.validate_every and validation is None:
        raise ConfigError("training.validate_every is set but there is no validation source; pass validation=...")
    protocol = protocol if protocol is not None else Protocol("validation-v1", tasks=100, split="val")
    ranks = Ranks.found()
    shards = sharded(sharding, learner, ranks, training, optimizer)
    optimizer = optimizer if optimizer is not None else training.build_optimizer(learner)
    base_rates = [float(group.setdefault("initial_lr", float(group["lr"]))) for group in optimizer.param_groups]
    if ranks.many:
        take = together(outer_step, learner, ranks, training, optimizer, shards)
    else:
        take = captured_where_it_can_be(outer_step, optimizer)
    kept, whole = folder is not None, nullcontext if shards is None else shards.whole
    folder = Path(folder) if folder is not None and ranks.first else None
    checkpoints = None if folder is None else folder / "checkpoints"
    device = next(p.device for p in learner.parameters())
    source = resident(source, device)
    validation = None if validation is None else resident(validation, device)

    state: dict[str, Any] = {"skipped": 0, "seconds": 0.0, "environment": environment(device, ranks.world)}
    state |= {"training": dataclasses.asdict(training), "learner": learner.signature()}
    start = resume(checkpoints, learner, optimizer, training, state, ranks, shards)
    time_left = budget if budget is not None else Budget(training.minutes)
    asked = protocol.tasks
    with whole():
        protocol = time_left.begin(learner, state["seconds"], protocol, validation if training.validate_every else None)
    protocol = ranks.said(protocol)
    engine = engine_of(learner)
    if engine is not None:
        # of the whole run and of what was asked for, so that a resume decides alike
        engine.expect(training.steps, math.inf if training.minutes is None else 60 * training.minutes)
    in_a_row: list[int] = []
    unjudged: deque[tuple[int, Stepped, list[Tasks], range]] = deque()
    stopped: Stop = "finished"
    step = start
    began = time.monotonic() - state["seconds"]
    lap_time, lap_step = time.monotonic(), start
    saved = judged = start

    def apart() -> bool:
        """Return whether processes have weights of their own just now: nothing is judged or written then."""
        return ranks.many and step % training.local_steps != 0

    def save(score: float | None = None) -> None:
        nonlocal saved
        if not kept or apart() or (checkpoints is None and shards is None):
            return
        state.update(seconds=time.monotonic() - began, score=score)
        if score is not None and protocol.tasks < asked:
            state["score_tasks"] = protocol.tasks
        else:
            state.pop("score_tasks", None)
        if engine is not None:
            state["execution"] = engine.history()
        checkpoint = Checkpoint(step, learner.state_dict(), saved_state(optimizer), dict(state))
        if shards is not None:
            shards.save(checkpoints, checkpoint)
        elif checkpoints is not None:
            save_checkpoint(checkpoints, checkpoint)
        if checkpoints is not None:
            prune(checkpoints, training.keep, training.keep_best)
        saved = step

    def validate(log: RunLog, interrupts: Interrupts) -> None:
        nonlocal judged
        assert validation is not None
        since = time.monotonic()
        save()  # first what would be lost: validating may take long
        # the log takes these two: judging the queries after every step would cost more than adapting
        after = with_headline([0], protocol, learner)
        with whole():
            table = measure(
                learner, validation, protocol, stop=lambda: interrupts.received is not None, after=after, ranks=ranks
            )
        if table is None:
            return
        result = summarise(table, protocol, learner, after)
        log.write({"step": step, **validation_record(result), "seconds": round(time.monotonic() - began, 2)})
        save(result.score)
        judged = step
        time_left.validated(time.monotonic() - since)

    def numbers_of(step: int) -> range:
        return range(step * training.meta_batch, (step + 1) * training.meta_batch)

    def drawn_tasks(numbers: range) -> list[Tasks]:
        return draw_batch(source, seed=training.seed, split="train", indices=numbers)

    def draw(step: int) -> list[Tasks]:
        # dropout and minibatches depend on the step alone, and differ between processes
        torch.manual_seed(_step_seed(training.seed, step) + ranks.rank)
        return drawn_tasks(ranks.part(numbers_of(step)))

    ahead = Ahead(draw, device, look=labels_fit(learner) if shards is None else lambda tasks: None)

    def judge(log: RunLog, number: int, taken: Stepped, tasks: list[Tasks], numbers: range) -> None:
        """Count a step that was not finite, and stop after many in a row."""
        if taken.moved:
            in_a_row.clear()
            return
        state["skipped"] += 1
        in_a_row.append(number - 1)
        if ranks.many:  # those of the other processes as well
            tasks = [group.to(device) for group in drawn_tasks(numbers)]
        why = skipped(taken.outcome, tasks, numbers, training, log.records)
        log.write({"step": number, "skipped": state["skipped"], **why})
        if len(in_a_row) >= training.max_nonfinite:
            save()
            raise divergence(learner, tasks, taken.outcome, numbers, training, in_a_row)

    def due(step: int) -> bool:
        """Return whether something is written after a step, or one more would be one too many."""
        every = [n for n in (training.checkpoint_every, training.validate_every) if n]
        return any(step % n == 0 for n in every) or step >= training.steps or training.max_nonfinite == 1

    learner.train()
    quiet = quiet or not ranks.first
    with (
        RunLog(folder, training, start, state["seconds"], quiet=quiet, tensorboard=tensorboard) as log,
        Interrupts() as interrupts,
        shown_by(log.waiting),
    ):
        log.limit = time_left.for_training
        if start:
            log.say(f"going on from step {start}")
        while step < training.steps:
            numbers = numbers_of(step)
            drawn = [] if step else draw(step)  # the first are looked at
            tasks = [group.to(device) for group in drawn] or ahead.take(step)
            if drawn:
                beside = validation if training.validate_every else None
                with whole():
                    notes = first_look(source, drawn, ranks.part(numbers), training.seed, learner, beside)
                for note in notes:
                    logger.warning("a note on the tasks: %s", note)
            scale = training.rate(step) / training.lr if training.lr else 1.0
            for group, base in zip(optimizer.param_groups, base_rates, strict=True):
                set_rate(group, base * scale)

            learner.at_step(step)
            logs = (step + 1) % training.log_every == 0 or step + 1 == training.steps
            if engine is not None:
                engine.at_once = step == 0  # a first step to see soon; strategies are looked at in the second
            before = {}
            if logs:
                with whole():
                    before = _before(learner, tasks, ranks)
            try:
                taken = take(learner, tasks, optimizer, training)
            except EpisodeError:
                save()  # the steps that are done are good
                raise
            if engine is not None:
                engine.at_once = False
            step += 1
            if step < training.steps:
                ahead.prepare(step)
            unjudged.append((step, taken, tasks, numbers))
            if apart():
                log.advance(step)
                time_left.stepped(step, training, log.say)
                continue
            # a GPU is asked about a step when the next one is under way, where nothing depends on the answer before
            while len(unjudged) > (isinstance(taken.moved, Late) and not (logs or due(step) or in_a_row)):
                judge(log, *unjudged.popleft())

            if logs:
                now = time.monotonic()
                speed = (step - lap_step) * training.meta_batch / max(now - lap_time, 1e-9)
                log.write(
                    {"step": step, **before, **_after(taken, optimizer), "tasks/s": round(speed, 1)}
                    | {"skipped": state["skipped"], "seconds": round(now - began, 2)}
                )
                lap_time, lap_step = now, step
            log.advance(step)
            time_left.stepped(step, training, log.say)

            if training.validate_every and step % training.validate_every == 0 and ranks.said(time_left.validates()):
                validate(log, interrupts)
                lap_time, lap_step = time.monotonic(), step
            elif step % training.checkpoint_every == 0:
                save()

            interrupts.received, over = asked_to_stop(ranks, interrupts.received, time_left.over)
            if interrupts.received is not None:
                stopped = "SIGINT" if interrupts.received == "SIGINT" else "SIGTERM"
                break
            if step < training.steps and over:
                stopped = "time limit"
                break
        while unjudged:
            judge(log, *unjudged.popleft())
        if training.validate_every and judged != step and stopped in ("finished", "time limit"):
            validate(log, interrupts)  # the last weights compete for the best ones
        elif saved != step:
            save()
        if stopped != "finished":
            log.say(f"stopped by {stopped} after step {step} of {training.steps}; nothing is lost")
    if shards is not None:
        shards.restore()
    return Trained(step, stopped, state["skipped"], log.records)


def _step_seed(seed: int, step: int) -> int:
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) % 2**63


def _before(learner: Learner, tasks: list[Tasks], ranks: Ranks) -> dict[str, float]:
    """Return the metrics of a meta-batch before adaptation; nothing where there are no queries (Reptile)."""
    judged = [group for group in tasks if group.has_queries and not group.collects]
    if not judged:
        return {}
    with torch.random.fork_rng(devices=[]):
        metrics = learner.trace(judged, 0).metrics
    parts = ranks.gathered({name: value[:, 0] for name, value in metrics.items()})
    return {f"{name} before": float(interleaved([part[name] for part in parts]).mean()) for name in metrics}


def _after(taken: Stepped, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return what is worth reading of a step: the loss, the metrics after adaptation, the gradient's norm, the rate."""
    facts = {"loss": float(taken.outcome.loss.detach())}
    facts |= {f"{name} after": float(value.mean()) for name, value in taken.outcome.metrics.items()}
    return facts | taken.facts | {"gradient": float(taken.gradient), "lr": float(optimizer.param_groups[0]["lr"])}


def validation_record(result: Evaluation) -> dict[str, Any]:
    """Return the facts of a validation, as they are logged."""
    record: dict[str, Any] = {
        f"val {result.metric} before": result.mean[0],
        f"val {result.metric}": result.result,
        "val ci95": result.half,
    }
    return record | ({"val nonfinite": result.nonfinite[result.column]} if result.nonfinite[result.column] else {})
