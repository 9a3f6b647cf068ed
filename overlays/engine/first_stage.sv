// Stage 1: what an issue has computed, scaled and clamped to codes. The multiplier is a channel's own, or softmax's r. Timing: operands, and
// the instruction that says which, in cycle 7; o_code_13 in cycle 13 (valid where the issue makes a code). Lane 0 also gives the value
// before the clamp, of which a count is made.
`default_nettype none

import engine_pkg::*;

module first_stage #(
    parameter int COLS = 4,
    parameter int PARAM_DEPTH = 128,
    parameter bit PARAM_BLOCKS = 1'b0,
    localparam int PW = $clog2(PARAM_DEPTH)
) (
    input  wire                            clk,
    // loading of multipliers and shifts
    input  wire                            i_load,
    input  wire  [3:0]                     i_region,
    input  wire  [19:2]                    i_load_address,
    input  wire  [31:0]                    i_load_data,
    // instructions
    input  wire engine_pkg::instruction_t  i_at_7,
    input  wire engine_pkg::instruction_t  i_at_12,
    // operands
    input  wire  [PW-1:0]                  i_p_address_6,
    input  wire  [COLS*25-1:0]             i_sum_7,         // matmul, attend
    input  wire  [4*17-1:0]                i_difference_7,  // quantise
    input  wire  [COLS*8-1:0]              i_t_7,           // probability
    input  wire  [16:0]                    i_r_7,
    input  wire  signed [9:0]              i_code_7,        // output
    // results
    output wire  [COLS*9-1:0]              o_code_13,
    output wire  signed [18:0]             o_wide_13
);
  wire [COLS*22-1:0] scale_7;  // shift, multiplier
  param_memory #(
      .COLS(COLS),
      .BITS(22),
      .DEPTH(PARAM_DEPTH),
      .BLOCK(PARAM_BLOCKS)
  ) u_scale (
      .clk,
      .i_load(i_load && i_region == REGION_SCALE),
      .i_load_address,
      .i_load_data,
      .i_read_address(i_p_address_6),
      .o_data(scale_7)
  );

  logic [25*COLS-1:0] a_7;
  logic [18*COLS-1:0] m_7;
  logic [COLS*5-1:0] shift_7, shift_10;
  wire [2:0] opcode_7 = i_at_7.opcode;
  always_comb
    for (int c = 0; c < COLS; c++) begin
      case (opcode_7)
        OP_QUANTISE: a_7[c*25+:25] = 25'($signed(i_difference_7[(c%4)*17+:17]));
        OP_PROBABILITY: a_7[c*25+:25] = scale_7[c*22+1] ? {16'd0, i_t_7[c*8+:8], 1'b0} : {17'd0, i_t_7[c*8+:8]};
        OP_OUTPUT: a_7[c*25+:25] = 25'(i_code_7);
        default: a_7[c*25+:25] = i_sum_7[c*25+:25];
      endcase
      m_7[c*18+:18] = opcode_7 == OP_PROBABILITY ? {1'b0, i_r_7} : {1'b0, scale_7[c*22+:17]};
      shift_7[c*5+:5] = scale_7[c*22+17+:5];
    end
  delay #(.BITS(COLS * 5), .N(3)) u_shift (.clk, .i(shift_7), .o(shift_10));

  for (genvar c = 0; c < COLS; c++) begin : g_lane
    wire signed [(c == 0 ? 18 : 10):0] wide;
    requantise #(
        .A(25),
        .M(18),
        .OUT(c == 0 ? 18 : 10)  // lane 0 also makes counts
    ) u_requantise (
        .clk,
        .i_a(a_7[c*25+:25]),
        .i_m(m_7[c*18+:18]),
        .i_shift(shift_10[c*5+:5]),
        .i_zero(i_at_12.z1),
        .i_low(i_at_12.low1),
        .i_high(i_at_12.high1),
        .o_code(o_code_13[c*9+:9]),
        .o_wide(wide)
    );
    if (c == 0) assign o_wide_13 = wide;
  end
endmodule

`default_nettype wire
