"""The simulated device behaves as a board does: memory, caches, registers, clocks, interrupts, download."""

import gc
import threading
from itertools import pairwise

import numpy as np
import pynq
import pytest
from pynq.pl_server.device import Device, DeviceMeta

from qatlib.board import open_engine, sim_device
from qatlib.board.sim_device import SimDevice
from qatlib.engine import bitstream, hwh, isa
from qatlib.engine.registers import OFFSETS
from qatlib.system import paths

CTRL = OFFSETS["CTRL"]


@pytest.fixture
def engine():
    return open_engine(config="xc7s15")


@pytest.fixture
def device(engine):
    return engine.device


def test_a_board_comes_first(device):
    priorities = {cls: priority for priority, cls in DeviceMeta._subclasses.items()}
    assert priorities[SimDevice] == max(priorities.values())
    assert Device.active_device is device is SimDevice.activate()


def test_metadata_gives_registers_address_and_interrupt(engine):
    description = engine.overlay.ip_dict[hwh.INSTANCE]
    assert (description["phys_addr"], description["addr_range"], description["type"]) == (hwh.BASE, hwh.SIZE, hwh.VLNV)
    assert list(description["registers"]) == [name for name, *_ in isa.REGISTERS]
    status = description["registers"]["STATUS"]["fields"]
    assert {name: (f["bit_offset"], f["bit_width"]) for name, f in status.items()}["PC"] == (8, 16)
    assert engine.overlay.interrupt_pins[f"{hwh.INSTANCE}/irq"]["controller"] == hwh.INTERRUPTS
    assert engine.overlay.interrupt_controllers[hwh.INTERRUPTS]["raw_irq"] == hwh.IRQ


def test_the_bit_file_says_that_it_is_none(device):
    folder = sim_device.write_overlay(isa.CONFIGS["xc7s15"])
    assert "simulated RTL, no bitstream" in (folder / bitstream.BIT).read_text()
    bitstream.check(folder)


def test_registers_as_word_slice_and_places(engine, monkeypatch):
    array = engine.mmio.array
    assert array[0] == isa.ID and len(array) == hwh.SIZE // 4
    np.testing.assert_array_equal(np.asarray(array[:2]), [isa.ID, isa.VERSION])
    written = []
    monkeypatch.setattr(
        engine.device.rtl, "write_block", lambda address, words: written.append((address, words.dtype, list(words)))
    )
    array[6:8] = [7, 0x8000_0000]
    array[4 + np.arange(3)] = np.array([8, 9, 10], np.uint32)
    array[5] = 1 << 31
    engine.write(0x20, (16).to_bytes(4, "little"))
    expected = [(24, [7, 1 << 31]), (16, [8, 9, 10]), (20, [1 << 31]), (32, [16])]
    assert written == [(address, np.uint32, words) for address, words in expected]
    monkeypatch.undo()
    engine.write(CTRL, 4)
    assert engine.read(CTRL) == 4


def test_nothing_answers_elsewhere(device):
    with pytest.raises(MemoryError, match="0x50000000"):
        pynq.MMIO(0x5000_0000, 16, device=device).read(0)


def test_time_passes_before_an_access(device, monkeypatch):
    monkeypatch.setattr(device, "idle", 500)
    before = device.rtl.cycle
    pynq.MMIO(hwh.BASE, 16, device=device).read(0)
    assert 500 < device.rtl.cycle - before < 520


def test_cached_buffer_is_seen_after_flush_and_invalidate(device):
    buffer = pynq.allocate((4,), np.int16, target=device)
    memory, _ = device._memory[buffer.device_address]
    buffer[:] = [1, 2, 3, 4]
    assert not memory.any()
    buffer.flush()
    np.testing.assert_array_equal(memory[:8].view(np.int16), [1, 2, 3, 4])
    memory[:8].view(np.int16)[:] = 9
    assert buffer[0] == 1
    buffer[2:].invalidate()
    np.testing.assert_array_equal(buffer, [1, 2, 9, 9])
    buffer[:1].flush()
    np.testing.assert_array_equal(memory[:8].view(np.int16), [1, 9, 9, 9])


def test_uncached_buffer_is_seen_at_once(device):
    buffer = pynq.allocate((4,), np.int16, target=device, cacheable=False)
    buffer[:] = 5
    np.testing.assert_array_equal(device._memory[buffer.device_address][0][:8].view(np.int16), 5)


