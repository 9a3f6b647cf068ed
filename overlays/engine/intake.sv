// Sample intake: counts out of the input buffer, up to four a cycle, less the anchor. Timing: an issue's first sample in cycle 0, its word
// asked for in cycle 5 and there in cycle 6, o_difference_7 in cycle 7. o_anchor is valid from the cycle after i_take or i_anchor_valid_14
// until the next of them: when an instruction makes another, in cycle 15, all issues before it have used theirs, a sample in cycle 6, a
// forecast in cycle 13. o_free_input comes 7 cycles after i_free, when the last counts of the window have been read.
`default_nettype none

module intake #(
    parameter int INPUT_WORDS = 256,
    localparam int IW = $clog2(INPUT_WORDS)
) (
    input  wire            clk,
    // cycle 0
    input  wire            i_take,
    input  wire  [15:0]    i_anchor,         // the window's
    input  wire            i_free,
    input  wire  [IW+1:0]  i_sample,
    // cycle 14
    input  wire            i_anchor_valid_14,
    input  wire  [15:0]    i_anchor_14,      // made by an instruction
    // input buffer
    output wire  [IW-1:0]  o_wanted,         // cycle 0
    output wire  [IW-1:0]  o_input_address,  // cycle 5
    input  wire  [63:0]    i_input_word,     // cycle 6
    output wire            o_free_input,
    // results
    output wire  [16:0]    o_anchor,
    output logic [4*17-1:0] o_difference_7
);
  wire [IW+1:0] sample_5;
  logic [1:0] lane_6;
  logic [15:0] anchor;
  delay #(.BITS(IW + 2), .N(5)) u_sample_5 (.clk, .i(i_sample), .o(sample_5));
  delay #(.BITS(1), .N(7)) u_free (.clk, .i(i_free), .o(o_free_input));
  assign o_wanted = i_sample[2+:IW];
  assign o_input_address = sample_5[2+:IW];
  assign o_anchor = {anchor[15], anchor};

  always_ff @(posedge clk) begin
    if (i_take || i_anchor_valid_14) anchor <= i_anchor_valid_14 ? i_anchor_14 : i_anchor;
    lane_6 <= sample_5[1:0];
    o_difference_7[0+:17] <= 17'($signed(i_input_word[lane_6*16+:16])) - o_anchor;
    o_difference_7[17+:17] <= 17'($signed(i_input_word[{lane_6[1], 1'b1}*16+:16])) - o_anchor;  // where a group is two samples or four
    o_difference_7[34+:17] <= 17'($signed(i_input_word[32+:16])) - o_anchor;                    // where it is a whole word
    o_difference_7[51+:17] <= 17'($signed(i_input_word[48+:16])) - o_anchor;
  end
endmodule

`default_nettype wire
