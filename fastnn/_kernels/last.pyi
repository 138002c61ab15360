import os
from collections.abc import Callable
from types import CodeType
from typing import Any, NoReturn

def call(what: Callable[..., Any] | CodeType, *arguments: Any) -> NoReturn: ...
def run_file(path: str | os.PathLike[str], name: bytes) -> None: ...
