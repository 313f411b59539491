"""Local entropy of given weights: belief propagation, expectation propagation, Monte Carlo."""
