// clamp(z + ((value + half) >> n)), or without the half. The shift by n - 1 is done in steps of 16, 4 and 1, with a flag for what no longer
// fits; one bit more than the result is kept, so that rounding and zero point are one addition: z + ((v + 1) >> 1) = (v + 2 z + 1) >> 1.
// Timing: i_value and i_shift in cycle 0, zero point and limits in cycle 2, o_code in cycle 3.
`default_nettype none

module scale_clamp #(
    parameter int BITS = 43,    // of the value
    parameter int OUT = 10,     // bits that the shifted value is saturated to; no code lies further from its zero point
    parameter bit ROUND = 1'b1  // round half up; else floor
) (
    input  wire                     clk,
    input  wire  signed [BITS-1:0]  i_value,
    input  wire  [5:0]              i_shift,  // n - 1; a bit that is always 0 costs nothing
    input  wire  signed [8:0]       i_zero,
    input  wire  signed [8:0]       i_low,
    input  wire  signed [8:0]       i_high,
    output logic signed [8:0]       o_code,
    output logic signed [OUT:0]     o_wide    // before the clamp
);
  localparam int A = OUT + 16, B = OUT + 4;                      // bits that later steps can bring into view
  localparam int WIDE = (BITS > A ? BITS : A) + 32;

  wire sign = i_value[BITS-1];
  wire [WIDE-1:0] value = {{(WIDE - BITS) {sign}}, i_value};
  logic [A-1:0] a;
  logic [B-1:0] b_d, b;
  logic [OUT:0] r_d;
  logic signed [OUT:0] r;
  logic over_a, over_d, over, sign_b, over_r;
  logic [1:0] rest;

  always_comb begin
    case (i_shift[5:4])
      2'd0: a = value[0+:A];
      2'd1: a = value[16+:A];
      default: a = value[32+:A];
    endcase
    over_a = i_shift[5:4] == 0 ? value[WIDE-1:A-1] != {(WIDE - A + 1) {sign}}
           : i_shift[5:4] == 1 ? value[WIDE-1:A+15] != {(WIDE - A - 15) {sign}}
           : value[WIDE-1:A+31] != {(WIDE - A - 31) {sign}};
    case (i_shift[3:2])
      2'd0: b_d = a[0+:B];
      2'd1: b_d = a[4+:B];
      2'd2: b_d = a[8+:B];
      default: b_d = a[12+:B];
    endcase
    over_d = over_a || (i_shift[3:2] == 0 ? a[A-1:B-1] != {(A - B + 1) {sign}}
                      : i_shift[3:2] == 1 ? a[A-1:B+3] != {(A - B - 3) {sign}}
                      : i_shift[3:2] == 2 ? a[A-1:B+7] != {(A - B - 7) {sign}}
                      : a[A-1:B+11] != {(A - B - 11) {sign}});
    case (rest)
      2'd0: r_d = b[0+:OUT+1];
      2'd1: r_d = b[1+:OUT+1];
      2'd2: r_d = b[2+:OUT+1];
      default: r_d = b[3+:OUT+1];
    endcase
    over_r = over || (rest == 0 ? b[B-1:OUT] != {(B - OUT) {sign_b}}
                    : rest == 1 ? b[B-1:OUT+1] != {(B - OUT - 1) {sign_b}}
                    : rest == 2 ? b[B-1:OUT+2] != {(B - OUT - 2) {sign_b}}
                    : b[B-1] != sign_b);
  end

  wire signed [OUT+1:0] moved = (OUT + 2)'(r) + (OUT + 2)'($signed({i_zero, ROUND}));
  wire signed [OUT:0] result = moved[OUT+1:1];

  always_ff @(posedge clk) begin
    b      <= b_d;
    over   <= over_d;
    sign_b <= sign;
    rest   <= i_shift[1:0];
    r      <= over_r ? {sign_b, {OUT{!sign_b}}} : r_d;
    o_wide <= result;
    o_code <= result > (OUT + 1)'(i_high) ? i_high : result < (OUT + 1)'(i_low) ? i_low : result[8:0];
  end
endmodule

// a * m, scaled and clamped. Timing: operands in cycle 0, shift in cycle 3, zero point and limits in cycle 5, o_code in cycle 6.
module requantise #(
    parameter int A = 25,
    parameter int M = 18,
    parameter int OUT = 10
) (
    input  wire                  clk,
    input  wire  signed [A-1:0]  i_a,
    input  wire  signed [M-1:0]  i_m,
    input  wire  [4:0]           i_shift,  // half of it: m is given twice as large where n - 1 is odd
    input  wire  signed [8:0]    i_zero,
    input  wire  signed [8:0]    i_low,
    input  wire  signed [8:0]    i_high,
    output wire  signed [8:0]    o_code,
    output wire  signed [OUT:0]  o_wide
);
  logic signed [A-1:0] a;
  logic signed [M-1:0] m;
  logic signed [A+M-1:0] product, value;

  always_ff @(posedge clk) begin
    a <= i_a;
    m <= i_m;
    product <= a * m;
    value <= product;
  end

  scale_clamp #(
      .BITS(A + M),
      .OUT(OUT)
  ) u_scale (
      .clk,
      .i_value(value),
      .i_shift({i_shift, 1'b0}),
      .i_zero,
      .i_low,
      .i_high,
      .o_code,
      .o_wide
  );
endmodule

`default_nettype wire
