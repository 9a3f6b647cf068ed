// A serial line, 8 bits, no parity, one stop bit; CLOCKS of the clock to a bit. Two modules, one for each direction.
`default_nettype none

// Bytes in: o_valid for one cycle; o_broken where the stop bit is missing. The line is sampled in the middle of each bit, found anew by each
// start bit, so that clocks may differ by 4 %.
module uart_in #(
    parameter int CLOCKS = 20,
    localparam int W = $clog2(CLOCKS)
) (
    input  wire        clk,
    input  wire        rst,
    input  wire        i_line,
    output logic       o_valid,
    output logic       o_broken,
    output logic [7:0] o_byte
);
  logic [1:0] line;  // it changes at any time: twice registered before anything depends on it
  logic busy;
  logic [3:0] bits;
  logic [W-1:0] left;
  always_ff @(posedge clk) begin
    line <= {line[0], i_line};
    o_valid <= 1'b0;
    if (rst) busy <= 1'b0;
    else if (!busy) begin
      busy <= !line[1];
      bits <= '0;
      left <= W'(CLOCKS / 2 - 1);
    end else if (left != 0) left <= left - 1'b1;
    else begin
      left <= W'(CLOCKS - 1);
      bits <= bits + 1'b1;
      o_byte <= bits == 9 ? o_byte : {line[1], o_byte[7:1]};  // the start bit, first, is shifted out again
      if (bits == 0 && line[1]) busy <= 1'b0;                 // a spike
      if (bits == 9) {busy, o_valid, o_broken} <= {1'b0, 1'b1, !line[1]};
    end
  end
endmodule

// Bytes out: taken with i_valid and o_ready.
module uart_out #(
    parameter int CLOCKS = 20,
    localparam int W = $clog2(CLOCKS)
) (
    input  wire        clk,
    input  wire        rst,
    input  wire        i_valid,
    input  wire  [7:0] i_byte,
    output wire        o_ready,
    output wire        o_line
);
  logic [8:0] bits;  // what is still to be sent, lowest first; the line's level is the lowest
  logic [3:0] count;
  logic [W-1:0] left;
  assign o_ready = count == 0;
  assign o_line = bits[0];
  always_ff @(posedge clk)
    if (rst) begin
      bits <= '1;
      count <= '0;
    end else if (o_ready) begin
      left <= W'(CLOCKS - 1);
      if (i_valid) {bits, count} <= {i_byte, 1'b0, 4'd10};
    end else if (left != 0) left <= left - 1'b1;
    else begin
      left <= W'(CLOCKS - 1);
      bits <= {1'b1, bits[8:1]};
      count <= count - 1'b1;
    end
endmodule

`default_nettype wire
