"""``torchrun … -m deep train``: rSGD×y on several processes and hosts, also after a kill."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deep.__main__ import main
from deep.config import TrainingConfig
from deep.device import Device
from deep.run import Run
from deep.training import train

ROOT = Path(__file__).parents[2]
# The last process kills itself before its eleventh step. Checkpoints come after 6, 12, … steps.
KILLED = """
import os, signal, sys
from deep.__main__ import main
from deep.training import Training

plain_step = Training.step

def step(self, step):
    if step == 10 and self.device.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    plain_step(self, step)

Training.step = step
sys.exit(main(sys.argv[1:]))
"""

# Each process has a pretended GPU, and gloo replaces NCCL.
ON_GPUS = """
import os, sys
import torch.distributed as dist
from pytest import MonkeyPatch
from deep.__main__ import main
from tests.deep.pretended_gpu import pretended_gpu

join = dist.init_process_group

def join_through_gloo(backend, device_id):
    assert (backend, str(device_id)) == ("nccl", "cuda:" + os.environ["LOCAL_RANK"])
    join("gloo")

dist.init_process_group = join_through_gloo
with MonkeyPatch.context() as patch, pretended_gpu(patch, gpus=2):
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def images(tmp_path):
    """96 training images of 16×16 pixels in two classes: 6 minibatches of 16."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 48), ("test", 10)):
        for label in ("dark", "light"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 120, size=(16, 16, 3)) + (120 if label == "light" else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:04}.png")
    return tmp_path / "images"


def training(images, runs, replicas, device="cpu"):
    return [
        "train", "--algorithm", "rsgd-xy", "--replicas", str(replicas), "--dataset", str(images),
        "--model-options", "hidden", "8", "image_size", "16", "--batch-size", "16",
        "--passes", "4", "--coupling-period", "2", "--gamma", "0.01", "--gamma-growth", "10",
        "--snapshots", "0.5", "--device", device, "--precision", "float32", "--runs", str(runs),
    ]  # fmt: skip


def start(*arguments):
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *map(str, arguments)],
        cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(*processes):
    """Exit statuses and the texts on stderr."""
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


def begin_and_kill(tmp_path, images, replicas):
    program = tmp_path / "killed.py"
    program.write_text(KILLED)
    command = training(images, tmp_path / "killed", replicas)
    (status,), (said,) = finish(start("--standalone", "--nproc-per-node", 2, program, *command))
    assert status != 0
    # The failed exchange says so, or torchrun's signal if it is quicker.
    assert "resumes from" in said, said[-3000:]
    assert not (run_of(tmp_path / "killed") / "result.json").exists()


def run_of(runs):
    (run,) = runs.glob("images-smallconvnet-hidden-8-image_size-16-rsgd-xy/seed-0")
    return run


def rows(runs):
    return Run(run_of(runs)).log.drop(columns="seconds").to_dict("records")


def weights(runs):
    model = torch.load(run_of(runs) / "final.pt", weights_only=True)["model"]
    return torch.cat([value.reshape(-1) for value in model.values()])


def test_a_run_survives_the_loss_of_a_process(tmp_path, images):
    """A run that loses one of two processes ends like an undisturbed run in one process.

    The order of a sum over two replicas does not matter. The number of threads changes the
    last bits.
    """
    begin_and_kill(tmp_path, images, replicas=2)
    assert [row["step"] for row in rows(tmp_path / "killed")] == [6]
    for runs in ("killed", "alone"):
        main(training(images, tmp_path / runs, replicas=2))
    assert rows(tmp_path / "killed")[-1]["passes"] == 8  # 4 for each replica
    torch.testing.assert_close(
        weights(tmp_path / "killed"), weights(tmp_path / "alone"), rtol=1e-5, atol=1e-6
    )
    for a, b in zip(rows(tmp_path / "killed"), rows(tmp_path / "alone"), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_each_process_has_a_gpu_of_its_own(tmp_path, images):
    """Two processes on two pretended GPUs give the weights of one process on a CPU."""
    program = tmp_path / "on_gpus.py"
    program.write_text(ON_GPUS)
    command = training(images, tmp_path / "gpus", replicas=2, device="cuda")
    (status,), (said,) = finish(start("--standalone", "--nproc-per-node", 2, program, *command))
    assert status == 0, said[-3000:]
    main(training(images, tmp_path / "cpu", replicas=2))
    torch.testing.assert_close(
        weights(tmp_path / "gpus"), weights(tmp_path / "cpu"), rtol=1e-5, atol=1e-6
    )
    result = json.loads((run_of(tmp_path / "gpus") / "result.json").read_text())
    assert (result["device"], result["processes"]) == ("a pretended GPU", 2)


def test_hosts_that_do_not_share_the_folder_are_refused(tmp_path, images, monkeypatch):
    monkeypatch.setattr(Device, "gathered", lambda self, value: [value, 6])
    with pytest.raises(ValueError, match=r"after \[0, 6\] steps; one folder that all hosts share"):
        train(TrainingConfig(dataset=str(images)), tmp_path / "run", "cpu")


@pytest.mark.slow
def test_hosts_and_interrupted_processes_give_the_same_bits(tmp_path, images):
    """Two hosts give the same bits as two processes that were killed and started again."""
    begin_and_kill(tmp_path, images, replicas=3)
    again = training(images, tmp_path / "killed", replicas=3)
    (status,), (said,) = finish(start("--standalone", "--nproc-per-node", 2, "-m", "deep", *again))
    assert status == 0, said[-3000:]

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    hosts = [
        start("--nnodes", 2, "--nproc-per-node", 1, "--rdzv-backend", "c10d",
              "--rdzv-endpoint", endpoint, "--rdzv-id", "test", "--local-addr", "127.0.0.1",
              "-m", "deep", *training(images, tmp_path / "hosts", replicas=3))
        for _ in range(2)
    ]  # fmt: skip
    statuses, said = finish(*hosts)
    assert statuses == [0, 0], "\n".join(text[-3000:] for text in said)

    assert torch.equal(weights(tmp_path / "killed"), weights(tmp_path / "hosts"))
    assert rows(tmp_path / "killed") == rows(tmp_path / "hosts")
    # One process adds the three replicas in another order.
    main(training(images, tmp_path / "alone", replicas=3))
    torch.testing.assert_close(
        weights(tmp_path / "alone"), weights(tmp_path / "hosts"), rtol=1e-4, atol=1e-5
    )
