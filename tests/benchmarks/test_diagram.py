from diagram import draw, stages

from pregao.models.trained import TrainedModel


def test_a_diagram_shows_all_modules_and_weights_of_a_forward_pass(shared, tmp_path):
    network = TrainedModel.load(shared).network
    found = stages(network, 20)
    assert [stage.name for stage in found] == ["encoder.cell", "encoder.dropout", "head"]
    assert sum(stage.weights for stage in found) == sum(parameter.numel() for parameter in network.parameters())
    assert (found[0].input, found[-1].output) == ("[B, 19, 2]", "[B, 70]")
    for name in ("one.svg", "two.svg"):
        draw(network, 20, 10, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
