"""The functional API: each op on whichever backend is active here and now.

Ops keep nothing between calls, so they may be called from several threads at once, as long as no thread writes into an
array that another one's op reads or writes.

The functions are made from the reference's, with their signatures and documentation; `ops.pyi` says the same to editors
and type checkers.
"""

from inspect import getmembers, isfunction

from fastnn import reference
from fastnn._kernels.dispatch import function
from fastnn.backends import chosen, process

__all__ = [name for name, _ in getmembers(reference, isfunction) if not name.startswith("_")]

globals().update({name: function(getattr(reference, name), chosen, process) for name in __all__})
