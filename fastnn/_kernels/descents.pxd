from fastnn._kernels.chains cimport ChainOps

cdef tuple descent(
    ChainOps ops, object x, object t, object order, object batch_size, object lr, tuple params, object step,
    object constants, object activation, object loss, object eps, object out
)
