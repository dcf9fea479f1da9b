"""The indexed store: one stock's quotes from many files."""

import os
from datetime import date

import pytest

from pregao.errors import BadQuotesFile
from pregao.prices.cotahist import store as module
from pregao.prices.cotahist.store import Store
from tests.prices.records import record, text, year_of

DAY = date(2024, 1, 2)


@pytest.fixture
def put(tmp_path):
    """Write a file of quotes and return its path."""
    return lambda name, records, **header: write(tmp_path / name, text(records, **header))


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def good(store, put):
    """The file that the store holds."""
    good = put("COTAHIST_A2024.TXT", year_of(2024, [10.0]))
    store.update([good])
    return good


def closes(store, ticker="VALE3"):
    quotes = store.quotes(ticker)
    return dict(zip(quotes["date"].dt.date, quotes["close"], strict=True))


def test_a_stock_is_read_from_all_years_in_ascending_order(store, put, monkeypatch):
    assert store.quotes("VALE3").empty
    assert (store.files(), store.folder.exists()) == ({}, False)
    monkeypatch.setattr(module, "ROWS_IN_A_GROUP", 2)  # groups of one stock, and of two
    later = [*year_of(2024, [12.0, 13.0, 14.0]), *year_of(2024, [5.0], "VALE5"), *year_of(2024, [1.0], "PETR4")]
    store.update([put("COTAHIST_A2024.TXT", later), put("COTAHIST_A2023.TXT", year_of(2023, [10.0, 11.0]))])
    assert list(closes(store).values()) == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert list(closes(store, "VALE5").values()) == [5.0]
    assert list(closes(store, "PETR4").values()) == [1.0]
    for unknown in ("PETR3", "VALE4"):
        assert store.quotes(unknown).empty
    assert list(store.quotes("PETR3").columns) == list(store.quotes("VALE3").columns)


def test_of_two_quotes_of_a_session_the_later_file_counts_then_the_larger_volume(store, put):
    yearly = put("COTAHIST_A2024.TXT", [record(DAY, close=10, volume=500)], generated="20240103")
    daily = put("COTAHIST_D02012024.TXT", [record(DAY, close=11, volume=20)], generated="20240105")
    store.update([yearly, daily])
    assert closes(store) == {DAY: 11.0}
    store.update([daily, yearly])
    assert closes(store) == {DAY: 11.0}
    two = [record(DAY, close=10, volume=500), record(DAY, close=9, volume=20, bdi="08")]
    store.update([put("COTAHIST_A2024.TXT", two)])
    assert closes(store) == {DAY: 10.0}


def test_only_new_and_changed_files_are_read(store, put, monkeypatch):
    read = []
    original = module.parser.read
    monkeypatch.setattr(module.parser, "read", lambda path: read.append(path.name) or original(path))
    first = put("COTAHIST_A2023.TXT", year_of(2023, [10.0]))
    store.update([first])
    store.update([first, put("COTAHIST_A2024.TXT", year_of(2024, [11.0]), generated="20240102")])
    changed = put("COTAHIST_A2024.TXT", year_of(2024, [11.5, 12.0]), generated="20240103")
    store.update([first, changed])
    manifest = (store.folder / "manifest.json").stat().st_ino
    store.update([first, changed])
    assert (store.folder / "manifest.json").stat().st_ino == manifest
    assert read == ["COTAHIST_A2023.TXT", "COTAHIST_A2024.TXT", "COTAHIST_A2024.TXT"]
    assert list(closes(store).values()) == [10.0, 11.5, 12.0]
    assert len([path for path in store.folder.iterdir() if path.is_dir()]) == 1


def test_the_quotes_of_a_removed_file_are_removed(store, put, good):
    store.update([good, put("COTAHIST_A2023.TXT", year_of(2023, [9.0]))])
    store.update([good])
    assert list(closes(store).values()) == [10.0]
    assert list(store.files()) == ["COTAHIST_A2024.TXT"]
    store.update([])
    assert store.quotes("VALE3").empty
    assert sorted(os.listdir(store.folder)) == [".lock", "manifest.json"]


def test_a_bad_file_or_a_full_disk_leaves_the_store_unchanged_and_no_other_files(store, put, good, full_disk):
    before = sorted(os.listdir(store.folder))
    with pytest.raises(BadQuotesFile, match="counts 99 records"):
        store.update([good, put("COTAHIST_A2023.TXT", year_of(2023, [9.0]), counted=99)])
    full_disk()
    with pytest.raises(OSError, match="No space left"):
        store.update([good, put("COTAHIST_A2023.TXT", year_of(2023, [9.0]))])
    assert sorted(os.listdir(store.folder)) == before
    assert list(closes(store).values()) == [10.0]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 0, "folder": "x", "files": {}}'])
def test_a_store_with_a_damaged_manifest_is_empty_and_rebuilt(store, good, content):
    (store.folder / "manifest.json").write_text(content)
    assert store.files() == {}
    store.update([good])
    assert list(closes(store).values()) == [10.0]
