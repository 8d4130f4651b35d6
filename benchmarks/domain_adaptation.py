"""A trained network brought to a domain that it has not seen: with a few labelled samples, and with inputs alone.

    python benchmarks/domain_adaptation.py faces --targets orl --seeds 0 1 2
    python benchmarks/domain_adaptation.py omniglot --seeds 0 1 2

Faces: pooled training on five domains, then fine-tuning on K people of the sixth, measured on all but twenty of its
people, the same ones for every K. Omniglot: twenty characters, domains are angles by which drawings are turned; trained
on some, tried on angles beyond and on inverted drawings, drawers kept apart. Each seed and target is kept when it is
done. Results go to benchmarks/results/domain_adaptation_faces.json and ..._omniglot.json.
"""

import argparse
import copy
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faces import TARGETS, new_net, trained
from fastadapt import MAML, SGD, CrossEntropy, Training, meta_train
from fastadapt.atomic import write_text
from fastadapt.data.domains.face_files import read_faces
from fastadapt.data.domains.face_pairs import pairs_of
from fastadapt.data.domains.face_recipe import FaceRecipe
from fastadapt.data.domains.face_set import FaceSet
from fastadapt.data.domains.within import labelled_within, pairs_within
from fastadapt.data.images.omniglot import load_omniglot
from fastadapt.errors import DivergenceError
from fastadapt.faces.measure import measured
from fastadapt.faces.objectives import MarginLoss, PairLoss
from fastadapt.methods.to_domain import fine_tuned, norm_parameters, with_entropy, with_statistics
from fastadapt.methods.unlabelled import Entropy, LearnedLoss

RESULTS = Path(__file__).parent / "results"
PEOPLE = (5, 10, 20)
STEPS = (3, 20, 60)
SETTINGS: dict[str, Any] = {"batch": 8, "flip": True, "shift": 2}
RATE = 0.05
WITHIN = PairLoss(alignment=0.0)


# ---- faces ------------------------------------------------------------------------------------------


def of_people(faces: FaceSet, people: np.ndarray, recipe: FaceRecipe, seed: int) -> Callable[[int], Any]:
    """Return a batch of two images of each of some people for every step."""
    return lambda step: pairs_of(faces, people, recipe, np.random.default_rng((seed, step)), flip=True, shift=2)


def faces_of(target: str, seed: int, faces: FaceSet) -> dict[str, Any]:
    recipe, sources = FaceRecipe(faces.side, 32), [domain for domain in TARGETS if domain != target]
    common: dict[str, Any] = {"faces": faces, "recipe": recipe, "sources": sources}
    base = new_net(seed=seed, **common)
    learner = MAML(base, MarginLoss(), steps=0, route="loop")
    trained(learner, how="pooled", steps=300, rate=RATE, seed=seed, settings=SETTINGS, **common)
    pooled = copy.deepcopy(base)
    learner = MAML(pooled, PairLoss(), steps=0, route="loop")
    trained(learner, how="pooled", steps=150, rate=0.025, seed=seed + 1000, settings=SETTINGS, **common)
    start = copy.deepcopy(base)
    maml = MAML(start, WITHIN, rule=SGD(RATE), steps=3, meta_gradient="first_order", norm="running", route="loop")
    tasks = pairs_within(faces, sources, "train", recipe=recipe, support=10, query=8, flip=True, shift=2)
    optimizer = torch.optim.SGD(maml.parameters(), 0.025, momentum=0.9, weight_decay=5e-4)
    training = Training(steps=150, meta_batch=1, lr=0.025, schedule="cosine", clip_norm=5.0, seed=seed, log_every=150)
    meta_train(maml, tasks, training, optimizer=optimizer, quiet=True)
    fresh = new_net(seed=seed + 77, **common)

    people = np.random.default_rng(seed).permutation(faces.people([target], least=2))
    kept = people[: max(PEOPLE)]
    told: dict[str, Any] = {}

    def tell(name: str, net: nn.Module) -> None:
        found = measured(net, faces, recipe, target, without=kept.tolist())
        told[name] = {k: v.value for k, v in found.numbers.items() if k in ("tar@0.01", "rank-1", "auc")}

    for name, net in (("base", base), ("pooled", pooled), ("maml", start), ("untrained", fresh)):
        tell(f"{name}, nobody", net)
        for count in PEOPLE:
            batches = of_people(faces, people[:count], recipe, seed)
            for steps in STEPS if count == 10 else STEPS[-1:]:
                tell(
                    f"{name}, {count} people, {steps} steps",
                    fine_tuned(net, WITHIN, batches, steps=steps, rule=SGD(RATE)),
                )
    batches = of_people(faces, people[:10], recipe, seed)
    for name, chosen in (("last layer", ["net.head.*"]), ("norms", norm_parameters(pooled))):
        tuned = fine_tuned(pooled, WITHIN, batches, steps=60, rule=SGD(RATE), select=chosen)
        tell(f"pooled, 10 people, 60 steps, {name} alone", tuned)
    x = recipe.prepare(faces.images[faces.images_of(kept)])  # no label of theirs is looked at
    surer = fine_tuned(base, to_identities, lambda step: x, steps=10, rule=SGD(RATE), select=norm_parameters(base))
    tell("base, entropy over the training identities, inputs alone", surer)
    return {"target": target, "seed": seed, "measured on": len(people) - len(kept), "numbers": told}


