// The multiplier array: COLS dot products of ROWS codes a cycle, summed over the chunks and nibble passes of an output.
// A lane multiplies two nibbles, each with a sign of its own: wider codes take two passes, weighted by 16 to the number of high nibbles.
// Timing: codes and weights in cycle 1, bias in cycle 5, sum in cycle 6 (valid where the control marked the last pass).
`default_nettype none

module array #(
    parameter int ROWS = 16,
    parameter int COLS = 4
) (
    input  wire                       clk,
    // cycle 1
    input  wire  [ROWS*8-1:0]         i_codes,
    input  wire  [ROWS*COLS*4-1:0]    i_weights,  // nibbles, [column][row]
    input  wire  [ROWS*COLS*8-1:0]    i_kv,       // bytes, [column][row]
    input  wire                       i_from_kv,
    input  wire                       i_code_high,
    input  wire                       i_code_signed,
    input  wire                       i_weight_high,
    input  wire                       i_weight_signed,
    input  wire                       i_first,
    // cycle 5
    input  wire  [COLS*25-1:0]        i_bias,
    // cycle 6
    output logic [COLS*25-1:0]        o_sum
);
  localparam int FOURS = ROWS / 4;
  localparam int SUM = 9 + $clog2(ROWS);  // bits of a dot product

  logic [ROWS*5-1:0] x;
  logic [ROWS*COLS*5-1:0] w;
  logic [1:0] shift[4];  // cycles 2 to 5
  logic first[4];

  always_ff @(posedge clk) begin
    for (int r = 0; r < ROWS; r++) begin
      x[r*5+:4] <= i_code_high ? i_codes[r*8+4+:4] : i_codes[r*8+:4];
      x[r*5+4]  <= i_code_signed & (i_code_high ? i_codes[r*8+7] : i_codes[r*8+3]);
    end
    for (int i = 0; i < ROWS * COLS; i++) begin
      w[i*5+:4] <= !i_from_kv ? i_weights[i*4+:4] : i_weight_high ? i_kv[i*8+4+:4] : i_kv[i*8+:4];
      w[i*5+4]  <= i_weight_signed & (!i_from_kv ? i_weights[i*4+3] : i_weight_high ? i_kv[i*8+7] : i_kv[i*8+3]);
    end
    shift[0] <= 2'(i_code_high) + 2'(i_weight_high);
    first[0] <= i_first;
    for (int n = 1; n < 4; n++) begin
      shift[n] <= shift[n-1];
      first[n] <= first[n-1];
    end
  end

  for (genvar c = 0; c < COLS; c++) begin : g_column
    logic [ROWS*9-1:0] product;
    logic [FOURS*11-1:0] four, four_d;
    logic signed [SUM-1:0] total;
    logic signed [24:0] sum, acc;

    for (genvar r = 0; r < ROWS; r++) begin : g_lane
      lane u_lane (
          .clk,
          .i_x(x[r*5+:5]),
          .i_w(w[(c*ROWS+r)*5+:5]),
          .o_product(product[r*9+:9])
      );
    end
    always_comb begin
      four_d = '0;
      for (int f = 0; f < FOURS; f++)
        four_d[f*11+:11] = 11'($signed(product[f*36+:9])) + 11'($signed(product[f*36+9+:9]))
                         + 11'($signed(product[f*36+18+:9])) + 11'($signed(product[f*36+27+:9]));
      total = '0;
      for (int f = 0; f < FOURS; f++) total = total + SUM'($signed(four[f*11+:11]));
    end
    always_ff @(posedge clk) begin
      four <= four_d;
      sum  <= shift[2][1] ? 25'(total) <<< 8 : shift[2][0] ? 25'(total) <<< 4 : 25'(total);
      acc  <= (first[3] ? $signed(i_bias[c*25+:25]) : acc) + sum;
    end
    assign o_sum[c*25+:25] = acc;
  end
endmodule

// One product of two nibbles with their signs: -8..15 each, so -120..225. Kept out of the multiplier blocks, which requantisation needs.
(* use_dsp = "no" *)
module lane (
    input  wire               clk,
    input  wire  [4:0]        i_x,
    input  wire  [4:0]        i_w,
    output logic signed [8:0] o_product
);
  always_ff @(posedge clk) o_product <= 9'($signed(i_x) * $signed(i_w));
endmodule

`default_nettype wire
