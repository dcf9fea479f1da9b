"""A trained model's folder as an MLflow model: code, files and requirements, loadable by `mlflow.pyfunc.load_model`.

MLflow's own `save_model` looks at every file of every installed package first, which takes half a second.
"""

import platform
import shutil
from importlib.metadata import version as installed
from pathlib import Path

from mlflow.entities import LoggedModel
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from omegaconf import OmegaConf

from pregao.quantiles import PRICES
from pregao.tracking.client import MODEL

CODE = Path(__file__).with_name("pyfunc.py")

NEEDED = ("mlflow", "torch", "safetensors", "pandas")
"""What a registered model needs from a package index.

Pregão itself is not among them: no index has it, and whoever took its name there could run code here.
"""

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.double)]),  # one unnamed column: lists, arrays and series
    outputs=Schema([ColSpec(DataType.long, "step"), *(ColSpec(DataType.double, name) for name in PRICES)]),
)


def save(folder: Path, target: Path, logged: LoggedModel) -> None:
    """Write the files of a logged model into an empty folder; `folder` is what `TrainedModel.save` wrote."""
    shutil.copytree(folder, target / "artifacts" / MODEL)
    shutil.copy(CODE, target)
    model = Model(
        logged.artifact_location,
        logged.source_run_id,
        signature=SIGNATURE,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
    )
    model.add_flavor(
        "python_function",
        loader_module="mlflow.pyfunc.loaders.code_model",
        model_code_path=CODE.name,
        artifacts={MODEL: {"path": f"artifacts/{MODEL}", "uri": str(folder)}},
        python_version=platform.python_version(),
        env=_write_environment(target),
    )
    model.save(str(target / "MLmodel"))


def _write_environment(target: Path) -> dict[str, str]:
    """Write the requirements, for pip, virtualenv and conda, and return the names of the last two files."""
    python, requirements = platform.python_version(), [f"{name}=={installed(name)}" for name in NEEDED]
    (target / "requirements.txt").write_text("\n".join(requirements), encoding="utf-8")
    OmegaConf.save({"python": python, "dependencies": ["-r requirements.txt"]}, target / "python_env.yaml")
    conda = {"channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", {"pip": requirements}]}
    OmegaConf.save({"name": "mlflow-env", **conda}, target / "conda.yaml")
    return {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
