// The instructions in the pipeline. An instruction loaded before its first issue is that of the issue in cycle 0; the outputs say, in
// every cycle, which one the issue in cycle 7, 12, .. belongs to. Valid from the load on for as long as any of its issues is in cycle 20
// or before: at most three are in flight, since each takes 13 cycles to fetch.
`default_nettype none

import engine_pkg::*;

module in_flight (
    input  wire                            clk,
    input  wire                            rst,
    input  wire                            i_load,
    input  wire engine_pkg::instruction_t  i_next,
    output wire engine_pkg::instruction_t  o_at_7,
    output wire engine_pkg::instruction_t  o_at_12,
    output wire engine_pkg::instruction_t  o_at_13,
    output wire engine_pkg::instruction_t  o_at_19,
    output wire engine_pkg::instruction_t  o_at_20
);
  logic [PAYLOAD_BITS-1:0] context0, context1, context2, context3;
  logic [1:0] number_now;
  logic [20*2-1:0] number_past;  // of the instruction in cycles 1 to 20

  always_ff @(posedge clk) begin
    number_past <= {number_past[19*2-1:0], number_now};
    if (rst) number_now <= '0;
    else if (i_load) number_now <= number_now + 1'b1;
    if (i_load && number_now == 2'd3) context0 <= i_next;
    if (i_load && number_now == 2'd0) context1 <= i_next;
    if (i_load && number_now == 2'd1) context2 <= i_next;
    if (i_load && number_now == 2'd2) context3 <= i_next;
  end

  function automatic logic [PAYLOAD_BITS-1:0] pick(input logic [1:0] n);
    pick = n[1] ? (n[0] ? context3 : context2) : (n[0] ? context1 : context0);
  endfunction

  assign o_at_7 = pick(number_past[12+:2]);
  assign o_at_12 = pick(number_past[22+:2]);
  assign o_at_13 = pick(number_past[24+:2]);
  assign o_at_19 = pick(number_past[36+:2]);
  assign o_at_20 = pick(number_past[38+:2]);
endmodule

`default_nettype wire
