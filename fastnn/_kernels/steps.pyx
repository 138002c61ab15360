"""The steps of the optimizers."""

from libc.math cimport INFINITY

from fastnn._kernels.arrays cimport COMPILED_FOR
from fastnn._kernels.boundary cimport Loop, fall_back
cimport fastnn._kernels.loops.steps as loops
from fastnn._kernels.targets cimport epsilon
from fastnn._kernels.updates cimport adam_rate, finite, update, update_op

from fastnn import arguments
from fastnn.reference.steps import STEP_EPS

compiled_for = COMPILED_FOR.decode()

SGD = update_op("sgd", ("p",), <Loop> loops.sgd[float], <Loop> loops.sgd[double])
MOMENTUM = update_op("momentum", ("p", "v"), <Loop> loops.momentum[float], <Loop> loops.momentum[double])
NESTEROV = update_op("nesterov", ("p", "v"), <Loop> loops.nesterov[float], <Loop> loops.nesterov[double])
ADAGRAD = update_op("adagrad", ("p", "h"), <Loop> loops.adagrad[float], <Loop> loops.adagrad[double])
RMSPROP = update_op("rmsprop", ("p", "h"), <Loop> loops.rmsprop[float], <Loop> loops.rmsprop[double])
ADAM = update_op("adam", ("p", "m", "v"), <Loop> loops.adam[float], <Loop> loops.adam[double])


def sgd(p, dp, lr, *, out=None):
    cdef double[1] constants = [finite("lr", lr)]
    updated = update(SGD, p, None, None, dp, constants, out)
    return fall_back("sgd")(p, dp, lr, out=out) if updated is None else updated


def momentum(p, v, dp, lr, momentum, *, out=None):
    cdef double[2] constants = [finite("lr", lr), finite("momentum", momentum)]
    updated = update(MOMENTUM, p, v, None, dp, constants, out)
    return fall_back("momentum")(p, v, dp, lr, momentum, out=out) if updated is None else updated


def nesterov(p, v, dp, lr, momentum, form=1, *, out=None):
    cdef bint is_form = type(form) is int and 1 <= form <= 2
    cdef double[3] constants = [
        finite("lr", lr), finite("momentum", momentum), form if is_form else arguments.whole_number("form", form, 1, 2)
    ]
    updated = update(NESTEROV, p, v, None, dp, constants, out)
    return fall_back("nesterov")(p, v, dp, lr, momentum, form, out=out) if updated is None else updated


def adagrad(p, h, dp, lr, eps=STEP_EPS, *, out=None):
    cdef double[2] constants = [finite("lr", lr), epsilon(eps)]
    updated = update(ADAGRAD, p, h, None, dp, constants, out)
    return fall_back("adagrad")(p, h, dp, lr, eps, out=out) if updated is None else updated


def rmsprop(p, h, dp, lr, decay_rate, eps=STEP_EPS, *, out=None):
    cdef double[3] constants = [finite("lr", lr), finite("decay_rate", decay_rate), epsilon(eps)]
    updated = update(RMSPROP, p, h, None, dp, constants, out)
    return fall_back("rmsprop")(p, h, dp, lr, decay_rate, eps, out=out) if updated is None else updated


cdef int adam_constants(object lr, object beta1, object beta2, object iter, double* constants) except -1:
    """The rate at this step, beta1 and beta2: as arguments.adam_rate has it, without running any Python as a rule."""
    if type(iter) is int and 0 < iter < 1 << 31 and type(lr) is float and type(beta1) is float and type(beta2) is float:
        constants[0], constants[1], constants[2] = lr, beta1, beta2
        if -INFINITY < constants[0] < INFINITY and 0 <= constants[1] < 1 and 0 <= constants[2] < 1:
            constants[0] = adam_rate(constants[0], constants[1], constants[2], <double> iter)
            return 0
    constants[0], constants[1], constants[2] = arguments.adam_rate(lr, beta1, beta2, iter)
    return 0


def adam(p, m, v, dp, lr, beta1, beta2, iter, eps=STEP_EPS, *, out=None):
    cdef double[5] constants = [0, 0, 0, 0, 0]
    adam_constants(lr, beta1, beta2, iter, constants)
    constants[4] = epsilon(eps)
    updated = update(ADAM, p, m, v, dp, constants, out)
    return fall_back("adam")(p, m, v, dp, lr, beta1, beta2, iter, eps, out=out) if updated is None else updated
