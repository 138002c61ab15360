from fastnn._kernels.generic import *  # noqa: F403
from fastnn._kernels.generic import compiled_for as compiled_for
