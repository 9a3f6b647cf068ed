"""What a notebook prints, passed on to the terminal or log of whoever started it."""

import os
import re
import time

REDRAW_SECONDS = 30  # between two looks at a progress bar where there is no terminal


def plain(text):
    """As it may be shown on a terminal: colours taken out, what else cannot be printed as its escape."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


class Echo:
    """File-like: passes the notebook's output on, each line behind a prefix. A bar that is drawn over and over (\\r) is
    drawn so on a terminal; elsewhere it is shown now and then, and at its end."""

    def __init__(self, prefix, stream):
        self.prefix, self.stream, self.live = prefix, stream, stream.isatty()
        self.line, self.restart, self.shown = "", False, time.monotonic()

    def write(self, text):
        for piece in re.findall(r"\r|\n|[^\r\n]+", text):
            if piece == "\r":
                self.restart = True
            elif piece == "\n":
                self._show("\n")
                self.line, self.restart = "", False
            else:
                self.line, self.restart = ("" if self.restart else self.line) + piece, False
                if self.live or time.monotonic() - self.shown > REDRAW_SECONDS:
                    self._show("" if self.live else "\n")

    def _show(self, end):
        text = f"{self.prefix} {plain(self.line.rstrip())}"
        if self.live:  # what will be drawn over has to fit one line
            text = f"\r{text if end else text[: self._columns()]}\x1b[K"
        self.stream.write(text + end)
        self.stream.flush()
        self.shown = time.monotonic()

    def _columns(self):
        return os.get_terminal_size(self.stream.fileno()).columns - 1

    def flush(self):
        self.stream.flush()
