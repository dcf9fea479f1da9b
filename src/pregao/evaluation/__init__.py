"""Judging forecasts: arrays in, tables and plots out. Knows no model."""
