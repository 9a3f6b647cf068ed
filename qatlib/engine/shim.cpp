// Flat C interface to the verilated engine: a clock, an AXI4-Lite master for the registers, and a memory with AXI4 bursts behind its
// bus master. The clock loop stays in here. Cycles are counted at rising edges.
#include <cstdint>
#include <deque>
#include <vector>
#include "Vengine.h"
#include "verilated.h"

struct Region { uint32_t base, bytes; uint8_t* data; };
struct Burst { uint32_t address, beats; uint64_t due; bool bad; };

struct Sim {
  VerilatedContext context;
  Vengine top{&context};
  uint64_t cycle = 0, first_in = 0, last_out = 0;
  std::vector<Region> regions;
  std::deque<Burst> reads, writes;
  uint32_t latency = 0, stall = 0, random = 1, bad_read = 1, bad_write = 1;  // odd addresses: none is bad
  bool respond = false, bad_response = false, deaf = false;
  uint64_t respond_at = 0;

  uint8_t* find(uint32_t address) {
    for (auto& r : regions)
      if (address >= r.base && uint64_t(address) + 8 <= uint64_t(r.base) + r.bytes) return r.data + (address - r.base);
    return nullptr;
  }
  static bool crosses(uint32_t address, uint32_t length) {  // no burst may cross 4 KiB
    return (address >> 12) != ((address + 8 * length + 7) >> 12);
  }
  bool hold() {  // pseudo-random pauses, `stall` in 256
    random = random * 1664525u + 1013904223u;
    return (random >> 24) < stall;
  }
  void tick() {
    auto& t = top;
    // the memory's outputs for this cycle
    bool data = !reads.empty() && reads.front().due <= cycle && !hold();
    t.m_axi_arready = !deaf && reads.size() < 8 && !hold();
    t.m_axi_awready = !deaf && writes.size() < 4 && !hold();
    t.m_axi_wready = !deaf && !writes.empty() && !hold();
    t.m_axi_rvalid = data;
    if (data) {
      auto& b = reads.front();
      uint8_t* at = find(b.address);
      t.m_axi_rdata = at ? *reinterpret_cast<uint64_t*>(at) : 0;
      t.m_axi_rresp = !at ? 3 : b.bad ? 2 : 0;
      t.m_axi_rlast = b.beats == 1;
    }
    t.m_axi_bvalid = respond && respond_at <= cycle;
    t.m_axi_bresp = bad_response ? 2 : 0;
    t.aclk = 0;
    t.eval();
    // handshakes of this cycle
    if (t.m_axi_arvalid && t.m_axi_arready) {
      bool bad = !(bad_read & 1) && (bad_read & ~7u) >= t.m_axi_araddr && bad_read < t.m_axi_araddr + 8 * (t.m_axi_arlen + 1);
      bad |= crosses(t.m_axi_araddr, t.m_axi_arlen) || t.m_axi_arsize != 3 || t.m_axi_arburst != 1;
      reads.push_back({t.m_axi_araddr, uint32_t(t.m_axi_arlen) + 1, cycle + 1 + latency, bad});
    }
    if (data && t.m_axi_rready) {
      if (!first_in) first_in = cycle;
      auto& b = reads.front();
      b.address += 8;
      if (--b.beats == 0) reads.pop_front();
    }
    if (t.m_axi_awvalid && t.m_axi_awready) {
      bool bad = crosses(t.m_axi_awaddr, t.m_axi_awlen) || t.m_axi_awsize != 3 || t.m_axi_awburst != 1;
      writes.push_back({t.m_axi_awaddr, uint32_t(t.m_axi_awlen) + 1, 0, bad});
    }
    if (t.m_axi_bvalid && t.m_axi_bready) respond = bad_response = false;
    if (t.m_axi_wvalid && t.m_axi_wready) {
      auto& b = writes.front();
      uint8_t* at = find(b.address);
      if (at) *reinterpret_cast<uint64_t*>(at) = t.m_axi_wdata;
      if (!at || b.bad || (!(bad_write & 1) && b.address == bad_write)) bad_response = true;
      if (t.m_axi_wlast != (b.beats == 1)) bad_response = true;
      last_out = cycle;
      b.address += 8;
      if (--b.beats == 0) {
        writes.pop_front();
        respond = true;
        respond_at = cycle + 1 + latency;
      }
    }
    t.aclk = 1;
    t.eval();
    cycle++;
  }
};

extern "C" {
Sim* sim_new() {
  Sim* s = new Sim;
  s->top.aresetn = 0;
  for (int i = 0; i < 4; i++) s->tick();
  s->top.aresetn = 1;
  s->tick();
  return s;
}
void sim_free(Sim* s) { delete s; }
uint64_t sim_cycle(Sim* s) { return s->cycle; }
uint64_t sim_first_in(Sim* s) { return s->first_in; }
uint64_t sim_last_out(Sim* s) { return s->last_out; }
void sim_mark(Sim* s) { s->first_in = s->last_out = 0; }
void sim_step(Sim* s, uint64_t n) { while (n--) s->tick(); }
int sim_wait_irq(Sim* s, uint64_t most) {
  s->top.aclk = 0;
  s->top.eval();
  while (most-- && !s->top.irq) s->tick();
  return s->top.irq;
}
void sim_map(Sim* s, uint32_t base, uint32_t bytes, void* data) { s->regions.push_back({base, bytes, static_cast<uint8_t*>(data)}); }
void sim_unmap(Sim* s, uint32_t base) {
  for (size_t i = s->regions.size(); i--;)
    if (s->regions[i].base == base) s->regions.erase(s->regions.begin() + i);
}
// latency in cycles; pauses in 256 cycles; an address whose read or write is answered with an error (odd: none); deaf: no answers at all
void sim_memory(Sim* s, uint32_t latency, uint32_t stall, uint32_t bad_read, uint32_t bad_write, int deaf) {
  s->latency = latency; s->stall = stall; s->bad_read = bad_read; s->bad_write = bad_write; s->deaf = deaf;
}
// -1 where the handshake does not come within 1000 cycles
int sim_write(Sim* s, uint32_t address, const uint32_t* words, int n) {
  auto& t = s->top;
  for (int i = 0; i < n; i++) {
    t.s_axi_awaddr = address + 4 * i;
    t.s_axi_wdata = words[i];
    t.s_axi_wstrb = 15;
    t.s_axi_awvalid = t.s_axi_wvalid = t.s_axi_bready = 1;
    int left = 1000;
    for (t.aclk = 0, t.eval(); !(t.s_axi_awready && t.s_axi_wready); t.aclk = 0, t.eval()) {
      if (!left--) return -1;
      s->tick();
    }
    s->tick();
    t.s_axi_awvalid = t.s_axi_wvalid = 0;
    for (left = 1000; !t.s_axi_bvalid; s->tick()) if (!left--) return -1;
    s->tick();
  }
  return 0;
}
int64_t sim_read(Sim* s, uint32_t address) {
  auto& t = s->top;
  t.s_axi_araddr = address;
  t.s_axi_arvalid = 1;
  t.s_axi_rready = 0;
  int left = 1000;
  for (t.aclk = 0, t.eval(); !t.s_axi_arready; t.aclk = 0, t.eval()) {
    if (!left--) return -1;
    s->tick();
  }
  s->tick();
  t.s_axi_arvalid = 0;
  for (left = 1000; !t.s_axi_rvalid; s->tick()) if (!left--) return -1;
  uint32_t data = t.s_axi_rdata;
  t.s_axi_rready = 1;
  s->tick();
  t.s_axi_rready = 0;
  return data;
}
}
double sc_time_stamp() { return 0; }
