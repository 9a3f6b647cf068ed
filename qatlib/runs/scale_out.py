"""Runs computed side by side: on this machine's cores, or on the Dask cluster that SCHEDULER names (tcp://host:port, or
tls://).

Workers need qatlib's environment and a C++ compiler, and no shared disk: data and parents travel with the tasks,
results come back and are kept here. A task whose worker dies is given to another one; its result is kept under the
run's key, so none is lost and none counts twice. Dask runs pickled code: use it in trusted networks, or with TLS
(`distributed.comm.tls` in Dask's configuration).
"""

import asyncio
import atexit
import logging
import os
import platform
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import pandas as pd
from tqdm import tqdm

from qatlib.runs import cached, storage
from qatlib.system import toolchain
from qatlib.system.console import plain

VARIABLE = "SCHEDULER"  # environment: the address of a Dask scheduler
SCHEDULER_TIMEOUT = 60  # seconds for a scheduler to answer
WORKERS_TIMEOUT = 60  # seconds for a first worker to come
RUN_TIMEOUT = 3600  # seconds without any run finished after which the cluster is given up
DEATH_TIMEOUT = 5  # seconds from a worker's connection lost to its exit code
# Dask's own setting gives every freed page back at once, and a training step asks for the same pages again.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": 1 << 30, "MALLOC_MMAP_THRESHOLD_": 1 << 30}
DEATHS = {}  # of this machine's workers: {address: exit code}


def workers():
    """How many processes the local cluster has."""
    return len(os.sched_getaffinity(0))


@lru_cache
def client(address):
    """The connection to a scheduler, made once; '': to a cluster of this machine's cores, which ends with this
    process."""
    from distributed import Client

    if address:
        _require_scheduler(address)
        return Client(address, timeout=SCHEDULER_TIMEOUT, set_as_default=False)
    cluster = _local_cluster()
    connected = Client(cluster, timeout=SCHEDULER_TIMEOUT, set_as_default=False)
    atexit.register(lambda: (connected.close(timeout=5), cluster.close(timeout=5)))
    return connected


def _local_cluster():
    import dask
    from distributed import LocalCluster, Nanny

    class Witness(Nanny):
        """Remembers what its worker died of."""

        def _on_worker_exit_sync(self, exitcode):
            DEATHS[self.worker_address] = exitcode
            super()._on_worker_exit_sync(exitcode)

    options = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.CRITICAL, "memory_limit": 0}
    with dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in KEEP_MEMORY.items()}):
        return LocalCluster(n_workers=workers(), worker_class=Witness, **options)


def _require_scheduler(address):
    """ConnectionError where no scheduler answers. Asked before there is a Client: one that fails leaves its event loop
    behind."""
    with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has an event loop already
        try:
            kind = thread.submit(asyncio.run, asyncio.wait_for(_kind(address), SCHEDULER_TIMEOUT)).result()
        except (OSError, ValueError, TypeError, RuntimeError, TimeoutError) as error:
            reason = str(error) or f"nothing was heard in {SCHEDULER_TIMEOUT} s"
            reason += "; give tcp://host:port or tls://host:port" * isinstance(error, ValueError)
            raise ConnectionError(
                f"{VARIABLE}={plain(address)}: no scheduler answers there ({plain(reason)})"
            ) from None
    if kind != "Scheduler":
        raise ConnectionError(f"{VARIABLE}={plain(address)}: no scheduler answers there, but a {plain(str(kind))}")


async def _kind(address):
    """What the Dask server at an address says that it is."""
    from distributed.comm import get_address_host_port
    from distributed.core import rpc
    from distributed.security import Security

    host, port = get_address_host_port(address, strict=True)
    if not address.startswith(("tcp://", "tls://")) or not host or not 0 < port < 1 << 16:
        raise ValueError("no such address")
    async with rpc(
        address, timeout=SCHEDULER_TIMEOUT, connection_args=Security().get_connection_args("client")
    ) as server:
        return (await server.identity())["type"]


def collect(grid, dataset, *, name=""):
    """Table of the runs, one row each in their order; computes what is missing, and shows how far it is."""
    grid = list(grid)
    missing = [run for run in dict.fromkeys(grid) if storage.row(run, dataset) is None]
    if missing:
        _compute(missing, dataset, name)
    table = pd.DataFrame([storage.row(run, dataset) for run in grid])
    measures = [name for name in table if name not in storage.COLUMNS]  # of classifiers
    return table.reindex(columns=storage.COLUMNS + measures)


def each(function, jobs):
    """The function of each job, on this machine's cores; a job whose worker dies is given to another one."""
    cluster = _with_workers("")
    return [future.result(timeout=RUN_TIMEOUT) for future in cluster.map(function, jobs, pure=False)]


