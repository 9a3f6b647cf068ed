// The next burst on the bus: at most 16 words of 8 bytes, at most what is left, not across 4 KiB; and whether it leaves its buffer. Worked out
// over three cycles: o_settled is up when the outputs are valid, three cycles after i_restart has gone down with the inputs standing still.
`default_nettype none

module burst (
    input  wire          clk,
    input  wire          i_restart,
    input  wire  [31:3]  i_address,
    input  wire  [13:0]  i_left,
    input  wire          i_single,   // one word only, at i_first
    input  wire  [32:3]  i_first,    // of the burst; valid one cycle after i_address
    input  wire  [31:3]  i_end,      // of the buffer
    output wire          o_settled,
    output logic [4:0]   o_beats,
    output logic [32:3]  o_next,     // first word behind the burst
    output logic         o_outside
);
  function automatic logic [4:0] beats(input logic [8:0] word, input logic [13:0] left);
    logic [9:0] room;
    room  = 10'd512 - {1'b0, word};
    beats = left < 14'd16 && {4'd0, room} >= left ? left[4:0] : room < 10'd16 ? room[4:0] : 5'd16;
  endfunction

  logic [1:0] settled;
  assign o_settled = settled == 3;
  always_ff @(posedge clk) begin
    o_beats <= i_single ? 5'd1 : beats(i_address[11:3], i_left);
    o_next <= i_first + 30'(o_beats);
    o_outside <= o_next > {1'b0, i_end};
    settled <= i_restart ? 2'd0 : o_settled ? 2'd3 : settled + 2'd1;
  end
endmodule

`default_nettype wire