def test_buffers_lie_apart_and_aligned(device):
    buffers = [pynq.allocate((n,), np.uint8, target=device) for n in (1, 4096, 4097, 1)]
    places = [(b.device_address, b.device_address + b.nbytes) for b in buffers]
    assert all(first % 4096 == 0 for first, _ in places)
    assert all(last <= first for (_, last), (first, _) in pairwise(places))


def test_addresses_are_used_again(device):
    kept = [pynq.allocate((n,), np.uint8, target=device) for n in (1, 8192, 1)]
    hole = kept[1].device_address
    kept[1].freebuffer()
    small, large = (pynq.allocate((n,), np.uint8, target=device).device_address for n in (4097, 8193))
    assert small == hole and large > kept[2].device_address


def test_buffers_come_and_go_on_any_thread_while_the_engine_is_at_work(device):
    at_work, shared = [True], []

    def allocates():
        while at_work[0]:
            buffers = [pynq.allocate((n,), np.uint8, target=device) for n in (1, 5000, 100)]
            shared.append(
                len({b.device_address for b in buffers}) == 3
                and all(b.device_address in device.rtl._arrays for b in buffers)
            )

    threads = [threading.Thread(target=allocates, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(shared) < 200:
        device.rtl.step(100)
    at_work[0] = False
    for thread in threads:
        thread.join(60)
    gc.collect()
    assert all(shared) and device.rtl._arrays.keys() == device._memory.keys()


def test_a_buffer_that_was_freed_is_named(device):
    buffer = pynq.allocate((4,), np.int16, target=device)
    view = buffer[:]
    buffer.freebuffer()
    for call in (view.flush, view.invalidate):
        with pytest.raises(MemoryError, match=f"no buffer at address 0x{view.device_address:08X}; was it freed"):
            call()


def test_nobody_sees_half_an_overlay(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "BUILD", tmp_path)

    def killed(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(bitstream, "record", killed)
    with pytest.raises(KeyboardInterrupt):
        sim_device.write_overlay(isa.CONFIGS["xc7s15"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("free", [lambda buffer: buffer.freebuffer(), lambda buffer: None], ids=["freed", "forgotten"])
def test_buffer_leaves_the_engines_memory(device, free):
    buffer = pynq.allocate((8,), np.uint8, target=device)
    address = buffer.device_address
    assert address in device.rtl._arrays
    free(buffer)
    del buffer
    gc.collect()
    assert address not in device.rtl._arrays and address not in device._memory


def test_download_keeps_buffers_and_forgets_the_rest(engine, device):
    buffer = pynq.allocate((8,), np.uint8, target=device)
    engine.write(CTRL, 4)
    engine.overlay.download()
    assert buffer.device_address in device.rtl._arrays
    assert engine.read(CTRL) == 0


def test_clocks(device):
    assert pynq.Clocks.fclk0_mhz == hwh.CLOCK_MHZ
    before, cycles = device.seconds, device.rtl.cycle
    device.rtl.step(1000)
    assert device.seconds - before == pytest.approx((device.rtl.cycle - cycles) / 100e6)
    pynq.Clocks.fclk0_mhz = 50
    assert device.seconds == pytest.approx(device.rtl.cycle / 50e6)
    pynq.Clocks.set_pl_clk(0, div0=5, div1=2)
    assert pynq.Clocks.fclk0_mhz == 100


class Line:
    """An interrupt line in place of an engine."""

    level = False

    def wait_irq(self, most):
        return self.level


@pytest.fixture
def controller():
    controller = sim_device.Interrupts(Line())
    controller.write_block(0x1C, [3])
    return controller


def test_controller_masks_latches_and_acknowledges(controller):
    controller.rtl.level = True
    assert not controller.output()  # not enabled
    controller.write_block(0x10, [1])
    assert controller.output() and controller.read(0x4) == 1
    controller.rtl.level = False
    assert controller.output()  # latched
    controller.write_block(0xC, [1])
    assert not controller.output()
    controller.rtl.level = True
    controller.write_block(0x14, [1])
    assert (controller.read(0x0), controller.read(0x4), controller.read(0x8)) == (1, 0, 0)


def test_controller_whose_line_is_cut(controller):
    controller.write_block(0x8, [1])
    controller.rtl.level = controller.dropped = True
    assert not controller.output()
