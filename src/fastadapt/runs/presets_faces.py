"""Faces of unseen domains. No number of these papers can be reached with public data: the settings are ours only."""

from dataclasses import replace

from fastadapt.data.domains.face_settings import FacesData
from fastadapt.evaluation import Protocol
from fastadapt.faces.settings import CDTMethod, MFRMethod, MLDGMethod, PooledMethod
from fastadapt.nets.settings import FacesNet
from fastadapt.runs.config import RunConfig
from fastadapt.training.settings import Training


def face_presets() -> dict[str, tuple[str, RunConfig]]:
    """Return the presets on faces: train on five domains, measure the sixth (orl)."""
    # Backbone, rates, thresholds and length are ours: the papers' equations and settings could not be read.
    training = Training(
        steps=450,
        meta_batch=1,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=5e-4,
        lr=0.05,
        schedule="cosine",
        clip_norm=5.0,
        validate_every=150,
        checkpoint_every=50,
        log_every=25,
    )
    pooled = RunConfig(
        data=FacesData(splits="pooled"),
        net=FacesNet(),
        method=PooledMethod(),
        training=training,
        protocol=Protocol("faces-home-v1", tasks=100, steps=0),
        validation_tasks=50,
    )
    split = replace(pooled, data=FacesData())
    mfr = replace(split, method=MFRMethod())
    return {
        "faces-cosface": ("faces: CosFace on all domains, the baseline (ours only)", pooled),
        "faces-pooled": (
            "faces: the losses of MFR on all domains, its control (ours only)",
            replace(pooled, method=PooledMethod(loss="pairs")),
        ),
        "faces-mldg": ("faces: MLDG with CosFace (ours only)", replace(split, method=MLDGMethod())),
        "faces-mfr": ("faces: meta face recognition, exact (ours only)", mfr),
        "faces-fomfr": (
            "faces: meta face recognition, first order (ours only)",
            replace(mfr, method=MFRMethod(meta_gradient="first_order")),
        ),
        "faces-cdt": ("faces: the cross-domain triplet (ours only)", replace(split, method=CDTMethod())),
    }
