"""Maintenance of a home: what is wrong in it (doctor), what is old (prune). Nothing that forecasts or trains."""
