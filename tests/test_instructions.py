"""No compiled module holds an instruction beyond its level: on an older machine it would end the process."""

import re
import shutil
import sys
import sysconfig
from pathlib import Path

import processes
import pytest

from fastnn import _kernels
from fastnn._kernels import cpu

pytestmark = [
    pytest.mark.skipif(cpu.instruction_sets() == ("generic",), reason="the levels are x86-64's"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads what GNU's objdump prints of ELF files"),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump, of GNU binutils"),
]

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
# By folder and name: what runs before the processor is known has no folder.
MODULES = {
    path.relative_to(folder).as_posix().removesuffix(SUFFIX): path
    for folder in _kernels.__path__
    for path in Path(folder).rglob(f"*{SUFFIX}")
}
PREFIXES = {"26", "2e", "36", "3e", "64", "65", "66", "67", "f0", "f2", "f3"}
# In 64-bit code these first bytes mean nothing else.
ENCODINGS = {"c4": "VEX", "c5": "VEX", "62": "EVEX", "d5": "REX2"}
# What is in no level, and what is in none below v3, beside all of AVX, AVX2, FMA, F16C, BMI1 and BMI2, which is VEX.
# `tzcnt` is `rep bsf` to an older processor, and compilers use it as such.
IN_NO_LEVEL = re.compile(
    r"v?(aes|pclmul|gf2p8|sha\d)|ad[co]x|rd(rand|seed|[fg]sbase)|wr[fg]sbase|clwb|(extr|insert)q\b|movnts[sd]"
    r"|vpdp|vpmadd52|vperm([it]2)?b\b|vpmultishift|vp(compress|expand)[bw]|vpsh[lr]d|vpopcnt|vpshufbitqmb|vp2intersect"
    r"|v\w+bf16|v(?!cvtps2ph)\w+(ph|sh)\b|vexp2|vrcp28|vrsqrt28"
)
IN_V3 = re.compile(r"lzcnt|movbe")


def instructions(path):
    """(encoding, text) of every instruction of a file."""
    command = ["objdump", "--disassemble", "--insn-width=15", str(path)]
    for line in processes.run(*command).stdout.splitlines():
        if line.count("\t") == 2:
            _, code, text = line.split("\t")
            first = next((byte for byte in code.split() if byte not in PREFIXES), "")
            yield ENCODINGS.get(first, "legacy"), text


def is_beyond(level, encoding, text):
    if encoding == "REX2" or IN_NO_LEVEL.match(text):
        return True
    if level == 2:
        return encoding != "legacy" or IN_V3.match(text) is not None
    return level == 3 and (encoding == "EVEX" or re.search(r"%k[0-7]", text) is not None)


def level_of(module):
    # What is compiled once is built like the kernels for the oldest.
    return int(module.partition("/")[0][-1]) if module.startswith("x86_64_v") else 2


@pytest.mark.parametrize(
    "level, encoding, text",
    [
        (2, "legacy", "lzcnt %edi,%eax"),
        (2, "legacy", "movbe (%rdi),%eax"),
        (2, "legacy", "aesenc %xmm1,%xmm0"),
        (2, "VEX", "vaddpd %xmm0,%xmm1,%xmm0"),
        (2, "VEX", "andn %rax,%rdi,%rax"),
        (3, "VEX", "kmovw %k1,%eax"),
        (3, "EVEX", "vaddpd %ymm16,%ymm0,%ymm0"),
        (3, "VEX", "vpdpbusd %ymm1,%ymm2,%ymm0"),
        (4, "EVEX", "vpermi2b %zmm5,%zmm2,%zmm1"),
        (4, "EVEX", "vaddph %zmm5,%zmm2,%zmm1"),
        (4, "REX2", "add %r16,%rax"),
    ],
)
def test_what_is_beyond_a_level(level, encoding, text):
    assert is_beyond(level, encoding, text)


@pytest.mark.parametrize(
    "level, encoding, text",
    [
        (2, "legacy", "tzcnt %edi,%eax"),
        (2, "legacy", "popcnt %edi,%eax"),
        (2, "legacy", "pextrq $0x1,%xmm0,%rax"),
        (3, "legacy", "lzcnt %edi,%eax"),
        (3, "VEX", "vcvtps2ph $0x4,%ymm0,%xmm0"),
        (3, "VEX", "vpermd %ymm1,%ymm2,%ymm0"),
        (4, "EVEX", "vpcompressd %zmm0,%zmm1{%k1}"),
        (4, "EVEX", "vpermt2d %zmm5,%zmm2,%zmm1"),
    ],
)
def test_what_is_within_a_level(level, encoding, text):
    assert not is_beyond(level, encoding, text)


@pytest.mark.parametrize("module", MODULES)
def test_no_instruction_is_beyond_the_level(module, figure):
    level, count, beyond = level_of(module), 0, set()
    for encoding, text in instructions(MODULES[module]):
        count += 1
        if is_beyond(level, encoding, text):
            beyond.add(text)
    assert not beyond
    assert count > 500
    figure(f"{module}: {count:,} instructions, none beyond x86-64-v{level}")


@pytest.mark.parametrize(
    "folder, promised",
    [
        ("x86_64_v2", r"(blendv|pmov[sz]x|pextr)"),
        ("x86_64_v3", r"vfmadd.*%ymm"),
        ("x86_64_v4", r"vfmadd.*%zmm"),
    ],
)
def test_the_instructions_of_a_level_are_used(folder, promised):
    texts = [text for module, path in MODULES.items() if module.startswith(folder) for _, text in instructions(path)]
    if any("__asan" in text for text in texts):
        pytest.skip("the sanitizer's kernels are not vectorised")
    assert sum(re.match(promised, text) is not None for text in texts) > 100
