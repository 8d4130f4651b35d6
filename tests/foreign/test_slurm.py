"""The command of docs/scaling.md for Slurm, on two nodes: what it trains is what one process trains."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fastadapt as fa
from foreign.slurm import cluster, free_ports, missing

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
SHORT = "maml-sinusoid --training.steps 3"


@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(missing()), reason=f"no Slurm here: {', '.join(missing())} not found")
def test_the_command_of_the_page_trains_as_one_process_does(tmp_path):
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    command = next(block for block in blocks if "srun" in block)
    for told, here in (
        ("--nodes 4", "--nodes 2"),
        ("--nproc-per-node 8", "--nproc-per-node 1"),
        ("head -n 1):29500", f"head -n 1 | sed s/node0/localhost/):{free_ports(1)[0]}"),  # nobody resolves its name
        ("maml-omniglot-5w1s --data /shared/omniglot", SHORT),
        ("/shared/run", str(tmp_path / "two")),
    ):
        assert told in command
        command = command.replace(told, here)
    kept = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    (tmp_path / "slurm").mkdir()
    with cluster(tmp_path / "slurm") as config:
        ran(["bash", "-c", command], {**kept, "SLURM_CONF": str(config)})
    ran([sys.executable, "-m", "fastadapt", "train", *SHORT.split(), "--run", str(tmp_path / "one")], kept)
    one, two = (fa.load_run(tmp_path / name).learner.state_dict() for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-6)


def ran(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
