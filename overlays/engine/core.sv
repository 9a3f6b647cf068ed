// The engine without its bus, as wiring: a sequencer, the dot products, softmax, and the three stages that every result passes:
// 1 requantise to codes, 2 residual add, 3 a table for the operand made of the sum. Signals end in the cycle of the pipeline they belong to;
// an issue of the sequencer is cycle 0. A result is in the code or key/value memory for issues from cycle 14 on (22 after stage 3), a sum in the
// residual memory for reads from cycle 21 on. The compiler keeps these distances; nothing here waits.
`default_nettype none

import engine_pkg::*;

module core #(
    parameter int ROWS = 16,
    parameter int COLS = 4,
    parameter int WEIGHT_DEPTH = 512,
    parameter int CODE_DEPTH = 512,
    parameter int KV_DEPTH = 64,
    parameter int RESIDUAL_DEPTH = 1024,
    parameter int PARAM_DEPTH = 128,
    parameter int ADD_DEPTH = 64,
    parameter int SOFTMAX_ROWS = 64,
    parameter int PROGRAM_WORDS = 1024,
    parameter int INPUT_WORDS = 256,
    parameter int TABLES = 8,
    parameter int DIVIDERS = 2,
    parameter bit PARAM_BLOCKS = 1'b0
) (
    input  wire                            clk,
    input  wire                            rst,
    input  wire                            i_start,
    input  wire  [15:0]                    i_windows,
    output wire  [3:0]                     o_cause,
    output wire  [15:0]                    o_pc,
    output wire                            o_running,
    // loading of memories
    input  wire                            i_load,
    input  wire  [19:2]                    i_load_address,
    input  wire  [31:0]                    i_load_data,
    // input buffer: four counts a word
    input  wire                            i_input_ready,
    input  wire  [15:0]                    i_anchor,
    output wire  [$clog2(INPUT_WORDS)-1:0] o_wanted,         // cycle 0
    input  wire                            i_missing,
    output wire  [$clog2(INPUT_WORDS)-1:0] o_input_address,  // cycle 5
    input  wire  [63:0]                    i_input_word,     // cycle 6
    output wire                            o_free_input,
    // forecasts, a count at a time
    input  wire                            i_output_ready,
    output wire                            o_count_valid,
    output wire  [15:0]                    o_count,
    output wire                            o_window_end
);
  // Bits of addresses. They have one more than their memories, to be found outside.
  localparam int CW = $clog2(CODE_DEPTH), WW = $clog2(WEIGHT_DEPTH), VW = $clog2(KV_DEPTH), RW = $clog2(RESIDUAL_DEPTH);
  localparam int PW = $clog2(PARAM_DEPTH), QW = $clog2(ADD_DEPTH), SW = $clog2(SOFTMAX_ROWS), IW = $clog2(INPUT_WORDS);
  localparam int LR = $clog2(ROWS), TW = $clog2(TABLES);
  localparam int DW = CW > VW ? CW : VW, FW = WW > VW ? WW : VW;

  // Loading: which memory
  wire [3:0] region = &i_load_address[19:18] ? REGION_WEIGHTS : i_load_address[19:16];

  // Sequencer
  engine_pkg::instruction_t next, cur;
  wire load, valid, done, take_input, free_input, row_first, row_last, bad_word;
  logic first, code_high, weight_high;
  wire [CW:0] x_address;
  wire [DW:0] d_address;
  wire [FW:0] w_address;
  wire [RW:0] r_address, s_address;
  wire [PW:0] p_address;
  wire [QW:0] q_address;
  wire [SW:0] row;
  wire [IW+2:0] sample;
  wire [9:0] token, offset;
  logic [5:0] lanes;
  wire [31:0] fetch_word;
  wire [$clog2(PROGRAM_WORDS)-1:0] fetch_address;

  sequencer #(
      .ROWS(ROWS), .COLS(COLS), .PROGRAM_WORDS(PROGRAM_WORDS), .X(CW + 1), .D(DW + 1), .W(FW + 1), .R(RW + 1), .P(PW + 1), .Q(QW + 1),
      .ROW(SW + 1), .SAMPLE(IW + 3)
  ) u_sequencer (
      .clk, .rst, .i_start, .i_windows, .o_bad_word(bad_word), .o_pc, .o_running,
      .o_fetch_address(fetch_address), .i_fetch_word(fetch_word),
      .i_input_ready, .i_missing, .i_output_ready, .o_take_input(take_input), .o_free_input(free_input), .o_window_end,
      .o_load(load), .o_next(next), .o_valid(valid), .o_current(cur),
      .o_first(first), .o_done(done), .o_code_high(code_high), .o_weight_high(weight_high),
      .o_x_address(x_address), .o_w_address(w_address), .o_p_address(p_address), .o_q_address(q_address),
      .o_r_address(r_address), .o_s_address(s_address), .o_d_address(d_address),
      .o_token(token), .o_row_first(row_first), .o_row_last(row_last), .o_row(row), .o_lanes(lanes), .o_offset(offset), .o_sample(sample)
  );
  memory #(
      .LANES(1), .BITS(32), .DEPTH(PROGRAM_WORDS)
  ) u_program (
      .clk, .i_write(i_load && region == REGION_PROGRAM), .i_write_address(i_load_address[2+:$clog2(PROGRAM_WORDS)]), .i_data(i_load_data),
      .i_read_address(fetch_address), .o_data(fetch_word)
  );

  // What travels with an issue: its instruction, whether it makes a code, the address of its parameters
  engine_pkg::instruction_t at_7, at_12, at_13, at_19, at_20;
  in_flight u_in_flight (
      .clk, .rst, .i_load(load), .i_next(next), .o_at_7(at_7), .o_at_12(at_12), .o_at_13(at_13), .o_at_19(at_19), .o_at_20(at_20)
  );

  wire is_sum = cur.opcode == OP_SUM;
  wire makes_code = valid && done && cur.opcode != OP_END && !is_sum;
  logic [20:1] code_valid;  // makes_code, delayed; reset, so that nothing is written after an abort
  always_ff @(posedge clk) code_valid <= rst ? '0 : {code_valid[19:1], makes_code};

  wire [PW-1:0] p_address_5, p_address_6;
  delay #(.BITS(PW), .N(5)) u_p_5 (.clk, .i(p_address[PW-1:0]), .o(p_address_5));
  delay #(.BITS(PW), .N(1)) u_p_6 (.clk, .i(p_address_5), .o(p_address_6));

  // Dot products
  wire [COLS*8-1:0] block_2;
  wire [7:0] code_2;
  wire [COLS*25-1:0] sum_7;
  wire [ROWS-1:0] x_write;
  wire [CW-1:0] x_write_address;
  wire [ROWS*8-1:0] x_data;
  wire [ROWS*COLS-1:0] kv_write;
  wire [VW-1:0] kv_write_address;
  wire [ROWS*COLS*8-1:0] kv_data;
  products #(
      .ROWS(ROWS), .COLS(COLS), .WEIGHT_DEPTH(WEIGHT_DEPTH), .CODE_DEPTH(CODE_DEPTH), .KV_DEPTH(KV_DEPTH), .PARAM_DEPTH(PARAM_DEPTH),
      .PARAM_BLOCKS(PARAM_BLOCKS)
  ) u_products (
      .clk, .i_load, .i_region(region), .i_load_address, .i_load_data,
      .i_current(cur), .i_first(first), .i_code_high(code_high), .i_weight_high(weight_high),
      .i_x_address(x_address[CW-1:0]), .i_w_address(w_address[FW-1:0]), .i_offset(offset[LR-1:0]),
      .o_block_2(block_2), .o_code_2(code_2), .i_p_address_5(p_address_5), .o_sum_7(sum_7),
      .i_x_write(x_write), .i_x_write_address(x_write_address), .i_x_data(x_data),
      .i_kv_write(kv_write), .i_kv_write_address(kv_write_address), .i_kv_data(kv_data)
  );

  // Softmax
  wire [COLS*8-1:0] index_3, looked_up, t_7;
  wire [16:0] r_7;
  wire [COLS*9-1:0] code_13, code_20;
  softmax #(
      .COLS(COLS), .ROWS_DEPTH(SOFTMAX_ROWS), .DIVIDERS(DIVIDERS)
  ) u_softmax (
      .clk, .rst, .i_row(row[SW-1:0]), .i_row_first(row_first), .i_row_last(row_last), .i_lanes(lanes),
      .i_sum(valid && done && is_sum), .i_max(makes_code && cur.track_max),
      .i_scores_2(block_2), .o_index_3(index_3), .i_looked_up_4(looked_up), .o_t_7(t_7), .o_r_7(r_7),
      .i_numerator_7(at_7.numerator), .i_code_13(code_13)
  );

  // Stage 3, a table for the operand of a sum (index in cycle 20), which softmax uses too (index in cycle 3)
  wire operand_20;
  wire [TW-1:0] table_3;
  logic [COLS*8-1:0] index;
  delay #(.BITS(TW), .N(3)) u_table_3 (.clk, .i(cur.lut[TW-1:0]), .o(table_3));
  always_comb for (int c = 0; c < COLS; c++) index[c*8+:8] = operand_20 ? code_20[c*9+:8] : index_3[c*8+:8];
  tables #(
      .COLS(COLS), .TABLES(TABLES)
  ) u_tables (
      .clk, .i_write(i_load && region == REGION_TABLES), .i_write_address(i_load_address[2+:8+TW]), .i_data(i_load_data[7:0]),
      .i_table(operand_20 ? at_20.lut[TW-1:0] : table_3), .i_index(index), .o_data(looked_up)
  );

  // Counts in and out
  wire [16:0] anchor;
  wire [4*17-1:0] difference_7;
  wire signed [9:0] code_7;
  wire signed [18:0] wide_13;
  wire anchor_valid_14;
  intake #(
      .INPUT_WORDS(INPUT_WORDS)
  ) u_intake (
      .clk, .i_take(take_input), .i_anchor, .i_free(free_input), .i_sample(sample[IW+1:0]),
      .i_anchor_valid_14(anchor_valid_14), .i_anchor_14(o_count),
      .o_wanted, .o_input_address, .i_input_word, .o_free_input, .o_anchor(anchor), .o_difference_7(difference_7)
  );
  forecast u_forecast (
      .clk, .rst, .i_current(cur), .i_code_2(code_2), .o_code_7(code_7), .i_at_12(at_12), .i_at_13(at_13),
      .i_valid_13(code_valid[13]), .i_wide_13(wide_13), .i_anchor(anchor), .o_count_valid, .o_anchor_valid(anchor_valid_14), .o_count
  );

  // Stages 1 and 2, and what becomes of their results
  first_stage #(
      .COLS(COLS), .PARAM_DEPTH(PARAM_DEPTH), .PARAM_BLOCKS(PARAM_BLOCKS)
  ) u_first_stage (
      .clk, .i_load, .i_region(region), .i_load_address, .i_load_data, .i_at_7(at_7), .i_at_12(at_12),
      .i_p_address_6(p_address_6), .i_sum_7(sum_7), .i_difference_7(difference_7), .i_t_7(t_7), .i_r_7(r_7), .i_code_7(code_7),
      .o_code_13(code_13), .o_wide_13(wide_13)
  );
  residual #(
      .COLS(COLS), .RESIDUAL_DEPTH(RESIDUAL_DEPTH), .ADD_DEPTH(ADD_DEPTH), .PARAM_BLOCKS(PARAM_BLOCKS)
  ) u_residual (
      .clk, .i_load, .i_region(region), .i_load_address, .i_load_data,
      .i_r_address(r_address[RW-1:0]), .i_s_address(s_address[RW-1:0]), .i_q_address(q_address[QW-1:0]),
      .i_at_13(at_13), .i_code_13(code_13), .i_at_19(at_19), .i_write_20(code_valid[20] && at_20.s_write), .o_code_20(code_20)
  );
  wire collision;
  write_back #(
      .ROWS(ROWS), .COLS(COLS), .CODE_DEPTH(CODE_DEPTH), .KV_DEPTH(KV_DEPTH)
  ) u_write_back (
      .clk, .rst, .i_d_address(d_address[DW-1:0]), .i_offset(offset[LR-1:0]), .i_token(token[LR-1:0]),
      .i_valid_13(code_valid[13]), .i_at_13(at_13), .i_code_13(code_13),
      .i_valid_20(code_valid[20]), .i_at_20(at_20), .o_operand_20(operand_20), .i_looked_up_21(looked_up),
      .o_x_write(x_write), .o_x_write_address(x_write_address), .o_x_data(x_data), .o_collision(collision),
      .o_kv_write(kv_write), .o_kv_write_address(kv_write_address), .o_kv_data(kv_data)
  );

  faults #(
      .WEIGHT_DEPTH(WEIGHT_DEPTH), .CODE_DEPTH(CODE_DEPTH), .KV_DEPTH(KV_DEPTH), .RESIDUAL_DEPTH(RESIDUAL_DEPTH),
      .PARAM_DEPTH(PARAM_DEPTH), .ADD_DEPTH(ADD_DEPTH), .SOFTMAX_ROWS(SOFTMAX_ROWS), .INPUT_WORDS(INPUT_WORDS),
      .X(CW + 1), .D(DW + 1), .W(FW + 1), .R(RW + 1), .P(PW + 1), .Q(QW + 1), .ROW(SW + 1), .SAMPLE(IW + 3)
  ) u_faults (
      .clk, .rst, .o_cause, .i_valid(valid), .i_current(cur),
      .i_x_address(x_address), .i_w_address(w_address), .i_p_address(p_address), .i_q_address(q_address),
      .i_r_address(r_address), .i_s_address(s_address), .i_d_address(d_address), .i_row(row), .i_sample(sample),
      .i_bad_word(bad_word), .i_collision(collision), .i_operand_20(operand_20)
  );
endmodule

`default_nettype wire
