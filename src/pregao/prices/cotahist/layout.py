"""The record layout of COTAHIST, field by field: B3, «Historical Quotes File Layout», revision 02 of 2020-10-05.

A file is a header (record type 00), one record a security, market and session (01), and a trailer (99), each of 245
bytes, in ISO 8859-1, with a line end after it. Positions are the layout's own: from 1, both inclusive.
"""

from typing import NamedTuple

RECORD_LENGTH = 245
FIRST_YEAR = 1986  # B3 publishes no earlier one
FIRST_YEAR_IN_REAIS = 1994
ORIGIN = b"BOVESPA "  # of header and trailer, positions 16..23


class Field(NamedTuple):
    """Where a field is; `decimals` of them are behind the (unwritten) decimal point."""

    first: int
    last: int
    decimals: int = 0

    @property
    def place(self) -> slice:
        """As Python counts."""
        return slice(self.first - 1, self.last)


TIPREG = Field(1, 2)
"""Record type: 00, 01 or 99."""

HEADER_NAME = Field(3, 15)
"""Header, trailer: `COTAHIST.YYYY`."""
HEADER_ORIGIN = Field(16, 23)
"""Header, trailer: `BOVESPA `."""
HEADER_GENERATED = Field(24, 31)
"""Header, trailer: the day on which B3 wrote the file, YYYYMMDD."""
TRAILER_RECORDS = Field(32, 42)
"""Trailer: how many records the file has, header and trailer included."""

DATE = Field(3, 10)
"""The session, YYYYMMDD. Read."""
CODBDI = Field(11, 12)
"""Class in the daily bulletin: see CASH_CLASSES. Read, to choose the records."""
CODNEG = Field(13, 24)
"""Ticker, padded with spaces. Read."""
TPMERC = Field(25, 27)
"""Market: see CASH. Read, to choose the records."""
NOMRES = Field(28, 39)
"""Abbreviated name of the company. Not read: it changes, the ticker is the name here."""
ESPECI = Field(40, 49)
"""Kind of paper, its state of rights (ED ex-dividend, EJ ex-interest, EB ex-bonus, EG ex-reverse-split) and its listing
segment. Read: it is B3's own word on corporate actions."""
PRAZOT = Field(50, 52)
"""Days to expiry of a forward. Not read: the cash market has none."""
MODREF = Field(53, 56)
"""Currency of the prices. Read, to choose the records: only R$, in use since 1994-07-01."""
PREABE = Field(57, 69, 2)
"""First price of the session. Read: open."""
PREMAX = Field(70, 82, 2)
"""Highest price. Read: high."""
PREMIN = Field(83, 95, 2)
"""Lowest price. Read: low."""
PREMED = Field(96, 108, 2)
"""Mean price. Not read: nothing here uses it."""
PREULT = Field(109, 121, 2)
"""Price of the last trade. Read: close."""
PREOFC = Field(122, 134, 2)
"""Best bid at the end. Not read."""
PREOFV = Field(135, 147, 2)
"""Best ask at the end. Not read."""
TOTNEG = Field(148, 152)
"""Number of trades. Not read: its five digits are too few for the most traded papers."""
QUATOT = Field(153, 170)
"""How many papers changed hands, whatever the quotation factor. Read: volume, as at Yahoo."""
VOLTOT = Field(171, 188, 2)
"""What was paid for them in all. Not read: quantity and price are."""
PREEXE = Field(189, 201, 2)
"""Exercise price of an option. Not read: the cash market has none."""
INDOPC = Field(202, 202)
"""How that price is corrected (1 dollar, 2 TJLP, 8 IGP-M, 9 URV). Not read: as above."""
DATVEN = Field(203, 210)
"""Expiry; 99991231 in the cash market. Not read."""
FATCOT = Field(211, 217)
"""How many papers the prices are for: 1, or 1000 for lots of a thousand. Read: prices are divided by it."""
PTOEXE = Field(218, 230, 6)
"""Exercise price in points of US$ 0.01. Not read: the cash market has none."""
CODISI = Field(231, 242)
"""ISIN. Not read."""
DISMES = Field(243, 245)
"""Distribution number: goes up by one with each corporate action. Read."""

CASH = b"010"
"""TPMERC of the cash market in round lots. 020 is the odd-lot market; the others are auctions, forwards, options."""

CASH_CLASSES = {
    b"02": "round lot: shares and units, until 2021 BDRs too",
    b"05": "a company under B3's sanction",
    b"06": "a company in bankruptcy",
    b"07": "a company in extrajudicial recovery",
    b"08": "a company in judicial recovery",
    b"09": "a company under special temporary administration",
    b"11": "a company under intervention",
    b"12": "real estate funds",
    b"13": "agribusiness funds (in the files since 2021, not in the layout)",
    b"14": "certificates of investment: ETFs and other funds, and early BDRs",
    b"34": "unsponsored BDRs (in the files since 2021, not in the layout)",
    b"35": "sponsored BDRs (in the files since 2021, not in the layout)",
    b"36": "BDRs of ETFs (in the files since 2021, not in the layout)",
}
"""CODBDI of what trades by the round lot under a ticker of its own. Left out are, among others, 10 and 22 (rights and
bonuses of subscription, which expire), 58 (other) and 96 (odd lots)."""

REAL = b"R$  "
"""MODREF of the real."""
