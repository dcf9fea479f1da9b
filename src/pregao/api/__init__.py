"""The HTTP API on LitServe: routes, schemas, middleware, monitoring. Forecasts are made by the package forecasting."""
