from fastnn.reference import *  # noqa: F403
