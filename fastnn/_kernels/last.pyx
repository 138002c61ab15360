"""The last call of a process, with no frame of Python's under it, as the interpreter itself runs a script.

When an exception has ended every frame, the interpreter calls `sys.excepthook`, and what is compiled has no frame of
its own.  So the script's stack and tracebacks are its alone, and what it ends with is shown by the interpreter.
"""

import builtins
import sys
from contextlib import suppress
from types import CodeType

from cpython.exc cimport PyErr_ExceptionMatches, PyErr_Fetch, PyErr_Occurred, PyErr_Restore
from cpython.ref cimport PyObject
from libc.stdio cimport FILE

cdef extern from "Python.h":
    # Not declared to raise, for Cython would put this file into the traceback.
    PyObject* PyObject_CallObject(object function, object arguments)
    PyObject* PyEval_EvalCode(object code, object names, object same_names)
    void PyErr_Print()
    void Py_XDECREF(PyObject* o)
    void Py_Exit(int status)
    FILE* _Py_fopen_obj(object path, const char* mode) except NULL
    int PyRun_SimpleFileEx(FILE* file, const char* name, int close_it)

cdef object last = None


class Over(BaseException):
    """Raised to end all that runs."""


def call(what, *arguments):
    """End all that runs, call `what` or run it if it is code, and end the process as Python does after it.

    Nothing that runs may catch the exception that ends it.
    """
    global last
    last = what, arguments, sys.excepthook
    sys.excepthook = call_last
    raise Over


def run_file(path, bytes name):
    """Run a file as Python does that is started with it; of a file that is no script it shows what is wrong."""
    if PyRun_SimpleFileEx(_Py_fopen_obj(path, "rb"), name, True):
        sys.exit(1)


cdef flush():
    for stream in (sys.stderr, sys.stdout):
        with suppress(Exception):
            stream.flush()


def call_last(kind, value, trace):
    global last
    cdef PyObject *raised = NULL
    cdef PyObject *its_value = NULL
    cdef PyObject *its_trace = NULL
    what, arguments, sys.excepthook = last
    last = None
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):
        vars(sys).pop(name, None)
    # What anybody here held would outlive the end of the process.
    while trace is not None:
        trace.tb_frame.clear()
        trace = trace.tb_next
    if isinstance(what, CodeType):
        Py_XDECREF(PyEval_EvalCode(what, arguments[0], arguments[0]))
        PyErr_Fetch(&raised, &its_value, &its_trace)
        flush()
        PyErr_Restore(raised, its_value, its_trace)
    else:
        Py_XDECREF(PyObject_CallObject(what, arguments))
    arguments = None
    cdef bint failed = PyErr_Occurred() is not NULL
    cdef bint interrupted = failed and PyErr_ExceptionMatches(KeyboardInterrupt)
    if failed:
        PyErr_Print()  # which ends the process if it is a SystemExit
    if isinstance(what, CodeType):
        for name in ("__file__", "__cached__"):
            vars(sys.modules["__main__"]).pop(name, None)
    if not interrupted:
        Py_Exit(failed)
    # For this the interpreter ends by SIGINT, once it has done all else.
    with suppress(KeyboardInterrupt):
        builtins.exec("raise KeyboardInterrupt", {})
