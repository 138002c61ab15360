# A chunk of a task: units first..last-1, which are its chunk number `chunk`.
ctypedef void (*Work)(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk) noexcept nogil

cdef void run(Work work, const void* task, Py_ssize_t n, Py_ssize_t length) noexcept nogil
