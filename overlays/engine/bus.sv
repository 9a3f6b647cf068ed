// AXI4 master: windows out of the input buffer, forecasts into the output buffer, never outside of the two. Bursts of at most 16 words of
// 8 bytes, none across 4 KiB. A window is loaded while the one before is computed: there are two input and two output buffers. Where the last
// count is the anchor, its word is fetched first, so that the engine can begin with what is there while the rest of the window comes.
`default_nettype none

import engine_pkg::*;

module bus #(
    parameter int INPUT_WORDS = 256,
    parameter int OUTPUT_WORDS = 32,
    localparam int IW = $clog2(INPUT_WORDS),
    localparam int OW = $clog2(OUTPUT_WORDS)
) (
    input  wire          clk,
    input  wire          aresetn,
    input  wire          i_rst,      // no run is on
    input  wire          i_start,
    input  wire          i_halt,
    output wire          o_drained,
    output logic [3:0]   o_cause,
    output logic [15:0]  o_finished,
    input  wire  [15:0]  i_windows,
    input  wire  [31:0]  i_in_base,
    input  wire  [31:0]  i_in_end,
    input  wire  [31:0]  i_out_base,
    input  wire  [31:0]  i_out_end,
    input  wire  [15:0]  i_context,
    input  wire  [15:0]  i_horizon,
    input  wire  [16:0]  i_anchor,
    // the engine's side
    output wire          o_input_ready,  // the anchor of the next window is known
    input  wire  [IW-1:0] i_wanted,      // word of it that the engine is about to read,
    output wire          o_missing,      // which is not there yet
    output wire  [15:0]  o_anchor,
    input  wire  [IW-1:0] i_input_address,
    output wire  [63:0]  o_input_word,
    input  wire          i_free_input,   // late enough for the last counts to have been read
    output wire          o_output_ready,
    input  wire          i_count_valid,
    input  wire  [15:0]  i_count,
    input  wire          i_window_end,
    // AXI4
    output logic [31:0]  m_axi_araddr,
    output logic [7:0]   m_axi_arlen,
    output logic         m_axi_arvalid,
    input  wire          m_axi_arready,
    input  wire  [63:0]  m_axi_rdata,
    input  wire  [1:0]   m_axi_rresp,
    input  wire          m_axi_rlast,
    input  wire          m_axi_rvalid,
    output wire          m_axi_rready,
    output logic [31:0]  m_axi_awaddr,
    output logic [7:0]   m_axi_awlen,
    output logic         m_axi_awvalid,
    input  wire          m_axi_awready,
    output wire  [63:0]  m_axi_wdata,
    output logic         m_axi_wlast,
    output logic         m_axi_wvalid,
    input  wire          m_axi_wready,
    input  wire  [1:0]   m_axi_bresp,
    input  wire          m_axi_bvalid,
    output wire          m_axi_bready
);
  // Words of a burst: at most 16, at most what is left, not across 4 KiB
  function automatic logic [4:0] beats(input logic [8:0] word, input logic [13:0] left);
    logic [9:0] room;
    room  = 10'd512 - {1'b0, word};
    beats = left < 14'd16 && {4'd0, room} >= left ? left[4:0] : room < 10'd16 ? room[4:0] : 5'd16;
  endfunction

  wire [1:0] last_lane = i_context[1:0] - 2'd1;
  logic [13:0] in_words, out_words;  // of a window and of a forecast
  always_ff @(posedge clk) begin
    in_words <= 14'((i_context + 17'd3) >> 2);
    out_words <= 14'((i_horizon + 17'd3) >> 2);
  end

  // ---- Windows in
  logic [1:0] in_full;
  logic in_write_half, in_read_half;
  logic [31:3] in_address;                   // of the next burst
  logic [15:0] in_left;                      // windows to load
  logic [13:0] ask_left, get_left;           // words of the window to ask for, and to get
  logic [IW-1:0] in_word;
  logic [15:0] last_count[2];
  logic [6:0] bursts;                        // asked for and not ended
  logic loading, ask_last, get_last, begun;  // begun: the anchor of the window that is being loaded is known
  wire ar_done = m_axi_arvalid && m_axi_arready;
  wire r_done = m_axi_rvalid && m_axi_rready;
  // The next burst, worked out over the three cycles after its address and length are known
  logic [32:3] in_first;
  logic [4:0] in_beats;
  logic [32:3] in_next;
  logic in_outside;
  logic [1:0] in_settled;
  wire asks = loading && (ask_last || ask_left != 0) && (!m_axi_arvalid || m_axi_arready) && in_settled == 3;
  always_ff @(posedge clk) begin
    in_first <= ask_last ? {1'b0, in_address} + 30'(in_words) - 30'd1 : {1'b0, in_address};
    in_beats <= ask_last ? 5'd1 : beats(in_address[11:3], ask_left);
    in_next <= in_first + 30'(in_beats);
    in_outside <= in_next > {1'b0, i_in_end[31:3]};
    in_settled <= !loading || asks ? 2'd0 : in_settled == 3 ? 2'd3 : in_settled + 2'd1;
  end
  wire r_end = r_done && m_axi_rlast;

  assign m_axi_rready = 1'b1;
  assign o_input_ready = in_full[in_read_half] || loading && begun;  // what is not full is being loaded
  assign o_missing = !in_full[in_read_half] && i_wanted >= in_word;
  assign o_anchor = i_anchor[16] ? i_anchor[15:0] : last_count[in_read_half];

  memory #(
      .LANES(1),
      .BITS(64),
      .DEPTH(2 * INPUT_WORDS)
  ) u_input (
      .clk,
      .i_write(r_done && loading && !get_last),
      .i_write_address({in_write_half, in_word}),
      .i_data(m_axi_rdata),
      .i_read_address({in_read_half, i_input_address}),
      .o_data(o_input_word)
  );

  logic misaligned;
  always_ff @(posedge clk)
    misaligned <= i_in_base[2:0] != 0 || i_out_base[2:0] != 0 || i_context > 4 * INPUT_WORDS || i_horizon > 4 * OUTPUT_WORDS;

  always_ff @(posedge clk)
    if (!aresetn) begin
      m_axi_arvalid <= 1'b0;
      bursts <= '0;
      {loading, in_left} <= '0;
      in_full <= '0;
      {in_write_half, in_read_half} <= '0;
    end else begin
      if (ar_done) m_axi_arvalid <= 1'b0;
      bursts <= bursts + 7'(ar_done) - 7'(r_end);
      if (i_start) begin
        {loading, in_write_half, in_read_half} <= '0;
        in_full <= '0;
        in_left <= i_windows;
        in_address <= i_in_base[31:3];
      end else if (i_rst) begin
        loading <= 1'b0;
        in_left <= '0;
      end else begin
        if (i_free_input) begin
          in_full[in_read_half] <= 1'b0;
          in_read_half <= !in_read_half;
        end
        if (!loading && in_left != 0 && !in_full[in_write_half] && checked && !misaligned) begin
          loading <= 1'b1;
          {ask_last, get_last, begun} <= {!i_anchor[16], !i_anchor[16], i_anchor[16]};
          ask_left <= in_words;
          get_left <= in_words;
          in_word <= '0;
        end
        if (asks && !in_outside) begin
          m_axi_arvalid <= 1'b1;
          m_axi_araddr <= {in_first[31:3], 3'd0};
          m_axi_arlen <= 8'(in_beats) - 8'd1;
          ask_last <= 1'b0;
          if (!ask_last) begin
            in_address <= in_next[31:3];
            ask_left <= ask_left - 14'(in_beats);
          end
        end
        if (r_done && loading && get_last) begin
          last_count[in_write_half] <= m_axi_rdata[last_lane*16+:16];
          get_last <= 1'b0;
          begun <= 1'b1;
        end else if (r_done && loading) begin
          in_word <= in_word + 1'b1;
          get_left <= get_left - 1'b1;
          if (get_left == 1) begin
            loading <= 1'b0;
            in_full[in_write_half] <= 1'b1;
            in_write_half <= !in_write_half;
            in_left <= in_left - 1'b1;
          end
        end
      end
    end

  // ---- Forecasts out: counts are packed by four
  logic [1:0] out_full;
  logic out_write_half, out_read_half;
  logic [OW-1:0] out_word;
  logic [1:0] out_lane;
  logic [OW-1:0] send_word;
  logic [31:3] out_address;
  logic [13:0] send_left;
  logic [4:0] burst_left;
  typedef enum logic [1:0] {WAIT, FETCH, SEND, RESPONSE} write_state_t;
  write_state_t write_state;
  logic checked;
  wire w_done = m_axi_wvalid && m_axi_wready;

  // The next burst, in the same way
  logic [4:0] out_beats;
  logic [32:3] out_next;
  logic out_outside;
  logic [1:0] out_settled;
  wire sends = write_state == WAIT && out_full[out_read_half] && out_settled == 3;
  always_ff @(posedge clk) begin
    out_beats <= beats(out_address[11:3], send_left);
    out_next <= {1'b0, out_address} + 30'(out_beats);
    out_outside <= out_next > {1'b0, i_out_end[31:3]};
    out_settled <= write_state != WAIT || i_rst ? 2'd0 : out_settled == 3 ? 2'd3 : out_settled + 2'd1;
  end

  assign o_output_ready = !out_full[out_write_half];
  assign m_axi_bready = 1'b1;
  assign o_drained = !m_axi_arvalid && bursts == 0 && (write_state == WAIT);

  memory #(
      .LANES(4),
      .BITS(16),
      .DEPTH(2 * OUTPUT_WORDS),
      .STYLE("distributed")
  ) u_output (
      .clk,
      .i_write(i_count_valid ? 4'd1 << out_lane : 4'd0),
      .i_write_address({out_write_half, out_word}),
      .i_data({4{i_count}}),
      .i_read_address({out_read_half, w_done ? send_word + 1'b1 : send_word}),
      .o_data(m_axi_wdata)
  );

  always_ff @(posedge clk)
    if (!aresetn) begin
      write_state <= WAIT;
      {m_axi_awvalid, m_axi_wvalid, checked} <= '0;
      out_full <= '0;
      o_finished <= '0;
      o_cause <= CAUSE_NONE;
    end else begin
      checked <= !i_start && !i_rst;
      if (m_axi_awready) m_axi_awvalid <= 1'b0;
      if (i_rst && !i_halt) o_cause <= CAUSE_NONE;
      else if (o_cause == CAUSE_NONE) begin
        if (checked && (misaligned || asks && in_outside || sends && out_outside)) o_cause <= CAUSE_BUFFERS;
        if (r_done && m_axi_rresp[1]) o_cause <= CAUSE_READ;
        if (m_axi_bvalid && m_axi_bresp[1]) o_cause <= CAUSE_WRITE;
      end

      if (i_start) begin
        {out_write_half, out_read_half, out_word, out_lane} <= '0;
        out_full <= '0;
        out_address <= i_out_base[31:3];
        send_left <= out_words;
        send_word <= '0;
        o_finished <= '0;
      end else if (i_rst && !i_halt) begin
        out_full <= '0;
        o_finished <= '0;
      end else begin
        if (i_count_valid) {out_word, out_lane} <= {out_word, out_lane} + 1'b1;
        if (i_window_end) begin
          out_full[out_write_half] <= 1'b1;
          out_write_half <= !out_write_half;
          {out_word, out_lane} <= '0;
        end
        case (write_state)
          WAIT:
          if (sends && !out_outside && !i_halt) begin
            m_axi_awvalid <= 1'b1;
            m_axi_awaddr <= {out_address, 3'd0};
            m_axi_awlen <= 8'(out_beats) - 8'd1;
            burst_left <= out_beats;
            out_address <= out_next[31:3];
            send_left <= send_left - 14'(out_beats);
            write_state <= FETCH;
          end
          FETCH: begin
            m_axi_wvalid <= 1'b1;
            m_axi_wlast <= burst_left == 1;
            write_state <= SEND;
          end
          SEND:
          if (w_done) begin
            send_word <= send_word + 1'b1;
            burst_left <= burst_left - 1'b1;
            m_axi_wlast <= burst_left == 2;
            if (burst_left == 1) begin
              m_axi_wvalid <= 1'b0;
              write_state <= RESPONSE;
            end
          end
          RESPONSE:
          if (m_axi_bvalid) begin
            write_state <= WAIT;
            if (send_left == 0) begin
              send_left <= out_words;
              send_word <= '0;
              out_full[out_read_half] <= 1'b0;
              out_read_half <= !out_read_half;
              if (!i_halt && !m_axi_bresp[1]) o_finished <= o_finished + 1'b1;
            end
          end
        endcase
      end
    end
endmodule

`default_nettype wire
