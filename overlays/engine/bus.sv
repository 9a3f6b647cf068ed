// AXI4 master: windows out of the input buffer, forecasts into the output buffer, never outside of the two. Reading and writing are blocks of
// their own, and say when their outputs are valid; here is what they share: whether the job is one, and the first error, valid in o_cause
// until the run is over.
`default_nettype none

import engine_pkg::*;

module bus #(
    parameter int INPUT_WORDS = 256,
    parameter int OUTPUT_WORDS = 32,
    localparam int IW = $clog2(INPUT_WORDS)
) (
    input  wire          clk,
    input  wire          aresetn,
    input  wire          i_rst,      // no run is on
    input  wire          i_start,
    input  wire          i_halt,
    output wire          o_drained,
    output logic [3:0]   o_cause,
    output wire  [15:0]  o_finished,
    input  wire  [15:0]  i_windows,
    input  wire  [31:0]  i_in_base,
    input  wire  [31:0]  i_in_end,
    input  wire  [31:0]  i_out_base,
    input  wire  [31:0]  i_out_end,
    input  wire  [15:0]  i_context,
    input  wire  [15:0]  i_horizon,
    input  wire  [16:0]  i_anchor,
    // the engine's side
    output wire          o_input_ready,  // the anchor of the next window is known
    input  wire  [IW-1:0] i_wanted,      // word of it that the engine is about to read,
    output wire          o_missing,      // which is not there yet
    output wire  [15:0]  o_anchor,
    input  wire  [IW-1:0] i_input_address,
    output wire  [63:0]  o_input_word,
    input  wire          i_free_input,   // late enough for the last counts to have been read
    output wire          o_output_ready,
    input  wire          i_count_valid,
    input  wire  [15:0]  i_count,
    input  wire          i_window_end,
    // AXI4
    output wire  [31:0]  m_axi_araddr,
    output wire  [7:0]   m_axi_arlen,
    output wire          m_axi_arvalid,
    input  wire          m_axi_arready,
    input  wire  [63:0]  m_axi_rdata,
    input  wire  [1:0]   m_axi_rresp,
    input  wire          m_axi_rlast,
    input  wire          m_axi_rvalid,
    output wire          m_axi_rready,
    output wire  [31:0]  m_axi_awaddr,
    output wire  [7:0]   m_axi_awlen,
    output wire          m_axi_awvalid,
    input  wire          m_axi_awready,
    output wire  [63:0]  m_axi_wdata,
    output wire          m_axi_wlast,
    output wire          m_axi_wvalid,
    input  wire          m_axi_wready,
    input  wire  [1:0]   m_axi_bresp,
    input  wire          m_axi_bvalid,
    output wire          m_axi_bready
);
  logic checked, bad_job;
  wire read_drained, write_drained, read_outside, write_outside;
  assign o_drained = read_drained && write_drained;

  bus_read #(
      .INPUT_WORDS(INPUT_WORDS)
  ) u_read (
      .clk,
      .aresetn,
      .i_rst,
      .i_start,
      .i_checked(checked),
      .i_bad_job(bad_job),
      .o_drained(read_drained),
      .o_outside(read_outside),
      .i_windows,
      .i_in_base,
      .i_in_end,
      .i_context,
      .i_anchor,
      .o_input_ready,
      .i_wanted,
      .o_missing,
      .o_anchor,
      .i_input_address,
      .o_input_word,
      .i_free_input,
      .m_axi_araddr,
      .m_axi_arlen,
      .m_axi_arvalid,
      .m_axi_arready,
      .m_axi_rdata,
      .m_axi_rlast,
      .m_axi_rvalid,
      .m_axi_rready
  );
  bus_write #(
      .OUTPUT_WORDS(OUTPUT_WORDS)
  ) u_write (
      .clk,
      .aresetn,
      .i_rst,
      .i_start,
      .i_halt,
      .o_drained(write_drained),
      .o_outside(write_outside),
      .o_finished,
      .i_out_base,
      .i_out_end,
      .i_horizon,
      .o_output_ready,
      .i_count_valid,
      .i_count,
      .i_window_end,
      .m_axi_awaddr,
      .m_axi_awlen,
      .m_axi_awvalid,
      .m_axi_awready,
      .m_axi_wdata,
      .m_axi_wlast,
      .m_axi_wvalid,
      .m_axi_wready,
      .m_axi_bresp,
      .m_axi_bvalid,
      .m_axi_bready
  );

  always_ff @(posedge clk)
    bad_job <= i_in_base[2:0] != 0 || i_out_base[2:0] != 0 || i_context > 4 * INPUT_WORDS || i_horizon > 4 * OUTPUT_WORDS;
  always_ff @(posedge clk)
    if (!aresetn) begin
      checked <= 1'b0;
      o_cause <= CAUSE_NONE;
    end else begin
      checked <= !i_start && !i_rst;
      if (i_rst && !i_halt) o_cause <= CAUSE_NONE;
      else if (o_cause == CAUSE_NONE) begin
        if (checked && (bad_job || read_outside || write_outside)) o_cause <= CAUSE_BUFFERS;
        if (m_axi_rvalid && m_axi_rready && m_axi_rresp[1]) o_cause <= CAUSE_READ;
        if (m_axi_bvalid && m_axi_bresp[1]) o_cause <= CAUSE_WRITE;
      end
    end
endmodule

`default_nettype wire
