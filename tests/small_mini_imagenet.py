"""Small data sets in the layouts of mini-ImageNet, with its class names and made-up images."""

import io
import pickle
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from fastadapt.data import mini_imagenet_split

Files = dict[str, dict[str, bytes]]


@cache
def picture(seed: int, width: int = 84, height: int = 84, kind: str = "JPEG") -> bytes:
    """Return an image of smooth colours that no other seed has."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC).save(content, kind)
    return content.getvalue()


def small_files(part: str = "train", classes: int = 3, each: int = 4) -> Files:
    """Return `{class: {file name: content}}`; the last image of each class is not 84x84."""
    names = mini_imagenet_split().classes(part)[:classes]
    return {
        name: {
            f"{name}{7 * i:08d}.jpg": picture(100 * c + i, *((84, 84) if i < each - 1 else (120, 90)))
            for i in range(each)
        }
        for c, name in enumerate(names)
    }


def shuffled(files: Files) -> list[tuple[str, str, bytes]]:
    """Return class, name and content of every image, in no useful order."""
    rows = [(name, file, content) for name, images in files.items() for file, content in images.items()]
    return [rows[i] for i in np.random.default_rng(5).permutation(len(rows))]


def write_folders(folder: Path, part: str, files: Files) -> Path:
    for name, file, content in shuffled(files):
        (folder / part / name).mkdir(parents=True, exist_ok=True)
        (folder / part / name / file).write_bytes(content)
    return folder


def write_zip(folder: Path, part: str, files: Files, prefix: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
        for name, file, content in shuffled(files):
            archive.writestr(f"{part + '/' if prefix is None else prefix}{name}/{file}", content)
    return folder


def write_list(folder: Path, part: str, files: Files, packed: bool = False) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = shuffled(files)
    (folder / f"{part}.csv").write_text("filename,label\n" + "".join(f"{file},{name}\n" for name, file, _ in rows))
    for _, file, content in rows:
        (folder / "images" / file).write_bytes(content)
    if packed:
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for path in (folder / "images").iterdir():
                archive.write(path, f"images/{path.name}")
                path.unlink()
        (folder / "images").rmdir()
    return folder


def write_packed_list(folder: Path, part: str, files: Files) -> Path:
    return write_list(folder, part, files, packed=True)


def as_array(files: Files) -> np.ndarray:
    """Return the images, class by class, decoded by Pillow alone."""
    images = []
    for name in sorted(files):
        for file in sorted(files[name]):
            image = Image.open(io.BytesIO(files[name][file])).convert("RGB")
            images.append(np.asarray(image.resize((84, 84), Image.Resampling.LANCZOS)))
    return np.stack(images)


def write_cache_pickle(folder: Path, part: str, files: Files, protocol: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    edges = np.cumsum([0, *(len(files[name]) for name in sorted(files))]).tolist()
    classes = {name: list(range(edges[i], edges[i + 1])) for i, name in enumerate(sorted(files))}
    content = {"image_data": as_array(files), "class_dict": dict(reversed(classes.items()))}
    (folder / f"mini-imagenet-cache-{part}.pkl").write_bytes(pickle.dumps(content, protocol))
    return folder


def category_pickle(files: Files, named: bool = True, first: int = 64) -> dict[str, object]:
    """Return the content of the other pickle: rows in no order of classes, which are numbered from `first`."""
    names = sorted(files)
    labels = np.repeat(np.arange(first, first + len(names)), [len(files[name]) for name in names])
    order = np.argsort(np.arange(len(labels)) % 3, kind="stable")
    content: dict[str, object] = {"data": as_array(files)[order], "labels": labels[order].tolist()}
    return content | ({"catname2label": {name: first + i for i, name in enumerate(names)}} if named else {})
