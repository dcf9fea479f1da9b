"""From a served model and prices to a forecast, and the log of past forecasts. Nothing here trains."""
