// Forecasts out: counts are packed by four into two buffers, and written by AXI4, one forecast while the next is computed. o_output_ready: there
// is room for a forecast. o_finished: forecasts whose last burst has been answered without an error.
`default_nettype none

module bus_write #(
    parameter int OUTPUT_WORDS = 32,
    localparam int OW = $clog2(OUTPUT_WORDS)
) (
    input  wire           clk,
    input  wire           aresetn,
    input  wire           i_rst,       // no run is on
    input  wire           i_start,
    input  wire           i_halt,      // finish what is under way
    output wire           o_drained,   // nothing is
    output wire           o_outside,   // the next burst would leave the buffer: it is not begun
    output logic [15:0]   o_finished,
    // the job
    input  wire  [31:0]   i_out_base,
    input  wire  [31:0]   i_out_end,
    input  wire  [15:0]   i_horizon,
    // the engine's side
    output wire           o_output_ready,
    input  wire           i_count_valid,
    input  wire  [15:0]   i_count,
    input  wire           i_window_end,
    // AXI4
    output logic [31:0]   m_axi_awaddr,
    output logic [7:0]    m_axi_awlen,
    output logic          m_axi_awvalid,
    input  wire           m_axi_awready,
    output wire  [63:0]   m_axi_wdata,
    output logic          m_axi_wlast,
    output logic          m_axi_wvalid,
    input  wire           m_axi_wready,
    input  wire  [1:0]    m_axi_bresp,
    input  wire           m_axi_bvalid,
    output wire           m_axi_bready
);
  logic [13:0] words;      // of a forecast
  logic [1:0] full;
  logic write_half, read_half;
  logic [OW-1:0] word;     // and lane of the next count
  logic [1:0] lane;
  logic [OW-1:0] send_word;
  logic [31:3] address;    // of the next burst
  logic [13:0] send_left;  // words of the forecast
  logic [4:0] burst_left;
  typedef enum logic [1:0] {WAIT, FETCH, SEND, RESPONSE} state_t;
  state_t state;
  wire w_done = m_axi_wvalid && m_axi_wready;

  // The next burst
  wire [4:0] beats;
  wire [32:3] next;
  wire settled, outside;
  wire sends = state == WAIT && full[read_half] && settled;
  always_ff @(posedge clk) words <= 14'((i_horizon + 17'd3) >> 2);
  burst u_burst (
      .clk,
      .i_restart(state != WAIT || i_rst),
      .i_address(address),
      .i_left(send_left),
      .i_single(1'b0),
      .i_first({1'b0, address}),
      .i_end(i_out_end[31:3]),
      .o_settled(settled),
      .o_beats(beats),
      .o_next(next),
      .o_outside(outside)
  );

  assign o_output_ready = !full[write_half];
  assign m_axi_bready = 1'b1;
  assign o_drained = state == WAIT;
  assign o_outside = sends && outside;

  memory #(
      .LANES(4),
      .BITS(16),
      .DEPTH(2 * OUTPUT_WORDS),
      .BLOCK(1'b0)
  ) u_output (
      .clk,
      .i_write(i_count_valid ? 4'd1 << lane : 4'd0),
      .i_write_address({write_half, word}),
      .i_data({4{i_count}}),
      .i_read_address({read_half, w_done ? send_word + 1'b1 : send_word}),
      .o_data(m_axi_wdata)
  );

  always_ff @(posedge clk)
    if (!aresetn) begin
      state <= WAIT;
      {m_axi_awvalid, m_axi_wvalid} <= '0;
      full <= '0;
      o_finished <= '0;
    end else begin
      if (m_axi_awready) m_axi_awvalid <= 1'b0;
      if (i_start) begin
        {write_half, read_half, word, lane} <= '0;
        full <= '0;
        address <= i_out_base[31:3];
        send_left <= words;
        send_word <= '0;
        o_finished <= '0;
      end else if (i_rst && !i_halt) begin
        full <= '0;
        o_finished <= '0;
      end else begin
        if (i_count_valid) {word, lane} <= {word, lane} + 1'b1;
        if (i_window_end) begin
          full[write_half] <= 1'b1;
          write_half <= !write_half;
          {word, lane} <= '0;
        end
        case (state)
          WAIT:
          if (sends && !outside && !i_halt) begin
            m_axi_awvalid <= 1'b1;
            m_axi_awaddr <= {address, 3'd0};
            m_axi_awlen <= 8'(beats) - 8'd1;
            burst_left <= beats;
            address <= next[31:3];
            send_left <= send_left - 14'(beats);
            state <= FETCH;
          end
          FETCH: begin
            m_axi_wvalid <= 1'b1;
            m_axi_wlast <= burst_left == 1;
            state <= SEND;
          end
          SEND:
          if (w_done) begin
            send_word <= send_word + 1'b1;
            burst_left <= burst_left - 1'b1;
            m_axi_wlast <= burst_left == 2;
            if (burst_left == 1) begin
              m_axi_wvalid <= 1'b0;
              state <= RESPONSE;
            end
          end
          RESPONSE:
          if (m_axi_bvalid) begin
            state <= WAIT;
            if (send_left == 0) begin
              send_left <= words;
              send_word <= '0;
              full[read_half] <= 1'b0;
              read_half <= !read_half;
              if (!i_halt && !m_axi_bresp[1]) o_finished <= o_finished + 1'b1;
            end
          end
        endcase
      end
    end
endmodule

`default_nettype wire
