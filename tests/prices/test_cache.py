import logging
import os
from datetime import date
from unittest.mock import Mock

import pandas as pd
import pytest

from pregao.errors import PricesUnavailable
from pregao.prices.cache import is_fresh, refuse_worse
from tests.prices.conftest import prices_of

CLOSES = [10.0, 11.123456789012345, 12.0]  # until Thursday 2024-01-04


def test_a_table_is_read_back_to_the_last_digit_and_nothing_is_logged(cache, vale3, caplog):
    assert cache.read(vale3) is None
    assert not cache.folder.exists()
    table = prices_of(CLOSES).assign(open=float("nan"))
    cache.write(vale3, table)
    with caplog.at_level(logging.DEBUG):
        pd.testing.assert_frame_equal(cache.read(vale3), table, check_exact=True)
    assert caplog.records == []
    (cache.folder / "plain").touch()
    assert cache.path(vale3).stat().st_mode == (cache.folder / "plain").stat().st_mode


@pytest.mark.parametrize("content", [b"", b"date,close\n", b"\xff\xfe", b"date,close\n2024-01-02,-1\n"])
def test_a_corrupt_file_is_ignored_and_kept_under_another_name(cache, vale3, content, caplog, monkeypatch):
    cache.folder.mkdir(parents=True)
    cache.path(vale3).write_bytes(content)
    assert cache.read(vale3) is None
    (renamed,) = cache.folder.glob("VALE3.corrupt-*")
    assert renamed.read_bytes() == content
    assert str(renamed) in caplog.text
    cache.path(vale3).write_bytes(content)
    monkeypatch.setattr(os, "replace", Mock(side_effect=PermissionError(13, "Permission denied")))
    assert cache.read(vale3) is None


@pytest.mark.parametrize(
    ("closes", "last_finished", "end", "fresh"),
    [
        (CLOSES, "2024-01-04", None, True),
        (CLOSES, "2024-01-05", None, False),
        (CLOSES, "2024-05-10", date(2024, 1, 4), True),
        (CLOSES, "2024-05-10", date(2024, 1, 5), False),
        (CLOSES, "2024-01-04", date(2030, 1, 1), True),
        ([*CLOSES, 11.0], "2024-05-10", date(2024, 1, 7), True),  # a Sunday
    ],
)
def test_a_history_is_fresh_if_it_reaches_the_last_session_until_the_end(
    vale3, finished, closes, last_finished, end, fresh
):
    finished(last_finished)
    assert is_fresh(prices_of(closes), vale3, end) == fresh


def test_a_download_may_lack_five_rows_but_no_session_at_the_end(vale3, tmp_path):
    stored = prices_of([10.0] * 20)
    for download, previous in (stored[:2], None), (stored, stored), (stored[5:], stored):
        refuse_worse(vale3, download, previous, tmp_path)
    for download, rows in (stored[6:], "14 rows"), (stored[:-1], "19 rows up to 2024-01-26"):
        with pytest.raises(PricesUnavailable, match=rf"{rows}.* has 20 rows"):
            refuse_worse(vale3, download, stored, tmp_path)
