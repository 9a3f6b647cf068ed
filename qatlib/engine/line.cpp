// Flat C interface to the verilated engine behind its serial line: a clock, and bytes in and out at the pace of the line.
#include <cstdint>
#include <deque>
#include "Vserial_engine.h"
#include "verilated.h"

struct Sim {
  VerilatedContext context;
  Vserial_engine top{&context};
  uint32_t clocks;  // to a bit
  uint64_t cycle = 0;
  std::deque<uint8_t> in, out;
  // ten bits, the start bit lowest, of the byte that is on its way in; how many of it are left, and cycles of the first of them
  uint32_t sent = 0, bits = 0, left = 0;
  // of the byte on its way out: its bits, how many, cycles to the middle of the next one
  uint32_t got = 0, count = 0, wait = 0;

  void tick() {
    if (!bits && !in.empty()) {
      sent = 0x200 | uint32_t(in.front()) << 1;
      in.pop_front();
      bits = 10;
      left = clocks;
    }
    top.i_line = bits ? sent & 1 : 1;
    if (bits && !--left) {
      sent >>= 1;
      bits--;
      left = clocks;
    }
    top.clk = 0;
    top.eval();
    top.clk = 1;
    top.eval();
    cycle++;
    if (!count) {
      if (!top.o_line) count = 10, wait = clocks / 2, got = 0;
    } else if (!--wait) {
      got = got >> 1 | uint32_t(top.o_line) << 9;
      wait = clocks;
      if (!--count) out.push_back(got >> 1);
    }
  }
};

extern "C" {
Sim* line_new(uint32_t clocks) {
  Sim* s = new Sim;
  s->clocks = clocks;
  s->top.resetn = 0;
  for (int i = 0; i < 4; i++) s->tick();
  s->top.resetn = 1;
  s->out.clear();
  return s;
}
void line_free(Sim* s) { delete s; }
uint64_t line_cycle(Sim* s) { return s->cycle; }
void line_send(Sim* s, const uint8_t* bytes, uint32_t n) { s->in.insert(s->in.end(), bytes, bytes + n); }
uint32_t line_receive(Sim* s, uint8_t* bytes, uint32_t most) {
  uint32_t n = 0;
  while (n < most && !s->out.empty()) bytes[n++] = s->out.front(), s->out.pop_front();
  return n;
}
// Until nothing is under way, on the line or behind it, at most so many cycles. -> whether something still is. A byte needs some cycles from
// the line to the bridge, in which neither knows of it.
int line_run(Sim* s, uint64_t most) {
  int quiet = 0;
  for (; most && quiet < 16; most--) {
    bool busy = !s->in.empty() || s->bits || s->count || s->top.o_busy;
    quiet = busy ? 0 : quiet + 1;
    s->tick();
  }
  return quiet < 16;
}
}
double sc_time_stamp() { return 0; }
