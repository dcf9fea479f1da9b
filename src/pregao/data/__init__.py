"""Tables of prices become windows: volatilities, splits by date, panels, the DataModule. Knows no price source."""
