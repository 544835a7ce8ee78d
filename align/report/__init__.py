"""The report of a run: verdict, terminal table, report.html and report.md. Loads no torch."""
