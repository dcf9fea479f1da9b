"""The indexed store: one stock's quotes out of many files, whichever of them came last."""

import errno
import os
from datetime import date

import pytest

from pregao.errors import BadQuotesFile
from pregao.prices.cotahist.store import Store
from tests.prices.records import record, text, year_of, zipped

DAY = date(2024, 1, 2)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def put(tmp_path):
    """Write a file of quotes and hand out its path."""

    def write(name, records, **header):
        path = tmp_path / name
        path.write_bytes(text(records, **header))
        return path

    return write


def closes(store, ticker="VALE3"):
    quotes = store.quotes(ticker)
    return dict(zip(quotes["date"].dt.date, quotes["close"], strict=True))


def test_a_stock_is_read_out_of_many_years_in_the_order_of_time(store, put):
    store.update(
        [
            put("COTAHIST_A2024.TXT", [*year_of(2024, [12.0, 13.0]), *year_of(2024, [5.0], "PETR4")]),
            put("COTAHIST_A2023.TXT", year_of(2023, [10.0, 11.0])),
        ]
    )
    assert list(closes(store).values()) == [10.0, 11.0, 12.0, 13.0]
    assert list(closes(store, "PETR4").values()) == [5.0]
    assert store.quotes("PETR3").empty
    assert list(store.quotes("PETR3").columns) == list(store.quotes("VALE3").columns)


def test_an_empty_store_has_no_stock(store):
    assert store.quotes("VALE3").empty
    assert store.files() == {}
    assert not store.folder.exists()


def test_of_two_files_with_a_session_the_one_that_b3_wrote_last_counts(store, put):
    yearly = put("COTAHIST_A2024.TXT", [record(DAY, close=10)], generated="20240103")
    daily = put("COTAHIST_D02012024.TXT", [record(DAY, close=11)], generated="20240105")
    store.update([yearly, daily])
    assert closes(store) == {DAY: 11.0}
    store.update([daily, yearly])
    assert closes(store) == {DAY: 11.0}


def test_of_two_classes_on_a_day_the_one_that_traded_more_counts(store, put):
    two = [record(DAY, close=10, volume=500), record(DAY, close=9, volume=20, bdi="08")]
    store.update([put("COTAHIST_A2024.TXT", two)])
    assert closes(store) == {DAY: 10.0}


def test_a_new_file_is_added_without_reading_the_others_again(store, put, tmp_path):
    first = put("COTAHIST_A2023.TXT", year_of(2023, [10.0]))
    store.update([first])
    kept = first.stat()
    first.write_bytes(b"x" * kept.st_size)
    os.utime(first, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    store.update([first, put("COTAHIST_A2024.TXT", year_of(2024, [11.0]))])
    assert list(closes(store).values()) == [10.0, 11.0]
    assert len([path for path in store.folder.iterdir() if path.is_dir()]) == 1


def test_a_changed_file_is_read_again(store, put):
    store.update([put("COTAHIST_A2024.TXT", year_of(2024, [10.0]), generated="20240102")])
    store.update([put("COTAHIST_A2024.TXT", year_of(2024, [10.5, 11.0]), generated="20240103")])
    assert list(closes(store).values()) == [10.5, 11.0]


def test_what_a_removed_file_said_is_forgotten(store, put):
    keep, gone = put("COTAHIST_A2024.TXT", year_of(2024, [10.0])), put("COTAHIST_A2023.TXT", year_of(2023, [9.0]))
    store.update([keep, gone])
    store.update([keep])
    assert list(closes(store).values()) == [10.0]
    assert list(store.files()) == ["COTAHIST_A2024.TXT"]
    store.update([])
    assert store.quotes("VALE3").empty
    assert sorted(os.listdir(store.folder)) == [".lock", "manifest.json"]


def test_nothing_new_writes_nothing(store, put):
    files = [put("COTAHIST_A2024.TXT", year_of(2024, [10.0]))]
    store.update(files)
    before = (store.folder / "manifest.json").stat()
    store.update(files)
    assert (store.folder / "manifest.json").stat().st_ino == before.st_ino


def test_a_bad_file_leaves_the_store_as_it_was(store, put):
    good = put("COTAHIST_A2024.TXT", year_of(2024, [10.0]))
    store.update([good])
    with pytest.raises(BadQuotesFile, match="counts 99 records"):
        store.update([good, put("COTAHIST_A2023.TXT", year_of(2023, [9.0]), counted=99)])
    assert list(closes(store).values()) == [10.0]


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_full_disk_leaves_the_store_as_it_was_and_nothing_beside_it(store, put, monkeypatch, failing):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    good = put("COTAHIST_A2024.TXT", year_of(2024, [10.0]))
    store.update([good])
    before = sorted(os.listdir(store.folder))
    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(OSError, match="No space left"):
            store.update([good, put("COTAHIST_A2023.TXT", year_of(2023, [9.0]))])
    assert sorted(os.listdir(store.folder)) == before
    assert list(closes(store).values()) == [10.0]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 0, "folder": "x", "files": {}}'])
def test_a_manifest_that_cannot_be_read_means_an_empty_store_that_is_built_anew(store, put, content):
    good = put("COTAHIST_A2024.TXT", year_of(2024, [10.0]))
    store.update([good])
    (store.folder / "manifest.json").write_text(content)
    assert store.files() == {}
    store.update([good])
    assert list(closes(store).values()) == [10.0]


def test_zipped_and_plain_files_make_the_same_store(store, put, tmp_path):
    plain = put("COTAHIST_A2024.TXT", year_of(2024, [10.0, 11.0], especi="ON  ED  NM"))
    other = Store(tmp_path / "other")
    store.update([plain])
    other.update([zipped(tmp_path / "COTAHIST_A2024.ZIP", plain.read_bytes())])
    assert store.quotes("VALE3").equals(other.quotes("VALE3"))
