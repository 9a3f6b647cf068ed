// The multiplier array: COLS dot products of ROWS codes a cycle, summed over the chunks and nibble passes of an output.
// A lane multiplies two nibbles, each with a sign of its own: wider codes take two passes, weighted by 16 to the number of high nibbles.
// Timing: codes and weights in cycle 1, bias in cycle 6, sum in cycle 7 (valid where the control marked the last pass).
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
    // cycle 6
    input  wire  [COLS*25-1:0]        i_bias,
    // cycle 7
    output wire  [COLS*25-1:0]        o_sum
);
  localparam int FOURS = ROWS / 4;
  localparam int SUM = 9 + $clog2(ROWS);  // bits of a dot product

  // A weight is two digits of two bits. Each row makes what a digit can ask for of its code, once for all columns: x and 3 x; for the upper
  // digit also u and v, which are 2 x and 3 x, or -2 x and -x where the digit has the sign. A lane is then two selections and an addition.
  logic [ROWS*7-1:0] x1, x3, xu, xv;  // cycle 3
  logic [ROWS*COLS*4-1:0] w, w_d;     // cycles 3, 2
  logic [ROWS*5-1:0] x_d, x;          // cycles 1, 2
  logic [ROWS*6-1:0] signed_x;        // cycle 2: x, or -x where the weight's upper digit has a sign
  logic [1:0] shift[5];  // cycles 2 to 6
  logic first[5];

  always_comb
    for (int r = 0; r < ROWS; r++) begin
      x_d[r*5+:4] = i_code_high ? i_codes[r*8+4+:4] : i_codes[r*8+:4];
      x_d[r*5+4]  = i_code_signed & (i_code_high ? i_codes[r*8+7] : i_codes[r*8+3]);
    end
  always_ff @(posedge clk) begin
    for (int r = 0; r < ROWS; r++) begin
      x[r*5+:5] <= x_d[r*5+:5];
      signed_x[r*6+:6] <= 6'($signed(x_d[r*5+:5] ^ {5{i_weight_signed}})) + 6'(i_weight_signed);
      x1[r*7+:7] <= 7'($signed(x[r*5+:5]));
      x3[r*7+:7] <= 7'($signed(x[r*5+:5])) + 7'($signed({x[r*5+:5], 1'b0}));
      xu[r*7+:7] <= {signed_x[r*6+:6], 1'b0};
      xv[r*7+:7] <= 7'($signed(x[r*5+:5])) + 7'($signed({signed_x[r*6+:6], 1'b0}));
    end
    for (int i = 0; i < ROWS * COLS; i++)
      w_d[i*4+:4] <= !i_from_kv ? i_weights[i*4+:4] : i_weight_high ? i_kv[i*8+4+:4] : i_kv[i*8+:4];
    w <= w_d;
    shift[0] <= 2'(i_code_high) + 2'(i_weight_high);
    first[0] <= i_first;
    for (int n = 1; n < 5; n++) begin
      shift[n] <= shift[n-1];
      first[n] <= first[n-1];
    end
  end

  for (genvar c = 0; c < COLS; c++) begin : g_column
    wire [ROWS*5-1:0] pair;  // sums of two products, 10 bits each
    logic [FOURS*11-1:0] four, four_d;
    logic signed [SUM-1:0] total;
    logic signed [24:0] sum, acc;

    for (genvar r = 0; r < ROWS; r += 2) begin : g_pair
      pair_of_lanes u_pair (
          .clk,
          .i_x1(x1[r*7+:14]),
          .i_x3(x3[r*7+:14]),
          .i_xu(xu[r*7+:14]),
          .i_xv(xv[r*7+:14]),
          .i_w(w[(c*ROWS+r)*4+:8]),
          .o_sum(pair[r*5+:10])
      );
    end
    for (genvar f = 0; f < FOURS; f++) begin : g_four  // four additions share a multiplier block, of which there are more than needed
      (* use_dsp = "simd" *) wire [11:0] four_sum = 12'($signed(pair[f*20+:10])) + 12'($signed(pair[f*20+10+:10]));
      assign four_d[f*11+:11] = four_sum[10:0];
    end
    always_comb begin
      total = '0;
      for (int f = 0; f < FOURS; f++) total = total + SUM'($signed(four[f*11+:11]));
    end
    always_ff @(posedge clk) begin
      four <= four_d;
      sum  <= shift[3][1] ? 25'(total) <<< 8 : shift[3][0] ? 25'(total) <<< 4 : 25'(total);
      acc  <= sum + (first[4] ? $signed(i_bias[c*25+:25]) : acc);  // in this order a carry chain takes the selection too
    end
    assign o_sum[c*25+:25] = acc;
  end
endmodule

// Products of two codes with two weights, added digit by digit: -240..450.
module pair_of_lanes (
    input  wire         clk,
    input  wire  [13:0] i_x1,
    input  wire  [13:0] i_x3,
    input  wire  [13:0] i_xu,
    input  wire  [13:0] i_xv,
    input  wire  [7:0]  i_w,
    output wire  [9:0]  o_sum
);
  logic [13:0] low_digit, high_digit;
  logic signed [7:0] low, high;
  wire signed [7:0] upper = 8'($signed(low[7:2])) + high;

  // what a digit of 1, 2 or 3 asks for; 0 asks for nothing. (Masks simulate faster than a case: there is nothing to predict.)
  function automatic logic [6:0] pick(input logic [1:0] digit, input logic [6:0] one, input logic [6:0] two, input logic [6:0] three);
    pick = {7{digit == 2'd1}} & one | {7{digit == 2'd2}} & two | {7{digit == 2'd3}} & three;
  endfunction

  always_comb
    for (int i = 0; i < 2; i++) begin
      low_digit[i*7+:7] = pick(i_w[i*4+:2], i_x1[i*7+:7], {i_x1[i*7+:6], 1'b0}, i_x3[i*7+:7]);
      high_digit[i*7+:7] = pick(i_w[i*4+2+:2], i_x1[i*7+:7], i_xu[i*7+:7], i_xv[i*7+:7]);
    end
  always_ff @(posedge clk) begin
    low  <= 8'($signed(low_digit[6:0])) + 8'($signed(low_digit[13:7]));
    high <= 8'($signed(high_digit[6:0])) + 8'($signed(high_digit[13:7]));
  end
  assign o_sum = {upper, low[1:0]};
endmodule

`default_nettype wire
