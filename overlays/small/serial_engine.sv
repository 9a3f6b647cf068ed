// The small engine behind a serial line: the bridge, the registers of the larger engine, the core. What a board adds is a clock. Everything that
// differs from board to board is in board_pkg, made by qatlib.engine.serial_line.
`default_nettype none

import engine_pkg::*;
import board_pkg::*;

module serial_engine (
    input  wire  clk,
    input  wire  resetn,
    input  wire  i_line,
    output wire  o_line,
    output wire  o_busy,  // the line, the bridge or the engine is at work
    output wire  o_irq    // a run is over, or an error
);
  wire [19:0] awaddr, araddr;
  wire awvalid, awready, arvalid, arready, rvalid, load, core_rst, start, core_running, bridge_busy;
  wire [31:0] wdata, rdata, data, memory_data, in_base, in_end, out_base, out_end;
  wire to_memory, memory_write, memory_ready;
  wire [$clog2(BYTES/4)-1:0] memory_address;
  wire [19:2] load_address;
  wire [3:0] core_cause, job_cause;
  wire [15:0] pc, finished, windows, context_counts, horizon;
  wire [16:0] anchor;

  // The end of a run is told by the interrupt alone: every start asks for one.
  wire to_control = awvalid && awready && awaddr == 20'(REG_CTRL);
  wire starts = to_control && wdata[0];
  logic running;
  always_ff @(posedge clk)
    if (!resetn || to_control && !starts || o_irq && !starts) running <= 1'b0;
    else if (starts) running <= 1'b1;
  assign o_busy = bridge_busy || running;

  bridge u_bridge (
      .clk, .rst(!resetn), .i_line, .o_line, .o_busy(bridge_busy),
      .m_axi_awaddr(awaddr), .m_axi_awvalid(awvalid), .m_axi_awready(awready), .m_axi_wdata(wdata),
      .m_axi_araddr(araddr), .m_axi_arvalid(arvalid), .m_axi_arready(arready), .m_axi_rdata(rdata), .m_axi_rvalid(rvalid),
      .o_memory(to_memory), .o_memory_write(memory_write), .o_memory_address(memory_address), .o_data(data),
      .i_memory_ready(memory_ready), .i_memory_data(memory_data)
  );
  control #(
      .CONFIG(CONFIG)
  ) u_control (
      .clk, .aresetn(resetn), .s_axi_awaddr(awaddr), .s_axi_awvalid(awvalid), .s_axi_awready(awready),
      .s_axi_wdata(wdata | {29'd0, starts, 2'b00}), .s_axi_wstrb(4'b1111), .s_axi_wvalid(awvalid), .s_axi_wready(), .s_axi_bresp(),
      .s_axi_bvalid(), .s_axi_bready(1'b1), .s_axi_araddr(araddr), .s_axi_arvalid(arvalid), .s_axi_arready(arready),
      .s_axi_rdata(rdata), .s_axi_rresp(), .s_axi_rvalid(rvalid), .s_axi_rready(1'b1), .irq(o_irq),
      .o_load(load), .o_load_address(load_address), .o_load_data(), .o_rst(core_rst), .o_start(start), .o_halt(),
      .i_drained(1'b1), .i_running(core_running), .i_core_cause(core_cause), .i_bus_cause(job_cause), .i_pc(pc), .i_finished(finished),
      .o_windows(windows), .o_in_base(in_base), .o_in_end(in_end), .o_out_base(out_base), .o_out_end(out_end),
      .o_context(context_counts), .o_horizon(horizon), .o_anchor(anchor)
  );
  small_core #(
      .CODE_DEPTH(CODE_DEPTH), .KV_DEPTH(KV_DEPTH), .RESIDUAL_DEPTH(RESIDUAL_DEPTH), .PARAM_DEPTH(PARAM_DEPTH), .ADD_DEPTH(ADD_DEPTH),
      .SOFTMAX_ROWS(SOFTMAX_ROWS), .PROGRAM_WORDS(PROGRAM_WORDS), .INPUT_WORDS(INPUT_WORDS), .OUTPUT_WORDS(OUTPUT_WORDS), .TABLES(TABLES),
      .BYTES(BYTES)
  ) u_core (
      .clk, .rst(core_rst), .i_start(start), .i_windows(windows), .i_in_base(in_base), .i_in_end(in_end), .i_out_base(out_base),
      .i_out_end(out_end), .i_context(context_counts), .i_horizon(horizon), .i_anchor(anchor), .o_job_cause(job_cause),
      .o_cause(core_cause), .o_pc(pc), .o_running(core_running), .o_finished(finished), .i_load(load), .i_load_address(load_address),
      .i_valid(to_memory), .i_write(memory_write), .i_address(memory_address), .i_data(data),
      .o_ready(memory_ready), .o_data(memory_data)
  );
endmodule

`default_nettype wire
