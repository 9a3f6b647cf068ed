// The engine for an iCE40UP5K: the instructions of the larger one, a result at a time, eight products a cycle from multiplier blocks, everything
// large in the single-port memories. One instruction is in the pipeline at a time. Signals end in the cycle of the pipeline they belong to: an
// issue of the sequencer is cycle 0, the result that it completes is that of valid[n] in cycle n. What does not need the first stages begins
// further down, at `entry`. A code is made in cycle 11, the sum with the residual in cycle 16, the operand made of that in cycle 17.
`default_nettype none

import engine_pkg::*;

module small_core #(
    parameter int CODE_DEPTH = 512,
    parameter int KV_DEPTH = 1024,
    parameter int RESIDUAL_DEPTH = 4096,
    parameter int PARAM_DEPTH = 512,
    parameter int ADD_DEPTH = 256,
    parameter int SOFTMAX_ROWS = 256,
    parameter int PROGRAM_WORDS = 4096,
    parameter int INPUT_WORDS = 1024,
    parameter int OUTPUT_WORDS = 128,
    parameter int TABLES = 8,
    parameter int BYTES = 65536
) (
    input  wire         clk,
    input  wire         rst,
    input  wire         i_start,
    input  wire  [15:0] i_windows,
    input  wire  [31:0] i_in_base,
    input  wire  [31:0] i_in_end,
    input  wire  [31:0] i_out_base,
    input  wire  [31:0] i_out_end,
    input  wire  [15:0] i_context,
    input  wire  [15:0] i_horizon,
    input  wire  [16:0] i_anchor,
    output wire  [3:0]  o_job_cause,
    output logic [3:0]  o_cause,
    output wire  [15:0] o_pc,
    output wire         o_running,
    output wire  [15:0] o_finished,
    // loading of memories
    input  wire  [31:0] i_data,          // this, or windows
    input  wire         i_load,
    input  wire  [19:2] i_load_address,
    // windows and forecasts: taken with i_valid and o_ready; what is read is valid in the next cycle
    input  wire         i_valid,
    input  wire         i_write,
    input  wire  [$clog2(BYTES/4)-1:0] i_address,
    output wire         o_ready,
    output wire  [31:0] o_data
);
  localparam int CW = $clog2(CODE_DEPTH), VW = $clog2(KV_DEPTH), RW = $clog2(RESIDUAL_DEPTH), PW = $clog2(PARAM_DEPTH);
  localparam int QW = $clog2(ADD_DEPTH), SW = $clog2(SOFTMAX_ROWS), TW = $clog2(TABLES), DW = CW > VW ? CW : VW;
  wire [3:0] region = &i_load_address[19:18] ? REGION_WEIGHTS : i_load_address[19:16];

  // Sequencer and job
  engine_pkg::instruction_t cur;
  wire begins, ends, bad_word, mine, fetch, asks, busy, waits, load, issue, done, first, code_high, row_last, exists;
  wire [$clog2(PROGRAM_WORDS)-1:0] fetch_address;
  wire [CW:0] x_address;
  wire [12:0] w_address, sample;
  wire [2:0] offset;
  wire [31:0] word_1, low_1, high_1;
  wire [15:0] count_1, anchor;
  wire [7:0] byte_1;
  wire [$clog2(BYTES/2)-1:0] sample_place, count_place;
  wire is_quantise = cur.opcode == OP_QUANTISE, is_sum = cur.opcode == OP_SUM, is_probability = cur.opcode == OP_PROBABILITY;
  wire is_output = cur.opcode == OP_OUTPUT, is_attend = cur.opcode == OP_ATTEND;
  wire makes_anchor, puts_count, beyond;
  logic [15:0] count_12;
  small_sequencer #(.PROGRAM_WORDS(PROGRAM_WORDS), .X(CW + 1)) u_sequencer (
      .clk, .rst, .i_begin(begins), .o_end(ends), .o_bad_word(bad_word), .o_pc,
      .i_mine(mine), .o_fetch(fetch), .o_fetch_address(fetch_address), .i_word(word_1),
      .i_busy(busy), .i_wait(waits), .o_load(load), .o_current(cur), .o_valid(issue), .o_done(done), .o_first(first),
      .o_code_high(code_high), .o_row_last(row_last), .o_exists(exists),
      .o_x_address(x_address), .o_w_address(w_address), .o_sample(sample), .o_offset(offset)
  );
  small_job #(.INPUT_WORDS(INPUT_WORDS), .OUTPUT_WORDS(OUTPUT_WORDS), .BYTES(BYTES)) u_job (
      .clk, .rst, .i_start, .i_windows, .i_in_base, .i_in_end, .i_out_base, .i_out_end, .i_context, .i_horizon, .i_anchor,
      .o_cause(o_job_cause), .o_running, .o_finished, .o_begins(begins), .i_ends(ends),
      .o_asks(asks), .i_mine(mine), .i_sample(sample), .o_sample_place(sample_place), .i_sample_1(count_1),
      .o_anchor(anchor), .i_makes_anchor(makes_anchor), .i_puts_count(puts_count), .i_count(count_12),
      .o_beyond(beyond), .o_count_place(count_place)
  );

  // The pipeline: results, and issues on their way to the accumulator
  logic [17:1] valid, last;
  logic [5:1] passes, firsts, highs;
  wire makes = issue && done && !is_sum, divides;
  wire [2:0] entry = is_quantise || is_output ? 3'd5 : is_probability ? 3'd4 : 3'd1;
  always_ff @(posedge clk) begin
    valid <= {valid[16:13], valid[12] && cur.add, valid[11:1], 1'b0};
    last <= {last[16:1], row_last};
    for (int i = 1; i <= 5; i++) if (entry == 3'(i)) {valid[i], last[i]} <= {makes, row_last};
    passes <= {passes[4:1], issue};
    firsts <= {firsts[4:1], first};
    highs <= {highs[4:1], code_high};
    if (rst) {valid, passes} <= '0;
  end
  assign busy = valid != 0 || passes != 0 || divides;
  wire puts_sum = valid[16] && cur.add && cur.s_write, puts_kv = valid[11] && cur.dest[1];
  assign waits = cur.add && cur.s_write && valid[6];  // or the residual of one and the sum of the other want the memory at once
  assign puts_count = valid[12] && is_output;
  assign makes_anchor = valid[12] && !is_output && cur.dest == TO_NONE && !cur.add;

  // Places of results
  wire [PW:0] p_address;
  wire [QW:0] q_address;
  wire [RW:0] r_address, s_address;
  wire [DW:0] d_address;
  wire [SW:0] row;
  walk #(.BITS(PW + 1), .AGAIN(1'b1)) u_p (
      .clk, .i_load(load), .i_base((PW + 1)'(cur.p_base)), .i_step(valid[4]), .i_last(last[4]), .i_next((PW + 1)'(cur.p_group)),
      .i_row('0), .o_address(p_address)
  );
  walk #(.BITS(QW + 1), .AGAIN(1'b1)) u_q (
      .clk, .i_load(load), .i_base((QW + 1)'(cur.q_base)), .i_step(valid[10]), .i_last(last[10]), .i_next((QW + 1)'(1)), .i_row('0),
      .o_address(q_address)
  );
  walk #(.BITS(RW + 1)) u_r (
      .clk, .i_load(load), .i_base((RW + 1)'(cur.r_base)), .i_step(valid[10]), .i_last(last[10]), .i_next((RW + 1)'(1)),
      .i_row((RW + 1)'(cur.r_token)), .o_address(r_address)
  );
  walk #(.BITS(RW + 1)) u_s (
      .clk, .i_load(load), .i_base((RW + 1)'(cur.s_base)), .i_step(valid[16]), .i_last(last[16]), .i_next((RW + 1)'(1)),
      .i_row((RW + 1)'(cur.s_token)), .o_address(s_address)
  );
  // of a code, a key, a value: its row of eight; keys: a token is a row, values: a channel is
  logic [2:0] in_row, token;
  wire written = cur.add ? valid[17] : valid[11], written_last = cur.add ? last[17] : last[11];
  wire is_keys = cur.dest == TO_KEYS, is_values = cur.dest == TO_VALUES;
  walk #(.BITS(DW + 1)) u_d (
      .clk, .i_load(load), .i_base((DW + 1)'(cur.d_base)), .i_step(written), .i_last(written_last),
      .i_next(is_values ? (DW + 1)'(cur.d_token) : (DW + 1)'(in_row == 3'd7)),
      .i_row(is_values ? (DW + 1)'(token == 3'd7) : (DW + 1)'(cur.d_token)), .o_address(d_address)
  );
  always_ff @(posedge clk)
    if (load) {in_row, token} <= '0;
    else if (written) begin
      in_row <= written_last ? 3'd0 : in_row + 1'b1;
      token <= token + 3'(written_last);
    end

  // Memories
  wire signed [8:0] code_11, sum_16;
  wire signed [18:0] wide_11;
  shared_memory #(.BYTES(BYTES)) u_shared (
      .clk, .i_data, .i_load, .i_region(region), .i_load_address(i_load_address[14:2]),
      .i_get_residual(valid[10] && cur.add), .i_residual_place(r_address[RW-1:0]),
      .i_put_sum(puts_sum), .i_sum_place(s_address[RW-1:0]), .i_sum(sum_16[7:0]),
      .i_put_kv(puts_kv), .i_kv_place(d_address[VW-1:0]), .i_kv_lane(is_keys ? in_row : token), .i_kv(code_11[7:0]),
      .i_put_count(puts_count && !beyond), .i_count_place(count_place), .i_count(count_12),
      .i_valid, .i_write, .i_address, .o_ready,
      .o_mine(mine), .i_fetch(fetch), .i_fetch_address(fetch_address), .i_samples(asks || is_quantise), .i_sample_place(sample_place),
      .i_attend(is_attend), .i_weight_place(w_address),
      .o_low(low_1), .o_high(high_1), .o_word(word_1), .o_count(count_1), .o_byte(byte_1)
  );
  assign o_data = word_1;
  wire [63:0] codes_1;
  wire [7:0] looked_up;
  wire late = valid[17] && cur.add && cur.dest == TO_CODES;
  wire early = valid[11] && !cur.add && cur.dest == TO_CODES && !is_output;
  wire [7:0] operand = {looked_up[7:4], cur.lut_high ? looked_up[7:4] : looked_up[3:0]};
  memory #(
      .LANES(8), .BITS(8), .DEPTH(CODE_DEPTH)
  ) u_codes (
      .clk, .i_write(early || late ? 8'd1 << in_row : 8'd0), .i_write_address(d_address[CW-1:0]), .i_data({8{late ? operand : code_11[7:0]}}),
      .i_read_address(x_address[CW-1:0]), .o_data(codes_1)
  );
  wire signed [24:0] bias_5;
  wire [21:0] scale_5, add1_11;
  wire [16:0] add2_11;
  wire [31:0] addc_11;
  small_parameters #(.DEPTH(PARAM_DEPTH), .WIDTHS({32'd0, 32'd22, 32'd25})) u_parameters (
      .clk, .i_write({1'b0, i_load && region == REGION_SCALE, i_load && region == REGION_BIAS}),
      .i_write_address(i_load_address[2+:PW]), .i_data(i_data), .i_read_address(p_address[PW-1:0]), .o_data({scale_5, bias_5})
  );
  small_parameters #(.DEPTH(ADD_DEPTH), .WIDTHS({32'd32, 32'd17, 32'd22})) u_adds (
      .clk, .i_write({i_load && region == REGION_ADDC, i_load && region == REGION_ADD2, i_load && region == REGION_ADD1}),
      .i_write_address(i_load_address[2+:QW]), .i_data(i_data), .i_read_address(q_address[QW-1:0]),
      .o_data({addc_11, add2_11, add1_11})
  );
  wire [7:0] index_2;
  memory #(
      .LANES(1), .BITS(8), .DEPTH(256 * TABLES)
  ) u_tables (
      .clk, .i_write(i_load && region == REGION_TABLES), .i_write_address(i_load_address[2+:TW+8]), .i_data(i_data[7:0]),
      .i_read_address({cur.lut[TW-1:0], cur.add ? sum_16[7:0] : index_2}), .o_data(looked_up)
  );

  // Operands of the first stage
  wire signed [24:0] total_6;
  small_products u_products (
      .clk, .i_codes(codes_1), .i_x_wide(cur.x_wide), .i_x_unsigned(cur.x_unsigned), .i_code_high(highs[1]), .i_low(low_1), .i_high(high_1),
      .i_w_wide(cur.w_wide), .i_pass(passes[5]), .i_first(firsts[5]), .i_high_5(highs[5]), .i_bias(bias_5), .o_sum(total_6)
  );
  logic [2:0] offset_1;
  wire [7:0] code_1 = codes_1[8*offset_1+:8], t_6;
  wire [16:0] r_6;
  small_softmax #(.ROWS(SOFTMAX_ROWS)) u_softmax (
      .clk, .rst, .i_load(load), .i_base((SW + 1)'(cur.row)), .i_step(issue && done && row_last), .i_exists(exists),
      .i_sum(issue && done && is_sum), .i_row_last(row_last), .o_row(row), .i_score_1(code_1), .o_index_2(index_2), .i_looked_up_3(looked_up),
      .o_t_3(t_6), .o_r_3(r_6), .i_numerator(cur.numerator), .o_divides(divides),
      .i_made(valid[11] && cur.track_max), .i_made_last(last[11]), .i_made_score(code_11[7:0])
  );
  logic signed [17:0] narrow_6;  // a sample less its anchor, or a code less its zero point
  logic [21:0] scale_6;
  wire signed [17:0] from_1 = is_quantise ? 18'($signed(count_1)) : 18'($signed({!cur.x_unsigned && code_1[7], code_1}));
  wire signed [17:0] less_1 = is_quantise ? 18'($signed(anchor)) : 18'($signed(cur.z2));
  wire signed [24:0] a_6 = is_quantise || is_output ? 25'(narrow_6) : !is_probability ? total_6 :
      scale_6[1] ? {16'd0, t_6, 1'b0} : {17'd0, t_6};
  small_stages u_stages (
      .clk, .i_current(cur), .i_a(a_6), .i_m(is_probability ? r_6 : scale_6[16:0]), .i_shift(scale_6[21:17]), .o_code(code_11),
      .o_wide(wide_11), .i_residual(byte_1), .i_add1(add1_11), .i_add2(add2_11), .i_addc(addc_11), .o_sum(sum_16)
  );
  wire signed [19:0] count_11 = 20'(wide_11) + (cur.opcode == OP_MATMUL ? 20'sd0 : 20'($signed(anchor)));
  always_ff @(posedge clk) begin
    offset_1 <= offset;
    narrow_6 <= from_1 - less_1;
    scale_6 <= scale_5;
    count_12 <= count_11 > 20'sd32767 ? 16'h7FFF : count_11 < -20'sd32768 ? 16'h8000 : count_11[15:0];
  end

  // Faults: places have a bit more than their memories
  wire outside = issue && (is_quantise ? 32'(sample) >= 4 * INPUT_WORDS : x_address[CW]) || issue && is_attend && w_address[12:VW] != 0
      || issue && (is_sum || is_probability || cur.track_max) && row[SW] || valid[4] && p_address[PW]
      || valid[10] && cur.add && (q_address[QW] || r_address[RW]) || puts_sum && s_address[RW]
      || (early || late) && d_address[DW:CW] != 0 || puts_kv && d_address[DW] || beyond;
  always_ff @(posedge clk)
    if (rst) o_cause <= CAUSE_NONE;
    else if (o_cause == CAUSE_NONE) o_cause <= bad_word ? CAUSE_PROGRAM : outside ? CAUSE_ADDRESS : CAUSE_NONE;
endmodule

// Parameters of channels: up to three fields, each written by itself, of WIDTHS bits, the first lowest; a word read is valid one cycle after its
// address.
module small_parameters #(
    parameter int DEPTH = 256,
    parameter bit [95:0] WIDTHS = 0,
    localparam int A = WIDTHS[31:0], B = WIDTHS[63:32], C = WIDTHS[95:64], AW = $clog2(DEPTH)
) (
    input  wire               clk,
    input  wire  [2:0]        i_write,
    input  wire  [AW-1:0]     i_write_address,
    input  wire  [31:0]       i_data,
    input  wire  [AW-1:0]     i_read_address,
    output logic [A+B+C-1:0]  o_data
);
  wire [95:0] data = 96'(i_data[A-1:0]) | 96'(i_data[B-1:0]) << A | 96'(i_data) << (A + B);
  (* ram_style = "block", no_rw_check *) logic [A+B+C-1:0] words[DEPTH];
  always_ff @(posedge clk) begin
    for (int i = 0; i < A + B + C; i++)
      if (i < A ? i_write[0] : i < A + B ? i_write[1] : i_write[2]) words[i_write_address][i] <= data[i];
    o_data <= words[i_read_address];
  end
endmodule

`default_nettype wire
