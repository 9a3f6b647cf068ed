# PYNQ-Z2: Zynq-7020. The processor is set up when the board boots; here only its ports, clock and interrupt matter.
set part xc7z020clg400-1
set family zynq
set ps_vlnv xilinx.com:ip:processing_system7
set ps_rule xilinx.com:bd_rule:processing_system7
set ps_settings {
  CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ 100
  CONFIG.PCW_USE_M_AXI_GP0 1
  CONFIG.PCW_USE_S_AXI_HP0 1
  CONFIG.PCW_S_AXI_HP0_DATA_WIDTH 64
  CONFIG.PCW_USE_FABRIC_INTERRUPT 1
  CONFIG.PCW_IRQ_F2P_INTR 1
}
set ps_clock FCLK_CLK0
set ps_reset FCLK_RESET0_N
set ps_master M_AXI_GP0
set ps_slave S_AXI_HP0
set ps_clocked {ps/M_AXI_GP0_ACLK ps/S_AXI_HP0_ACLK}
set ps_irq IRQ_F2P
set engine_base 0x43C00000
set intc_base 0x41800000
set ddr_segment S_AXI_HP0/HP0_DDR_LOWOCM
set ddr_range 512M
