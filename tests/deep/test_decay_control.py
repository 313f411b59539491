"""``decay-control``: its design, and the whole experiment on a few images."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats

from committee.statistics import holm
from deep import Run, runs
from deep.__main__ import main
from deep.decay_control import design, stages, tables
from deep.decay_control.design import ARMS, DecayControlCommand, Gap, Tuning, arms, units
from deep.images.datasets import load_images, synthetic_images
from deep.images.minibatches import ImageBatches, evaluate
from deep.linear_response import equivalent_sgd
from deep.methods import build_method
from deep.training import Training
from tests.deep.networks import flat

IMAGES = synthetic_images(train=60, test=20, classes=4)
BEST = {"sgd": (0.02, 1e-3), "esgd": (0.4, 2e-4), "rsgd": (0.03, 5e-3), "swa": (0.01, 1e-3)}
TINY = {
    "tune": Tuning(passes=2, lrs=(0.01, 0.02), decays=(1e-3,)),
    "gap": Gap(passes=5, loss=1.0, lrs=(0.01, 0.02), decays=(0.0,), batch_sizes=(8, 16),
               dropouts=(0.0, 0.5)),
}  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """The images as an image-folder archive."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    for split in ("train", "test"):
        images, labels = getattr(IMAGES, f"{split}_images"), getattr(IMAGES, f"{split}_labels")
        for place, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / split / f"class{label}" / f"{place:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return folder


def command(archive, out, **changes):
    default = DecayControlCommand(dataset=str(archive))
    small = {
        "flatness": replace(default.flatness, samples=2, images=30),
        "hessian": replace(default.hessian, trace_samples=2, images=16),
    }
    common = {
        "out": out, "seeds": 2, "passes": 3, "batchnorm_seeds": 1, "batchnorm_passes": 1,
        "validation_images": 20, "workers": 1,
    }  # fmt: skip
    return replace(default, **common | TINY | small | changes)


def test_the_grid_has_the_same_learning_rates_and_decays_for_each_family(archive):
    chosen = units(DecayControlCommand(dataset=str(archive)), "tune")
    assert len(chosen) == 48 and len({unit.name for unit in chosen}) == 48
    for place in range(0, 48, 4):
        same = [equivalent_sgd(unit.config) for unit in chosen[place : place + 4]]
        for one, other in pairwise(same):
            assert other.lr == pytest.approx(one.lr, rel=5e-3)
            assert other.weight_decay == pytest.approx(one.weight_decay, rel=0.1)
    assert {unit.config.passes for unit in chosen} == {20}
    assert len(units(DecayControlCommand(dataset=str(archive)), "gap")) == 48


def test_each_arm_changes_one_thing(archive):
    chosen = arms(DecayControlCommand(dataset=str(archive)), 60, BEST)
    assert chosen.keys() == ARMS.keys()
    for arm, family in {1: "sgd", 3: "esgd", 6: "rsgd", 8: "swa"}.items():
        assert (chosen[arm].lr, chosen[arm].weight_decay) == BEST[family]
    published = chosen[2]
    assert (published.lr, published.weight_decay, published.algorithm.gamma) == (0.5, 1e-4, 0.5)
    assert published.lr_drops == (30, 45) and published.algorithm.decay_in == "both"
    same = equivalent_sgd(published)
    assert equivalent_sgd(chosen[4]) == same
    assert chosen[4] == chosen[1].changed(lr=same.lr, weight_decay=same.weight_decay)
    assert chosen[5] == chosen[3].changed(gamma=0.0) and chosen[3].algorithm.decay_in == "inner"
    assert chosen[7] == chosen[6].changed(gamma=0.0, replicas=1)
    assert {c.steps(352) * c.algorithm.gradients_per_step for c in chosen.values()} == {60 * 352}


