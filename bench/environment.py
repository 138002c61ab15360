"""What libraries read when they are imported: this module imports none."""

import os


def limit_threads(threads):
    """To be called before anything that starts threads is imported, NumPy with its BLAS first of all."""
    for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "FASTNN"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.environ["NPROC"] = str(threads)  # XLA's; its flags do not hold it
