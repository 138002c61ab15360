from fastnn.reference import add_bias as add_bias
from fastnn.reference import affine as affine
from fastnn.reference import affine_backward as affine_backward
from fastnn.reference import bias_grad as bias_grad
from fastnn.reference import cross_entropy_error as cross_entropy_error
from fastnn.reference import cross_entropy_error_backward as cross_entropy_error_backward
from fastnn.reference import relu as relu
from fastnn.reference import relu_backward as relu_backward
from fastnn.reference import relu_with_mask as relu_with_mask
from fastnn.reference import sigmoid as sigmoid
from fastnn.reference import sigmoid_backward as sigmoid_backward
from fastnn.reference import softmax as softmax
from fastnn.reference import softmax_backward as softmax_backward
from fastnn.reference import softmax_cross_entropy as softmax_cross_entropy
from fastnn.reference import softmax_cross_entropy_and_grad as softmax_cross_entropy_and_grad
from fastnn.reference import softmax_cross_entropy_backward as softmax_cross_entropy_backward

compiled_for: str
