// The dot product of eight codes with eight weights, summed over the passes of a result. Timing: codes and the nibbles of weights in cycle 1,
// bias in cycle 5, sum in cycle 6, valid where the issue was a result's last.
`default_nettype none

module small_products (
    input  wire                clk,
    input  wire  [63:0]        i_codes,
    input  wire                i_x_wide,
    input  wire                i_x_unsigned,
    input  wire                i_code_high,
    input  wire  [31:0]        i_low,
    input  wire  [31:0]        i_high,
    input  wire                i_w_wide,
    // cycle 5
    input  wire                i_pass,
    input  wire                i_first,
    input  wire                i_high_5,
    input  wire  signed [24:0] i_bias,
    output logic signed [24:0] o_sum
);
  logic [63:0] x, w;
  wire [127:0] products;
  always_comb
    for (int r = 0; r < 8; r++) begin
      // a nibble: of an unsigned byte the one that is due, else all there is
      x[8*r+:4] = i_x_wide && i_x_unsigned && i_code_high ? i_codes[8*r+4+:4] : i_codes[8*r+:4];
      x[8*r+4+:4] = i_x_unsigned ? 4'd0 : i_x_wide ? i_codes[8*r+4+:4] : {4{i_codes[8*r+3]}};
      w[8*r+:8] = {i_w_wide ? i_high[4*r+:4] : {4{i_low[4*r+3]}}, i_low[4*r+:4]};
    end
  for (genvar i = 0; i < 4; i++) begin : g_pair
    two_products u_pair (.clk, .i_a(x[16*i+:16]), .i_b(w[16*i+:16]), .o_products(products[32*i+:32]));
  end

  logic signed [17:0] half[2];
  logic signed [18:0] total;
  always_ff @(posedge clk) begin
    for (int h = 0; h < 2; h++)
      half[h] <= 18'($signed(products[64*h+:16])) + 18'($signed(products[64*h+16+:16])) + 18'($signed(products[64*h+32+:16])) +
          18'($signed(products[64*h+48+:16]));
    total <= 19'(half[0]) + 19'(half[1]);
    if (i_pass) o_sum <= (i_first ? i_bias : o_sum) + (i_high_5 ? 25'(total) <<< 4 : 25'(total));
  end
endmodule

`default_nettype wire
