"""`fastadapt evaluate RUN` of a run on faces: threshold, targets, the sources' test identities, the controls."""

import json
from pathlib import Path

import torch

from fastadapt.commands.train_faces import untrained
from fastadapt.data.domains.face_settings import FacesData
from fastadapt.results.evaluation_json import json_values
from fastadapt.runs.face_run import FILE, as_face_run, measure_run, save_results
from fastadapt.runs.run_files import LoadedRun


def run(
    loaded: LoadedRun, folder: Path, place: Path | None, device: torch.device, out: Path | None, as_json: bool
) -> int:
    """Measure, write the run's result and its threshold anew, print, and return the exit code."""
    data = loaded.config.data
    assert isinstance(data, FacesData)
    faces = data.load(place)
    model = as_face_run(loaded).model.to(device)
    results = measure_run(model, lambda: untrained(loaded.config).to(device), data, faces)
    for path in (folder / FILE if (folder / "config.json").is_file() else None, out):
        if path is not None:
            save_results(path, loaded.step, results)
    print(json.dumps(json_values(results.to_plain()), indent=2) if as_json else "\n".join(results.lines()))
    return 0
