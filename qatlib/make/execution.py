"""Carries out one notebook by papermill, and tells how it failed."""

import json
import os
import sys
import time

from qatlib.make import manifest, records
from qatlib.make.gallery import without_gallery
from qatlib.system import disk
from qatlib.system.console import Echo, plain
from qatlib.system.paths import FIGURES

CELL_TIMEOUT = int(os.environ.get("QATLIB_CELL_TIMEOUT") or 3600)  # seconds
KERNEL_TIMEOUT = 120  # seconds for the kernel to start, and for its output to arrive
TRACEBACK_LINES = 40  # what a screen holds; the executed copy has the rest


class PipelineError(Exception):
    """What keeps a notebook from being run or finished, in words for the user."""


def run(notebook, parameters, key, label):
    """Execute the notebook, and record it as finished only if it succeeds. PipelineError names the cell and shows the
    traceback."""
    name = notebook.stem
    running, failed = records.EXECUTED / f"{name}.running.ipynb", records.EXECUTED / f"{name}.failed.ipynb"
    for stale in (records.EXECUTED / f"{name}.json", records.EXECUTED / f"{name}.ipynb", failed):
        stale.unlink(missing_ok=True)
    before, began = records.stamps(), time.monotonic()
    try:
        _execute(notebook, running, parameters, label)
        facts = manifest.facts(notebook, parameters)
        disk.sync(running)
    except BaseException:
        if running.exists():
            running.replace(failed)
        raise
    written = sorted(file for file, stamp in records.stamps().items() if before.get(file) != stamp)
    record = {
        "key": key,
        "outputs": {file: records.sha256(FIGURES / file) for file in written},
        "seconds": round(time.monotonic() - began, 1),
        "about": manifest.about(parameters, facts),
    }
    running.replace(records.EXECUTED / f"{name}.ipynb")
    records.disown(name, written)
    records.write(records.EXECUTED / f"{name}.json", record)
    return record


def _execute(notebook, output, parameters, label):
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    unknown = sorted(set(parameters) - set(papermill.inspect_notebook(notebook)))
    if unknown:
        raise PipelineError(f"no parameter {', '.join(unknown)} in the cell tagged 'parameters'")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(manifest.THREADS)
    echo = Echo(label, sys.stdout)
    output.write_bytes(without_gallery(notebook))
    try:
        papermill.execute_notebook(
            output,
            output,
            parameters,
            kernel_name="python3",
            cwd=notebook.parent,
            progress_bar=False,
            stdout_file=echo,
            stderr_file=echo,
            start_timeout=KERNEL_TIMEOUT,
            execution_timeout=CELL_TIMEOUT,
            iopub_timeout=KERNEL_TIMEOUT,
            # its warning of a local connection without encryption says nothing here
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
    except papermill.PapermillExecutionError as error:
        raise _failure(output, error.ename, error.evalue, error.traceback) from None
    except CellTimeoutError:
        raise _failure(output, "TimeoutError", f"the cell took more than {CELL_TIMEOUT} s", []) from None
    except DeadKernelError:
        raise _failure(output, "DeadKernelError", "the kernel died; was there too little memory?", []) from None


def _failure(executed, kind, value, traceback):
    """Cells are counted as JupyterLab counts them in the notebook itself: code cells, without the one that papermill
    puts in."""
    cells = [c for c in json.loads(executed.read_text())["cells"] if c["cell_type"] == "code"]
    begun = [c for c in cells if c["metadata"].get("papermill", {}).get("start_time")]
    number = sum("injected-parameters" not in c["metadata"].get("tags", []) for c in begun)
    failed = executed.name.replace(".running.", ".failed.")
    lines = plain("\n".join(traceback or ["".join(begun[-1]["source"])])).splitlines()[-TRACEBACK_LINES:]
    return PipelineError(
        "\n".join(
            [
                *lines,
                f"FAILED in code cell {number}: {kind}: {plain(value)}",
                f"executed copy: {executed.with_name(failed)}",
            ]
        )
    )
