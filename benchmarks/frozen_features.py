"""Compare heads on the features of a real pretrained network with a meta-trained Conv4, on the same tasks.

    python benchmarks/frozen_features.py --data DIR --onnx lite0.onnx --values signed --from "WHERE IT COMES FROM"
    python benchmarks/frozen_features.py --docs   # write the table of docs/frozen_features.md from the result

The features are those that `fastadapt embed` writes, the pictures are files in folders as a user has them, and every
method answers each query alone. On Omniglot the Conv4 is the model `drawing` that comes with fastadapt (MAML), on
mini-ImageNet a ProtoNet that is trained here for `--minutes`. Differences are paired over tasks.
"""

import argparse
import dataclasses
import json
import logging
import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastadapt as fa
from fastadapt.backbones.backbone import Backbone, find_backbone
from fastadapt.backbones.embed import Told, embed
from fastadapt.commands.backbone_options import look_at_pictures
from fastadapt.data import load_mini_imagenet, mini_imagenet_split, mini_imagenet_tasks, omniglot_split
from fastadapt.data.embeddings.embeddings import Embeddings
from fastadapt.data.embeddings.reading import read_embeddings
from fastadapt.data.embeddings.vectors import ClassVectors
from fastadapt.data.images.folder_images import load_folder
from fastadapt.data.images.images import ImageRecipe
from fastadapt.methods import CosineHead, LinearProbe, NearestCentroid, NearestSample, ProtoNet, RidgeHead
from fastadapt.methods.features import features_of
from fastadapt.nets.features import Features

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "frozen_features.json"
PAGE = ROOT / "docs" / "frozen_features.md"
BEGIN, END = "<!-- frozen features -->", "<!-- end of frozen features -->"
WAYS, QUERIES = 5, 15
SETS = {"mini_imagenet": "mini-ImageNet", "omniglot": "Omniglot"}
RIVALS = {
    "omniglot": "meta-trained Conv4: the shipped model drawing (MAML, 10-way 1-shot, 5,300 steps)",
    "mini_imagenet": "meta-trained Conv4: ProtoNet, 32 filters, 5-way 5-shot",
}


def extract(data: Path, name: str, root: Path, classes: int, base: int, each: int) -> dict[str, Path]:
    """Write pictures of test and training classes into folders, the first `each` by name, and return the folders."""
    if name == "omniglot":
        split = omniglot_split("1100/100/423", seed=1)  # the one of `drawing`
        archives = [data / "omniglot" / f"images_{part}.zip" for part in ("background", "evaluation")]
        chosen = {"test": split.test, "train": split.train}
    else:
        split = mini_imagenet_split()
        archives = [data / "mini_imagenet" / f"{part}.zip" for part in ("train", "test")]
        chosen = {"test": split.test, "train": split.train}
    some = {"test": set(evenly(sorted(chosen["test"]), classes)), "train": set(evenly(sorted(chosen["train"]), base))}
    for archive in archives:
        with zipfile.ZipFile(archive) as file:
            members = defaultdict(list)
            for member in file.namelist():
                if member.endswith((".png", ".jpg")):
                    members["/".join(member.split("/")[1:-1])].append(member)
            for part, names in some.items():
                for label in names & set(members):
                    place = root / name / part / label
                    place.mkdir(parents=True, exist_ok=True)
                    for member in sorted(members[label])[:each]:
                        (place / Path(member).name).write_bytes(file.read(member))
    return {part: root / name / part for part in some}


def evenly(names: list[str], count: int) -> list[str]:
    """Return so many of the names, spread over all."""
    return [names[i] for i in np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)]


def features(folder: Path, backbone: Backbone, out: Path) -> Embeddings:
    """Return the features of a folder, as `fastadapt embed` writes them; those that lie there are taken."""
    if out.is_file() and (made := read_embeddings(out)).backbone == backbone.name:
        return made
    return embed(look_at_pictures(folder), backbone, out, Told())


