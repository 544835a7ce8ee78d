"""The page: report.html.j2, its pictures, its style, and the same facts as markdown."""
