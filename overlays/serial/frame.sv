// Frames of 32-bit words on a line of bytes (SLIP, RFC 1055: END on both sides, two bytes for an END or ESC in between), the last word their
// CRC-32. A frame that lost, gained or changed a byte is not passed on. serial_pkg::crc_of by its full name: by its short one, out of an
// imported package, Yosys 0.70 takes an undriven wire for its result.
`default_nettype none

import serial_pkg::*;

// Words in: o_write for each as it comes, o_end behind the last, with o_good where the frame is whole. Words beyond 256 spoil a frame, and so
// does i_full, while there is no room for it.
module frame_in (
    input  wire         clk,
    input  wire         rst,
    input  wire         i_valid,
    input  wire         i_broken,
    input  wire  [7:0]  i_byte,
    input  wire         i_full,
    output logic        o_write,
    output logic [7:0]  o_index,
    output logic [31:0] o_word,
    output logic        o_end,
    output logic        o_good,
    output logic [8:0]  o_words
);
  logic escaped, spoilt;
  logic [10:0] bytes;
  logic [31:0] crc;
  wire [7:0] value = !escaped ? i_byte : i_byte == ESCAPED_END ? END : ESC;
  wire taken = i_valid && i_byte != END && (escaped || i_byte != ESC);
  wire no_escape = escaped && i_byte != ESCAPED_END && i_byte != ESCAPED_ESC;
  always_ff @(posedge clk) begin
    {o_write, o_end} <= '0;
    if (taken) begin
      o_word <= {value, o_word[31:8]};
      o_index <= bytes[9:2];
      o_write <= bytes[1:0] == 3 && !i_full && !bytes[10];
      crc <= serial_pkg::crc_of(crc, value);
      bytes <= bytes + 1'b1;
      if (bytes[10]) bytes <= bytes;
    end
    if (i_valid) begin
      escaped <= !escaped && i_byte == ESC;
      if (i_broken || no_escape || i_full || bytes[10]) spoilt <= 1'b1;
    end
    if (i_valid && i_byte == END) begin
      o_end <= bytes != 0 || escaped;
      o_good <= !spoilt && !i_broken && !escaped && crc == CRC_OF_WHOLE && bytes[1:0] == 0 && bytes >= 12;
      o_words <= bytes[10:2];
    end
    if (rst || i_valid && i_byte == END) begin
      {escaped, spoilt, bytes} <= '0;
      crc <= '1;
    end
  end
endmodule

// Words out: taken with i_valid and o_ready; behind the one with i_last come the CRC and END.
module frame_out (
    input  wire         clk,
    input  wire         rst,
    input  wire         i_valid,
    input  wire  [31:0] i_word,
    input  wire         i_last,
    output wire         o_ready,
    // bytes
    output wire         o_valid,
    output wire  [7:0]  o_byte,
    input  wire         i_ready
);
  typedef enum logic [2:0] {IDLE, BEGIN, WORD, NEXT, CRC, FINISH} state_t;
  state_t state;
  logic escaped, last;  // escaped: ESC has gone, its second byte is due
  logic [1:0] at;
  logic [31:0] word, crc;
  wire content = state == WORD || state == CRC;
  wire [7:0] value = word[7:0];
  wire special = content && (value == END || value == ESC);
  assign o_ready = state == IDLE || state == NEXT;
  assign o_valid = content || state == BEGIN || state == FINISH;
  assign o_byte = !content ? END : !special ? value : !escaped ? ESC : value == END ? ESCAPED_END : ESCAPED_ESC;
  always_ff @(posedge clk)
    if (rst) begin
      state <= IDLE;
      escaped <= 1'b0;
    end else if (o_ready && i_valid) begin
      state <= state == IDLE ? BEGIN : WORD;
      if (state == IDLE) crc <= '1;
      {word, last, at} <= {i_word, i_last, 2'd0};
    end else if (o_valid && i_ready)
      case (state)
        BEGIN: state <= WORD;
        FINISH: state <= IDLE;
        default:
        if (special && !escaped) escaped <= 1'b1;
        else begin
          escaped <= 1'b0;
          at <= at + 1'b1;
          word <= word >> 8;
          if (state == WORD) crc <= serial_pkg::crc_of(crc, value);
          if (at == 3 && state == CRC) state <= FINISH;
          if (at == 3 && state == WORD) state <= last ? CRC : NEXT;
          if (at == 3 && state == WORD && last) word <= ~serial_pkg::crc_of(crc, value);
        end
      endcase
endmodule

`default_nettype wire
