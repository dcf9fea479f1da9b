"""The fields of COTAHIST in use: B3, «Historical Quotes File Layout», revision 02 of 2020-10-05.

A file has a header (record type 00), one record per security, market and session (01), and a trailer (99), each of 245
bytes, in ISO 8859-1, with a line end after it.
"""

RECORD_LENGTH = 245
FIRST_YEAR = 1986  # B3 publishes no earlier one
FIRST_YEAR_IN_REAIS = 1994


def _field(first: int, last: int) -> slice:
    """Positions as in the document: from 1, both inclusive."""
    return slice(first - 1, last)


TIPREG = _field(1, 2)  # record type
DATE = _field(3, 10)  # YYYYMMDD
CODBDI = _field(11, 12)  # class in the daily bulletin, see CASH_CLASSES
CODNEG = _field(13, 24)  # ticker
TPMERC = _field(25, 27)  # market, see CASH
# Type of security, ex-rights (ED ex-dividend, EJ ex-interest, EB ex-bonus, EG ex-reverse-split), listing segment
ESPECI = _field(40, 49)
MODREF = _field(53, 56)  # currency of the prices, see REAL
PREABE = _field(57, 69)  # open; all prices are in hundredths
PREMAX = _field(70, 82)  # high
PREMIN = _field(83, 95)  # low
PREULT = _field(109, 121)  # close
QUATOT = _field(153, 170)  # volume in shares, not divided by the quotation factor; as at Yahoo
FATCOT = _field(211, 217)  # quotation factor: the number of shares that the prices are for, 1 or 1000
DISMES = _field(243, 245)  # distribution number: rises by one with each corporate action

CASH = b"010"  # round lots; 020 is the odd-lot market, the others are auctions, forwards and options
REAL = b"R$  "  # in use since 1994-07-01

CASH_CLASSES = (b"02", b"05", b"06", b"07", b"08", b"09", b"11", b"12", b"13", b"14", b"34", b"35", b"36")
"""CODBDI of securities that trade in round lots under a ticker.

02: shares and units, until 2021 also BDRs. 05 to 09, 11: a company under sanction, in bankruptcy, in extrajudicial or
judicial recovery, under special administration or intervention. 12, 13, 14: real estate funds, agribusiness funds, ETFs
and other funds. 34, 35, 36: unsponsored BDRs, sponsored BDRs, BDRs of ETFs. 13 and 34 to 36 are in the files since
2021, but not in the document. Left out: 10 and 22 (subscription rights and bonuses), 96 (odd lots), and others.
"""
MIXED_CLASS = b"58"  # certificates, and in some files real shares (GOLL4 on 2024-11-08): ESPECI distinguishes them
SHARES = (b"ON", b"PN", b"UN")  # the first two characters of ESPECI of shares and units
