"""Exported models, and their files."""

import pytest

from qatlib.float_model.config import FAMILIES
from qatlib.quantised_model import qat
from qatlib.quantised_model.quantisers import QuantConfig


@pytest.fixture(scope="session")
def exported(float_model, quantised):
    return {
        family: qat.export(quantised(float_model(family), QuantConfig(4, 4, 8, 8, "asymmetric"))) for family in FAMILIES
    }


@pytest.fixture(scope="session")
def saved(float_model, quantised, tmp_path_factory):
    """(model, its file)"""
    model = qat.export(quantised(float_model("patch"), QuantConfig(4, 4, 8, 8, "asymmetric")))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model.save(path)
    return model, path


@pytest.fixture
def damaged(tmp_path):
    """Writes bytes to a file; -> its path."""

    def write(raw):
        path = tmp_path / "damaged.safetensors"
        path.write_bytes(raw)
        return path

    return write
