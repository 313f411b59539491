"""The optimizers in users' own loops: adaptive bases, frozen layers, schedulers, trainers."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from deep import EntropySGD, ReplicatedSGD
from tests.deep.networks import (
    SGD,
    Replicas,
    batch,
    build,
    counted,
    flat,
    loss_of,
    perceptron,
    train,
)

KINDS = pytest.mark.parametrize("kind", ["entropy", "replicated"])


def test_an_adaptive_base_takes_vanilla_outer_steps_and_keeps_its_state():
    model = perceptron(1)
    optimizer = EntropySGD(model.parameters(), torch.optim.AdamW, inner_lr=0.01, gamma=0.3)
    first = loss_of(model, *batch(0, 64)).item()
    for _ in range(250):
        optimizer.zero_grad()
        value = loss_of(model, *batch(0, 64))
        value.backward()
        optimizer.step()
    assert value.item() < 0.7 * first
    steps = {state["step"].item() for state in optimizer.inner.state.values()}
    assert steps == {250}

    other = perceptron(1)
    vanilla = EntropySGD(other.parameters(), SGD, inner_lr=0.01, gamma=0.3)
    train(other, vanilla, 5)
    assert all(not s["momentum_buffer"].any() for s in vanilla.inner.state.values())


def test_the_coupling_of_an_adaptive_base_obeys_gamma():
    distances = []
    for gamma in (0.1, 1.0, 10.0, 100.0):
        models = [perceptron(a) for a in range(3)]
        optimizer = ReplicatedSGD(models, torch.optim.Adam, lr=0.01, gamma=gamma, coupling_period=2)
        train(Replicas(models), optimizer, 60)
        distances.append(optimizer.squared_distance())
    assert all(b < 0.8 * a for a, b in pairwise(distances))
    with pytest.warns(UserWarning, match="gamma is then no elastic strength"):
        ReplicatedSGD(models, torch.optim.Adam, lr=0.01, gamma=1.0, coupling="explicit")


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_layer_frozen_in_an_inner_loop_takes_the_outer_step_of_what_it_did(set_to_none):
    """One outer step applies the inner steps before the freeze. Then the layer does not move."""
    options = {"lr": 0.5, "inner_lr": 0.05, "inner_steps": 4, "noise": 0.0, "gamma": 0.3}
    model = perceptron(2)
    optimizer = EntropySGD(model.parameters(), SGD, outer_base=SGD, averaging=0.0, **options)
    w = model[0].weight.detach().clone()

    def step(number):
        optimizer.zero_grad(set_to_none=set_to_none)
        loss_of(model, *batch(number)).backward()
        optimizer.step()

    step(0), step(1)
    inside = model[0].weight.detach().clone()
    model[0].requires_grad_(False)
    step(2)
    assert torch.equal(model[0].weight, inside)
    step(3)  # with α = 0, μ is w'; SGD's first Nesterov step is 1.9 times its gradient
    expected = w - 0.5 * 1.9 * (w - inside + 1e-2 * w)
    torch.testing.assert_close(model[0].weight.detach(), expected)
    stays = model[0].weight.detach().clone()
    for number in range(4, 10):
        step(number)
    assert torch.equal(model[0].weight, stays)


def test_a_layer_unfrozen_in_an_inner_loop_begins_its_own():
    """Its outer step follows w − μ of its own inner steps, not the gradient of the loss."""
    model = perceptron(3)
    optimizer = EntropySGD(
        model.parameters(), lr=1.0, inner_lr=1e-3, inner_steps=4, noise=0.0, gamma=0.3
    )
    w = model[0].weight.detach().clone()
    model[0].requires_grad_(False)
    train(model, optimizer, 2)
    model[0].requires_grad_(True)
    train(model, optimizer, 1, start=2)
    first = model[0].weight.detach().clone()
    train(model, optimizer, 1, start=3)
    moved = (model[0].weight - w).norm() / (first - w).norm()
    assert 0 < moved < 2 and not torch.equal(first, w)  # along the gradient: 1000


@KINDS
def test_a_first_gradient_may_come_late_to_a_fused_base(kind):
    """Fused SGD equals plain SGD here. By itself it raises when the first gradient is late."""
    weights = []
    for fused in (True, False):
        model, optimizer = build(kind, partial(SGD, fused=fused))
        layer = model[0] if kind == "entropy" else model[0][0]
        layer.requires_grad_(False)
        train(model, optimizer, 7)
        start = flat(layer)
        layer.requires_grad_(True)
        train(model, optimizer, 8, start=7)
        assert not torch.equal(flat(layer), start)
        weights.append(flat(model))
    torch.testing.assert_close(*weights)


def loader():
    return DataLoader(TensorDataset(*batch(0, 40)), batch_size=8)


@KINDS
def test_accelerate_switches_and_checkpoints(tmp_path, kind):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer = build(kind)
    model, wrapped, batches = accelerator.prepare(model, optimizer, loader())

    def epoch():
        for x, t in batches:
            wrapped.zero_grad()
            accelerator.backward(loss_of(model, x, t))
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            wrapped.step()

    epoch()
    inside = flat(model)
    with optimizer.anchor() if kind == "entropy" else optimizer.centre():
        counts = counted(model)
    wrapped.eval()
    assert torch.equal(counted(model), counts)
    wrapped.train()
    assert torch.equal(flat(model), inside)
    accelerator.save_state(str(tmp_path))
    epoch()
    once = flat(model)
    accelerator.load_state(str(tmp_path))
    assert torch.equal(flat(model), inside)
    epoch()
    assert torch.equal(flat(model), once)


@KINDS
def test_lightning_validates_what_counts(tmp_path, kind):
    lightning = pytest.importorskip("lightning")
    seen = []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.own = build(kind)

        def configure_optimizers(self):
            return self.own

        def training_step(self, item, index):
            return loss_of(self.model, *item)

        def on_train_epoch_start(self):
            self.optimizers().optimizer.train()

        def on_validation_epoch_start(self):
            self.optimizers().optimizer.eval()

        def validation_step(self, item, index):
            seen.append(counted(self.model))

        def on_validation_epoch_end(self):
            self.optimizers().optimizer.train()

    def fit(module, epochs, **options):
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path,
            gradient_clip_val=1.0, limit_train_batches=4, enable_checkpointing=True,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(module, loader(), loader(), **options)
        return trainer

    whole = Module()
    trainer = fit(whole, 2)
    context = whole.own.anchor() if kind == "entropy" else whole.own.centre()
    with context:
        assert torch.equal(seen[-1], counted(whole.model))
    assert not torch.equal(seen[-1], counted(whole.model))

    half, rest = Module(), Module()
    fit(half, 1).save_checkpoint(tmp_path / "half.ckpt")
    fit(rest, 2, ckpt_path=tmp_path / "half.ckpt", weights_only=False)
    assert trainer.global_step == 8
    assert torch.equal(flat(rest.model), flat(whole.model))


def test_one_cycle_reaches_the_momentum_of_both_loops():
    model, optimizer = build("entropy")
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=20)
    train(model, optimizer, 10, after=schedule.step)
    train(model, optimizer, 5)
    momentum = optimizer.param_groups[0]["momentum"]
    assert momentum not in (0.9, 0.95)
    for base in (optimizer.inner, optimizer.outer):
        assert base.param_groups[0]["momentum"] == momentum
    optimizer.param_groups[0]["weight_decay"] = 0.5
    train(model, optimizer, 5)
    for base in (optimizer.inner, optimizer.outer):
        assert base.param_groups[0]["weight_decay"] == 0.5
    assert optimizer.outer.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert optimizer.inner.param_groups[0]["lr"] == 0.02


def test_weight_decay_in_one_loop_and_a_vanilla_outer_step():
    """A group's option, also a later one, reaches the outer loop only if both bases share it."""
    decays = partial(torch.optim.SGD, momentum=0.9, weight_decay=0.1)
    without = partial(torch.optim.SGD, momentum=0.9)
    weight = nn.Parameter(torch.ones(3))
    rates = {"lr": 0.5, "inner_lr": 0.1, "gamma": 0.0, "noise": 0.0, "inner_steps": 1}
    group = {"params": [weight], "weight_decay": 0.2}
    cases = [
        (EntropySGD([weight], decays, outer_base=without, **rates), (0.1, 0.0), (0.3, 0.0)),
        (EntropySGD([weight], without, outer_base=decays, **rates), (0.0, 0.1), (0.3, 0.1)),
        (EntropySGD([group], decays, outer_base=decays, **rates), (0.2, 0.2), (0.3, 0.3)),
        (EntropySGD([group], decays, **rates), (0.2, 0.0), (0.3, 0.0)),
    ]
    for optimizer, *expected in cases:
        for decay in expected:
            weight.grad = torch.zeros(3)
            optimizer.step()
            groups = optimizer.inner.param_groups[0], optimizer.outer.param_groups[0]
            assert tuple(group["weight_decay"] for group in groups) == decay
            optimizer.param_groups[0]["weight_decay"] = 0.3
    assert optimizer.outer.param_groups[0]["momentum"] == 0


