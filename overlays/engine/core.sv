// The engine without its bus: memories, sequencer, multiplier array, softmax, and the three stages that every result passes:
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
    parameter int DIVIDERS = 2
) (
    input  wire                            clk,
    input  wire                            rst,
    input  wire                            i_start,
    input  wire  [15:0]                    i_windows,
    output logic [3:0]                     o_cause,
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
    output logic                           o_count_valid,
    output logic [15:0]                    o_count,
    output wire                            o_window_end
);
  localparam int CW = $clog2(CODE_DEPTH), WW = $clog2(WEIGHT_DEPTH), VW = $clog2(KV_DEPTH), RW = $clog2(RESIDUAL_DEPTH);
  localparam int PW = $clog2(PARAM_DEPTH), QW = $clog2(ADD_DEPTH), SW = $clog2(SOFTMAX_ROWS), IW = $clog2(INPUT_WORDS);
  localparam int LC = $clog2(COLS), LR = $clog2(ROWS), TW = $clog2(TABLES);

  // Loading: which memory, and which lanes of the word
  wire [3:0] region = &i_load_address[19:18] ? REGION_WEIGHTS : i_load_address[19:16];
  wire [COLS-1:0] load_lane = COLS'(1) << i_load_address[2+:LC];
  localparam int WEIGHT_LANES = ROWS * COLS / 8;
  wire [WEIGHT_LANES-1:0] weight_lane = WEIGHT_LANES'(1) << i_load_address[2+:$clog2(WEIGHT_LANES)];

  // Sequencer
  engine_pkg::instruction_t next, cur;
  wire load, valid, done, take_input, free_input, row_first, row_last, bad_word;
  logic first, code_high, weight_high;
  localparam int DW = CW > VW ? CW : VW, FW = WW > VW ? WW : VW;
  wire [CW:0] x_address;  // addresses have a bit more than their memories, to be found outside
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
      .ROWS(ROWS),
      .COLS(COLS),
      .PROGRAM_WORDS(PROGRAM_WORDS),
      .X(CW + 1),
      .D(DW + 1),
      .W(FW + 1),
      .R(RW + 1),
      .P(PW + 1),
      .Q(QW + 1),
      .ROW(SW + 1),
      .SAMPLE(IW + 3)
  ) u_sequencer (
      .clk,
      .rst,
      .i_start,
      .i_windows,
      .o_bad_word(bad_word),
      .o_pc,
      .o_running,
      .o_fetch_address(fetch_address),
      .i_fetch_word(fetch_word),
      .i_input_ready,
      .i_missing,
      .i_output_ready,
      .o_take_input(take_input),
      .o_free_input(free_input),
      .o_window_end,
      .o_load(load),
      .o_next(next),
      .o_valid(valid),
      .o_current(cur),
      .o_first(first),
      .o_done(done),
      .o_code_high(code_high),
      .o_weight_high(weight_high),
      .o_x_address(x_address),
      .o_w_address(w_address),
      .o_p_address(p_address),
      .o_q_address(q_address),
      .o_r_address(r_address),
      .o_s_address(s_address),
      .o_d_address(d_address),
      .o_token(token),
      .o_row_first(row_first),
      .o_row_last(row_last),
      .o_row(row),
      .o_lanes(lanes),
      .o_offset(offset),
      .o_sample(sample)
  );

  memory #(
      .LANES(1),
      .BITS(32),
      .DEPTH(PROGRAM_WORDS)
  ) u_program (
      .clk,
      .i_write(i_load && region == REGION_PROGRAM),
      .i_write_address(i_load_address[2+:$clog2(PROGRAM_WORDS)]),
      .i_data(i_load_data),
      .i_read_address(fetch_address),
      .o_data(fetch_word)
  );

  // Fields that later stages need, by the number of the instruction: at most three are in flight, since each takes 13 cycles to fetch.
  logic [PAYLOAD_BITS-1:0] context0, context1, context2, context3;
  logic [1:0] number_now;
  logic [20*2-1:0] number_past;  // of the instruction in cycles 1 to 20
  always_ff @(posedge clk) begin
    number_past <= {number_past[19*2-1:0], number_now};
    if (rst) number_now <= '0;
    else if (load) number_now <= number_now + 1'b1;
    if (load && number_now == 2'd3) context0 <= next;
    if (load && number_now == 2'd0) context1 <= next;
    if (load && number_now == 2'd1) context2 <= next;
    if (load && number_now == 2'd2) context3 <= next;
  end
  function automatic logic [PAYLOAD_BITS-1:0] pick(input logic [1:0] n);
    pick = n[1] ? (n[0] ? context3 : context2) : (n[0] ? context1 : context0);
  endfunction
  engine_pkg::instruction_t at_7, at_12, at_13, at_19, at_20;
  always_comb begin
    at_7 = pick(number_past[12+:2]);
    at_12 = pick(number_past[22+:2]);
    at_13 = pick(number_past[24+:2]);
    at_19 = pick(number_past[36+:2]);
    at_20 = pick(number_past[38+:2]);
  end

  // What travels with an issue
  wire is_sum = cur.opcode == OP_SUM;
  wire makes_code = valid && done && cur.opcode != OP_END && !is_sum;

  // Valid bits are reset, so that nothing is written after an abort
  logic [20:1] code_valid;  // makes_code, delayed
  always_ff @(posedge clk) code_valid <= rst ? '0 : {code_valid[19:1], makes_code};

  // Codes and weights, cycle 1
  wire [ROWS*8-1:0] x_1;
  wire [ROWS*COLS*4-1:0] w_1;
  wire [ROWS*COLS*8-1:0] kv_1;
  logic [ROWS-1:0] x_write;
  logic [CW-1:0] x_write_address;
  logic [ROWS*8-1:0] x_data;
  logic [ROWS*COLS-1:0] kv_write;
  logic [VW-1:0] kv_write_address;
  logic [ROWS*COLS*8-1:0] kv_data;

  memory #(
      .LANES(ROWS),
      .BITS(8),
      .DEPTH(CODE_DEPTH)
  ) u_codes (
      .clk,
      .i_write(x_write),
      .i_write_address(x_write_address),
      .i_data(x_data),
      .i_read_address(x_address[CW-1:0]),
      .o_data(x_1)
  );
  memory #(
      .LANES(WEIGHT_LANES),
      .BITS(32),
      .DEPTH(WEIGHT_DEPTH)
  ) u_weights (
      .clk,
      .i_write(i_load && region == REGION_WEIGHTS ? weight_lane : '0),
      .i_write_address(i_load_address[2+$clog2(WEIGHT_LANES)+:WW]),
      .i_data({WEIGHT_LANES{i_load_data}}),
      .i_read_address(w_address[WW-1:0]),
      .o_data(w_1)
  );
  memory #(
      .LANES(ROWS * COLS),
      .BITS(8),
      .DEPTH(KV_DEPTH),
      .STYLE("distributed")
  ) u_kv (
      .clk,
      .i_write(kv_write),
      .i_write_address(kv_write_address),
      .i_data(kv_data),
      .i_read_address(w_address[VW-1:0]),
      .o_data(kv_1)
  );

  logic first_1, from_kv_1, code_high_1, code_signed_1, weight_high_1, weight_signed_1;
  always_ff @(posedge clk) begin
    first_1 <= first;
    from_kv_1 <= cur.opcode == OP_ATTEND;
    code_high_1 <= code_high;
    code_signed_1 <= code_high == cur.x_wide && !cur.x_unsigned;
    weight_high_1 <= weight_high;
    weight_signed_1 <= weight_high == cur.w_wide;
  end

  // Bias (read in cycle 5) and multipliers (read in cycle 6)
  wire [PW-1:0] p_address_5, p_address_6;
  wire [COLS*25-1:0] bias_6;
  wire [COLS*22-1:0] scale_7;
  wire [COLS*25-1:0] load_25 = {COLS{i_load_data[24:0]}};
  wire [COLS*22-1:0] load_22 = {COLS{i_load_data[21:0]}};
  delay #(.BITS(PW), .N(5)) u_p_5 (.clk, .i(p_address[PW-1:0]), .o(p_address_5));
  delay #(.BITS(PW), .N(1)) u_p_6 (.clk, .i(p_address_5), .o(p_address_6));
  memory #(
      .LANES(COLS),
      .BITS(25),
      .DEPTH(PARAM_DEPTH),
      .STYLE("distributed")
  ) u_bias (
      .clk,
      .i_write(i_load && region == REGION_BIAS ? load_lane : '0),
      .i_write_address(i_load_address[2+LC+:PW]),
      .i_data(load_25),
      .i_read_address(p_address_5),
      .o_data(bias_6)
  );
  memory #(
      .LANES(COLS),
      .BITS(22),
      .DEPTH(PARAM_DEPTH),
      .STYLE("distributed")
  ) u_scale (
      .clk,
      .i_write(i_load && region == REGION_SCALE ? load_lane : '0),
      .i_write_address(i_load_address[2+LC+:PW]),
      .i_data(load_22),
      .i_read_address(p_address_6),
      .o_data(scale_7)
  );

  wire [COLS*25-1:0] sum_7;
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
      .o_sum(sum_7)
  );

  // Single codes, for softmax and output: a block of COLS in cycle 2, one of them in cycle 3
  logic [LR-1:0] offset_1, offset_2;
  logic [COLS*8-1:0] block_2;
  logic signed [8:0] code_3;
  logic signed [9:0] code_4, code_5, code_6, code_7;
  logic unsigned_1, unsigned_2;
  wire [8:0] zero_3;
  wire [7:0] code_2 = block_2[offset_2[LC-1:0]*8+:8];
  delay #(.BITS(9), .N(3)) u_zero_3 (.clk, .i(cur.z2), .o(zero_3));
  always_ff @(posedge clk) begin
    offset_1 <= offset[LR-1:0];
    offset_2 <= offset_1;
    block_2 <= x_1[(offset_1>>LC)*COLS*8+:COLS*8];
    unsigned_1 <= cur.x_unsigned;
    unsigned_2 <= unsigned_1;
    code_3 <= $signed({!unsigned_2 && code_2[7], code_2});
    code_4 <= 10'(code_3) - 10'($signed(zero_3));
    code_5 <= code_4;
    code_6 <= code_5;
    code_7 <= code_6;
  end

  // Softmax
  wire [SW-1:0] row_1, row_6, row_7, row_16;
  wire [5:0] lanes_4, lanes_13;
  wire [TW-1:0] table_3;
  wire [2:0] sum_6;  // sum, first, last group of a row
  wire [2:0] max_13;
  wire [COLS*8-1:0] index_3;
  logic [COLS*8-1:0] t_4, index;
  wire [COLS*8-1:0] looked_up;  // of softmax in cycle 4, of operands in cycle 21
  wire operand_20;
  wire [COLS*9-1:0] code_20;
  wire [16:0] r_7;
  logic [COLS*8-1:0] t_5, t_6, t_7;
  logic [COLS*9-1:0] code_13;
  delay #(.BITS(SW), .N(1)) u_row_1 (.clk, .i(row[SW-1:0]), .o(row_1));
  delay #(.BITS(SW), .N(5)) u_row_6 (.clk, .i(row_1), .o(row_6));
  delay #(.BITS(SW), .N(1)) u_row_7 (.clk, .i(row_6), .o(row_7));
  delay #(.BITS(SW), .N(9)) u_row_16 (.clk, .i(row_7), .o(row_16));
  delay #(.BITS(6), .N(4)) u_lanes_4 (.clk, .i(lanes), .o(lanes_4));
  delay #(.BITS(6), .N(9)) u_lanes_13 (.clk, .i(lanes_4), .o(lanes_13));
  delay #(.BITS(TW), .N(3)) u_table_3 (.clk, .i(cur.lut[TW-1:0]), .o(table_3));
  delay #(.BITS(3), .N(6)) u_sum_6 (.clk, .i({valid && done && is_sum, row_first, row_last}), .o(sum_6));
  delay #(.BITS(3), .N(13)) u_max_13 (.clk, .i({makes_code && cur.track_max, row_first, row_last}), .o(max_13));
  softmax #(
      .COLS(COLS),
      .ROWS_DEPTH(SOFTMAX_ROWS),
      .DIVIDERS(DIVIDERS)
  ) u_softmax (
      .clk,
      .rst,
      .i_row_1(row_1),
      .i_row_6(row_6),
      .i_row_7(row_7),
      .i_scores_2(block_2),
      .i_sum_6(sum_6[2]),
      .i_row_first_6(sum_6[1]),
      .i_row_last_6(sum_6[0]),
      .i_numerator_7(at_7.numerator),
      .o_index_3(index_3),
      .i_t_5(t_5),
      .o_r_7(r_7),
      .i_max_13(max_13[2]),
      .i_row_first_13(max_13[1]),
      .i_row_last_13(max_13[0]),
      .i_row_16(row_16),
      .i_lanes_13(lanes_13),
      .i_codes_13(code_13)
  );
  always_ff @(posedge clk) {t_7, t_6, t_5} <= {t_6, t_5, t_4};

  // Tables, for softmax (index in cycle 3) and for operands (cycle 20)
  always_comb
    for (int c = 0; c < COLS; c++) begin
      index[c*8+:8] = operand_20 ? code_20[c*9+:8] : index_3[c*8+:8];
      t_4[c*8+:8] = 6'(c) < lanes_4 ? looked_up[c*8+:8] : 8'd0;
    end
  tables #(
      .COLS(COLS),
      .TABLES(TABLES)
  ) u_tables (
      .clk,
      .i_write(i_load && region == REGION_TABLES),
      .i_write_address(i_load_address[2+:8+TW]),
      .i_data(i_load_data[7:0]),
      .i_table(operand_20 ? at_20.lut[TW-1:0] : table_3),
      .i_index(index),
      .o_data(looked_up)
  );

  // Input counts: up to four a cycle, the anchor subtracted
  logic [16:0] anchor;
  logic [4*17-1:0] difference_7;
  wire [IW+1:0] sample_5;
  logic [1:0] lane_6;
  delay #(.BITS(IW + 2), .N(5)) u_sample_5 (.clk, .i(sample[IW+1:0]), .o(sample_5));
  delay #(.BITS(1), .N(7)) u_free (.clk, .i(free_input), .o(o_free_input));
  assign o_wanted = sample[2+:IW];
  assign o_input_address = sample_5[2+:IW];
  always_ff @(posedge clk) begin
    if (take_input) anchor <= {i_anchor[15], i_anchor};
    lane_6 <= sample_5[1:0];
    difference_7[0+:17] <= 17'($signed(i_input_word[lane_6*16+:16])) - anchor;
    difference_7[17+:17] <= 17'($signed(i_input_word[{lane_6[1], 1'b1}*16+:16])) - anchor;  // where a group is two samples or four
    difference_7[34+:17] <= 17'($signed(i_input_word[32+:16])) - anchor;                    // where it is a whole word
    difference_7[51+:17] <= 17'($signed(i_input_word[48+:16])) - anchor;
  end

  // Stage 1
  logic [25*COLS-1:0] a_7;
  logic [18*COLS-1:0] m_7;
  wire [2:0] opcode_7 = at_7.opcode;
  always_comb
    for (int c = 0; c < COLS; c++) begin
      case (opcode_7)
        OP_QUANTISE: a_7[c*25+:25] = 25'($signed(difference_7[(c%4)*17+:17]));
        OP_PROBABILITY: a_7[c*25+:25] = scale_7[c*22+1] ? {16'd0, t_7[c*8+:8], 1'b0} : {17'd0, t_7[c*8+:8]};
        OP_OUTPUT: a_7[c*25+:25] = 25'(code_7);
        default: a_7[c*25+:25] = sum_7[c*25+:25];
      endcase
      m_7[c*18+:18] = opcode_7 == OP_PROBABILITY ? {1'b0, r_7} : {1'b0, scale_7[c*22+:17]};
    end

  logic [COLS*5-1:0] shift_7, shift_10;
  wire signed [18:0] wide_13;
  always_comb for (int c = 0; c < COLS; c++) shift_7[c*5+:5] = scale_7[c*22+17+:5];
  delay #(.BITS(COLS * 5), .N(3)) u_shift (.clk, .i(shift_7), .o(shift_10));
  for (genvar c = 0; c < COLS; c++) begin : g_stage1
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
        .i_zero(at_12.z1),
        .i_low(at_12.low1),
        .i_high(at_12.high1),
        .o_code(code_13[c*9+:9]),
        .o_wide(wide)
    );
    if (c == 0) assign wide_13 = wide;
  end

  // Counts: the anchor added back, saturated
  wire signed [19:0] count_13 = 20'(wide_13) + 20'($signed(anchor));
  always_ff @(posedge clk) begin
    o_count_valid <= !rst && code_valid[13] && at_13.opcode == OP_OUTPUT;
    o_count <= count_13 > 20'sd32767 ? 16'h7FFF : count_13 < -20'sd32768 ? 16'h8000 : count_13[15:0];
  end

  // Stage 2: m1 * code + m2 * residual + c; the residual memory is read in cycle 12, and its word is there with the code
  wire [RW-1:0] r_address_12, s_address_20;
  wire [QW-1:0] q_address_12;
  wire [COLS*8-1:0] r_13;
  wire [COLS*22-1:0] add1_13;
  wire [COLS*17-1:0] add2_13;
  wire [COLS*32-1:0] addc_13;
  wire [COLS*17-1:0] load_17 = {COLS{i_load_data[16:0]}};
  wire s_write_20 = code_valid[20] && at_20.s_write;
  localparam int R_WORDS = COLS / 4;
  wire [R_WORDS-1:0] r_lane = R_WORDS == 1 ? 1'b1 : R_WORDS'(1) << i_load_address[2+:(R_WORDS == 1 ? 1 : $clog2(R_WORDS))];
  wire r_load = i_load && region == REGION_RESIDUAL;
  logic [COLS*8-1:0] s_data;
  always_comb for (int c = 0; c < COLS; c++) s_data[c*8+:8] = code_20[c*9+:8];

  delay #(.BITS(RW), .N(12)) u_r_12 (.clk, .i(r_address[RW-1:0]), .o(r_address_12));
  delay #(.BITS(RW), .N(20)) u_s_20 (.clk, .i(s_address[RW-1:0]), .o(s_address_20));
  delay #(.BITS(QW), .N(12)) u_q_12 (.clk, .i(q_address[QW-1:0]), .o(q_address_12));
  memory #(
      .LANES(R_WORDS),
      .BITS(32),
      .DEPTH(RESIDUAL_DEPTH)
  ) u_residual (
      .clk,
      .i_write(r_load ? r_lane : {R_WORDS{s_write_20}}),
      .i_write_address(r_load ? i_load_address[2+$clog2(R_WORDS)+:RW] : s_address_20),
      .i_data(r_load ? {R_WORDS{i_load_data}} : s_data),
      .i_read_address(r_address_12),
      .o_data(r_13)
  );
  memory #(.LANES(COLS), .BITS(22), .DEPTH(ADD_DEPTH), .STYLE("distributed")) u_add1 (
      .clk,
      .i_write(i_load && region == REGION_ADD1 ? load_lane : '0),
      .i_write_address(i_load_address[2+LC+:QW]),
      .i_data(load_22),
      .i_read_address(q_address_12),
      .o_data(add1_13)
  );
  memory #(.LANES(COLS), .BITS(17), .DEPTH(ADD_DEPTH), .STYLE("distributed")) u_add2 (
      .clk,
      .i_write(i_load && region == REGION_ADD2 ? load_lane : '0),
      .i_write_address(i_load_address[2+LC+:QW]),
      .i_data(load_17),
      .i_read_address(q_address_12),
      .o_data(add2_13)
  );
  memory #(.LANES(COLS), .BITS(32), .DEPTH(ADD_DEPTH), .STYLE("distributed")) u_addc (
      .clk,
      .i_write(i_load && region == REGION_ADDC ? load_lane : '0),
      .i_write_address(i_load_address[2+LC+:QW]),
      .i_data({COLS{i_load_data}}),
      .i_read_address(q_address_12),
      .o_data(addc_13)
  );

  logic [COLS*5-1:0] shift_13;
  wire [COLS*5-1:0] shift_17;
  always_comb for (int c = 0; c < COLS; c++) shift_13[c*5+:5] = add1_13[c*22+17+:5];
  delay #(.BITS(COLS * 5), .N(4)) u_shift2 (.clk, .i(shift_13), .o(shift_17));
  for (genvar c = 0; c < COLS; c++) begin : g_stage2
    wire signed [10:0] unused;
    logic signed [8:0] code, residual;
    logic signed [16:0] m1, m2;
    logic signed [31:0] offset_14, offset_15, sum_16, sum_17;
    logic signed [25:0] product1, product2, product2_16;
    always_ff @(posedge clk) begin
      code <= $signed(code_13[c*9+:9]);
      residual <= $signed({!at_13.r_unsigned && r_13[c*8+7], r_13[c*8+:8]});
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
        .i_zero(at_19.z2),
        .i_low(at_19.low2),
        .i_high(at_19.high2),
        .o_code(code_20[c*9+:9]),
        .o_wide(unused)
    );
  end

  // Writing of codes, from stage 1 in cycle 13 or from stage 3 in cycle 21
  wire [DW-1:0] d_address_13, d_address_21;
  wire [LR-1:0] offset_13, offset_21, token_13;
  delay #(.BITS(DW), .N(13)) u_d_13 (.clk, .i(d_address[DW-1:0]), .o(d_address_13));
  delay #(.BITS(DW), .N(8)) u_d_21 (.clk, .i(d_address_13), .o(d_address_21));
  delay #(.BITS(LR), .N(13)) u_offset_13 (.clk, .i(offset[LR-1:0]), .o(offset_13));
  delay #(.BITS(LR), .N(8)) u_offset_21 (.clk, .i(offset_13), .o(offset_21));
  delay #(.BITS(LR), .N(13)) u_token_13 (.clk, .i(token[LR-1:0]), .o(token_13));
  wire [2:0] opcode_13 = at_13.opcode;
  wire [1:0] dest_13 = at_13.dest;
  wire [1:0] lanes_of_13 = at_13.lanes;
  wire early = code_valid[13] && dest_13 == TO_CODES && !at_13.add && opcode_13 != OP_OUTPUT;
  assign operand_20 = code_valid[20] && at_20.dest == TO_CODES && at_20.add;
  logic late, lut_high;
  always_ff @(posedge clk) begin
    late <= !rst && operand_20;
    lut_high <= at_20.lut_high;
  end

  always_comb begin
    x_write_address = late ? d_address_21[CW-1:0] : d_address_13[CW-1:0];
    for (int r = 0; r < ROWS; r++) begin
      x_data[r*8+:8] = late ? looked_up[(r%COLS)*8+:8] : code_13[(r%COLS)*9+:8];
      if (late && lut_high) x_data[r*8+:4] = looked_up[(r%COLS)*8+4+:4];
      x_write[r] = late ? offset_21 / COLS == r / COLS : early && offset_13 / COLS == r / COLS;
      if (early && opcode_13 == OP_QUANTISE) begin
        x_write[r] = offset_13 >> lanes_of_13 == r >> lanes_of_13;
        x_data[r*8+:8] = lanes_of_13 == 2 ? code_13[(r%4)*9+:8] : lanes_of_13 == 1 ? code_13[(r%2)*9+:8] : code_13[0+:8];
      end
    end
    // keys: a token is a column, values: a token is a row
    kv_write_address = d_address_13[VW-1:0];
    for (int c = 0; c < COLS; c++)
      for (int r = 0; r < ROWS; r++) begin
        kv_data[(c*ROWS+r)*8+:8] = dest_13 == TO_KEYS ? code_13[(r%COLS)*9+:8] : code_13[c*9+:8];
        kv_write[c*ROWS+r] = code_valid[13] && (
            dest_13 == TO_KEYS ? token_13[LC-1:0] == c && offset_13 / COLS == r / COLS
                               : dest_13 == TO_VALUES && token_13 == r);
      end
  end

  // What can go wrong
  logic [2:0] softmax_past;  // look-ups of softmax in cycles 1 to 3
  wire softmax_3 = softmax_past[2];
  always_ff @(posedge clk) softmax_past <= {softmax_past[1:0], valid && (is_sum || cur.opcode == OP_PROBABILITY)};
  wire reads_codes = cur.opcode != OP_QUANTISE;
  wire outside = reads_codes && x_address >= CODE_DEPTH
      || cur.opcode == OP_MATMUL && w_address >= WEIGHT_DEPTH
      || cur.opcode == OP_ATTEND && w_address >= KV_DEPTH
      || cur.opcode == OP_QUANTISE && sample >= 4 * INPUT_WORDS
      || (is_sum || cur.opcode == OP_PROBABILITY || cur.track_max) && row >= SOFTMAX_ROWS
      || !is_sum && p_address >= PARAM_DEPTH
      || cur.dest == TO_CODES && d_address >= CODE_DEPTH
      || cur.dest[1] && d_address >= KV_DEPTH
      || cur.add && (q_address >= ADD_DEPTH || r_address >= RESIDUAL_DEPTH)
      || cur.s_write && s_address >= RESIDUAL_DEPTH;
  logic bad_address;
  always_ff @(posedge clk) bad_address <= !rst && valid && cur.opcode != OP_END && outside;
  always_ff @(posedge clk)
    if (rst) o_cause <= CAUSE_NONE;
    else if (o_cause == CAUSE_NONE) begin
      if (bad_word) o_cause <= CAUSE_PROGRAM;
      else if (bad_address) o_cause <= CAUSE_ADDRESS;
      else if (early && late || operand_20 && softmax_3) o_cause <= CAUSE_COLLISION;
    end
endmodule

`default_nettype wire
