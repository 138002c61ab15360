# A part of a task: units first..last-1, which are its piece number `piece`.
ctypedef void (*Part)(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil

cdef void run(Part part, const void* task, Py_ssize_t n, Py_ssize_t length) noexcept nogil
