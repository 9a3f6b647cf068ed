"""`make attack`: every part at full length, and its table to tests/attack/results.csv; `--short` for CI, which only
prints it."""

import argparse
import importlib
import sys
import time
from pathlib import Path

import pandas as pd

from qatlib.runs import cached
from qatlib.system import toolchain
from qatlib.system.measurements import processor

PARTS = ("models", "csvs", "engines", "cores", "driver", "serial_line", "power", "sanitizers", "kills")
RESULTS = Path(__file__).with_name("results.csv")


def main():
    parser = argparse.ArgumentParser(prog="tests.attack", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few minutes of each; results.csv stays as it is")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all where none is named")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    rows = []
    for part in chosen.parts or PARTS:
        began = time.monotonic()
        for outcome in importlib.import_module(f"tests.attack.{part}").attack(short=chosen.short):
            rows.append(outcome)
            print(outcome, flush=True)
        print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)
    table = pd.DataFrame(rows)
    print(f"\n{table.to_string(index=False)}")
    if not chosen.short:
        keep(table)
    sys.exit(f"{table['wrong'].sum()} wrong" if table["wrong"].any() else 0)


def keep(table):
    """Put the rows in place of their parts' earlier ones, with the state of qatlib that they are of."""
    source = cached.source_hash("")
    stamp = {"qatlib": source[:12], "compiler": toolchain.described(), "processor": processor()}
    earlier = pd.read_csv(RESULTS, keep_default_na=False) if RESULTS.is_file() else table[:0]
    everything = pd.concat([earlier[~earlier["part"].isin(table["part"])], table.assign(**stamp)])
    everything.sort_values("part", key=lambda part: part.map(PARTS.index), kind="stable").to_csv(RESULTS, index=False)


if __name__ == "__main__":
    main()
