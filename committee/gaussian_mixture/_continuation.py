"""Solving the replica-symmetric equations: root finding, followed along the ridge."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, root

from committee.gaussian_mixture.losses import Loss, averaged_over_noise
from committee.gaussian_mixture.margins import TrainingMargins, training_margins
from committee.gaussian_mixture.state import TOLERANCE, ReplicaSymmetricState, make_state, no_state


class Equations:
    """The equations in x = (artanh R, log q, log V), and their solution by continuation in λ."""

    def __init__(
        self,
        loss: Loss,
        alpha: float,
        delta: float,
        rho: float,
        bias: float | Literal["train"] | None,
        noise: float,
    ) -> None:
        self.loss, self.alpha, self.delta, self.rho, self.noise = loss, alpha, delta, rho, noise
        self.trained = bias == "train" and rho != 0.5
        self.bias = float(bias) if isinstance(bias, int | float) else 0.0
        self.evaluations = 0

    def averages(self, x: NDArray) -> tuple[float, float, float, float, Loss, TrainingMargins]:
        """m̂, q̂, V̂, the ridge due to noise, the loss and the margins at x and the bias."""
        self.evaluations += 1
        R, q, V = np.tanh(x[0]), np.exp(x[1]), np.exp(x[2])
        width, D = np.sqrt(self.delta * q), self.delta * V
        loss = averaged_over_noise(self.loss, self.noise * width)
        margins = training_margins(loss, R * np.sqrt(q), width, D, self.bias, self.rho)
        scale = self.alpha * self.delta
        noise_ridge = 0.0
        if self.noise:
            noise_ridge = scale * self.noise**2 * margins.mean(loss.curvature(margins.v))
        return (
            self.alpha * margins.mean(margins.f),
            scale * margins.mean(margins.f**2),
            -scale * margins.mean(margins.response),
            noise_ridge,
            loss,
            margins,
        )

    def residual(self, x: NDArray, ridge: float) -> NDArray[np.float64]:
        """Relative violation of the three equations, and of E[y f] = 0 for a trained bias."""
        m_hat, q_hat, V_hat, noise_ridge, _, margins = self.averages(x)
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
        """Set the bias to the one with E[y f] = 0 at x."""
        q, V = np.exp(x[1]), np.exp(x[2])
        width = np.sqrt(self.delta * q)
        loss = averaged_over_noise(self.loss, self.noise * width)
        m = np.tanh(x[0]) * np.sqrt(q)
        self.bias = _trained_bias(loss, m, width, self.delta * V, self.rho, self.bias)

    def solve(self, x0: NDArray, ridge: float) -> NDArray[np.float64] | None:
        """Root near x0, or None; sets the bias where it is trained."""
        start = self.bias
        for nested in (False, True) if self.trained else (False,):
            self.bias = start
            joint = self.trained and not nested

            def guarded(x: NDArray, joint: bool = joint, nested: bool = nested) -> NDArray:
                if not np.all(np.isfinite(x)) or np.any(np.abs(x) > 60):
                    return np.full(len(x), 1e3)
                if joint:
                    self.bias = float(x[3])
                elif nested:
                    self.train_bias(x)
                violation = self.residual(x[:3], ridge)
                return violation if joint else violation[:3]

            guess = np.append(x0, self.bias) if joint else x0
            found = root(guarded, guess, method="hybr", options={"xtol": 1e-13})
            good = bool(np.max(np.abs(guarded(found.x))) < TOLERANCE)  # also sets the bias
            if good:
                return found.x[:3]
        self.bias = start
        return None

    def follow(self, ridge: float) -> ReplicaSymmetricState:
        """From a strong λ, where the minimiser is Hebb's rule, to the wanted one."""
        x = None
        strongest = 30.0 * (1.0 + self.alpha * self.delta)
        for strong in max(ridge, strongest) * np.array([1.0, 0.1, 0.01, 1e-3, 1e-4]):
            self.bias = 0.0 if self.trained else self.bias
            x = self.solve(self.strong_ridge(strong), strong)
            if x is not None:
                break
        else:
            message = f"no root found from ridge {strongest:g} down."
            if self.trained and self.loss.name == "hinge":
                message += (
                    " With unbalanced labels and a trained bias, the hinge loss of enough noisy "
                    "patterns is least for the constant classifier, w = 0, b = ±1: its kink holds "
                    "the whole larger class. Then no solution with q > 0 exists."
                )
            return self.failure(ridge, message)
        position, slope, step = np.log(strong), np.zeros(3), np.log(10.0) / 2.0
        last = np.log(ridge) if ridge > 0 else -np.inf
        while position != last:
            target = max(position - step, last) if last < position else min(position + step, last)
            if ridge == 0 and np.exp(target) < 1e-5 * np.exp(-x[2]):
                target = -np.inf  # V = 1/V̂ by now: the ridge no longer matters
            moved = target - position if np.isfinite(target) else 0.0
            found = self.solve(x + slope * moved, float(np.exp(target)))
            if found is None:
                step /= 2.0
                if step < 1e-3:
                    return self.failure(ridge, f"lost the solution at ridge {np.exp(position):g}.")
                continue
            if moved:
                slope = (found - x) / moved
            x, position = found, target
            step = min(step * 1.5, 2.0)
        return self.state(x, ridge)

    def strong_ridge(self, ridge: float) -> NDArray[np.float64]:
        """Iterate the equations at a ridge so strong that this converges."""
        x = np.array([0.0, -2.0 * np.log(ridge), -np.log(ridge)])
        for _ in range(300):
            if self.trained:
                self.train_bias(x)
            m_hat, q_hat, V_hat, noise_ridge, _, _ = self.averages(x)
            length = np.sqrt(q_hat + m_hat**2)
            V = 1.0 / (ridge + noise_ridge + V_hat)
            new = np.array([np.arctanh(m_hat / length), 2.0 * np.log(V * length), np.log(V)])
            change, x = np.max(np.abs(new - x)), 0.7 * x + 0.3 * new
            if change < 1e-3:
                break
        return x

    def state(self, x: NDArray, ridge: float) -> ReplicaSymmetricState:
        residual = float(np.max(np.abs(self.residual(x, ridge))))
        _, _, _, noise_ridge, loss, margins = self.averages(x)
        q, V = float(np.exp(x[1])), float(np.exp(x[2]))
        m = float(np.tanh(x[0]) * np.sqrt(q))
        return make_state(
            loss,
            self.alpha,
            self.delta,
            self.rho,
            ridge + noise_ridge,
            (m, q, V, self.bias),
            self.alpha * (self.delta * V) ** 2 * margins.mean(margins.response**2),
            residual,
            self.evaluations,
        )

    def failure(self, ridge: float, message: str) -> ReplicaSymmetricState:
        return no_state(
            self.loss, self.alpha, self.delta, self.rho, ridge, message, self.evaluations
        )


def _trained_bias(loss: Loss, m: float, width: float, D: float, rho: float, guess: float) -> float:
    """The b with E[y f] = 0: the derivative of the average loss, which falls with b."""

    def pull(b: float) -> float:
        total = 0.0
        for label, fraction in ((1.0, rho), (-1.0, 1.0 - rho)):
            margins = training_margins(loss, m + label * b, width, D)
            total += label * fraction * margins.mean(margins.f)
        return total

    step = 0.5 * width + 1e-3
    low, high = guess - step, guess + step
    while pull(low) < 0:
        low -= step
        step *= 2.0
    while pull(high) > 0:
        high += step
        step *= 2.0
    return float(brentq(pull, low, high, xtol=1e-15, rtol=1e-15 * 8))
