"""Arrays in, tables out: metrics, baselines, significance tests, reports. Independent of the models."""
