"""What a forecast costs in time and energy on each kind of device, and what devices cost: estimates, each with its
range and its source.

Instructions and cycles are counted elsewhere (`mcu.emulate`, `engine`); here they meet clocks and powers. Nothing here
was measured. Money is in any one currency; what anything costs is the reader's to say.
"""

import math
from dataclasses import asdict, dataclass

import pandas as pd

ESPRESSIF = (
    "ESP32-C3 Series Datasheet v2.4, tables 5-8 and 5-9, at 3.3 V, light sleep (R. Dobson, robdobson.com "
    "2023, measured up to 0.35 mA)"
)
ST = "ST, feature lists of the STM32L4: 37 (SMPS), 91 and 100 uA/MHz, Stop 2 at 2.57 uA, with RTC 2.86 uA; at 3.3 V"
U3 = (
    "MLPerf Tiny v1.3 (mlcommons/tiny_results_v1.3 cd605ea, closed/STMicroelectronics): NUCLEO_U385RG_Q at 96 MHz and "
    "1.8 V (systems/NUCLEO_U385RG_Q.json), 5.09 to 5.90 mW while it computes (results/NUCLEO_U385RG_Q/{kws,vww,ic,ad}/"
    "energy/results.txt), 53 to 61 pJ a cycle; waiting assumed as the STM32L4 does"
)
IDLE = (
    "Qian et al., arXiv 2407.12027: 11.85 mJ to configure, in less than the 40 ms at which it keeps up; waiting "
    "wins below 499 ms and "
    "12.39-fold at 40 ms, so it takes 23.7 to 23.9 mW"
)
LING = "Ling, Qian & Schiele, arXiv 2407.11041: 63 to 79 mW"
NB_IOT = (
    "boaks/zephyr-coaps-client 0691af5, POWERCONSUMPTION.md: nRF9160 at 5 V, 200 bytes each way, NB-IoT "
    "0.076 mWh, LTE-M 0.152 mWh"
)
WIFI = (
    "glenn20/upy-esp32-experiments, ESPNowvsWifiEnergyUsage: ESP32 at 5 V, boot, connect and send, 109 mC "
    "(MQTT) to 341 mC (HTTP)"
)
PYNQ = (
    "MLPerf Tiny v0.7 (mlcommons/tiny_results_v0.7 8813ede, hls4ml-finn): 1.58 to 1.77 W, the whole board, "
    "without an operating system"
)
ESP32_POWER = "ESP32 Series Datasheet, CPU at 240 MHz, radio off: 30 to 68 mA; light sleep 0.8 mA; at 3.3 V"
LAPTOP_POWER = "assumed: a laptop processor draws its thermal design power, 15 W (5 to 28 W), while one thread computes"
# Of Lattice devices: static power, and what a megahertz takes, which is scaled here by cells and clock
ECP5_POWER = (
    "Lattice FPGA-DS-02012 v1.9, table 3.8 (LFE5U-25F, static, at 85 C): 77 mA at 1.1 V and 16 mA at 2.5 V; "
    "targeted/fpga-reg-power 77b3bfb: 24,288 registers of a 25F that all change each cycle, 5.52 mW a MHz, measured; "
    "assumed: 10 to 100 % of this design's cells change, 30 % typically; multipliers and memories not known apart"
)
ICE40_POWER = (
    "G. Leone et al., doi 10.1109/TCSI.2024.3450966: a network of 3,473 cells on an iCE40UP5K, measured at 24 MHz, at "
    "most 9.5 mW (gianlucaleone/SYNtzulu 66ef8db) or 14.2 mW (081a885), static power included; assumed: half of the "
    "former at the least; tinyvision-ai-inc/ice40_power ecc5e59: its PLL, 138.6 uA at 1.219 V, measured"
)
CPI = (
    "assumed: in-order cores that issue one instruction a cycle at best; flash waits, taken branches and loads "
    "cost more"
)
MESSAGE_BYTES = 400  # what the NB-IoT figure carries, both ways, protocol included
DAY = 86_400  # seconds


