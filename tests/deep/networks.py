"""Small networks and data for the tests of the optimizers."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from deep import EntropySGD, ReplicatedSGD


class CommitteeMachine(nn.Module):
    """The sum of K tanh units on N inputs, differentiable everywhere."""

    def __init__(self, K: int = 3, N: int = 7, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(
            torch.randn(K, N, generator=generator, dtype=torch.float64) / N**0.5
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(2 * x @ self.weight.T).sum(-1) / self.weight.shape[0] ** 0.5


def sign_patterns(P: int, N: int, seed: int) -> tuple[Tensor, Tensor]:
    """P patterns and labels in ±1."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 2, (P, N), generator=generator).double() * 2 - 1
    y = torch.randint(0, 2, (P,), generator=generator).double() * 2 - 1
    return x, y


def loss(output: Tensor, label: Tensor) -> Tensor:
    """The summed logistic loss."""
    return nn.functional.softplus(-2 * label * output).sum()


def perceptron(seed: int = 0, batch_norm: bool = False) -> nn.Sequential:
    """Two layers, 6 inputs, 3 classes."""
    torch.manual_seed(seed)
    middle = nn.BatchNorm1d(5) if batch_norm else nn.Identity()
    return nn.Sequential(nn.Linear(6, 5), middle, nn.ReLU(), nn.Linear(5, 3))


def batch(step: int, size: int = 8) -> tuple[Tensor, Tensor]:
    """The minibatch of a step."""
    generator = torch.Generator().manual_seed(1000 + step)
    x = torch.randn(size, 6, generator=generator)
    return x, torch.randint(0, 3, (size,), generator=generator)


SGD = partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-2)


class Replicas(nn.ModuleList):
    """y networks on the same images, as one model for an ordinary training loop."""

    def forward(self, x):
        return torch.cat([model(x) for model in self])


def build(kind, base=SGD, seed=0):
    """A model and its optimizer. The model may be all replicas together."""
    if kind == "entropy":
        model = perceptron(seed, batch_norm=True)
        return model, EntropySGD(
            model.parameters(), base, outer_base=SGD, lr=0.5, inner_lr=0.02, noise=0.05, gamma=0.3
        )
    model = Replicas(perceptron(seed + a, batch_norm=True) for a in range(3))
    return model, ReplicatedSGD(model, base, lr=0.02, gamma=0.3, coupling_period=2)


def loss_of(model, x, t):
    output = model(x)
    return nn.functional.cross_entropy(output, t.repeat(len(output) // len(t)))


def train(model, optimizer, steps, start=0, after=lambda: None):
    for step in range(start, start + steps):
        optimizer.zero_grad()
        loss_of(model, *batch(step)).backward()
        optimizer.step()
        after()


def flat(model):
    return torch.cat([v.detach().reshape(-1).double() for v in model.state_dict().values()])


def counted(model):
    """A copy of the model's parameters, without its buffers."""
    return torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])
