"""Whether training on the real pack learns anything at home; run on demand, where the pack is. No method is ranked."""

import numpy as np
import pytest
import torch

from fastadapt import SGD, Training, meta_train
from fastadapt.data.domains.face_files import find_faces, read_faces
from fastadapt.data.domains.face_pairs import pair_splits
from fastadapt.data.domains.face_recipe import FaceRecipe
from fastadapt.errors import DataError
from fastadapt.faces.measure import Pixels, scores_of
from fastadapt.faces.mfr import MFR
from fastadapt.faces.verification import area
from fastadapt.nets.face import FaceNet
from fastadapt.tasks import draw

SOURCES = ["orl", "gt", "imm"]


@pytest.mark.slow
def test_mfr_lowers_both_losses_and_beats_raw_pixels_and_an_untrained_network_at_home():
    try:
        faces = read_faces(find_faces())
    except DataError:
        pytest.skip("there is no pack of faces here")
    recipe = FaceRecipe(faces.side, 32)
    source = pair_splits(faces, SOURCES, "train", recipe=recipe, batch=8, flip=True, shift=2)
    learner = MFR(FaceNet(), rule=SGD(0.05), route="loop")
    fixed = draw(source, seed=9, split="look", indices=range(6))

    def look():
        with torch.no_grad():
            metrics = learner(fixed).metrics
        return [float(metrics[name].mean()) for name in ("support loss", "query loss")]

    def at_home(net):
        each = [scores_of(net, faces, recipe, [domain], ["test"]) for domain in SOURCES]
        return np.mean([area(scores.genuine, scores.impostor) for scores in each])

    before, untrained = look(), at_home(learner.model.eval())
    optimizer = torch.optim.SGD(learner.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    training = Training(steps=300, meta_batch=1, lr=0.05, schedule="cosine", clip_norm=5.0)
    meta_train(learner, source, training, optimizer=optimizer, quiet=True)
    after = look()
    assert after[0] < before[0] and after[1] < before[1]
    assert at_home(learner.model.eval()) > max(untrained, at_home(Pixels()))
