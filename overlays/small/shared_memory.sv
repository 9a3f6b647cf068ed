// Everything large, in the single-port memories: weights, program, keys and values, the residual stream, windows and forecasts. One access a
// cycle, of the first that wants one: loading, the pipeline, the bridge, then what the sequencer or the job asks for (o_mine: it is answered).
// What is read is valid in the next cycle: weights or keys of eight codes as two planes of nibbles, else a word, or a byte or count of one.
//
// In rows of two words: weights from 0, an instruction's words from 4,096, keys and values from 6,144, a plane in each word of a row, the
// residual stream from 7,168, eight codes a row, windows and forecasts from 8,192.
`default_nettype none

import engine_pkg::*;

module shared_memory #(
    parameter int BYTES = 65536
) (
    input  wire         clk,
    input  wire  [31:0] i_data,           // to be loaded, or the bridge's
    // loading
    input  wire         i_load,
    input  wire  [3:0]  i_region,
    input  wire  [14:2] i_load_address,
    // the pipeline, one of these at a time
    input  wire         i_get_residual,
    input  wire  [11:0] i_residual_place,
    input  wire         i_put_sum,
    input  wire  [11:0] i_sum_place,
    input  wire  [7:0]  i_sum,
    input  wire         i_put_kv,
    input  wire  [9:0]  i_kv_place,
    input  wire  [2:0]  i_kv_lane,
    input  wire  [7:0]  i_kv,
    input  wire         i_put_count,
    input  wire  [14:0] i_count_place,
    input  wire  [15:0] i_count,
    // the bridge
    input  wire         i_valid,
    input  wire         i_write,
    input  wire  [$clog2(BYTES/4)-1:0] i_address,
    output wire         o_ready,
    // sequencer and job
    output wire         o_mine,
    input  wire         i_fetch,
    input  wire  [11:0] i_fetch_address,
    input  wire         i_samples,        // of the window; else weights
    input  wire  [14:0] i_sample_place,
    input  wire         i_attend,         // keys and values; else weights
    input  wire  [12:0] i_weight_place,
    // the next cycle
    output wire  [31:0] o_low,            // nibbles of eight weights
    output wire  [31:0] o_high,
    output wire  [31:0] o_word,
    output wire  [15:0] o_count,
    output wire  [7:0]  o_byte
);
  localparam logic [3:0] KV = 4'b0110;
  localparam logic [4:0] RESIDUAL = 5'b01110;
  wire pipeline = i_get_residual || i_put_sum || i_put_kv || i_put_count;
  assign o_ready = !pipeline;  // nothing is loaded in a run, nor beside what else the bridge does: i_load does not count
  assign o_mine = !pipeline && !i_valid;

  logic [13:0] row, even_row;
  logic [2:0] place;  // byte of the row
  logic [7:0] nibbles;
  logic [31:0] data;
  logic both;
  always_comb begin
    place = 3'd0;
    nibbles = 8'd0;
    data = i_data;
    both = 1'b0;
    if (i_load) begin
      place = {i_load_address[2], 2'd0};
      nibbles = {8{i_region == REGION_WEIGHTS || i_region == REGION_PROGRAM}};
      row = i_region == REGION_WEIGHTS ? {2'b00, i_load_address[14:3]} : {3'b010, i_load_address[13:3]};
      if (i_region == REGION_RESIDUAL) begin
        row = {RESIDUAL, i_load_address[13:5]};
        place = i_load_address[4:2];
        nibbles = 8'd3 << {i_load_address[3:2], 1'b0};  // of a word that has the code in each byte
      end
    end else if (i_get_residual) begin
      row = {RESIDUAL, i_residual_place[11:3]};
      place = i_residual_place[2:0];
    end else if (i_put_sum) begin
      row = {RESIDUAL, i_sum_place[11:3]};
      place = i_sum_place[2:0];
      nibbles = 8'd3 << {i_sum_place[1:0], 1'b0};
      data = {4{i_sum}};
    end else if (i_put_kv) begin
      row = {KV, i_kv_place};
      nibbles = 8'd1 << i_kv_lane;
      data = {8{i_kv[3:0]}};
      both = 1'b1;
    end else if (i_put_count) begin
      row = {1'b1, i_count_place[14:2]};
      place = {i_count_place[1:0], 1'b0};
      nibbles = i_count_place[0] ? 8'hF0 : 8'h0F;
      data = {2{i_count}};
    end else if (i_valid) begin
      row = {1'b1, i_address[13:1]};
      place = {i_address[0], 2'd0};
      nibbles = {8{i_write}};
    end else if (i_fetch) begin
      row = {3'b010, i_fetch_address[11:1]};
      place = {i_fetch_address[0], 2'd0};
    end else if (i_samples) begin
      row = {1'b1, i_sample_place[14:2]};
      place = {i_sample_place[1:0], 1'b0};
    end else begin
      row = i_attend ? {KV, i_weight_place[9:0]} : {2'b00, i_weight_place[12:1]};
      place = {i_weight_place[0] && !i_attend, 2'd0};
    end
    // the two planes of weights may begin at an odd place: their second word is then an even one, of the next row
    even_row = o_mine && !i_fetch && !i_samples && !i_attend ? row + 14'(i_weight_place[0]) : row;
  end

  wire [31:0] even, odd;
  single_port u_memory (
      .clk, .i_even_row(even_row), .i_odd_row(row), .i_even_write(place[2] ? 8'd0 : nibbles), .i_odd_write(place[2] || both ? nibbles : 8'd0),
      .i_even_data(data), .i_odd_data(both ? {8{i_kv[7:4]}} : data), .o_even(even), .o_odd(odd)
  );
  logic [2:0] place_1;
  always_ff @(posedge clk) place_1 <= place;
  assign o_word = place_1[2] ? odd : even;
  assign o_low = o_word;
  assign o_high = place_1[2] ? even : odd;
  assign o_count = place_1[1] ? o_word[31:16] : o_word[15:0];
  assign o_byte = place_1[0] ? o_count[15:8] : o_count[7:0];
endmodule

`default_nettype wire