def to_identities(model: Any, x: Tensor) -> Tensor:
    """Return the entropy of which training identity an image is most like."""
    cosines = F.normalize(model(x), dim=1) @ F.normalize(model.identities, dim=1).T
    return Entropy(scale=16.0)(nn.Identity(), cosines)


# ---- omniglot ---------------------------------------------------------------------------------------

ANGLES = (0, 15, 30, 45, 60)
UNSEEN = {"75 degrees": 75, "90 degrees": 90, "120 degrees": 120, "inverted": 0}
CLASSES, TRAINERS = 20, 12


def turned(images: Tensor, degrees: float) -> Tensor:
    """Return images `[n, 1, S, S]` turned about their centre."""
    a = math.radians(degrees)
    matrix = torch.tensor([[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0]])
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def small_net() -> nn.Module:
    layers: list[nn.Module] = []
    for channels, width in ((1, 16), (16, 16), (16, 32)):
        layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, CLASSES))


@torch.no_grad()
def accuracy(make: Callable[[], nn.Module], x: Tensor, y: Tensor) -> float | None:
    """Return the accuracy of an adapted network in per cent; None where adapting it diverged."""
    try:
        net = make()
    except DivergenceError:
        return None
    return round(100 * float((net.eval()(x).argmax(1) == y).float().mean()), 2)


def omniglot_of(seed: int) -> dict[str, Any]:
    data = load_omniglot()
    rng = np.random.default_rng(seed)
    classes = rng.choice(len(data.class_names), CLASSES, replace=False)
    rows = np.stack([np.flatnonzero(data.labels == number) for number in classes])
    ink = 1 - data.images[torch.from_numpy(rows.flatten())].float().div(255).unsqueeze(1)
    ink = ink.reshape(CLASSES, 20, 1, 28, 28)
    y = torch.arange(CLASSES).repeat_interleave(TRAINERS)
    train = torch.cat([turned(ink[:, :TRAINERS].flatten(0, 1), angle) for angle in ANGLES])
    domain = np.repeat(np.array(ANGLES), len(y))
    labels = y.repeat(len(ANGLES))

    torch.manual_seed(seed)
    net = small_net()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(300):
        rows = torch.from_numpy(rng.choice(len(train), 64, replace=False))
        optimizer.zero_grad()
        F.cross_entropy(net(train[rows]), labels[rows]).backward()
        optimizer.step()
    net.eval()
    loss, meta = LearnedLoss(), copy.deepcopy(net)
    learned = MAML(meta, CrossEntropy(), rule=SGD(0.1), steps=1, inner_loss=loss, norm="transductive", route="loop")
    tasks = labelled_within(train, labels, domain, support=40, query=40, labels=False)
    training = Training(steps=150, meta_batch=2, lr=1e-3, seed=seed, schedule="cosine", log_every=150)
    meta_train(learned, tasks, training, quiet=True)

    told: dict[str, Any] = {}
    answers = torch.arange(CLASSES).repeat_interleave(20 - TRAINERS)
    for name, angle in UNSEEN.items():
        images = turned(ink.flatten(0, 1), angle).reshape(CLASSES, 20, 1, 28, 28)
        images = 1 - images if name == "inverted" else images
        here, test = images[:, :TRAINERS].flatten(0, 1), images[:, TRAINERS:].flatten(0, 1)
        few = torch.arange(CLASSES).repeat_interleave(2), images[:, :2].flatten(0, 1)
        ways: dict[str, Callable[[], nn.Module]] = {
            "as it is": lambda: net,
            "statistics of 240 drawings": lambda here=here: with_statistics(net, here),
            "statistics and entropy": lambda here=here: with_entropy(
                with_statistics(net, here), here, steps=10, rule=SGD(0.01)
            ),
            "the learner of the learned loss, statistics of the test drawings": lambda here=here: learned.adapt(
                here, steps=0
            ),
            "the same and a step of the learned loss on 240 drawings": lambda here=here: learned.adapt(here, steps=1),
            "2 labelled drawings of each, 60 steps": lambda few=few: fine_tuned(
                net, CrossEntropy(), lambda step: (few[1], few[0]), steps=60, rule=SGD(0.01)
            ),
        }
        told[name] = {way: accuracy(make, test, answers) for way, make in ways.items()}
    return {"seed": seed, "accuracy": told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["faces", "omniglot"])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    out = asked.out or RESULTS / f"domain_adaptation_{asked.what}.json"
    record: dict[str, Any] = {"torch": torch.__version__, "runs": []}
    if out.is_file():
        record = json.loads(out.read_text(encoding="utf-8"))
    done = {(run.get("target"), run["seed"]) for run in record["runs"]}
    targets = asked.targets if asked.what == "faces" else [None]
    faces = read_faces(Path(os.environ["FASTADAPT_DATA"])) if asked.what == "faces" else None
    for target in targets:
        for seed in asked.seeds:
            if (target, seed) in done:
                continue
            made = omniglot_of(seed) if faces is None else faces_of(target, seed, faces)
            record["runs"].append(made)
            write_text(out, json.dumps(record, indent=1) + "\n")
            print(json.dumps(made, indent=1), flush=True)


if __name__ == "__main__":
    main()