@dataclass(frozen=True)
class Range:
    """Low, typical and high."""

    low: float
    typical: float
    high: float

    def __iter__(self):
        return iter((self.low, self.typical, self.high))

    def __mul__(self, other):
        others = other if isinstance(other, Range) else [other] * 3
        return Range(*(a * b for a, b in zip(self, others, strict=True)))

    def __add__(self, other):
        return Range(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Device:
    """active and idle in mW; start, start_seconds: mJ and s for each time that it is switched on; clock in MHz."""

    name: str
    clock: float
    cycles_per_instruction: Range | None
    active: Range
    idle: Range
    source: str
    start: Range = Range(0, 0, 0)
    start_seconds: Range = Range(0, 0, 0)

    def seconds(self, count):
        """Of so many instructions, or of so many cycles where the device counts those."""
        return (self.cycles_per_instruction or Range(1, 1, 1)) * (count / self.clock / 1e6)

    def millijoules(self, count):
        """Of one forecast, without waiting and switching on."""
        return self.active * self.seconds(count)


RV32 = Device("ESP32-C3 (RV32IMC)", 160, Range(1.0, 1.4, 2.0), Range(76, 84, 92), Range(0.43, 0.43, 1.2), ESPRESSIF)
M4 = Device("STM32L4 (Cortex-M4)", 80, Range(1.0, 1.4, 2.0), Range(9.8, 24, 26.4), Range(0.0085, 0.0094, 0.0094), ST)
M33 = Device("STM32U3 (Cortex-M33)", 96, Range(1.0, 1.4, 2.0), Range(5.09, 5.3, 5.9), M4.idle, U3)
FPGA = Device(
    "XC7S15",
    100,
    None,
    Range(63, 71, 79),
    Range(23.7, 23.8, 23.9),
    f"{LING}; {IDLE}",
    start=Range(11.85, 11.85, 11.85),
    start_seconds=Range(0.04, 0.04, 0.04),
)
BOARD = Device("PYNQ-Z2", 100, None, Range(1580, 1675, 1770), Range(1580, 1675, 1770), PYNQ)
ESP32 = Device("ESP32", 240, None, Range(99, 162, 224), Range(2.6, 2.6, 2.6), ESP32_POWER)
LAPTOP = Device(
    "laptop", 1, None, Range(5_000, 15_000, 28_000), Range(0, 0, 0), LAPTOP_POWER
)  # its clock counts microseconds
DEVICES = {"rv32imc": RV32, "cortex-m4": M4, "cortex-m33": M33, "xc7s15": FPGA, "pynq-z2": BOARD, "laptop": LAPTOP}


def _ecp5(cells, mhz):
    static = 77 * 1.1 + 16 * 2.5
    return Range(0.1, 0.3, 1) * (5.52 * mhz * cells / 24_288) + Range(static, static, static)


def _ice40(cells, mhz):
    pll = 0.1386 * 1.219
    return Range(4.75, 9.5, 14.2) * (mhz / 24 * cells / 3_473) + Range(pll, pll, pll)


BY_DEVICE = {"ulx3s": (_ecp5, ECP5_POWER), "icebreaker": (_ice40, ICE40_POWER)}


def on_boards(table):
    """What a forecast of the default model takes on each board at a serial port: time and energy of the engine, the
    line not counted. table: `measured.table("open_boards")`."""
    rows = []
    for name, (power, source) in BY_DEVICE.items():
        row = table[(table.board == name) & table.line_baud.notna()].iloc[0]
        seconds, milliwatts = row.cycles / row.clock_mhz / 1e6, power(row.lut, row.clock_mhz)
        energy = {f"energy_uj_{end}": 1e3 * value * seconds for end, value in asdict(milliwatts).items()}
        rows.append(
            {
                "board": name, "device": row.device, "model": row.model, "cycles": row.cycles,
                "clock_mhz": row.clock_mhz, "latency_us": 1e6 * seconds, "latency_evidence": "simulated",
                "active_mw": milliwatts.typical, **energy, "energy_evidence": "estimated", "source": source,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Radio:
    """A message there and its answer: mJ, and seconds from waking up."""

    name: str
    message: Range
    seconds: Range
    source: str


RADIOS = (
    Radio("NB-IoT or LTE-M", Range(274, 274, 547), Range(11, 11, 22), NB_IOT),
    Radio("Wi-Fi", Range(543, 543, 1710), Range(0.77, 0.77, 2.9), WIFI),
)


IDLING, SWITCHED = f"{FPGA.name}, waits idle", f"{FPGA.name}, switched off between"
CLOUDS = {f"cloud over {radio.name}": radio for radio in RADIOS}
HERE = "laptop (a server's x86-64 core)"
# Where a forecast is made, by what it is counted for there, and in the order of tables.
TARGETS = {
    "laptop": HERE,
    "rv32imc": RV32.name,
    "cortex-m4": M4.name,
    "cortex-m33": M33.name,
    "xc7s15": IDLING,
    "pynq-z2": BOARD.name,
}


def per_request(counts, period):
    """Energy of one request in mJ, everything until the next one included: {option: Range}.

    counts: {"rv32imc", "cortex-m4", "cortex-m33": instructions, "xc7s15": cycles} of a forecast; period: seconds
    between requests. Beside an FPGA or a radio a Cortex-M4 sleeps, which reads the sensor. An option without a count,
    or that takes longer than the period, is left out.
    """
    asleep, cores = (
        M4.idle * period,
        {key: device for key, device in DEVICES.items() if device.cycles_per_instruction and key in counts},
    )
    found = [
        (core.name, core.seconds(counts[key]), core.millijoules(counts[key]) + core.idle * period)
        for key, core in cores.items()
    ]
    if "xc7s15" in counts:
        seconds, compute = FPGA.seconds(counts["xc7s15"]), FPGA.millijoules(counts["xc7s15"])
        found.append((IDLING, seconds, compute + FPGA.idle * period + asleep))
        found.append((SWITCHED, FPGA.start_seconds + seconds, compute + FPGA.start + asleep))
    found += [(cloud, radio.seconds, radio.message + asleep) for cloud, radio in CLOUDS.items()]
    return {name: energy for name, seconds, energy in found if seconds.typical <= period}


def bytes_a_day(period):
    """What the cloud option sends and receives."""
    return MESSAGE_BYTES * DAY / period


@dataclass(frozen=True)
class Option:
    """A way to get forecasts. unit: money a device; engineering: once; upkeep: a device and year, without data and
    batteries; bytes_a_day, joules_a_day: of a device."""

    name: str
    unit: float
    engineering: float
    upkeep: float
    bytes_a_day: float
    joules_a_day: float


@dataclass(frozen=True)
class Terms:
    """What all options share. years: of service; megabyte, visit: money for one sent, for one to change a battery;
    battery: joules of one. The first battery comes with the device."""

    years: float
    megabyte: float
    battery: float
    visit: float

    def a_device(self, option):
        """Money that one device takes over the years, {unit, upkeep, data, batteries}."""
        days = 365 * self.years
        return {
            "unit": option.unit,
            "upkeep": self.years * option.upkeep,
            "data": days * option.bytes_a_day / 1e6 * self.megabyte,
            "batteries": max(0.0, days * option.joules_a_day / self.battery - 1) * self.visit,
        }

    def total(self, option, devices):
        """Money for so many devices."""
        return option.engineering + devices * sum(self.a_device(option).values())

    def break_even(self, option, other):
        """From how many devices on, and for all larger numbers, `option` takes no more money than `other`: infinite if
        for none."""
        saved = sum(self.a_device(other).values()) - sum(self.a_device(option).values())
        invested = option.engineering - other.engineering
        if saved > 0:
            return max(0.0, invested / saved)
        return 0.0 if saved == 0 and invested <= 0 else math.inf


def money(options, terms, period, devices=(1, 10, 100, 1_000, 10_000, 100_000)):
    """A row an option: engineering, what one device takes over the years (unit, upkeep, data, batteries), totals for so
    many, the terms."""
    return pd.DataFrame(
        {
            "option": o.name,
            "engineering": o.engineering,
            **terms.a_device(o),
            **{f"{n:,} devices": terms.total(o, n) for n in devices},
        }
        for o in options
    ).assign(**asdict(terms), period=period)


def break_even(options, terms):
    """From how many devices on one option takes no more money than another: option, against, devices (infinite: it
    never stays so)."""
    rows = [(a.name, b.name, terms.break_even(a, b)) for a in options for b in options if a is not b]
    return pd.DataFrame(rows, columns=["option", "against", "devices"])