@torch.no_grad()
def accuracies(rival: Any, images: fa.ClassImages, protocol: fa.Protocol) -> list[float]:
    """Return the accuracy of the rival on each task.

    A ProtoNet whose batch norm has its averages is a nearest class mean of its features, so that each picture goes
    through once; on the first tasks both are compared.
    """
    if not isinstance(rival, ProtoNet):
        result = fa.evaluate(rival, images, dataclasses.replace(protocol, steps=rival.test_steps))
        return [row[result.column] for row in result.per_task]
    every = images._values(np.arange(len(images.images)), np.zeros(len(images.images), dtype=int))
    adapted = rival.adapt((every[:5], torch.arange(5)))  # its network has the averages of the training
    rows = features_of(adapted.model.embedding, every)
    sizes = {"ways": images.ways, "shots": images.shots, "queries": images.queries}
    source = ClassVectors(rows, images.labels, images.class_names, **sizes)
    head = NearestCentroid(Features(rows.shape[1]))
    few = dataclasses.replace(protocol, tasks=5)
    pairs = [[row[-1] for row in fa.evaluate(*each, few).per_task] for each in ((rival, images), (head, source))]
    if not np.allclose(*pairs, atol=0.02):  # a query or so between two classes may go either way by rounding
        raise SystemExit("ProtoNet and the class means of its features differ; nothing is compared")
    return [row[-1] for row in fa.evaluate(head, source, protocol).per_task]


def heads(centre: torch.Tensor, d: int, base: Embeddings, shots: int) -> dict[str, Any]:
    """Return the heads that are compared; ridge is trained on tasks of the training classes."""
    net, mean = Features(d), centre
    ridge = RidgeHead(Features(d), unit=True, centre=mean, scale=10.0)
    source = ClassVectors(base.features, base.labels, base.class_names, ways=WAYS, shots=shots, queries=5)
    fa.meta_train(ridge, source, fa.Training(steps=200, meta_batch=4, lr=0.1, schedule="linear"), quiet=True)
    return {
        "centroid": NearestCentroid(net),
        "centroid, length 1 (L2N)": NearestCentroid(net, unit=True),
        "centroid, centred and length 1 (CL2N)": NearestCentroid(net, unit=True, centre=mean),
        "nearest sample": NearestSample(net, centre=mean),
        "ridge, trained": ridge,
        "linear probe": LinearProbe(net, unit=True, centre=mean),
        "cosine head": CosineHead(net, centre=mean),
    }


