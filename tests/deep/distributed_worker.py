"""One process of a distributed Replicated-SGD run, which the tests start with torchrun.

``torchrun … distributed_worker.py FOLDER REPLICAS STEPS COUPLING [DIES]`` trains and saves the
weights of every replica to ``FOLDER``. The last process kills itself after ``DIES`` steps.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from deep import AutomaticFocusing, ReplicatedSGD
from deep.optimizers.replicas import ReplicaLostError, spread
from tests.deep.networks import batch, perceptron

MOMENTUM = partial(torch.optim.SGD, momentum=0.9, nesterov=True)


def train(indices, coupling, steps, group=None, dies=None):
    """Train the replicas with these indices; returns them, the optimizer and their centre."""
    models = [perceptron(index, batch_norm=True) for index in indices]
    optimizer = ReplicatedSGD(
        models, MOMENTUM, lr=0.05, coupling_period=3, coupling=coupling,
        gamma=AutomaticFocusing(growth=100, total=steps), process_group=group,
    )  # fmt: skip
    x, t = batch(0, size=32)
    optimizer.measure_gamma0(lambda model: nn.functional.cross_entropy(model(x), t))
    for step in range(steps):
        if step == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        optimizer.zero_grad()
        for index, model in zip(indices, models, strict=True):
            x, t = batch(100 * step + index)
            nn.functional.cross_entropy(model(x), t).backward()
        optimizer.step()
    return models, optimizer, optimizer.centre_model()


def main() -> None:
    folder, replicas, steps, coupling = Path(sys.argv[1]), *sys.argv[2:5]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's would cut the report short
    dist.init_process_group("gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()
    indices = spread(int(replicas), processes, rank)
    dies = int(sys.argv[5]) if len(sys.argv) > 5 and rank == processes - 1 else None
    try:
        models, optimizer, centre = train(indices, coupling, int(steps), dist.group.WORLD, dies)
    except ReplicaLostError as error:
        (folder / f"lost-{rank}.txt").write_text(str(error))
        sys.exit(3)
    for index, model in zip(indices, models, strict=True):
        torch.save(model.state_dict(), folder / f"replica-{index}.pt")
    torch.save(centre.state_dict(), folder / f"centre-{rank}.pt")
    torch.save(torch.tensor(optimizer.gamma0), folder / f"gamma0-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
