"""`make flash BOARD=ulx3s`, or icebreaker: the bitstream in `overlays/` onto the board that is plugged in, by
openFPGALoader."""

import shutil
import subprocess
import sys

from qatlib.engine import lattice, serial_line
from qatlib.system import paths

TOOL = "openFPGALoader"
GET = "apt install openfpgaloader (Debian), brew install openfpgaloader, or https://trabucayre.github.io/openFPGALoader"
TIMEOUT = 300  # seconds


def main(arguments):
    """-> the exit status."""
    if len(arguments) != 1 or arguments[0] not in serial_line.BOARDS:
        print(f"give a board with a serial port: {', '.join(serial_line.BOARDS)}", file=sys.stderr)
        return 2
    board = serial_line.BOARDS[arguments[0]]
    try:
        lattice.check(board)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if shutil.which(TOOL) is None:
        print(f"{TOOL} is missing, which talks to the board's USB chip: {GET}", file=sys.stderr)
        return 1
    bit = paths.OVERLAYS / board.name / lattice.family(board).bit
    print(f"for a {board.name} with an {board.device}; {TOOL} refuses another device", flush=True)
    try:
        return subprocess.run([TOOL, "--board", board.name, str(bit)], check=False, timeout=TIMEOUT).returncode
    except subprocess.TimeoutExpired:
        print(f"{TOOL} did not end within {TIMEOUT} s", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
