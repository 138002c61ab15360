"""``spin build`` and ``spin test``: an editable install brought up to date, and its tests."""

import os
import sys

import click
from spin import util

only = click.option("--only", metavar="NAME", help="One instruction set alone, as x86_64_v3: sooner done.")


@click.command(context_settings={"ignore_unknown_options": True})
@only
@click.argument("arguments", nargs=-1)
def build(only, arguments):
    """Compile what has changed, in parallel.  ARGUMENTS go to setuptools' build_ext, as --force."""
    if only:
        os.environ["FASTNN_ONLY"] = only
    util.run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", *arguments])


@click.command(context_settings={"ignore_unknown_options": True})
@only
@click.argument("arguments", nargs=-1)
@click.pass_context
def test(context, only, arguments):
    """Build, then run the tests, in parallel.  ARGUMENTS go to pytest, as a file's name or -k WORD."""
    context.invoke(build, only=only)
    util.run([sys.executable, "-m", "pytest", *arguments], replace=True)
