"""`python -m fastadapt.serve.to_onnx PREDICTOR FILE`: write a predictor as ONNX.

A process of its own, because an export traces the network with process-wide hooks and takes seconds: in the server it
would touch the adaptations that run beside it.
"""

import json
import os
import sys
import threading
import time
import warnings
from pathlib import Path

import torch

from fastadapt.errors import FastadaptError
from fastadapt.runs.predictor_file import load_predictor
from fastadapt.serve.plain import as_plain

NOT_EXPORTABLE = 2
"""The exit code for a model that has no ONNX form; the reason is the last line that was said."""


def write_onnx(folder: Path, file: Path) -> None:
    """Write the predictor in `folder` as ONNX, with one input "x" and one output, and its labels as metadata.

    Raises:
        FastadaptError: if it can't be read or exported.
    """
    predictor = load_predictor(folder)
    taken = predictor.details["input"]
    square = (taken.get("channels"), taken.get("size"), taken.get("size"))
    shape = square if taken["kind"] == "image" else (taken["inputs"],)
    example = torch.zeros(2, *shape)
    network = as_plain(predictor, example[:1]).eval()
    alone = network.beside is None
    name = "probabilities" if network.classify else "y"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter speaks of its own future
        program = torch.onnx.export(
            network,
            (example if alone else example[:1],),
            dynamo=True,
            input_names=["x"],
            output_names=[name],
            dynamic_shapes=({0: torch.export.Dim("n")},) if alone else None,
            verbose=False,
        )
    assert program is not None
    facts = {"labels": predictor.labels, "input": taken, "norm": predictor.norm}
    program.model.metadata_props.update({key: json.dumps(value) for key, value in facts.items()})
    program.save(str(file))


def end_with_the_server() -> None:
    """Exit once the process that asked is gone: nobody would read the file."""
    server = os.getppid()

    def look() -> None:
        while os.getppid() == server:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


def main(argv: list[str]) -> int:
    """Write the file and return the exit code."""
    end_with_the_server()
    try:
        write_onnx(Path(argv[0]), Path(argv[1]))
    except FastadaptError as error:
        print(error, file=sys.stderr)
        return NOT_EXPORTABLE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
