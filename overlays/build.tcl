# The overlay of any board, from SystemVerilog to bitstream, metadata and reports:
#   vivado -mode batch -source overlays/build.tcl -tclargs <board> <folder of sources> <folder to build in>
# `make overlay BOARD=..` writes the sources (qatlib.engine.vivado) and calls this. Boards differ in <board>/board.tcl alone.

lassign $argv board sources out
source [file join [file dirname [file normalize [info script]]] $board board.tcl]

# A register of the IP, called by registers.tcl. fields: name, lowest bit, bits, and so on.
proc register {name offset access description fields} {
  set register [ipx::add_register $name $::block]
  set_property address_offset $offset $register
  set_property size 32 $register
  set_property access $access $register
  set_property description $description $register
  foreach {field position bits} $fields {
    set field [ipx::add_field $field $register]
    set_property bit_offset $position $field
    set_property bit_width $bits $field
    set_property access $access $field
  }
}

# The engine as an IP, qatlib:engine:engine:1.0, with its registers described, so that pynq knows them.
create_project -force -part $part package $out/package
add_files [glob $sources/*.sv $sources/*.v]
set_property top engine_top [current_fileset]
update_compile_order -fileset sources_1
ipx::package_project -root_dir $out/ip -vendor qatlib -library engine -taxonomy /UserIP -import_files -force
set core [ipx::current_core]
set_property name engine $core
set_property version 1.0 $core
set_property display_name "qatlib engine" $core
set_property supported_families "$family Production" $core
foreach bus {s_axi m_axi} { ipx::associate_bus_interfaces -busif $bus -clock aclk $core }
set map [ipx::get_memory_maps s_axi -of_objects $core]
if {$map eq ""} {
  set map [ipx::add_memory_map s_axi $core]
  set_property slave_memory_map_ref s_axi [ipx::get_bus_interfaces s_axi -of_objects $core]
}
set block [ipx::get_address_blocks reg0 -of_objects $map]
if {$block eq ""} { set block [ipx::add_address_block reg0 $map] }
set_property usage register $block
set_property range 1048576 $block
source $sources/registers.tcl
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::save_core $core
close_project

# The block design: processor, engine, interrupt controller; engine_0 and intc_0 are the names that the driver looks for.
create_project -force -part $part overlay $out/overlay
set_property ip_repo_paths $out/ip [current_project]
update_ip_catalog
create_bd_design overlay
create_bd_cell -type ip -vlnv $ps_vlnv ps
set_property -dict $ps_settings [get_bd_cells ps]
if {$ps_rule ne ""} {
  apply_bd_automation -rule $ps_rule -config {make_external "FIXED_IO, DDR" Master Disable Slave Disable} [get_bd_cells ps]
}
create_bd_cell -type ip -vlnv qatlib:engine:engine:1.0 engine_0
create_bd_cell -type ip -vlnv xilinx.com:ip:axi_intc intc_0
set_property -dict {CONFIG.C_IRQ_CONNECTION 1} [get_bd_cells intc_0]
create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset
create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect registers
set_property -dict {CONFIG.NUM_SI 1 CONFIG.NUM_MI 2} [get_bd_cells registers]
create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect memory
set_property -dict {CONFIG.NUM_SI 1 CONFIG.NUM_MI 1} [get_bd_cells memory]

foreach {from to} [list ps/$ps_master registers/S00_AXI registers/M00_AXI engine_0/s_axi registers/M01_AXI intc_0/s_axi \
    engine_0/m_axi memory/S00_AXI memory/M00_AXI ps/$ps_slave] {
  connect_bd_intf_net [get_bd_intf_pins $from] [get_bd_intf_pins $to]
}
set clocked {engine_0/aclk intc_0/s_axi_aclk registers/aclk memory/aclk reset/slowest_sync_clk}
foreach pin [concat $clocked $ps_clocked] { connect_bd_net [get_bd_pins ps/$ps_clock] [get_bd_pins $pin] }
connect_bd_net [get_bd_pins ps/$ps_reset] [get_bd_pins reset/ext_reset_in]
foreach pin {engine_0/aresetn intc_0/s_axi_aresetn registers/aresetn memory/aresetn} {
  connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins $pin]
}
connect_bd_net [get_bd_pins engine_0/irq] [get_bd_pins intc_0/intr]
connect_bd_net [get_bd_pins intc_0/irq] [get_bd_pins ps/$ps_irq]

# Addresses: the engine's registers for the processor, the memory for the engine.
foreach {base range space segment} [list $engine_base 1M ps/Data engine_0/s_axi/reg0 $intc_base 64K ps/Data intc_0/S_AXI/Reg \
    0x00000000 $ddr_range engine_0/m_axi ps/$ddr_segment] {
  assign_bd_address -offset $base -range $range -target_address_space [get_bd_addr_spaces $space] [get_bd_addr_segs $segment] -force
}
validate_bd_design
save_bd_design

# Synthesis, place and route, bitstream.
set design [get_files overlay.bd]
make_wrapper -files $design -top -import
set_property top overlay_wrapper [current_fileset]
update_compile_order -fileset sources_1
launch_runs impl_1 -to_step write_bitstream -jobs 4
wait_on_run impl_1
if {[get_property PROGRESS [get_runs impl_1]] ne "100%"} {
  error "implementation stopped: [get_property STATUS [get_runs impl_1]]; its log lies under $out/overlay/overlay.runs"
}
open_run impl_1
report_utilization -hierarchical -file $out/utilisation.txt
report_timing_summary -file $out/timing.txt
report_power -file $out/power.txt
set slack [get_property SLACK [get_timing_paths -max_paths 1 -setup]]
if {$slack < 0} { error "the clock is too fast by [expr {-$slack}] ns: see $out/timing.txt, and lower it in $board/board.tcl" }
file copy -force [glob $out/overlay/overlay.runs/impl_1/overlay_wrapper.bit] $out/engine.bit
# Vivado has put the metadata below .gen since 2020.2, below .srcs before.
file copy -force [lindex [glob $out/overlay/overlay.{gen,srcs}/sources_1/bd/overlay/hw_handoff/overlay.hwh] 0] $out/engine.hwh
