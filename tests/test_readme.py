"""README and docs/: every code block runs, every link leads somewhere, every figure is a measured one."""

import re
import shlex
import subprocess
import sys
from collections import Counter

import pytest

from pregao.prices.calendar import last_finished_session
from pregao.settings import REPOSITORY
from tests.conftest import environment, random_walk
from tests.golden import in_one_process
from tests.test_recipes import FILES

README, PORTUGUESE, CONTRIBUTING = (REPOSITORY / name for name in ("README.md", "README.pt-BR.md", "CONTRIBUTING.md"))
PAGES = [README, *sorted((REPOSITORY / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def text(page):
    return page.read_text(encoding="utf-8")


def blocks(language, pages=PAGES):
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
    return [block for page in pages for block in pattern.findall(text(page))]


def lines(language, pages=PAGES):
    """The lines of all blocks of a language, each once."""
    return list(dict.fromkeys(line for block in blocks(language, pages) for line in block.splitlines() if line))


def prose(page):
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


def tables(file):
    """The tables of a file in benchmarks/, as lists of rows of cells; the first row is the head."""
    found = re.findall(r"(?:^\|.*\n)+", text(REPOSITORY / "benchmarks" / file), flags=re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()] for table in found]


def rows(file, column):
    """The rows of the one table that has a column, by their first cell."""
    [(_, _, *found)] = [table for table in tables(file) if column in table[0]]
    return {row[0]: row for row in found}


def figures(found):
    """Numbers without their decimal signs, which differ between the languages."""
    return Counter(re.sub(r"[.,]", "", number) for number in re.findall(r"\d(?:[\d.,]*\d)?", LINK.sub("", found)))


AFTER_TRAIN = ".venv/bin/pregao predict stock=SP500"
COMMANDS = [line for line in lines("sh") if not line.startswith("make ") and line != AFTER_TRAIN]
TARGETS = [line for line in lines("sh") if line.startswith("make ")]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A home whose cache is fresh, as it is after a download: no test machine reaches Yahoo."""
    home = tmp_path_factory.mktemp("reader")
    (home / "data").mkdir()
    last = str(last_finished_session("BVMF"))
    for seed, stock in enumerate(("VALE3", "PETR4")):
        table = random_walk(1300, seed, last)
        table.assign(adj_close=table["close"]).to_csv(home / "data" / f"{stock}.csv", index=False)
    return home


def test_every_block_is_of_a_kind_that_is_run():
    kinds = {kind for page in PAGES for kind in re.findall(r"^```(\S.*)$", text(page), flags=re.MULTILINE)}
    assert {kind for kind in kinds if not kind.startswith("{")} == {"sh", "sh api", "python", "text"}


@pytest.mark.slow
@pytest.mark.parametrize("lines", [COMMANDS[::2], COMMANDS[1::2]], ids=["first half", "second half"])
def test_every_command_works_as_it_is_written(reader, subtests, lines):
    scripts = {"pregao": ["pregao.cli.__main__"], "python": []}
    asked = [scripts[program] + words for program, *words in map(shlex.split, lines)]
    asked = [[name.removesuffix(".py"), *words] for name, *words in asked]
    for line, (code, out) in zip(lines, in_one_process(asked, reader), strict=True):
        with subtests.test(line):
            assert code == 0
            assert out.strip()


@pytest.mark.slow
def test_make_train_prints_the_shown_table_and_its_model_answers(reader):
    after = ["pregao.cli.__main__", *AFTER_TRAIN.split()[1:]]
    (_, table), (_, forecast) = in_one_process([["train", "experiment=quickstart"], after], reader, COLUMNS="100")
    assert "2019-01-15" in forecast
    printed, [shown] = table.splitlines(), [block.splitlines() for block in blocks("text", [README])]
    assert [line.rstrip() for line in printed[:4]] == shown[:4]
    for ours, theirs in zip(printed[4:], shown[4:], strict=False):
        (name, *found), (expected_name, *expected) = (re.split(r"\s{2,}", line.strip()) for line in (ours, theirs))
        assert name == expected_name
        # another processor may round the training otherwise
        assert [*map(float, found)] == pytest.approx([*map(float, expected)], rel=0.02, abs=0.2)
    script = "\n".join(blocks("python"))
    done = subprocess.run([sys.executable, "-c", script], env=environment(reader), capture_output=True, text=True)
    assert "upper_90" in done.stdout, done.stderr
    assert "test_mape" in done.stdout, done.stderr


def test_the_readme_is_short_and_its_first_picture_is_on_the_first_screen():
    assert len(text(README).splitlines()) <= 150
    assert "](docs/pictures/" in "\n".join(text(README).splitlines()[:40])


def test_both_languages_have_the_same_commands_links_and_figures():
    for language in ("sh", "sh api", "text"):
        assert blocks(language, [README]) == blocks(language, [PORTUGUESE])
    ours, theirs = (LINK.findall(text(page)) for page in (README, PORTUGUESE))
    assert (ours[0], theirs[0]) == ("README.pt-BR.md", "README.md")
    assert Counter(ours[1:]) == Counter(theirs[1:])
    assert figures(prose(README)) == figures(prose(PORTUGUESE))


@pytest.mark.parametrize("page", [*PAGES, PORTUGUESE, CONTRIBUTING], ids=lambda page: page.name)
def test_a_link_leads_to_a_file_and_a_named_path_exists(page):
    for target in LINK.findall(prose(page)):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_scores_of_vale3_are_those_that_were_measured():
    [found] = [table for table in tables("reference_split.md") if "RMSE R$" in table[0]]
    measured = {(row[0], row[1]): row for row in found}
    _, _, rmse, naive_rmse, mean, naive_mean, mape, naive_mape, skill, *_ = measured["VALE3", "default"]
    recipe = measured["VALE3", "`experiment=reference`"]
    leak = rows("published.md", "by seed")["`experiment=published`"]
    for page in (README, REPOSITORY / "docs/results.md"):
        assert f"| **{rmse}** | **{mean}** | **{mape}** | **{shown(skill)}** |" in text(page)
        assert f"| {naive_rmse} | {naive_mean} | {naive_mape} | 0.00 |" in text(page)
        assert f"| {recipe[2]} | {recipe[4]} | {recipe[6]} |" in text(page)
        assert f"| – | {leak[1]} | {leak[5]} |" in text(page)


RESULTS = REPOSITORY / "docs/results.md"
PERIODS = ("from 2023-11-24", "2022", "2023", "2024", "2025")
BARS = ("log-HAR", "EWMA", "EWMA + width", "GJR-GARCH", "GJR-GARCH + width")
WALK = ("log-HAR + width", *BARS)
SPLIT = ("fine-tuned", "shared", "GJR-GARCH refitted", *BARS)
PARTS = (
    *("fine-tuned", "shared", "its own", "shared, mean of 3 seeds", "shared, pinball loss", "shared, `model=ensemble`"),
    *("shared, `model=har`", "shared, `model=har`, no market", "shared, `model=har`, no ranges"),
    *("shared, version 0.1", "shared, version 0.1, no recurrence", "shared, version 0.1, no online width"),
)


@pytest.mark.parametrize(
    ("page", "file", "column", "names", "columns"),
    [
        (README, "walk_forward.md", "cutoffs", PERIODS, (2, 4, 5)),
        (RESULTS, "walk_forward.md", "cutoffs", (*PERIODS, "before 2023-11-24"), (2, 4, 5)),
        (RESULTS, "walk_forward.md", "saved against %", (*WALK, "GAS-t", "last close", "version 0.1"), (1, 2, 3)),
        (RESULTS, "walk_forward.md", "worst month of targets", ("shared", "version 0.1", *WALK), (1, 2, 3)),
        (RESULTS, "reference_split.md", "worst", SPLIT, (4, 5, 11, 9, 7, 6)),
        (RESULTS, "reference_split.md", "worst", PARTS, (2, 4, 11, 9, 6)),
    ],
)
def test_the_figures_of_the_bands_are_those_that_were_measured(page, file, column, names, columns):
    measured = rows(file, column)
    for name in names:
        found = " | ".join(shown(measured[name][column]) for column in columns)
        assert f"| {found} |" in text(page), name


def shown(cell):
    """A figure with a minus sign; a month is unchanged."""
    return re.sub(r"(?<!\d)-(?=\d)", "−", cell)


@pytest.mark.parametrize(("file", "name"), [("walk_forward.md", "log-HAR + width"), ("reference_split.md", "log-HAR")])
def test_the_strongest_baseline_is_the_one_that_the_pages_name(file, name):
    assert re.findall(r"^Strongest baseline: ([^.]+)\.", text(REPOSITORY / "benchmarks" / file), re.MULTILINE) == [name]


def test_contributing_names_files_and_targets_that_exist():
    made = {path for path, _ in FILES}
    for path in re.findall(r"`((?:src|tests|conf|benchmarks)\b[\w/.]*)`", prose(CONTRIBUTING)):
        assert path in made or (REPOSITORY / path).exists(), path
    targets = re.findall(r"^([a-z-]+):", text(REPOSITORY / "Makefile"), flags=re.MULTILINE)
    named = [name for page in (*PAGES, CONTRIBUTING) for name in re.findall(r"`make ([a-z-]+)[` ]", text(page))]
    assert {line.split()[1] for line in TARGETS} | set(named) <= set(targets)
