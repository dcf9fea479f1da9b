"""No ticker that a client sends leads to a file or to another machine."""

import pytest

from tests.api.conftest import training
from tests.test_security import ELSEWHERE, listener

__all__ = ["listener"]


def files(home):
    return {path for path in home.rglob("*") if "mlruns" not in path.parts}


@pytest.mark.parametrize("stock", ELSEWHERE, ids=ascii)
def test_a_hostile_ticker_is_refused_and_calls_nobody(client, server, listener, stock):
    port, came = listener
    stock, before = stock.format(port=port), files(server.home)
    asked = [
        client.post("/predict", json={"stock": stock}),
        client.post("/predict", json={"stock": stock, "historical_data": [50.0] * 20}),
        client.post("/train?wait=false", json=training(stock)),
        client.get("/statistics", params={"stock": stock}),
    ]
    assert [answer.status_code for answer in asked] == [422] * 4
    assert came == []
    assert files(server.home) == before
