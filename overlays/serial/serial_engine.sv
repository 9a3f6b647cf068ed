// The engine behind a serial line: the engine, a memory for windows and forecasts, and the bridge to both. What a board adds is a clock.
// Everything that differs from board to board is in board_pkg, made by qatlib.engine.serial_line.
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
  wire rst = !resetn;
  wire [19:0] lite_awaddr, lite_araddr;
  wire lite_awvalid, lite_awready, lite_arvalid, lite_arready, lite_rvalid;
  wire [31:0] lite_wdata, lite_rdata, araddr, awaddr, data, memory_data;
  wire [7:0] arlen, awlen;
  wire arvalid, arready, rlast, rvalid, awvalid, awready, wlast, wvalid, wready, bvalid, bready;
  wire [63:0] rdata, wdata;
  wire [1:0] rresp, bresp;
  wire to_memory, memory_write, memory_ready;
  wire [$clog2(BYTES/4)-1:0] memory_address;

  // The engine tells the end of a run by its interrupt alone: every start asks for one.
  wire bridge_busy;
  wire to_control = lite_awvalid && lite_awready && lite_awaddr == 20'(REG_CTRL);
  wire start = to_control && lite_wdata[0];
  logic running;
  always_ff @(posedge clk)
    if (rst || to_control && !start || o_irq && !start) running <= 1'b0;
    else if (start) running <= 1'b1;
  assign o_busy = bridge_busy || running;

  bridge u_bridge (
      .clk,
      .rst,
      .i_line,
      .o_line,
      .o_busy(bridge_busy),
      .m_axi_awaddr(lite_awaddr),
      .m_axi_awvalid(lite_awvalid),
      .m_axi_awready(lite_awready),
      .m_axi_wdata(lite_wdata),
      .m_axi_araddr(lite_araddr),
      .m_axi_arvalid(lite_arvalid),
      .m_axi_arready(lite_arready),
      .m_axi_rdata(lite_rdata),
      .m_axi_rvalid(lite_rvalid),
      .o_memory(to_memory),
      .o_memory_write(memory_write),
      .o_memory_address(memory_address),
      .o_data(data),
      .i_memory_ready(memory_ready),
      .i_memory_data(memory_data)
  );
  window_memory u_windows (
      .clk,
      .rst,
      .i_valid(to_memory),
      .i_write(memory_write),
      .i_address(memory_address),
      .i_data(data),
      .o_ready(memory_ready),
      .o_data(memory_data),
      .s_axi_araddr(araddr),
      .s_axi_arlen(arlen),
      .s_axi_arvalid(arvalid),
      .s_axi_arready(arready),
      .s_axi_rdata(rdata),
      .s_axi_rresp(rresp),
      .s_axi_rlast(rlast),
      .s_axi_rvalid(rvalid),
      .s_axi_awaddr(awaddr),
      .s_axi_awlen(awlen),
      .s_axi_awvalid(awvalid),
      .s_axi_awready(awready),
      .s_axi_wdata(wdata),
      .s_axi_wlast(wlast),
      .s_axi_wvalid(wvalid),
      .s_axi_wready(wready),
      .s_axi_bresp(bresp),
      .s_axi_bvalid(bvalid),
      .s_axi_bready(bready)
  );
  engine #(
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
      .OUTPUT_WORDS(OUTPUT_WORDS),
      .TABLES(TABLES),
      .DIVIDERS(DIVIDERS),
      .PARAM_BLOCKS(1'b1),
      .CONFIG(CONFIG)
  ) u_engine (
      .aclk(clk),
      .aresetn(resetn),
      .irq(o_irq),
      .s_axi_awaddr(lite_awaddr),
      .s_axi_awvalid(lite_awvalid),
      .s_axi_awready(lite_awready),
      .s_axi_wdata(lite_wdata | {29'd0, start, 2'b00}),
      .s_axi_wstrb(4'b1111),
      .s_axi_wvalid(lite_awvalid),
      .s_axi_wready(),
      .s_axi_bresp(),
      .s_axi_bvalid(),
      .s_axi_bready(1'b1),
      .s_axi_araddr(lite_araddr),
      .s_axi_arvalid(lite_arvalid),
      .s_axi_arready(lite_arready),
      .s_axi_rdata(lite_rdata),
      .s_axi_rresp(),
      .s_axi_rvalid(lite_rvalid),
      .s_axi_rready(1'b1),
      .m_axi_araddr(araddr),
      .m_axi_arlen(arlen),
      .m_axi_arsize(),
      .m_axi_arburst(),
      .m_axi_arcache(),
      .m_axi_arprot(),
      .m_axi_arvalid(arvalid),
      .m_axi_arready(arready),
      .m_axi_rdata(rdata),
      .m_axi_rresp(rresp),
      .m_axi_rlast(rlast),
      .m_axi_rvalid(rvalid),
      .m_axi_rready(),
      .m_axi_awaddr(awaddr),
      .m_axi_awlen(awlen),
      .m_axi_awsize(),
      .m_axi_awburst(),
      .m_axi_awcache(),
      .m_axi_awprot(),
      .m_axi_awvalid(awvalid),
      .m_axi_awready(awready),
      .m_axi_wdata(wdata),
      .m_axi_wstrb(),
      .m_axi_wlast(wlast),
      .m_axi_wvalid(wvalid),
      .m_axi_wready(wready),
      .m_axi_bresp(bresp),
      .m_axi_bvalid(bvalid),
      .m_axi_bready(bready)
  );
endmodule

`default_nettype wire
