// Words between a serial line and what lies behind it: the engine's registers and memories (AXI4-Lite), the window memory, facts of this build.
//
// A request is a frame of its head, an address, and the words to write if any; the answer is a head, and the words read if any. Requests are
// numbered: one that comes again, because its answer was lost, is answered again, and written only once; one that comes after a gap, or damaged,
// is answered with the number that is due. Numbers are those of a session, which a request begins by its name; one of no session or of another
// is answered as foreign: the board was loaded again, or somebody else has opened it. One request is carried out while the next one comes in.
`default_nettype none

import serial_pkg::*;
import board_pkg::*;

module bridge (
    input  wire         clk,
    input  wire         rst,
    input  wire         i_line,
    output wire         o_line,
    output wire         o_busy,     // with a request or an answer
    // the engine
    output wire  [19:0] m_axi_awaddr,
    output wire         m_axi_awvalid,
    input  wire         m_axi_awready,
    output wire  [31:0] m_axi_wdata,
    output wire  [19:0] m_axi_araddr,
    output wire         m_axi_arvalid,
    input  wire         m_axi_arready,
    input  wire  [31:0] m_axi_rdata,
    input  wire         m_axi_rvalid,
    // the window memory
    output wire         o_memory,
    output wire         o_memory_write,
    output wire  [$clog2(BYTES/4)-1:0] o_memory_address,
    output wire  [31:0] o_data,
    input  wire         i_memory_ready,
    input  wire  [31:0] i_memory_data
);
  wire byte_valid, byte_broken;
  wire [7:0] byte_in;
  uart_in #(.CLOCKS(CLOCKS)) u_in (.clk, .rst, .i_line, .o_valid(byte_valid), .o_broken(byte_broken), .o_byte(byte_in));

  // Two requests: one that comes in, one that is carried out
  logic [1:0] full;
  logic bank_in, bank, damaged;
  logic [8:0] words[2];
  wire in_write, in_end, in_good;
  wire [7:0] in_index;
  wire [8:0] in_words;
  wire [31:0] in_word, word;
  logic [7:0] at;
  frame_in u_frame_in (
      .clk,
      .rst,
      .i_valid(byte_valid),
      .i_broken(byte_broken),
      .i_byte(byte_in),
      .i_full(full[bank_in]),
      .o_write(in_write),
      .o_index(in_index),
      .o_word(in_word),
      .o_end(in_end),
      .o_good(in_good),
      .o_words(in_words)
  );
  memory #(
      .LANES(1),
      .BITS(32),
      .DEPTH(512)
  ) u_requests (
      .clk,
      .i_write(in_write),
      .i_write_address({bank_in, in_index}),
      .i_data(in_word),
      .i_read_address({bank, at}),
      .o_data(word)
  );

  typedef enum logic [3:0] {IDLE, HEAD, ADDRESS, DECIDE, WRITE, WRITTEN, ANSWER, READ, SEND} state_t;
  state_t state;
  logic [31:0] head, address, taken, cycles, lost;
  logic [7:0] due, status, left, session;
  logic begun;
  logic [8:0] session_before;  // the session before this one, and whether there was one
  logic asked, reads, held;  // held: a request is in hand, not only word of a damaged one
  wire [7:0] number = head[15:8], behind = due - number;
  wire ours = begun && head[31:24] == session;
  wire again = behind != 0 && behind <= AHEAD;  // what came in just before
  wire is_read = head[6:0] == OP_READ, is_write = head[6:0] == OP_WRITE, begins = head[7];
  wire [8:0] count = {1'b0, head[23:16]} + 1'b1;
  wire fits = words[bank] == (is_write ? count + 9'd3 : 9'd3) && (is_read || is_write) && address[1:0] == 0;
  wire [27:0] beyond = {2'b0, address[27:2]} + 28'(count);
  wire known = address[31:28] == ENGINE && beyond <= 28'h40000 || address[31:28] == MEMORY && beyond <= 28'(BYTES / 4) ||
      address[31:28] == FACTS && is_read;

  wire to_engine = address[31:28] == ENGINE, to_memory = address[31:28] == MEMORY;
  assign m_axi_awaddr = address[19:0];
  assign m_axi_araddr = address[19:0];
  assign m_axi_wdata = word;
  assign m_axi_awvalid = state == WRITE && to_engine;
  assign m_axi_arvalid = state == READ && to_engine && !asked;
  assign o_memory = to_memory && (state == WRITE || state == READ && !asked);
  assign o_memory_write = state == WRITE;
  assign o_memory_address = address[$clog2(BYTES/4)+1:2];
  assign o_data = word;
  wire written = to_engine ? m_axi_awready : i_memory_ready;
  logic [31:0] fact;
  always_comb
    case (address[5:2])
      FACT_BRIDGE: fact = BRIDGE;
      FACT_CLOCK: fact = CLOCK_HZ;
      FACT_BYTES: fact = BYTES;
      FACT_BOARD: fact = {SIMULATED[0], 15'd0, BOARD[15:0]};
      FACT_LOST: fact = lost;
      FACT_BEFORE: fact = {23'd0, session_before};
      default: fact = cycles;
    endcase

  wire out_ready, byte_ready, out_valid;
  wire [7:0] byte_out;
  wire last = state == ANSWER ? !reads : left == 0;
  frame_out u_frame_out (
      .clk,
      .rst,
      .i_valid(state == ANSWER || state == SEND),
      .i_word(state == ANSWER ? {held ? head[31:24] : session, status, status == STATUS_GAP ? due : number, head[7:0]} : taken),
      .i_last(last),
      .o_ready(out_ready),
      .o_valid(out_valid),
      .o_byte(byte_out),
      .i_ready(byte_ready)
  );
  uart_out #(.CLOCKS(CLOCKS)) u_out (.clk, .rst, .i_valid(out_valid), .i_byte(byte_out), .o_ready(byte_ready), .o_line);
  assign o_busy = state != IDLE || full != 0 || damaged || !byte_ready || out_valid;

  always_ff @(posedge clk)
    if (rst) begin
      state <= IDLE;
      full <= '0;
      {bank_in, bank, damaged, due, at, cycles, lost, begun} <= '0;
    end else begin
      cycles <= cycles + 1'b1;
      if (in_end && in_good) begin
        full[bank_in] <= 1'b1;
        words[bank_in] <= in_words;
        bank_in <= !bank_in;
      end
      case (state)
        IDLE: begin
          at <= 8'd0;
          reads <= 1'b0;
          status <= STATUS_GAP;
          held <= full[bank];
          if (full[bank]) state <= HEAD;
          else if (damaged) begin
            damaged <= 1'b0;
            state <= ANSWER;
          end
        end
        HEAD: begin
          at <= at + 1'b1;
          head <= word;  // that of `at` in the cycle before
          if (at == 1) state <= ADDRESS;
        end
        ADDRESS: begin
          address <= word;
          state <= DECIDE;
        end
        DECIDE: begin
          left <= head[23:16];
          state <= ANSWER;
          if (!begins && !ours) status <= STATUS_FOREIGN;
          else if (begins || behind == 0 || again) begin
            status <= fits && known ? STATUS_DONE : STATUS_REFUSED;
            reads <= fits && known && is_read;
            if (fits && known && is_write && !again) state <= WRITE;
            if (begins || behind == 0) due <= number + 1'b1;
            if (begins) {begun, session} <= {1'b1, head[31:24]};
            if (begins && !ours) session_before <= {begun, session};
          end
        end
        WRITE:
        if (written) begin
          at <= at + 1'b1;
          address <= address + 32'd4;
          left <= left - 1'b1;
          state <= left == 0 ? ANSWER : WRITTEN;
        end
        WRITTEN: state <= WRITE;  // the next word is read
        ANSWER: begin
          asked <= 1'b0;
          if (out_ready) begin
            state <= reads ? READ : IDLE;
            if (!reads && held) begin
              full[bank] <= 1'b0;
              bank <= !bank;
            end
          end
        end
        READ: begin
          if (to_engine ? m_axi_arready : i_memory_ready) asked <= 1'b1;
          if (to_engine ? m_axi_rvalid : to_memory ? asked : 1'b1) begin
            taken <= to_engine ? m_axi_rdata : to_memory ? i_memory_data : fact;
            state <= SEND;
          end
        end
        SEND: begin
          asked <= 1'b0;
          if (out_ready) begin
            address <= address + 32'd4;
            left <= left - 1'b1;
            state <= left == 0 ? IDLE : READ;
            if (left == 0) begin
              full[bank] <= 1'b0;
              bank <= !bank;
            end
          end
        end
        default: state <= IDLE;
      endcase
      if (in_end && !in_good) begin
        damaged <= 1'b1;
        lost <= lost + 1'b1;
      end
    end
endmodule

`default_nettype wire
