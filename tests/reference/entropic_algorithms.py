"""Algorithms 1 and 2 of [P21], line by line in numpy: one weight vector, no momentum.

``gradients(w, t)``, or ``gradients(w, a, t)`` for replica a, is the loss gradient of minibatch t.
"""

from __future__ import annotations

import numpy as np


def entropy_sgd(w, gradients, *, L, lr, inner_lr, noise, averaging, gammas, gaussians):
    """Algorithm 1. Each inner step uses one minibatch and one entry of ``gaussians``."""
    w = w.copy()
    t = 0
    for gamma in gammas:
        w_prime, mu = w.copy(), w.copy()
        for _ in range(L):
            dw = gradients(w_prime, t) + gamma * (w_prime - w)
            w_prime = w_prime - inner_lr * dw + np.sqrt(inner_lr) * noise * gaussians[t]
            mu = averaging * mu + (1 - averaging) * w_prime
            t += 1
        w = w - lr * (w - mu)
    return w


def replicated_sgd(ws, gradients, *, lr, gammas, K):
    """Algorithm 2 for the replicas ``ws``. ``gammas[t-1]`` is γ at step t = 1, 2, …"""
    ws = [w.copy() for w in ws]
    for t in range(1, len(gammas) + 1):
        centre = sum(ws) / len(ws)
        for a in range(len(ws)):
            dw = gradients(ws[a], a, t - 1)
            if t % K == 0:
                dw = dw + K * gammas[t - 1] * (ws[a] - centre)
            ws[a] = ws[a] - lr * dw
    return ws
