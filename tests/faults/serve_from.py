"""serve.py, with every request to Yahoo sent to YAHOO_URL: real yfinance, another network's edge."""

import os
import runpy
import sys
from pathlib import Path
from urllib.parse import urlsplit

import yfinance._http
from curl_cffi.requests import Session

ROOT = Path(__file__).resolve().parents[2]


class Redirected(Session):
    """curl_cffi's, towards our server."""

    def request(self, method, url, **kwargs):
        return super().request(method, os.environ["YAHOO_URL"] + urlsplit(url).path, **kwargs)


if __name__ == "__main__":
    yfinance._http.new_session = Redirected
    sys.path.insert(0, str(ROOT))
    sys.argv[0] = str(ROOT / "serve.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
