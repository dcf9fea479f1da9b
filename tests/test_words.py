"""README.md and README.pt-BR.md say the same; CONTRIBUTING.md names what is there."""

import re
from collections import Counter

import pytest

from pregao.settings import REPOSITORY
from tests.test_recipes import FILES

ENGLISH, PORTUGUESE = ((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "README.pt-BR.md"))
BLOCK = re.compile(r"^```(.*?)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
BOTH = pytest.mark.parametrize("number", range(len(re.findall("^#", BLOCK.sub("", ENGLISH), flags=re.MULTILINE))))


def commands(text):
    """The blocks; of one that is in no language, what stands before its explanations."""
    return [
        (language, body if language else [line.partition("  ")[0] for line in body.splitlines()])
        for language, body in BLOCK.findall(text)
    ]


def headings(text):
    return re.findall(r"^#+", BLOCK.sub("", text), flags=re.MULTILINE)


def sections(text):
    return re.split(r"^#+ ", BLOCK.sub("", text), flags=re.MULTILINE)[1:]


def tables(text):
    """Of each table its rows; of each row its cells."""
    found = re.findall(r"(?:^\|.*\|\n)+", BLOCK.sub("", text), flags=re.MULTILINE)
    return [[line.strip("|").split("|") for line in table.splitlines()] for table in found]


def figures(text):
    """Numbers without their decimal signs, which differ; those of an address do not count, since links are compared."""
    words = re.sub(r"\]\([^)]*\)", "", text)
    return Counter(re.sub(r"[.,]", "", number) for number in re.findall(r"\d(?:[\d.,]*\d)?", words))


def code(text):
    return Counter("".join(found.split()) for found in re.findall(r"`([^`]+)`", text))


def links(text):
    return re.findall(r"\]\(([^)]+)\)", text)


def test_the_commands_are_the_same():
    assert commands(ENGLISH) == commands(PORTUGUESE)


def test_the_headings_have_the_same_order():
    assert headings(ENGLISH) == headings(PORTUGUESE)


def test_the_tables_have_the_same_size_and_figures():
    assert [[len(row) for row in table] for table in tables(ENGLISH)] == [
        [len(row) for row in table] for table in tables(PORTUGUESE)
    ]
    for ours, theirs in zip(tables(ENGLISH), tables(PORTUGUESE), strict=True):
        assert [[figures(cell) for cell in row] for row in ours] == [[figures(cell) for cell in row] for row in theirs]


def test_the_links_lead_to_the_same_places_and_to_each_other():
    ours, theirs = links(ENGLISH), links(PORTUGUESE)
    assert (ours[0], theirs[0]) == ("README.pt-BR.md", "README.md")
    assert ours[1:] == theirs[1:]
    for target in [*ours, *links((REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8"))]:
        assert target.startswith("https://") or (REPOSITORY / target).exists(), target


@BOTH
def test_a_section_has_the_same_figures_and_names(number):
    ours, theirs = sections(ENGLISH)[number], sections(PORTUGUESE)[number]
    assert figures(ours) == figures(theirs)
    assert code(ours) == code(theirs)


def test_the_pictures_are_small_enough_to_be_read_on_a_telephone():
    pictures = [target for target in links(ENGLISH) if target.endswith((".png", ".svg"))]
    assert len(pictures) >= 4
    assert all((REPOSITORY / picture).stat().st_size < 500_000 for picture in pictures)


def test_contributing_is_short_and_names_files_that_exist():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert len(prose.splitlines()) <= 100
    made = {path for path, _ in FILES}
    for path in re.findall(r"`((?:src|tests|conf|benchmarks)\b[\w/.]*)`", prose):
        assert path in made or (REPOSITORY / path).exists(), path
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= set(targets)
