// Delays a signal by N cycles: o is what i was N cycles before. There is no reset, so that it becomes shift-register LUTs.
`default_nettype none

module delay #(
    parameter int BITS = 1,
    parameter int N = 1
) (
    input  wire             clk,
    input  wire  [BITS-1:0] i,
    output logic [BITS-1:0] o
);
  logic [BITS-1:0] stage[N];

  always_ff @(posedge clk) begin
    stage[0] <= i;
    for (int n = 1; n < N; n++) stage[n] <= stage[n-1];
  end
  assign o = stage[N-1];
endmodule

`default_nettype wire
