"""The loops: raw memory in, raw memory out, no Python objects, no checks (the boundary has made them).

Every array is C-contiguous.  x and y may be the same memory where a docstring says "in place"; otherwise arrays do not
overlap.  N rows of C (or M) columns; `real` is float32 or float64.

(A) A long sum is taken in columns: LANES interleaved partial sums, as wide as vectors want them.  A few rows are added
    in `real`, then in double, for float64 with the rounding errors carried along (Knuth's two-sum), so that the error
    does not grow with the length.
(B) Rows too short for vectors are handled several at a time: softmax turns LANES rows of up to SHORT columns on their
    side, so that the vectors run across rows; the column loops view k rows of M columns as one row of k M, far more
    of them where there are many rows: memory is read fastest in long pieces.
(C) Inner loops are vectorised but for those marked "scalar", which `python -m bench.vectorised` holds.
(D) A loop that waits for memory returns `moves`, which is void.
"""

cdef extern from *:
    """
    /* With vectors of 64 bytes, each a whole line of the cache, Zen 4 takes 1.1 to 1.2 times as long to write what the
       caches of one core do not hold, and as long as with half of that to write what they do. */
    #if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
    #define FASTNN_MOVES __attribute__((target("prefer-vector-width=256"))) void
    #else
    #define FASTNN_MOVES void
    #endif
    """
    ctypedef void moves "FASTNN_MOVES"
