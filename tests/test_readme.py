"""README.md and the pages that it leads to: examples run and print, links lead somewhere, commands are there."""

import re
import sys
from pathlib import Path

import processes
import pytest

ROOT = Path(__file__).resolve().parents[1]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)]*)\)")


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def text_of(page):
    return page.read_text(encoding="utf-8")


def targets(page):
    """The files that a page links to, with the heading of theirs that is meant, if any."""
    for link in LINK.findall(FENCED.sub("", text_of(page))):
        path, _, heading = link.partition("#")
        yield ((page.parent / path).resolve() if path else page), heading


PAGES = [ROOT / "README.md"]
for page in PAGES:  # which grows meanwhile
    for target, _ in targets(page):
        if target.suffix == ".md" and target.exists() and target not in PAGES:
            PAGES.append(target)

# Contributors' pages show pieces of files.
EXAMPLES = [
    pytest.param(code, id=f"{name_of(page)}-{i}")
    for page in PAGES
    if page.parent.name != ".github"
    for i, (language, code) in enumerate(FENCED.findall(text_of(page)))
    if language == "python"
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs_alone_and_prints(code, tmp_path):
    run = processes.run(sys.executable, "-W", "error", "-c", code, cwd=tmp_path)
    assert run.returncode == 0 and run.stdout.strip() and not run.stderr, run.stdout + run.stderr


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def headings(page):
    """As GitHub makes them into anchors."""
    lines = re.findall(r"^#+ (.*)$", FENCED.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@every_page
def test_links_lead_to_files_and_headings(page):
    for target, heading in targets(page):
        assert target.exists(), target
        assert not heading or heading in headings(target), f"{target}#{heading}"


def test_the_two_commands_are_there():
    blocks = [block for language, block in FENCED.findall(text_of(ROOT / "README.md")) if not language]
    commands = "".join(blocks).splitlines()
    assert 'pip install ".[demo]" && fastnn compare' in commands
    assert 'pip install ".[test]" && pytest' in commands


@every_page
def test_the_other_project_is_not_installed(page):
    assert not re.search(r"pip install (?!\S*fastnn-kernels)\S*fastnn", text_of(page))
