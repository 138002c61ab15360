"""The compiled modules, which only compiled modules import, or which are chosen at run time."""

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

package = Path(__file__).parents[1]
paths = [path for suffix in EXTENSION_SUFFIXES for path in package.rglob(f"*{suffix}")]
hiddenimports = sorted({".".join((*p.relative_to(package.parent).parts[:-1], p.name.split(".")[0])) for p in paths})
