"""The other ways to get the same results: a module for each library.

Under an op's name a module has a function that takes the op's arguments, as the library's arrays; it may write into
them.  Under a layer's name it has a class as the books write it.  Where the library derives gradients, it is a function
of forward's arguments and the parameters, and if there is none, the layer's op is taken.  What a library does not have
is not there.  All other names begin with "_", but for

``call(version, args)``
    gives a function without arguments that computes an op.
``gradient(version, args, params, dout)``
    gives one that computes a layer forward and backward and returns the gradient of its input.  A loss has None as
    `dout`.  It is there where the library derives gradients.

Both are given NumPy's arrays, which they convert before anything is timed.
"""

import importlib
import importlib.metadata

# By the titles of their columns.
LIBRARIES = {"NumPy layers": "numpy", "PyTorch": "torch", "JAX": "jax", "Numba": "numba", "Thinc": "thinc"}

# Those that compute one op with several threads.
WITH_THREADS = ["PyTorch", "JAX", "Numba"]


def available():
    """The modules of the libraries installed here, and their versions; those that are not."""
    peers, versions, missing = {}, {}, []
    for name, library in LIBRARIES.items():
        try:
            peers[name] = importlib.import_module(f"bench.peers.of_{library}")
        except ImportError:
            missing.append(name)
        else:
            versions[name] = importlib.metadata.version(library)
    return peers, versions, missing


def takes(arguments):
    """For a version that wants the op's arguments in another form, ``arguments(*args)``, which is made untimed."""

    def mark(version):
        version.takes = arguments
        return version

    return mark


def taken(version, args):
    return version.takes(*args) if hasattr(version, "takes") else args
