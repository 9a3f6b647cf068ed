// The two stages that a result passes. 1: scaled and clamped to a code; operands in cycle 6, code in cycle 11. 2: m1 * code + m2 * residual + c,
// scaled and clamped; residual and parameters in cycle 11, sum in cycle 16. Zero points and limits are those of the instruction.
`default_nettype none

import engine_pkg::*;

module small_stages (
    input  wire                           clk,
    input  wire engine_pkg::instruction_t i_current,
    // cycle 6
    input  wire  signed [24:0]            i_a,
    input  wire  [16:0]                   i_m,
    input  wire  [4:0]                    i_shift,
    // cycle 11
    output wire  signed [8:0]             o_code,
    output wire  signed [18:0]            o_wide,    // before the clamp
    input  wire  [7:0]                    i_residual,
    input  wire  [21:0]                   i_add1,    // shift, m1
    input  wire  [16:0]                   i_add2,
    input  wire  [31:0]                   i_addc,
    // cycle 16
    output wire  signed [8:0]             o_sum
);
  // a * m, of 25 and 17 bits, from halves that have a sign: of m the lower 16 bits, and 2^16 once for each of the upper two
  wire [31:0] low, high;
  wire signed [25:0] m_high = i_m[16] && i_m[15] ? {i_a, 1'b0} : i_m[16] || i_m[15] ? 26'(i_a) : 26'd0;
  wire signed [9:0] a_high = 10'($signed(i_a[24:16])) + 10'(i_a[15]);
  wire signed [42:0] product = 43'($signed({high, 16'd0})) + 43'($signed(low));
  logic signed [42:0] value_8;
  logic [4:0] shift_7, shift_8;
  multiply_add u_low (.clk, .i_a(i_a[15:0]), .i_b(i_m[15:0]), .i_c(32'd0), .o_sum(low));
  multiply_add u_high (.clk, .i_a(16'(a_high)), .i_b(i_m[15:0]), .i_c(32'(m_high)), .o_sum(high));
  scale_clamp #(.BITS(43), .OUT(18)) u_scale (
      .clk, .i_value(value_8), .i_shift({shift_8, 1'b0}), .i_zero(i_current.z1), .i_low(i_current.low1), .i_high(i_current.high1),
      .o_code(o_code), .o_wide(o_wide)
  );

  // m1 and m2 have 17 bits: where the upper two differ, what a block takes of them is 2^16 too much or too little
  wire signed [8:0] residual = {!i_current.r_unsigned && i_residual[7], i_residual};
  wire signed [9:0] code_m1 = i_add1[16] == i_add1[15] ? 10'd0 : i_add1[16] ? -(10'(o_code)) : 10'(o_code);
  wire signed [9:0] residual_m2 = i_add2[16] == i_add2[15] ? 10'd0 : i_add2[16] ? -(10'(residual)) : 10'(residual);
  wire signed [15:0] rest = 16'(code_m1) + 16'(residual_m2);
  wire [31:0] first, second;
  logic signed [31:0] sum_13;
  logic [4:0] shift_12, shift_13;
  multiply_add u_first (.clk, .i_a(16'(o_code)), .i_b(i_add1[15:0]), .i_c(i_addc), .o_sum(first));
  multiply_add u_second (.clk, .i_a(16'(residual)), .i_b(i_add2[15:0]), .i_c({rest, 16'd0}), .o_sum(second));
  wire signed [10:0] unused;
  scale_clamp #(.BITS(32), .ROUND(1'b0)) u_add (
      .clk, .i_value(sum_13), .i_shift({1'b0, shift_13}), .i_zero(i_current.z2), .i_low(i_current.low2), .i_high(i_current.high2),
      .o_code(o_sum), .o_wide(unused)
  );
  always_ff @(posedge clk) begin
    value_8 <= product;
    {shift_8, shift_7} <= {shift_7, i_shift};
    sum_13 <= first + second;
    {shift_13, shift_12} <= {shift_12, i_add1[21:17]};
  end
endmodule

`default_nettype wire
