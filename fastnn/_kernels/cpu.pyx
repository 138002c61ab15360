"""Which instruction sets this machine can run: the processor has them and the operating system saves their registers.

Compiled for the oldest supported machine, since it runs before anything wider may be loaded.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>

    #if defined(__x86_64__) || defined(_M_X64)
    #define FASTNN_X86_64 1
    #ifdef _MSC_VER
    #include <intrin.h>
    static void fastnn_cpuid(uint32_t leaf, uint32_t *r) { __cpuidex((int *)r, (int)leaf, 0); }
    static uint64_t fastnn_xgetbv(void) { return _xgetbv(0); }
    #else
    #include <cpuid.h>
    static void fastnn_cpuid(uint32_t leaf, uint32_t *r) {
        r[0] = r[1] = r[2] = r[3] = 0;
        __get_cpuid_count(leaf, 0, r, r + 1, r + 2, r + 3);
    }
    static uint64_t fastnn_xgetbv(void) {
        uint32_t low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        return ((uint64_t)high << 32) | low;
    }
    #endif
    #else
    #define FASTNN_X86_64 0
    static void fastnn_cpuid(uint32_t leaf, uint32_t *r) { (void)leaf; r[0] = r[1] = r[2] = r[3] = 0; }
    static uint64_t fastnn_xgetbv(void) { return 0; }
    #endif
    """
    const bint IS_X86_64 "FASTNN_X86_64"
    void cpuid "fastnn_cpuid"(uint32_t leaf, uint32_t* registers)
    uint64_t xgetbv "fastnn_xgetbv"()

# The levels of the x86-64 psABI as bits of CPUID (leaf 1 ecx, leaf 7 ebx, leaf 0x80000001 ecx) and of XCR0.
cdef enum:
    V2_1C = 1 << 0 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23  # SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT
    V3_1C = 1 << 12 | 1 << 22 | 1 << 27 | 1 << 28 | 1 << 29  # FMA MOVBE OSXSAVE AVX F16C
    V3_7B = 1 << 3 | 1 << 5 | 1 << 8  # BMI1 AVX2 BMI2
    V3_81C = 1 << 5  # LZCNT
    V3_XCR0 = 0x06  # SSE and AVX state
    V4_7B = 1 << 16 | 1 << 17 | 1 << 28 | 1 << 30 | 1 << 31  # AVX-512 F DQ CD BW VL
    V4_XCR0 = 0xE6  # and the mask and upper-half states


def instruction_sets():
    """The builds this machine can run, widest first, by the names fastnn gives its backends."""
    if not IS_X86_64:
        return ("generic",)
    cdef uint32_t[4] leaf1
    cdef uint32_t[4] leaf7
    cdef uint32_t[4] leaf81
    cpuid(1, leaf1)
    cpuid(7, leaf7)
    cpuid(<uint32_t> 0x80000001, leaf81)
    cdef uint64_t xcr0 = xgetbv() if leaf1[2] & <uint32_t> (1 << 27) else 0
    found = []
    if leaf1[2] & <uint32_t> V2_1C == <uint32_t> V2_1C:
        found.insert(0, "x86-64-v2")
        if (
            leaf1[2] & <uint32_t> V3_1C == <uint32_t> V3_1C
            and leaf7[1] & <uint32_t> V3_7B == <uint32_t> V3_7B
            and leaf81[2] & <uint32_t> V3_81C
            and xcr0 & V3_XCR0 == V3_XCR0
        ):
            found.insert(0, "x86-64-v3")
            if leaf7[1] & <uint32_t> V4_7B == <uint32_t> V4_7B and xcr0 & V4_XCR0 == V4_XCR0:
                found.insert(0, "x86-64-v4")
    return tuple(found)


def model():
    """The processor's own name, or an empty string."""
    cdef uint32_t[4] highest
    cdef uint32_t[12] brand
    cdef uint32_t leaf
    cpuid(<uint32_t> 0x80000000, highest)
    if highest[0] < <uint32_t> 0x80000004:
        return ""
    for leaf in range(3):
        cpuid(<uint32_t> 0x80000002 + leaf, brand + 4 * leaf)
    return (<const char*> brand)[:48].split(b"\0")[0].decode("ascii", "replace").strip()
