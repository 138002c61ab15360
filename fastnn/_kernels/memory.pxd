cimport numpy as cnp

cdef enum:
    LARGE = 1 << 17  # bytes from which a result comes from the block cache; smaller ones stay with NumPy's allocator

cdef cnp.ndarray large(int ndim, cnp.npy_intp* shape, int type_num)
