"""Serve forecasts, trainings and statistics over HTTP: python serve.py port=5000."""

from omegaconf import DictConfig

from pregao.api.config import ServeConfig
from pregao.cli.command import command
from pregao.config import parse


@command("serve")
def main(cfg: DictConfig) -> None:
    """Serve until SIGTERM or ctrl-C."""
    config = parse(ServeConfig, cfg)

    # Late: LitServe takes a second that --help and a refused choice need not wait for.
    from pregao.api.server import serve

    serve(config)


if __name__ == "__main__":
    main()