def test_arms_are_paired_and_a_single_replica_is_sgd(archive):
    """All arms of a seed have the same initial weights and the same first minibatch."""
    from deep.device import Device

    chosen = arms(command(archive, Path("unused")), 3, BEST)
    trainings = [Training(config, IMAGES.held_out(20), Device("cpu")) for config in chosen.values()]
    starts = [flat(t.models[0]) for t in trainings]
    batches = [training.batches[0](0)[0] for training in trainings]
    for start, batch in zip(starts, batches, strict=True):
        assert torch.equal(start, starts[0]) and torch.equal(batch, batches[0])
    alone = chosen[7]
    plain = chosen[1].changed(lr=alone.lr, weight_decay=alone.weight_decay)
    ends = []
    for config in (alone, plain):
        training = Training(config, IMAGES.held_out(20), Device("cpu"))
        for step in range(training.steps):
            training.step(step)
        ends.append(flat(training.models[0]))
    assert torch.equal(*ends) and not torch.equal(ends[0], starts[0])
    assert build_method(alone, training.models[:1], 3, 1).distance() == 0


def test_the_whole_experiment(archive, tmp_path, capsys, monkeypatch):
    """All stages run, seeds can be added, and finished runs are not repeated."""
    out = tmp_path / "out"
    monkeypatch.setattr(design, "BATCHNORM_ARMS", (1, 2))
    with pytest.raises(ValueError, match=r"tune\.csv does not exist; --stages tune makes it"):
        stages.decay_control(command(archive, out, stages=("final",)))
    assert not out.exists()
    stages.decay_control(command(archive, out, stages=("tune",)))
    tuning = pd.read_csv(out / "tune.csv")
    assert len(tuning) == 8 and set(tuning["state"]) == {"done"}
    best = stages.best_points(command(archive, out))
    for family, own in tuning.groupby("family"):
        assert best[family][0] == own.sort_values("validation_error")["lr"].iloc[0]
    assert not [*out.glob("tune/*/*/test")]  # tuning does not use the test set

    chosen = units(command(archive, out), "final", best)
    stages.compute(command(archive, out), chosen[1])
    stages.decay_control(command(archive, out, stages=("final", "gap"), report=True))
    assert "1 of 16 runs are complete.\nUNFINISHED" in capsys.readouterr().out
    assert len(pd.read_csv(out / "runs.csv")) == 1 and not (out / "gap").exists()
    assert pd.read_csv(out / "comparisons.csv")["difference"].isna().all()
    stages.decay_control(command(archive, out, stages=("final", "batchnorm"), seeds=1))
    trained = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*/result.json")}
    monkeypatch.setattr(tables, "COMPARISONS", ((3, 1), (2, 4)))
    stages.decay_control(command(archive, out, stages=("final", "gap")))
    assert all(path.stat().st_mtime_ns == time for path, time in trained.items())
    printed = capsys.readouterr().out
    assert "final: 8 of 16 runs are left." in printed and "UNFINISHED" not in printed

    table = pd.read_csv(out / "runs.csv")
    assert table.groupby("stage").size().to_dict() == {"final": 16, "batchnorm": 2}
    for row in table[table["arm"] == 2].itertuples():
        run = Run(out / row.stage / "arm-2" / f"seed-{row.seed}")
        data = load_images(str(archive))
        held = data.held_out(20)
        test = ImageBatches(data, held.preprocessing(), "test")
        assert row.test_error == pytest.approx(evaluate(run.network().model, test)[1])
        assert row.validation_error == pytest.approx(run.result["test_error"])
        squares = sum(p.detach().square().sum() for p in run.network().model.parameters())
        assert row.weight_norm == pytest.approx(float(squares) ** 0.5, rel=1e-4)
        assert row.effective_decay > 5 * row.weight_decay
    assert table["local_energy_0.5_matched"].notna().any()
    assert len(runs(str(out / "final" / "*"))) == 16
    compared = pd.read_csv(out / "comparisons.csv").query("stage == 'final'")
    errors = table[table["stage"] == "final"].pivot(
        index="seed", columns="arm", values="test_error"
    )
    assert compared["difference"].to_list() == pytest.approx(
        [(errors[a] - errors[b]).mean() for a, b in ((3, 1), (2, 4))], abs=1e-6
    )
    networks = pd.read_csv(out / "gap.csv")
    assert len(networks) == 8 and {"hessian_trace", "weight_norm", "gap"} <= {*networks}
    reached = networks["reached"]
    assert 0 < reached.sum() < 8 and (networks["passes"][~reached] == 5).all()
    assert networks["train_loss"][reached].max() <= 1 < networks["train_loss"][~reached].min()
    report = pd.read_csv(out / "gap_correlations.csv")
    assert {*report["networks"]} == {"all", "at the same loss"}
    limits = report[(report["kind"] == "granulated kendall") & (report["networks"] == "all")]
    assert (limits["low"] <= limits["correlation"]).all() and (limits["low"] < limits["high"]).any()
    for name in ("final", "batchnorm", "gap"):
        assert (out / f"{name}.png").exists() and (out / f"{name}.md").exists()

    with pytest.raises(ValueError, match=r"stages\.final\.passes is 3 there and 4 here"):
        stages.decay_control(command(archive, out, stages=("final",), passes=4))
    tuning.loc[0, "state"] = "left"
    tuning.to_csv(out / "tune.csv", index=False)
    with pytest.raises(ValueError, match=r"1 runs of .*tune\.csv are left"):
        stages.decay_control(command(archive, out, stages=("final",)))


