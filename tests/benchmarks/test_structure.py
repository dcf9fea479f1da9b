from structure import counts

from pregao.settings import REPOSITORY


def test_this_checkout_has_no_upward_import_and_few_private_names():
    found = counts(REPOSITORY)
    assert found["of them upward or across"] == 0
    assert found["modules at the root"] <= 7
    assert found["private names of libraries"] <= 4
