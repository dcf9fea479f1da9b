"""neuralforecast's LSTM on a stock's closes, in its own virtual environment; started by speed.py.

python peer_lstm.py FOLDER STEPS UNTIL: reads closes.csv and cutoffs.npy, trains on closes before UNTIL, writes
forecasts.npy (the next closes of each cutoff) and prints the seconds in fit.
"""

import logging
import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

from neuralforecast import NeuralForecast  # noqa: E402
from neuralforecast.losses.pytorch import MAE  # noqa: E402
from neuralforecast.models import LSTM  # noqa: E402

HORIZON, LOOKBACK = 10, 20


def main(folder: Path, steps: int, until: str) -> None:
    """Fit, and forecast from every cutoff."""
    torch.set_num_threads(1)
    table = pd.read_csv(folder / "closes.csv", parse_dates=["date"])
    # Sessions are numbered: pandas frequencies do not contain an exchange's holidays.
    series = pd.DataFrame({"unique_id": "stock", "ds": np.arange(len(table)), "y": table["close"]})
    quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    model = LSTM(
        h=HORIZON,
        input_size=LOOKBACK,
        encoder_n_layers=1,
        encoder_hidden_size=40,
        encoder_dropout=0.0,
        decoder_layers=1,
        decoder_hidden_size=40,
        recurrent=False,
        loss=MAE(),
        max_steps=steps,
        learning_rate=5e-4,
        batch_size=1,
        windows_batch_size=32,
        inference_windows_batch_size=1024,
        scaler_type="standard",
        random_seed=1,
        val_check_steps=steps + 1,
        **quiet,
    )
    forecaster = NeuralForecast(models=[model], freq=1)
    known = series[(table["date"] < pd.Timestamp(until)).to_numpy()]
    started = perf_counter()
    forecaster.fit(known)
    seconds = perf_counter() - started
    cutoffs = np.searchsorted(table["date"].to_numpy("datetime64[ns]"), np.load(folder / "cutoffs.npy"))
    windows = [series.iloc[end - LOOKBACK + 1 : end + 1].assign(unique_id=str(n)) for n, end in enumerate(cutoffs)]
    found = forecaster.predict(df=pd.concat(windows))
    by_window = found.assign(number=found["unique_id"].astype(int)).sort_values(["number", "ds"])
    np.save(folder / "forecasts.npy", by_window["LSTM"].to_numpy().reshape(len(cutoffs), HORIZON))
    print(seconds)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
