"""Carries out notebooks for `make figures`, but for those of which everything that they depend on, and all that they
wrote, is as it was.

    python -m qatlib.make.figures notebooks/02_x.ipynb notebooks/03_y.ipynb ..

Their parameters come from the environment: PROFILE, TASK, DATA, TARGET, INPUTS, CLEAN, CONTEXT, HORIZON. Where the TASK
of the data is not to forecast, the notebook about that task is run alone. A notebook leaves an executed copy,
`build/notebooks/03_y.ipynb`, a record of what went in and came out, `03_y.json`, and
`paper_figures/manifest.json`. Contents are compared, never times. One process at a time writes to these folders, from
its first notebook to its last. Only the standard library is imported until there is something to run.
"""

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from qatlib.make import execution, manifest, records
from qatlib.make.execution import PipelineError
from qatlib.system import disk
from qatlib.system.console import plain
from qatlib.system.paths import BUILD, FIGURES, NOTEBOOKS
from qatlib.system.profiles import SEEDS

SERIES = set(NOTEBOOKS.glob("[0-9]*.ipynb"))
TASKS = {"forecast": None, "classify": "13_classify", "detect": "14_detect"}  # and the notebook that it has alone
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _profile(text):
    if text not in SEEDS:
        raise ValueError("choose quick or full")
    return text


def _task(text):
    if text not in TASKS:
        raise ValueError(f"choose one of {', '.join(TASKS)}")
    return text


def _data(text):
    path = Path(os.path.expanduser(text))  # unlike Path's, it leaves a user that there is not as it is
    if os.path.isfile(path):
        return str(path.absolute())
    if path.suffix or len(path.parts) > 1:
        what = "this is no regular file" if os.path.exists(path) else "there is no such file"
        raise ValueError(f"{what}, seen from {Path.cwd()}")
    return text  # a name, which qatlib.data judges


def _clean(text):
    if text not in ("0", "1"):
        raise ValueError("choose 0 or 1")
    return text == "1"


def _samples(text):
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError("give a number of samples, 1 or more")
    return int(text)


READERS = {
    "profile": _profile, "task": _task, "data": _data, "target": str, "inputs": str, "clean": _clean,
    "context": _samples, "horizon": _samples,
}  # fmt: skip


def read_parameters(environ):
    """Notebook parameters from PROFILE, DATA, ...; one that is unset or empty is left to the notebook. PipelineError
    for a bad one."""
    parameters = {}
    for name, read in READERS.items():
        text = environ.get(name.upper())
        try:
            parameters.update({name: read(text)} if text else {})
            (text or "").encode()
        except UnicodeEncodeError:
            raise PipelineError(f"{name.upper()}={plain(text)}: no UTF-8") from None
        except ValueError as error:
            raise PipelineError(f"{name.upper()}={plain(text)}: {plain(str(error))}") from None
    return parameters


def main(arguments):
    """Run the notebooks or leave them; -> the exit status."""
    notebooks = [Path(argument).resolve() for argument in arguments]
    if not notebooks or not all(notebook.is_file() for notebook in notebooks):
        print(f"no such notebook\n\n{__doc__}", file=sys.stderr)
        return 2
    label = "[figures]"
    try:
        if own := TASKS[read_parameters(os.environ).get("task", "forecast")]:
            notebooks = [notebook for notebook in notebooks if notebook.stem == own] or notebooks
        with alone() as tell, _engines_built_beside(set(notebooks) >= SERIES):
            ran = False
            for notebook in notebooks:
                siblings = sorted({notebook.stem, *(path.stem for path in notebook.parent.glob("[0-9]*.ipynb"))})
                label = f"[{siblings.index(notebook.stem) + 1}/{len(siblings)} {notebook.stem}]"
                tell(notebook.stem)
                ran |= finish(notebook, records.sources(notebook), label)
            if set(notebooks) >= SERIES and (ran or not (FIGURES / "README.md").is_file()):
                from qatlib.make import results  # which needs pandas

                results.write_report()
    except (PipelineError, OSError) as error:
        print(
            f"\n{_room() if getattr(error, 'errno', 0) in FULL else ''}{error}\n{label} not finished",
            file=sys.stderr,
            flush=True,
        )
        return 1
    return 0


@contextmanager
def alone():
    """Of all processes that run notebooks into these folders, one at a time. -> what tells the others which notebook
    runs.

    PipelineError names the one that is at it."""
    folders = sorted({BUILD, FIGURES})
    with ExitStack() as stack:
        try:
            for folder in (*folders, records.EXECUTED):
                disk.make(folder)
            locks = [stack.enter_context(disk.locked(folder, wait=0)) for folder in folders]
        except TimeoutError as error:
            raise PipelineError(f"another run of notebooks is going on: {plain(str(error))}") from None
        for folder in (*folders, records.EXECUTED):
            disk.clear(folder)
        yield lambda doing: [disk.sign(lock, doing) for lock in locks]


@contextmanager
def _engines_built_beside(wanted):
    """While the first notebooks run: the simulated engines that later ones need take a minute to build, of one core."""
    if not wanted:
        yield
        return
    code = "from qatlib.engine import CONFIGS, rtl; [rtl.build(config) for config in reversed(CONFIGS.values())]"
    command = [sys.executable, "-c", code]  # the first one last: notebook 00 needs it at once, and builds it
    builder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(builder.pid, signal.SIGKILL)
        builder.wait()


def _room():
    free = [
        f"{shutil.disk_usage(folder).free / 1e6:.0f} MB are free in {folder}" for folder in sorted({BUILD, FIGURES})
    ]
    return (
        f"the disk is full, or a quota or limit is reached ({', '.join(free)}): make room and start again, "
        f"finished runs are kept\n"
    )


def finish(notebook, sources, label):
    """Run the notebook if anything has changed; say so. -> whether it was run"""
    parameters = read_parameters(os.environ)
    key = records.fingerprint(notebook, parameters, sources)
    current = records.is_current(notebook.stem, key)
    if current:
        record = records.read(notebook.stem)
        print(f"{label} unchanged ({plain(record['about']['data'])}, {plain(record['about']['profile'])})", flush=True)
    else:
        print(f"{label} starts ({plain(', '.join(f'{k}={v}' for k, v in parameters.items()))})", flush=True)
        record = execution.run(notebook, parameters, key, label)
        print(f"{label} done in {record['seconds']:.0f} s", flush=True)
    if not current or not records.MANIFEST.is_file():
        manifest.write(notebook, record["about"])
    return not current


def _terminated(number, frame):
    """Unlike the default it unwinds, so that the kernel is shut down too."""
    logging.getLogger("asyncio").disabled = True  # it would tell at length that the cell was cut off
    print("\ninterrupted; finished runs are kept, and the next time goes on from them", file=sys.stderr, flush=True)
    sys.exit(128 + number)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _terminated)
    sys.exit(main(sys.argv[1:]))
