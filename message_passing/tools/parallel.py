"""Independent tasks on all cores of this computer, or on a Dask cluster.

The results must not depend on the place or the order of the tasks, so every task carries its own
random seed. Linear algebra runs on one thread in every task. The tasks fill the cores, and sums
round in the same order everywhere.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import joblib
from threadpoolctl import threadpool_limits
from tqdm import tqdm

CONNECTION_TIMEOUT = 30  # seconds
WATCH_EVERY = 0.5  # seconds


def run_tasks(
    function: Callable[..., Any],
    tasks: Sequence[Any],
    *,
    common: tuple = (),
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool | None = None,
    description: str | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield ``(index, function(*common, tasks[index]))`` in the order of completion.

    Parameters
    ----------
    function : callable
        A function at the top level of a module, so that processes can import it.
    tasks : sequence
        One argument per task. It must be picklable.
    common : tuple
        Arguments that all tasks share. A cluster keeps one copy on each worker.
    workers : int, optional
        Processes on this computer, by default one per usable core. With 1 everything runs in this
        process.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``. ``workers`` is then ignored.
        If a worker dies, its tasks run again on another one.
    progress, description
        Show a bar with the time left, and the text in front of it.

    Raises ``ValueError`` for ``workers`` below 1, ``ImportError`` without the ``distributed``
    package, ``OSError`` without a scheduler at that address, and the errors of the tasks. Results
    that were yielded before are not lost.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; a positive number of processes was expected.")
    if scheduler is not None:
        completed = _on_cluster(function, tasks, common, scheduler)
    elif (processes := min(workers or usable_cores(), len(tasks))) <= 1:
        completed = _in_this_process(function, tasks, common)
    else:
        completed = _in_processes(function, tasks, common, processes)
    return _with_bar(completed, len(tasks), progress, description)


def usable_cores() -> int:
    """Number of cores that this process may use, within affinity and container limits."""
    return int(joblib.cpu_count())


def check_scheduler(scheduler: str) -> None:
    """Raise the errors of ``run_tasks`` if no Dask scheduler answers at this address."""
    _connect(scheduler).close()


def _with_bar(
    completed: Iterator[tuple[int, Any]], total: int, progress: bool | None, description: str | None
) -> Iterator[tuple[int, Any]]:
    with tqdm(
        total=total, desc=description, disable=not progress, smoothing=0, dynamic_ncols=True
    ) as bar:
        try:
            for pair in completed:
                bar.update()
                yield pair
        finally:
            completed.close()  # type: ignore[attr-defined]


def _in_this_process(
    function: Callable[..., Any], tasks: Sequence[Any], common: tuple
) -> Iterator[tuple[int, Any]]:
    for index, task in enumerate(tasks):
        with threadpool_limits(limits=1):
            result = function(*common, task)
        yield index, result


def _in_processes(
    function: Callable[..., Any], tasks: Sequence[Any], common: tuple, processes: int
) -> Iterator[tuple[int, Any]]:
    # No memory maps: they are read-only, and numba would compile the kernels anew for them.
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(
            n_jobs=processes, return_as="generator_unordered", batch_size=1, max_nbytes=None
        )
        yield from parallel(
            joblib.delayed(_run_in_worker)(os.getpid(), function, common, index, task)
            for index, task in enumerate(tasks)
        )


def _connect(scheduler: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "A scheduler was given, but Dask is not installed: "
            'python -m pip install "wide-flat-minima[cluster]".'
        ) from error
    try:
        return Client(scheduler, timeout=CONNECTION_TIMEOUT)
    except (OSError, ValueError) as error:
        raise OSError(
            f"No Dask scheduler answers at scheduler = {scheduler!r}: start one with "
            "`dask scheduler` and give its address, such as tcp://127.0.0.1:8786."
        ) from error


def _on_cluster(
    function: Callable[..., Any], tasks: Sequence[Any], common: tuple, scheduler: str
) -> Iterator[tuple[int, Any]]:
    client = _connect(scheduler)
    import cloudpickle
    from distributed import as_completed

    with client:
        # A task instead of scattered data: the cluster can run it again if its worker dies.
        shared = client.submit(_identity, cloudpickle.dumps((function, common)), pure=False)
        futures = [
            client.submit(_run_packed, shared, index, cloudpickle.dumps(task), pure=False)
            for index, task in enumerate(tasks)
        ]
        try:
            for future in as_completed(futures):
                yield pickle.loads(future.result())
                future.release()
        finally:
            client.cancel(futures)


def _run_in_worker(
    parent: int, function: Callable[..., Any], common: tuple, index: int, task: Any
) -> tuple[int, Any]:
    _end_with(parent)
    return _run_one(function, common, index, task)


@cache
def _end_with(parent: int) -> None:
    """End this worker soon after its parent is killed, even in the middle of a task.

    A worker that is killed itself leaves nothing behind.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_EVERY)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    # The default lock of tqdm is a semaphore of the system, which a killed worker leaves behind.
    tqdm.set_lock(threading.RLock())


def _run_one(function: Callable[..., Any], common: tuple, index: int, task: Any) -> tuple[int, Any]:
    """Run a task in a worker process, and keep that process on one thread."""
    threadpool_limits(limits=1)
    return index, function(*common, task)


def _run_packed(shared: bytes, index: int, task: bytes) -> bytes:
    """``_run_one`` with pickled arguments and results.

    Dask's own transport delivers arrays at odd addresses, where sums round differently.
    """
    function, common = pickle.loads(shared)
    return pickle.dumps(_run_one(function, common, index, pickle.loads(task)))


def _identity(value: Any) -> Any:
    return value
