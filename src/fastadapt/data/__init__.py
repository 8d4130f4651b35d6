"""Data sets as task sources: objects with `sample(rng) -> Task`.

* `Sinusoid`: one-dimensional regression, the toy problem of the MAML and Reptile papers.
* `ClassImages`: N-way K-shot tasks over any images that have a class.
* `omniglot_tasks`, `load_omniglot`, `omniglot_split`: handwritten characters.
* `mini_imagenet_tasks`, `load_mini_imagenet`, `mini_imagenet_split`: photographs.
* `data_folders`, `cache_folder`: where the files are looked for and kept.
"""

from fastadapt.data.classes import ClassImages, Rotation
from fastadapt.data.download import cache_folder, data_folders
from fastadapt.data.mini_imagenet import MiniImageNet, load_mini_imagenet, mini_imagenet_tasks
from fastadapt.data.mini_imagenet_splits import mini_imagenet_split
from fastadapt.data.omniglot import Omniglot, Resize, load_omniglot, omniglot_tasks
from fastadapt.data.omniglot_splits import ClassSplit, OmniglotSplit, omniglot_classes, omniglot_split
from fastadapt.data.sinusoid import Sinusoid

__all__ = [
    "ClassImages",
    "ClassSplit",
    "MiniImageNet",
    "Omniglot",
    "OmniglotSplit",
    "Resize",
    "Rotation",
    "Sinusoid",
    "cache_folder",
    "data_folders",
    "load_mini_imagenet",
    "load_omniglot",
    "mini_imagenet_split",
    "mini_imagenet_tasks",
    "omniglot_classes",
    "omniglot_split",
    "omniglot_tasks",
]
