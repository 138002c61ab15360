"""What stands before the body of a replaced function: whether fastnn serves a call of this kind, and how.

A kind is what can be told of a call without reading its numbers: the dtype, the dimensions and the layout of each
array, which of them are one, the types of the scalars and the values of those that may decide something.  It is written
down as words of 64 bits, those of the attributes that the body may read included.  So a call costs little more than the
op that serves it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject, PyObject_Hash
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cimport numpy as cnp

from fastnn._kernels.arrays cimport PyArray_CheckExact, data

import numpy as np

import sys
from threading import get_ident
from types import BuiltinFunctionType, FunctionType, ModuleType

cnp.import_array()

cdef extern from *:
    """
    #define fastnn_frame() ((PyObject*) PyEval_GetFrame())
    """
    PyObject* frame_of_caller "fastnn_frame" ()

cdef enum:
    LIMIT = 512  # words
    DEEPEST = 4

cdef struct Words:
    uint64_t words[LIMIT]
    const void* arrays[LIMIT]
    Py_ssize_t n
    Py_ssize_t n_arrays
    bint by_shape

# Absent, None, an array, and containers; a type's address is never so small.
cdef enum:
    ABSENT = 1
    NONE
    SEQUENCE
    DICT

cdef object MISSING = object()
# The threads that try theirs beside ours: no gate is open for them.
cdef set trying = set()


cdef bint is_followed() except -1:
    """Whether somebody follows all that runs, and would follow what is tried, too."""
    if gettrace() is not None or getprofile() is not None:
        return True
    for tool in range(6 if get_tool is not None else 0):
        if get_tool(tool) is not None:
            return True
    return False


cdef object gettrace = sys.gettrace, getprofile = sys.getprofile
cdef object get_tool = sys.monitoring.get_tool if hasattr(sys, "monitoring") else None


cdef inline int put(Words* w, uint64_t word) except -1:
    if w.n >= LIMIT:
        raise OverflowError
    w.words[w.n] = word
    w.n += 1
    return 0


cdef int put_array(Words* w, cnp.ndarray a) except -1:
    cdef Py_ssize_t i
    cdef int ndim = cnp.PyArray_NDIM(a)
    cdef uint64_t same = 0, word = 1 << 62
    word |= <uint64_t> cnp.PyArray_TYPE(a) << 40
    word |= <uint64_t> (cnp.PyArray_FLAGS(a) & (
        cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED | cnp.NPY_ARRAY_WRITEABLE
    )) << 16
    word |= <uint64_t> (not cnp.PyArray_ISNOTSWAPPED(a)) << 15
    word |= <uint64_t> ndim << 8
    for i in range(min(ndim, 8)):
        if cnp.PyArray_DIM(a, i) == 1:
            word |= 1 << i
        elif cnp.PyArray_DIM(a, i) == 0:
            word |= <uint64_t> 1 << (28 + i)
    put(w, word)
    for i in range(min(w.n_arrays, 32)):
        if w.arrays[i] == <const void*> a:
            same = i + 1
            break
    put(w, same)
    if not cnp.PyArray_FLAGS(a) & (cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_F_CONTIGUOUS):
        put(w, order_of(a))  # NumPy's results have it, too
    if w.by_shape:
        for i in range(ndim):
            put(w, cnp.PyArray_DIM(a, i))
    w.arrays[w.n_arrays] = <const void*> a
    w.n_arrays += 1
    return 0


cdef inline int put_float(Words* w, double value) except -1:
    cdef uint64_t word
    memcpy(&word, &value, sizeof(word))
    return put(w, word)


cdef uint64_t order_of(cnp.ndarray a) noexcept:
    """Which dimensions are the far ones: for each, how many are farther."""
    cdef int i, j
    cdef uint64_t order = 0
    for i in range(min(cnp.PyArray_NDIM(a), 16)):
        for j in range(cnp.PyArray_NDIM(a)):
            if abs(cnp.PyArray_STRIDE(a, j)) > abs(cnp.PyArray_STRIDE(a, i)):
                order += <uint64_t> 1 << 4 * i
    return order


cdef int put_object(Words* w, object o, int depth) except -1:
    cdef type kind = type(o)
    if o is None:
        put(w, NONE)
    elif PyArray_CheckExact(o):
        put_array(w, o)
    elif kind is float:
        put(w, <uint64_t> <size_t> <PyObject*> kind)
        put_float(w, o)
    elif kind is int or kind is bool:
        put(w, <uint64_t> <size_t> <PyObject*> kind)
        put(w, <uint64_t> <int64_t> o)  # the hashes of -1 and -2 are one
    elif kind is str:
        put(w, <uint64_t> <size_t> <PyObject*> kind)
        put(w, <uint64_t> PyObject_Hash(o))
    elif isinstance(o, np_generic):
        put(w, <uint64_t> <size_t> <PyObject*> kind)
        item = o.item()
        if type(item) is float:
            put_float(w, item)
        else:
            put(w, <uint64_t> PyObject_Hash(repr(item)))
    elif (kind is tuple or kind is list) and depth < DEEPEST:
        put(w, SEQUENCE | <uint64_t> (kind is list) << 8 | <uint64_t> len(o) << 16)
        for each in o:
            put_object(w, each, depth + 1)
    elif kind is dict and depth < DEEPEST:
        put(w, DICT | <uint64_t> len(o) << 16)
        for key, value in (<dict> o).items():
            put(w, <uint64_t> PyObject_Hash(key))
            if type(key) is not str:
                put_object(w, key, depth + 1)
            put_object(w, value, depth + 1)
    elif isinstance(o, standing):
        put(w, <uint64_t> <size_t> <PyObject*> o)
    else:
        put(w, <uint64_t> <size_t> <PyObject*> kind)
    return 0


cdef object np_generic = np.generic
cdef tuple standing = (type, FunctionType, BuiltinFunctionType, ModuleType, np.ufunc)


cdef class Place:
    """An argument, or what is found from it by attributes and keys."""
    cdef Py_ssize_t argument
    cdef tuple steps
    cdef Place holder

    def __init__(self, tuple path):
        self.argument, self.steps = path[0], path[1:]
        self.holder = Place(path[:len(path) - 1]) if len(path) > 1 else None

    cdef object get(self, tuple args):
        cdef object o = args[self.argument], step
        for step in self.steps:
            o = getattr(o, step) if type(step) is str else o[(<tuple> step)[0]]
        return o

    cdef int put(self, tuple args, object value) except -1:
        cdef object holder = self.holder.get(args), step = self.steps[len(self.steps) - 1]
        if type(step) is str:
            setattr(holder, step, value)
        else:
            holder[(<tuple> step)[0]] = value
        return 0


cdef enum How:
    OUT
    LEAF
    MADE
    CONSTANT
    TUPLE
    LIST
    DICTIONARY


cdef tuple HOWS = ("out", "leaf", "made", "constant", "tuple", "list", "dict")


cdef class Source:
    """
    Where something that a call leaves behind comes from.

    Parameters
    ----------
    how : {"out", "leaf", "made", "constant", "tuple", "list", "dict"}
        An output of the op by its number; what is at a path; a function of one of these; a constant; or a container
        of other sources.
    what
        The number, the path, (function, source), the constant, or the sources.
    written : bool
        Whether it is written into the array that is there instead of being put in its place.
    """
    cdef How how
    cdef Py_ssize_t out
    cdef Place place
    cdef readonly object what
    cdef readonly bint written

    def __init__(self, str how, what, bint written=False):
        self.how = <How> <int> HOWS.index(how)
        self.what, self.written = what, written
        if self.how == OUT:
            self.out = what
        elif self.how == LEAF:
            self.place = Place(what)

    @property
    def name(self):
        """How, as it was given."""
        return HOWS[<int> self.how]

    def __repr__(self):
        return f"Source({self.name!r}, {self.what!r}{', written' if self.written else ''})"

    cdef object make(self, tuple args, object outs):
        if self.how == OUT:
            return (<tuple> outs)[self.out] if type(outs) is tuple else outs
        if self.how == LEAF:
            return self.place.get(args)
        if self.how == CONSTANT:
            return self.what
        if self.how == MADE:
            function, source = self.what
            return function((<Source> source).make(args, outs))
        if self.how == TUPLE:
            return tuple([(<Source> each).make(args, outs) for each in self.what])
        if self.how == LIST:
            return [(<Source> each).make(args, outs) for each in self.what]
        return {key: (<Source> each).make(args, outs) for key, each in self.what.items()}


cdef class Plan:
    """
    How a call is served: the op, where its operands are, what becomes of what it gives.

    Parameters
    ----------
    compute : callable
        Called with the operands; it gives one output, or several in a tuple.
    operands : tuple of path
        A path is an argument's number and then names of attributes, or keys of items as tuples of one.
    result : Source
    effects : tuple of (path, Source), optional
        What is set, or written into the array that is there.
    conditions : tuple of (callable, path), optional
        What must be true of what is at a path.
    """
    cdef readonly object compute
    cdef readonly tuple operands
    cdef readonly Source result
    cdef readonly tuple effects
    cdef readonly tuple conditions
    cdef tuple places
    cdef tuple targets
    cdef tuple sources
    cdef tuple checked

    def __init__(self, compute, tuple operands, Source result, tuple effects=(), tuple conditions=()):
        self.compute, self.operands, self.result = compute, operands, result
        self.effects, self.conditions = effects, conditions
        self.places = tuple([Place(path) for path in operands])
        self.targets = tuple([Place(path) for path, _ in effects])
        self.sources = tuple([source for _, source in effects])
        self.checked = tuple([Place(path) for _, path in conditions])

    def __call__(self, *args):
        return self.run(args)

    cdef object run(self, tuple args):
        cdef Py_ssize_t i, n = len(self.places)
        cdef list made = None
        cdef object outs, result
        for i in range(len(self.checked)):
            if not self.conditions[i][0]((<Place> self.checked[i]).get(args)):
                return ...
        try:
            if n == 1:
                outs = self.compute((<Place> self.places[0]).get(args))
            elif n == 2:
                outs = self.compute((<Place> self.places[0]).get(args), (<Place> self.places[1]).get(args))
            else:
                outs = self.compute(*[(<Place> place).get(args) for place in self.places])
        except Exception:
            return ...  # theirs says what is wrong
        result = self.result.make(args, outs)
        n = len(self.sources)
        if n == 1:
            self.settle(0, args, (<Source> self.sources[0]).make(args, outs))
        elif n:
            # All before the first is put in its place.
            made = [(<Source> source).make(args, outs) for source in self.sources]
            for i in range(n):
                self.settle(i, args, made[i])
        return result

    cdef int settle(self, Py_ssize_t i, tuple args, object value) except -1:
        """Put what a source made into its place."""
        cdef Place target = self.targets[i]
        if (<Source> self.sources[i]).written:
            copyto(target.get(args), value)
        else:
            target.put(args, value)
        return 0


cdef object copyto = np.copyto


cdef class Kind:
    """
    A kind of call that was tried: its words and what else must still be as it was.

    Attributes
    ----------
    plan : Plan
        What serves it; None for theirs.
    calls : int
        How many calls of this kind have come since.
    """
    cdef bytes words
    cdef bytes open
    cdef Py_ssize_t n
    cdef tuple watched
    cdef object kept
    cdef readonly Plan plan
    cdef readonly Py_ssize_t calls

    cdef bint fits(self, Words* w) except -1:
        cdef Py_ssize_t i
        cdef PyObject* found
        cdef tuple entry
        cdef const uint64_t* words = <const uint64_t*> PyBytes_AS_STRING(self.words)
        cdef const char* is_open = PyBytes_AS_STRING(self.open)
        if self.n != w.n:
            return False
        for i in range(self.n):
            if words[i] != w.words[i] and not is_open[i]:
                return False
        for entry in self.watched:
            names, name, value = entry
            if type(names) is dict:
                found = PyDict_GetItemWithError(<dict> names, name)
                now = None if found == NULL else <object> found
            else:
                now = names.get(name)
            if now is not value and not (type(now) is type(value) and type(now) in SCALARS and now == value):
                return False
        return True


cdef tuple SCALARS = (int, float, bool, str, complex)


cdef class Gate:
    """
    What a replaced function's guard asks.

    Parameters
    ----------
    code : code
        The function's, without its guard.
    begin : callable
        ``begin(gate, frame, args)`` when there is a call of a new kind: what `returned` is to hand to `end`, or None.
    end : callable
        ``end(gate, trial, result)`` when theirs has returned from it.

    Attributes
    ----------
    names : tuple of str, or None
        The attributes of the first argument that the body may read; None where it has none.
    methods : tuple of str
        Those of its class that it calls on the first argument, which may have its own.
    by_shape : bool
        Whether calls with arrays of other shapes are of another kind.
    is_open : bool
        Whether calls are looked at.
    serves : bool
        Whether calls are served, and not only learnt from.
    """
    cdef object begin
    cdef object end
    cdef list kinds
    cdef dict pending
    cdef readonly tuple names
    cdef readonly tuple methods
    cdef set types
    cdef public bint is_open
    cdef public bint serves
    cdef readonly bint by_shape
    cdef readonly object code

    def __init__(self, code, begin, end):
        self.code, self.begin, self.end = code, begin, end
        self.kinds, self.pending, self.is_open, self.serves = [], {}, True, True
        self.methods, self.types = (), set()

    cdef int describe(self, Words* w, tuple args) except -1:
        cdef Py_ssize_t i, first = 0
        cdef object kind
        w.n = w.n_arrays = 0
        w.by_shape = self.by_shape
        if self.names is not None and args:
            first = 1
            kind = type(args[0])
            put(w, <uint64_t> <size_t> <PyObject*> kind)
            for name in self.names:
                value = getattr(args[0], name, MISSING)
                if value is MISSING:
                    put(w, ABSENT)
                else:
                    put_object(w, value, 0)
            if self.methods:
                own = getattr(args[0], "__dict__", ())
                for name in self.methods:
                    put(w, name in own)
        for i in range(first, len(args)):
            put_object(w, args[i], 0)
        return 0

    def serve(self, *args):
        """The result; Ellipsis where the body is to run."""
        return self.answer(NULL, args)

    def serve_in(self, frame, *args):
        """The same, asked on behalf of a frame."""
        return self.answer(<PyObject*> frame, args)

    cdef object answer(self, PyObject* frame, tuple args):
        cdef Words w
        cdef Kind kind, found = None
        if not self.is_open or (trying and get_ident() in trying):
            return ...
        if self.pending:  # a body that raised has not come back
            self.pending.pop(id(<object> (frame if frame != NULL else frame_of_caller())), None)
        try:
            # The attributes of what nobody has looked at may be computed.
            known = self.names is None or type(args[0]) in self.types
            if known:
                self.describe(&w, args)
            for kind in self.kinds if known else ():
                if kind.fits(&w):
                    found = kind
                    break
        except (OverflowError, TypeError):  # too much to tell apart, or keys without a hash
            return ...
        if found is not None:
            found.calls += 1
            return found.plan.run(args) if found.plan is not None and self.serves else ...
        if is_followed():
            return ...
        if frame == NULL:
            frame = frame_of_caller()
        trial = self.begin(self, <object> frame, args)
        if trial is not None:
            self.pending[id(<object> frame)] = trial
        return ...

    def returned(self, result):
        """What the body returns, seen by a trial if there is one."""
        return self.returned_to(<object> frame_of_caller(), result) if self.pending else result

    def returned_to(self, frame, result):
        """The same, on behalf of a frame."""
        if self.pending and not (trying and get_ident() in trying):
            trial = self.pending.pop(id(frame), None)
            if trial is not None:
                self.end(self, trial, result)
        return result

    def look_at(self, names, bint by_shape, tuple methods=(), type of=None):
        """Tell calls apart by these attributes of the first argument, too, if it is of this type, and by all shapes."""
        if names != self.names or by_shape != self.by_shape or methods != self.methods:
            if names != self.names or methods != self.methods:
                self.types = set()
            self.names, self.by_shape, self.methods, self.kinds = names, by_shape, methods, []
        if of is not None:
            self.types.add(of)

    def kind_of(self, *args):
        """The kind of a call that was tried before; None of a new one."""
        cdef Words w
        cdef Kind kind
        try:
            self.describe(&w, args)
            for kind in self.kinds:
                if kind.fits(&w):
                    return kind
        except (OverflowError, TypeError):
            pass
        return None

    def learn(self, tuple args, Plan plan, tuple watched=(), tuple others=None, kept=None):
        """Serve such calls by a plan from now on, by theirs if it is None.

        `others` is the same call with what may be otherwise changed; `kept` is what must not die.
        """
        cdef Words w, changed
        cdef Kind kind = Kind.__new__(Kind)
        cdef Py_ssize_t i
        self.describe(&w, args)
        self.describe(&changed, args if others is None else others)
        kind.n, kind.plan, kind.watched, kind.kept = w.n, plan, watched, kept
        kind.words = PyBytes_FromStringAndSize(<char*> w.words, w.n * sizeof(uint64_t))
        kind.open = bytes([w.words[i] != changed.words[i] for i in range(w.n)])
        self.kinds.append(kind)
        return kind

    @property
    def plans(self):
        return [(<Kind> kind).plan for kind in self.kinds]


class closed:
    """While this is so, this thread's calls are no gate's."""

    def __enter__(self):
        self.was = get_ident() in trying
        trying.add(get_ident())

    def __exit__(self, *error):
        if not self.was:
            trying.discard(get_ident())


def within(cnp.ndarray a, double limit):
    """Whether no number of an array of float32 or float64 is larger than `limit`, or NaN."""
    cdef Py_ssize_t i, n = cnp.PyArray_SIZE(a)
    cdef bint good = True
    cdef const double* d
    cdef const float* f
    if not cnp.PyArray_IS_C_CONTIGUOUS(a) or cnp.PyArray_TYPE(a) not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        return bool(np.all(np.abs(a) <= limit))
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT64:
        d = <const double*> data(a)
        for i in range(n):
            good &= (d[i] <= limit) & (d[i] >= -limit)
    else:
        f = <const float*> data(a)
        for i in range(n):
            good &= (<double> f[i] <= limit) & (<double> f[i] >= -limit)
    return good
