"""Grids on several processes: what a kill leaves, of this process or of a worker, and what a cluster must say."""

import gc
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from distributed import LocalCluster

from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached, scale_out, storage
from qatlib.runs.cached import Run
from qatlib.system import paths, toolchain
from tests.runs.grid import FLOAT, GRID, MODEL, QAT, entries, finished

LONG, LONG_QAT = replace(FLOAT, epochs=8, batch=16), replace(QAT, epochs=4, batch=16)
LONG_GRID = [Run(MODEL, "float", seed, LONG) for seed in range(3)]
LONG_GRID += [Run(MODEL, "qat-symmetric", 0, LONG, QuantConfig(4, 4), LONG_QAT, teachers=(0, 1))]


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setattr(scale_out, "RUN_TIMEOUT", 300)


def wait_until(condition, *, seconds=300, alive=lambda: True):
    deadline = time.monotonic() + seconds
    while not condition():
        assert alive() and time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def grid_process(build, sensor_csv, tmp_path):
    """A process in the middle of LONG_GRID."""
    script = tmp_path / "grid.py"
    script.write_text(
        textwrap.dedent(f"""
            import sys
            sys.path[:0] = [{str(paths.ROOT)!r}, {os.path.dirname(__file__)!r}]
            from tests.runs.test_scale_out import LONG_GRID
            from qatlib import data
            from qatlib.runs import scale_out
            if __name__ == "__main__":
                scale_out.collect(LONG_GRID, data.load({str(sensor_csv)!r}, target="value"))
        """)
    )
    environment = {**os.environ, "QATLIB_BUILD": str(build)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(script)], stdout=log, stderr=log, start_new_session=True, env=environment
        )
    wait_until(lambda: finished(build), alive=lambda: process.poll() is None)
    yield process
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def assert_complete(table, folder, dataset):
    """Every run once, none more."""
    assert finished(folder).keys() == {storage.folder(run, dataset).name for run in LONG_GRID}
    assert entries(folder) == finished(folder).keys()
    assert table["seed"].tolist() == [run.seed for run in LONG_GRID] and table["mse"].notna().all()
    assert (table["equal_outputs"].dropna() == 1).all()


def test_resume_after_a_kill(build, dataset, grid_process):
    """SIGKILL in mid-grid, to that process alone: no worker goes on computing, or waits for ever and keeps a pipe open.
    Finished runs are kept as they are, none half-written is taken, the rest completes."""
    os.kill(grid_process.pid, signal.SIGKILL)
    assert grid_process.wait() == -signal.SIGKILL

    def gone():
        try:
            os.killpg(grid_process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone)
    kept = finished(build)
    assert 0 < len(kept) < len(LONG_GRID)
    table = scale_out.collect(LONG_GRID, dataset)
    assert_complete(table, build, dataset)
    assert finished(build).items() >= kept.items()  # their seconds would differ, had they been computed again


def test_a_killed_worker_loses_nothing(build, dataset, monkeypatch):
    """Workers behind an address, one killed while it computes: every run is there, and once."""
    cluster = scale_out.client("").cluster
    monkeypatch.setenv(scale_out.VARIABLE, cluster.scheduler_address)
    real, killed = storage.keep, []

    def keep(run, *arguments):
        if not killed:
            busy = [w for w in cluster.scheduler.workers.values() if w.processing]
            killed.append(cluster.workers[busy[0].name].pid)
            os.kill(killed[0], signal.SIGKILL)
        return real(run, *arguments)

    monkeypatch.setattr(storage, "keep", keep)
    table = scale_out.collect(LONG_GRID, dataset)
    assert killed
    assert_complete(table, build, dataset)
    monkeypatch.setattr(storage, "keep", real)
    rows = finished(build)
    assert scale_out.collect(LONG_GRID, dataset).equals(table) and finished(build) == rows
    scale_out.client(cluster.scheduler_address).close(timeout=5)


def test_a_finished_grid_leaves_no_task(build, dataset):
    """Else a worker that dies later computes it again. Whatever Python's garbage collector does meanwhile."""
    gc.disable()
    try:
        scale_out.collect(GRID[1:3], dataset)
        wait_until(lambda: not scale_out.client("").cluster.scheduler.tasks)
    finally:
        gc.enable()


def test_the_error_of_a_failing_run_reaches_the_caller(build, dataset):
    """Runs that were finished before it are kept."""
    bad = Run(MODEL, "ptq-nonsense", 0, FLOAT, QuantConfig())
    with pytest.raises(ValueError, match="unknown PTQ method 'nonsense'"):
        scale_out.collect([bad], dataset)
    assert finished(build).keys() == {storage.folder(bad.parents[0], dataset).name} == entries(build)


def test_a_worker_with_other_sources_is_refused(build, dataset, monkeypatch):
    """The key says what the result depends on; a worker that would give the run another key has other code."""
    monkeypatch.setattr(cached.Run, "key", lambda run, data: "of other sources")
    with pytest.raises(RuntimeError, match="another version of qatlib or torch"):
        scale_out.collect(GRID[1:2], dataset)


