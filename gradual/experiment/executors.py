"""Where the stages of a tree run: in this process, in several of one machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from gradual.checks import integer
from gradual.errors import InputError
from gradual.experiment.tree import Node
from gradual.stage.callbacks.collapse import CollapsedError
from gradual.stage.interruption import Interrupted, interruptible
from gradual.stage.memory import stage_memory


class Trains(Protocol):
    """What trains a stage: an ``Experiment``."""

    def train(self, node: Node) -> Any:
        """Train it, unless it is done."""


Collapsed = Callable[[Node, CollapsedError], None]
"""Called with a stage that collapsed in every attempt; it may raise the error, and nothing else is trained then."""

Executor = Callable[[Sequence[Node], Callable[[], None], Collapsed], None]
"""Trains the given stages, each after those that it depends on, and calls the first function after each one.

Those that depend on a stage that collapsed are left out.
"""

MakeExperiment = Callable[[], Trains]
"""Makes the experiment in another process; must be picklable."""

_SECONDS_TO_ANSWER = 2  # a worker that was told to stop has its answer sent by then
_experiment: Any = None  # of a worker process, made with its first stage
_stopped: BaseException | None = None  # the same process was told to stop


Submit = Callable[[Node], Future[Any]]
"""Begins to train a stage; those that it depends on are done."""

Pool = Callable[[], AbstractContextManager[Submit]]
"""Opens what trains stages, perhaps several at once; it ends when it is closed."""


def in_process(experiment: Trains) -> Executor:
    """One stage after the other, here."""

    def execute(nodes: Sequence[Node], finished: Callable[[], None], collapsed: Collapsed) -> None:
        left_out: set[int] = set()
        for node in nodes:
            if not left_out.isdisjoint(map(id, node.depends_on)):
                left_out.add(id(node))
                continue
            try:
                with stage_memory():
                    experiment.train(node)
            except CollapsedError as error:
                left_out.add(id(node))
                collapsed(node, error)
            else:
                finished()

    return execute


def pooled(pool: Pool) -> Executor:
    """Every stage in a pool, as soon as those that it depends on are done."""

    def execute(nodes: Sequence[Node], finished: Callable[[], None], collapsed: Collapsed) -> None:
        with pool() as submit:
            _run_ready(nodes, submit, finished, collapsed)

    return execute


def processes(make_experiment: MakeExperiment, jobs: int) -> Executor:
    """Up to ``jobs`` stages at once, each in a process with its share of the cores, or a GPU.

    Args:
        make_experiment: Makes the experiment in a worker.
        jobs: Number of workers.

    Raises:
        InputError: ``jobs`` is below 1.
    """
    integer(1).check("jobs", jobs)
    return pooled(lambda: worker_processes(make_experiment, jobs))


@contextmanager
def this_process(experiment: Trains) -> Iterator[Submit]:
    """A pool that trains each stage here, when it is submitted."""

    def submit(node: Node) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            with stage_memory():
                future.set_result(experiment.train(node))
        except InputError as error:
            future.set_exception(error)
        return future

    yield submit


@contextmanager
def worker_processes(make_experiment: MakeExperiment, jobs: int) -> Iterator[Submit]:
    """A pool of ``jobs`` processes, as ``processes`` uses it."""
    context = multiprocessing.get_context("spawn")
    shares = context.Queue()
    for share in range(jobs):
        shares.put(share)
    with ProcessPoolExecutor(jobs, context, _begin_worker, (shares, jobs)) as pool:
        try:
            yield lambda node: pool.submit(_train, make_experiment, node)
        except BrokenProcessPool as error:
            raise InputError(
                "A worker process ended before its stage was finished: what it said is above. If it said nothing, "
                "it was killed, perhaps for lack of memory. The same command goes on from what is saved."
            ) from error
        except Interrupted:
            for worker in multiprocessing.active_children():
                worker.terminate()  # it saves the stage that it trains
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def ray_tasks(make_experiment: MakeExperiment, address: str | None, retries: int = 3) -> Iterator[Submit]:
    """A pool that makes each stage a Ray task; a lost worker's stage is run again.

    The run directory must be on a file system that all nodes share. A stage asks for one GPU where the cluster has any,
    else for one core.

    Args:
        make_experiment: Makes the experiment in a worker.
        address: The cluster's address, ``auto`` for the one of this machine, None or ``local`` to start one here.
        retries: How often a stage whose worker was lost is run again; it goes on from its last checkpoint.
    """
    try:
        import ray
    except ImportError:
        raise InputError("Ray is not installed: pip install 'gradual[ray]'.") from None
    started = not ray.is_initialized()
    if started:
        ray.init(address or "local", include_dashboard=False, log_to_driver=False)
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        remote = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=retries)(_train)
        yield lambda node: remote.remote(make_experiment, node).future()
    finally:
        if started:
            ray.shutdown()


def check_one_device(devices: Any, num_nodes: int, pattern: str = "{}") -> None:
    """Refuse several devices per stage: each process that Lightning starts for them would run the comparison, too.

    Args:
        devices: The Trainer's ``devices``.
        num_nodes: The Trainer's ``num_nodes``.
        pattern: How messages write the name of an argument, e.g. ``trainer.{}``.

    Raises:
        InputError: A stage would have several.
    """
    listed = devices.strip(", ").split(",") if isinstance(devices, str) and "," in devices else devices
    number = len(listed) if isinstance(listed, list) else int(listed) if str(listed).isdecimal() else 1
    if number > 1 or num_nodes > 1:
        raise InputError(
            f"{pattern.format('devices')} is {devices!r} and {pattern.format('num_nodes')} {num_nodes}: with jobs or "
            "ray, each stage must be trained on one device."
        )


def _run_ready(nodes: Sequence[Node], submit: Submit, finished: Callable[[], None], collapsed: Collapsed) -> None:
    """Submit every stage as soon as those that it depends on are done; the first failure stops the rest."""
    waiting = list(nodes)
    running: dict[Future[Any], Node] = {}
    unfinished = {id(node) for node in nodes}
    while True:
        for node in [node for node in waiting if unfinished.isdisjoint(map(id, node.depends_on))]:
            waiting.remove(node)
            running[submit(node)] = node
        if not running:  # those that wait need a stage that collapsed
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            node = running.pop(future)
            try:
                try:
                    future.result()
                except CollapsedError as error:
                    collapsed(node, error)
                else:
                    unfinished.discard(id(node))
                    finished()
            except BaseException:
                for other in running:
                    other.cancel()
                raise


def _begin_worker(shares: Any, jobs: int) -> None:
    """Give a new worker its cores or its GPU, and let it end with the process that made it."""
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()

    share = shares.get()
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    gpus = [gpu for gpu in visible if gpu] or [str(index) for index in range(torch.cuda.device_count())]
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[share % len(gpus)]  # one: a stage starts no processes of its own


def _train(make_experiment: MakeExperiment, node: Node) -> None:
    global _experiment, _stopped
    if _stopped is not None:  # a pool hands out its next stages before it is shut down
        raise _stopped
    try:
        with interruptible():
            if _experiment is None:
                _experiment = make_experiment()
            with stage_memory():
                _experiment.train(node)
    except (KeyboardInterrupt, SystemExit) as stop:
        _stopped = stop
        # an idle worker that was ended while it waited for a stage keeps the lock that this one would wait for next
        end = threading.Timer(_SECONDS_TO_ANSWER, os._exit, (1,))
        end.daemon = True
        end.start()
        raise


def _end_with_parent() -> None:
    """A worker whose parent was killed would train beside the next run's workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
