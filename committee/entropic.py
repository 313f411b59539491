"""The update rules of Entropy-SGD and Replicated-SGD ([P21], Algorithms 1 and 2), written once.

The rules are plain arithmetic for numpy arrays, torch tensors and single numbers, without a model
or a backend. The kernels of ``committee`` compile them, and the torch optimizers of ``deep`` call
them on tensors. All rules are linear in the weights, so they also hold for any linear image of the
weights, such as the pre-activations ``w·x`` of a fixed set of patterns.

============  ==================  =====================================================
symbol        argument            meaning
============  ==================  =====================================================
w, w^a        ``weights``         weights that take the step
w             ``anchor``          Entropy-SGD: weights at the start of the inner loop
w̄             ``centre``          Replicated-SGD: mean of the replicas
μ             ``average``         Entropy-SGD: running average of the inner loop
γ             ``strength``        elastic strength; K_c γ for Replicated-SGD
η, η'         ``lr``              learning rate
ε             ``noise``           scale of the Langevin noise
α             ``averaging``       memory of the running average
============  ==================  =====================================================
"""

from __future__ import annotations


def elastic_pull(weights, centre, strength):  # type: ignore[no-untyped-def]
    """Gradient of the elastic energy ½ γ ‖w − w̄‖²: ``γ (w − w̄)``.

    Algorithm 1, line 5, with the anchor as the centre; Algorithm 2, line 7, with K_c γ as the
    strength.
    """
    return strength * (weights - centre)


def descend(weights, gradient, lr):  # type: ignore[no-untyped-def]
    """One vanilla gradient step: ``w − η ∇``."""
    return weights - lr * gradient


def langevin_kick(lr, noise, gaussian):  # type: ignore[no-untyped-def]
    """Noise of one step of stochastic gradient Langevin dynamics: ``√η' ε N(0, I)``."""
    return lr**0.5 * noise * gaussian


def running_average(average, weights, averaging):  # type: ignore[no-untyped-def]
    """Algorithm 1, line 7: ``α μ + (1 − α) w'``, in the form ``w' + α (μ − w')``."""
    return weights + averaging * (average - weights)


def local_entropy_gradient(anchor, average):  # type: ignore[no-untyped-def]
    """Gradient of the local entropy loss, eq. 5 of [P21] without its factor γ: ``w − μ``.

    The outer step (Algorithm 1, line 8) descends along it.
    """
    return anchor - average


def equivalent_lr(
    lr: float, inner_lr: float, averaging: float, inner_steps: int, strength: float = 0.0
) -> float:
    """Learning rate of plain SGD that moves w as far per gradient as Algorithm 1 does.

    Under a constant gradient g the L inner steps give w'_n = w − η' g Σ_{m<n} (1 − η'γ)^m.
    The outer step then moves w by −L · lr · g, with

        lr = (η η' / L) (1 − α) Σ_{n=1}^{L} α^{L−n} Σ_{m<n} (1 − η'γ)^m.

    At γ = 0 the last sum is n. A larger γ pulls w' back and makes the rate smaller.
    """
    weights = average = 0.0
    for _ in range(inner_steps):
        weights = descend(weights, 1.0 + elastic_pull(weights, 0.0, strength), inner_lr)
        average = running_average(average, weights, averaging)
    return lr * local_entropy_gradient(0.0, average) / inner_steps
