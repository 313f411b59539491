"""``python -m deep COMMAND``: train networks, measure their flatness, draw the paper's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deep import (
    baselines,
    benchmark,
    commands,
    estimators,
    local_entropy_benchmark,
    paper_figures,
    table1,
)
from deep.decay_control.design import DecayControlCommand
from deep.decay_control.stages import decay_control
from deep.pgdl import figure7
from message_passing.tools.commands import Commands, run_command

DESCRIPTION = "Entropic gradient descent for deep networks: the experiments of the paper."


def _training(command: Callable[[Any], object]) -> Callable[[Any], None]:
    """Wrap a command: set the process up for training, and leave torchrun's group at the end."""

    def run(options: Any) -> None:
        import torch

        from deep.device import keep_freed_memory, leave

        keep_freed_memory()
        # Minibatch shapes change only at the end of a pass, so cuDNN's autotuner pays off.
        torch.backends.cudnn.benchmark = True
        command(options)
        leave()

    return run


COMMANDS: Commands = {
    "train": (commands.TrainCommand, _training(commands.train_networks)),
    "table1": (table1.Table1Command, _training(table1.train_table1)),
    "flatness": (commands.FlatnessCommand, _training(commands.show_flatness)),
    "runs": (commands.RunsCommand, commands.show_runs),
    "figure": (paper_figures.FigureCommand, paper_figures.draw_figure),
    "figure7": (figure7.Figure7Command, _training(figure7.draw_figure7)),
    "correlations": (commands.CorrelationsCommand, commands.show_correlations),
    "baselines": (baselines.BaselinesCommand, _training(baselines.compare)),
    "decay-control": (DecayControlCommand, _training(decay_control)),
    "estimators": (estimators.EstimatorsCommand, estimators.compare_estimators),
    "local-entropy-benchmark": (
        local_entropy_benchmark.LocalEntropyBenchmark,
        local_entropy_benchmark.show,
    ),
    "benchmark": (benchmark.BenchmarkOptions, _training(benchmark.show)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run its command."""
    run_command("deep", DESCRIPTION, COMMANDS, arguments)


if __name__ == "__main__":
    main()
