// The windows of a run, one after another, where they lie: whether a window and its forecast are within the buffers, its anchor, its program.
// A place is a count of the window memory.
`default_nettype none

import engine_pkg::*;

module small_job #(
    parameter int INPUT_WORDS = 1024,
    parameter int OUTPUT_WORDS = 128,
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
    output logic [3:0]  o_cause,
    output wire         o_running,
    output logic [15:0] o_finished,
    // the sequencer
    output wire         o_begins,
    input  wire         i_ends,
    // samples; asked for and answered as the sequencer's
    output wire         o_asks,
    input  wire         i_mine,
    input  wire  [12:0] i_sample,
    output wire  [$clog2(BYTES/2)-1:0] o_sample_place,
    input  wire  [15:0] i_sample_1,
    // anchors and forecasts
    output logic [15:0] o_anchor,
    input  wire         i_makes_anchor,
    input  wire         i_puts_count,
    input  wire  [15:0] i_count,
    output wire         o_beyond,         // there is no place for it
    output logic [$clog2(BYTES/2)-1:0] o_count_place
);
  localparam int R = $clog2(BYTES / 8), I = $clog2(4 * INPUT_WORDS), O = $clog2(4 * OUTPUT_WORDS);
  typedef enum logic [2:0] {IDLE, LOOK, ASK, GET, BEGIN, RUN} state_t;
  state_t state;
  logic [R:0] in_row, out_row;
  logic [15:0] left;  // counts of the forecast that are still to come
  // addresses are multiples of 8 in the window memory, the first byte beyond it included (compared by bits, which takes no carry chain)
  function automatic logic outside(input logic [31:0] address);
    outside = address[31:28] != serial_pkg::MEMORY || address[27:R+4] != 0 || address[R+3] && address[R+2:3] != 0 || address[2:0] != 0;
  endfunction
  // a row of four counts that is not full is one too; as the carry into the sum, it takes no sum of its own
  wire [17:0] in_sum = {17'(in_row), 1'b1} + {3'd0, i_context[15:2], i_context[1:0] != 0};
  wire [17:0] out_sum = {17'(out_row), 1'b1} + {3'd0, i_horizon[15:2], i_horizon[1:0] != 0};
  wire [16:0] next_in = in_sum[17:1], next_out = out_sum[17:1];
  wire fits = !outside(i_in_base) && !outside(i_in_end) && !outside(i_out_base) && !outside(i_out_end) &&
      next_in <= 17'(i_in_end[R+3:3]) && next_out <= 17'(i_out_end[R+3:3]) &&
      i_context[15:I+1] == 0 && !(i_context[I] && i_context[I-1:0] != 0) && i_horizon[15:O+1] == 0 && !(i_horizon[O] && i_horizon[O-1:0] != 0);
  wire [12:0] last_count = i_context[12:0] - 13'd1;
  assign o_running = state != IDLE;
  assign o_begins = state == BEGIN;
  assign o_asks = state == ASK;
  wire [12:0] sample = o_asks ? last_count : i_sample;
  assign o_sample_place = {in_row[R-1:0] + R'(sample[12:2]), sample[1:0]};
  assign o_beyond = i_puts_count && left == 0;

  always_ff @(posedge clk)
    if (i_start) begin
      state <= LOOK;
      in_row <= i_in_base[R+3:3];
      out_row <= i_out_base[R+3:3];
      o_finished <= '0;
      o_cause <= CAUSE_NONE;
    end else if (rst) begin
      state <= IDLE;
      o_cause <= CAUSE_NONE;
      o_finished <= '0;
    end else begin
      case (state)
        LOOK: begin
          left <= i_horizon;
          o_count_place <= {out_row[R-1:0], 2'd0};
          if (!fits) o_cause <= CAUSE_BUFFERS;
          state <= fits ? ASK : IDLE;
        end
        ASK: if (i_mine) state <= GET;
        GET: begin
          o_anchor <= i_anchor[16] ? i_anchor[15:0] : i_sample_1;
          state <= BEGIN;
        end
        BEGIN: state <= RUN;
        RUN:
        if (i_ends) begin
          o_finished <= o_finished + 1'b1;
          in_row <= next_in[R:0];
          out_row <= next_out[R:0];
          state <= o_finished + 1'b1 == i_windows ? IDLE : LOOK;
        end
        default: ;
      endcase
      if (i_puts_count) {o_count_place, left} <= {o_count_place + 15'd1, left - 16'd1};
      if (i_makes_anchor) o_anchor <= i_count;
    end
endmodule

`default_nettype wire
