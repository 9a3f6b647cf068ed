"""A grid that was computed once."""

import shutil

import pytest

from qatlib.runs import scale_out
from qatlib.system import paths
from tests.runs.grid import GRID


@pytest.fixture(scope="module")
def collected(dataset, tmp_path_factory, in_process):
    """(table of the grid, the build folder it left)"""
    build = tmp_path_factory.mktemp("collected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BUILD", build)
        table = scale_out.collect(GRID, dataset, name="grid")
    return table, build


@pytest.fixture
def filled(build, collected):
    """The build folder with the grid already in it."""
    shutil.copytree(collected[1], build)
    return build
