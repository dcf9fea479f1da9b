"""MLflow: runs, registry, run table. No other package imports mlflow; nothing here trains or forecasts."""
