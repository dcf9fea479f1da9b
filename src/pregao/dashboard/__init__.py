"""The Streamlit dashboard: one file per page, charts, sentences in two languages. No statistics are computed here."""
