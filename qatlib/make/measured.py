"""`python -m qatlib.make.measured`: every measurement, and whether what it was taken of is still so.

The exit status is 1 where it is not, and the line says what takes it anew.
"""

import sys

from qatlib.system.measurements import MEASUREMENTS


def main():
    """-> the exit status."""
    stale = False
    for measurement in MEASUREMENTS.values():
        changed, stamp = measurement.changed(), measurement.stamp
        stale |= bool(changed)
        verdict = f"STALE, {' and '.join(changed)} changed: {measurement.command}" if changed else "current"
        tools = ", ".join(f"{tool} {version}" for tool, version in stamp.get("tools", {}).items())
        print(f"{measurement.table}: {verdict}")
        print(f"    taken with {tools}; processor: {stamp.get('processor') or 'not recorded'}")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
