"""``python -m deep COMMAND``: train networks, measure their flatness, draw the paper's figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from deep import baselines, commands, paper_figures, table1
from message_passing.tools.commands import Commands, run_command

DESCRIPTION = "Entropic gradient descent for deep networks: the experiments of the paper."


def _training(command: Callable[[Any], object]) -> Callable[[Any], None]:
    """The command in a process that is set up for training, and leaves torchrun in the end."""

    def run(options: Any) -> None:
        import torch

        from deep.device import keep_freed_memory, leave

        keep_freed_memory()
        # All minibatches but the last of a pass have the same shape: cuDNN may try its algorithms.
        torch.backends.cudnn.benchmark = True
        command(options)
        leave()

    return run


COMMANDS: Commands = {
    "train": (commands.TrainCommand, _training(commands.train_networks)),
    "table1": (table1.Table1Command, _training(table1.train_table1)),
    "flatness": (commands.FlatnessCommand, _training(commands.show_flatness)),
    "runs": (commands.RunsCommand, commands.show_runs),
    "figure2": (paper_figures.Figure2Command, paper_figures.draw_figure),
    "figure3": (paper_figures.Figure3Command, paper_figures.draw_figure),
    "figure4": (paper_figures.Figure4Command, paper_figures.draw_figure),
    "figure5": (paper_figures.Figure5Command, paper_figures.draw_figure),
    "correlations": (commands.CorrelationsCommand, commands.show_correlations),
    "baselines": (baselines.BaselinesCommand, _training(baselines.compare)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run its command."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = dict(COMMANDS)
    if not arguments or arguments[0] not in COMMANDS:  # these import torch for their options
        from deep import benchmark, estimators, figure7, local_entropy_benchmark

        chosen["benchmark"] = (benchmark.BenchmarkOptions, _training(benchmark.show))
        chosen["local-entropy-benchmark"] = (
            local_entropy_benchmark.LocalEntropyBenchmark,
            local_entropy_benchmark.show,
        )
        chosen["estimators"] = (estimators.EstimatorsCommand, estimators.compare_estimators)
        chosen["figure7"] = (figure7.Figure7Command, _training(figure7.draw_figure7))
    run_command("deep", DESCRIPTION, chosen, arguments)


if __name__ == "__main__":
    main()
