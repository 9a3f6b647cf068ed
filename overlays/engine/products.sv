// The dot products: memories of codes, weights, keys and values, biases, and the multiplier array that they feed.
// Timing: an issue and its addresses in cycle 0, the address of its bias in cycle 5, o_sum_7 in cycle 7, valid where the issue was the last
// pass of its group. o_block_2 and o_code_2, the block of COLS codes at the offset and the code itself, are valid in cycle 2 of every issue.
// What is written is there for issues from the next cycle on.
`default_nettype none

import engine_pkg::*;

module products #(
    parameter int ROWS = 16,
    parameter int COLS = 4,
    parameter int WEIGHT_DEPTH = 512,
    parameter int CODE_DEPTH = 512,
    parameter int KV_DEPTH = 64,
    parameter int PARAM_DEPTH = 128,
    parameter bit PARAM_BLOCKS = 1'b0,
    localparam int CW = $clog2(CODE_DEPTH),
    localparam int WW = $clog2(WEIGHT_DEPTH),
    localparam int VW = $clog2(KV_DEPTH),
    localparam int FW = WW > VW ? WW : VW,
    localparam int PW = $clog2(PARAM_DEPTH),
    localparam int LR = $clog2(ROWS)
) (
    input  wire                            clk,
    // loading of weights and biases
    input  wire                            i_load,
    input  wire  [3:0]                     i_region,
    input  wire  [19:2]                    i_load_address,
    input  wire  [31:0]                    i_load_data,
    // cycle 0
    input  wire engine_pkg::instruction_t  i_current,
    input  wire                            i_first,
    input  wire                            i_code_high,
    input  wire                            i_weight_high,
    input  wire  [CW-1:0]                  i_x_address,
    input  wire  [FW-1:0]                  i_w_address,
    input  wire  [LR-1:0]                  i_offset,
    // cycle 2
    output logic [COLS*8-1:0]              o_block_2,
    output wire  [7:0]                     o_code_2,
    // cycles 5 and 7
    input  wire  [PW-1:0]                  i_p_address_5,
    output wire  [COLS*25-1:0]             o_sum_7,
    // writing of codes, keys and values
    input  wire  [ROWS-1:0]                i_x_write,
    input  wire  [CW-1:0]                  i_x_write_address,
    input  wire  [ROWS*8-1:0]              i_x_data,
    input  wire  [ROWS*COLS-1:0]           i_kv_write,
    input  wire  [VW-1:0]                  i_kv_write_address,
    input  wire  [ROWS*COLS*8-1:0]         i_kv_data
);
  localparam int LC = $clog2(COLS);
  localparam int WEIGHT_LANES = ROWS * COLS / 8;  // words of 32 bits in one of the memory
  wire [WEIGHT_LANES-1:0] weight_lane = WEIGHT_LANES'(1) << i_load_address[2+:$clog2(WEIGHT_LANES)];
  wire [ROWS*8-1:0] x_1;
  wire [ROWS*COLS*4-1:0] w_1;
  wire [ROWS*COLS*8-1:0] kv_1;
  wire [COLS*25-1:0] bias_6;

  memory #(
      .LANES(ROWS),
      .BITS(8),
      .DEPTH(CODE_DEPTH)
  ) u_codes (
      .clk,
      .i_write(i_x_write),
      .i_write_address(i_x_write_address),
      .i_data(i_x_data),
      .i_read_address(i_x_address),
      .o_data(x_1)
  );
  memory #(
      .LANES(WEIGHT_LANES),
      .BITS(32),
      .DEPTH(WEIGHT_DEPTH)
  ) u_weights (
      .clk,
      .i_write(i_load && i_region == REGION_WEIGHTS ? weight_lane : '0),
      .i_write_address(i_load_address[2+$clog2(WEIGHT_LANES)+:WW]),
      .i_data({WEIGHT_LANES{i_load_data}}),
      .i_read_address(i_w_address[WW-1:0]),
      .o_data(w_1)
  );
  memory #(
      .LANES(ROWS * COLS),
      .BITS(8),
      .DEPTH(KV_DEPTH),
      .BLOCK(1'b0)
  ) u_kv (
      .clk,
      .i_write(i_kv_write),
      .i_write_address(i_kv_write_address),
      .i_data(i_kv_data),
      .i_read_address(i_w_address[VW-1:0]),
      .o_data(kv_1)
  );
  param_memory #(
      .COLS(COLS),
      .BITS(25),
      .DEPTH(PARAM_DEPTH),
      .BLOCK(PARAM_BLOCKS)
  ) u_bias (
      .clk,
      .i_load(i_load && i_region == REGION_BIAS),
      .i_load_address,
      .i_load_data,
      .i_read_address(i_p_address_5),
      .o_data(bias_6)
  );

  logic first_1, from_kv_1, code_high_1, code_signed_1, weight_high_1, weight_signed_1;
  always_ff @(posedge clk) begin
    first_1 <= i_first;
    from_kv_1 <= i_current.opcode == OP_ATTEND;
    code_high_1 <= i_code_high;
    code_signed_1 <= i_code_high == i_current.x_wide && !i_current.x_unsigned;
    weight_high_1 <= i_weight_high;
    weight_signed_1 <= i_weight_high == i_current.w_wide;
  end

  array #(
      .ROWS(ROWS),
      .COLS(COLS)
  ) u_array (
      .clk,
      .i_codes(x_1),
      .i_weights(w_1),
      .i_kv(kv_1),
      .i_from_kv(from_kv_1),
      .i_code_high(code_high_1),
      .i_code_signed(code_signed_1),
      .i_weight_high(weight_high_1),
      .i_weight_signed(weight_signed_1),
      .i_first(first_1),
      .i_bias(bias_6),
      .o_sum(o_sum_7)
  );

  // Single codes, for softmax and output
  logic [LR-1:0] offset_1, offset_2;
  always_ff @(posedge clk) begin
    offset_1 <= i_offset;
    offset_2 <= offset_1;
    o_block_2 <= x_1[(offset_1>>LC)*COLS*8+:COLS*8];
  end
  assign o_code_2 = o_block_2[offset_2[LC-1:0]*8+:8];
endmodule

`default_nettype wire
