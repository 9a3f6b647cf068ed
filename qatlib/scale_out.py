"""Runs computed side by side: on this machine's cores, or on the Dask cluster that SCHEDULER names (tcp://host:port, or tls://).

Workers need qatlib's environment and a C++ compiler, and no shared disk: data and parents travel with the tasks, results come back and are
kept here. A task whose worker dies is given to another one; its result is kept under the run's key, so none is lost and none counts twice.
Dask runs pickled code: use it in trusted networks, or with TLS (`distributed.comm.tls` in Dask's configuration).
"""

import atexit
import logging
import os
import platform
import sys
import threading
from functools import lru_cache

import pandas as pd
from tqdm import tqdm

from qatlib import runs

VARIABLE = "SCHEDULER"  # environment: the address of a Dask scheduler
WORKERS_TIMEOUT = 60  # seconds for a first worker to come
RUN_TIMEOUT = 3600  # seconds without any run finished after which the cluster is given up

# Dask's own setting gives every freed page back at once, and a training step asks for the same pages again.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": 1 << 30, "MALLOC_MMAP_THRESHOLD_": 1 << 30}


def workers():
    """How many processes the local cluster has."""
    return len(os.sched_getaffinity(0))


@lru_cache
def client(address):
    """The connection to a scheduler, made once; '': to a cluster of this machine's cores, which ends with this process."""
    import dask
    from distributed import Client, LocalCluster

    if address:
        try:
            return Client(address, timeout=WORKERS_TIMEOUT, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise ConnectionError(f"{VARIABLE}={address}: no scheduler answers there ({error})") from None
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.CRITICAL, "memory_limit": 0}
    with dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in KEEP_MEMORY.items()}):
        cluster = LocalCluster(n_workers=workers(), **options)
    connected = Client(cluster, set_as_default=False)
    atexit.register(lambda: (connected.close(timeout=5), cluster.close(timeout=5)))
    return connected


def collect(grid, dataset, *, name=""):
    """Table of the runs, one row each in their order; computes what is missing, and shows how far it is."""
    grid = list(grid)
    missing = [run for run in dict.fromkeys(grid) if runs.row(run, dataset) is None]
    if missing:
        _compute(missing, dataset, name)
    return pd.DataFrame([runs.row(run, dataset) for run in grid], columns=runs.COLUMNS)


def _compute(missing, dataset, name):
    """Compute and keep runs and their parents. An error of a run is raised here, with what was finished before it kept."""
    from distributed import wait

    address = os.environ.get(VARIABLE, "")
    if (cluster := client(address)).status != "running":  # its scheduler has ended since
        client.cache_clear()
        cluster = client(address)
    try:
        cluster.wait_for_workers(1, timeout=WORKERS_TIMEOUT)
    except TimeoutError:
        way_out = f"start one with `dask worker {address} --nthreads 1`" if address else "is this machine out of memory or processes?"
        raise ConnectionError(f"{VARIABLE}={address}: no worker after {WORKERS_TIMEOUT} s; {way_out}") from None
    submitted = _submit(cluster, missing, dataset)
    waiting = {future: run for run, future in submitted.items() if runs.row(run, dataset) is None}
    with cluster.as_current(), tqdm(total=len(waiting), desc=name, unit="run", file=sys.stdout, mininterval=1, dynamic_ncols=True) as bar:
        try:
            while waiting:
                for future in wait(list(waiting), timeout=RUN_TIMEOUT, return_when="FIRST_COMPLETED").done:
                    run = waiting.pop(future)
                    runs.keep(run, dataset, future.result(timeout=RUN_TIMEOUT))
                    bar.set_postfix_str(run.label, refresh=False)
                    bar.update()
        except BaseException as error:
            cluster.cancel(list(submitted.values()))
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"{VARIABLE}={address}: no run finished in {RUN_TIMEOUT} s; are the workers alive?") from None
            raise


def _submit(cluster, missing, dataset):
    """-> {run: future of its files}, for all that is missing and for its parents.

    Data and kept files are tasks of their own, so that they are there again after the worker that held them has died.
    """
    shared = cluster.submit(_same, dataset, key=f"data-{dataset.fingerprint}")
    submitted = {}

    def submit(run):
        if run not in submitted:
            key, files = run.key(dataset), runs.kept(run, dataset)
            if files:
                submitted[run] = cluster.submit(_same, files, key=f"kept-{key}")
            else:
                parents = [submit(parent) for parent in run.parents]
                submitted[run] = cluster.submit(_carry_out, run, key, shared, parents, key=f"run-{key}", priority=runs.cost(run))
        return submitted[run]

    for run in missing:
        submit(run)
    return submitted


def _same(value):
    return value


ONE_AT_A_TIME = threading.Lock()  # in a worker of several threads: torch's random numbers belong to the process


def _carry_out(run, key, dataset, parents):
    if run.key(dataset) != key:
        raise RuntimeError(
            f"the worker on {platform.node()} has another version of qatlib or torch than this process: install the same on both"
        )
    with ONE_AT_A_TIME:
        return runs.compute(run, dataset, parents)
