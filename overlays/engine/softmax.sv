// The softmax of a row of scores, in two passes over it. `sum`: T[max - score] summed up, and r = N / sum by a divider.
// `probability`: T again, for requantisation with r as multiplier. The largest score of each row was kept when the scores were written.
// The tables T are outside, since they share a memory with those of operands.
// Timing: the issue in cycle 0, scores in cycle 2, place in the table in cycle 3, T in cycle 4, and both operands of the requantisation, T and
// r, in cycle 7; r of a row was written 17 cycles after the last issue of its row.
`default_nettype none

module softmax #(
    parameter int COLS = 4,
    parameter int ROWS_DEPTH = 64,
    parameter int DIVIDERS = 2,
    localparam int RW = $clog2(ROWS_DEPTH)
) (
    input  wire               clk,
    input  wire               rst,
    // cycle 0
    input  wire  [RW-1:0]     i_row,
    input  wire               i_row_first,  // the first, the last group of its row
    input  wire               i_row_last,
    input  wire  [5:0]        i_lanes,      // lanes that hold a score
    input  wire               i_sum,        // a group to be summed
    input  wire               i_max,        // a group of scores is made, the largest is to be kept
    // later cycles
    input  wire  [COLS*8-1:0] i_scores_2,
    output logic [COLS*8-1:0] o_index_3,
    input  wire  [COLS*8-1:0] i_looked_up_4,
    output logic [COLS*8-1:0] o_t_7,
    output wire  [16:0]       o_r_7,
    input  wire  [24:0]       i_numerator_7,
    input  wire  [COLS*9-1:0] i_code_13
);
  // What travels with an issue
  wire [RW-1:0] row_1, row_6, row_7, row_16;
  wire [5:0] lanes_4, lanes_13;
  wire sum_6, row_first_6, row_last_6, max_13, row_first_13, row_last_13;
  delay #(.BITS(RW), .N(1)) u_row_1 (.clk, .i(i_row), .o(row_1));
  delay #(.BITS(RW), .N(5)) u_row_6 (.clk, .i(row_1), .o(row_6));
  delay #(.BITS(RW), .N(1)) u_row_7 (.clk, .i(row_6), .o(row_7));
  delay #(.BITS(RW), .N(9)) u_row_16 (.clk, .i(row_7), .o(row_16));
  delay #(.BITS(6), .N(4)) u_lanes_4 (.clk, .i(i_lanes), .o(lanes_4));
  delay #(.BITS(6), .N(9)) u_lanes_13 (.clk, .i(lanes_4), .o(lanes_13));
  delay #(.BITS(3), .N(6)) u_sum_6 (.clk, .i({i_sum, i_row_first, i_row_last}), .o({sum_6, row_first_6, row_last_6}));
  delay #(.BITS(3), .N(13)) u_max_13 (.clk, .i({i_max, i_row_first, i_row_last}), .o({max_13, row_first_13, row_last_13}));

  // Largest score of each row
  localparam int HALF = COLS > 4 ? COLS / 4 : COLS / 2;  // what is left after half of the comparisons
  logic [COLS*8-1:0] half_d;
  logic [HALF*8-1:0] half, whole_d;
  logic signed [7:0] largest, running;
  logic [1:0] max_at, first_at, last_at;  // cycles 14 and 15
  logic write_16;
  wire [7:0] max_2;

  function automatic logic [7:0] larger(input logic signed [7:0] a, input logic signed [7:0] b);
    larger = a > b ? a : b;
  endfunction

  always_comb begin  // comparisons of neighbours, in place
    for (int c = 0; c < COLS; c++) half_d[c*8+:8] = 6'(c) < lanes_13 ? i_code_13[c*9+:8] : 8'h80;
    for (int n = COLS / 2; n >= HALF; n = n / 2)
      for (int c = 0; c < n; c++) half_d[c*8+:8] = larger(half_d[c*16+:8], half_d[c*16+8+:8]);
    whole_d = half;
    for (int n = HALF / 2; n >= 1; n = n / 2)
      for (int c = 0; c < n; c++) whole_d[c*8+:8] = larger(whole_d[c*16+:8], whole_d[c*16+8+:8]);
  end
  always_ff @(posedge clk) begin
    half <= half_d[HALF*8-1:0];
    largest <= $signed(whole_d[7:0]);
    max_at <= {max_at[0], max_13};
    first_at <= {first_at[0], row_first_13};
    last_at <= {last_at[0], row_last_13};
    write_16 <= max_at[1] && last_at[1];
    if (max_at[1]) running <= first_at[1] || largest > running ? largest : running;
  end
  memory #(
      .LANES(1),
      .BITS(8),
      .DEPTH(ROWS_DEPTH),
      .BLOCK(1'b0)
  ) u_max (
      .clk,
      .i_write(write_16),
      .i_write_address(row_16),
      .i_data(running),
      .i_read_address(row_1),
      .o_data(max_2)
  );

  // Place in the table
  always_ff @(posedge clk) for (int c = 0; c < COLS; c++) o_index_3[c*8+:8] <= max_2 - i_scores_2[c*8+:8];

  // T of the lanes that hold a score
  logic [COLS*8-1:0] t_4, t_5, t_6;
  always_comb for (int c = 0; c < COLS; c++) t_4[c*8+:8] = 6'(c) < lanes_4 ? i_looked_up_4[c*8+:8] : 8'd0;
  always_ff @(posedge clk) {o_t_7, t_6, t_5} <= {t_6, t_5, t_4};

  // Sum of a row
  logic [12:0] partial_d;
  logic [12:0] partial;
  logic [17:0] total;
  logic start;
  always_comb begin
    partial_d = '0;
    for (int c = 0; c < COLS; c++) partial_d = partial_d + 13'(t_5[c*8+:8]);
  end
  always_ff @(posedge clk) begin
    partial <= partial_d;
    if (sum_6) total <= 18'(partial) + (row_first_6 ? 18'd0 : total);
    start <= !rst && sum_6 && row_last_6;
  end

  // r = N / total, two bits a cycle, in the divider whose turn it is. N < 255 * 2^17 and total >= 255, so r has 17 bits.
  logic [DIVIDERS-1:0] turn, finished;
  logic [DIVIDERS*(RW+17)-1:0] results;
  logic [RW+16:0] result;
  always_ff @(posedge clk) begin
    if (rst) turn <= 1;
    else if (start) turn <= DIVIDERS == 1 ? turn : {turn[DIVIDERS-2:0], turn[DIVIDERS-1]};
  end
  for (genvar d = 0; d < DIVIDERS; d++) begin : g_divider
    divider #(
        .TAG(RW)
    ) u_divider (
        .clk,
        .rst,
        .i_start(start && turn[d]),
        .i_tag(row_7),
        .i_numerator(i_numerator_7),
        .i_denominator(total),
        .o_done(finished[d]),
        .o_quotient(results[d*(RW+17)+:17]),
        .o_tag(results[d*(RW+17)+17+:RW])
    );
  end
  always_comb begin
    result = '0;
    for (int d = 0; d < DIVIDERS; d++) if (finished[d]) result = result | results[d*(RW+17)+:RW+17];
  end
  memory #(
      .LANES(1),
      .BITS(17),
      .DEPTH(ROWS_DEPTH),
      .BLOCK(1'b0)
  ) u_reciprocal (
      .clk,
      .i_write(|finished),
      .i_write_address(result[RW+16:17]),
      .i_data(result[16:0]),
      .i_read_address(row_6),
      .o_data(o_r_7)
  );
endmodule

// Quotient of 17 bits by restoring division, two bits a cycle: o_done is up 10 cycles after i_start.
module divider #(
    parameter int TAG = 6
) (
    input  wire             clk,
    input  wire             rst,
    input  wire             i_start,
    input  wire  [TAG-1:0]  i_tag,
    input  wire  [24:0]     i_numerator,
    input  wire  [17:0]     i_denominator,
    output wire             o_done,
    output wire  [16:0]     o_quotient,
    output logic [TAG-1:0]  o_tag
);
  logic [17:0] denominator, remainder, once, twice;
  logic [17:0] bits;  // of the numerator still to come; the quotient moves in behind them
  logic [9:0] step;  // where the quotient is: one bit walks down
  logic q1, q0;
  logic [18:0] r1, r0;

  always_comb begin
    r1 = {remainder, bits[17]};
    q1 = r1 >= 19'(denominator);
    once = q1 ? 18'(r1 - 19'(denominator)) : r1[17:0];
    r0 = {once, bits[16]};
    q0 = r0 >= 19'(denominator);
    twice = q0 ? 18'(r0 - 19'(denominator)) : r0[17:0];
  end
  always_ff @(posedge clk) begin
    step <= rst ? '0 : {i_start, step[9:1]};
    if (i_start) begin
      denominator <= i_denominator;
      remainder <= 18'(i_numerator[24:18]);
      bits <= i_numerator[17:0];
      o_tag <= i_tag;
    end else if (step[9:1] != 0) begin
      remainder <= twice;
      bits <= {bits[15:0], q1, q0};
    end
  end
  assign o_done = step[0];
  assign o_quotient = bits[16:0];
endmodule

`default_nettype wire
