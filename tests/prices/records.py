"""COTAHIST files made from the layout: what B3 would publish of a market that never was."""

import io
import zipfile
from datetime import date

from pregao.prices import calendar

HEADER = "00COTAHIST.{year}BOVESPA {generated}"
TRAILER = "99COTAHIST.{year}BOVESPA {generated}{records:011d}"


def record(day, ticker="VALE3", close=10.0, **fields):
    """One record of type 01, 245 characters; prices in R$, volume in papers."""
    f = {"bdi": "02", "market": "010", "especi": "ON      NM", "currency": "R$", "volume": 1000, "factor": 1}
    f |= {"open": close, "high": close, "low": close, "dismes": 100} | fields
    o, h, low, c = (f"{round(price * 100):013d}" for price in (f["open"], f["high"], f["low"], close))
    head = f"01{day:%Y%m%d}{f['bdi']}{ticker:12}{f['market']}{'COMPANY':12}{f['especi']:10}   {f['currency']:4}"
    prices = f"{o}{h}{low}{c}{c}{c}{c}"
    traded = f"{7:05d}{f['volume']:018d}{round(close * f['volume'] * 100):018d}"
    tail = f"{0:013d}099991231{f['factor']:07d}{0:013d}BRVALEACNOR0{f['dismes']:03d}"
    return head + prices + traded + tail


def text(records, year=None, generated=None, newline="\r\n", counted=None):
    """A whole file's bytes."""
    year = year or records[0][2:6]
    generated = generated or f"{year}1231"
    counted = len(records) + 2 if counted is None else counted
    header = HEADER.format(year=year, generated=generated).ljust(245)
    trailer = TRAILER.format(year=year, generated=generated, records=counted).ljust(245)
    return "".join(line + newline for line in (header, *records, trailer)).encode("latin-1")


def zipped(content, *further):
    """A zip with a text in it, and with further ones."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, one in enumerate((content, *further)):
            archive.writestr(f"{number}-" * bool(number) + "COTAHIST.TXT", one)
    return made.getvalue()


def year_of(year, closes, ticker="VALE3", volumes=(1000,) * 300):
    """Records of a year's first sessions."""
    days = calendar.sessions("BVMF", date(year, 1, 1), date(year, 12, 31))
    return [record(day, ticker, close, volume=n) for day, close, n in zip(days, closes, volumes, strict=False)]


def put(path, records, **header):
    """Write a file of quotes; returns its path."""
    path.write_bytes(text(records, **header))
    return path
