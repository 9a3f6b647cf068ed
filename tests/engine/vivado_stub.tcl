# Stands in for Vivado: tclsh vivado_stub.tcl <script> <arguments of the script>
# Prints every call, one a line. Knows the commands and options that our scripts may use, the cells, pins and ports of the blocks they
# make, and stops at anything else.

proc said {args} { puts [string map {\n " "} [join $args "\t"]] }
proc die {text} { puts stderr $text; exit 1 }

# command: options that take a value, options that take none
set commands {
  create_project {-part} {-force}
  add_files {} {}
  set_property {-dict} {}
  update_compile_order {-fileset} {}
  current_fileset {} {}
  current_project {} {}
  close_project {} {}
  ipx::package_project {-root_dir -vendor -library -taxonomy} {-import_files -force}
  ipx::current_core {} {}
  ipx::associate_bus_interfaces {-busif -clock} {}
  ipx::get_memory_maps {-of_objects} {}
  ipx::add_memory_map {} {}
  ipx::get_bus_interfaces {-of_objects} {}
  ipx::get_address_blocks {-of_objects} {}
  ipx::add_address_block {} {}
  ipx::add_register {} {}
  ipx::add_field {} {}
  ipx::create_xgui_files {} {}
  ipx::update_checksums {} {}
  ipx::save_core {} {}
  update_ip_catalog {} {}
  create_bd_design {} {}
  create_bd_cell {-type -vlnv} {}
  get_bd_cells {} {}
  apply_bd_automation {-rule -config} {}
  connect_bd_intf_net {} {}
  connect_bd_net {} {}
  get_bd_intf_pins {} {}
  get_bd_pins {} {}
  assign_bd_address {-offset -range -target_address_space} {-force}
  get_bd_addr_spaces {} {}
  get_bd_addr_segs {} {}
  validate_bd_design {} {}
  save_bd_design {} {}
  get_files {} {}
  make_wrapper {-files} {-top -import}
  launch_runs {-to_step -jobs} {}
  wait_on_run {} {}
  get_runs {} {}
  get_property {} {}
  open_run {} {}
  report_utilization {-file} {-hierarchical}
  report_timing_summary {-file} {}
  report_power {-file} {}
  get_timing_paths {-max_paths} {-setup}
}

# block: interfaces, pins
set blocks {
  xilinx.com:ip:processing_system7 {M_AXI_GP0 S_AXI_HP0} {FCLK_CLK0 FCLK_RESET0_N M_AXI_GP0_ACLK S_AXI_HP0_ACLK IRQ_F2P}
  xilinx.com:ip:zynq_ultra_ps_e {M_AXI_HPM0_FPD S_AXI_HP0_FPD} {pl_clk0 pl_resetn0 maxihpm0_fpd_aclk saxihp0_fpd_aclk pl_ps_irq0}
  qatlib:engine:engine:1.0 {s_axi m_axi} {aclk aresetn irq}
  xilinx.com:ip:axi_intc {s_axi} {s_axi_aclk s_axi_aresetn intr irq}
  xilinx.com:ip:proc_sys_reset {} {slowest_sync_clk ext_reset_in peripheral_aresetn}
  xilinx.com:ip:smartconnect {S00_AXI M00_AXI M01_AXI} {aclk aresetn}
}
set unconnected {}

proc call {name valued plain arguments} {
  set positional {}
  for {set i 0} {$i < [llength $arguments]} {incr i} {
    set word [lindex $arguments $i]
    if {$word in $valued} {
      incr i
      if {$i >= [llength $arguments]} { die "$name: $word needs a value" }
    } elseif {$word in $plain} {
    } elseif {[regexp {^-[a-z]} $word]} {
      die "$name has no option $word"
    } else {
      lappend positional $word
    }
  }
  said $name {*}$arguments
  return [lindex $positional 0]
}

foreach namespace {ipx} { namespace eval $namespace {} }
foreach {name valued plain} $commands {
  proc ::$name args "return \[call [list $name] [list $valued] [list $plain] \$args\]"
}
proc unknown args { die "no command of Vivado that this stub knows: [lindex $args 0]" }

# What has to answer, and what can be checked.
foreach name {create_bd_cell get_bd_pins get_bd_intf_pins connect_bd_net connect_bd_intf_net launch_runs} { rename $name plain_$name }
proc create_bd_cell args {
  set vlnv [dict get [lrange $args 0 3] -vlnv]
  if {![dict exists [block_table] $vlnv]} { die "no block $vlnv" }
  set cell [lindex $args end]
  foreach end [concat {*}[dict get [block_table] $vlnv]] { dict set ::unconnected $cell/$end 1 }
  return [plain_create_bd_cell {*}$args]
}
proc block_table {} {
  foreach {vlnv interfaces pins} $::blocks { dict set table $vlnv [list $interfaces $pins] }
  return $table
}
proc known pin { if {![dict exists $::unconnected $pin]} { die "no pin $pin" }; return $pin }
proc get_bd_pins pin { return [known $pin] }
proc get_bd_intf_pins pin { return [known $pin] }
foreach name {connect_bd_net connect_bd_intf_net} {
  proc $name {from to} "dict set ::unconnected \$from 0; dict set ::unconnected \$to 0; plain_$name \$from \$to"
}
proc get_property {name of} {
  said get_property $name $of
  return [dict get [concat {PROGRESS 100% STATUS complete SLACK 0.1} $::answers] $name]
}
proc get_timing_paths args { return path }
proc launch_runs args {
  plain_launch_runs {*}$args
  foreach name {overlay.runs/impl_1/overlay_wrapper.bit overlay.gen/sources_1/bd/overlay/hw_handoff/overlay.hwh} {
    file mkdir [file dirname $::out/overlay/$name]
    close [open $::out/overlay/$name w]
  }
}

set answers [expr {[info exists env(STUB_ANSWERS)] ? $env(STUB_ANSWERS) : {}}]
set script [lindex $argv 0]
set argv [lrange $argv 1 end]
source $script
foreach {pin open} $unconnected { if {$open && $pin ne "memory/M01_AXI"} { die "$pin is not connected" } }
