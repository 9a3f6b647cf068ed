// Windows in: AXI4 reads into two buffers, one window is loaded while the one before is computed. Where the last count is the anchor, its word
// is fetched first, so that the engine can begin with what is there while the rest of the window comes. o_input_ready: the anchor of the
// engine's window is valid; o_missing: the word it wants is not there yet; o_input_word is valid one cycle after its address.
`default_nettype none

module bus_read #(
    parameter int INPUT_WORDS = 256,
    localparam int IW = $clog2(INPUT_WORDS)
) (
    input  wire           clk,
    input  wire           aresetn,
    input  wire           i_rst,       // no run is on
    input  wire           i_start,
    input  wire           i_checked,   // the job has been looked at,
    input  wire           i_bad_job,   // and is none
    output wire           o_drained,   // nothing is under way
    output wire           o_outside,   // the next burst would leave the buffer: it is not asked for
    // the job
    input  wire  [15:0]   i_windows,
    input  wire  [31:0]   i_in_base,
    input  wire  [31:0]   i_in_end,
    input  wire  [15:0]   i_context,
    input  wire  [16:0]   i_anchor,
    // the engine's side
    output wire           o_input_ready,
    input  wire  [IW-1:0] i_wanted,
    output wire           o_missing,
    output wire  [15:0]   o_anchor,
    input  wire  [IW-1:0] i_input_address,
    output wire  [63:0]   o_input_word,
    input  wire           i_free_input,
    // AXI4
    output logic [31:0]   m_axi_araddr,
    output logic [7:0]    m_axi_arlen,
    output logic          m_axi_arvalid,
    input  wire           m_axi_arready,
    input  wire  [63:0]   m_axi_rdata,
    input  wire           m_axi_rlast,
    input  wire           m_axi_rvalid,
    output wire           m_axi_rready
);
  wire [1:0] last_lane = i_context[1:0] - 2'd1;
  logic [13:0] words;                   // of a window
  logic [1:0] full;
  logic write_half, read_half;
  logic [31:3] address;                 // of the next burst
  logic [15:0] windows_left;            // to load
  logic [13:0] ask_left, get_left;      // words of the window to ask for, and to get
  logic [IW-1:0] word;
  logic [15:0] last_count[2];
  logic [6:0] bursts;                   // asked for and not ended
  logic loading, ask_last, get_last, begun;  // begun: the anchor of the window that is being loaded is known
  wire ar_done = m_axi_arvalid && m_axi_arready;
  wire r_done = m_axi_rvalid && m_axi_rready;
  wire r_end = r_done && m_axi_rlast;

  // The next burst
  logic [32:3] first;
  wire [4:0] beats;
  wire [32:3] next;
  wire settled, outside;
  wire asks = loading && (ask_last || ask_left != 0) && (!m_axi_arvalid || m_axi_arready) && settled;
  always_ff @(posedge clk) begin
    words <= 14'((i_context + 17'd3) >> 2);
    first <= ask_last ? {1'b0, address} + 30'(words) - 30'd1 : {1'b0, address};
  end
  burst u_burst (
      .clk,
      .i_restart(!loading || asks),
      .i_address(address),
      .i_left(ask_left),
      .i_single(ask_last),
      .i_first(first),
      .i_end(i_in_end[31:3]),
      .o_settled(settled),
      .o_beats(beats),
      .o_next(next),
      .o_outside(outside)
  );

  assign m_axi_rready = 1'b1;
  assign o_drained = !m_axi_arvalid && bursts == 0;
  assign o_outside = asks && outside;
  assign o_input_ready = full[read_half] || loading && begun;  // what is not full is being loaded
  assign o_missing = !full[read_half] && i_wanted >= word;
  assign o_anchor = i_anchor[16] ? i_anchor[15:0] : last_count[read_half];

  memory #(
      .LANES(1),
      .BITS(64),
      .DEPTH(2 * INPUT_WORDS)
  ) u_input (
      .clk,
      .i_write(r_done && loading && !get_last),
      .i_write_address({write_half, word}),
      .i_data(m_axi_rdata),
      .i_read_address({read_half, i_input_address}),
      .o_data(o_input_word)
  );

  always_ff @(posedge clk)
    if (!aresetn) begin
      m_axi_arvalid <= 1'b0;
      bursts <= '0;
      {loading, windows_left} <= '0;
      full <= '0;
      {write_half, read_half} <= '0;
    end else begin
      if (ar_done) m_axi_arvalid <= 1'b0;
      bursts <= bursts + 7'(ar_done) - 7'(r_end);
      if (i_start) begin
        {loading, write_half, read_half} <= '0;
        full <= '0;
        windows_left <= i_windows;
        address <= i_in_base[31:3];
      end else if (i_rst) begin
        loading <= 1'b0;
        windows_left <= '0;
      end else begin
        if (i_free_input) begin
          full[read_half] <= 1'b0;
          read_half <= !read_half;
        end
        if (!loading && windows_left != 0 && !full[write_half] && i_checked && !i_bad_job) begin
          loading <= 1'b1;
          {ask_last, get_last, begun} <= {!i_anchor[16], !i_anchor[16], i_anchor[16]};
          ask_left <= words;
          get_left <= words;
          word <= '0;
        end
        if (asks && !outside) begin
          m_axi_arvalid <= 1'b1;
          m_axi_araddr <= {first[31:3], 3'd0};
          m_axi_arlen <= 8'(beats) - 8'd1;
          ask_last <= 1'b0;
          if (!ask_last) begin
            address <= next[31:3];
            ask_left <= ask_left - 14'(beats);
          end
        end
        if (r_done && loading && get_last) begin
          last_count[write_half] <= m_axi_rdata[last_lane*16+:16];
          get_last <= 1'b0;
          begun <= 1'b1;
        end else if (r_done && loading) begin
          word <= word + 1'b1;
          get_left <= get_left - 1'b1;
          if (get_left == 1) begin
            loading <= 1'b0;
            full[write_half] <= 1'b1;
            write_half <= !write_half;
            windows_left <= windows_left - 1'b1;
          end
        end
      end
    end
endmodule

`default_nettype wire
