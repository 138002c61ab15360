from fastnn._kernels.products import as_factor as as_factor
from fastnn._kernels.targets import class_indices as class_indices
from fastnn.reference import *  # noqa: F403
