// A forecasting Transformer in integers, run from a program: AXI4-Lite for registers, program and parameters, an AXI4 master for windows
// and forecasts, an interrupt when done. Configurations, registers and instructions: qatlib/engine/isa.py.
`default_nettype none

import engine_pkg::*;

module engine #(
    parameter int ROWS = 16,
    parameter int COLS = 4,
    parameter int WEIGHT_DEPTH = 512,
    parameter int CODE_DEPTH = 512,
    parameter int KV_DEPTH = 64,
    parameter int RESIDUAL_DEPTH = 1024,
    parameter int PARAM_DEPTH = 128,
    parameter int ADD_DEPTH = 64,
    parameter int SOFTMAX_ROWS = 64,
    parameter int PROGRAM_WORDS = 1024,
    parameter int INPUT_WORDS = 256,
    parameter int OUTPUT_WORDS = 32,
    parameter int TABLES = 8,
    parameter int DIVIDERS = 2,
    parameter bit PARAM_BLOCKS = 1'b0,  // channels' parameters in block memory, for a device with small LUT memories
    parameter logic [31:0] CONFIG = 0
) (
    input  wire         aclk,
    input  wire         aresetn,
    output wire         irq,
    input  wire  [19:0] s_axi_awaddr,
    input  wire         s_axi_awvalid,
    output wire         s_axi_awready,
    input  wire  [31:0] s_axi_wdata,
    input  wire  [3:0]  s_axi_wstrb,
    input  wire         s_axi_wvalid,
    output wire         s_axi_wready,
    output wire  [1:0]  s_axi_bresp,
    output wire         s_axi_bvalid,
    input  wire         s_axi_bready,
    input  wire  [19:0] s_axi_araddr,
    input  wire         s_axi_arvalid,
    output wire         s_axi_arready,
    output wire  [31:0] s_axi_rdata,
    output wire  [1:0]  s_axi_rresp,
    output wire         s_axi_rvalid,
    input  wire         s_axi_rready,
    output wire  [31:0] m_axi_araddr,
    output wire  [7:0]  m_axi_arlen,
    output wire  [2:0]  m_axi_arsize,
    output wire  [1:0]  m_axi_arburst,
    output wire  [3:0]  m_axi_arcache,
    output wire  [2:0]  m_axi_arprot,
    output wire         m_axi_arvalid,
    input  wire         m_axi_arready,
    input  wire  [63:0] m_axi_rdata,
    input  wire  [1:0]  m_axi_rresp,
    input  wire         m_axi_rlast,
    input  wire         m_axi_rvalid,
    output wire         m_axi_rready,
    output wire  [31:0] m_axi_awaddr,
    output wire  [7:0]  m_axi_awlen,
    output wire  [2:0]  m_axi_awsize,
    output wire  [1:0]  m_axi_awburst,
    output wire  [3:0]  m_axi_awcache,
    output wire  [2:0]  m_axi_awprot,
    output wire         m_axi_awvalid,
    input  wire         m_axi_awready,
    output wire  [63:0] m_axi_wdata,
    output wire  [7:0]  m_axi_wstrb,
    output wire         m_axi_wlast,
    output wire         m_axi_wvalid,
    input  wire         m_axi_wready,
    input  wire  [1:0]  m_axi_bresp,
    input  wire         m_axi_bvalid,
    output wire         m_axi_bready
);
  wire load, rst, start, halt, drained, running;
  wire [19:2] load_address;
  wire [15:0] finished, windows;
  wire [31:0] load_data, in_base, in_end, out_base, out_end;
  wire [3:0] core_cause, bus_cause;
  wire [15:0] pc, context_counts, horizon, window_anchor, count;
  wire [16:0] anchor;
  wire input_ready, free_input, output_ready, count_valid, window_end;
  wire [$clog2(INPUT_WORDS)-1:0] input_address, wanted;
  wire missing;
  wire [63:0] input_word;

  control #(
      .CONFIG(CONFIG)
  ) u_control (
      .clk(aclk),
      .aresetn,
      .s_axi_awaddr,
      .s_axi_awvalid,
      .s_axi_awready,
      .s_axi_wdata,
      .s_axi_wstrb,
      .s_axi_wvalid,
      .s_axi_wready,
      .s_axi_bresp,
      .s_axi_bvalid,
      .s_axi_bready,
      .s_axi_araddr,
      .s_axi_arvalid,
      .s_axi_arready,
      .s_axi_rdata,
      .s_axi_rresp,
      .s_axi_rvalid,
      .s_axi_rready,
      .irq,
      .o_load(load),
      .o_load_address(load_address),
      .o_load_data(load_data),
      .o_rst(rst),
      .o_start(start),
      .o_halt(halt),
      .i_drained(drained),
      .i_running(running),
      .i_core_cause(core_cause),
      .i_bus_cause(bus_cause),
      .i_pc(pc),
      .i_finished(finished),
      .o_windows(windows),
      .o_in_base(in_base),
      .o_in_end(in_end),
      .o_out_base(out_base),
      .o_out_end(out_end),
      .o_context(context_counts),
      .o_horizon(horizon),
      .o_anchor(anchor)
  );

  bus #(
      .INPUT_WORDS(INPUT_WORDS),
      .OUTPUT_WORDS(OUTPUT_WORDS)
  ) u_bus (
      .clk(aclk),
      .aresetn,
      .i_rst(rst),
      .i_start(start),
      .i_halt(halt),
      .o_drained(drained),
      .o_cause(bus_cause),
      .o_finished(finished),
      .i_windows(windows),
      .i_in_base(in_base),
      .i_in_end(in_end),
      .i_out_base(out_base),
      .i_out_end(out_end),
      .i_context(context_counts),
      .i_horizon(horizon),
      .i_anchor(anchor),
      .o_input_ready(input_ready),
      .i_wanted(wanted),
      .o_missing(missing),
      .o_anchor(window_anchor),
      .i_input_address(input_address),
      .o_input_word(input_word),
      .i_free_input(free_input),
      .o_output_ready(output_ready),
      .i_count_valid(count_valid),
      .i_count(count),
      .i_window_end(window_end),
      .m_axi_araddr,
      .m_axi_arlen,
      .m_axi_arvalid,
      .m_axi_arready,
      .m_axi_rdata,
      .m_axi_rresp,
      .m_axi_rlast,
      .m_axi_rvalid,
      .m_axi_rready,
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
  assign {m_axi_arsize, m_axi_arburst, m_axi_arcache, m_axi_arprot} = {3'd3, 2'b01, 4'b0011, 3'b000};
  assign {m_axi_awsize, m_axi_awburst, m_axi_awcache, m_axi_awprot} = {3'd3, 2'b01, 4'b0011, 3'b000};
  assign m_axi_wstrb = '1;

  core #(
      .ROWS(ROWS),
      .COLS(COLS),
      .WEIGHT_DEPTH(WEIGHT_DEPTH),
      .CODE_DEPTH(CODE_DEPTH),
      .KV_DEPTH(KV_DEPTH),
      .RESIDUAL_DEPTH(RESIDUAL_DEPTH),
      .PARAM_DEPTH(PARAM_DEPTH),
      .ADD_DEPTH(ADD_DEPTH),
      .SOFTMAX_ROWS(SOFTMAX_ROWS),
      .PROGRAM_WORDS(PROGRAM_WORDS),
      .INPUT_WORDS(INPUT_WORDS),
      .TABLES(TABLES),
      .DIVIDERS(DIVIDERS),
      .PARAM_BLOCKS(PARAM_BLOCKS)
  ) u_core (
      .clk(aclk),
      .rst,
      .i_start(start),
      .i_windows(windows),
      .o_cause(core_cause),
      .o_pc(pc),
      .o_running(running),
      .i_load(load),
      .i_load_address(load_address),
      .i_load_data(load_data),
      .i_input_ready(input_ready),
      .i_anchor(window_anchor),
      .o_wanted(wanted),
      .i_missing(missing),
      .o_input_address(input_address),
      .i_input_word(input_word),
      .o_free_input(free_input),
      .i_output_ready(output_ready),
      .o_count_valid(count_valid),
      .o_count(count),
      .o_window_end(window_end)
  );
endmodule

`default_nettype wire