@pytest.mark.parametrize("gamma", [0.0, 0.4])
def test_the_outer_step_of_the_authors_code(gamma):
    """The outer step is w ← w − ηγ(w − μ + λw)."""
    model = perceptron(4)
    w = counted(model)
    outer = partial(torch.optim.SGD, weight_decay=0.1)
    optimizer = EntropySGD(
        model.parameters(), lr=0.5, inner_lr=0.1, inner_steps=1, noise=0.0, averaging=0.0,
        gamma=gamma, outer_base=outer, outer_form="code",
    )  # fmt: skip
    loss_of(model, *batch(0)).backward()
    gradient = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    optimizer.step()
    torch.testing.assert_close(counted(model), w - 0.5 * gamma * (0.1 * gradient + 0.1 * w))


@KINDS
def test_gradient_scaler_and_clipping(kind):
    """Scaled gradients give the same weights as plain ones. A skipped step changes nothing."""
    (model, optimizer), (plain, its) = build(kind), build(kind)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(8):
        for one, own in ((model, optimizer), (plain, its)):
            own.zero_grad()
            loss = loss_of(one, *batch(step))
            if one is model:
                scaler.scale(loss).backward()
                scaler.unscale_(own)
            else:
                loss.backward()
            nn.utils.clip_grad_norm_(one.parameters(), 0.5)
            if one is model:
                scaler.step(own)
                scaler.update()
            else:
                own.step()
    assert torch.equal(counted(model), counted(plain))
    optimizer.zero_grad()
    (scaler.scale(loss_of(model, *batch(8))) * float("inf")).backward()
    scaler.step(optimizer)
    assert torch.equal(counted(model), counted(plain))


