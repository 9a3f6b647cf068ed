// A memory with one write and one read port. Words are written by lanes; a word read is valid one cycle after its address. What is read in
// the cycle in which it is written is not relied on: the compiler's schedule keeps the two apart.
`default_nettype none

module memory #(
    parameter int LANES = 4,
    parameter int BITS = 8,  // of a lane
    parameter int DEPTH = 512,
    parameter bit BLOCK = 1'b1,  // in block memory; else in LUTs
    localparam int AW = $clog2(DEPTH)
) (
    input  wire                   clk,
    input  wire  [LANES-1:0]      i_write,
    input  wire  [AW-1:0]         i_write_address,
    input  wire  [LANES*BITS-1:0] i_data,
    input  wire  [AW-1:0]         i_read_address,
    output logic [LANES*BITS-1:0] o_data
);
  if (!BLOCK) begin : g_lanes  // an array a lane, which Yosys takes in seconds where one array takes it half an hour
    for (genvar lane = 0; lane < LANES; lane++) begin : g_lane
      (* ram_style = "distributed", no_rw_check *) logic [BITS-1:0] words[DEPTH];
      always_ff @(posedge clk) begin
        if (i_write[lane]) words[i_write_address] <= i_data[lane*BITS+:BITS];
        o_data[lane*BITS+:BITS] <= words[i_read_address];
      end
    end
  end else begin : g_block
    (* ram_style = "block", no_rw_check *) logic [LANES*BITS-1:0] words[DEPTH];
    always_ff @(posedge clk) begin
      for (int lane = 0; lane < LANES; lane++)
        if (i_write[lane]) words[i_write_address][lane*BITS+:BITS] <= i_data[lane*BITS+:BITS];
      o_data <= words[i_read_address];
    end
  end
endmodule

`default_nettype wire
