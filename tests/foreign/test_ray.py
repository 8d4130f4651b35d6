"""Ray Train starts the processes and makes the group; `meta_train` finds it, and its numbers stay."""

import ray
import torch

import fastadapt as fa


def train(config):
    torch.manual_seed(0)
    learner = fa.MAML(fa.MLP(1, (8,), 1), rule=fa.SGD(0.01))
    fa.meta_train(learner, fa.Sinusoid(), fa.Training(steps=3, meta_batch=4), folder=config["folder"], quiet=True)
    if torch.distributed.get_rank() == 0:
        torch.save({"weights": learner.state_dict(), "world": torch.distributed.get_world_size()}, config["found"])


def test_ray_train_starts_the_processes_that_train_as_one(tmp_path):
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    torch.set_default_dtype(torch.float32)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        TorchTrainer(
            train,
            train_loop_config={"folder": str(tmp_path / "run"), "found": str(tmp_path / "found.pt")},
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=str(tmp_path / "ray")),
        ).fit()
    finally:
        ray.shutdown()
    found = torch.load(tmp_path / "found.pt")
    assert found["world"] == 2
    torch.manual_seed(0)
    alone = fa.MAML(fa.MLP(1, (8,), 1), rule=fa.SGD(0.01))
    fa.meta_train(alone, fa.Sinusoid(), fa.Training(steps=3, meta_batch=4), quiet=True)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(found["weights"][name], value, rtol=1e-5, atol=1e-6)
