// AXI4-Lite: registers, and the way into the memories. Starts and stops the engine, counts cycles, keeps the cause of an error.
// Anything wrong ends the run: nothing new is asked of the bus, what is under way there is finished, then BUSY goes down.
// Timing: o_load, its address and data are valid in the cycle of the write, o_start and a register written in the next one; what is read is
// valid with s_axi_rvalid, one cycle after its address.
`default_nettype none

import engine_pkg::*;

module control #(
    parameter logic [31:0] CONFIG = 0
) (
    input  wire         clk,
    input  wire         aresetn,
    input  wire  [19:0] s_axi_awaddr,
    input  wire         s_axi_awvalid,
    output wire         s_axi_awready,
    input  wire  [31:0] s_axi_wdata,
    input  wire  [3:0]  s_axi_wstrb,
    input  wire         s_axi_wvalid,
    output wire         s_axi_wready,
    output wire  [1:0]  s_axi_bresp,
    output logic        s_axi_bvalid,
    input  wire         s_axi_bready,
    input  wire  [19:0] s_axi_araddr,
    input  wire         s_axi_arvalid,
    output wire         s_axi_arready,
    output logic [31:0] s_axi_rdata,
    output wire  [1:0]  s_axi_rresp,
    output logic        s_axi_rvalid,
    input  wire         s_axi_rready,
    output wire         irq,
    // memories
    output wire         o_load,
    output wire  [19:2] o_load_address,
    output wire  [31:0] o_load_data,
    // the engine and its bus master
    output wire         o_rst,       // of the engine
    output logic        o_start,
    output wire         o_halt,      // finish what is under way on the bus
    input  wire         i_drained,   // nothing is
    input  wire         i_running,
    input  wire  [3:0]  i_core_cause,
    input  wire  [3:0]  i_bus_cause,
    input  wire  [15:0] i_pc,
    input  wire  [15:0] i_finished,  // windows written
    output logic [15:0] o_windows,
    output logic [31:0] o_in_base,
    output logic [31:0] o_in_end,
    output logic [31:0] o_out_base,
    output logic [31:0] o_out_end,
    output logic [15:0] o_context,
    output logic [15:0] o_horizon,
    output logic [16:0] o_anchor
);
  typedef enum logic [1:0] {IDLE, RUN, HALT} state_t;
  state_t state;
  logic done, irq_enable, resetting;
  logic [3:0] cause;
  logic [15:0] pc;
  logic [31:0] cycles, engine_cycles;
  logic [15:0] finished;

  wire write = s_axi_awvalid && s_axi_wvalid && (!s_axi_bvalid || s_axi_bready);
  wire read = s_axi_arvalid && (!s_axi_rvalid || s_axi_rready);
  wire to_register = s_axi_awaddr[19:16] == REGION_REGISTERS;
  wire [7:0] register = {s_axi_awaddr[7:2], 2'b0};
  wire start = write && to_register && register == REG_CTRL && s_axi_wdata[0];
  wire reset = write && to_register && register == REG_CTRL && s_axi_wdata[1];
  wire locked = write && state != IDLE && !(to_register && (register == REG_CTRL || register == REG_STATUS));

  assign s_axi_awready = write;
  assign s_axi_wready = write;
  assign s_axi_arready = read;
  assign s_axi_bresp = 2'b00;
  assign s_axi_rresp = 2'b00;
  assign irq = irq_enable && (done || cause != CAUSE_NONE);

  assign o_load = write && !to_register && state == IDLE;
  assign o_load_address = s_axi_awaddr[19:2];
  assign o_load_data = s_axi_wdata;
  assign o_rst = !aresetn || state != RUN;
  assign o_halt = state == HALT;

  wire [3:0] trouble = start ? CAUSE_BUSY : locked ? CAUSE_LOCKED : i_bus_cause != CAUSE_NONE ? i_bus_cause : i_core_cause;
  wire short_job = o_windows == 0 || o_context == 0 || o_horizon == 0;

  always_ff @(posedge clk)
    if (!aresetn) begin
      state <= IDLE;
      {done, irq_enable, resetting, o_start, s_axi_bvalid, s_axi_rvalid} <= '0;
      cause <= CAUSE_NONE;
      {o_windows, o_in_base, o_in_end, o_out_base, o_out_end, o_context, o_horizon, o_anchor} <= '0;
      {cycles, engine_cycles, finished, pc} <= '0;
    end else begin
      if (write) s_axi_bvalid <= 1'b1;
      else if (s_axi_bready) s_axi_bvalid <= 1'b0;

      if (write && to_register && state == IDLE)
        case (register)
          REG_WINDOWS: o_windows <= s_axi_wdata[15:0];
          REG_IN_BASE: o_in_base <= s_axi_wdata;
          REG_IN_END: o_in_end <= s_axi_wdata;
          REG_OUT_BASE: o_out_base <= s_axi_wdata;
          REG_OUT_END: o_out_end <= s_axi_wdata;
          REG_CONTEXT: o_context <= s_axi_wdata[15:0];
          REG_HORIZON: o_horizon <= s_axi_wdata[15:0];
          REG_ANCHOR: o_anchor <= s_axi_wdata[16:0];
          default: ;
        endcase
      if (write && to_register && register == REG_CTRL) irq_enable <= s_axi_wdata[2];
      if (write && to_register && register == REG_STATUS && s_axi_wdata[1]) done <= 1'b0;

      o_start <= 1'b0;
      case (state)
        IDLE: begin
          if (start) begin
            done <= 1'b0;
            {cycles, engine_cycles, finished} <= '0;
            cause <= short_job ? CAUSE_BUFFERS : CAUSE_NONE;
            if (!short_job) begin
              state <= RUN;
              o_start <= 1'b1;
            end
          end
        end
        RUN: begin
          cycles <= cycles + 1'b1;
          if (i_running) engine_cycles <= engine_cycles + 1'b1;
          finished <= i_finished;
          if (trouble != CAUSE_NONE) begin
            cause <= trouble;
            pc <= i_pc;
            state <= HALT;
          end else if (i_finished == o_windows) begin
            done <= 1'b1;
            state <= HALT;
          end
        end
        default: if (i_drained) state <= IDLE;
      endcase
      if (reset) begin
        resetting <= 1'b1;
        if (state == RUN) state <= HALT;
      end else if (resetting && state == IDLE) begin
        resetting <= 1'b0;
        done <= 1'b0;
        cause <= CAUSE_NONE;
      end

      if (read) begin
        s_axi_rvalid <= 1'b1;
        case (s_axi_araddr[19:16] == REGION_REGISTERS ? {s_axi_araddr[7:2], 2'b0} : 8'hFF)
          REG_ID: s_axi_rdata <= ID;
          REG_VERSION: s_axi_rdata <= VERSION;
          REG_CONFIG: s_axi_rdata <= CONFIG;
          REG_CTRL: s_axi_rdata <= {29'd0, irq_enable, 2'b00};
          REG_STATUS: s_axi_rdata <= {8'd0, pc, cause, resetting, cause != CAUSE_NONE, done, state != IDLE};
          REG_CYCLES: s_axi_rdata <= cycles;
          REG_ENGINE_CYCLES: s_axi_rdata <= engine_cycles;
          REG_FINISHED: s_axi_rdata <= {16'd0, finished};
          default: s_axi_rdata <= '0;
        endcase
      end else if (s_axi_rready) s_axi_rvalid <= 1'b0;
    end
endmodule

`default_nettype wire
