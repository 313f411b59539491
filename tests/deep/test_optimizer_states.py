"""Copies, state dicts, distributed checkpoints and evaluation mode of the optimizers."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from functools import partial

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from tests.deep.networks import SGD, batch, build, counted, flat, train

KINDS = pytest.mark.parametrize("kind", ["entropy", "replicated"])
BASES = pytest.mark.parametrize("base", [SGD, torch.optim.AdamW], ids=["sgd", "adamw"])


@KINDS
@BASES
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_goes_on_by_itself(kind, base, how):
    model, optimizer = build(kind, base)
    torch.optim.lr_scheduler.StepLR(optimizer, 3)  # a scheduler wraps ``step``
    train(model, optimizer, 7)
    pair = model, optimizer
    twin, its = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    before = flat(model)
    train(twin, its, 6, start=7)
    assert torch.equal(flat(model), before)
    train(model, optimizer, 6, start=7)
    assert torch.equal(flat(model), flat(twin)) and not torch.equal(flat(model), before)


@KINDS
def test_state_dict_has_the_form_and_the_hooks_of_torch(kind):
    model, optimizer = build(kind)
    train(model, optimizer, 3)
    calls = []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("pre"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "note": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: calls.append(state["note"]))
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append("loaded"))
    state = optimizer.state_dict()
    assert len(state["state"]) == len(list(model.parameters()))
    assert all(group["params"] for group in state["param_groups"])
    optimizer.load_state_dict(state)
    assert calls == ["pre", 1, "loaded"]


@KINDS
@BASES
@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("cut", [5, 7])
def test_distributed_checkpoint(tmp_path, kind, base, flatten, cut):
    """A checkpoint at or after an outer step resumes bit for bit in a fresh model."""
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    model, optimizer = build(kind, base)
    train(model, optimizer, cut)
    optimizer.zero_grad()
    untouched, own = copy.deepcopy((model, optimizer))
    content = {
        "model": model.state_dict(),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=options),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about a single process
        dcp.save(content, checkpoint_id=tmp_path / "checkpoint")
        twin, its = build(kind, base, seed=50)
        start = counted(twin)
        content = {
            "model": twin.state_dict(),
            "optimizer": get_optimizer_state_dict(twin, its, options=options),
        }
        assert torch.equal(counted(twin), start)  # reading the state moves nothing
        dcp.load(content, checkpoint_id=tmp_path / "checkpoint")
    twin.load_state_dict(content["model"])
    set_optimizer_state_dict(twin, its, content["optimizer"], options=options)
    for one, its_own in ((model, optimizer), (twin, its), (untouched, own)):
        train(one, its_own, 8, start=cut)
    assert torch.equal(flat(model), flat(twin)) and torch.equal(flat(model), flat(untouched))


@KINDS
def test_eval_shows_what_counts_and_train_goes_back(kind):
    model, optimizer = build(kind)
    train(model, optimizer, 5)
    if kind == "entropy":
        expected = counted(model)
    else:
        expected = torch.stack([counted(replica) for replica in model]).mean(0).repeat(3)
    if kind == "entropy":
        train(model, optimizer, 2, start=5)
    inside = flat(model)
    optimizer.eval()
    optimizer.eval()
    torch.testing.assert_close(counted(model), expected)
    for refused in (optimizer.step, partial(optimizer.step, lambda: 1.0)):
        with pytest.raises(RuntimeError, match=r"call optimizer\.train\(\)"):
            refused()
    optimizer.train()
    optimizer.train()
    assert torch.equal(flat(model), inside)
    with (
        optimizer.anchor() if kind == "entropy" else optimizer.centre(),
        pytest.raises(RuntimeError, match="leave the context"),
    ):
        optimizer.step()
    assert torch.equal(flat(model), inside)


@KINDS
def test_a_state_saved_in_evaluation_mode_resumes(kind):
    model, optimizer = build(kind)
    train(model, optimizer, 7)
    optimizer.eval()
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    twin, its = build(kind, seed=50)
    weights, state = torch.load(file, weights_only=True)
    twin.load_state_dict(weights)
    its.load_state_dict(state)
    for one, own in ((model, optimizer), (twin, its)):
        own.train()
        train(one, own, 6, start=7)
    assert torch.equal(flat(model), flat(twin))


@KINDS
def test_the_model_that_counts_can_have_statistics_of_its_own(kind):
    model, optimizer = build(kind)
    train(model, optimizer, 7)
    data = [(batch(step, 64)[0],) for step in range(3)]
    if kind == "entropy":
        plain, fresh = (optimizer.anchor_model(model, batches) for batches in (None, data))
        assert torch.equal(plain[1].running_mean, model[1].running_mean)
    else:
        plain, fresh = (optimizer.centre_model(batches) for batches in (None, data))
    assert torch.equal(counted(plain), counted(fresh))
    values = torch.stack([fresh[0](x).mean(0) for (x,) in data]).mean(0)
    torch.testing.assert_close(fresh[1].running_mean, values.detach())
    assert not torch.allclose(plain[1].running_mean, fresh[1].running_mean)
