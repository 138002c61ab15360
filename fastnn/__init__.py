"""The layers of a hand-written NumPy network, as compiled kernels behind the same classes."""

from fastnn._kernels.memory import empty_cache, memory_stats, set_cache_limit
from fastnn._kernels.threads import get_num_threads, set_num_threads
from fastnn.backends import backends, get_backend, set_backend, show_config, use_backend
from fastnn.functions import (
    cross_entropy_error,
    identity_function,
    mean_squared_error,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    softmax,
    softmax_loss,
    step_function,
    sum_squared_error,
    tanh,
)
from fastnn.gradient import check_gradient, numerical_gradient
from fastnn.layers import (
    Affine,
    CrossEntropyError,
    IdentityWithLoss,
    Relu,
    Sigmoid,
    SigmoidWithLoss,
    Softmax,
    SoftmaxWithLoss,
    Tanh,
)
from fastnn.networks import MLP, Sequential, load
from fastnn.optimizers import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop
from fastnn.profiling import compare, profile
from fastnn.training import Trainer

__all__ = [
    "MLP",
    "SGD",
    "AdaGrad",
    "Adam",
    "Affine",
    "CrossEntropyError",
    "IdentityWithLoss",
    "Momentum",
    "Nesterov",
    "RMSprop",
    "Relu",
    "Sequential",
    "Sigmoid",
    "SigmoidWithLoss",
    "Softmax",
    "SoftmaxWithLoss",
    "Tanh",
    "Trainer",
    "backends",
    "check_gradient",
    "compare",
    "cross_entropy_error",
    "empty_cache",
    "get_backend",
    "get_num_threads",
    "identity_function",
    "load",
    "mean_squared_error",
    "memory_stats",
    "numerical_gradient",
    "profile",
    "relu",
    "relu_grad",
    "set_backend",
    "set_cache_limit",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "sigmoid_grad",
    "softmax",
    "softmax_loss",
    "step_function",
    "sum_squared_error",
    "tanh",
    "use_backend",
]

__version__ = "0.1.0"
