"""Reading B3's daily quotes: python benchmarks/b3.py DIR [ROUNDS].

DIR contains COTAHIST_D08112024.ZIP, one session as published by B3. From its lines a year of 2.5 million records is
made: each session is a random sample of them, with random digits in prices, quantities and volumes. The zipped year is
read by this project's parser and by common ones, in alternating rounds, each in a new process with one thread; all must
find the same closes. Then a store of 12 years is built, with the sample's whole cash market on each session, and one
stock's closes are read from it. Writes benchmarks/b3.md.
"""

import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pandas as pd
from machine import machine
from numpy.typing import NDArray

from pregao.prices import calendar
from pregao.prices.cotahist import layout, parser
from pregao.prices.cotahist.store import Store

TABLE = Path(__file__).with_suffix(".md")
SAMPLE = "COTAHIST_D08112024.ZIP"
RECORDS = 2_500_000
YEARS = range(2014, 2026)
STOCKS = ("VALE3", "PETR4", "ITUB4", "TAEE11", "AAPL34", "BOVA11")
FIELDS = {"date": layout.DATE, "bdi": layout.CODBDI, "ticker": layout.CODNEG, "market": layout.TPMERC}
FIELDS |= {"currency": layout.MODREF, "open": layout.PREABE, "high": layout.PREMAX, "low": layout.PREMIN}
FIELDS |= {"close": layout.PREULT, "volume": layout.QUATOT, "factor": layout.FATCOT}
# Fields that no parser here reads: best bid and ask, traded amount, and the trailer's number of records
PREOFC, PREOFV, VOLTOT, TRAILER_RECORDS = slice(121, 134), slice(134, 147), slice(170, 188), slice(31, 42)
CLASSES = [code.decode() for code in layout.CASH_CLASSES]


def sample(folder: Path) -> NDArray[np.uint8]:
    """The lines of the sample [N, 247]."""
    with zipfile.ZipFile(folder / SAMPLE) as archive:
        return np.frombuffer(archive.read(archive.namelist()[0]), np.uint8).reshape(-1, layout.RECORD_LENGTH + 2)


