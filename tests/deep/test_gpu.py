"""Training on a pretended GPU everywhere, and on a real GPU if there is one.

The pretended GPU computes on the CPU, so its results equal the CPU's. It shows on which device
every tensor lies and when the host waits for the device.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from deep import hessian_spectrum, hessian_trace, local_energy
from deep.__main__ import main
from deep.algorithms import ALGORITHMS, BASELINES
from deep.benchmark import BenchmarkOptions, benchmark
from deep.config import TrainingConfig
from deep.device import Device, own_gpu
from deep.images.datasets import synthetic_images
from deep.images.minibatches import ImageBatches
from deep.training import Training, train
from tests.deep.pretended_gpu import GPU, OnGpu, pretended_gpu
from tests.deep.test_training import DATA, WithBatchNorm, small, weights

ROOT = Path(__file__).parents[2]
GPUS = torch.cuda.device_count()
needs_gpu = pytest.mark.skipif(GPUS == 0, reason="no GPU is here")
# No augmentation and no noise of esgd: a GPU draws them from another stream than a CPU.
SAME_NUMBERS = {"padding": 0, "flip": False, "noise": 0.0}
POLICY = {
    "policy": "autoaugment-cifar10", "cutout": 4, "image_size": 20,
    "model_options": {"channels": [4, 6], "hidden": 8, "image_size": 20},
}  # fmt: skip


@pytest.fixture(params=["pretended", pytest.param("real", marks=needs_gpu)])
def gpu(request, monkeypatch):
    """The pretended GPU, or None for a real one."""
    if request.param == "real":
        yield None
        return
    with pretended_gpu(monkeypatch) as gpu:
        yield gpu


def tolerance(gpu):
    """Sums have another order on a GPU, and a real GPU's TF32 has three digits."""
    return {"rtol": 1e-4, "atol": 1e-5} if gpu else {"rtol": 0.03, "atol": 3e-3}


def build_with_batch_norm(name, classes, **_):
    return WithBatchNorm(classes)


def values(network):
    return torch.cat([v.detach().cpu().double().reshape(-1) for v in network.state_dict().values()])


@pytest.mark.parametrize("algorithm", ALGORITHMS + BASELINES)
def test_a_gpu_trains_as_a_cpu_does(tmp_path, monkeypatch, gpu, algorithm):
    """An interrupted float32 run with BatchNorm has the CPU's weights and test error."""
    for module in ("training", "models"):
        monkeypatch.setattr(f"deep.{module}.build_model", build_with_batch_norm)
    config = small(algorithm, model_options={}, **SAME_NUMBERS)
    options = {"data": DATA, "precision": "float32", "progress": False}
    on_cpu = train(config, tmp_path / "cpu", device="cpu", **options)
    assert train(config, tmp_path / "gpu", device="cuda", stop_after=8, **options) is None
    on_gpu = train(config, tmp_path / "gpu", device="cuda", **options)
    torch.testing.assert_close(weights(on_gpu), weights(on_cpu), **tolerance(gpu))
    assert on_gpu.result["device"] != "cpu" and on_gpu.result["memory_MiB"] > 0
    assert on_gpu.result["test_error"] == pytest.approx(on_cpu.result["test_error"], abs=0.1)


@contextmanager
def nothing_waited_for(gpu):
    """Fails if the host waits for the GPU."""
    if gpu is None:
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return
    gpu.waits.clear()
    operations = gpu.operations
    yield
    assert gpu.operations > operations
    assert not gpu.waits


@pytest.mark.parametrize(
    ("algorithm", "options"), [*((a, {}) for a in ALGORITHMS + BASELINES), ("sgd", POLICY)]
)
def test_no_step_waits_for_the_gpu(gpu, algorithm, options):
    """Within a pass (6 minibatches) no step waits, once the order of the pass is on the device."""
    device = Device("cuda")
    run = Training(small(algorithm, **options), DATA.to(device.torch), device)
    run.method.prepare(run.steps, run._loss_at_start, True)
    for step in range(7):
        run.step(step)
    with nothing_waited_for(gpu):
        for step in range(7, 12):
            run.step(step)
    assert np.isfinite(run.device.total(run.sums).tolist()).all()


