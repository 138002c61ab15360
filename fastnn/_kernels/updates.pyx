"""The sequence of a step that changes a parameter, and what an optimizer keeps beside it, in place."""

from libc.math cimport INFINITY

cimport numpy as cnp

from fastnn._kernels.arrays cimport (
    PyArray_CheckExact,
    PyArray_ISCARRAY,
    PyArray_ISCARRAY_RO,
    PyArray_SAMESHAPE,
    apart,
    data,
    native,
    same_type,
)
from fastnn._kernels.boundary cimport CHUNKS, MOVES, Chunk, fresh, given_back, head, run, widened
from fastnn._kernels.vmath cimport real

from fastnn import arguments

cnp.import_array()

cdef void update_chunk(
    const real* dp, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Update* k = <const Update*> task
    (<void (*)(const real*, const double*, real*, real*, real*, Py_ssize_t) noexcept nogil> k.head.loop)(
        dp + first,
        k.constants,
        <real*> k.p + first,
        NULL if k.a == NULL else <real*> k.a + first,
        NULL if k.b == NULL else <real*> k.b + first,
        last - first,
    )


cdef UpdateOp update_op(str name, tuple names, Loop float32, Loop float64):
    cdef UpdateOp op = UpdateOp.__new__(UpdateOp)
    op.name, op.names = name, names
    op.chunks[0], op.chunks[1] = <Chunk> update_chunk[float], <Chunk> update_chunk[double]
    op.loops[0], op.loops[1] = float32, float64
    op.long_enough, op.by_rows = MOVES, False
    return op


cdef double finite(str name, object number) except? -1:
    if type(number) is float and -INFINITY < <double> number < INFINITY:
        return number
    return arguments.number(name, number)


# ---------------------------------------------------------------- the arrays

cdef inline bint is_state(object a, cnp.ndarray p, object dp, object given):
    """A plain array of p's dtype and shape, to be changed in place, which dp is clear of."""
    return (
        given is a
        and PyArray_CheckExact(a)
        and same_type(<cnp.ndarray> a, p)
        and PyArray_ISCARRAY(<cnp.ndarray> a)
        and PyArray_SAMESHAPE(<cnp.ndarray> a, p)
        and apart(<cnp.ndarray> a, dp)
    )


cdef bint in_place(object p, object a, object b, object dp, object out):
    """The case that needs no copy: a step changes p and, if they are not None, a and b, which `out` is too."""
    if not (
        PyArray_CheckExact(p)
        and native(cnp.PyArray_TYPE(<cnp.ndarray> p))
        and PyArray_CheckExact(dp)
        and same_type(<cnp.ndarray> dp, <cnp.ndarray> p)
        and PyArray_ISCARRAY_RO(<cnp.ndarray> dp)
        and PyArray_SAMESHAPE(<cnp.ndarray> dp, <cnp.ndarray> p)
    ):
        return False
    if a is None:
        return is_state(p, p, dp, out)
    if type(out) is not tuple or len(<tuple> out) != (2 if b is None else 3):
        return False
    if not (is_state(p, p, dp, (<tuple> out)[0]) and is_state(a, p, dp, (<tuple> out)[1]) and apart(p, a)):
        return False
    return b is None or is_state(b, p, dp, (<tuple> out)[2]) and apart(b, p) and apart(b, a)


cdef tuple brought_in_place(tuple names, tuple state, object dp, object out):
    """The arrays to change, which hold the state, what the step changes, and the gradient, of one type.

    These are the arrays themselves unless the gradient is wider.  All are plain.  None if the reference has to do it.
    `out` is a tuple or None.
    """
    arrays, gradient = arguments.step(dict(zip(names, state)), dp)
    given = arguments.step_outputs(out, arrays, gradient)
    cdef cnp.ndarray p = arrays[0], g = gradient
    if not native(cnp.PyArray_TYPE(p)) or not native(cnp.PyArray_TYPE(g)):
        return None
    changed = [fresh(a, cnp.PyArray_TYPE(p)) if g is None else g for a, g in zip(arrays, given, strict=True)]
    for array, values in zip(changed, arrays, strict=True):
        if array is not values:
            cnp.PyArray_CopyInto(array, values)  # np.copyto would ask a subclass
    wide = changed if same_type(g, p) else [widened(array, cnp.PyArray_TYPE(g)) for array in changed]
    return changed, wide, cnp.PyArray_FROM_OTF(g, cnp.PyArray_TYPE(g), cnp.NPY_ARRAY_CARRAY_RO)


cdef cnp.ndarray copied(object array):
    """A plain array's numbers in one of its own; None of None."""
    cdef cnp.ndarray y
    if array is None:
        return None
    y = fresh(array, cnp.PyArray_TYPE(<cnp.ndarray> array))
    cnp.PyArray_CopyInto(y, array)
    return y


cdef int narrow(cnp.ndarray wide, cnp.ndarray y) except -1:
    """y, float32, = wide, float64.  NumPy's own copy would warn of an overflow."""
    cdef const double* x = <const double*> data(wide)
    cdef float* rounded = <float*> data(y)
    cdef Py_ssize_t i
    if not PyArray_SAMESHAPE(wide, y):
        raise RuntimeError("an output changed its shape while others were being read")
    for i in range(cnp.PyArray_SIZE(wide)):
        rounded[i] = <float> x[i]
    return 0


# ---------------------------------------------------------------- the sequence

cdef object update(UpdateOp op, object p, object a, object b, object dp, const double* constants, object out):
    """The results, in place where `out` says so; None if the reference has to do it."""
    cdef Py_ssize_t count = len(op.names)
    cdef list changed = None, wide = None
    cdef Update task
    if out is None and in_place(p, a, b, dp, (p, a, b)[:count] if count > 1 else p):
        p, a, b = copied(p), copied(a), copied(b)
    elif not in_place(p, a, b, dp, out):
        brought = brought_in_place(op.names, (p, a, b)[:count], dp, (out,) if count == 1 else out)
        if brought is None:
            return None
        changed, wide, dp = brought
        p, a, b = (*wide, None, None)[:3]
    task = Update(
        head(op, p),
        constants,
        data(p),
        data(a),
        data(b),
    )
    run(op, dp, &task.head, task.head.N, 1, CHUNKS)
    if changed is not wide:
        for array, y in zip(wide, changed):
            narrow(array, y)
        p, a, b = (*changed, None, None)[:3]
    if count == 1:
        return given_back(p, out)
    if cnp.PyArray_NDIM(p) == 0:
        outs = (None,) * count if out is None else out
        return tuple([given_back(array, given) for array, given in zip((p, a, b), outs)])
    return (p, a) if b is None else (p, a, b)
