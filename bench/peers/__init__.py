"""The other ways to get the same results: a module for each library, with the library's own words for what it has.

A function there has the name of an op and takes the op's arguments, as the library's arrays; it may write into them.
A layer needs no entry where the library derives gradients: it is the op that `fastnn.layers` says, unless something
faster has the layer's own name.  What a library does not have is not there; whatever else is there begins with "_", but

``call(version, args)``
    a function without arguments that computes a version of an op, and
``gradient(version, args, params, dout)``
    one that computes a layer forward and backward and returns the gradient of its input, if the library has layers;
    a loss has None as `dout`.

Both are given NumPy's arrays, which are converted before anything is timed.
"""

import importlib
import importlib.metadata

# By the titles of their columns.
LIBRARIES = {"NumPy layers": "numpy", "PyTorch": "torch", "JAX": "jax", "Numba": "numba", "Thinc": "thinc"}


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
