"""The command serve: the HTTP API."""

from omegaconf import DictConfig

from pregao.api.config import ServeConfig
from pregao.cli.command import command
from pregao.config import parse


@command("serve")
def main(cfg: DictConfig) -> None:
    """Serve forecasts, trainings and statistics over HTTP; the documentation is at /docs.

      python serve.py
      python serve.py port=8080 host=0.0.0.0               needs PREGAO_API_KEY=…; clients send it as X-API-Key
      python serve.py host=0.0.0.0 insecure=true           without a key: for a closed network
      python serve.py source=csv source.path=DIR           your own prices: DIR/STOCK.csv with date,close

    SIGTERM and ctrl-C stop the server with exit code 0, and cancel a running training.
    """
    config = parse(ServeConfig, cfg)

    # Late: LitServe takes a second to import, which --help and a refusal do not need.
    from pregao.api.server import serve

    serve(config)
