"""The functional API: each op on whichever backend is active here and now.

Ops keep nothing between calls, so they may be called from several threads at once, as long as no thread writes into an
array that another one's op reads or writes.

The functions are made from the reference's, with their signatures and documentation; `ops.pyi` says the same to editors
and type checkers.  Beside them stand two questions that a layer asks once for its forward and backward, whatever the
backend: `as_factor` and `class_indices`.
"""

from inspect import getmembers, isfunction

from fastnn import reference
from fastnn._kernels.dispatch import function
from fastnn._kernels.products import as_factor as as_factor
from fastnn._kernels.targets import class_indices as class_indices
from fastnn.backends import chosen, process

__all__ = [name for name, _ in getmembers(reference, isfunction) if not name.startswith("_")]

globals().update({name: function(getattr(reference, name), chosen, process) for name in __all__})
