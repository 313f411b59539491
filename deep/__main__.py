"""``python -m deep COMMAND …``; each command explains itself with ``--help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import torch

from deep.memory import keep_freed_memory
from deep.optimizers.replicas import ReplicaLostError
from deep.place import leave
from deep.run_folders import RunInUseError
from deep.training import DivergedError

# The module of deep.commands, and what the command does.
COMMANDS = {
    "train": ("train", "train a network for each seed"),
    "table1": ("table1", "train what Table 1 lacks; print it beside the paper's numbers"),
    "flatness": ("flatness", "measure the local energy of the networks of runs"),
    "runs": ("runs", "compare finished runs: settings, errors, flatness, means over seeds"),
    "figure2": ("paper_figures", "test errors along training"),
    "figure3": ("paper_figures", "local energy along training: ResNet-18 on CIFAR-10"),
    "figure4": ("paper_figures", "local energy at the end: four networks"),
    "figure5": ("paper_figures", "local energy along training: ResNet-110 on CIFAR-10"),
    "figure7": ("figure7", "local energy against test error: the PGDL competition's networks"),
    "correlations": ("correlations", "correlations of flatness with errors over runs or a table"),
    "peers": ("peers", "compare with Lookahead, SAM, SWA, … at equal gradient evaluations"),
    "benchmark": ("benchmark", "time sgd, esgd and rsgd on the same network"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: python -m deep COMMAND …\n\n{__doc__}\n")
        for name, (_, purpose) in COMMANDS.items():
            print(f"  {name:<12} {purpose}")
        return 0 if arguments else 2
    command, *arguments = arguments
    if command not in COMMANDS:
        print(f"unknown command {command!r}; one of {list(COMMANDS)} was expected.",
              file=sys.stderr)  # fmt: skip
        return 2
    keep_freed_memory()
    # All minibatches but the last of a pass have the same shape: cuDNN may try its algorithms.
    torch.backends.cudnn.benchmark = True
    module, _ = COMMANDS[command]
    try:
        import_module(f"deep.commands.{module}").main(command, arguments)
        leave()
    except (ValueError, OSError, DivergedError, ReplicaLostError, RunInUseError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
