"""The report of a run: one self-contained HTML file."""

from nas.report.data import ReportData as ReportData
from nas.report.page import write_report as write_report
