cimport numpy as cnp

cdef bint is_matrix(object x) noexcept
cdef bint is_row(object b, cnp.ndarray W) noexcept
cdef bint can_be_multiplied(object x, object W) noexcept
cdef cnp.ndarray behaved(cnp.ndarray x, int type_num)
cdef cnp.ndarray as_matrix(cnp.ndarray x, Py_ssize_t N, Py_ssize_t K)
cdef cnp.ndarray matrix_of(object out, Py_ssize_t N, Py_ssize_t M)
cdef cnp.ndarray transposed(cnp.ndarray x)
cdef cnp.ndarray product(cnp.ndarray a, cnp.ndarray b, object out)
