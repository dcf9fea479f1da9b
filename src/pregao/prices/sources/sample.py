"""Real S&P 500 and Nasdaq prices, 1999-2018, included in the `arch` package: no network."""

from importlib import import_module

import pandas as pd

from pregao.errors import UnknownStock
from pregao.prices.sources import Source
from pregao.prices.symbols import SAMPLES, Symbol
from pregao.prices.table import shaped


class SampleSource(Source):
    """SP500 and NASDAQ."""

    has_an_end = True

    def history(self, symbol: Symbol) -> pd.DataFrame:
        """All 5,031 sessions in index points; see `Source.history`."""
        if symbol.ticker not in SAMPLES:
            remedy = f"It has only {' and '.join(SAMPLES)}. Use another source for {symbol}: source=yahoo, source=csv."
            raise UnknownStock(symbol, "sample", str(symbol), remedy)
        # late: arch.data imports scipy
        table = import_module(f"arch.data.{symbol.ticker.lower()}").load().reset_index()
        return shaped(table.rename(columns=lambda name: name.lower().replace(" ", "_")))
