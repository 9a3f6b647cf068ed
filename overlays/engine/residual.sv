// Stage 2, the residual add: m1 * code + m2 * residual + c, scaled and clamped. Timing: an issue's addresses in cycle 0; the residual memory
// is read in cycle 12, so that its word is there with the code, in cycle 13; o_code_20 in cycle 20 (valid where the instruction adds), and
// in the residual memory for reads from cycle 21 on.
`default_nettype none

import engine_pkg::*;

module residual #(
    parameter int COLS = 4,
    parameter int RESIDUAL_DEPTH = 1024,
    parameter int ADD_DEPTH = 64,
    parameter bit PARAM_BLOCKS = 1'b0,
    localparam int RW = $clog2(RESIDUAL_DEPTH),
    localparam int QW = $clog2(ADD_DEPTH)
) (
    input  wire                            clk,
    // loading of positions, multipliers, shifts and constants
    input  wire                            i_load,
    input  wire  [3:0]                     i_region,
    input  wire  [19:2]                    i_load_address,
    input  wire  [31:0]                    i_load_data,
    // cycle 0
    input  wire  [RW-1:0]                  i_r_address,
    input  wire  [RW-1:0]                  i_s_address,
    input  wire  [QW-1:0]                  i_q_address,
    // cycle 13
    input  wire engine_pkg::instruction_t  i_at_13,
    input  wire  [COLS*9-1:0]              i_code_13,
    // cycles 19 and 20
    input  wire engine_pkg::instruction_t  i_at_19,
    input  wire                            i_write_20,
    output wire  [COLS*9-1:0]              o_code_20
);
  wire [RW-1:0] r_address_12, s_address_20;
  wire [QW-1:0] q_address_12;
  delay #(.BITS(RW), .N(12)) u_r_12 (.clk, .i(i_r_address), .o(r_address_12));
  delay #(.BITS(RW), .N(20)) u_s_20 (.clk, .i(i_s_address), .o(s_address_20));
  delay #(.BITS(QW), .N(12)) u_q_12 (.clk, .i(i_q_address), .o(q_address_12));

  // The residual memory
  localparam int R_WORDS = COLS / 4;
  wire [R_WORDS-1:0] r_lane = R_WORDS == 1 ? 1'b1 : R_WORDS'(1) << i_load_address[2+:(R_WORDS == 1 ? 1 : $clog2(R_WORDS))];
  wire r_load = i_load && i_region == REGION_RESIDUAL;
  wire [COLS*8-1:0] r_13;
  logic [COLS*8-1:0] s_data;
  always_comb for (int c = 0; c < COLS; c++) s_data[c*8+:8] = o_code_20[c*9+:8];
  memory #(
      .LANES(R_WORDS),
      .BITS(32),
      .DEPTH(RESIDUAL_DEPTH)
  ) u_residual (
      .clk,
      .i_write(r_load ? r_lane : {R_WORDS{i_write_20}}),
      .i_write_address(r_load ? i_load_address[2+$clog2(R_WORDS)+:RW] : s_address_20),
      .i_data(r_load ? {R_WORDS{i_load_data}} : s_data),
      .i_read_address(r_address_12),
      .o_data(r_13)
  );

  // Parameters: shift and m1, m2, c
  wire [COLS*22-1:0] add1_13;
  wire [COLS*17-1:0] add2_13;
  wire [COLS*32-1:0] addc_13;
  param_memory #(.COLS(COLS), .BITS(22), .DEPTH(ADD_DEPTH), .BLOCK(PARAM_BLOCKS)) u_add1 (
      .clk,
      .i_load(i_load && i_region == REGION_ADD1),
      .i_load_address,
      .i_load_data,
      .i_read_address(q_address_12),
      .o_data(add1_13)
  );
  param_memory #(.COLS(COLS), .BITS(17), .DEPTH(ADD_DEPTH), .BLOCK(PARAM_BLOCKS)) u_add2 (
      .clk,
      .i_load(i_load && i_region == REGION_ADD2),
      .i_load_address,
      .i_load_data,
      .i_read_address(q_address_12),
      .o_data(add2_13)
  );
  param_memory #(.COLS(COLS), .BITS(32), .DEPTH(ADD_DEPTH), .BLOCK(PARAM_BLOCKS)) u_addc (
      .clk,
      .i_load(i_load && i_region == REGION_ADDC),
      .i_load_address,
      .i_load_data,
      .i_read_address(q_address_12),
      .o_data(addc_13)
  );

  // The sum
  logic [COLS*5-1:0] shift_13;
  wire [COLS*5-1:0] shift_17;
  always_comb for (int c = 0; c < COLS; c++) shift_13[c*5+:5] = add1_13[c*22+17+:5];
  delay #(.BITS(COLS * 5), .N(4)) u_shift (.clk, .i(shift_13), .o(shift_17));
  for (genvar c = 0; c < COLS; c++) begin : g_lane
    wire signed [10:0] unused;
    logic signed [8:0] code, residual;
    logic signed [16:0] m1, m2;
    logic signed [31:0] offset_14, offset_15, sum_16, sum_17;
    logic signed [25:0] product1, product2, product2_16;
    always_ff @(posedge clk) begin
      code <= $signed(i_code_13[c*9+:9]);
      residual <= $signed({!i_at_13.r_unsigned && r_13[c*8+7], r_13[c*8+:8]});
      m1 <= $signed(add1_13[c*22+:17]);
      m2 <= $signed(add2_13[c*17+:17]);
      offset_14 <= $signed(addc_13[c*32+:32]);
      offset_15 <= offset_14;
      product1 <= m1 * code;
      product2 <= m2 * residual;
      sum_16 <= 32'(product1) + offset_15;
      product2_16 <= product2;
      sum_17 <= sum_16 + 32'(product2_16);
    end
    scale_clamp #(
        .BITS(32),
        .ROUND(1'b0)
    ) u_add (
        .clk,
        .i_value(sum_17),
        .i_shift({1'b0, shift_17[c*5+:5]}),
        .i_zero(i_at_19.z2),
        .i_low(i_at_19.low2),
        .i_high(i_at_19.high2),
        .o_code(o_code_20[c*9+:9]),
        .o_wide(unused)
    );
  end
endmodule

`default_nettype wire
