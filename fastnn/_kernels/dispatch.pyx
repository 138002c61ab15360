"""The functions of `fastnn.ops`: each hands its arguments on, as they are, to the op of its name in the active backend.

They are built-in functions, since one more frame of Python would cost as much as a small op.
"""

from cpython.mem cimport PyMem_Malloc
from cpython.object cimport PyObject
from libc.string cimport memcpy

import inspect
from types import ModuleType

cdef extern from "Python.h":
    ctypedef PyObject* (*Call)(PyObject* self, PyObject* const* args, Py_ssize_t n, PyObject* names) except NULL
    ctypedef struct PyCFunction:
        pass
    ctypedef struct PyMethodDef:
        const char* ml_name
        PyCFunction ml_meth
        int ml_flags
        const char* ml_doc
    enum:
        METH_FASTCALL
        METH_KEYWORDS
    object PyCFunction_NewEx(PyMethodDef* definition, object self, object module)
    int PyContextVar_Get(object var, PyObject* default, PyObject** value) except -1
    PyObject* PyObject_Vectorcall(object function, PyObject* const* args, size_t n, PyObject* names) except NULL
    void Py_DECREF(PyObject* o)

cdef extern from *:
    """
    #define fastnn_as_method(call) ((PyCFunction)(void (*)(void))(call))
    """
    PyCFunction as_method "fastnn_as_method" (Call call)


cdef class Target:
    """Where a call goes."""
    cdef str name
    cdef object chosen
    cdef object process


class Op(ModuleType):
    """What a function of `fastnn.ops` is bound to: a module, as for any built-in function, which knows its target."""

    __slots__ = ("target",)


cdef PyObject* call(PyObject* self, PyObject* const* args, Py_ssize_t n, PyObject* names) except NULL:
    cdef Target target = (<object> self).target
    cdef PyObject* backend
    PyContextVar_Get(target.chosen, NULL, &backend)
    if backend == NULL:
        return PyObject_Vectorcall(getattr(target.process.backend, target.name), args, n, names)
    try:
        return PyObject_Vectorcall(getattr(<object> backend, target.name), args, n, names)
    finally:
        Py_DECREF(backend)


cdef char* kept(str text) except NULL:
    """For good: a built-in function points to its name and text."""
    cdef bytes encoded = text.encode()
    cdef char* memory = <char*> PyMem_Malloc(len(encoded) + 1)
    if memory == NULL:
        raise MemoryError
    memcpy(memory, <char*> encoded, len(encoded) + 1)
    return memory


def function(op, chosen, process):
    """
    A function with the name, signature and documentation of an op.

    Parameters
    ----------
    op : function
        Of the reference.
    chosen : ContextVar
        The backend of a thread or task.
    process : object
        Its attribute `backend` is the backend where nothing has been chosen.
    """
    cdef Target target = Target.__new__(Target)
    target.name, target.chosen, target.process = op.__name__, chosen, process
    module = Op("fastnn.ops")
    module.target = target
    signature = inspect.signature(op)
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    signature = signature.replace(parameters=parameters, return_annotation=signature.empty)
    cdef PyMethodDef* definition = <PyMethodDef*> PyMem_Malloc(sizeof(PyMethodDef))
    if definition == NULL:
        raise MemoryError
    definition.ml_name = kept(op.__name__)
    definition.ml_meth = as_method(call)
    definition.ml_flags = METH_FASTCALL | METH_KEYWORDS
    definition.ml_doc = kept(f"{op.__name__}{signature}\n--\n\n{op.__doc__}")
    return PyCFunction_NewEx(definition, module, "fastnn.ops")
