"""exp, log, tanh and the logistic function as straight-line code that a compiler can vectorise.

No branch, no table, no call: every special value is a select.  Each function states its error in ULP (distance from
the true value over the spacing of the result's floats) and is good for every argument, subnormal results included.

The coefficients are Chebyshev fits computed at 40 digits and rounded once, those of tanh a rational function's with the
least relative error:

    exp   (e^r - 1 - r) / r^2  on |r| <= ln(2) / 2
    log   (log((1 + s) / (1 - s)) - 2 s) / s^3  in s^2, on the s of sqrt(1/2) <= m <= sqrt(2)
    tanh  (tanh(v) - v) / v^3  in v^2, on |v| <= 0.7

ln(2) is split in two so that the product of its first part with an exponent is exact even without an FMA
(W. J. Cody and W. Waite, "Software Manual for the Elementary Functions", 1980).
"""

from libc.math cimport fabs as fabs64, fabsf as fabs32, sqrt as sqrt64, sqrtf as sqrt32
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <math.h>
    #include <stdint.h>
    #include <string.h>

    #ifndef FASTNN_VMATH
    #define FASTNN_VMATH

    /* Visual Studio before 17.0 fuses on its own under /fp:precise. */
    #ifdef _MSC_VER
    #pragma fp_contract(off)
    #endif

    static inline uint32_t fastnn_bits32(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
    static inline uint64_t fastnn_bits64(double x) { uint64_t u; memcpy(&u, &x, 8); return u; }
    static inline float fastnn_float32(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }
    static inline double fastnn_float64(uint64_t u) { double x; memcpy(&x, &u, 8); return x; }

    /* One rounding where the machine has the instruction; without it fma() is a slow call. */
    #if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    #define FASTNN_FUSED 1
    #define fastnn_fma32(a, b, c) fmaf((a), (b), (c))
    #define fastnn_fma64(a, b, c) fma((a), (b), (c))
    #else
    #define FASTNN_FUSED 0
    #define fastnn_fma32(a, b, c) ((a) * (b) + (c))
    #define fastnn_fma64(a, b, c) ((a) * (b) + (c))
    #endif

    #endif
    """
    const bint FUSED "FASTNN_FUSED"
    uint32_t bits32 "fastnn_bits32"(float x) noexcept
    uint64_t bits64 "fastnn_bits64"(double x) noexcept
    float float32 "fastnn_float32"(uint32_t u) noexcept
    double float64 "fastnn_float64"(uint64_t u) noexcept
    float fma32 "fastnn_fma32"(float a, float b, float c) noexcept
    double fma64 "fastnn_fma64"(double a, double b, double c) noexcept

ctypedef fused real:
    float
    double


# e^x = 2^n (1 + t) with n the integer nearest to x / ln 2.  Adding MAGIC leaves n in the low bits of the sum z, from
# where a shift moves it to the exponent of a float.

cdef inline float reduced32(float x, float* z) noexcept nogil:
    """t, and n + MAGIC in z."""
    cdef float magic = 12582912.0, log2e = 1.44269504, ln2_hi = 0.693359375, ln2_lo = -2.12194440e-4
    cdef float c2 = 0.5, c3 = 0.16666576, c4 = 0.041666556, c5 = 0.008363203, c6 = 0.0013926213
    cdef float n, r, p
    z[0] = fma32(x, log2e, magic)
    n = z[0] - magic
    r = fma32(-n, ln2_lo, fma32(-n, ln2_hi, x))
    p = fma32(fma32(fma32(fma32(c6, r, c5), r, c4), r, c3), r, c2)
    return fma32(r * r, p, r)


cdef inline double reduced64(double x, double* z) noexcept nogil:
    """t, and n + MAGIC in z."""
    cdef double magic = 6755399441055744.0
    cdef double log2e = 1.4426950408889634, ln2_hi = 0.6931471803691238, ln2_lo = 1.9082149292705877e-10
    cdef double c2 = 0.5000000000000001, c3 = 0.16666666666666669, c4 = 0.04166666666662399
    cdef double c5 = 0.008333333333330051, c6 = 0.0013888888917281794, c7 = 0.00019841269863105968
    cdef double c8 = 2.480152119021773e-05, c9 = 2.7557268378684192e-06, c10 = 2.7620138719733994e-07
    cdef double c11 = 2.5100424157005067e-08
    cdef double n, r, p
    z[0] = fma64(x, log2e, magic)
    n = z[0] - magic
    r = fma64(-n, ln2_lo, fma64(-n, ln2_hi, x))
    p = fma64(fma64(fma64(fma64(c11, r, c10), r, c9), r, c8), r, c7)
    p = fma64(fma64(fma64(fma64(fma64(p, r, c6), r, c5), r, c4), r, c3), r, c2)
    return fma64(r * r, p, r)


cdef inline float power_of_two32(float z, int32_t exponent) noexcept nogil:
    """2^(n + exponent) for z = n + MAGIC."""
    return float32((bits32(z) << 23) + <uint32_t> ((127 + exponent) << 23))


cdef inline double power_of_two64(double z, int64_t exponent) noexcept nogil:
    """2^(n + exponent) for z = n + MAGIC."""
    return float64((bits64(z) << 52) + (<uint64_t> (1023 + exponent) << 52))


# 2^n is made 64 away from the limits of the exponent, and the last factor, 2^-64 or 2^64, makes the subnormals and the
# overflow: one rounding each.

cdef inline float exp32(float x) noexcept nogil:
    """e^x, below 1.1 ULP."""
    cdef float lowest = -104.0, highest = 89.0, zero = 0.0, one = 1.0
    cdef float up = 18446744073709551616.0, down = 5.42101086242752217e-20
    cdef float a, z, p
    a = lowest if x < lowest else x
    a = highest if a > highest else a
    p = one + reduced32(a, &z)
    return p * (power_of_two32(z, 64) if a < zero else power_of_two32(z, -64)) * (down if a < zero else up)


cdef inline double exp64(double x) noexcept nogil:
    """e^x, below 1.1 ULP."""
    cdef double lowest = -746.0, highest = 710.0, zero = 0.0, one = 1.0
    cdef double up = 18446744073709551616.0, down = 5.42101086242752217e-20
    cdef double a, z, p
    a = lowest if x < lowest else x
    a = highest if a > highest else a
    p = one + reduced64(a, &z)
    return p * (power_of_two64(z, 64) if a < zero else power_of_two64(z, -64)) * (down if a < zero else up)


cdef inline float exp_of_nonpositive32(float x) noexcept nogil:
    """e^x for x <= 0 or NaN, below 1.1 ULP."""
    cdef float lowest = -104.0, one = 1.0, down = 5.42101086242752217e-20
    cdef float z, p
    p = one + reduced32(lowest if x < lowest else x, &z)
    return p * power_of_two32(z, 64) * down


cdef inline double exp_of_nonpositive64(double x) noexcept nogil:
    """e^x for x <= 0 or NaN, below 1.1 ULP."""
    cdef double lowest = -746.0, one = 1.0, down = 5.42101086242752217e-20
    cdef double z, p
    p = one + reduced64(lowest if x < lowest else x, &z)
    return p * power_of_two64(z, 64) * down


# 1 / (1 + e^-x) from e = e^-|x| = 2^n (1 + t), which neither overflows nor cancels:
#
#     |x|    1 / (1 + e)
#     -|x|   2^n (1 + t) / (1 + e)
#
# What 1 + e loses to rounding is taken out of t: times 1 / (1 + e), or without an FMA, whose roundings leave no room
# for that, times (1 + t) / (1 + e).  2^n is made 64 too high and brought down by a product, to reach the subnormals; in
# float32 the last of them, where 2^n is none itself, comes out as 0.

cdef inline float sigmoids32(float x, float* smaller, float* e) noexcept nogil:
    """The sigmoids of |x| and, in `smaller`, of -|x|, at most 2 ULP; e^-|x|."""
    cdef float lowest = -104.0, one = 1.0, down = 5.42101086242752217e-20
    cdef float a, z, t, power, total, inverse
    a = float32(bits32(x) | <uint32_t> 0x80000000)
    t = reduced32(lowest if a < lowest else a, &z)
    power = power_of_two32(z, 64) * down
    e[0] = power * t + power
    total = one + e[0]
    inverse = one / total
    t = fma32(total - one - e[0], inverse if FUSED else fma32(t, inverse, inverse), t)
    smaller[0] = fma32(t, inverse, inverse) * power
    return inverse


cdef inline float sigmoid32(float x) noexcept nogil:
    """At most 2 ULP."""
    cdef float zero = 0.0, smaller, e, larger = sigmoids32(x, &smaller, &e)
    return larger if x >= zero else smaller


cdef inline double sigmoids64(double x, double* smaller, double* e) noexcept nogil:
    """The sigmoids of |x| and, in `smaller`, of -|x|, at most 2 ULP; e^-|x|."""
    cdef double lowest = -746.0, one = 1.0, down = 5.42101086242752217e-20
    cdef double a, z, t, power, total, inverse
    a = float64(bits64(x) | <uint64_t> 0x8000000000000000)
    t = reduced64(lowest if a < lowest else a, &z)
    power = power_of_two64(z, 64)
    e[0] = power * down * t + power * down
    total = one + e[0]
    inverse = one / total
    t = fma64(total - one - e[0], inverse if FUSED else fma64(t, inverse, inverse), t)
    smaller[0] = fma64(t, inverse, inverse) * power * down
    return inverse


cdef inline double sigmoid64(double x) noexcept nogil:
    """At most 2 ULP."""
    cdef double zero = 0.0, smaller, e, larger = sigmoids64(x, &smaller, &e)
    return larger if x >= zero else smaller


# With u = v^2, tanh v = v + v u N(u) / D(u) for |v| < 0.7.  A larger argument leaves r = |x| - n ln(2) / 2, of which
# that makes tanh r = P / D, and then e^(2 |x|) = 2^n (D + P) / (D - P), and
#
#     tanh |x| = 1 - 2 / (1 + e^(2 |x|)) = 1 + (P - D) / (2^(n - 1) (D + P) - (P - D) / 2)
#
# MAGIC is 1 less here, to leave n - 1 in the low bits.  |x| is cut as an integer, for which there is an instruction;
# the first of the two terms keeps a NaN.  ln(2) / 2 in float32 ends in three bits of 0, so that its product with an n
# below 8 is exact even without an FMA; for a larger n the second term is small.

cdef inline float tanh32(float x) noexcept nogil:
    """At most 2 ULP."""
    cdef float magic = 12582911.0, two_over_ln2 = 2.8853901, half_ln2 = 0.34657359
    cdef float one = 1.0, half = 0.5, split = 0.7
    cdef float n0 = -0.823915245, n1 = -0.00378274884, d0 = 2.47174937
    cdef uint32_t highest = 0x41200000  # 10
    cdef float a, z, v, u, w, D, P, first, numerator, denominator
    cdef uint32_t cut
    a = float32(bits32(x) & <uint32_t> 0x7FFFFFFF)
    cut = bits32(a)
    v = float32(cut if cut < highest else highest)
    z = fma32(v, two_over_ln2, magic)
    v = fma32(magic - z, half_ln2, v) if a >= split else v
    u = v * v
    D = u + d0
    w = v * u * fma32(n1, u, n0)
    P = fma32(v, D, w)
    numerator = P - D if a >= split else w
    denominator = fma32(P - D, -half, float32(bits32(D + P) + (bits32(z) << 23))) if a >= split else D
    first = one if a >= split else a
    return float32(bits32(first + numerator / denominator) | (bits32(x) & <uint32_t> 0x80000000))


cdef inline double tanh64(double x) noexcept nogil:
    """At most 2 ULP."""
    cdef double magic = 6755399441055743.0, two_over_ln2 = 2.8853900817779268
    cdef double half_ln2 = 0.34657359027997264, half_ln2_hi = 0.3465735901845619, half_ln2_lo = 9.541074646352939e-11
    cdef double one = 1.0, half = 0.5, split = 0.7
    cdef double n0 = -1616.1902078319142, n1 = -99.360478808416581, n2 = -0.96442764842043436
    cdef double d0 = 4848.5706234957480, d1 = 2237.5096858233253, d2 = 112.89048490217898
    cdef uint64_t highest = 0x4034000000000000  # 20
    cdef double a, z, v, r, u, w, D, P, first, numerator, denominator
    cdef uint64_t cut
    a = float64(bits64(x) & <uint64_t> 0x7FFFFFFFFFFFFFFF)
    cut = bits64(a)
    v = float64(cut if cut < highest else highest)
    z = fma64(v, two_over_ln2, magic)
    r = fma64(magic - z, half_ln2, v) if FUSED else v - (z - magic) * half_ln2_hi - (z - magic) * half_ln2_lo
    v = r if a >= split else v
    u = v * v
    D = fma64(fma64(u + d2, u, d1), u, d0)
    w = v * u * fma64(fma64(n2, u, n1), u, n0)
    P = fma64(v, D, w)
    numerator = P - D if a >= split else w
    denominator = fma64(P - D, -half, float64(bits64(D + P) + (bits64(z) << 52))) if a >= split else D
    first = one if a >= split else a
    return float64(bits64(first + numerator / denominator) | (bits64(x) & <uint64_t> 0x8000000000000000))


# log x = k ln 2 + log m with sqrt(1/2) <= m < sqrt(2); f = m - 1, s = f / (2 + f) and
# log m = f - (f^2/2 - s (f^2/2 + R)), which keeps the large terms exact.  Subnormals are scaled up first.  The
# exponent is made a float by writing it into the low bits of a power of two and subtracting that power.

cdef inline float log32(float x) noexcept nogil:
    """Below 1 ULP."""
    cdef float smallest = 1.17549435e-38, infinity = float32(<uint32_t> 0x7F800000)
    cdef float zero = 0.0, one = 1.0, two = 2.0, half = 0.5
    cdef float up = 33554432.0, up_exponent = 25.0
    cdef float ln2_hi = 0.693359375, ln2_lo = -2.12194440e-4
    cdef float l1 = 0.66666687, l2 = 0.3998876, l3 = 0.29580986
    cdef float a, k, f, s, z, h, y
    cdef uint32_t u
    a = x * up if x < smallest else x
    u = bits32(a) + <uint32_t> (0x3F800000 - 0x3F3504F3)
    k = float32((u >> 23) | <uint32_t> 0x4B000000) - <float> (8388608.0 + 127.0)
    k = k - up_exponent if x < smallest else k
    f = float32((u & <uint32_t> 0x007FFFFF) + <uint32_t> 0x3F3504F3) - one
    s = f / (two + f)
    z = s * s
    h = half * f * f
    y = fma32(fma32(l3, z, l2), z, l1)
    y = fma32(k, ln2_hi, f - (h - fma32(s, h + z * y, k * ln2_lo)))
    y = -infinity if x == zero else y
    y = y if x < infinity else x
    return y if x >= zero else infinity - infinity


cdef inline double log64(double x) noexcept nogil:
    """Below 1 ULP."""
    cdef double smallest = 2.2250738585072014e-308, infinity = float64(<uint64_t> 0x7FF0000000000000)
    cdef double zero = 0.0, one = 1.0, two = 2.0, half = 0.5, up = 18014398509481984.0, up_exponent = 54.0
    cdef double ln2_hi = 0.6931471803691238, ln2_lo = 1.9082149292705877e-10
    cdef double l1 = 0.666666666666667, l2 = 0.3999999999989889, l3 = 0.2857142862625391
    cdef double l4 = 0.22222211089368124, l5 = 0.18182892433364564, l6 = 0.15331611694570085
    cdef double l7 = 0.14617807492803847
    cdef double a, k, f, s, z, h, y
    cdef uint64_t u
    a = x * up if x < smallest else x
    u = bits64(a) + <uint64_t> (0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
    k = float64((u >> 52) | <uint64_t> 0x4330000000000000) - <double> (4503599627370496.0 + 1023.0)
    k = k - up_exponent if x < smallest else k
    f = float64((u & <uint64_t> 0x000FFFFFFFFFFFFF) + <uint64_t> 0x3FE6A09E667F3BCD) - one
    s = f / (two + f)
    z = s * s
    h = half * f * f
    y = fma64(fma64(fma64(fma64(fma64(fma64(l7, z, l6), z, l5), z, l4), z, l3), z, l2), z, l1)
    y = fma64(k, ln2_hi, f - (h - fma64(s, h + z * y, k * ln2_lo)))
    y = -infinity if x == zero else y
    y = y if x < infinity else x
    return y if x >= zero else infinity - infinity


cdef inline real exp(real x) noexcept nogil:
    if real is float:
        return exp32(x)
    else:
        return exp64(x)


cdef inline real exp_of_nonpositive(real x) noexcept nogil:
    if real is float:
        return exp_of_nonpositive32(x)
    else:
        return exp_of_nonpositive64(x)


cdef inline real sigmoid(real x) noexcept nogil:
    if real is float:
        return sigmoid32(x)
    else:
        return sigmoid64(x)


cdef inline real sigmoids(real x, real* smaller, real* e) noexcept nogil:
    if real is float:
        return sigmoids32(x, smaller, e)
    else:
        return sigmoids64(x, smaller, e)


cdef inline real tanh(real x) noexcept nogil:
    if real is float:
        return tanh32(x)
    else:
        return tanh64(x)


cdef inline real log(real x) noexcept nogil:
    if real is float:
        return log32(x)
    else:
        return log64(x)


cdef inline real sqrt(real x) noexcept nogil:
    if real is float:
        return sqrt32(x)
    else:
        return sqrt64(x)


cdef inline real fabs(real x) noexcept nogil:
    if real is float:
        return fabs32(x)
    else:
        return fabs64(x)


cdef inline real multiply_add(real a, real b, real c) noexcept nogil:
    """a b + c, with one rounding where the machine has the instruction."""
    if real is float:
        return fma32(a, b, c)
    else:
        return fma64(a, b, c)
