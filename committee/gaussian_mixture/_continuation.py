"""Solve the replica-symmetric equations by root finding and continuation in the ridge."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, root

from committee.gaussian_mixture.losses import averaged_over_noise
from committee.gaussian_mixture.margins import TrainingMargins, training_margins
from committee.gaussian_mixture.state import TOLERANCE, ReplicaSymmetricState


class Equations:
    """The equations in x = (artanh R, log q, log V), and their solution by continuation in λ.

    ``mixture`` is a state without a solution. It holds the loss and the parameters of the mixture.
    """

    def __init__(
        self, mixture: ReplicaSymmetricState, bias: float | Literal["train"] | None, noise: float
    ) -> None:
        self.mixture, self.noise = mixture, noise
        self.trained = bias == "train" and mixture.rho != 0.5
        self.bias = float(bias) if isinstance(bias, int | float) else 0.0
        self.evaluations = 0

    def at(self, x: NDArray) -> tuple[ReplicaSymmetricState, TrainingMargins, float]:
        """State at x and the current bias, its margins, and the ridge due to noise."""
        self.evaluations += 1
        q, V = float(np.exp(x[1])), float(np.exp(x[2]))
        m = float(np.tanh(x[0]) * np.sqrt(q))
        state = replace(self.mixture, m=m, q=q, V=V, bias=self.bias)
        state = replace(state, loss=averaged_over_noise(state.loss, self.noise * state.width))
        margins, noise_ridge = state.margins(), 0.0
        if self.noise:
            scale = state.alpha * state.delta * self.noise**2
            noise_ridge = scale * margins.mean(state.loss.curvature(margins.v))
        return state, margins, noise_ridge

    def residual(self, x: NDArray, ridge: float) -> NDArray[np.float64]:
        """Relative violation of the three equations, and of E[y f] = 0 for a trained bias."""
        state, margins, noise_ridge = self.at(x)
        m_hat, q_hat, V_hat = state.conjugates(margins)
        length = np.sqrt(q_hat + m_hat**2)
        violation = [
            x[0] - np.arctanh(m_hat / length),
            0.5 * x[1] - x[2] - np.log(length),
            x[2] + np.log(ridge + noise_ridge + V_hat),
        ]
        if self.trained:
            violation.append(
                margins.mean(margins.label * margins.f) / margins.mean(np.abs(margins.f))
            )
        return np.array(violation)

    def train_bias(self, x: NDArray) -> None:
        """Set the bias that minimises the average loss at x. There, E[y f] = 0."""
        state, _, _ = self.at(x)

        def pull(b: float) -> float:
            total = 0.0
            for label, fraction in ((1.0, state.rho), (-1.0, 1.0 - state.rho)):
                m, D = state.m + label * b, state.delta * state.V
                margins = training_margins(state.loss, m, state.width, D)
                total += label * fraction * margins.mean(margins.f)
            return total  # decreasing in b

        step = 0.5 * state.width + 1e-3
        low, high = self.bias - step, self.bias + step
        while pull(low) < 0:
            low -= step
            step *= 2.0
        while pull(high) > 0:
            high += step
            step *= 2.0
        self.bias = float(brentq(pull, low, high, xtol=1e-15, rtol=1e-15 * 8))

    def solve(self, x0: NDArray, ridge: float) -> NDArray[np.float64] | None:
        """Root near x0, or None. A root also sets a trained bias."""
        start = self.bias

        def guarded(x: NDArray) -> NDArray:
            if not np.all(np.isfinite(x)) or np.any(np.abs(x) > 60):
                return np.full(len(x), 1e3)
            if self.trained:
                self.bias = float(x[3])
            return self.residual(x, ridge)

        guess = np.append(x0, self.bias) if self.trained else x0
        found = root(guarded, guess, method="hybr", options={"xtol": 1e-13})
        if np.max(np.abs(guarded(found.x))) < TOLERANCE:  # also sets the bias
            return found.x[:3]
        self.bias = start
        return None

    def follow(self, ridge: float) -> ReplicaSymmetricState:
        """Follow the solution from a strong λ, where the minimiser is Hebb's rule, to ``ridge``."""
        x = None
        strongest = 30.0 * (1.0 + self.mixture.alpha * self.mixture.delta)
        for strong in max(ridge, strongest) * np.array([1.0, 0.1, 0.01, 1e-3, 1e-4]):
            self.bias = 0.0 if self.trained else self.bias
            x = self.solve(self.strong_ridge(strong), strong)
            if x is not None:
                break
        else:
            message = f"no root found from ridge {strongest:g} down."
            if self.trained and self.mixture.loss.name == "hinge":
                message += (
                    " With unbalanced labels and a trained bias, the hinge loss of enough noisy "
                    "patterns is least for the constant classifier, w = 0, b = ±1: its kink holds "
                    "the whole larger class. Then no solution with q > 0 exists."
                )
            return self.failure(message)
        position, slope, step = np.log(strong), np.zeros(3), np.log(10.0) / 2.0
        last = np.log(ridge) if ridge > 0 else -np.inf
        while position != last:
            target = max(position - step, last) if last < position else min(position + step, last)
            if ridge == 0 and np.exp(target) < 1e-5 * np.exp(-x[2]):
                target = -np.inf  # V ≈ 1/V̂ already: the ridge is negligible
            moved = target - position if np.isfinite(target) else 0.0
            found = self.solve(x + slope * moved, float(np.exp(target)))
            if found is None:
                step /= 2.0
                if step < 1e-3:
                    return self.failure(f"lost the solution at ridge {np.exp(position):g}.")
                continue
            if moved:
                slope = (found - x) / moved
            x, position = found, target
            step = min(step * 1.5, 2.0)
        return self.state(x, ridge)

    def strong_ridge(self, ridge: float) -> NDArray[np.float64]:
        """Iterate the equations, which converges at a strong ridge."""
        x = np.array([0.0, -2.0 * np.log(ridge), -np.log(ridge)])
        for _ in range(300):
            if self.trained:
                self.train_bias(x)
            state, margins, noise_ridge = self.at(x)
            m_hat, q_hat, V_hat = state.conjugates(margins)
            length = np.sqrt(q_hat + m_hat**2)
            V = 1.0 / (ridge + noise_ridge + V_hat)
            new = np.array([np.arctanh(m_hat / length), 2.0 * np.log(V * length), np.log(V)])
            change, x = np.max(np.abs(new - x)), 0.7 * x + 0.3 * new
            if change < 1e-3:
                break
        return x

    def state(self, x: NDArray, ridge: float) -> ReplicaSymmetricState:
        """The state of the solution x."""
        residual = float(np.max(np.abs(self.residual(x, ridge))))
        state, _, noise_ridge = self.at(x)
        state = replace(state, residual=residual, iterations=self.evaluations)
        return replace(state, ridge=ridge + noise_ridge)

    def failure(self, message: str) -> ReplicaSymmetricState:
        """The state without a solution, with the reason."""
        return replace(self.mixture, iterations=self.evaluations).missing(message)
