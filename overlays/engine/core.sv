// The engine without its bus: memories, sequencer, multiplier array, softmax, and the three stages that every result passes:
// 1 requantise to codes, 2 residual add, 3 requantise as an operand. Signals end in the cycle of the pipeline they belong to; an issue of
// the sequencer is cycle 0. A result is in the code or key/value memory for issues from cycle 13 on (26 after stage 3), a sum in the
// residual memory for issues from cycle 9 on. The compiler keeps these distances; nothing here waits.
`default_nettype none

module core
  import engine_pkg::*;
#(
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
    parameter int DIVIDERS = 2
) (
    input  wire                            clk,
    input  wire                            rst,
    input  wire                            i_start,
    input  wire  [31:0]                    i_windows,
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
    output wire  [$clog2(INPUT_WORDS)-1:0] o_input_address,  // cycle 4
    input  wire  [63:0]                    i_input_word,     // cycle 5
    output wire                            o_free_input,
    // forecasts, a count at a time
    input  wire                            i_output_ready,
    output logic                           o_count_valid,
    output logic [15:0]                    o_count,
    output wire                            o_window_end
);
  localparam int CW = $clog2(CODE_DEPTH), WW = $clog2(WEIGHT_DEPTH), VW = $clog2(KV_DEPTH), RW = $clog2(RESIDUAL_DEPTH);
  localparam int PW = $clog2(PARAM_DEPTH), QW = $clog2(ADD_DEPTH), SW = $clog2(SOFTMAX_ROWS), IW = $clog2(INPUT_WORDS);
  localparam int LC = $clog2(COLS), LR = $clog2(ROWS);

  // Loading: which memory, and which lanes of the word
  wire [3:0] region = i_load_address[19] ? REGION_WEIGHTS : i_load_address[19:16];
  wire [COLS-1:0] load_lane = COLS'(1) << i_load_address[2+:LC];
  localparam int WEIGHT_LANES = ROWS * COLS / 8;
  wire [WEIGHT_LANES-1:0] weight_lane = WEIGHT_LANES'(1) << i_load_address[2+:$clog2(WEIGHT_LANES)];

  // Sequencer
  instruction_t next, cur;
  wire load, valid, done, take_input, free_input, row_first, row_last, bad_word;
  logic first, code_high, weight_high;
  logic [12:0] x_address, r_address, s_address, d_address;
  logic [13:0] w_address, sample;
  logic [9:0] p_address, q_address, token, group, offset;
  logic [8:0] row;
  logic [5:0] lanes;
  wire [31:0] fetch_word;
  wire [$clog2(PROGRAM_WORDS)-1:0] fetch_address;

  sequencer #(
      .ROWS(ROWS),
      .COLS(COLS),
      .PROGRAM_WORDS(PROGRAM_WORDS)
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
      .o_group(group),
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

  // Fields that later stages need, by the number of the instruction: at most three are in flight, since each takes 14 cycles to fetch.
  logic [PAYLOAD_BITS-1:0] context0, context1, context2, context3;
  logic [25:0][1:0] number;  // of the instruction in each cycle
  logic [24:0][1:0] number_past;
  assign number = {number_past, number_now};
  logic [1:0] number_now;
  always_ff @(posedge clk) begin
    number_past <= number[24:0];
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
  instruction_t at_6, at_11, at_12, at_18, at_19, at_22, at_24, at_25;
  always_comb begin
    at_6  = pick(number[6]);
    at_11 = pick(number[11]);
    at_12 = pick(number[12]);
    at_18 = pick(number[18]);
    at_19 = pick(number[19]);
    at_22 = pick(number[22]);
    at_24 = pick(number[24]);
    at_25 = pick(number[25]);
  end

  // What travels with an issue
  wire is_sum = cur.opcode == OP_SUM;
  wire makes_code = valid && done && cur.opcode != OP_END && !is_sum;

  // Valid bits are reset, so that nothing is written after an abort
  logic [25:1] code_valid;  // makes_code, delayed
  always_ff @(posedge clk) code_valid <= rst ? '0 : {code_valid[24:1], makes_code};

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

  // Bias (read in cycle 4) and multipliers (read in cycle 5)
  wire [PW-1:0] p_address_4, p_address_5;
  wire [COLS*25-1:0] bias_5;
  wire [COLS*22-1:0] scale_6;
  wire [COLS*25-1:0] load_25 = {COLS{i_load_data[24:0]}};
  wire [COLS*22-1:0] load_22 = {COLS{i_load_data[21:0]}};
  delay #(.BITS(PW), .N(4)) u_p_4 (.clk, .i(p_address[PW-1:0]), .o(p_address_4));
  delay #(.BITS(PW), .N(1)) u_p_5 (.clk, .i(p_address_4), .o(p_address_5));
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
      .i_read_address(p_address_4),
      .o_data(bias_5)
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
      .i_read_address(p_address_5),
      .o_data(scale_6)
  );

  wire [COLS*25-1:0] sum_6;
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
      .i_bias(bias_5),
      .o_sum(sum_6)
  );

  // Single codes, for softmax and output: a block of COLS in cycle 2, one of them in cycle 3
  logic [LR-1:0] offset_1, offset_2;
  logic [COLS*8-1:0] block_2;
  logic signed [8:0] code_3;
  logic signed [9:0] code_4, code_5, code_6;
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
  end

  // Softmax
  wire [SW-1:0] row_1, row_5, row_6, row_14;
  wire [5:0] lanes_3, lanes_12;
  wire [1:0] exponent_2;
  wire [2:0] sum_5;  // sum, first, last group of a row
  wire [2:0] max_12;
  wire [COLS*8-1:0] t_4;
  wire [16:0] r_6;
  logic [COLS*8-1:0] t_5, t_6;
  logic [COLS*9-1:0] code_12;
  delay #(.BITS(SW), .N(1)) u_row_1 (.clk, .i(row[SW-1:0]), .o(row_1));
  delay #(.BITS(SW), .N(4)) u_row_5 (.clk, .i(row_1), .o(row_5));
  delay #(.BITS(SW), .N(1)) u_row_6 (.clk, .i(row_5), .o(row_6));
  delay #(.BITS(SW), .N(8)) u_row_14 (.clk, .i(row_6), .o(row_14));
  delay #(.BITS(6), .N(3)) u_lanes_3 (.clk, .i(lanes), .o(lanes_3));
  delay #(.BITS(6), .N(9)) u_lanes_12 (.clk, .i(lanes_3), .o(lanes_12));
  delay #(.BITS(2), .N(2)) u_exponent_2 (.clk, .i(cur.exponent), .o(exponent_2));
  delay #(.BITS(3), .N(5)) u_sum_5 (.clk, .i({valid && done && is_sum, row_first, row_last}), .o(sum_5));
  delay #(.BITS(3), .N(12)) u_max_12 (.clk, .i({makes_code && cur.track_max, row_first, row_last}), .o(max_12));
  softmax #(
      .COLS(COLS),
      .ROWS_DEPTH(SOFTMAX_ROWS),
      .DIVIDERS(DIVIDERS)
  ) u_softmax (
      .clk,
      .rst,
      .i_row_1(row_1),
      .i_row_5(row_5),
      .i_row_6(row_6),
      .i_scores_2(block_2),
      .i_lanes_3(lanes_3),
      .i_exponent_2(exponent_2),
      .i_sum_5(sum_5[2]),
      .i_row_first_5(sum_5[1]),
      .i_row_last_5(sum_5[0]),
      .i_numerator_6(at_6.numerator),
      .o_t_4(t_4),
      .o_r_6(r_6),
      .i_max_12(max_12[2]),
      .i_row_first_12(max_12[1]),
      .i_row_last_12(max_12[0]),
      .i_row_14(row_14),
      .i_lanes_12(lanes_12),
      .i_codes_12(code_12)
  );
  always_ff @(posedge clk) {t_6, t_5} <= {t_5, t_4};

  // Input counts: up to four a cycle, the anchor subtracted
  logic [16:0] anchor;
  logic [4*17-1:0] difference_6;
  wire [13:0] sample_4;
  logic [1:0] lane_5;
  delay #(.BITS(14), .N(4)) u_sample_4 (.clk, .i(sample), .o(sample_4));
  delay #(.BITS(1), .N(6)) u_free (.clk, .i(free_input), .o(o_free_input));
  assign o_input_address = sample_4[2+:IW];
  always_ff @(posedge clk) begin
    if (take_input) anchor <= {i_anchor[15], i_anchor};
    lane_5 <= sample_4[1:0];
    for (int s = 0; s < 4; s++)
      difference_6[s*17+:17] <= 17'($signed(i_input_word[((s+lane_5)%4)*16+:16])) - anchor;
  end

  // Stage 1
  logic [25*COLS-1:0] a_6;
  logic [18*COLS-1:0] m_6;
  wire [2:0] opcode_6 = at_6.opcode;
  always_comb
    for (int c = 0; c < COLS; c++) begin
      case (opcode_6)
        OP_QUANTISE: a_6[c*25+:25] = 25'($signed(difference_6[(c%4)*17+:17]));
        OP_PROBABILITY: a_6[c*25+:25] = {17'd0, t_6[c*8+:8]};
        OP_OUTPUT: a_6[c*25+:25] = 25'(code_6);
        default: a_6[c*25+:25] = sum_6[c*25+:25];
      endcase
      m_6[c*18+:18] = opcode_6 == OP_PROBABILITY ? {1'b0, r_6} : {2'b0, scale_6[c*22+:16]};
    end

  logic [COLS*6-1:0] shift_6, shift_9;
  wire signed [18:0] wide_12;
  always_comb for (int c = 0; c < COLS; c++) shift_6[c*6+:6] = scale_6[c*22+16+:6];
  delay #(.BITS(COLS * 6), .N(3)) u_shift (.clk, .i(shift_6), .o(shift_9));
  for (genvar c = 0; c < COLS; c++) begin : g_stage1
    wire signed [(c == 0 ? 18 : 10):0] wide;
    requantise #(
        .A(25),
        .M(18),
        .OUT(c == 0 ? 18 : 10)  // lane 0 also makes counts
    ) u_requantise (
        .clk,
        .i_a(a_6[c*25+:25]),
        .i_m(m_6[c*18+:18]),
        .i_shift(shift_9[c*6+:6]),
        .i_zero(at_11.z1),
        .i_low(at_11.low1),
        .i_high(at_11.high1),
        .o_code(code_12[c*9+:9]),
        .o_wide(wide)
    );
    if (c == 0) assign wide_12 = wide;
  end

  // Counts: the anchor added back, saturated
  wire signed [19:0] count_12 = 20'(wide_12) + 20'($signed(anchor));
  always_ff @(posedge clk) begin
    o_count_valid <= !rst && code_valid[12] && at_12.opcode == OP_OUTPUT;
    o_count <= count_12 > 20'sd32767 ? 16'h7FFF : count_12 < -20'sd32768 ? 16'h8000 : count_12[15:0];
  end

  // Stage 2: m1 * code + m2 * residual + c; the residual memory is read in cycle 11, and its word is there with the code
  wire [RW-1:0] r_address_11, s_address_19;
  wire [QW-1:0] q_address_11;
  wire [COLS*8-1:0] r_12;
  wire [COLS*22-1:0] add1_12;
  wire [COLS*17-1:0] add2_12;
  wire [COLS*32-1:0] addc_12;
  wire [COLS*17-1:0] load_17 = {COLS{i_load_data[16:0]}};
  logic [COLS*9-1:0] code_19;
  wire s_write_19 = code_valid[19] && at_19.s_write;
  localparam int R_WORDS = COLS / 4;
  wire [R_WORDS-1:0] r_lane = R_WORDS == 1 ? 1'b1 : R_WORDS'(1) << i_load_address[2+:(R_WORDS == 1 ? 1 : $clog2(R_WORDS))];
  wire r_load = i_load && region == REGION_RESIDUAL;
  logic [COLS*8-1:0] s_data;
  always_comb for (int c = 0; c < COLS; c++) s_data[c*8+:8] = code_19[c*9+:8];

  delay #(.BITS(RW), .N(11)) u_r_11 (.clk, .i(r_address[RW-1:0]), .o(r_address_11));
  delay #(.BITS(RW), .N(19)) u_s_19 (.clk, .i(s_address[RW-1:0]), .o(s_address_19));
  delay #(.BITS(QW), .N(11)) u_q_11 (.clk, .i(q_address[QW-1:0]), .o(q_address_11));
  memory #(
      .LANES(R_WORDS),
      .BITS(32),
      .DEPTH(RESIDUAL_DEPTH)
  ) u_residual (
      .clk,
      .i_write(r_load ? r_lane : {R_WORDS{s_write_19}}),
      .i_write_address(r_load ? i_load_address[2+$clog2(R_WORDS)+:RW] : s_address_19),
      .i_data(r_load ? {R_WORDS{i_load_data}} : s_data),
      .i_read_address(r_address_11),
      .o_data(r_12)
  );
  memory #(.LANES(COLS), .BITS(22), .DEPTH(ADD_DEPTH), .STYLE("distributed")) u_add1 (
      .clk,
      .i_write(i_load && region == REGION_ADD1 ? load_lane : '0),
      .i_write_address(i_load_address[2+LC+:QW]),
      .i_data(load_22),
      .i_read_address(q_address_11),
      .o_data(add1_12)
  );
  memory #(.LANES(COLS), .BITS(17), .DEPTH(ADD_DEPTH), .STYLE("distributed")) u_add2 (
      .clk,
      .i_write(i_load && region == REGION_ADD2 ? load_lane : '0),
      .i_write_address(i_load_address[2+LC+:QW]),
      .i_data(load_17),
      .i_read_address(q_address_11),
      .o_data(add2_12)
  );
  memory #(.LANES(COLS), .BITS(32), .DEPTH(ADD_DEPTH), .STYLE("distributed")) u_addc (
      .clk,
      .i_write(i_load && region == REGION_ADDC ? load_lane : '0),
      .i_write_address(i_load_address[2+LC+:QW]),
      .i_data({COLS{i_load_data}}),
      .i_read_address(q_address_11),
      .o_data(addc_12)
  );

  logic [COLS*5-1:0] shift_12;
  wire [COLS*5-1:0] shift_16;
  always_comb for (int c = 0; c < COLS; c++) shift_12[c*5+:5] = add1_12[c*22+17+:5];
  delay #(.BITS(COLS * 5), .N(4)) u_shift2 (.clk, .i(shift_12), .o(shift_16));
  for (genvar c = 0; c < COLS; c++) begin : g_stage2
    wire signed [10:0] unused;
    logic signed [8:0] code, residual;
    logic signed [16:0] m1, m2;
    logic signed [31:0] offset_13, offset_14, sum_15, sum_16;
    logic signed [25:0] product1, product2, product2_15;
    always_ff @(posedge clk) begin
      code <= $signed(code_12[c*9+:9]);
      residual <= $signed({!at_12.r_unsigned && r_12[c*8+7], r_12[c*8+:8]});
      m1 <= $signed(add1_12[c*22+:17]);
      m2 <= $signed(add2_12[c*17+:17]);
      offset_13 <= $signed(addc_12[c*32+:32]);
      offset_14 <= offset_13;
      product1 <= m1 * code;
      product2 <= m2 * residual;
      sum_15 <= 32'(product1) + offset_14;
      product2_15 <= product2;
      sum_16 <= sum_15 + 32'(product2_15);
    end
    scale_clamp #(
        .BITS(32),
        .ROUND(1'b0)
    ) u_add (
        .clk,
        .i_value(sum_16),
        .i_shift({1'b0, shift_16[c*5+:5]}),
        .i_zero(at_18.z2),
        .i_low(at_18.low2),
        .i_high(at_18.high2),
        .o_code(code_19[c*9+:9]),
        .o_wide(unused)
    );
  end

  // Stage 3
  logic [COLS*9-1:0] code_25;
  for (genvar c = 0; c < COLS; c++) begin : g_stage3
    wire signed [10:0] unused;
    requantise #(
        .A(10),
        .M(17)
    ) u_operand (
        .clk,
        .i_a(10'($signed(code_19[c*9+:9])) - 10'($signed(at_19.z2))),
        .i_m({1'b0, at_19.m3}),
        .i_shift(at_22.n3),
        .i_zero(at_24.z3),
        .i_low(at_24.low3),
        .i_high(at_24.high3),
        .o_code(code_25[c*9+:9]),
        .o_wide(unused)
    );
  end

  // Writing of codes, from stage 1 in cycle 12 or from stage 3 in cycle 25
  wire [12:0] d_address_12, d_address_25;
  wire [LR-1:0] offset_12, offset_25, token_12;
  delay #(.BITS(13), .N(12)) u_d_12 (.clk, .i(d_address), .o(d_address_12));
  delay #(.BITS(13), .N(13)) u_d_25 (.clk, .i(d_address_12), .o(d_address_25));
  delay #(.BITS(LR), .N(12)) u_offset_12 (.clk, .i(offset[LR-1:0]), .o(offset_12));
  delay #(.BITS(LR), .N(13)) u_offset_25 (.clk, .i(offset_12), .o(offset_25));
  delay #(.BITS(LR), .N(12)) u_token_12 (.clk, .i(token[LR-1:0]), .o(token_12));
  wire [2:0] opcode_12 = at_12.opcode;
  wire [1:0] dest_12 = at_12.dest;
  wire [1:0] lanes_of_12 = at_12.lanes;
  wire early = code_valid[12] && dest_12 == TO_CODES && !at_12.add && opcode_12 != OP_OUTPUT;
  wire late = code_valid[25] && at_25.dest == TO_CODES && at_25.add;

  always_comb begin
    x_write_address = late ? d_address_25[CW-1:0] : d_address_12[CW-1:0];
    for (int r = 0; r < ROWS; r++) begin
      x_data[r*8+:8] = late ? code_25[(r%COLS)*9+:8] : code_12[(r%COLS)*9+:8];
      x_write[r] = late ? offset_25 / COLS == r / COLS : early && offset_12 / COLS == r / COLS;
      if (early && opcode_12 == OP_QUANTISE) begin
        x_write[r] = offset_12 >> lanes_of_12 == r >> lanes_of_12;
        x_data[r*8+:8] = code_12[(lanes_of_12 == 2 ? r % 4 : lanes_of_12 == 1 ? r % 2 : 0)*9+:8];
      end
    end
    // keys: a token is a column, values: a token is a row
    kv_write_address = d_address_12[VW-1:0];
    for (int c = 0; c < COLS; c++)
      for (int r = 0; r < ROWS; r++) begin
        kv_data[(c*ROWS+r)*8+:8] = dest_12 == TO_KEYS ? code_12[(r%COLS)*9+:8] : code_12[c*9+:8];
        kv_write[c*ROWS+r] = code_valid[12] && (
            dest_12 == TO_KEYS ? token_12[LC-1:0] == c && offset_12 / COLS == r / COLS
                               : dest_12 == TO_VALUES && token_12 == r);
      end
  end

  // What can go wrong
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
  always_ff @(posedge clk)
    if (rst) o_cause <= CAUSE_NONE;
    else if (o_cause == CAUSE_NONE) begin
      if (bad_word) o_cause <= CAUSE_PROGRAM;
      else if (valid && cur.opcode != OP_END && outside) o_cause <= CAUSE_ADDRESS;
      else if (early && late) o_cause <= CAUSE_COLLISION;
    end
endmodule

`default_nettype wire
