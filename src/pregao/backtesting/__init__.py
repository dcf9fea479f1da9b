"""Walk-forward backtests: origins, resumable folder, scores, pictures. Nothing here is registered or served."""
