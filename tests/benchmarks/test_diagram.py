import re

import pytest
from diagram import draw, stages

from pregao.models.recurrent import RecurrentModel
from pregao.models.trained import TrainedModel


@pytest.fixture
def network(shared):
    return TrainedModel.load(shared).network


def test_what_is_drawn_is_what_a_forecast_passes_with_all_its_weights(network):
    found = stages(network, 20)
    assert [stage.name for stage in found] == ["encoder.cell", "encoder.dropout", "head"]
    assert sum(stage.weights for stage in found) == sum(parameter.numel() for parameter in network.parameters())
    assert found[0].input == "[B, 19, 2]"
    assert found[-1].output == "[B, 70]"


def test_the_same_network_gives_the_same_picture(network, tmp_path):
    for name in ("one.svg", "two.svg"):
        draw(network, 20, 10, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert re.search(r"<!-- RecurrentModel: [\d,]+ weights -->", (tmp_path / "one.svg").read_text())
    assert isinstance(network, RecurrentModel)
