"""Pregão: forecasts the next closes of a B3 stock, and says honestly whether it beats last close."""
