"""Tables of prices become windows: volatilities, splits by date, panels, the DataModule. No price source is used here."""