def test_repr():
    assert repr(build("entropy")[1]) == (
        "EntropySGD(SGD, outer SGD, γ=0.3, η=0.5, η'=0.02, L=5, ε=0.05, α=0.75)"
    )
    assert repr(build("replicated")[1]) == (
        "ReplicatedSGD(SGD, y=3, γ=0.3, η=0.02, K_c=2, coupling=explicit)"
    )


def test_a_group_is_added_in_an_inner_loop():
    """An added head trains in both loops from its first gradient on."""
    model, optimizer = build("entropy")
    train(model, optimizer, 7)
    head = nn.Linear(3, 3)
    before = head.weight.detach().clone()
    optimizer.add_param_group({"params": head.parameters(), "lr": 1.0, "inner_lr": 0.1})
    both = nn.Sequential(model, head)
    train(both, optimizer, 2, start=7)
    inside = head.weight.detach().clone()
    with optimizer.anchor():
        assert torch.equal(head.weight, before)
    train(both, optimizer, 1, start=9)
    assert len({x.norm().item() for x in (before, inside, head.weight)}) == 3
    copy.deepcopy(optimizer).load_state_dict(optimizer.state_dict())


def test_no_group_can_be_added_to_replicas():
    with pytest.raises(ValueError, match="which belongs to no replica; give all parameters"):
        build("replicated")[1].add_param_group({"params": nn.Linear(3, 3).parameters()})
