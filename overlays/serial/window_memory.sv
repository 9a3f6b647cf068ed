// Block memory between the engine and the serial line: an AXI4 slave of 64 bits for the engine, which goes first, and words of 32 bits for the
// bridge. The engine is always ready for what it asked for (bus_read, bus_write), so nothing waits for rready here.
`default_nettype none

import serial_pkg::*;
import board_pkg::*;

module window_memory #(
    localparam int AW = $clog2(BYTES / 8)
) (
    input  wire         clk,
    input  wire         rst,
    // the bridge: taken with i_valid and o_ready; what is read is valid in the next cycle
    input  wire         i_valid,
    input  wire         i_write,
    input  wire  [AW:0] i_address,  // in words of 32 bits
    input  wire  [31:0] i_data,
    output wire         o_ready,
    output wire  [31:0] o_data,
    // the engine
    input  wire  [31:0] s_axi_araddr,
    input  wire  [7:0]  s_axi_arlen,
    input  wire         s_axi_arvalid,
    output wire         s_axi_arready,
    output wire  [63:0] s_axi_rdata,
    output logic [1:0]  s_axi_rresp,
    output logic        s_axi_rlast,
    output logic        s_axi_rvalid,
    input  wire  [31:0] s_axi_awaddr,
    input  wire  [7:0]  s_axi_awlen,
    input  wire         s_axi_awvalid,
    output wire         s_axi_awready,
    input  wire  [63:0] s_axi_wdata,
    input  wire         s_axi_wlast,
    input  wire         s_axi_wvalid,
    output wire         s_axi_wready,
    output logic [1:0]  s_axi_bresp,
    output logic        s_axi_bvalid,
    input  wire         s_axi_bready
);
  // whether a burst leaves the memory
  function automatic logic outside(input logic [31:0] address, input logic [7:0] length);
    outside = address[31:28] != MEMORY || {1'b0, address[27:3]} + 26'(length) >= 26'(BYTES / 8);
  endfunction

  logic reading, writing, read_bad, write_bad, upper;
  logic [AW-1:0] read_at, write_at;
  logic [7:0] read_left;
  wire w_done = s_axi_wvalid && s_axi_wready;
  assign s_axi_arready = !reading;
  assign s_axi_awready = !writing && !s_axi_bvalid;
  assign s_axi_wready = writing;
  assign o_ready = i_write ? !w_done : !reading;

  wire by_bridge = i_valid && i_write && !w_done;
  wire [63:0] word;
  memory #(
      .LANES(2),
      .BITS(32),
      .DEPTH(BYTES / 8)
  ) u_memory (
      .clk,
      .i_write(w_done ? {2{!write_bad}} : by_bridge ? {i_address[0], !i_address[0]} : 2'b00),
      .i_write_address(w_done ? write_at : i_address[AW:1]),
      .i_data(w_done ? s_axi_wdata : {2{i_data}}),
      .i_read_address(reading ? read_at : i_address[AW:1]),
      .o_data(word)
  );
  assign s_axi_rdata = word;
  assign o_data = upper ? word[63:32] : word[31:0];

  always_ff @(posedge clk) begin
    upper <= i_address[0];
    if (rst) {reading, writing, s_axi_rvalid, s_axi_bvalid} <= '0;
    else begin
      s_axi_rvalid <= reading;
      s_axi_rlast <= read_left == 0;
      s_axi_rresp <= {read_bad, 1'b0};
      if (reading) begin
        read_at <= read_at + 1'b1;
        read_left <= read_left - 1'b1;
        reading <= read_left != 0;
      end else if (s_axi_arvalid) begin
        reading <= 1'b1;
        read_bad <= outside(s_axi_araddr, s_axi_arlen);
        read_at <= s_axi_araddr[AW+2:3];
        read_left <= s_axi_arlen;
      end
      if (s_axi_bready) s_axi_bvalid <= 1'b0;
      if (w_done) begin
        write_at <= write_at + 1'b1;
        if (s_axi_wlast) begin
          {writing, s_axi_bvalid} <= 2'b01;
          s_axi_bresp <= {write_bad, 1'b0};
        end
      end else if (s_axi_awvalid && s_axi_awready) begin
        writing <= 1'b1;
        write_bad <= outside(s_axi_awaddr, s_axi_awlen);
        write_at <= s_axi_awaddr[AW+2:3];
      end
    end
  end
endmodule

`default_nettype wire
