"""``report.html``: a fidelity report as one page with plots, whole in itself."""

REPORT = "report.html"
