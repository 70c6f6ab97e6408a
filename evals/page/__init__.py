"""A run as one self-contained HTML page: charts and tables made here, a reader of rollouts that runs in the browser.

ReportInputs -> sections (HTML) + packed samples -> document -> report.html, or what `fourstage watch` serves
"""
