"""Metadata and the record of a pair of files."""

import pytest

from qatlib.engine import bitstream, hwh, isa


@pytest.fixture
def written(tmp_path):
    hwh.write(tmp_path / bitstream.HWH)
    return tmp_path / bitstream.HWH


def changed(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_what_is_written_passes(written):
    hwh.check(written)


def test_metadata_without_registers_passes(written, monkeypatch):
    monkeypatch.setattr(isa, "REGISTERS", ())
    hwh.write(written)
    monkeypatch.undo()
    hwh.check(written)


@pytest.mark.parametrize(
    "old, new, message",
    [
        (hwh.VLNV, "other:engine:engine:1.0", "describes no qatlib:engine:engine:1.0"),
        ("0x43CFFFFF", "0x43C0FFFF", r"aperture has \[65536\] bytes, not 1048576"),
        ('NAME="ADDRESS_OFFSET" VALUE="0x14"', 'NAME="ADDRESS_OFFSET" VALUE="0x54"', "register WINDOWS is not"),
        ('NAME="IRQ_ENABLE"', 'NAME="IRQ"', "register CTRL is not"),
    ],
)
def test_what_differs_is_named(written, old, new, message):
    with pytest.raises(ValueError, match=message):
        hwh.check(changed(written, old, new))


def test_pair(written):
    folder = written.parent
    (folder / bitstream.BIT).write_bytes(b"bits")
    bitstream.record(folder)
    bitstream.check(folder)
    (folder / bitstream.BIT).write_bytes(b"bots")
    with pytest.raises(ValueError, match=r"engine\.bit is not the file recorded in engine\.sha256"):
        bitstream.check(folder)


@pytest.mark.parametrize("name", [bitstream.BIT, bitstream.HWH, bitstream.SHA256])
def test_missing_file(written, name):
    folder = written.parent
    (folder / bitstream.BIT).write_bytes(b"bits")
    bitstream.record(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        bitstream.check(folder)


DIGEST = "0" * 64


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\xfe\n" * 7,
        DIGEST.encode(),
        f"{DIGEST}  engine.bit\n".encode(),
        f"{DIGEST}\n{DIGEST}\n".encode(),
        f"{DIGEST[1:]}  engine.bit\n{DIGEST}  engine.hwh\n".encode(),
        f"{DIGEST}  engine.bit\n{DIGEST}  engine.bit\n".encode(),
        f"{DIGEST}  engine.bit\n{DIGEST}  other.hwh\n".encode(),
        f"{DIGEST}  engine.bit\n{DIGEST}  engine.hwh\n{DIGEST}  engine.hwh\n".encode(),
        f"{DIGEST} a b c engine.bit\n\n".encode(),
    ],
    ids=["empty", "binary", "no-name", "one-line", "no-names", "short", "twice", "other-file", "three-lines", "words"],
)
def test_damaged_record(written, content):
    folder = written.parent
    (folder / bitstream.BIT).write_bytes(b"bits")
    (folder / bitstream.SHA256).write_bytes(content)
    with pytest.raises(
        ValueError,
        match=r"engine\.sha256 is damaged: it must be two lines, the SHA-256 of engine\.bit and of engine\.hwh",
    ):
        bitstream.check(folder)


@pytest.mark.parametrize(
    "change", [lambda text: text.replace("  ", " *"), str.upper, lambda text: text.replace("\n", "\r\n")]
)
def test_record_of_another_tool(written, change):
    folder = written.parent
    (folder / bitstream.BIT).write_bytes(b"bits")
    bitstream.record(folder)
    record = folder / bitstream.SHA256
    text = change(record.read_text()).replace("ENGINE.BIT", "engine.bit").replace("ENGINE.HWH", "engine.hwh")
    record.write_bytes(text.encode())
    bitstream.check(folder)


@pytest.mark.parametrize(
    "old, new",
    [
        ("<MODULES>", "<MODULES"),
        ('HIGHVALUE="0x', 'HIGHVALUE="x'),
        ('BASEVALUE="', 'BASE="'),
        ('VALUE="0x14"', 'X="1"'),
    ],
)
def test_damaged_metadata(written, old, new):
    with pytest.raises(ValueError, match=r"is no XML|stands where a number should"):
        hwh.check(changed(written, old, new))
