"""``spin build`` and ``spin test``: an editable install brought up to date, and its tests."""

import sys

import click
from spin import util


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1)
def build(arguments):
    """Compile what has changed, in parallel.  ARGUMENTS go to setuptools' build_ext, as --force."""
    util.run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", *arguments])


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1)
@click.pass_context
def test(context, arguments):
    """Build, then run the tests, in parallel.  ARGUMENTS go to pytest, as a file's name or -k WORD."""
    context.invoke(build)
    util.run([sys.executable, "-m", "pytest", *arguments], replace=True)
