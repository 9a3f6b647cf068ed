// clamp(z + ((a * m + half) >> n)), or without the half, of a product or sum that is already there (`scale_clamp`).
// n is given less one. Shifting by n - 1 leaves the rounding bit in bit 0; values that no code can reach saturate on the way.
// Timing of scale_clamp: i_value and i_shift in cycle 0, zero point and limits in cycle 2, o_code in cycle 3.
`default_nettype none

module scale_clamp #(
    parameter int BITS = 43,    // of the value
    parameter int OUT = 10,     // bits that the shifted value is saturated to
    parameter bit ROUND = 1'b1  // round half up; else floor
) (
    input  wire                     clk,
    input  wire  signed [BITS-1:0]  i_value,
    input  wire  [5:0]              i_shift,  // n - 1
    input  wire  signed [8:0]       i_zero,
    input  wire  signed [8:0]       i_low,
    input  wire  signed [8:0]       i_high,
    output logic signed [8:0]       o_code,
    output logic signed [OUT:0]     o_wide    // before the clamp
);
  localparam int KEEP = OUT + 8;  // what a shift by up to 7 more can bring into view
  localparam int WIDE = (BITS > KEEP ? BITS : KEEP) + 32;

  wire [WIDE-1:0] extended = {{(WIDE - BITS) {i_value[BITS-1]}}, i_value};
  logic [WIDE-1:0] coarse_d;
  logic signed [KEEP-1:0] coarse, fine_d;
  logic [2:0] rest;
  logic over, sign;
  logic signed [OUT:0] fine;

  always_comb begin
    case (i_shift[5:3])
      3'd0: coarse_d = extended;
      3'd1: coarse_d = {{8{extended[WIDE-1]}}, extended[WIDE-1:8]};
      3'd2: coarse_d = {{16{extended[WIDE-1]}}, extended[WIDE-1:16]};
      3'd3: coarse_d = {{24{extended[WIDE-1]}}, extended[WIDE-1:24]};
      default: coarse_d = {{32{extended[WIDE-1]}}, extended[WIDE-1:32]};
    endcase
    fine_d = coarse >>> rest;
  end

  wire signed [OUT+1:0] moved = (OUT + 2)'(fine) + (OUT + 2)'($signed({i_zero, ROUND}));  // 2 z + 1

  wire signed [OUT:0] result = moved[OUT+1:1];

  always_ff @(posedge clk) begin
    coarse <= coarse_d[KEEP-1:0];
    over   <= coarse_d[WIDE-1:KEEP-1] != {(WIDE - KEEP + 1) {i_value[BITS-1]}};
    sign   <= i_value[BITS-1];
    rest   <= i_shift[2:0];
    fine   <= over || fine_d[KEEP-1:OUT] != {(KEEP - OUT) {sign}} ? {sign, {OUT{!sign}}} : fine_d[OUT:0];
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
    input  wire  [5:0]           i_shift,
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
      .i_shift,
      .i_zero,
      .i_low,
      .i_high,
      .o_code,
      .o_wide
  );
endmodule

`default_nettype wire
