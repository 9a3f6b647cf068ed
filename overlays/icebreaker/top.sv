// iCEBreaker: 12 MHz to the clock of the engine, the serial line of its FT2232H (channel B), lights: the line or the engine at work, a run over.
`default_nettype none

import board_pkg::*;

module top (
    input  wire clk_12mhz,
    input  wire ftdi_tx,      // what the computer sends
    output wire ftdi_rx,
    output wire led_red_n,
    output wire led_green_n
);
  wire clk, locked, busy, irq;
  assign led_red_n = !busy;
  assign led_green_n = !irq;

  // 12 MHz times FEEDBACK, divided by 2^OUTPUT, which is REFERENCE; the filter is icepll's for a reference of 12 MHz
  SB_PLL40_PAD #(
      .FEEDBACK_PATH("SIMPLE"),
      .DIVR(4'd0),
      .DIVF(7'(FEEDBACK - 1)),
      .DIVQ(3'(OUTPUT)),
      .FILTER_RANGE(3'b001)
  ) u_pll (
      .PACKAGEPIN(clk_12mhz),
      .PLLOUTGLOBAL(clk),
      .LOCK(locked),
      .RESETB(1'b1),
      .BYPASS(1'b0)
  );

  logic [15:0] settled = '0;  // cycles with a stable clock
  logic resetn = 1'b0;
  always_ff @(posedge clk or negedge locked)
    if (!locked) {settled, resetn} <= '0;
    else {settled, resetn} <= {settled == '1 ? settled : settled + 1'b1, settled == '1};

  serial_engine u_engine (
      .clk,
      .resetn,
      .i_line(ftdi_tx),
      .o_line(ftdi_rx),
      .o_busy(busy),
      .o_irq(irq)
  );
endmodule

`default_nettype wire
