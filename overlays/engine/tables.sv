// Tables of 256 bytes, one look-up a lane and cycle: a byte read is valid one cycle after its index. Two lanes share a dual-port memory;
// loading takes the place of the first lane's look-up.
`default_nettype none

module tables #(
    parameter int COLS = 4,
    parameter int TABLES = 8,
    localparam int AW = 8 + $clog2(TABLES)
) (
    input  wire               clk,
    input  wire               i_write,
    input  wire  [AW-1:0]     i_write_address,
    input  wire  [7:0]        i_data,
    input  wire  [AW-9:0]     i_table,
    input  wire  [COLS*8-1:0] i_index,
    output logic [COLS*8-1:0] o_data
);
  for (genvar c = 0; c < COLS; c += 2) begin : g_pair
    (* ram_style = "block" *) logic [7:0] bytes[256*TABLES];
    wire [AW-1:0] first = i_write ? i_write_address : {i_table, i_index[c*8+:8]};
    wire [AW-1:0] second = {i_table, i_index[c*8+8+:8]};

    always_ff @(posedge clk) begin
      if (i_write) bytes[first] <= i_data;
      else o_data[c*8+:8] <= bytes[first];
    end
    always_ff @(posedge clk) o_data[c*8+8+:8] <= bytes[second];
  end
endmodule

`default_nettype wire
