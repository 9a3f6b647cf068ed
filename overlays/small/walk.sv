// An address that goes with the results of an instruction, from the first on: i_step behind each, with i_last where it ends its row.
`default_nettype none

module walk #(
    parameter int BITS = 10,
    parameter bit AGAIN = 1'b0  // every row begins where the first did
) (
    input  wire             clk,
    input  wire             i_load,
    input  wire  [BITS-1:0] i_base,
    input  wire             i_step,
    input  wire             i_last,
    input  wire  [BITS-1:0] i_next,  // from result to result
    input  wire  [BITS-1:0] i_row,   // from row to row
    output logic [BITS-1:0] o_address
);
  logic [BITS-1:0] row_kept;
  wire [BITS-1:0] row = AGAIN ? i_base : row_kept;
  wire [BITS-1:0] next = i_last ? row + i_row : o_address + i_next;
  always_ff @(posedge clk)
    if (i_load) {o_address, row_kept} <= {2{i_base}};
    else if (i_step) begin
      o_address <= next;
      if (i_last) row_kept <= next;
    end
endmodule

`default_nettype wire
