// Carries the program out, an instruction at a time and an issue a cycle: loops over tokens, groups, chunks and passes, and the addresses of
// what is multiplied. The next instruction is fetched when nothing of this one is under way any more, so that `current` is that of all stages
// and no result has to be waited for. The outputs describe cycle 0 of the pipeline.
`default_nettype none

import engine_pkg::*;

module small_sequencer #(
    parameter int PROGRAM_WORDS = 4096,
    parameter int X = 10,
    localparam int PW = $clog2(PROGRAM_WORDS)
) (
    input  wire                  clk,
    input  wire                  rst,
    input  wire                  i_begin,      // a window's program
    output wire                  o_end,
    output logic                 o_bad_word,
    output wire  [15:0]          o_pc,
    // the memory
    input  wire                  i_mine,       // it answers to what is asked of it in this cycle
    output wire                  o_fetch,
    output wire  [PW-1:0]        o_fetch_address,
    input  wire  [31:0]          i_word,
    // cycle 0
    input  wire                  i_busy,       // issues or their results are under way
    input  wire                  i_wait,       // no last issue of a result now
    output wire                  o_load,       // the first issue is the next cycle's, or later
    output engine_pkg::instruction_t o_current,
    output wire                  o_valid,
    output wire                  o_done,       // last issue of a result
    output wire                  o_first,      // and its first
    output logic                 o_code_high,
    output wire                  o_row_last,
    output wire                  o_exists,     // softmax: there is such a score
    output logic [X-1:0]         o_x_address,
    output logic [12:0]          o_w_address,
    output logic [12:0]          o_sample,
    output wire  [2:0]           o_offset      // of the code in its row
);
  typedef enum logic [1:0] {IDLE, FETCH, RUN, DRAIN} state_t;
  state_t state;
  logic [PAYLOAD_BITS-1:0] payload;
  logic [3:0] asked, got;  // words of the instruction
  logic coming;            // a word
  logic [31:0] check;
  logic [PW-1:0] base;
  logic [9:0] t, n, k;
  logic [X-1:0] x_token;
  logic [12:0] w_group;
  engine_pkg::instruction_t cur;
  assign cur = engine_pkg::instruction_t'(payload);
  assign o_current = cur;

  wire [31:0] checked = check ^ i_word;
  wire whole = coming && got == 4'(WORDS - 1);
  wire bad = whole && (checked != CHECK || cur.opcode == 3'd7);
  assign o_fetch = state == FETCH && asked != 4'(WORDS);
  assign o_fetch_address = base + PW'(asked);
  assign o_load = whole;
  assign o_end = whole && !bad && cur.opcode == OP_END;
  assign o_pc = 16'(base);

  // codes of eight bits without a sign take two passes, since the multipliers' bytes have one
  wire last_pass = o_code_high || !(cur.x_wide && cur.x_unsigned);
  wire last_chunk = k == cur.chunks;
  wire last_token = t == cur.tokens;
  wire by_row = cur.opcode == OP_SUM || cur.opcode == OP_PROBABILITY || cur.opcode == OP_OUTPUT;
  assign o_done = last_pass && last_chunk;
  assign o_first = k == 0 && !o_code_high;
  assign o_row_last = n == cur.groups;
  assign o_exists = n < cur.count;
  assign o_offset = n[2:0];
  assign o_valid = state == RUN && i_mine && !(o_done && i_wait);

  always_ff @(posedge clk) begin
    coming <= o_fetch && i_mine;
    if (rst) begin
      state <= IDLE;
      {asked, got, o_bad_word} <= '0;
    end else begin
      if (o_fetch && i_mine) asked <= asked + 1'b1;
      if (coming) begin
        got <= got + 1'b1;
        for (int i = 0; i < WORDS - 1; i++)
          for (int b = 0; b < 32; b++) if (got == 4'(i) && 32 * i + b < PAYLOAD_BITS) payload[32*i+b] <= i_word[b];
        check <= checked;
      end
      case (state)
        IDLE:
        if (i_begin) begin
          base <= '0;
          state <= FETCH;
        end
        FETCH:
        if (whole) begin
          if (bad) o_bad_word <= 1'b1;
          state <= bad || o_end ? IDLE : RUN;
        end
        RUN: if (o_valid && o_done && o_row_last && last_token) state <= DRAIN;
        default:
        if (!i_busy) begin
          state <= FETCH;
          base <= base + PW'(WORDS);
        end
      endcase
      if (state != FETCH) {asked, got, check} <= '0;
    end

    if (whole) begin
      {t, n, k} <= '0;
      o_code_high <= 1'b0;
      {o_x_address, x_token} <= {2{X'(cur.x_base)}};
      {o_w_address, w_group} <= {2{cur.w_base}};
      o_sample <= cur.w_base;
    end else if (o_valid) begin
      if (!last_pass) o_code_high <= 1'b1;
      else begin
        o_code_high <= 1'b0;
        if (!last_chunk) begin
          k <= k + 1'b1;
          if (!by_row) o_x_address <= o_x_address + X'(cur.x_chunk);
          o_w_address <= o_w_address + 13'(cur.w_chunk);
        end else begin
          k <= '0;
          o_sample <= o_sample + 1'b1;
          if (!o_row_last) begin
            n <= n + 1'b1;
            o_x_address <= by_row ? o_x_address + X'(n[2:0] == 3'd7) : x_token;
            {o_w_address, w_group} <= {2{w_group + 13'(cur.w_group)}};
          end else begin
            n <= '0;
            t <= t + 1'b1;
            {o_x_address, x_token} <= {2{x_token + X'(cur.x_token)}};
            {o_w_address, w_group} <= {2{cur.w_base}};
          end
        end
      end
    end
  end
endmodule

`default_nettype wire
