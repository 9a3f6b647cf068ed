// What can go wrong in a run: a bad program word, an address outside of its memory, two results that meet. o_cause is the first that did,
// valid from two cycles after the issue of such an address, one after the others, until rst.
`default_nettype none

import engine_pkg::*;

module faults #(
    parameter int WEIGHT_DEPTH = 512,
    parameter int CODE_DEPTH = 512,
    parameter int KV_DEPTH = 64,
    parameter int RESIDUAL_DEPTH = 1024,
    parameter int PARAM_DEPTH = 128,
    parameter int ADD_DEPTH = 64,
    parameter int SOFTMAX_ROWS = 64,
    parameter int INPUT_WORDS = 256,
    // bits of addresses: one more than their memories need
    parameter int X = 10,
    parameter int D = 10,
    parameter int W = 10,
    parameter int R = 11,
    parameter int P = 8,
    parameter int Q = 7,
    parameter int ROW = 7,
    parameter int SAMPLE = 11
) (
    input  wire                            clk,
    input  wire                            rst,
    output logic [3:0]                     o_cause,
    // cycle 0
    input  wire                            i_valid,
    input  wire engine_pkg::instruction_t  i_current,
    input  wire  [X-1:0]                   i_x_address,
    input  wire  [W-1:0]                   i_w_address,
    input  wire  [P-1:0]                   i_p_address,
    input  wire  [Q-1:0]                   i_q_address,
    input  wire  [R-1:0]                   i_r_address,
    input  wire  [R-1:0]                   i_s_address,
    input  wire  [D-1:0]                   i_d_address,
    input  wire  [ROW-1:0]                 i_row,
    input  wire  [SAMPLE-1:0]              i_sample,
    // later cycles
    input  wire                            i_bad_word,
    input  wire                            i_collision,
    input  wire                            i_operand_20  // the tables are read for the operand of a sum
);
  wire is_sum = i_current.opcode == OP_SUM;
  wire is_softmax = is_sum || i_current.opcode == OP_PROBABILITY;
  logic [2:0] softmax_past;  // look-ups of softmax in cycles 1 to 3
  wire softmax_3 = softmax_past[2];
  always_ff @(posedge clk) softmax_past <= {softmax_past[1:0], i_valid && is_softmax};

  wire outside = i_current.opcode != OP_QUANTISE && i_x_address >= CODE_DEPTH
      || i_current.opcode == OP_MATMUL && i_w_address >= WEIGHT_DEPTH
      || i_current.opcode == OP_ATTEND && i_w_address >= KV_DEPTH
      || i_current.opcode == OP_QUANTISE && i_sample >= 4 * INPUT_WORDS
      || (is_softmax || i_current.track_max) && i_row >= SOFTMAX_ROWS
      || !is_sum && i_p_address >= PARAM_DEPTH
      || i_current.dest == TO_CODES && i_d_address >= CODE_DEPTH
      || i_current.dest[1] && i_d_address >= KV_DEPTH  // keys or values
      || i_current.add && (i_q_address >= ADD_DEPTH || i_r_address >= RESIDUAL_DEPTH)
      || i_current.s_write && i_s_address >= RESIDUAL_DEPTH;
  logic bad_address;
  always_ff @(posedge clk) bad_address <= !rst && i_valid && i_current.opcode != OP_END && outside;

  always_ff @(posedge clk)
    if (rst) o_cause <= CAUSE_NONE;
    else if (o_cause == CAUSE_NONE) begin
      if (i_bad_word) o_cause <= CAUSE_PROGRAM;
      else if (bad_address) o_cause <= CAUSE_ADDRESS;
      else if (i_collision || i_operand_20 && softmax_3) o_cause <= CAUSE_COLLISION;
    end
endmodule

`default_nettype wire
