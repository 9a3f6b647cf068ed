// Fetches the program and carries its instructions out one issue a cycle: loops over tokens, groups, chunks and nibble passes, and the
// addresses that go with them. The outputs describe cycle 0 of the pipeline. An instruction begins `stall` cycles after the last issue of
// the one before, or later where it waits for samples, a buffer or its own words: the compiler's schedule allows any such delay.
`default_nettype none

import engine_pkg::*;

module sequencer #(
    parameter int ROWS = 16,
    parameter int COLS = 4,
    parameter int PROGRAM_WORDS = 1024,
    // bits of addresses
    parameter int X = 10,
    parameter int D = 10,
    parameter int W = 10,
    parameter int R = 11,
    parameter int P = 8,
    parameter int Q = 7,
    parameter int ROW = 7,
    parameter int SAMPLE = 11,
    localparam int PW = $clog2(PROGRAM_WORDS)
) (
    input  wire                  clk,
    input  wire                  rst,
    input  wire                  i_start,
    input  wire  [15:0]          i_windows,
    output logic                 o_bad_word,
    output wire  [15:0]          o_pc,
    output wire                  o_running,      // not idle, nor waiting for the bus
    // program memory
    output wire  [PW-1:0]        o_fetch_address,
    input  wire  [31:0]          i_fetch_word,
    // buffers
    input  wire                  i_input_ready,
    input  wire                  i_missing,      // the samples to be quantised in cycle 0 are not there yet
    input  wire                  i_output_ready,
    output wire                  o_take_input,   // the window's first instruction begins
    output wire                  o_free_input,   // its last look at the input has been issued
    output wire                  o_window_end,
    // a new instruction, for the later stages
    output wire                  o_load,
    output engine_pkg::instruction_t o_next,
    // cycle 0
    output wire                  o_valid,
    output engine_pkg::instruction_t o_current,
    output logic                 o_first,
    output wire                  o_done,         // last pass of an output group
    output logic                 o_code_high,
    output logic                 o_weight_high,
    output logic [X-1:0]         o_x_address,
    output wire  [W-1:0]         o_w_address,
    output logic [P-1:0]         o_p_address,
    output logic [Q-1:0]         o_q_address,
    output logic [R-1:0]         o_r_address,
    output logic [R-1:0]         o_s_address,
    output logic [D-1:0]         o_d_address,
    output logic [9:0]           o_token,
    output wire                  o_row_first,
    output wire                  o_row_last,
    output logic [ROW-1:0]       o_row,
    output logic [5:0]           o_lanes,        // lanes that hold channels that exist
    output logic [9:0]           o_offset,       // quantise: byte of the row
    output logic [SAMPLE-1:0]    o_sample
);
  // Fetch: one instruction ahead
  engine_pkg::instruction_t next;
  logic next_valid, active;
  logic [PW-1:0] fetch_base, pc, next_pc;
  logic [$clog2(WORDS+1)-1:0] fetched;
  logic [31:0] check;
  logic [(WORDS-1)*32-1:0] shifted;
  wire take;

  assign o_fetch_address = fetch_base + PW'(fetched);
  assign next = engine_pkg::instruction_t'(shifted[PAYLOAD_BITS-1:0]);
  assign o_next = next;

  always_ff @(posedge clk) begin
    if (rst) begin
      next_valid <= 1'b0;
      fetched <= '0;
      fetch_base <= '0;
      check <= '0;
      o_bad_word <= 1'b0;
    end else if (!active || take) begin
      next_valid <= 1'b0;
      fetched <= '0;
      check <= '0;
      if (!active) fetch_base <= '0;
    end else if (!next_valid) begin
      fetched <= fetched + 1'b1;
      if (fetched != 0) check <= check ^ i_fetch_word;
      if (fetched == WORDS) begin
        next_valid <= 1'b1;
        next_pc <= fetch_base;
        fetch_base <= next.opcode == OP_END ? '0 : fetch_base + PW'(WORDS);
        o_bad_word <= (check ^ i_fetch_word) != CHECK || next.opcode == 3'd7;
      end
    end
    if (!next_valid && fetched != 0 && fetched != WORDS) shifted <= {i_fetch_word, shifted[(WORDS-1)*32-1:32]};
  end

  // Execution
  typedef enum logic [1:0] {IDLE, FETCH, WAIT, RUN} state_t;
  state_t state;
  engine_pkg::instruction_t cur;
  logic [12:0] since;
  logic [15:0] windows_left;
  logic [9:0] t, n, k, rest;
  logic [9:0] in_row;  // codes of the row behind this group
  logic [X-1:0] x_token, x_group;
  logic [R-1:0] s_token, r_token;
  logic [D-1:0] d_token;
  logic [W-1:0] w_group, w_word;

  wire last_pass = o_code_high == cur.x_wide && o_weight_high == cur.w_wide;
  wire last_chunk = k == cur.chunks;
  wire last_group = n == cur.groups;
  wire last_token = t == cur.tokens;
  wire last_issue = last_pass && last_chunk && last_group && last_token;
  wire step = state == RUN && !(cur.opcode == OP_QUANTISE && i_missing);
  wire finished = step && last_issue;
  wire window_end = finished && cur.opcode == OP_END;
  wire program_end = window_end && windows_left == 1;

  engine_pkg::instruction_t coming;
  assign coming = state == WAIT ? cur : next;
  wire gate = (!coming.wait_input || i_input_ready) && (coming.opcode != OP_OUTPUT || i_output_ready);
  wire due = state == RUN ? coming.stall == 0 : since + 1'b1 >= 13'(coming.stall);
  assign take = next_valid && !o_bad_word && (finished || state == FETCH) && !program_end;
  wire begins = (take || state == WAIT) && gate && due;

  assign o_load = take;
  assign o_take_input = begins && coming.wait_input;
  assign o_free_input = finished && cur.free_input;
  assign o_window_end = window_end;
  assign o_pc = 16'(o_bad_word ? next_pc : pc);
  assign o_running = step || state == FETCH || state == WAIT && gate;
  assign o_current = cur;
  assign o_valid = step;
  assign o_done = last_pass && last_chunk;
  assign o_row_first = n == 0;
  assign o_row_last = last_group;
  assign o_token = t;
  assign o_w_address = w_word + W'(o_weight_high && cur.opcode == OP_MATMUL);

  // Where the next group's codes begin in its row, and whether they fill the row
  wire [9:0] width = cur.opcode == OP_QUANTISE ? 10'd1 << cur.lanes : cur.opcode == OP_OUTPUT ? 10'd1 : 10'(COLS);
  wire row_full = in_row == 10'(ROWS) - width;
  wire by_row = cur.opcode == OP_SUM || cur.opcode == OP_PROBABILITY || cur.opcode == OP_OUTPUT;

  assign o_offset = in_row;
  assign o_lanes = rest >= 10'(COLS) ? 6'(COLS) : 6'(rest);

  always_ff @(posedge clk) begin
    if (rst) begin
      state <= IDLE;
      active <= 1'b0;
      since <= '0;
    end else begin
      since <= finished ? '0 : since[12] ? since : since + 1'b1;
      case (state)
        IDLE:
        if (i_start) begin
          state <= FETCH;
          active <= 1'b1;
          windows_left <= i_windows;
          since <= '0;
        end
        FETCH: if (take) state <= begins ? RUN : WAIT;
        WAIT: if (begins) state <= RUN;
        RUN:
        if (finished) begin
          state <= program_end ? IDLE : take ? (begins ? RUN : WAIT) : FETCH;
          if (program_end) active <= 1'b0;
        end
      endcase
      if (window_end) windows_left <= windows_left - 1'b1;
    end

    if (take) begin
      cur <= next;
      pc <= next_pc;
      t <= '0;
      n <= '0;
      k <= '0;
      o_first <= 1'b1;
      o_code_high <= 1'b0;
      o_weight_high <= 1'b0;
      {o_x_address, x_group, x_token} <= {3{X'(next.x_base)}};
      {w_word, w_group} <= {2{W'(next.w_base)}};
      o_p_address <= P'(next.p_base);
      o_q_address <= Q'(next.q_base);
      {o_r_address, r_token} <= {2{R'(next.r_base)}};
      {o_s_address, s_token} <= {2{R'(next.s_base)}};
      {o_d_address, d_token} <= {2{D'(next.d_base)}};
      o_row <= ROW'(next.row);
      rest <= next.count;
      in_row <= '0;
      o_sample <= SAMPLE'(next.w_base);
    end else if (step) begin
      o_first <= last_pass && last_chunk;
      if (!last_pass) begin
        o_weight_high <= !o_weight_high && cur.w_wide;
        o_code_high   <= o_code_high ^ (o_weight_high || !cur.w_wide);
      end else begin
        o_weight_high <= 1'b0;
        o_code_high   <= 1'b0;
        if (!last_chunk) begin
          k <= k + 1'b1;
          o_x_address <= o_x_address + X'(cur.x_chunk);
          w_word <= w_word + W'(cur.w_chunk);
        end else begin
          k <= '0;
          o_sample <= o_sample + SAMPLE'(width);
          if (!last_group) begin
            n <= n + 1'b1;
            o_x_address <= x_group + X'(by_row && row_full);
            x_group <= x_group + X'(by_row && row_full);
            w_word <= w_group + W'(cur.w_group);
            w_group <= w_group + W'(cur.w_group);
            o_p_address <= o_p_address + P'(cur.p_group);
            o_q_address <= o_q_address + 1'b1;
            o_r_address <= o_r_address + 1'b1;
            o_s_address <= o_s_address + 1'b1;
            o_d_address <= o_d_address + (cur.dest == TO_VALUES ? D'(cur.d_token) : D'(row_full));
            rest <= rest > 10'(COLS) ? rest - 10'(COLS) : '0;
            in_row <= row_full ? '0 : in_row + width;
          end else begin
            n <= '0;
            t <= t + 1'b1;
            o_row <= o_row + 1'b1;
            rest <= cur.count;
            in_row <= '0;
            {o_x_address, x_group, x_token} <= {3{x_token + X'(cur.x_token)}};
            {w_word, w_group} <= {2{W'(cur.w_base)}};
            o_p_address <= P'(cur.p_base);
            o_q_address <= Q'(cur.q_base);
            {o_r_address, r_token} <= {2{r_token + R'(cur.r_token)}};
            {o_s_address, s_token} <= {2{s_token + R'(cur.s_token)}};
            case (cur.dest)
              TO_KEYS: {o_d_address, d_token} <= {2{d_token + (t[$clog2(COLS)-1:0] == '1 ? D'(cur.d_token) : D'(0))}};
              TO_VALUES: {o_d_address, d_token} <= {2{d_token + D'(t[$clog2(ROWS)-1:0] == '1)}};
              default: {o_d_address, d_token} <= {2{d_token + D'(cur.d_token)}};
            endcase
          end
        end
      end
    end
  end
endmodule

`default_nettype wire
