// Write-back of codes, from stage 1 in cycle 13 or from stage 3 in cycle 21, and of keys and values, from stage 1 alone. Timing: an issue's
// place in cycle 0; what is to be written, and where, is valid in cycle 13 or 21 (write enables are up in no other) and there to be read
// from the next cycle on. o_operand_20: the sum in cycle 20 is looked up in a table, whose bytes come in cycle 21. o_collision: two
// results for the code memory in the same cycle.
`default_nettype none

import engine_pkg::*;

module write_back #(
    parameter int ROWS = 16,
    parameter int COLS = 4,
    parameter int CODE_DEPTH = 512,
    parameter int KV_DEPTH = 64,
    localparam int CW = $clog2(CODE_DEPTH),
    localparam int VW = $clog2(KV_DEPTH),
    localparam int DW = CW > VW ? CW : VW,
    localparam int LC = $clog2(COLS),
    localparam int LR = $clog2(ROWS)
) (
    input  wire                            clk,
    input  wire                            rst,
    // cycle 0
    input  wire  [DW-1:0]                  i_d_address,
    input  wire  [LR-1:0]                  i_offset,
    input  wire  [LR-1:0]                  i_token,
    // cycle 13
    input  wire                            i_valid_13,
    input  wire engine_pkg::instruction_t  i_at_13,
    input  wire  [COLS*9-1:0]              i_code_13,
    // cycles 20 and 21
    input  wire                            i_valid_20,
    input  wire engine_pkg::instruction_t  i_at_20,
    output wire                            o_operand_20,
    input  wire  [COLS*8-1:0]              i_looked_up_21,
    // code memory
    output logic [ROWS-1:0]                o_x_write,
    output logic [CW-1:0]                  o_x_write_address,
    output logic [ROWS*8-1:0]              o_x_data,
    output wire                            o_collision,
    // key/value memory
    output logic [ROWS*COLS-1:0]           o_kv_write,
    output logic [VW-1:0]                  o_kv_write_address,
    output logic [ROWS*COLS*8-1:0]         o_kv_data
);
  wire [DW-1:0] d_address_13, d_address_21;
  wire [LR-1:0] offset_13, offset_21, token_13;
  delay #(.BITS(DW), .N(13)) u_d_13 (.clk, .i(i_d_address), .o(d_address_13));
  delay #(.BITS(DW), .N(8)) u_d_21 (.clk, .i(d_address_13), .o(d_address_21));
  delay #(.BITS(LR), .N(13)) u_offset_13 (.clk, .i(i_offset), .o(offset_13));
  delay #(.BITS(LR), .N(8)) u_offset_21 (.clk, .i(offset_13), .o(offset_21));
  delay #(.BITS(LR), .N(13)) u_token_13 (.clk, .i(i_token), .o(token_13));

  wire [2:0] opcode_13 = i_at_13.opcode;
  wire [1:0] dest_13 = i_at_13.dest;
  wire [1:0] lanes_of_13 = i_at_13.lanes;
  wire early = i_valid_13 && dest_13 == TO_CODES && !i_at_13.add && opcode_13 != OP_OUTPUT;
  logic late, lut_high;  // cycle 21
  always_ff @(posedge clk) begin
    late <= !rst && o_operand_20;
    lut_high <= i_at_20.lut_high;
  end
  assign o_operand_20 = i_valid_20 && i_at_20.dest == TO_CODES && i_at_20.add;
  assign o_collision = early && late;

  always_comb begin
    o_x_write_address = late ? d_address_21[CW-1:0] : d_address_13[CW-1:0];
    for (int r = 0; r < ROWS; r++) begin
      o_x_data[r*8+:8] = late ? i_looked_up_21[(r%COLS)*8+:8] : i_code_13[(r%COLS)*9+:8];
      if (late && lut_high) o_x_data[r*8+:4] = i_looked_up_21[(r%COLS)*8+4+:4];
      o_x_write[r] = late ? offset_21 / COLS == r / COLS : early && offset_13 / COLS == r / COLS;
      if (early && opcode_13 == OP_QUANTISE) begin
        o_x_write[r] = offset_13 >> lanes_of_13 == r >> lanes_of_13;
        o_x_data[r*8+:8] = lanes_of_13 == 2 ? i_code_13[(r%4)*9+:8] : lanes_of_13 == 1 ? i_code_13[(r%2)*9+:8] : i_code_13[0+:8];
      end
    end
    // keys: a token is a column, values: a token is a row
    o_kv_write_address = d_address_13[VW-1:0];
    for (int c = 0; c < COLS; c++)
      for (int r = 0; r < ROWS; r++) begin
        o_kv_data[(c*ROWS+r)*8+:8] = dest_13 == TO_KEYS ? i_code_13[(r%COLS)*9+:8] : i_code_13[c*9+:8];
        o_kv_write[c*ROWS+r] = i_valid_13 && (
            dest_13 == TO_KEYS ? token_13[LC-1:0] == c && offset_13 / COLS == r / COLS
                               : dest_13 == TO_VALUES && token_13 == r);
      end
  end
endmodule

`default_nettype wire