def test_workers_and_interruptions_change_nothing(archive, tmp_path, monkeypatch):
    """An interrupted run resumes. Two processes give the same numbers as one."""
    one, two = (command(archive, tmp_path / n, stages=("tune",)) for n in "ab")
    checkpoint = Training.checkpoint

    def interrupted(self, folder, done):
        checkpoint(self, folder, done)
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stages.decay_control(two)
    monkeypatch.undo()
    assert Run(units(two, "tune")[0].folder(two.out)).state == "interrupted"
    stages.decay_control(one)
    stages.decay_control(replace(two, workers=2))
    assert (tmp_path / "a/tune.csv").read_text() == (tmp_path / "b/tune.csv").read_text()


def test_a_run_that_diverges_is_no_candidate(archive, tmp_path, capsys):
    tune = Tuning(passes=3, lrs=(0.01, 1e18), decays=(1e-3,))
    chosen = command(archive, tmp_path, stages=("tune",), tune=tune)
    stages.decay_control(chosen)
    stages.decay_control(chosen)
    printed = capsys.readouterr().out
    assert "0 of 8 runs are left" in printed and re.search(r"[1-4] diverged\.", printed)
    table = pd.read_csv(tmp_path / "tune.csv")
    assert (table["state"] == "diverged").any()
    assert all(lr < 100 for lr, _ in stages.best_points(chosen).values())


def test_the_local_energy_at_a_training_error():
    errors, energies = np.array([0.5, 0.3, 0.35, 0.1]), np.array([[1.0], [2.0], [4.0], [9.0]])
    for level, value in ((0.4, 1.5), (0.225, 6.5), (0.1, 9.0), (0.5, 1.0)):
        np.testing.assert_allclose(tables.at_error(errors, energies, level), [value])
    assert np.isnan(tables.at_error(errors, energies, 0.6)).all()
    assert np.isnan(tables.at_error(errors, energies, 0.05)).all()


def test_planned_comparisons_are_paired_over_the_seeds_of_both_arms():
    rng = np.random.default_rng(0)
    values = {(arm, seed): rng.uniform() for arm in ARMS for seed in range(5)}
    del values[3, 4]
    rows = [
        {"stage": "final", "arm": a, "seed": s, "test_error": e} for (a, s), e in values.items()
    ]
    found = tables.comparisons(pd.DataFrame(rows))
    assert found[["first", "second"]].to_numpy().tolist() == [[3, 1], [2, 4], [6, 7], [1, 2]]
    assert found["n"].to_list() == [4, 5, 5, 5]
    expected = stats.ttest_rel(
        [values[3, s] for s in range(4)], [values[1, s] for s in range(4)]
    ).pvalue
    assert found["p_value"][0] == pytest.approx(expected)
    assert found["p_holm"].to_list() == pytest.approx(holm([*found["p_value"]]).tolist())


def test_bad_options(archive, tmp_path, capsys):
    for words, message in [
        (["--seeds", "0"], "seeds is 0; a positive"),
        (["--gap.loss", "0"], "loss is 0"),
        (["--dataset", str(tmp_path / "no.tar")], "dataset is"),
        (["--dataset", str(archive), "--validation-images", "60"], "validation_images is 60"),
    ]:
        with pytest.raises(SystemExit) as error:
            main(["decay-control", "--out", str(tmp_path / "out"), *words])
        assert message in str(error.value) + capsys.readouterr().err
        assert not (tmp_path / "out").exists()
