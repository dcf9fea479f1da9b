import errno
import logging
import os
from datetime import date

import pandas as pd
import pytest

from pregao.errors import PricesUnavailable
from pregao.prices.cache import Cache, is_fresh, refuse_shorter

CLOSES = [10.0, 11.123456789012345, 12.0]


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "data")


def test_what_is_written_is_read_back_to_the_last_digit(cache, vale, prices_of):
    table = prices_of(CLOSES).assign(open=float("nan"))
    cache.write(vale, table)
    pd.testing.assert_frame_equal(cache.read(vale), table, check_exact=True)
    assert os.listdir(cache.folder) == ["VALE3.csv"]


def test_a_stock_without_a_file_has_no_history(cache, vale):
    assert cache.read(vale) is None
    assert not cache.folder.exists()


@pytest.mark.parametrize(
    "content", [b"", b"date,close\n", b"date,close\n2024-01-02,6", b"\xff\xfe", b"date,close\n2024-01-02,-1\n"]
)
def test_a_corrupt_file_counts_as_absent_and_is_kept_aside(cache, vale, content, caplog):
    cache.folder.mkdir()
    cache.path(vale).write_bytes(content)
    usable = content.endswith(b"6")
    assert (cache.read(vale) is not None) == usable
    if not usable:
        (aside,) = cache.folder.iterdir()
        assert aside.read_bytes() == content
        assert aside.name.startswith("VALE3.corrupt-")
        assert str(aside) in caplog.text


def test_a_corrupt_file_that_cannot_be_moved_counts_as_absent_too(cache, vale, monkeypatch, caplog):
    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    cache.folder.mkdir()
    cache.path(vale).write_text("nonsense")
    monkeypatch.setattr(os, "replace", denied)
    assert cache.read(vale) is None
    assert "it could not be renamed (Permission denied)" in caplog.text


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_former_file_and_no_temporary_one(cache, vale, prices_of, monkeypatch, failing):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    cache.write(vale, prices_of(CLOSES))
    before = cache.path(vale).read_bytes()
    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left"):
        cache.write(vale, prices_of([1.0, 2.0]))
    assert cache.path(vale).read_bytes() == before
    assert os.listdir(cache.folder) == ["VALE3.csv"]


def test_the_file_has_the_permissions_of_any_new_file(cache, vale, prices_of):
    cache.write(vale, prices_of(CLOSES))
    plain = cache.folder / "plain"
    plain.touch()
    assert cache.path(vale).stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    ("last_finished", "end", "fresh"),
    [
        ("2024-01-04", None, True),
        ("2024-01-05", None, False),
        ("2024-05-10", date(2024, 1, 4), True),
        ("2024-05-10", date(2024, 1, 1), True),
        ("2024-05-10", date(2024, 1, 5), False),
        ("2024-01-04", date(2030, 1, 1), True),
    ],
)
def test_a_cache_is_fresh_when_it_reaches_the_last_session_that_counts(
    vale, prices_of, finished, last_finished, end, fresh
):
    finished(last_finished)
    assert is_fresh(prices_of(CLOSES), vale, end) == fresh  # ends on Thursday 2024-01-04


def test_a_cache_up_to_friday_covers_an_end_on_sunday(vale, prices_of, finished):
    finished("2024-05-10")
    assert is_fresh(prices_of([*CLOSES, 11.0]), vale, date(2024, 1, 7))


def test_a_download_may_lack_a_few_rows_and_no_session_at_the_end(vale, prices_of, tmp_path):
    kept = prices_of([10.0] * 20)
    refuse_shorter(vale, kept.iloc[:2], None, tmp_path)
    refuse_shorter(vale, kept, kept, tmp_path)
    refuse_shorter(vale, kept.iloc[5:], kept, tmp_path)
    with pytest.raises(PricesUnavailable, match=r"an incomplete answer of 14 rows up to .*The file is unchanged\."):
        refuse_shorter(vale, kept.iloc[6:], kept, tmp_path)
    with pytest.raises(PricesUnavailable, match=r"incomplete answer of 19 rows up to 2024-01-26, where .* has 20 rows"):
        refuse_shorter(vale, kept.iloc[:-1], kept, tmp_path)


def test_reading_a_good_file_logs_nothing(cache, vale, prices_of, caplog):
    cache.write(vale, prices_of(CLOSES))
    with caplog.at_level(logging.DEBUG):
        cache.read(vale)
    assert caplog.records == []
