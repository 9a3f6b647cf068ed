// ULX3S: 25 MHz to the clock of the engine, the serial line of its FT231X, and lights: power, the line or the engine at work, a run over.
`default_nettype none

import board_pkg::*;

module top (
    input  wire       clk_25mhz,
    input  wire       ftdi_txd,    // what the computer sends
    output wire       ftdi_rxd,
    output wire [2:0] led,
    output wire       wifi_gpio0   // held high, or the board's ESP32 takes the FPGA over
);
  wire clk, locked, busy, irq;
  assign wifi_gpio0 = 1'b1;
  assign led = {irq, busy, 1'b1};

  // Charge pump and filter as ecppll gives them for this PLL; where 25 MHz times FEEDBACK / REFERENCE lies, board_pkg knows.
  (* FREQUENCY_PIN_CLKI = "25", ICP_CURRENT = "12", LPF_RESISTOR = "8", MFG_ENABLE_FILTEROPAMP = "1", MFG_GMCREF_SEL = "2" *)
  EHXPLLL #(
      .PLLRST_ENA("DISABLED"),
      .INTFB_WAKE("DISABLED"),
      .STDBY_ENABLE("DISABLED"),
      .DPHASE_SOURCE("DISABLED"),
      .OUTDIVIDER_MUXA("DIVA"),
      .CLKI_DIV(REFERENCE),
      .CLKOP_ENABLE("ENABLED"),
      .CLKOP_DIV(OUTPUT),
      .CLKOP_CPHASE(OUTPUT / 2),
      .CLKOP_FPHASE(0),
      .FEEDBK_PATH("CLKOP"),
      .CLKFB_DIV(FEEDBACK)
  ) u_pll (
      .CLKI(clk_25mhz),
      .CLKFB(clk),
      .CLKOP(clk),
      .LOCK(locked),
      .RST(1'b0),
      .STDBY(1'b0),
      .PHASESEL0(1'b0),
      .PHASESEL1(1'b0),
      .PHASEDIR(1'b1),
      .PHASESTEP(1'b1),
      .PHASELOADREG(1'b1),
      .PLLWAKESYNC(1'b0),
      .ENCLKOP(1'b0)
  );

  logic [15:0] settled = '0;  // cycles with a stable clock
  logic resetn = 1'b0;
  always_ff @(posedge clk or negedge locked)
    if (!locked) {settled, resetn} <= '0;
    else {settled, resetn} <= {settled == '1 ? settled : settled + 1'b1, settled == '1};

  serial_engine u_engine (
      .clk,
      .resetn,
      .i_line(ftdi_txd),
      .o_line(ftdi_rxd),
      .o_busy(busy),
      .o_irq(irq)
  );
endmodule

`default_nettype wire
