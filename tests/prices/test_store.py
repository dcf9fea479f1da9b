"""The store: one stock's quotes from many files."""

import os
from datetime import date

import pyarrow.parquet as pq
import pytest

from pregao.errors import BadQuotesFile
from pregao.prices.cotahist import store as module
from pregao.prices.cotahist.store import Store
from pregao.prices.sources.b3 import B3Source
from tests.prices.records import put, record, year_of

DAY = date(2024, 1, 2)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def good(store, tmp_path):
    """The file that the store holds."""
    good = put(tmp_path / "2024", year_of(2024, [10.0]))
    store.update([good])
    return good


def closes(store, ticker="VALE3"):
    quotes = store.quotes(ticker)
    return dict(zip(quotes["date"].dt.date, quotes["close"], strict=True))


def test_a_stock_is_read_from_all_years_in_ascending_order(store, tmp_path, monkeypatch):
    assert store.quotes("VALE3").empty
    assert (store.files(), store.folder.exists()) == ({}, False)
    monkeypatch.setattr(module, "_ROWS_IN_A_GROUP", 2)  # groups of one stock, and of two
    later = [*year_of(2024, [12.0, 13.0, 14.0]), *year_of(2024, [5.0], "VALE5"), *year_of(2024, [1.0], "PETR4")]
    store.update([put(tmp_path / "new", later), put(tmp_path / "old", year_of(2023, [10.0, 11.0]))])
    for ticker, expected in ("VALE3", [10, 11, 12, 13, 14]), ("VALE5", [5]), ("PETR4", [1]), ("PETR3", []):
        assert list(closes(store, ticker).values()) == expected
    assert list(store.quotes("PETR3").columns) == list(store.quotes("VALE3").columns)


def test_of_two_quotes_of_a_session_the_later_file_counts_then_the_larger_volume(store, tmp_path):
    yearly = put(tmp_path / "yearly", [record(DAY, close=10, volume=500)], generated="20240103")
    daily = put(tmp_path / "daily", [record(DAY, close=11, volume=20)], generated="20240105")
    for files in [yearly, daily], [daily, yearly]:
        store.update(files)
        assert closes(store) == {DAY: 11.0}
    store.update([put(yearly, [record(DAY, close=10, volume=500), record(DAY, close=9, volume=20, bdi="08")])])
    assert closes(store) == {DAY: 10.0}


def test_only_new_and_changed_files_are_read_and_quotes_of_removed_files_removed(store, tmp_path, monkeypatch):
    read = []
    original = module.parser.read
    monkeypatch.setattr(module.parser, "read", lambda path: read.append(path.name) or original(path))
    first = put(tmp_path / "2023", year_of(2023, [10.0]))
    store.update([first])
    store.update([first, put(tmp_path / "2024", year_of(2024, [11.0]), generated="20240102")])
    changed = put(tmp_path / "2024", year_of(2024, [11.5, 12.0]), generated="20240103")
    store.update([first, changed])
    written = [path.stat().st_ino for path in sorted(store.folder.iterdir())]
    store.update([first, changed])
    assert [path.stat().st_ino for path in sorted(store.folder.iterdir())] == written
    assert read == ["2023", "2024", "2024"]
    assert list(closes(store).values()) == [10.0, 11.5, 12.0]
    store.update([changed])
    assert list(closes(store).values()) == [11.5, 12.0]
    assert list(store.files()) == ["2024"]
    store.update([])
    assert os.listdir(store.folder) == [".lock"]


def test_a_bad_file_or_a_full_disk_leaves_the_store_unchanged_and_no_other_files(store, tmp_path, good, full_disk):
    before = sorted(os.listdir(store.folder))
    with pytest.raises(BadQuotesFile, match="counts 99 records"):
        store.update([good, put(tmp_path / "2023", year_of(2023, [9.0]), counted=99)])
    full_disk()
    with pytest.raises(OSError, match="No space left"):
        store.update([good, put(tmp_path / "2023", year_of(2023, [9.0]))])
    assert sorted(os.listdir(store.folder)) == before
    assert list(closes(store).values()) == [10.0]


@pytest.mark.parametrize("content", [b"", b"PAR1PAR1", "without a description"])
def test_a_damaged_file_of_the_store_counts_as_missing_and_is_rebuilt(store, good, content):
    [stored] = store.folder.glob("*.parquet")
    if isinstance(content, bytes):
        stored.write_bytes(content)
    else:
        pq.write_table(pq.read_table(stored).replace_schema_metadata(), stored)
    assert (store.files(), len(store.quotes("VALE3"))) == ({}, 0)
    store.update([good])
    assert list(closes(store).values()) == [10.0]


def test_a_store_of_version_0_1_is_read_again_from_its_files(vale3, home):
    folder = home / "data/b3"
    (folder / "store/5ebd").mkdir(parents=True)
    (folder / "store/manifest.json").write_text('{"format": 1, "folder": "5ebd", "files": {}}')
    put(folder / "COTAHIST_A2024.TXT", year_of(2024, [10.0]))
    assert len(B3Source(None, DAY).stored(vale3)) == 1
    assert sorted(os.listdir(folder / "store")) == [".lock", "COTAHIST_A2024.TXT.parquet"]
