"""A stock's ticker, calendar and currency. Imports nothing heavy, since every command parses its stock first."""

import re
from dataclasses import dataclass

from pregao.errors import InvalidSymbol, NotAStock, OddLot

_B3 = re.compile(r"[A-Z][A-Z0-9]{3}[0-9]{1,2}[AB]?")  # B at the end: organised over-the-counter market, as EDFO11B
_ODD_LOT = re.compile(r"[A-Z][A-Z0-9]{3}[0-9]{1,2}F")
_INDICES = ("IBOV", "IBOVESPA", "IBRX", "IFIX", "SMLL")
_YAHOO_INDEX = {"SP500": "^GSPC", "NASDAQ": "^IXIC"}
SAMPLES = tuple(_YAHOO_INDEX)

SHARED = "SHARED"
"""The name of the model that is trained on many stocks; it has no prices."""


@dataclass(frozen=True)
class Symbol:
    """One stock or index; create it by `parse`, since only `parse` checks the spelling.

    Attributes:
        ticker: VALE3, SP500; safe as a file name.
        calendar: exchange_calendars' name of the market: BVMF or XNYS.
        currency: R$ or US$.
    """

    ticker: str
    calendar: str
    currency: str

    @classmethod
    def parse(cls, text: str) -> "Symbol":
        """Read VALE3, vale3 or VALE3.SA, SP500 or NASDAQ, SHARED.

        Raises:
            InvalidSymbol: for any other text, and for any value that is not text; OddLot and NotAStock are kinds of it.
        """
        # ASCII before upper(): "ſ".upper() is an ASCII S
        if not isinstance(text, str) or not text.isascii():
            raise InvalidSymbol(str(text), SAMPLES)
        ticker = text.strip().upper()
        if ticker in SAMPLES:
            return cls(ticker, calendar="XNYS", currency="US$")
        if ticker == SHARED:
            return cls(ticker, calendar="BVMF", currency="R$")
        ticker = ticker.removesuffix(".SA")
        if _ODD_LOT.fullmatch(ticker):
            raise OddLot(text, ticker.removesuffix("F"))
        if ticker in _INDICES:
            raise NotAStock(text, SAMPLES)
        # SP500 also matches the pattern of a B3 ticker: SP500.SA must not become one
        if ticker in SAMPLES or not _B3.fullmatch(ticker):
            raise InvalidSymbol(text, SAMPLES)
        return cls(ticker, calendar="BVMF", currency="R$")

    @property
    def yahoo(self) -> str:
        """Yahoo's ticker: VALE3.SA, ^GSPC."""
        return _YAHOO_INDEX.get(self.ticker, f"{self.ticker}.SA")

    def __str__(self) -> str:
        return self.ticker
