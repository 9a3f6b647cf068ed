// The softmax of a row of scores, one a cycle, in two passes over it, as in the larger engine: `sum` makes r = N / sum(T[max - score]), `probability`
// takes T again. The tables are outside. Timing: the row in cycle 0, its scores in cycle 1, place in the table in cycle 2, T in cycle 3, with r.
// The largest score of a row is written in cycle 12 of the row's last, r when o_divides goes down.
`default_nettype none

module small_softmax #(
    parameter int ROWS = 256,
    localparam int RW = $clog2(ROWS)
) (
    input  wire                 clk,
    input  wire                 rst,
    input  wire                 i_load,
    input  wire  [RW:0]         i_base,        // the instruction's first row
    // cycle 0
    input  wire                 i_step,        // last issue of a row
    input  wire                 i_exists,
    input  wire                 i_sum,         // a score to be summed
    input  wire                 i_row_last,
    output logic [RW:0]         o_row,
    // cycles 1 to 3
    input  wire  [7:0]          i_score_1,
    output logic [7:0]          o_index_2,
    input  wire  [7:0]          i_looked_up_3,
    output wire  [7:0]          o_t_3,
    output logic [16:0]         o_r_3,
    // the divider
    input  wire  [24:0]         i_numerator,
    output logic                o_divides,
    // cycle 11: scores as they are made
    input  wire                 i_made,
    input  wire                 i_made_last,
    input  wire  signed [7:0]   i_made_score
);
  logic [RW:0] row;  // the one to be written
  logic [3:1] exists, sums, lasts;
  logic fresh, divide, write_12;
  logic [17:0] total;
  logic signed [7:0] largest;
  logic [16:0] r_2;
  wire divided;
  wire [16:0] quotient;
  wire [31:0] kept_1;  // largest, r
  memory #(
      .LANES(4),
      .BITS(8),
      .DEPTH(ROWS)
  ) u_rows (
      .clk, .i_write({{3{divided}}, write_12}), .i_write_address(row[RW-1:0]), .i_data({7'd0, quotient, largest}),
      .i_read_address(o_row[RW-1:0]), .o_data(kept_1)
  );
  divider #(
      .TAG(1)
  ) u_divider (
      .clk, .rst, .i_start(divide), .i_tag(1'b0), .i_numerator, .i_denominator(total), .o_done(divided), .o_quotient(quotient), .o_tag()
  );
  assign o_t_3 = exists[3] ? i_looked_up_3 : 8'd0;

  always_ff @(posedge clk) begin
    exists <= {exists[2:1], i_exists};
    sums <= {sums[2:1], i_sum};
    lasts <= {lasts[2:1], i_row_last};
    o_index_2 <= kept_1[7:0] - i_score_1;
    {o_r_3, r_2} <= {r_2, kept_1[24:8]};
    if (sums[3]) begin
      total <= 18'(o_t_3) + (fresh ? 18'd0 : total);
      fresh <= lasts[3];
    end
    divide <= sums[3] && lasts[3];
    if (i_made) begin
      largest <= fresh || i_made_score > largest ? i_made_score : largest;
      fresh <= i_made_last;
    end
    write_12 <= i_made && i_made_last;
    if (divide) o_divides <= 1'b1;  // it may begin with a row as it ends with another
    else if (divided) o_divides <= 1'b0;
    if (i_step) o_row <= o_row + 1'b1;
    if (write_12 || divided) row <= row + 1'b1;
    if (i_load) begin
      {o_row, row} <= {2{i_base}};
      fresh <= 1'b1;
    end
    if (rst) {sums, divide, write_12, o_divides} <= '0;
  end
endmodule

`default_nettype wire
