"""Price tables → windows: volatilities, splits by date, panels, the DataModule. Independent of the price sources."""