@pytest.mark.parametrize(
    "model",
    [
        "resnet18", "resnet110", "resnet50", "efficientnet_b0", "densenet121",
        pytest.param("pyramidnet272", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_networks_of_table_1_do_not_wait_for_the_gpu(gpu, model):
    """This covers the random draws of drop-connect and ShakeDrop."""
    device = Device("cuda")
    data = synthetic_images(train=4, test=4, classes=4)
    config = TrainingConfig(model=model, batch_size=2)
    run = Training(config, data.to(device.torch), device)
    run.step(0)
    with nothing_waited_for(gpu):
        run.step(1)


def test_networks_and_images_are_in_channels_last_and_the_passes_in_bf16(gpu):
    device = Device("cuda")
    run = Training(small("sgd"), DATA.to(device.torch), device)
    convolution = next(m for m in run.models[0].modules() if isinstance(m, torch.nn.Conv2d))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert convolution.weight.dtype == torch.float32 and convolution.weight.is_cuda
    seen = []
    convolution.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    run.step(0)
    (images, output), *_ = seen
    assert images.is_cuda and images.is_contiguous(memory_format=torch.channels_last)
    assert output.dtype == torch.bfloat16


@pytest.mark.parametrize("bn", ["keep", "recalibrate"])
def test_flatness_on_a_gpu(gpu, bn):
    """δE and the Hessian equal the CPU's. Hessian products are in float32, not in TF32."""
    torch.manual_seed(0)
    network = WithBatchNorm(4)
    results = []
    for name in ("cpu", "cuda"):
        device = Device(name, "float32")
        data = DATA.to(device.torch)
        batches = ImageBatches(data, data.preprocessing(), "train", size=32)
        model = network.to(device.torch)
        before = values(model)
        energy = local_energy(model, batches, sigmas=[0.0, 0.3], samples=3, bn=bn)
        spectrum = hessian_spectrum(model, batches, k=2)
        trace = hessian_trace(model, batches, samples=3)
        assert torch.equal(values(model), before) and spectrum.converged
        results.append((energy, spectrum.eigenvalues, trace.trace))
    (one, *curvature), (two, *same) = results
    np.testing.assert_allclose(two.reference_error, one.reference_error, atol=0.02)
    if gpu is not None:  # a real GPU draws other noise
        np.testing.assert_allclose(two.local_energy, one.local_energy, atol=0.02)
    for a, b in zip(curvature, same, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3)


def test_the_commands_run_on_a_gpu(gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("deep.images.datasets.load_images", lambda *_: DATA)
    for module in ("training", "models"):
        monkeypatch.setattr(f"deep.{module}.build_model", build_with_batch_norm)
    for algorithm in ("sgd", "esgd"):
        config = small(algorithm, passes=2, lr_drops=(), model_options={})
        train(config, tmp_path / algorithm, device="cuda", data=DATA, progress=False)
    runs = [str(tmp_path / algorithm) for algorithm in ("sgd", "esgd")]
    where = ["--device", "cuda", "--out", str(tmp_path / "out")]
    few = ["--sigmas", "0", "0.2", "--samples", "2", "--images", "40", "--hessian"]
    main(["flatness", *runs, *few, *where])
    assert "flatness.csv" in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "out" / "flatness.csv")
    final = rows[(rows["passes"] == 2) & (rows["sigma"] == 0)]
    assert len(final) == 2 and np.isfinite(final["hessian_trace"]).all()


def test_the_benchmark_runs_on_a_gpu(gpu):
    options = BenchmarkOptions(
        model="smallconvnet", batch_size=4, steps=1, repeats=2, device="cuda"
    )
    rows = benchmark(options)
    assert list(rows["optimizer"]) == ["sgd", "esgd", "rsgd y=3"]
    assert (rows["memory_MiB"] > 0).all()


def test_the_gradients_of_replicas_keep_their_memory_under_cuda_graphs(monkeypatch):
    """A CUDA graph reuses its own buffers at the next replica's forward pass."""
    monkeypatch.setattr(torch, "compile", lambda model, mode: model)
    run = Training(small("rsgd"), DATA, Device("cpu"), "reduce-overhead")
    plain = Training(small("rsgd"), DATA, Device("cpu"))
    memory = [p.grad.data_ptr() for model in run.models for p in model.parameters()]
    for step in range(4):
        run.step(step)
        plain.step(step)
        now = [p.grad.data_ptr() for model in run.models for p in model.parameters()]
        assert now == memory
    for one, other in zip(run.models, plain.models, strict=True):
        assert torch.equal(values(one), values(other))


@pytest.mark.parametrize(("processes", "gpus"), [(2, 2), (3, 8), (1, 1)])
def test_each_process_of_a_host_has_its_own_gpu(monkeypatch, processes, gpus):
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    for local in range(processes):
        monkeypatch.setenv("LOCAL_RANK", str(local))
        assert own_gpu() == chosen[-1] == f"cuda:{local}"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(gpus + 1))
    with pytest.raises(ValueError, match=f"in {gpus + 1} processes of a host with {gpus} GPUs"):
        own_gpu()


def test_the_pretended_gpu_refuses_what_a_gpu_refuses(monkeypatch):
    with pretended_gpu(monkeypatch) as gpu:
        inside = torch.randn(3, 3, device="cuda")
        assert isinstance(inside, OnGpu) and inside.device == GPU
        assert torch.equal((inside + inside).cpu(), 2 * inside.cpu())
        for wrong in (
            lambda: inside @ torch.ones(3, 3),
            lambda: torch.stack([inside, inside.cpu()]),
        ):
            with pytest.raises(RuntimeError, match="tensors of cuda:0 and of the CPU"):
                wrong()
        with pytest.raises(TypeError, match="numpy"):
            inside.numpy()
        for waiting in (
            lambda: float(inside.sum()), lambda: inside.cpu(), lambda: inside.tolist(),
            lambda: inside[inside > 0], lambda: torch.ones(3).to("cuda"), lambda: inside.nonzero(),
            lambda: torch.tensor([1.0], device="cuda"), lambda: bool((inside > 0).all()),
        ):  # fmt: skip
            gpu.waits.clear()
            waiting()
            assert gpu.waits
        gpu.waits.clear()
        torch.ones(3).to("cuda", non_blocking=True)
        assert (inside * 2 - torch.zeros((), dtype=torch.float64)).to(torch.float64).is_cuda
        assert not gpu.waits
    assert torch.ones(1).to("cpu").numpy() == 1


@needs_gpu
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_cuda_graphs_train_alike(tmp_path, algorithm):
    config = small(algorithm, passes=4, **SAME_NUMBERS)
    options = {"data": DATA, "device": "cuda", "precision": "float32", "progress": False}
    plain = train(config, tmp_path / "plain", **options)
    graphs = train(config, tmp_path / "graphs", compile_mode="reduce-overhead", **options)
    torch.testing.assert_close(weights(graphs), weights(plain), rtol=0.03, atol=3e-3)


@pytest.mark.skipif(GPUS < 2, reason="fewer than two GPUs are here")
def test_replicas_on_two_gpus_equal_those_on_one(tmp_path):
    """The two processes communicate through NCCL."""
    line = [
        "-m", "deep", "train", "--dataset", "synthetic", "--algorithm", "rsgd-xy",
        "--replicas", "2", "--passes", "4", "--precision", "float32", "--device", "cuda",
    ]  # fmt: skip
    results = []
    for processes in (1, 2):
        runs = tmp_path / str(processes)
        subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
             str(processes), *line, "--runs", str(runs)],
            check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=600,
        )  # fmt: skip
        final = next(runs.rglob("final.pt"))
        stored = torch.load(final, weights_only=True)["model"]
        results.append(torch.cat([v.double().reshape(-1) for v in stored.values()]))
    torch.testing.assert_close(*results, rtol=0.03, atol=3e-3)
