"""Arrays in, tables out: metrics, baselines, tests of significance, reports. No model is known here."""
