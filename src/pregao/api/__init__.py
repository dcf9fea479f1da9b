"""The HTTP API on LitServe: routes, schemas, middleware, monitoring. It forecasts with the package forecasting."""
