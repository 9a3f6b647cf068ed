# KV260: Zynq UltraScale+ of the K26 module. The processor is set up when the board boots; here only its ports, clock and interrupt matter.
set part xck26-sfvc784-2LV-c
set family zynquplus
set ps_vlnv xilinx.com:ip:zynq_ultra_ps_e
set ps_rule ""
set ps_settings {
  CONFIG.PSU__FPGA_PL0_ENABLE 1
  CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ 100
  CONFIG.PSU__USE__M_AXI_GP0 1
  CONFIG.PSU__MAXIGP0__DATA_WIDTH 32
  CONFIG.PSU__USE__M_AXI_GP1 0
  CONFIG.PSU__USE__M_AXI_GP2 0
  CONFIG.PSU__USE__S_AXI_GP2 1
  CONFIG.PSU__SAXIGP2__DATA_WIDTH 64
  CONFIG.PSU__USE__IRQ0 1
}
set ps_clock pl_clk0
set ps_reset pl_resetn0
set ps_master M_AXI_HPM0_FPD
set ps_slave S_AXI_HP0_FPD
set ps_clocked {ps/maxihpm0_fpd_aclk ps/saxihp0_fpd_aclk}
set ps_irq pl_ps_irq0
set engine_base 0xA0000000
set intc_base 0xA0100000
set ddr_segment SAXIGP2/HP0_DDR_LOW
set ddr_range 2G