def _compute(missing, dataset, name):
    """Compute and keep runs and their parents. An error of a run is raised here, with what was finished before it kept;
    RuntimeError where its workers died."""
    from distributed import KilledWorker

    address = os.environ.get(VARIABLE, "")
    cluster = _with_workers(address)
    submitted = _submit(cluster, missing, dataset)
    try:
        _gather(cluster, submitted, dataset, name)
    except KilledWorker as error:
        raise RuntimeError(_death(error, submitted, local=not address)) from None
    finally:  # what nobody waits for any more is not computed again where a worker dies later
        cluster.cancel(list(submitted.values()))


def _with_workers(address):
    """The connection to a cluster that has a worker. ConnectionError where there is none."""
    if (cluster := client(address)).status != "running":  # its scheduler has ended since
        client.cache_clear()
        cluster = client(address)
    try:
        cluster.wait_for_workers(1, timeout=WORKERS_TIMEOUT)
    except TimeoutError:
        way_out = (
            f"start one with `dask worker {address} --nthreads 1`"
            if address
            else "is this machine out of memory or processes?"
        )
        raise ConnectionError(f"{VARIABLE}={address}: no worker after {WORKERS_TIMEOUT} s; {way_out}") from None
    return cluster


def _gather(cluster, submitted, dataset, name):
    """Keep what is computed, as it comes, and show how far it is."""
    waiting = {future: run for run, future in submitted.items() if storage.row(run, dataset) is None}
    with (
        cluster.as_current(),
        tqdm(total=len(waiting), desc=name, unit="run", file=sys.stdout, mininterval=1, dynamic_ncols=True) as bar,
    ):
        while waiting:
            for future in _finished(waiting):
                run = waiting.pop(future)
                storage.keep(run, dataset, future.result(timeout=RUN_TIMEOUT))
                bar.set_postfix_str(run.label, refresh=False)
                bar.update()


def _finished(waiting):
    """The futures that are done, once there is one."""
    from distributed import wait

    try:
        return wait(list(waiting), timeout=RUN_TIMEOUT, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        where = plain(os.environ.get(VARIABLE, ""))
        raise TimeoutError(f"{VARIABLE}={where}: no run finished in {RUN_TIMEOUT} s; are the workers alive?") from None


def _death(error, submitted, *, local):
    """What is known of a run whose workers died, one after the other."""
    label = next((run.label for run, future in submitted.items() if future.key == error.task), error.task)
    code, deadline = None, time.monotonic() + DEATH_TIMEOUT * local
    while code is None and time.monotonic() < deadline:  # the scheduler may know earlier that a worker is gone
        code = DEATHS.get(error.last_worker.address)
        time.sleep(0.05)
    how = f"of {signal.Signals(-code).name}" if code and code < 0 else "(killed by a signal, or out of memory)"
    try:
        compiler = toolchain.described()
    except toolchain.BuildError as none:
        compiler = str(none)
    return (
        f"{label}: {error.allowed_failures + 1} workers died {how} while they computed it. Was there too little "
        f"memory, or is it the code "
        f"that the compiler made ({compiler})? Give the workers more memory, or try another compiler, as in CXX=g++"
    )


def _submit(cluster, missing, dataset):
    """-> {run: future of its files}, for all that is missing and for its parents.

    Data and kept files are tasks of their own, so that they are there again after the worker that held them has died.
    """
    shared = cluster.submit(_same, dataset, key=f"data-{dataset.fingerprint}")
    files = {}
    order = list(missing)
    for run in order:  # it grows: every parent comes after its children, so backwards before them
        if run not in files:
            files[run] = storage.kept(run, dataset)
        order += () if files[run] else run.parents
    submitted = {}
    for run in dict.fromkeys(reversed(order)):
        key = run.key(dataset)
        if files[run]:
            submitted[run] = cluster.submit(_same, files[run], key=f"kept-{key}")
        else:
            parents = [submitted[parent] for parent in run.parents]
            submitted[run] = cluster.submit(
                _carry_out, run, key, shared, parents, key=f"run-{key}", priority=cached.cost(run)
            )
    return submitted


def _same(value):
    return value


ONE_AT_A_TIME = threading.Lock()  # in a worker of several threads: torch's random numbers belong to the process


def _carry_out(run, key, dataset, parents):
    if run.key(dataset) != key:
        raise RuntimeError(
            f"the worker on {platform.node()} has another version of qatlib or torch than this process: install "
            f"the same on both"
        )
    with ONE_AT_A_TIME:
        return cached.compute(run, dataset, parents)
