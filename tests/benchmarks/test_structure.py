import ast
from pathlib import Path

from structure import counts, defined, private, upward

from pregao.settings import REPOSITORY


def test_this_checkout_imports_nothing_upward_and_few_private_names():
    found = counts(REPOSITORY)
    assert found["of them upward or across"] == 0
    assert found["modules at the root"] <= 7
    assert found["private names of libraries"] <= 4


def test_an_upward_import_is_found_whatever_its_form():
    source = "import pregao.api.app\ndef late():\n    from pregao.api import app\nfrom pregao.errors import PregaoError"
    assert list(upward(Path("data/windows.py"), ast.parse(source))) == ["pregao.api.app"] * 2
    assert not list(upward(Path("cli/serve.py"), ast.parse(source)))


def test_a_private_name_is_one_that_the_package_does_not_define():
    own = "class A:\n    def __init__(self):\n        self._mine = 1\n    def _start(self):\n        super()._start()\n"
    tree = ast.parse(own + "from lib._inside import thing\nother._mine, other._theirs\n")
    assert set(private(tree, set(defined(tree)))) == {"lib._inside.thing", "_start", "_theirs"}