def cash_market(lines: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Header, the records of the cash market, trailer."""
    inside = (lines[:, layout.TPMERC] == np.frombuffer(layout.CASH, np.uint8)).all(axis=1)
    inside[[0, -1]] = True
    return lines[inside]


def make_year(lines: NDArray[np.uint8], year: int, records: int, target: Path) -> None:
    """Write a year made from these lines."""
    days, rng = calendar.sessions("BVMF", date(year, 1, 1), date(year, 12, 31)), np.random.default_rng(year)
    header, trailer = (line.copy() for line in (lines[0], lines[-1]))
    for line in (header, trailer):
        line[11:15] = np.frombuffer(str(year).encode(), np.uint8)
        line[23:31] = np.frombuffer(f"{year}1230".encode(), np.uint8)
    trailer[TRAILER_RECORDS] = np.frombuffer(b"%011d" % (records + 2), np.uint8)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("COTAHIST.TXT", "w") as text:
        text.write(header.tobytes())
        for number, day in enumerate(days):
            n = records * (number + 1) // len(days) - records * number // len(days)
            part = lines[1:-1][np.sort(rng.choice(len(lines) - 2, n, replace=n > len(lines) - 2))].copy()
            part[:, layout.DATE] = np.frombuffer(f"{day:%Y%m%d}".encode(), np.uint8)
            for field in (layout.PREABE, layout.PREMAX, layout.PREMIN, layout.PREULT, PREOFC, PREOFV):
                part[:, field.stop - 2 : field.stop] = rng.integers(ord("0"), ord("9") + 1, (n, 2))
            for field in (layout.QUATOT, VOLTOT):
                part[:, field.stop - 6 : field.stop] = rng.integers(ord("0"), ord("9") + 1, (n, 6))
            text.write(part.tobytes())
        text.write(trailer.tobytes())


def ours(path: Path) -> pd.DataFrame:
    """This project's parser: numpy on blocks of bytes."""
    return parser.read(path).table


def pandas_fwf(path: Path) -> pd.DataFrame:
    """pandas.read_fwf, the most common way."""
    spans = [(field.start, field.stop) for field in FIELDS.values()]
    table = pd.read_fwf(
        path,
        colspecs=spans,
        names=list(FIELDS),
        skiprows=1,
        skipfooter=0,
        dtype=str,
        compression="zip",
        encoding="latin-1",
    )
    return _chosen_by_pandas(table)


def pandas_slices(path: Path) -> pd.DataFrame:
    """One column of lines in pandas, split by str.slice."""
    with zipfile.ZipFile(path) as archive:
        lines = pd.Series(archive.read(archive.namelist()[0]).decode("latin-1").split("\r\n")[1:-2], dtype="str")
    lines = lines[lines.str.slice(24, 27) == "010"]
    return _chosen_by_pandas(pd.DataFrame({n: lines.str.slice(f.start, f.stop).str.strip() for n, f in FIELDS.items()}))


def _chosen_by_pandas(table: pd.DataFrame) -> pd.DataFrame:
    table = table[(table["market"] == "010") & table["bdi"].isin(CLASSES) & (table["currency"] == "R$")]
    table = table.assign(date=pd.to_datetime(table["date"], format="%Y%m%d"), volume=table["volume"].astype("float64"))
    papers = table["factor"].astype("int64") * 100
    return table.assign(**{n: table[n].astype("int64") / papers for n in ("open", "high", "low", "close")})


def arrow(path: Path) -> pd.DataFrame:
    """pyarrow: one column of lines by its csv reader, split by its kernels."""
    import io

    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as csv

    with zipfile.ZipFile(path) as archive:
        text = io.BytesIO(archive.read(archive.namelist()[0]))
    options = csv.ReadOptions(use_threads=False, column_names=["line"], encoding="latin-1", skip_rows=1)
    plain = csv.ParseOptions(delimiter="\x01", quote_char=False)
    lines = csv.read_csv(text, options, plain, csv.ConvertOptions(column_types={"line": pa.string()}))["line"]
    lines = lines.filter(pc.equal(pc.utf8_slice_codeunits(lines, 24, 27), "010"))
    cut = {n: pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(lines, f.start, f.stop)) for n, f in FIELDS.items()}
    return _chosen_by_pandas(pa.table(cut).to_pandas())


def polars(path: Path) -> pd.DataFrame:
    """polars: one column of lines, split and cast by expressions."""
    import polars as pl

    with zipfile.ZipFile(path) as archive:
        text = archive.read(archive.namelist()[0])
    lines = pl.read_csv(text, has_header=False, new_columns=["line"], separator="\x01", quote_char=None, skip_rows=1)
    cut = {n: pl.col("line").str.slice(f.start, f.stop - f.start).str.strip_chars() for n, f in FIELDS.items()}
    table = lines.lazy().filter(pl.col("line").str.slice(24, 3) == "010").select(**cut)
    table = table.filter(pl.col("bdi").is_in(CLASSES) & (pl.col("currency") == "R$"))
    papers = pl.col("factor").cast(pl.Int64) * 100
    prices = [(pl.col(n).cast(pl.Int64) / papers).alias(n) for n in ("open", "high", "low", "close")]
    table = table.with_columns(pl.col("date").str.to_date("%Y%m%d"), pl.col("volume").cast(pl.Float64), *prices)
    found = table.collect()
    return pd.DataFrame({n: found[n].to_numpy() for n in ("date", "ticker", "open", "high", "low", "close", "volume")})


