// Forecasts, a count at a time: a code less its zero point on the way into stage 1, the anchor added to what comes out of it. And anchors: an
// instruction without destination or add makes one, of a sample whose difference comes out unscaled, or (matmul) of a constant bias.
// Timing: a code in cycle 2 of its issue, o_code_7 in cycle 7; the scaled difference in cycle 13, o_count in cycle 14, a forecast with
// o_count_valid, an anchor with o_anchor_valid.
`default_nettype none

import engine_pkg::*;

module forecast (
    input  wire                            clk,
    input  wire                            rst,
    // into stage 1
    input  wire engine_pkg::instruction_t  i_current,  // cycle 0
    input  wire  [7:0]                     i_code_2,
    output logic signed [9:0]              o_code_7,
    // out of stage 1
    input  wire engine_pkg::instruction_t  i_at_12,
    input  wire engine_pkg::instruction_t  i_at_13,
    input  wire                            i_valid_13,
    input  wire  signed [18:0]             i_wide_13,
    input  wire  [16:0]                    i_anchor,
    output logic                           o_count_valid,
    output logic                           o_anchor_valid,
    output logic [15:0]                    o_count
);
  logic unsigned_1, unsigned_2;
  wire [8:0] zero_3;
  logic signed [8:0] code_3;
  logic signed [9:0] code_4, code_5, code_6;
  delay #(.BITS(9), .N(3)) u_zero_3 (.clk, .i(i_current.z2), .o(zero_3));
  always_ff @(posedge clk) begin
    unsigned_1 <= i_current.x_unsigned;
    unsigned_2 <= unsigned_1;
    code_3 <= $signed({!unsigned_2 && i_code_2[7], i_code_2});
    code_4 <= 10'(code_3) - 10'($signed(zero_3));
    code_5 <= code_4;
    code_6 <= code_5;
    o_code_7 <= code_6;
  end

  logic constant_13;
  wire is_output_13 = i_at_13.opcode == OP_OUTPUT;
  wire signed [19:0] count_13 = 20'(i_wide_13) + (constant_13 ? 20'sd0 : 20'($signed(i_anchor)));
  always_ff @(posedge clk) begin
    constant_13 <= i_at_12.opcode == OP_MATMUL;
    o_count_valid <= !rst && i_valid_13 && is_output_13;
    o_anchor_valid <= !rst && i_valid_13 && !is_output_13 && i_at_13.dest == TO_NONE && !i_at_13.add;
    o_count <= count_13 > 20'sd32767 ? 16'h7FFF : count_13 < -20'sd32768 ? 16'h8000 : count_13[15:0];
  end
endmodule

`default_nettype wire