def die_once(job):
    number, mark = job
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def test_a_job_outlives_its_worker(tmp_path):
    mark = tmp_path / "died"
    assert scale_out.each(die_once, [(i, mark) for i in range(4)]) == [0, 2, 4, 6] and mark.exists()


def die(run, key, dataset, parents):
    os.kill(os.getpid(), signal.SIGSEGV)


def test_workers_that_die_of_a_run_are_reported_as_that(build, dataset, monkeypatch):
    """As by compiled code that crashes: which run, which signal, and which compiler made the code."""
    monkeypatch.setattr(scale_out, "_carry_out", die)
    scheduler = scale_out.client("").cluster.scheduler
    monkeypatch.setattr(scheduler, "allowed_failures", 0)
    with pytest.raises(
        RuntimeError, match=r"patch-c24-d4 persistence seed 0: 1 workers died of SIGSEGV.*CXX="
    ) as caught:
        scale_out.collect(GRID[1:2], dataset)
    assert toolchain.described() in str(caught.value) and caught.value.__suppress_context__


def test_how_a_worker_elsewhere_died_is_not_known():
    lost = SimpleNamespace(
        task="run-7", last_worker=SimpleNamespace(address="tcp://10.0.0.1:9"), allowed_failures=3
    )  # as distributed.KilledWorker
    said = scale_out._death(lost, {}, local=False)
    assert said.startswith("run-7: 4 workers died (killed by a signal, or out of memory) while they computed it.")


def other_files(run, key, dataset, parents):
    return {"row.json": b"{}", "../../stolen": b"x"}


def test_what_a_worker_sends_is_looked_at(build, dataset, monkeypatch):
    monkeypatch.setattr(scale_out, "_carry_out", other_files)
    with pytest.raises(
        ValueError, match=r"patch-c24-d4 persistence seed 0: its worker sent other files than row\.json"
    ):
        scale_out.collect(GRID[1:2], dataset)
    assert not build.exists()


ADDRESSES = (
    "foo",
    "no address",
    "tcp://",
    "tcp://nonsense",
    "tcp://host:port:99",
    "tcp://127.0.0.1:",
    "tcp://:9",
    "tcp://127.0.0.1:99999",
)
ADDRESSES += (
    "tcp://::1:9",
    "tcp://[::1]",
    "http://127.0.0.1:9",
    "127.0.0.1:9",
    "tcp://127.0.0.1:9/x",
    "tcp://127.0.0.1:-1",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_is_no_address_is_said_at_once(build, dataset, monkeypatch, address):
    monkeypatch.setenv(scale_out.VARIABLE, address)
    said = (
        rf"SCHEDULER={re.escape(address)}: no scheduler answers there \(.*; give tcp://host:port or tls://host:port\)"
    )
    with pytest.raises(ConnectionError, match=said):
        scale_out.collect(GRID[1:2], dataset)


def test_a_scheduler_that_is_not_there(build, dataset, monkeypatch):
    """Nobody listens, or one who says nothing that Dask says; no event loop is left behind."""
    monkeypatch.setattr(scale_out, "SCHEDULER_TIMEOUT", 1)
    loops = [thread for thread in threading.enumerate() if "loop" in thread.name.lower()]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for address in (
            "tcp://127.0.0.1:9",
            "tcp://[::1]:9",
            f"tcp://127.0.0.1:{silent.getsockname()[1]}",
            "tls://127.0.0.1:9",
        ):
            monkeypatch.setenv(scale_out.VARIABLE, address)
            with pytest.raises(ConnectionError, match=f"SCHEDULER={re.escape(address)}: no scheduler answers there "):
                scale_out.collect(GRID[1:2], dataset)
    assert [thread for thread in threading.enumerate() if "loop" in thread.name.lower()] == loops


def test_a_worker_is_no_scheduler(build, dataset, monkeypatch):
    worker = next(iter(scale_out.client("").cluster.scheduler.workers))
    monkeypatch.setenv(scale_out.VARIABLE, worker)
    with pytest.raises(ConnectionError, match="no scheduler answers there, but a Worker"):
        scale_out.collect(GRID[1:2], dataset)


def test_a_bad_address_ends_in_one_line(tmp_path):
    """Of a process of its own: nothing more is printed while it ends."""
    code = (
        "from qatlib.runs import scale_out\ntry: scale_out.client('tcp://nonsense')\nexcept ConnectionError "
        "as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=paths.ROOT)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)


def test_a_scheduler_without_workers(build, dataset, monkeypatch):
    monkeypatch.setattr(scale_out, "WORKERS_TIMEOUT", 1)
    with LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=logging.CRITICAL) as cluster:
        monkeypatch.setenv(scale_out.VARIABLE, cluster.scheduler_address)
        with pytest.raises(
            ConnectionError, match=r"no worker after 1 s; start one with `dask worker tcp://.* --nthreads 1`"
        ):
            scale_out.collect(GRID[1:2], dataset)
        scale_out.client(cluster.scheduler_address).close(timeout=5)
