// The multiplier blocks of an iCE40UP5K, by their names: what they do when simulated is the vendor's cell, as Yosys has it. Both operands have
// a sign: of one with and one without, nobody has documented that the device multiplies them.
`default_nettype none

// a * b + c; o is valid one cycle after its operands.
module multiply_add (
    input  wire         clk,
    input  wire  [15:0] i_a,
    input  wire  [15:0] i_b,
    input  wire  [31:0] i_c,
    output wire  [31:0] o_sum
);
  SB_MAC16 #(
      .A_SIGNED(1'b1),
      .B_SIGNED(1'b1),
      .C_REG(1'b1),
      .D_REG(1'b1),
      .PIPELINE_16x16_MULT_REG2(1'b1),
      .TOPADDSUB_LOWERINPUT(2'd2),
      .TOPADDSUB_UPPERINPUT(1'b1),
      .TOPADDSUB_CARRYSELECT(2'd2),
      .BOTADDSUB_LOWERINPUT(2'd2),
      .BOTADDSUB_UPPERINPUT(1'b1)
  ) u_block (
      .CLK(clk), .CE(1'b1), .A(i_a), .B(i_b), .C(i_c[31:16]), .D(i_c[15:0]), .O(o_sum),
      .AHOLD(1'b0), .BHOLD(1'b0), .CHOLD(1'b0), .DHOLD(1'b0), .IRSTTOP(1'b0), .IRSTBOT(1'b0), .ORSTTOP(1'b0), .ORSTBOT(1'b0),
      .OLOADTOP(1'b0), .OLOADBOT(1'b0), .ADDSUBTOP(1'b0), .ADDSUBBOT(1'b0), .OHOLDTOP(1'b0), .OHOLDBOT(1'b0),
      .CI(1'b0), .ACCUMCI(1'b0), .SIGNEXTIN(1'b0), .CO(), .ACCUMCO(), .SIGNEXTOUT()
  );
endmodule

// Two products of signed bytes; valid two cycles after their operands.
module two_products (
    input  wire         clk,
    input  wire  [15:0] i_a,
    input  wire  [15:0] i_b,
    output wire  [31:0] o_products
);
  SB_MAC16 #(
      .MODE_8x8(1'b1),
      .A_SIGNED(1'b1),
      .B_SIGNED(1'b1),
      .A_REG(1'b1),
      .B_REG(1'b1),
      .TOP_8x8_MULT_REG(1'b1),
      .BOT_8x8_MULT_REG(1'b1),
      .TOPOUTPUT_SELECT(2'd2),
      .BOTOUTPUT_SELECT(2'd2)
  ) u_block (
      .CLK(clk), .CE(1'b1), .A(i_a), .B(i_b), .C(16'd0), .D(16'd0), .O(o_products),
      .AHOLD(1'b0), .BHOLD(1'b0), .CHOLD(1'b0), .DHOLD(1'b0), .IRSTTOP(1'b0), .IRSTBOT(1'b0), .ORSTTOP(1'b0), .ORSTBOT(1'b0),
      .OLOADTOP(1'b0), .OLOADBOT(1'b0), .ADDSUBTOP(1'b0), .ADDSUBBOT(1'b0), .OHOLDTOP(1'b0), .OHOLDBOT(1'b0),
      .CI(1'b0), .ACCUMCI(1'b0), .SIGNEXTIN(1'b0), .CO(), .ACCUMCO(), .SIGNEXTOUT()
  );
endmodule

`default_nettype wire
