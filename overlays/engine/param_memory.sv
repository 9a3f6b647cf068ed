// Parameters of output channels, a lane each: loaded a lane at a time, read COLS at a time. A word read is valid one cycle after its address.
`default_nettype none

module param_memory #(
    parameter int COLS = 4,
    parameter int BITS = 25,  // of a lane
    parameter int DEPTH = 128,
    parameter bit BLOCK = 1'b0,
    localparam int AW = $clog2(DEPTH),
    localparam int LC = $clog2(COLS)
) (
    input  wire                  clk,
    // loading
    input  wire                  i_load,
    input  wire  [19:2]          i_load_address,
    input  wire  [31:0]          i_load_data,
    // reading
    input  wire  [AW-1:0]        i_read_address,
    output wire  [COLS*BITS-1:0] o_data
);
  wire [COLS-1:0] lane = COLS'(1) << i_load_address[2+:LC];

  memory #(
      .LANES(COLS),
      .BITS(BITS),
      .DEPTH(DEPTH),
      .BLOCK(BLOCK)
  ) u_memory (
      .clk,
      .i_write(i_load ? lane : '0),
      .i_write_address(i_load_address[2+LC+:AW]),
      .i_data({COLS{i_load_data[BITS-1:0]}}),
      .i_read_address,
      .o_data
  );
endmodule

`default_nettype wire
