"""HTTP in, HTTP out: LitServe with the routes of the contract."""
