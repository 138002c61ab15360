"""What is true: every op in plain NumPy, and the one place that documents it.

Every backend has these functions, with the same names and signatures, and agrees with them to the figures in
`fastnn.optable`.  Symbols: N rows (the batch), D features in, M features out, C classes.

Being what the kernels are held against, it takes the exponentials and logarithms of float32 in float64 and its sums in
the widest dtype there is, and rounds once: NumPy's own float32 exp and log are up to 4 ULP off, and the error of its
sums grows with their length.

Arrays of any layout and of any real dtype are accepted, masked arrays refused; results are C-contiguous, dtypes follow
NumPy's promotion, arguments are left unchanged.  `out` is an array of the result's shape and dtype, C-contiguous and
writeable, which is filled and returned; it may be an input itself but may not overlap one in part.  A zero-dimensional
result is a NumPy scalar.  Where terms near the largest float are summed, also for a mean, a partial sum may overflow,
as in `numpy.sum`; which one does depends on the backend.  ValueError for wrong shapes, TypeError for wrong dtypes,
IndexError for labels that are no class.
"""

from fastnn.reference.affine import add_bias as add_bias
from fastnn.reference.affine import affine as affine
from fastnn.reference.affine import affine_backward as affine_backward
from fastnn.reference.affine import bias_grad as bias_grad
from fastnn.reference.elementwise import relu as relu
from fastnn.reference.elementwise import relu_backward as relu_backward
from fastnn.reference.elementwise import relu_with_mask as relu_with_mask
from fastnn.reference.elementwise import sigmoid as sigmoid
from fastnn.reference.elementwise import sigmoid_backward as sigmoid_backward
from fastnn.reference.elementwise import step_product as step_product
from fastnn.reference.elementwise import tanh as tanh
from fastnn.reference.elementwise import tanh_backward as tanh_backward
from fastnn.reference.losses import cross_entropy_error as cross_entropy_error
from fastnn.reference.losses import cross_entropy_error_backward as cross_entropy_error_backward
from fastnn.reference.losses import mean_squared_error as mean_squared_error
from fastnn.reference.losses import mean_squared_error_backward as mean_squared_error_backward
from fastnn.reference.losses import sigmoid_cross_entropy as sigmoid_cross_entropy
from fastnn.reference.losses import sigmoid_cross_entropy_backward as sigmoid_cross_entropy_backward
from fastnn.reference.losses import softmax_cross_entropy as softmax_cross_entropy
from fastnn.reference.losses import softmax_cross_entropy_and_grad as softmax_cross_entropy_and_grad
from fastnn.reference.losses import softmax_cross_entropy_backward as softmax_cross_entropy_backward
from fastnn.reference.perceptron import mlp_descent as mlp_descent
from fastnn.reference.perceptron import mlp_gradient as mlp_gradient
from fastnn.reference.softmax import softmax as softmax
from fastnn.reference.softmax import softmax_backward as softmax_backward
from fastnn.reference.steps import adagrad as adagrad
from fastnn.reference.steps import adam as adam
from fastnn.reference.steps import momentum as momentum
from fastnn.reference.steps import nesterov as nesterov
from fastnn.reference.steps import rmsprop as rmsprop
from fastnn.reference.steps import sgd as sgd
