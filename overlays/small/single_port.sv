// The four single-port memories of an iCE40UP5K, as rows of two words of 32 bits: those at even and at odd places, each with an address of
// its own. Words are written by nibbles; what is read is valid one cycle after its address, and not after a write.
`default_nettype none

module single_port (
    input  wire         clk,
    input  wire  [13:0] i_even_row,
    input  wire  [13:0] i_odd_row,
    input  wire  [7:0]  i_even_write,  // nibbles
    input  wire  [7:0]  i_odd_write,
    input  wire  [31:0] i_even_data,
    input  wire  [31:0] i_odd_data,
    output wire  [31:0] o_even,
    output wire  [31:0] o_odd
);
  wire [63:0] data = {i_odd_data, i_even_data}, word;
  wire [15:0] write = {i_odd_write, i_even_write};
  assign {o_odd, o_even} = word;
  for (genvar i = 0; i < 4; i++) begin : g_block
    SB_SPRAM256KA u_block (
        .CLOCK(clk), .ADDRESS(i < 2 ? i_even_row : i_odd_row), .DATAIN(data[16*i+:16]), .DATAOUT(word[16*i+:16]),
        .MASKWREN(write[4*i+:4]), .WREN(write[4*i+:4] != 0), .CHIPSELECT(1'b1), .STANDBY(1'b0), .SLEEP(1'b0), .POWEROFF(1'b1)
    );
  end
endmodule

`default_nettype wire
