"""A Dask cluster on the loopback address, for tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Cluster:
    """A Dask scheduler and two workers, each its own process, on the loopback address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen] = []
        log = self.start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0")
        self.address = self.wait_for(log, r"Scheduler at:\s+(tcp://127\.0\.0\.1:\d+)")
        for name in ("one", "two"):
            options = ("--nthreads", "1", "--no-nanny", "--name", name)
            log = self.start(name, "worker", self.address, *options)
            self.wait_for(log, r"(Registered to)")

    def start(self, name: str, *command: str) -> Path:
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command, "--no-dashboard"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return log

    def wait_for(self, log: Path, pattern: str) -> str:
        for _ in range(600):
            if found := re.search(pattern, log.read_text()):
                return found.group(1)
            time.sleep(0.1)
        raise RuntimeError(f"{pattern} did not appear: {log.read_text()}")

    def kill_a_worker(self) -> int:
        """Kill the second worker with SIGKILL and return its process id."""
        victim = self.processes[-1]
        victim.kill()
        victim.wait()
        return victim.pid

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