def paired(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """Return the mean difference and the half-width of its 95 % interval, over the same tasks."""
    return fa_confidence(np.array(ours) - np.array(theirs))


def fa_confidence(values: np.ndarray) -> tuple[float, float]:
    """Return mean and half-width."""
    return float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def same_tasks(one: Any, other: Any) -> None:
    """Stop if two sources don't draw the same samples."""
    for number in range(5):
        a, b = (each.origin(np.random.default_rng(number)) for each in (one, other))
        if (a.support, a.query) != (b.support, b.query):
            raise SystemExit("the two kinds of data draw other tasks; nothing is compared")


def meta_trained(name: str, args: argparse.Namespace, data: Path) -> tuple[Any, str]:
    """Return the rival of a data set, and how it was trained."""
    if name == "omniglot":
        return fa.load_run("drawing").narrowed(WAYS).learner, RIVALS[name]
    torch.manual_seed(0)
    images = load_mini_imagenet(data, part="train")
    source = mini_imagenet_tasks("train", images, ways=WAYS, shots=5, queries=5)
    learner = ProtoNet(fa.Conv4(3, 32, None, size=84, down="max", pooled="flatten", affine="both"))
    training = fa.Training(steps=args.steps, meta_batch=1, lr=1e-3, minutes=args.minutes, log_every=100)
    trained = fa.meta_train(learner, source, training)
    return learner, f"{RIVALS[name]}, {trained.step:,} steps in {args.minutes:g} minutes on one thread"


def measured(name: str, args: argparse.Namespace, data: Path, work: Path) -> dict[str, Any]:
    """Return the results on one data set."""
    folders = extract(data, name, work, args.classes, args.base, args.each)
    backbone = find_backbone(str(args.onnx), values=args.values)
    made = {part: features(folder, backbone, work / f"{name}-{part}.safetensors") for part, folder in folders.items()}
    recipe = ImageRecipe(28, 1) if name == "omniglot" else ImageRecipe(84, 3)
    pictures = load_folder(folders["test"], recipe)
    plain = pictures.images.flatten(1).float() / 255  # the floor: pixels as features
    rival, how = meta_trained(name, args, data)
    centre = made["train"].features.double().mean(0).float()
    rows, count = [], args.tasks
    for shots in (1, 5):
        sizes = {"ways": WAYS, "shots": shots, "queries": min(QUERIES, args.each - 5)}
        images = fa.ClassImages(
            pictures.images, pictures.labels, pictures.class_names, invert=name == "omniglot", **sizes
        )
        test = made["test"]
        vectors = ClassVectors(test.features, test.labels, test.class_names, **sizes)
        pixels = ClassVectors(plain, pictures.labels, pictures.class_names, **sizes)
        same_tasks(images, vectors)
        protocol = fa.Protocol(f"{name}-{WAYS}w{shots}s-frozen-v1", tasks=count)
        theirs = accuracies(rival, images, protocol)
        results = {"meta-trained Conv4": theirs}
        floor = NearestCentroid(Features(pixels.images.shape[1]), unit=True)
        results["pixels, centroid, length 1"] = [row[-1] for row in fa.evaluate(floor, pixels, protocol).per_task]
        for head, learner in heads(centre, test.features.shape[1], made["train"], shots).items():
            results[head] = [row[-1] for row in fa.evaluate(learner, vectors, protocol).per_task]
        for head, ours in results.items():
            (mean, half), (gain, gain_half) = fa_confidence(np.array(ours)), paired(ours, theirs)
            row = {"method": head, "shots": shots, "accuracy": mean, "ci95": half, "gain": gain, "gain_ci95": gain_half}
            rows.append({key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()})
            print(
                f"{SETS[name]}, {shots} shots, {head}: {100 * mean:.2f} ± {100 * half:.2f}, {100 * gain:+.2f} ± "
                f"{100 * gain_half:.2f}",
                flush=True,
            )
    return {
        "data": name,
        "rival": how,
        "test classes": len(made["test"].class_names),
        "training classes": len(made["train"].class_names),
        "images of a class": args.each,
        "queries": min(QUERIES, args.each - 5),
        "tasks": count,
        "backbone": backbone.name,
        "numbers": made["test"].features.shape[1],
        "rows": rows,
    }


def section() -> str:
    """Return the part of the page that the committed result makes."""
    content = json.loads(OUT.read_text(encoding="utf-8"))
    lines = [BEGIN, f"Backbone: {content['from']}. `{content['command']}`:", ""]
    for part in content["sets"]:
        lines += [
            f"**{SETS[part['data']]}**, {WAYS} ways, {part['tasks']} tasks of {part['test classes']} test classes, "
            f"{part['queries']} queries a class; the centre and ridge are of {part['training classes']} "
            "training classes. "
            f"{part['rival'][0].upper()}{part['rival'][1:]}.",
            "",
            "| method | 1 shot (%) | against Conv4, paired | 5 shots (%) | against Conv4, paired |",
            "|:---|---:|---:|---:|---:|",
        ]
        for name in dict.fromkeys(row["method"] for row in part["rows"]):
            cells = [name]
            for row in (row for row in part["rows"] if row["method"] == name):
                cells.append(f"{100 * row['accuracy']:.1f} ± {100 * row['ci95']:.1f}")
                own = name == "meta-trained Conv4"
                cells.append("" if own else f"{100 * row['gain']:+.1f} ± {100 * row['gain_ci95']:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, END])


def write_docs() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    PAGE.write_text(before + section() + rest.split(END, 1)[1], encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say = parser.add_argument
    say("--data", type=Path, help="folder that holds omniglot/ and mini_imagenet/")
    say("--onnx", type=Path, help="the pretrained network, whose only output is features")
    say("--values", default="signed", help="what its pixels become (default: %(default)s)")
    say("--from", dest="source", default="", help="where the file comes from: package and version")
    say("--sets", nargs="+", choices=SETS, default=list(SETS))
    say("--tasks", type=int, default=600)
    say("--classes", type=int, default=100, help="test classes, at most (default: %(default)s)")
    say("--base", type=int, default=64, help="training classes for centre and ridge, at most (default: %(default)s)")
    say("--each", type=int, default=20, help="images of each class (default: %(default)s)")
    say("--steps", type=int, default=20_000, help="of ProtoNet on mini-ImageNet, at most")
    say("--minutes", type=float, default=8.0, help="that ProtoNet may train on mini-ImageNet (default: %(default)s)")
    say("--work", type=Path, help="folder for pictures and features; default a temporary one")
    say("--out", type=Path, default=OUT)
    say("--docs", action="store_true", help="write the table of the page and nothing else")
    args = parser.parse_args()
    if args.docs:
        return write_docs()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    shown = [f"--sets {' '.join(args.sets)}"] if len(args.sets) < len(SETS) else []
    shown += [
        f"--{name} {getattr(args, name)}"
        for name in ("tasks", "classes", "base", "each", "minutes")
        if getattr(args, name) != parser.get_default(name)
    ]
    command = (
        f"python benchmarks/frozen_features.py --data DIR --onnx {args.onnx.name} --values {args.values} "
        f"{' '.join(shown)}".rstrip()
    )
    sets: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        for name in args.sets:  # written after each, so that a stop loses one
            sets.append(measured(name, args, args.data, work))
            content = {"command": command, "from": args.source, "torch": torch.__version__, "threads": 1, "sets": sets}
            args.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
