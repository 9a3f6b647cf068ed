"""The bits of an iCE40 as a netlist again: its cells are wired as the bits say. (That they forecast what NumPy does,
`make verify-boards` finds out: it takes a minute.)"""

from qatlib.engine import readback

TEXT = """module chip (input a, output b);

wire n1;
// (0, 1, 'clk')
// (0, 2, 'lutff_0/in_1')
reg b = 0;
// (3, 4, 'slf_op_0')
wire n22;
// (0, 2, 'slf_op_7')
SB_PLL40_PAD #(
  .DIVR(4'b0000),
  .DIVF(7'b0110111),
  .DIVQ(3'b101)
) PLL_12_31 (
  .PLLOUTGLOBAL(n1),
  .LOCK(n22)
);
endmodule
"""


def test_wires_have_the_places_under_them():
    assert readback._nets(TEXT) == {
        (0, 1, "clk"): "n1", (0, 2, "lutff_0/in_1"): "n1", (3, 4, "slf_op_0"): "b", (0, 2, "slf_op_7"): "n22",
    }  # fmt: skip


def test_a_cells_pins_are_wired_by_their_places():
    pins = {"A_0": (0, 1, "clk"), "A_1": (9, 9, "nowhere"), "CE": (9, 9, "nowhere"), "O_0": (9, 9, "nowhere")}
    cell = readback._cell("SB_MAC16", 3, {"A_REG": 1}, pins, readback._nets(TEXT), ("O",))
    assert cell == ("SB_MAC16 #(.A_REG(1)) u_SB_MAC16_3 (.A({1'b0, n1}), .CE({1'b1}), .O({open_SB_MAC16_3_O_0}));")


def test_the_clock_is_that_of_the_plls_bits():
    assert readback._clock_hz(TEXT, 12) == 21_000_000
    assert readback._clock_hz(TEXT.replace("0110111", "0111111"), 12) == 24_000_000
