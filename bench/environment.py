"""What libraries read when they are imported: this module imports none."""

import os


def limit_threads(threads):
    """To be called before anything that starts threads is imported, NumPy with its BLAS first of all."""
    for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "FASTNN"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
