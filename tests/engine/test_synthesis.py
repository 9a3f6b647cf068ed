"""What synthesis counts and says; the engine itself takes minutes and is `make synth`."""

from types import SimpleNamespace

import pytest

from qatlib.engine import isa, rtl, synthesis
from qatlib.system.toolchain import BuildError

TINY = """module engine #(parameter int WIDTH = 4) (
    input wire aclk, input wire [WIDTH-1:0] i, output logic [WIDTH-1:0] o);
  always_ff @(posedge aclk) o <= o + i;
endmodule
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A counter in place of the engine; -> its texts, to be changed, and a configuration of 6 bits."""
    texts = {"engine.sv": TINY}
    monkeypatch.setattr(rtl, "CACHE", tmp_path)
    monkeypatch.setattr(rtl, "sources", lambda: texts)
    return texts, SimpleNamespace(name="xc7s15", parameters={"WIDTH": 6})


def test_memories_and_delays_count_as_the_luts_they_take():
    cells = {
        "LUT6": 10,
        "LUT2": 3,
        "INV": 2,
        "RAM64M": 5,
        "RAM32M": 1,
        "RAM128X1D": 1,
        "SRL16E": 7,
        "SRLC32E": 1,
        "CARRY4": 9,
    }
    cells |= {"FDRE": 20, "FDSE": 1, "DSP48E1": 4, "RAMB36E1": 2, "RAMB18E1": 3}
    assert synthesis.count(cells) == synthesis.Report(lut=10 + 3 + 2 + 20 + 4 + 4 + 7 + 1, ff=21, dsp=4, bram36=3.5)
    with pytest.raises(KeyError, match="RAM512X1S"):
        synthesis.count({"RAM512X1S": 1})


def test_a_report_against_its_budget():
    chip = synthesis.DEVICES["xc7s15"]
    assert synthesis.Report(8000, 16000, 20, 10).fits(chip)
    assert not synthesis.Report(8001, 0, 0, 0).fits(chip)
    assert synthesis.Report(4000, 0, 5, 10).against(chip)["dsp"] == (5, 20, 0.25)
    assert set(isa.CONFIGS) <= set(synthesis.DEVICES)


def test_parameters_reach_the_design_and_the_result_is_kept(tiny, monkeypatch):
    _, config = tiny
    assert synthesis.synthesise(config).ff == 6
    monkeypatch.setattr(synthesis, "yosys", None)  # a second call must not need it
    assert synthesis.synthesise(config).ff == 6


def test_an_error_in_a_source_is_named(tiny):
    texts, config = tiny
    texts["engine.sv"] = TINY.replace("endmodule", "endmodul")
    with pytest.raises(BuildError, match=r"Yosys: .*engine.sv.*syntax error"):
        synthesis.synthesise(config)