WAYS: dict[str, tuple[Callable[[Path], pd.DataFrame], str]] = {
    "numpy, on blocks of bytes (ours)": (ours, ""),
    "pyarrow, lines cut by kernels": (arrow, "pyarrow"),
    "polars, lines cut by expressions": (polars, "polars"),
    "pandas, str.slice": (pandas_slices, ""),
    "pandas.read_fwf": (pandas_fwf, ""),
}


def one(way: str, path: Path) -> None:
    """Read once, and print seconds, peak memory in MB, rows and the sum of the closes."""
    started = perf_counter()
    table = WAYS[way][0](path)
    seconds = perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([seconds, peak, len(table), round(float(table["close"].sum()), 2)]))


def in_new_process(way: str, path: Path) -> list[float]:
    """The output of `one` in a new process with one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "ARROW_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--one", way, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **threads})
    found: list[float] = json.loads(done.stdout)
    return found


def parsing(path: Path, rounds: int) -> list[str]:
    """The table of parsers."""
    ways = [way for way, (_, module) in WAYS.items() if not module or find_spec(module)]
    runs = {way: [] for way in ways}  # type: dict[str, list[list[float]]]
    for number in range(rounds):
        for way in ways:
            if way != "pandas.read_fwf" or number == 0:  # minutes
                runs[way].append(in_new_process(way, path))
                print(way, runs[way][-1], flush=True)
    assert len({tuple(found[2:]) for of_way in runs.values() for found in of_way}) == 1, (
        "the parsers found different closes"
    )
    lines = ["| a year of 2,500,000 records, from its zip | s | peak MB |", "|---|---:|---:|"]
    for way, of_way in runs.items():
        lines.append(f"| {way} | {median(r[0] for r in of_way):.1f} | {median(r[1] for r in of_way):,.0f} |")
    return [*lines, "| target | ≤ 10 | ≤ 1,500 |"]


def loading(folder: Path, lines: NDArray[np.uint8]) -> list[str]:
    """The table of the store."""
    cash, files = cash_market(lines), []
    for year in YEARS:
        files.append(folder / f"COTAHIST_A{year}.ZIP")
        sessions = len(calendar.sessions("BVMF", date(year, 1, 1), date(year, 12, 31)))
        make_year(cash, year, sessions * (len(cash) - 2), files[-1])
    store, seconds = Store(folder / "store"), []
    for _ in range(2):
        started = perf_counter()
        store.update(files)
        seconds.append(perf_counter() - started)
    times = []
    for ticker in STOCKS * 20:
        started = perf_counter()
        rows = len(store.quotes(ticker))
        times.append(1000 * (perf_counter() - started))
    size = sum(path.stat().st_size for path in store.folder.rglob("*.parquet")) / 1e6
    what = f"read one stock, {rows:,} sessions: median (worst of {len(times)})"
    return [
        "| the store | found | target |",
        "|---|---:|---:|",
        f"| {len(files)} years, {len(cash) - 2:,} quotes per session: build | {seconds[0]:.0f} s, {size:.0f} MB | |",
        f"| update with the same files | {1000 * seconds[1]:.1f} ms | |",
        f"| {what} | {median(times):.1f} ms ({max(times):.1f}) | ≤ 130 ms |",
    ]


def main(samples: Path, rounds: int) -> None:
    """Print and write the tables."""
    with TemporaryDirectory() as name:
        folder, drawn = Path(name), sample(samples)
        year = folder / "COTAHIST_A2024.ZIP"
        make_year(drawn, 2024, RECORDS, year)
        size = year.stat().st_size / 1e6
        lines = [*parsing(year, rounds), "", *loading(folder, drawn)]
    text = "\n".join(lines) + (
        f"\n\nMedians of {rounds} alternating rounds (read_fwf: one), each in a new process, one thread; the "
        f"zip has {size:.0f} MB. On: {machine()}. To repeat: `python benchmarks/b3.py DIR`.\n"
    )
    print(text)
    TABLE.write_text(f"# Reading B3's daily quotes\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        one(sys.argv[2], Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
